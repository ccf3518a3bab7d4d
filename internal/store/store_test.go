package store_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// TestMain keeps the model test modest unless the command line asks for more.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || strings.HasPrefix(f.Name, "rapid.") })
	if !asked {
		flag.Set("rapid.checks", "20")
		flag.Set("rapid.steps", "50")
	}
	os.Exit(m.Run())
}

var (
	ctx = context.Background()
	// begin is the wall clock of every test: it stands still, and Advance moves the
	// store's.
	begin     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	secretKey = bytes.Repeat([]byte{7}, 32)
)

// onEach runs a test on a fresh store over each database that the store speaks.
func onEach(t *testing.T, test func(t *testing.T, s *store.Store), options ...func(*store.Config)) {
	t.Helper()
	t.Parallel()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, open(t, t.TempDir(), options...))
	})
}

func open(t testing.TB, dir string, options ...func(*store.Config)) *store.Store {
	t.Helper()
	s, err := store.Open(ctx, config(dir, options...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func config(dir string, options ...func(*store.Config)) store.Config {
	cfg := store.Config{
		Dir:       dir,
		SecretKey: secretKey,
		NonceTTL:  5 * time.Minute,
		Now:       func() time.Time { return begin },
		Limits:    store.Limits{Responds: policy.Limit{Burst: 100, Period: time.Hour}},
	}
	for _, option := range options {
		option(&cfg)
	}
	return cfg
}

func withLimits(l store.Limits) func(*store.Config) {
	return func(c *store.Config) { c.Limits = l }
}

// reopen stops a store in order and starts it again at the same time.
func reopen(t testing.TB, s *store.Store) *store.Store {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	settings, now := s.Settings(), s.Now()
	settings.Now = func() time.Time { return now }
	again, err := store.Open(ctx, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.Close() })
	again.Advance(s.Now().Sub(again.Now()))
	return again
}

// world makes rows that tests start from. It fails the test when it cannot.
type world struct {
	*store.Store
	t interface {
		Helper()
		Fatalf(string, ...any)
	}
}

// worldOf makes the profiles that the orders of a test are placed under.
func worldOf(t testing.TB, s *store.Store) *world {
	t.Helper()
	w := &world{s, t}
	w.profile("trust", policy.TrustAuthenticated)
	w.profile("challenge", policy.Challenge)
	return w
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

func profile(id string, mode policy.AuthMode) policy.Profile {
	return policy.Profile{ID: id, Name: id, IssuerID: "iss", AuthMode: mode, MaxTTLSeconds: 3600, AllowedDomains: []string{".test"}}
}

func (w *world) profile(id string, mode policy.AuthMode) *policy.Rules {
	w.t.Helper()
	rules, err := w.CreateProfile(ctx, "api:test", profile(id, mode))
	w.ok(err)
	return rules
}

var counter atomic.Uint64

// newKey returns an account key that no other call returned.
func newKey() *acme.Key {
	seed := make([]byte, ed25519.SeedSize)
	binary.BigEndian.PutUint64(seed, counter.Add(1))
	key, err := acme.NewKey(ed25519.NewKeyFromSeed(seed).Public())
	if err != nil {
		panic(err)
	}
	return key
}

func newSerial() string { return fmt.Sprintf("%032x", counter.Add(1)) }

func (w *world) account() *acme.Account {
	w.t.Helper()
	a, _, err := w.CreateAccount(ctx, store.NewAccount{Key: newKey()})
	w.ok(err)
	return a
}

func dns(name string) acme.Identifier { return acme.Identifier{Type: acme.DNS, Value: name} }

func newTrusted(account string) store.NewOrder {
	return store.NewOrder{AccountID: account, ProfileID: "trust", ProfileRevision: 1, Identifiers: []acme.Identifier{dns("a.test")},
		OrderTTL: time.Hour, Trusted: true}
}

func newChallenged(account string, names ...string) store.NewOrder {
	n := store.NewOrder{AccountID: account, ProfileID: "challenge", ProfileRevision: 1, OrderTTL: time.Hour, AuthzTTL: time.Hour}
	for _, name := range names {
		n.Identifiers = append(n.Identifiers, dns(name))
		n.Authorizations = append(n.Authorizations, store.NewAuthorization{Identifier: dns(name).Base(), Wildcard: dns(name).Wildcard(),
			Token: "token-" + name, Offered: []acme.ChallengeType{acme.HTTP01}})
	}
	return n
}

func (w *world) place(n store.NewOrder) (*acme.Order, []acme.Authorization) {
	w.t.Helper()
	o, authzs, err := w.CreateOrder(ctx, n)
	w.ok(err)
	return o, authzs
}

func (w *world) trusted() *acme.Order {
	w.t.Helper()
	o, _ := w.place(newTrusted(w.account().ID))
	return o
}

// challenged places an order for one name that has to be validated.
func (w *world) challenged() (*acme.Order, *acme.Authorization) {
	w.t.Helper()
	o, authzs := w.place(newChallenged(w.account().ID, "a.test"))
	return o, &authzs[0]
}

// respond begins the first attempt to validate, leased for a minute.
func (w *world) respond(a *acme.Authorization) *store.Validation {
	w.t.Helper()
	v, err := w.RespondChallenge(ctx, a, acme.HTTP01, time.Minute)
	w.ok(err)
	return v
}

func (w *world) validate(a *acme.Authorization) {
	w.t.Helper()
	w.ok(w.FinishValidation(ctx, w.respond(a), nil, time.Hour, "trace"))
}

func (w *world) fail(a *acme.Authorization) {
	w.t.Helper()
	w.ok(w.FinishValidation(ctx, w.respond(a), acme.Unauthorized("wrong"), time.Hour, "trace"))
}

func newClaim(o *acme.Order) *store.Claim {
	csr := []byte("csr of " + o.ID)
	hash := sha256.Sum256(csr)
	return &store.Claim{OrderID: o.ID, AccountID: o.AccountID, ProfileID: o.ProfileID, ProfileRevision: 1, Identifiers: o.Names(),
		IssuerID: "iss", CSR: csr, CSRHash: hash[:], Serial: newSerial(), NotBefore: begin, NotAfter: begin.Add(time.Hour)}
}

func (w *world) claim(o *acme.Order) *store.Claim {
	w.t.Helper()
	c := newClaim(o)
	w.ok(w.ClaimOrder(ctx, c, time.Minute))
	return c
}

// certificate issues one and returns its serial.
func (w *world) certificate() string {
	w.t.Helper()
	c := w.claim(w.trusted())
	w.ok(w.FinishOrder(ctx, c, []byte("der "+c.Serial)))
	return c.Serial
}

func (w *world) eabKey(reusable bool) string {
	w.t.Helper()
	kid := "kid-" + newSerial()
	w.ok(w.CreateEABKey(ctx, "api:test", store.EABKey{KeyID: kid, ProfileIDs: []string{"trust"}, Reusable: reusable}, []byte("hmac")))
	return kid
}

func (w *world) orderStatus(id string) acme.Status {
	w.t.Helper()
	o, authzs, err := w.Order(ctx, id)
	w.ok(err)
	return o.Status(authzs, w.Now())
}

func (w *world) events(action audit.Action) int {
	w.t.Helper()
	events, err := w.AuditEvents(ctx, store.AuditQuery{Action: string(action), Limit: 1_000_000})
	w.ok(err)
	return len(events)
}

// together runs fn n times at once and returns the errors.
func together(n int, fn func(i int) error) []error {
	errs := make([]error, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			errs[i] = fn(i)
		})
	}
	close(start)
	wg.Wait()
	return errs
}

func TestOpenMakesAFolderForItsOwnerOnly(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		dir := filepath.Join(t.TempDir(), "new", "data")
		open(t, dir)
		for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "certctl.db"): 0o600, filepath.Join(dir, "lock"): 0o600} {
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != want {
				t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), want)
			}
		}
	})
}

func TestOpenIsDurable(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2"} {
			if got := s.WriterPragma(t, pragma); got != want {
				t.Errorf("%s of the writer is %s, want %s", pragma, got, want)
			}
		}
	})
}

func TestASecondServerIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		_, err := store.Open(ctx, s.Settings())
		if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), s.Dir()) {
			t.Fatalf("got %v, want ErrLocked with the folder", err)
		}
		reopen(t, s) // the lock ends with the store
	})
}

func TestAnUnusableFolderIsToldInOneLine(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		garbage := t.TempDir()
		if err := os.WriteFile(filepath.Join(garbage, "certctl.db"), bytes.Repeat([]byte("no database "), 1000), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, test := range map[string]struct{ dir, want string }{
			"below a file":   {filepath.Join(file, "data"), "not a directory"},
			"a file":         {file, "not a directory"},
			"not a database": {garbage, "file is not a database"},
		} {
			_, err := store.Open(ctx, config(test.dir))
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), strings.TrimSuffix(test.dir, "/data")) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got %v, want one line with %q and the folder", name, err, test.want)
			}
		}
	})
}

func TestANewerSchemaIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		setVersion(t, s.Dir(), 99)
		before := folder(t, s.Dir())
		_, err := store.Open(ctx, s.Settings())
		if err == nil || !strings.Contains(err.Error(), "newer certctl (schema 99") || !strings.Contains(err.Error(), s.Dir()) {
			t.Fatalf("got %v", err)
		}
		if !bytes.Equal(before, folder(t, s.Dir())) {
			t.Fatal("the refused database was changed")
		}
	})
}

func TestNowNeverRunsBackwards(t *testing.T) {
	var wall atomic.Int64
	set := func(d time.Duration) { wall.Store(begin.Add(d).UnixNano()) }
	set(0)
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		first := w.trusted()
		for _, step := range []struct{ wall, want time.Duration }{
			{time.Hour, time.Hour}, {time.Minute, time.Hour}, {-time.Hour, time.Hour}, {time.Hour + 1500*time.Microsecond, time.Hour + time.Millisecond},
		} {
			set(step.wall)
			if got := s.Now(); !got.Equal(begin.Add(step.want)) {
				t.Errorf("with the wall clock at %v it is %v, want %v", step.wall, got.Sub(begin), step.want)
			}
		}
		set(-time.Hour)
		second := w.trusted()
		if second.CreatedAt.Before(first.CreatedAt.Add(time.Hour)) {
			t.Errorf("the second order was made at %v, the first at %v", second.CreatedAt, first.CreatedAt)
		}
		if second.ID < first.ID {
			t.Errorf("ids run backwards: %s after %s", second.ID, first.ID)
		}
		var last time.Time
		var mu sync.Mutex
		together(8, func(int) error {
			for range 1000 {
				wall.Add(int64(time.Millisecond) * int64(counter.Add(1)%5-2))
				mu.Lock()
				now := s.Now()
				if now.Before(last) {
					t.Errorf("%v after %v", now, last)
				}
				last = now
				mu.Unlock()
			}
			return nil
		})
	}, func(c *store.Config) { c.Now = func() time.Time { return time.Unix(0, wall.Load()) } })
}

func TestNothingWorksAfterClose(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		o := w.trusted()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.CreateOrder(ctx, newTrusted(o.AccountID)); !errors.Is(err, store.ErrClosed) {
			t.Errorf("a change: %v, want ErrClosed", err)
		}
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, _, err := s.Order(short, o.ID); !errors.Is(err, store.ErrClosed) {
			t.Errorf("a read: %v, want ErrClosed", err)
		}
		if err := s.SpendNonce(s.NewNonce()); !errors.Is(err, store.ErrNonce) {
			t.Errorf("a nonce: %v, want ErrNonce", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
	})
}

// A stop waits for reads that are under way and leaves no connection open.
func TestCloseWaitsForAReader(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		worldOf(t, s).trusted()
		release := s.HoldReader()
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		select {
		case err := <-closed:
			t.Errorf("Close returned %v while a read was under way", err)
		case <-time.After(50 * time.Millisecond):
		}
		release()
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// Reads that come with a stop end with what they asked for or with ErrClosed.
func TestCloseAnswersReads(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		for range 20 {
			w.trusted()
		}
		errs := make(chan error, 4)
		for range cap(errs) {
			go func() {
				for {
					if _, _, err := s.Orders(ctx, store.OrderQuery{Limit: 100}); err != nil {
						errs <- err
						return
					}
				}
			}()
		}
		time.Sleep(10 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		for range cap(errs) {
			select {
			case err := <-errs:
				if !errors.Is(err, store.ErrClosed) {
					t.Errorf("a read ended with %v", err)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("a read hangs after Close")
			}
		}
	})
}

// What an orderly stop leaves can be copied as one file.
func TestCloseLeavesOneFile(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		worldOf(t, s).trusted()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(s.Dir(), "certctl.db*"))
		if err != nil || len(files) != 1 {
			t.Fatalf("got %v, %v", files, err)
		}
	})
}

func folder(t *testing.T, dir string) []byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(append(all, e.Name()...), b...)
	}
	return all
}

// setVersion makes a database one of another schema version.
func setVersion(t *testing.T, dir string, version int) {
	t.Helper()
	c, err := sqlite.OpenConn(filepath.Join(dir, "certctl.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sqlitex.ExecuteTransient(c, fmt.Sprintf("PRAGMA user_version = %d", version), nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// While the wall clock is behind, the clock goes on at half speed, and follows it
// again once it is caught up.
func TestClockIsCaughtUp(t *testing.T) {
	const h = time.Hour
	got := store.TellClock([][2]time.Duration{{10 * h, 0}, {9 * h, 0}, {9*h + h/2, h / 2}, {10 * h, h}, {11 * h, 2 * h}, {12 * h, 3 * h}})
	want := []time.Duration{10 * h, 10 * h, 10*h + h/4, 10*h + h/2, 11 * h, 12 * h}
	if !slices.Equal(got, want) {
		t.Errorf("the clock told %v, want %v", got, want)
	}
}

// Over a restart with a wall clock that was set back a little, the clock goes on
// behind the last event; when it is far behind, nothing is signed before somebody
// has looked.
func TestNowGoesOnAfterARestart(t *testing.T) {
	for _, test := range []struct {
		ahead   time.Duration
		accept  bool
		refused bool
	}{{time.Minute, false, false}, {5 * 365 * 24 * time.Hour, false, true}, {5 * 365 * 24 * time.Hour, true, false}} {
		t.Run(fmt.Sprint(test.ahead, test.accept), func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) {
				s.Advance(test.ahead)
				w := worldOf(t, s)
				w.account()
				last := s.Now()
				w.ok(s.Close())
				settings := s.Settings() // whose wall clock stands at begin
				settings.AcceptClock = test.accept
				again, err := store.Open(ctx, settings)
				if test.refused {
					if !errors.Is(err, store.ErrClock) {
						t.Errorf("%v ahead: %v", test.ahead, err)
					}
					return
				}
				w.ok(err)
				t.Cleanup(func() { again.Close() })
				if back := again.Now().Before(last); back != test.accept {
					t.Errorf("%v ahead: the clock goes from %v to %v", test.ahead, last, again.Now())
				}
			})
		})
	}
}
