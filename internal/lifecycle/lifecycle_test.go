package lifecycle

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
	"github.com/certctl/certctl/internal/validate"
)

// work is a lifecycle over a real store and CA, with a clock and a probe that the
// test controls. Nothing runs by itself until Run is called.
type work struct {
	testing.TB
	cfg    store.Config
	ahead  atomic.Int64 // of the clock, in nanoseconds
	store  *store.Store
	issuer *issuer.Local
	life   *Lifecycle
	probe  func(context.Context, validate.Target) validate.Outcome
	probes atomic.Int64 // how many were made
}

func newWork(t testing.TB, slots int) *work {
	w := &work{TB: t}
	w.probe = func(context.Context, validate.Target) validate.Outcome { return validate.Outcome{} }
	w.cfg = store.Config{Dir: t.TempDir(), SecretKey: make([]byte, 32), NonceTTL: time.Minute,
		Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }}
	var err error
	w.store, err = store.Open(w.Context(), w.cfg)
	w.ok(err)
	t.Cleanup(func() { w.store.Close() })
	ca, err := pki.CreateCA(pki.CASpec{Name: "Test", Now: w.store.Now()}, rand.Reader)
	w.ok(err)
	w.issuer, err = issuer.NewLocal(issuer.LocalConfig{ID: "iss", Root: ca.Root, Issuing: ca.Issuing, Key: ca.IssuingKey})
	w.ok(err)
	w.life = w.lifecycle(slots)
	for _, p := range []policy.Profile{{ID: "trust", AuthMode: policy.TrustAuthenticated}, {ID: "challenge", AuthMode: policy.Challenge}} {
		p.IssuerID, p.MaxTTLSeconds, p.AllowedDomains = "iss", 86400, []string{".test"}
		w.ok(p.Normalize())
		w.ok(p.Validate(policy.Constraints{}))
		_, err := w.store.CreateProfile(w.Context(), "test", p)
		w.ok(err)
	}
	return w
}

func (w *work) lifecycle(slots int) *Lifecycle {
	life, err := New(Config{
		Store: w.store, Issuers: map[string]*issuer.Local{"iss": w.issuer}, AuthzTTL: 24 * time.Hour, SweepInterval: time.Hour,
		Slots: map[acme.ChallengeType]int{acme.HTTP01: slots},
		Probe: func(ctx context.Context, _ acme.ChallengeType, target validate.Target) validate.Outcome {
			w.probes.Add(1)
			return w.probe(ctx, target)
		},
		CAA: CAA{
			Check:       func(context.Context, validate.CAAQuery) validate.Outcome { return validate.Outcome{} },
			AccountURLs: func(string) []string { return nil },
		},
		Log: slog.New(slog.DiscardHandler),
	})
	w.ok(err)
	return life
}

func (w *work) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *work) advance(d time.Duration) { w.ahead.Add(int64(d)) }

func (w *work) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.ok(err)
	return key
}

func (w *work) account() string {
	key, err := acme.NewKey(w.newKey().Public())
	w.ok(err)
	account, _, err := w.store.CreateAccount(w.Context(), store.NewAccount{Key: key})
	w.ok(err)
	return account.ID
}

// claim makes a trusted order and claims it.
func (w *work) claim() (*store.Claim, *policy.Profile, *pki.CSR) {
	w.Helper()
	rules, err := w.store.Profile(w.Context(), "trust")
	w.ok(err)
	p := rules.Profile()
	order, _, err := w.store.CreateOrder(w.Context(), store.NewOrder{AccountID: w.account(), ProfileID: "trust", ProfileRevision: p.Revision,
		OrderTTL: time.Hour, Trusted: true, Identifiers: []acme.Identifier{{Type: acme.DNS, Value: "a.test"}}})
	w.ok(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.test"}}, w.newKey())
	w.ok(err)
	csr, err := pki.ParseCSR(der)
	w.ok(err)
	hash := sha256.Sum256(der)
	now := w.store.Now().Truncate(time.Second)
	c := &store.Claim{OrderID: order.ID, AccountID: order.AccountID, ProfileID: "trust", ProfileRevision: p.Revision, Identifiers: order.Names(),
		IssuerID: "iss", CSR: der, CSRHash: hash[:], NotBefore: now, NotAfter: now.Add(time.Hour)}
	c.Serial, err = pki.NewSerial(rand.Reader)
	w.ok(err)
	w.ok(w.store.ClaimOrder(w.Context(), c, ClaimLease))
	return c, p, csr
}

// respond makes n authorizations of an account and says that each is ready.
func (w *work) respond(account string, n int) []string {
	w.Helper()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = w.respondNamed(account, fmt.Sprintf("n%d.test", i))
	}
	return ids
}

// respondNamed makes an authorization for a name and says that it is ready.
func (w *work) respondNamed(account, name string) string {
	w.Helper()
	rules, err := w.store.Profile(w.Context(), "challenge")
	w.ok(err)
	id := acme.Identifier{Type: acme.DNS, Value: name}
	_, authzs, err := w.store.CreateOrder(w.Context(), store.NewOrder{AccountID: account, ProfileID: "challenge",
		ProfileRevision: rules.Profile().Revision, OrderTTL: 24 * time.Hour, AuthzTTL: 24 * time.Hour, Identifiers: []acme.Identifier{id},
		Authorizations: []store.NewAuthorization{{Identifier: id, Token: "token", Offered: []acme.ChallengeType{acme.HTTP01}}}})
	w.ok(err)
	v, err := w.store.RespondChallenge(w.Context(), &authzs[0], acme.HTTP01, ValidationLease)
	w.ok(err)
	w.life.Validate(v)
	return authzs[0].ID
}

func (w *work) status(authz string) acme.Status {
	w.Helper()
	a, err := w.store.Authorization(w.Context(), authz)
	w.ok(err)
	return a.Status(w.store.Now())
}

func (w *work) certificates() []*store.Certificate {
	w.Helper()
	all, err := w.store.Certificates(w.Context(), store.CertificateQuery{Limit: 1000})
	w.ok(err)
	return all
}

// run runs the lifecycle until the test ends.
func (w *work) run() {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.life.Run(ctx) }()
	w.Cleanup(func() {
		stop()
		w.ok(<-done)
	})
}

func (w *work) eventually(what string, is func() bool) {
	w.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	w.Errorf("waited in vain: %s", what)
}

// A signer that crashed after it signed, or only paused, and the one that took
// over make the same certificate, and it is stored once.
func TestTakeoverMakesTheSameBytes(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	c, p, csr := w.claim()
	signed, err := w.life.sign(w.Context(), c, p, csr)
	w.ok(err)

	w.ok(w.life.takeClaims(w.Context()))
	if n := len(w.certificates()); n != 0 {
		t.Fatalf("%d certificates while the claim's lease holds", n)
	}
	w.advance(ClaimLease + time.Second)
	w.ok(w.life.takeClaims(w.Context()))
	if err := w.life.Issue(w.Context(), c, p, csr); !errors.Is(err, store.ErrConflict) {
		t.Errorf("who lost the lease stores its certificate: %v", err)
	}
	certs := w.certificates()
	if len(certs) != 1 || !bytes.Equal(certs[0].DER, signed) {
		t.Fatalf("%d certificates, or not the bytes that were signed first", len(certs))
	}
	order, _, err := w.store.Order(w.Context(), c.OrderID)
	w.ok(err)
	if status := order.Status(nil, w.store.Now()); status != acme.StatusValid {
		t.Errorf("the order is %s", status)
	}
}

// After a restart nobody waits for the leases of the process that is gone, and a
// changed profile does not change what was claimed.
func TestRestartTakesUpClaims(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	c, p, csr := w.claim()
	signed, err := w.life.sign(w.Context(), c, p, csr)
	w.ok(err)
	changed, err := w.store.StoredProfile(w.Context(), "trust")
	w.ok(err)
	changed.ExtKeyUsages, changed.DeniedDomains = []string{"client_auth"}, []string{"a.test"}
	_, err = w.store.UpdateProfile(w.Context(), "test", changed)
	w.ok(err)

	w.ok(w.store.Close())
	w.store, err = store.Open(w.Context(), w.cfg)
	w.ok(err)
	w.life = w.lifecycle(1)
	w.run()
	w.eventually("the claim is taken up", func() bool { return len(w.certificates()) == 1 })
	if !bytes.Equal(w.certificates()[0].DER, signed) {
		t.Error("not the bytes that were signed before the restart")
	}
}

// The result of a validator whose lease went to another is dropped.
func TestLostFenceDropsTheResult(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	id := w.respond(w.account(), 1)[0]
	queue := w.life.validations[acme.HTTP01]
	late, _ := queue.take()
	w.advance(ValidationLease + time.Second)
	taken, err := w.store.TakeValidations(w.Context(), acme.HTTP01, ValidationLease, 10, nil) // by another
	w.ok(err)
	if len(taken) != 1 || taken[0].Fence <= late.Fence {
		t.Fatalf("taken over: %+v", taken)
	}
	w.probe = func(context.Context, validate.Target) validate.Outcome {
		return validate.Outcome{Problem: acme.Connection("too late")}
	}
	if err := w.life.attempt(w.Context(), late); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the late result: %v", err)
	}
	if status := w.status(id); status != acme.StatusPending {
		t.Errorf("after the late result the authorization is %s", status)
	}
	w.probe = func(context.Context, validate.Target) validate.Outcome { return validate.Outcome{} }
	w.ok(w.life.attempt(w.Context(), &taken[0]))
	if status := w.status(id); status != acme.StatusValid {
		t.Errorf("the authorization is %s", status)
	}
}

// A refused connection is tried again, at growing intervals, and not for ever.
func TestRefusedConnectionIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	w.probe = func(context.Context, validate.Target) validate.Outcome {
		return validate.Outcome{Problem: acme.Connection("refused"), Retry: true}
	}
	id := w.respond(w.account(), 1)[0]
	queue := w.life.validations[acme.HTTP01]
	var waited time.Duration
	for attempt := 1; attempt <= maxAttempts; attempt++ {
		if status := w.status(id); status != acme.StatusPending {
			t.Fatalf("before attempt %d the authorization is %s", attempt, status)
		}
		v, _ := queue.take()
		if v.Attempt != attempt {
			t.Errorf("attempt %d is counted as %d", attempt, v.Attempt)
		}
		w.ok(w.life.attempt(w.Context(), v))
		queue.done(v)
		w.ok(w.life.takeValidations(w.Context()))
		if n := queue.len(); n != 0 {
			t.Errorf("after attempt %d the next one does not wait", attempt)
		}
		if attempt < maxAttempts {
			w.advance(retryAfter(attempt) + time.Millisecond)
			waited += retryAfter(attempt)
			w.ok(w.life.takeValidations(w.Context()))
		}
	}
	if status := w.status(id); status != acme.StatusInvalid {
		t.Errorf("in the end the authorization is %s", status)
	}
	if waited != 7500*time.Millisecond {
		t.Errorf("the pauses are %v in all", waited)
	}
}

// A CSR that this version refuses, or that is broken, ends its order instead of
// being tried for ever.
func TestAnUnreadableCSREndsItsOrder(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	rules, err := w.store.Profile(w.Context(), "trust")
	w.ok(err)
	order, _, err := w.store.CreateOrder(w.Context(), store.NewOrder{AccountID: w.account(), ProfileID: "trust",
		ProfileRevision: rules.Profile().Revision, OrderTTL: time.Hour, Trusted: true, Identifiers: []acme.Identifier{{Type: acme.DNS, Value: "a.test"}}})
	w.ok(err)
	c := &store.Claim{OrderID: order.ID, AccountID: order.AccountID, ProfileID: "trust", ProfileRevision: rules.Profile().Revision,
		Identifiers: order.Names(), IssuerID: "iss", CSR: []byte("broken"), CSRHash: []byte("hash"), Serial: "01", NotBefore: w.store.Now(), NotAfter: w.store.Now()}
	w.ok(w.store.ClaimOrder(w.Context(), c, ClaimLease))
	w.advance(ClaimLease + time.Second)
	w.ok(w.life.takeClaims(w.Context()))
	order, _, err = w.store.Order(w.Context(), order.ID)
	w.ok(err)
	if order.Status(nil, w.store.Now()) != acme.StatusInvalid || order.Problem == nil || order.Problem.Type != acme.ErrBadCSR {
		t.Errorf("the order is %s: %v", order.Status(nil, w.store.Now()), order.Problem)
	}
}

// What was to be validated under a profile that was archived meanwhile fails once,
// and no host is asked.
func TestAnArchivedProfileEndsValidations(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	id := w.respond(w.account(), 1)[0]
	w.ok(w.store.ArchiveProfile(w.Context(), "test", "challenge"))
	v, _ := w.life.validations[acme.HTTP01].take()
	w.ok(w.life.attempt(w.Context(), v))
	a, err := w.store.Authorization(w.Context(), id)
	w.ok(err)
	if a.Status(w.store.Now()) != acme.StatusInvalid || a.Problem == nil || a.Problem.Type != acme.ErrInvalidProfile {
		t.Errorf("the authorization is %s: %v", a.Status(w.store.Now()), a.Problem)
	}
	w.advance(ValidationLease + time.Second)
	w.ok(w.life.takeValidations(w.Context()))
	if n, waiting := w.probes.Load(), w.life.validations[acme.HTTP01].len(); n != 0 || waiting != 0 {
		t.Errorf("%d probes were made and %d wait", n, waiting)
	}
}

// Hosts of one account that never answer hold up that account only.
func TestDeadHostsHoldUpTheirAccountOnly(t *testing.T) {
	t.Parallel()
	w := newWork(t, 4)
	release := make(chan struct{})
	w.probe = func(ctx context.Context, target validate.Target) validate.Outcome {
		if target.Identifier.Value == "n0.test" {
			select {
			case <-ctx.Done():
			case <-release:
			}
		}
		return validate.Outcome{}
	}
	// Ten of a single dead name: each response is another authorization.
	dead := w.account()
	var hanging []string
	for range 10 {
		hanging = append(hanging, w.respond(dead, 1)...)
	}
	w.run()
	w.eventually("the dead hosts have their share of the slots", func() bool { return w.probes.Load() == 2 })
	alive := w.respondNamed(w.account(), "alive.test")
	w.eventually("another account is validated", func() bool { return w.status(alive) == acme.StatusValid })
	if status := w.status(hanging[9]); status != acme.StatusPending {
		t.Errorf("the last dead host is %s already", status)
	}
	close(release)
	for _, id := range hanging {
		w.eventually("the dead account's own turn comes", func() bool { return w.status(id) == acme.StatusValid })
	}
}

// A redirect may lead to what the profile itself would issue for.
func TestRedirects(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	w.respondNamed(w.account(), "a.test")
	w.probe = func(_ context.Context, target validate.Target) validate.Outcome {
		for host, want := range map[string]bool{
			"b.test": true, "B.test": true, "evil.example": false, "127.0.0.1": false, "10.0.0.5": false, "[::ffff:10.0.0.5]": false, "test": true, "": false, "b.test.": false, "b.test/x": false,
		} {
			if got := target.RedirectAllowed(host); got != want {
				t.Errorf("a redirect to %q: %v", host, got)
			}
		}
		return validate.Outcome{}
	}
	v, _ := w.life.validations[acme.HTTP01].take()
	w.ok(w.life.attempt(w.Context(), v))
	if w.probes.Load() != 1 {
		t.Error("not probed")
	}
}

// What waits for its slot for longer than its lease is neither probed twice nor
// does its result get lost.
func TestLongQueue(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	ids := w.respond(w.account(), 12)
	w.probe = func(context.Context, validate.Target) validate.Outcome {
		w.advance(20 * time.Second) // a slow host; meanwhile leases run out
		w.ok(w.life.takeValidations(w.Context()))
		return validate.Outcome{}
	}
	queue := w.life.validations[acme.HTTP01]
	for range 100 {
		if queue.len() == 0 {
			break
		}
		v, _ := queue.take()
		if err := w.life.attempt(w.Context(), v); err != nil && !errors.Is(err, store.ErrConflict) {
			t.Fatal(err)
		}
		queue.done(v)
	}
	for i, id := range ids {
		if status := w.status(id); status != acme.StatusValid {
			t.Errorf("authorization %d is %s", i, status)
		}
	}
	if n := w.probes.Load(); n != int64(len(ids)) {
		t.Errorf("%d probes for %d authorizations", n, len(ids))
	}
}

func TestQueue(t *testing.T) {
	t.Parallel()
	q := newFairQueue(4)
	put := func(account, id string) bool {
		return q.put(&store.Validation{Authorization: acme.Authorization{AccountID: account, ID: id}})
	}
	for i := range 3 {
		put("a", fmt.Sprint("a", i))
	}
	put("b", "b0")
	put("c", "c0")
	var order []string
	var taken []*store.Validation
	for range 4 {
		v, ok := q.take()
		if !ok {
			t.Fatal("closed")
		}
		order, taken = append(order, v.Authorization.ID), append(taken, v)
	}
	// Accounts take turns, and none has more than half of the slots.
	if got := fmt.Sprint(order); got != "[a0 b0 c0 a1]" {
		t.Errorf("order %s", got)
	}
	next := make(chan string)
	go func() {
		v, _ := q.take()
		next <- v.Authorization.ID
	}()
	select {
	case id := <-next:
		t.Errorf("%s was taken though its account uses half of the slots", id)
	case <-time.After(20 * time.Millisecond):
	}
	q.done(taken[1])
	select {
	case id := <-next:
		t.Errorf("%s was taken though its account uses half of the slots", id)
	case <-time.After(20 * time.Millisecond):
	}
	q.done(taken[0])
	if id := <-next; id != "a2" {
		t.Errorf("%s was taken", id)
	}
	if q.len() != 0 || len(q.running) == 0 {
		t.Errorf("%d wait, %v run", q.len(), q.running)
	}
	closed := make(chan bool)
	go func() {
		_, ok := q.take()
		closed <- ok
	}()
	q.close()
	if <-closed || put("a", "late") {
		t.Error("a closed queue gives or takes")
	}
}

// A full queue leaves the rest in the database, from which it is taken up when
// there is room.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	queue := w.life.validations[acme.HTTP01]
	queue.count = maxQueued
	id := w.respond(w.account(), 1)[0]
	if len(queue.waiting) != 0 {
		t.Fatal("a full queue took more")
	}
	queue.count = 0
	w.advance(ValidationLease + time.Second)
	w.run()
	w.eventually("it is taken up", func() bool { return w.status(id) == acme.StatusValid })
}

func TestServerCertificate(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	names, ips := []string{"ca.test", "localhost", "ca.test"}, []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1")}
	current := func(c *ServerCert) string {
		cert, err := c.Get(nil)
		w.ok(err)
		roots, between := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(w.issuer.Root())
		between.AddCert(w.issuer.Chain()[0])
		for _, name := range []string{"localhost", "127.0.0.1"} {
			if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name, CurrentTime: w.store.Now()}); err != nil {
				t.Error(err)
			}
		}
		return cert.Leaf.SerialNumber.String()
	}
	open := func(names []string) *ServerCert {
		c, err := NewServerCert(w.Context(), w.store, w.issuer, names, ips)
		w.ok(err)
		return c
	}
	c := open(names)
	first := current(c)
	if again := current(open([]string{"localhost", "ca.test"})); again != first {
		t.Error("a restart with the same names makes another certificate")
	}
	other := current(open([]string{"localhost", "new.test"}))
	if other == first {
		t.Error("other names do not make another certificate")
	}
	c = open(names)
	first = current(c)
	w.advance(serverCertLife - serverCertRenew - time.Hour)
	w.ok(c.renew(w.Context()))
	if current(c) != first {
		t.Error("renewed too early")
	}
	w.advance(2 * time.Hour)
	w.ok(c.renew(w.Context()))
	if current(c) == first {
		t.Error("not renewed")
	}
	// Near the CA's own end there is nothing longer to be had.
	w.advance(w.issuer.NotAfter().Sub(w.store.Now()) - 10*24*time.Hour)
	w.ok(c.renew(w.Context()))
	last, count := current(c), len(w.certificates())
	w.advance(time.Hour)
	w.ok(c.renew(w.Context()))
	if current(c) != last || len(w.certificates()) != count {
		t.Error("makes one certificate after another at the end of the CA")
	}
}

// A revocation is on the CRL within seconds, and each CRL has a higher number.
func TestRevocationIsPublished(t *testing.T) {
	t.Parallel()
	w := newWork(t, 1)
	c, p, csr := w.claim()
	w.ok(w.life.Issue(w.Context(), c, p, csr))
	w.run()
	crl := func() *x509.RevocationList {
		stored, err := w.store.CRL(w.Context(), "iss", 0)
		if err != nil {
			return &x509.RevocationList{}
		}
		list, err := x509.ParseRevocationList(stored.DER)
		w.ok(err)
		w.ok(list.CheckSignatureFrom(w.issuer.Chain()[0]))
		return list
	}
	w.eventually("the first CRL", func() bool { return crl().Number != nil })
	before := crl()
	if len(before.RevokedCertificateEntries) != 0 {
		t.Error("something is revoked")
	}
	w.ok(w.store.RevokeCertificate(w.Context(), "test", c.Serial, pki.ReasonKeyCompromise))
	w.life.Revoked()
	w.eventually("the revocation", func() bool { return len(crl().RevokedCertificateEntries) == 1 })
	after := crl()
	if after.Number.Cmp(before.Number) <= 0 {
		t.Errorf("number %v after %v", after.Number, before.Number)
	}
	entry := after.RevokedCertificateEntries[0]
	if fmt.Sprintf("%032x", entry.SerialNumber) != c.Serial || entry.ReasonCode != pki.ReasonKeyCompromise {
		t.Errorf("the CRL lists %+v", entry)
	}
}

// One account with more names than the queue holds leaves room for others.
func TestOneAccountDoesNotFillTheQueue(t *testing.T) {
	q := newFairQueue(64)
	for i := range maxQueued {
		q.put(&store.Validation{Authorization: acme.Authorization{ID: fmt.Sprint(i), AccountID: "mallory"}})
	}
	if !q.put(&store.Validation{Authorization: acme.Authorization{ID: "x", AccountID: "alice"}}) {
		t.Error("alice's validation finds no place: one account fills the queue")
	}
	if got := q.full(); len(got) != 1 || got[0] != "mallory" {
		t.Errorf("full for %q", got)
	}
}

// Accounts take turns in the store too.
func TestAccountsTakeTurnsInTheStore(t *testing.T) {
	w := newWork(t, 4)
	mallory, alice := w.account(), w.account()
	w.respond(mallory, 300)
	id := w.respondNamed(alice, "alice.test")
	w.advance(ValidationLease + time.Second)
	taken, err := w.store.TakeValidations(w.Context(), acme.HTTP01, ValidationLease, 40, nil)
	w.ok(err)
	found := false
	for i := range taken {
		found = found || taken[i].Authorization.ID == id
	}
	if !found {
		t.Errorf("alice is not among the %d that were taken first", len(taken))
	}
	taken, err = w.store.TakeValidations(w.Context(), acme.HTTP01, ValidationLease, 40, []string{mallory})
	w.ok(err)
	if len(taken) != 0 {
		t.Errorf("%d taken of an account that was excepted", len(taken))
	}
}
