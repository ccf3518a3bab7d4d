package admin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// A fixture is the API over a real store with an issuer that may sign names
// below test and example.com, the profile default and two API keys.
type fixture struct {
	t       *testing.T
	store   *store.Store
	local   *issuer.Local
	server  *httptest.Server
	admin   string // API keys
	auditor string
	revoked []string
	log     bytes.Buffer
}

func newFixture(t *testing.T, changes ...func(*store.Config)) *fixture {
	t.Helper()
	ctx := t.Context()
	cfg := store.Config{Dir: t.TempDir(), SecretKey: make([]byte, 32), NonceTTL: time.Minute}
	for _, change := range changes {
		change(&cfg)
	}
	s, err := store.Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: s, admin: NewKey(), auditor: NewKey()}
	t.Cleanup(func() { f.noError(s.Close()) })

	constraints := policy.Constraints{PermittedDomains: []string{"test", "example.com"}}
	ca, err := pki.CreateCA(pki.CASpec{Name: "Test", PermittedDomains: constraints.PermittedDomains, Now: time.Now()}, rand.Reader)
	f.noError(err)
	f.local, err = issuer.NewLocal(issuer.LocalConfig{ID: "iss-local", Root: ca.Root, Issuing: ca.Issuing, Key: ca.IssuingKey})
	f.noError(err)
	f.noError(s.CreateIssuer(ctx, "api:test", store.Issuer{
		ID: "iss-local", Kind: "local", Name: "Test", Chain: string(pki.EncodePEM(ca.Issuing, ca.Root))}, nil))
	f.noError(s.CreateAPIKey(ctx, "api:test", "root", f.admin, store.RoleAdmin))
	f.noError(s.CreateAPIKey(ctx, "api:test", "eyes", f.auditor, store.RoleAuditor))

	api, err := New(Config{
		Store: s,
		Constraints: func(id string) (policy.Constraints, bool) {
			return constraints, id == "iss-local"
		},
		Issuers: map[string]*issuer.Local{"iss-local": f.local},
		Defaults: func() policy.Profile {
			return policy.Profile{IssuerID: "iss-local", AuthMode: policy.TrustAuthenticated, MaxTTLSeconds: 86400, DefaultTTLSeconds: 86400}
		},
		Revoked: func(id string) { f.revoked = append(f.revoked, id) },
		Log:     slog.New(slog.NewTextHandler(&f.log, nil)),
	})
	f.noError(err)
	f.server = httptest.NewServer(api)
	t.Cleanup(f.server.Close)
	f.do("POST", "/profiles", f.admin, `{"id": "default", "allowed_domains": [".test"]}`).want(t, 201)
	return f
}

func (f *fixture) noError(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// An answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   string
}

// do sends a request; body "" is none, key "" is none.
func (f *fixture) do(method, path, key, body string) answer {
	f.t.Helper()
	return f.doWith(method, path, key, body, nil)
}

func (f *fixture) doWith(method, path, key, body string, header map[string]string) answer {
	f.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(f.t.Context(), method, f.server.URL+Prefix+path, r)
	f.noError(err)
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	resp, err := f.server.Client().Do(req)
	f.noError(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	f.noError(err)
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// want checks the status and that the body holds all the parts; and what holds
// for every answer.
func (a answer) want(t *testing.T, status int, parts ...string) answer {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d: %s", a.status, status, a.body)
	}
	for _, part := range parts {
		if !strings.Contains(a.body, part) {
			t.Errorf("no %s in %s", part, a.body)
		}
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
	if a.status < 400 {
		return a
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q of a problem", got)
	}
	var p struct {
		Status int
		Title  string
		Detail string
	}
	if err := json.Unmarshal([]byte(a.body), &p); err != nil || p.Status != a.status || p.Detail == "" || p.Title == "" || strings.Contains(p.Detail, "\n") {
		t.Errorf("not a problem document: %v %s", err, a.body)
	}
	return a
}

func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	return v
}

func (f *fixture) account(contacts ...string) *acme.Account {
	f.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.noError(err)
	key, err := acme.NewKey(private.Public())
	f.noError(err)
	account, _, err := f.store.CreateAccount(f.t.Context(), store.NewAccount{Key: key, Contacts: contacts})
	f.noError(err)
	return account
}

// order makes an order under the profile default, trusted or to be validated.
func (f *fixture) order(account *acme.Account, trusted bool, names ...string) (*acme.Order, []acme.Authorization) {
	f.t.Helper()
	rules, err := f.store.Profile(f.t.Context(), "default")
	f.noError(err)
	n := store.NewOrder{AccountID: account.ID, ProfileID: "default", ProfileRevision: rules.Profile().Revision,
		OrderTTL: time.Hour, AuthzTTL: time.Hour, Trusted: trusted}
	for _, name := range names {
		id, err := acme.ParseIdentifier("dns", name)
		f.noError(err)
		n.Identifiers = append(n.Identifiers, id)
		if !trusted {
			n.Authorizations = append(n.Authorizations, store.NewAuthorization{Identifier: id.Base(), Wildcard: id.Wildcard(), Token: "token", Offered: []acme.ChallengeType{acme.HTTP01}})
		}
	}
	order, authzs, err := f.store.CreateOrder(f.t.Context(), n)
	f.noError(err)
	time.Sleep(2 * time.Millisecond) // the ids of one millisecond have no order
	return order, authzs
}

// issue gets an order its certificate and returns the serial.
func (f *fixture) issue(order *acme.Order, notBefore, notAfter time.Time) string {
	f.t.Helper()
	ctx := f.t.Context()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.noError(err)
	serial, err := pki.NewSerial(rand.Reader)
	f.noError(err)
	leaf := pki.Leaf{Serial: serial, NotBefore: notBefore, NotAfter: notAfter, PublicKey: private.Public(), ExtKeyUsages: []pki.ExtKeyUsage{pki.ServerAuth}}
	for _, id := range order.Names() {
		leaf.DNSNames = append(leaf.DNSNames, id.Value)
	}
	der, err := f.local.Issue(ctx, leaf)
	f.noError(err)
	claim := store.Claim{OrderID: order.ID, AccountID: order.AccountID, ProfileID: order.ProfileID, ProfileRevision: 1,
		Identifiers: order.Names(), IssuerID: "iss-local", CSR: []byte{1}, CSRHash: []byte{2}, Serial: serial,
		NotBefore: notBefore, NotAfter: notAfter}
	f.noError(f.store.ClaimOrder(ctx, &claim, time.Minute))
	f.noError(f.store.FinishOrder(ctx, &claim, der))
	return serial
}

// issued is an issued certificate for the names.
func (f *fixture) issued(account *acme.Account, names ...string) (serial string) {
	f.t.Helper()
	order, _ := f.order(account, true, names...)
	now := time.Now().UTC().Truncate(time.Second)
	return f.issue(order, now.Add(-time.Minute), now.Add(time.Hour))
}

// failValidation lets the client respond to the only challenge that is open and
// lets its validation fail.
func (f *fixture) failValidation(z *acme.Authorization) {
	f.t.Helper()
	ctx := f.t.Context()
	attempt, err := f.store.RespondChallenge(ctx, z, acme.HTTP01, time.Minute)
	f.noError(err)
	trace := []map[string]string{{"kind": "dial", "address": "192.0.2.1:80", "detail": "connection refused"}}
	f.noError(f.store.FinishValidation(ctx, attempt, acme.Connection("192.0.2.1:80 refused the connection"), time.Hour, trace))
}

// hasEvent checks that the audit log has such an event.
func (f *fixture) hasEvent(action, actor, resourceID string) {
	f.t.Helper()
	events, err := f.store.AuditEvents(f.t.Context(), store.AuditQuery{Action: action, Actor: actor, ResourceID: resourceID, Limit: 1})
	f.noError(err)
	if len(events) == 0 {
		f.t.Errorf("no event %s by %s on %s", action, actor, resourceID)
	}
}
