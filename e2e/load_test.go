package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	mathrand "math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/bench"
)

// TestLoad has 64 clients at once issue certificates, in both modes.
func TestLoad(t *testing.T) {
	flags, port := validating(t)
	s := startServer(t, flags...)
	s.profile(t, "prof-test", "challenge", ".example.com")
	for _, cfg := range []bench.Config{
		{Directory: s.directory("default"), Orders: 2000},
		{Directory: s.directory("prof-test"), Orders: 500, Mode: bench.HTTP01, Domain: "example.com", Listen: "127.0.0.1:" + strconv.Itoa(port)},
	} {
		cfg.Roots, cfg.Clients, cfg.PID = s.roots(t), 64, s.cmd.Process.Pid
		report, err := bench.Run(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("\n%s", &report)
		if report.Issued != cfg.Orders || report.Failed() != 0 || report.BadNonces != 0 {
			t.Errorf("not every order was issued at the first try:\n%s", &report)
		}
	}
	s.checkDatabase(t)
}

// burst is a load that ends with its server, and what the clients were told.
type burst struct {
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	orders []*bench.Order
	at     int           // how many orders end before reached is closed
	hit    chan struct{} // closed when at orders have ended
}

// startBurst begins a load. Its orders have ended when wait returned.
func (s *server) startBurst(t *testing.T, clients, orders, at int) *burst {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	b := &burst{cancel: cancel, ended: make(chan struct{}), at: at, hit: make(chan struct{})}
	cfg := bench.Config{Directory: s.directory("default"), Roots: s.roots(t), Clients: clients, Orders: orders, Done: b.done}
	go func() {
		defer close(b.ended)
		if _, err := bench.Run(ctx, cfg); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("load: %v", err)
		}
	}()
	return b
}

func (b *burst) done(o *bench.Order) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.orders = append(b.orders, o)
	if len(b.orders) == b.at {
		close(b.hit)
	}
}

// reached waits until so many orders have ended that the server should.
func (b *burst) reached(t *testing.T) {
	t.Helper()
	select {
	case <-b.hit:
	case <-b.ended:
		t.Fatal("the load ended too early")
	case <-time.After(time.Minute):
		t.Fatal("the load hangs")
	}
}

// wait ends the load and returns its orders.
func (b *burst) wait() []*bench.Order {
	b.cancel()
	<-b.ended
	return b.orders
}

// told counts how far orders came.
type told struct{ ordered, valid, downloaded, unknown int }

func count(orders []*bench.Order) told {
	var n told
	for _, o := range orders {
		switch {
		case o.URL == "":
			continue
		case o.Chain != nil:
			n.downloaded++
			fallthrough
		case o.Certificate != "":
			n.valid++
		case o.Finalized:
			n.unknown++ // finalize was sent and not answered
		}
		n.ordered++
	}
	return n
}

// checkOrders holds that the server keeps what it has told: each order that it
// acknowledged is there, with the certificate that it had and no other, and the
// orders that were under way can be brought to their end.
func (s *server) checkOrders(t *testing.T, orders []*bench.Order) {
	t.Helper()
	const clients = 8
	var checking sync.WaitGroup
	for i := range clients {
		checking.Go(func() {
			c, err := bench.NewClient(t.Context(), s.directory("default"), s.roots(t))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for n := i; n < len(orders) && !t.Failed(); n += clients {
				if o := orders[n]; o.URL != "" {
					if err := checkOrder(t.Context(), c, o); err != nil {
						t.Errorf("order %s (%s): %v", o.URL, o.Names[0], err)
					}
				}
			}
		})
	}
	checking.Wait()
}

// takeOver is how long an order that a crashed server had claimed may take until
// it is issued.
const takeOver = 20 * time.Second

func checkOrder(ctx context.Context, c *bench.Client, o *bench.Order) error {
	var now struct{ Status, Certificate string }
	ask := func(url string, payload []byte) error {
		response, err := c.Post(ctx, o.Account, url, payload)
		if err != nil {
			return err
		}
		now.Status, now.Certificate = "", ""
		return json.Unmarshal(response.Body, &now)
	}
	if err := ask(o.URL, nil); err != nil {
		return err
	}
	if o.Certificate != "" && now.Status != "valid" {
		return errors.New("was valid and is " + now.Status)
	}
	for end := time.Now().Add(takeOver); now.Status == "processing" && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err := ask(o.URL, nil); err != nil {
			return err
		}
	}
	if now.Status == "ready" {
		if err := ask(o.FinalizeURL, bench.FinalizePayload(o.CSR)); err != nil {
			return err
		}
	}
	if now.Status != "valid" {
		return errors.New("is " + now.Status)
	}
	if o.Certificate != "" && now.Certificate != o.Certificate {
		return errors.New("had the certificate " + o.Certificate + " and has " + now.Certificate)
	}
	response, err := c.Post(ctx, o.Account, now.Certificate, nil)
	if err != nil {
		return err
	}
	if o.Chain != nil && string(response.Body) != string(o.Chain) {
		return errors.New("has other bytes than were downloaded")
	}
	return nil
}

// sqlite asks a database that no one needs to write to.
func sqlite(t *testing.T, database, query string) string {
	t.Helper()
	return strings.TrimSpace(run(t, filepath.Dir(database), nil, "sqlite3", "-readonly", database, query).must(t).stdout)
}

// checkDatabase holds what must be true of the database whatever happened.
func (s *server) checkDatabase(t *testing.T) {
	t.Helper()
	database := filepath.Join(s.dir, "data", "certctl.db")
	for _, c := range []struct{ what, query, want string }{
		{"integrity", `PRAGMA integrity_check`, "ok"},
		{"orders with two certificates", `SELECT count(*) FROM (SELECT 1 FROM certificates WHERE order_id IS NOT NULL
			GROUP BY order_id HAVING count(*) > 1)`, "0"},
		{"orders issued without their certificate", `SELECT count(*) FROM orders o
			LEFT JOIN certificates c ON c.serial = o.serial AND c.order_id = o.id WHERE o.issued_at IS NOT NULL AND c.serial IS NULL`, "0"},
		{"certificates of orders that are not issued", `SELECT count(*) FROM certificates c
			LEFT JOIN orders o ON o.id = c.order_id AND o.serial = c.serial AND o.issued_at IS NOT NULL WHERE c.order_id IS NOT NULL AND o.id IS NULL`, "0"},
		{"certificates without exactly one event", `SELECT count(*) FROM certificates c WHERE
			(SELECT count(*) FROM audit_events e WHERE e.resource_id = c.serial AND e.action = 'certificate_issued') <> 1`, "0"},
		{"events without their certificate", `SELECT count(*) FROM audit_events e WHERE e.action = 'certificate_issued' AND
			NOT EXISTS (SELECT 1 FROM certificates c WHERE c.serial = e.resource_id)`, "0"},
		{"orders without exactly one event", `SELECT count(*) FROM orders o WHERE
			(SELECT count(*) FROM audit_events e WHERE e.resource_id = o.id AND e.action = 'acme_order_created') <> 1`, "0"},
		{"orders claimed and never issued", unfinished, "0"},
	} {
		if got := sqlite(t, database, c.query); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

const unfinished = `SELECT count(*) FROM orders WHERE claimed_at IS NOT NULL AND issued_at IS NULL AND failed_at IS NULL`

// TestKill kills the server in the middle of a load, again and again on the same
// folder: what it has told its clients stays true.
func TestKill(t *testing.T) {
	s := startServer(t)
	seed := mathrand.Uint64()
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	for round := range 3 {
		at := 50 + random.IntN(1500)
		pause := time.Duration(random.IntN(10_000)) * time.Microsecond
		b := s.startBurst(t, 64, 4000, at)
		b.reached(t)
		time.Sleep(pause)
		s.kill(t)
		orders := b.wait()
		left := sqlite(t, s.copyDatabase(t), unfinished)
		t.Logf("seed %d, round %d: killed %v after order %d: %+v, claimed and not issued: %s", seed, round, pause, at, count(orders), left)

		s.start(t)
		s.checkOrders(t, orders)
		s.checkDatabase(t)
		if t.Failed() {
			return
		}
	}
}

// TestKillFirstStart kills servers in the middle of their first start. The next
// start finishes what was begun.
func TestKillFirstStart(t *testing.T) {
	t.Parallel()
	for i := range 10 {
		pause := time.Duration(8+3*i) * time.Millisecond
		s := newServer(t)
		s.launch(t)
		time.Sleep(pause)
		s.kill(t)
		t.Logf("killed after %v: %q", pause, s.out)
		s.start(t)
		newLego(t, s, "default", freePort(t)).run(t, []string{"hello.test"}, "run").must(t)
		s.kill(t)
	}
}

// copyDatabase copies the database of a server that does not run, so that looking
// at it is not what recovers it.
func (s *server) copyDatabase(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files, err := filepath.Glob(filepath.Join(s.dir, "data", "certctl.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no database in %s: %v", s.dir, err)
	}
	for _, file := range files {
		writeFile(t, readFile(t, file), dir, filepath.Base(file))
	}
	database := filepath.Join(dir, "certctl.db")
	run(t, dir, nil, "sqlite3", database, "PRAGMA journal_mode = DELETE").must(t) // takes up the log
	return database
}

// TestRestart stops the server as Ctrl-C does, under load, and starts it again:
// the same CA, accounts and nonces.
func TestRestart(t *testing.T) {
	s := startServer(t)
	root := readFile(t, s.rootsFile())
	c, err := bench.NewClient(t.Context(), s.directory("default"), s.roots(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	account, err := c.Register(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	spent := c.Nonce()
	c.UseNonce(spent)
	if _, err := c.Post(t.Context(), account, account.URL, nil); err != nil {
		t.Fatal(err)
	}
	fresh := c.Nonce()

	b := s.startBurst(t, 4, 2000, 200)
	b.reached(t)
	s.interrupt(t)
	orders := b.wait()
	t.Logf("stopped: %+v", count(orders))
	if left := sqlite(t, s.copyDatabase(t), unfinished); left != "0" {
		t.Errorf("an orderly stop left %s orders claimed and not issued", left)
	}
	s.start(t)

	if readFile(t, s.rootsFile()) != root {
		t.Error("the root is another")
	}
	c.Close()
	again, err := c.Register(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if again.URL != account.URL {
		t.Errorf("the account was %s and is %s", account.URL, again.URL)
	}
	for _, nonce := range []struct {
		what, value string
		bad         int
	}{{"not yet used", fresh, 0}, {"used before the stop", spent, 1}} {
		before := c.BadNonces
		c.UseNonce(nonce.value)
		if _, err := c.Post(t.Context(), account, account.URL, nil); err != nil {
			t.Fatal(err)
		}
		if c.BadNonces-before != nonce.bad {
			t.Errorf("a nonce %s was refused %d times, want %d", nonce.what, c.BadNonces-before, nonce.bad)
		}
	}
	s.checkOrders(t, orders)
	s.checkDatabase(t)
}
