package acmeserver_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/acmeserver"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
	"github.com/certctl/certctl/internal/validate"
)

var ctx = context.Background()

const (
	issuerID     = "iss-local"
	otherOrigin  = "https://certctl.example" // the second external URL
	profileMax   = 24 * time.Hour
	certLifetime = 12 * time.Hour // when the client does not say
)

// settings are what a test may want otherwise.
type settings struct {
	limits      store.Limits
	terms       string
	eabRequired bool
	noDefault   bool     // no profile behind the shorthand
	permitted   []string // name constraints of the CA
}

// world is one whole server under test: a store on disk, a CA, the lifecycle
// with a probe that the test controls, and the ACME surface over TLS.
type world struct {
	t      testing.TB
	store  *store.Store
	issuer *issuer.Local
	http   *httptest.Server
	client *http.Client
	log    *errorLog

	ahead     atomic.Int64 // how far the clock is ahead of the wall's, in nanoseconds
	forbidden atomic.Bool  // CAA records forbid everything

	onNow atomic.Pointer[func()] // called whenever the time is asked

	mu    sync.Mutex
	probe func(context.Context, acme.ChallengeType, validate.Target) validate.Outcome
}

// profiles are there in every world. All of them allow names below .test, but
// for those of the EAB profiles, which leave naming to their keys.
var profiles = []policy.Profile{
	{ID: "trust", AuthMode: policy.TrustAuthenticated, AllowedDomains: []string{".test"}, DeniedDomains: []string{"denied.test"},
		AllowedIPRanges: []string{"10.0.0.0/8", "fd00::/8"}, AllowWildcards: true},
	{ID: "other", AuthMode: policy.TrustAuthenticated, AllowedDomains: []string{".test"}},
	{ID: "p256", AuthMode: policy.TrustAuthenticated, AllowedDomains: []string{".test"}, KeyTypes: []pki.KeyType{pki.ECDSAP256}},
	{ID: "challenge", AuthMode: policy.Challenge, AllowedDomains: []string{".test"}, AllowedIPRanges: []string{"10.0.0.0/8"}, AllowWildcards: true},
	{ID: "dns-only", AuthMode: policy.Challenge, AllowedDomains: []string{".test"}, AllowedIPRanges: []string{"10.0.0.0/8"},
		ChallengeTypes: []string{"dns-01"}},
	{ID: "eab", AuthMode: policy.TrustAuthenticated, EABRequired: true},
	{ID: "eab2", AuthMode: policy.TrustAuthenticated, EABRequired: true},
}

func newWorld(t testing.TB, set settings) *world {
	t.Helper()
	w := &world{t: t, log: &errorLog{}}
	w.setProbe(func(context.Context, acme.ChallengeType, validate.Target) validate.Outcome { return validate.Outcome{} })
	var err error
	w.store, err = store.Open(ctx, store.Config{
		Dir: t.TempDir(), SecretKey: bytes.Repeat([]byte{7}, 32), NonceTTL: 5 * time.Minute, EABRequired: set.eabRequired, Limits: set.limits,
		Now: func() time.Time {
			if hook := w.onNow.Load(); hook != nil {
				(*hook)()
			}
			return time.Now().Add(time.Duration(w.ahead.Load()))
		},
	})
	w.ok(err)
	w.issuer = newCA(t, w.store.Now(), set.permitted)
	w.ok(w.store.CreateIssuer(ctx, "test", store.Issuer{ID: issuerID, Kind: "local", Name: "Test",
		Chain: string(pki.EncodePEM(w.issuer.Chain()[0], w.issuer.Root()))}, nil))
	issuers := map[string]*issuer.Local{issuerID: w.issuer}
	for _, p := range profiles {
		w.createProfile(p)
	}
	log := slog.New(w.log)
	life, err := lifecycle.New(lifecycle.Config{
		CAA: lifecycle.CAA{
			Check: func(_ context.Context, q validate.CAAQuery) (o validate.Outcome) {
				if w.forbidden.Load() {
					o.Problem = acme.CAA("the records of %s forbid it", q.Identifier.Value)
				}
				return o
			},
			AccountURLs: func(string) []string { return nil },
		},
		Store: w.store, Issuers: issuers, Log: log, AuthzTTL: 24 * time.Hour, SweepInterval: time.Hour,
		Slots: map[acme.ChallengeType]int{acme.HTTP01: 4, acme.DNS01: 4, acme.TLSALPN01: 4},
		Probe: func(ctx context.Context, c acme.ChallengeType, target validate.Target) validate.Outcome {
			w.mu.Lock()
			probe := w.probe
			w.mu.Unlock()
			return probe(ctx, c, target)
		},
	})
	w.ok(err)
	w.http = httptest.NewUnstartedServer(nil)
	config := acmeserver.Config{
		Store: w.store, Lifecycle: life, Issuers: issuers, Log: log, EABRequired: set.eabRequired,
		ExternalURLs: []string{"https://" + w.http.Listener.Addr().String(), otherOrigin}, DefaultProfile: "trust",
		TermsURL: set.terms, Website: "https://ca.test/", CAAIdentities: []string{"ca.test"},
		FinalizeWait: time.Minute, OrderTTL: 24 * time.Hour, AuthzTTL: 24 * time.Hour, ARIPollInterval: 6 * time.Hour,
	}
	if set.noDefault {
		config.DefaultProfile = ""
	}
	w.http.Config.Handler, err = acmeserver.New(config)
	w.ok(err)
	w.http.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	w.http.StartTLS()
	w.client = w.http.Client()
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	w.client.Transport.(*http.Transport).MaxIdleConnsPerHost = 200
	w.client.Transport.(*http.Transport).TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(8)

	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- life.Run(running) }()
	t.Cleanup(func() {
		w.http.Close()
		stop()
		w.ok(<-done)
		w.ok(w.store.Close())
	})
	return w
}

func newCA(t testing.TB, now time.Time, permitted []string) *issuer.Local {
	t.Helper()
	ca, err := pki.CreateCA(pki.CASpec{Name: "Test", Now: now, PermittedDomains: permitted}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	local, err := issuer.NewLocal(issuer.LocalConfig{
		ID: issuerID, Root: ca.Root, Issuing: ca.Issuing, Key: ca.IssuingKey, CRLURL: "http://ca.test/crl", AIAURL: "http://ca.test/aia", OCSPURL: "http://ca.test/ocsp"})
	if err != nil {
		t.Fatal(err)
	}
	return local
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) setProbe(probe func(context.Context, acme.ChallengeType, validate.Target) validate.Outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probe = probe
}

func (w *world) createProfile(p policy.Profile) {
	w.t.Helper()
	p.IssuerID, p.MaxTTLSeconds, p.DefaultTTLSeconds = issuerID, int64(profileMax/time.Second), int64(certLifetime/time.Second)
	w.ok(p.Normalize())
	w.ok(p.Validate(policy.Constraints{}))
	_, err := w.store.CreateProfile(ctx, "test", p)
	w.ok(err)
}

func (w *world) changeProfile(id string, patch policy.ProfilePatch) {
	w.t.Helper()
	p, err := w.store.StoredProfile(ctx, id)
	w.ok(err)
	p = p.Apply(patch)
	w.ok(p.Normalize())
	w.ok(p.Validate(policy.Constraints{}))
	_, err = w.store.UpdateProfile(ctx, "test", p)
	w.ok(err)
}

// Check asserts what must hold whatever was done: of orders, certificates, the
// audit log and the CRL together.
func (w *world) Check() {
	w.t.Helper()
	for _, line := range w.log.take() {
		w.t.Errorf("logged as an error: %s", line)
	}
	orders, authzs, err := w.store.Orders(ctx, store.OrderQuery{Limit: 100_000})
	w.ok(err)
	certs, err := w.store.Certificates(ctx, store.CertificateQuery{Limit: 100_000})
	w.ok(err)
	events := w.events()
	byOrder := map[string][]*store.Certificate{}
	for _, c := range certs {
		byOrder[c.OrderID] = append(byOrder[c.OrderID], c)
	}
	for _, o := range orders {
		w.once(events, audit.OrderCreated, o.ID)
		account, err := w.store.Account(ctx, o.AccountID)
		w.ok(err)
		status := o.Status(authzs[o.ID], w.store.Now())
		if account.Status() == acme.StatusDeactivated && (status == acme.StatusPending || status == acme.StatusReady) {
			w.t.Errorf("order %s of a deactivated account is %s", o.ID, status)
		}
		if o.IssuedAt.IsZero() {
			if n := len(byOrder[o.ID]); n != 0 {
				w.t.Errorf("order %s is not issued and has %d certificates", o.ID, n)
			}
			continue
		}
		w.once(events, audit.OrderFinalized, o.ID)
		if n := len(byOrder[o.ID]); n != 1 {
			w.t.Errorf("order %s has %d certificates, want 1", o.ID, n)
			continue
		}
		w.checkCertificate(o, byOrder[o.ID][0])
		delete(byOrder, o.ID)
	}
	for id := range byOrder {
		w.t.Errorf("certificates of an order that is not there or not issued: %q", id)
	}
	var revoked []string
	for _, c := range certs {
		w.once(events, audit.CertificateIssued, c.Serial)
		if !c.RevokedAt.IsZero() {
			w.once(events, audit.CertificateRevoked, c.Serial)
			revoked = append(revoked, c.Serial)
		} else if n := events[string(audit.CertificateRevoked)+" "+c.Serial]; n != 0 {
			w.t.Errorf("certificate %s is not revoked and has %d events that it was", c.Serial, n)
		}
	}
	for event, n := range events {
		if n != 1 && strings.HasPrefix(event, string(audit.AuthorizationDeactivated)) {
			w.t.Errorf("%d events %s, want 1", n, event)
		}
	}
	w.checkCRL(revoked)
}

// events counts audit events by action and resource.
func (w *world) events() map[string]int {
	all, err := w.store.AuditEvents(ctx, store.AuditQuery{Limit: 1_000_000})
	w.ok(err)
	counts := map[string]int{}
	for _, e := range all {
		counts[string(e.Action)+" "+e.ResourceID]++
	}
	return counts
}

func (w *world) once(events map[string]int, action audit.Action, id string) {
	w.t.Helper()
	if n := events[string(action)+" "+id]; n != 1 {
		w.t.Errorf("%d events %s of %s, want 1", n, action, id)
	}
}

// checkCertificate compares a certificate with the order that it is for and
// verifies its chain as a relying party would.
func (w *world) checkCertificate(o *acme.Order, c *store.Certificate) {
	w.t.Helper()
	if c.Serial != o.Serial || c.AccountID != o.AccountID || c.ProfileID != o.ProfileID {
		w.t.Errorf("order %s has the certificate %+v", o.ID, c)
	}
	cert, err := x509.ParseCertificate(c.DER)
	w.ok(err)
	var want, got []string
	for _, id := range o.Names() {
		want = append(want, id.Value)
	}
	got = append(got, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		got = append(got, ip.String())
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		w.t.Errorf("order %s: the certificate has the names %q, want %q", o.ID, got, want)
	}
	cn := cert.Subject.CommonName
	if len(cert.EmailAddresses)+len(cert.URIs) > 0 || cert.IsCA || cn != "" && !slices.Contains(want, cn) || len(cert.Subject.Names) > 1 ||
		!slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || len(cert.UnknownExtKeyUsage) > 0 ||
		cert.KeyUsage&^(x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment) != 0 {
		w.t.Errorf("order %s: the certificate holds more than order and profile say: %v", o.ID, cert.Subject)
	}
	life := cert.NotAfter.Sub(cert.NotBefore) + time.Second
	if life > profileMax || o.NotBefore.IsZero() && o.NotAfter.IsZero() && life != certLifetime {
		w.t.Errorf("order %s: the certificate lives %v", o.ID, life)
	}
	if !o.NotBefore.IsZero() && !cert.NotBefore.Equal(o.NotBefore.Truncate(time.Second)) ||
		!o.NotAfter.IsZero() && !cert.NotAfter.Equal(o.NotAfter.Truncate(time.Second)) {
		w.t.Errorf("order %s asked for %v to %v, the certificate lives %v to %v", o.ID, o.NotBefore, o.NotAfter, cert.NotBefore, cert.NotAfter)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(w.issuer.Root())
	between.AddCert(w.issuer.Chain()[0])
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: cert.NotBefore.Add(life / 2)}); err != nil {
		w.t.Errorf("order %s: %v", o.ID, err)
	}
}

// checkCRL waits until the CRL holds exactly the revoked certificates.
func (w *world) checkCRL(revoked []string) {
	w.t.Helper()
	slices.Sort(revoked)
	var listed []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		crl, err := w.store.CRL(ctx, issuerID, 0)
		if err != nil {
			continue // the first is not made yet
		}
		list, err := x509.ParseRevocationList(crl.DER)
		w.ok(err)
		w.ok(list.CheckSignatureFrom(w.issuer.Chain()[0]))
		listed = nil
		for _, entry := range list.RevokedCertificateEntries {
			listed = append(listed, fmt.Sprintf("%032x", entry.SerialNumber))
		}
		slices.Sort(listed)
		if slices.Equal(listed, revoked) {
			return
		}
	}
	w.t.Errorf("the CRL lists %q, want %q", listed, revoked)
}

// leaf returns the first certificate of a chain in PEM, which must be followed by
// the issuing certificate and nothing else.
func (w *world) leaf(chain []byte) *x509.Certificate {
	w.t.Helper()
	first, rest := pem.Decode(chain)
	if first == nil {
		w.t.Fatalf("no certificate in %q", chain)
		return nil // Fatalf of an interface is not known to end it
	}
	if want := pki.EncodePEM(w.issuer.Chain()...); !bytes.Equal(rest, want) {
		w.t.Fatalf("after the certificate comes %q, want the chain without the root, %q", rest, want)
	}
	cert, err := x509.ParseCertificate(first.Bytes)
	w.ok(err)
	return cert
}

// errorLog keeps what is logged as an error: nothing that a client sends may
// cause one.
type errorLog struct {
	mu    sync.Mutex
	lines []string
}

func (l *errorLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (l *errorLog) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *errorLog) WithGroup(string) slog.Handler                    { return l }

func (l *errorLog) Handle(_ context.Context, r slog.Record) error {
	line := []string{r.Message}
	r.Attrs(func(a slog.Attr) bool {
		line = append(line, a.String())
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.Join(line, " "))
	return nil
}

func (l *errorLog) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}
