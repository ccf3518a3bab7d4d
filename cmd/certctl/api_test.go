package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/admin"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// startAPI is the script command "api": it serves the API over TLS on a store of
// its own and sets
//
//	CERTCTL_SERVER, CERTCTL_API_KEY  as a user would
//	AUDITOR                          a key that may only read
//	ACCOUNT, SERIAL, ORDER           an account, its certificate for www.test and the order of that
//	FAILED                           an order whose validation failed
//
// and writes the root to data/roots.pem, where the server would have it.
func startAPI(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: api")
	}
	ctx := context.Background()
	s, err := store.Open(ctx, store.Config{Dir: ts.MkAbs("store"), SecretKey: make([]byte, 32), NonceTTL: time.Minute})
	ts.Check(err)
	ts.Defer(func() { ts.Check(s.Close()) })

	seed := &apiSeed{ts: ts, store: s}
	seed.fill(ctx)
	api, err := admin.New(admin.Config{
		Store:       s,
		Constraints: func(id string) (policy.Constraints, bool) { return policy.Constraints{}, id == "iss-local" },
		Issuers:     map[string]*issuer.Local{"iss-local": seed.local},
		Defaults: func() policy.Profile {
			return policy.Profile{IssuerID: "iss-local", AuthMode: policy.TrustAuthenticated, MaxTTLSeconds: 86400}
		},
	})
	ts.Check(err)
	server := httptest.NewUnstartedServer(api)
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that are meant to fail
	server.StartTLS()
	ts.Defer(server.Close)

	ts.Setenv("CERTCTL_SERVER", server.URL)
	ts.Check(os.MkdirAll(ts.MkAbs("data"), 0o755))
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	ts.Check(os.WriteFile(filepath.Join(ts.MkAbs("data"), "roots.pem"), root, 0o644))
}

// apiSeed fills the store of a script.
type apiSeed struct {
	ts    *testscript.TestScript
	store *store.Store
	local *issuer.Local
}

func (a *apiSeed) fill(ctx context.Context) {
	ca, err := pki.CreateCA(pki.CASpec{Name: "Test", Now: time.Now()}, rand.Reader)
	a.ts.Check(err)
	a.local, err = issuer.NewLocal(issuer.LocalConfig{ID: "iss-local", Root: ca.Root, Issuing: ca.Issuing, Key: ca.IssuingKey})
	a.ts.Check(err)
	a.ts.Check(a.store.CreateIssuer(ctx, "api:setup", store.Issuer{
		ID: "iss-local", Kind: "local", Name: "Test", Chain: string(pki.EncodePEM(ca.Issuing, ca.Root))}, nil))
	for name, role := range map[string]store.Role{"root": store.RoleAdmin, "eyes": store.RoleAuditor} {
		key := admin.NewKey()
		a.ts.Check(a.store.CreateAPIKey(ctx, "api:setup", name, key, role))
		a.ts.Setenv(map[store.Role]string{store.RoleAdmin: "CERTCTL_API_KEY", store.RoleAuditor: "AUDITOR"}[role], key)
	}
	p := policy.Profile{ID: "default", IssuerID: "iss-local", AuthMode: policy.TrustAuthenticated, MaxTTLSeconds: 86400, AllowedDomains: []string{".test"}}
	a.ts.Check(p.Normalize())
	_, err = a.store.CreateProfile(ctx, "api:setup", p)
	a.ts.Check(err)

	accountKey, err := acme.NewKey(a.newKey().Public())
	a.ts.Check(err)
	account, _, err := a.store.CreateAccount(ctx, store.NewAccount{Key: accountKey, Contacts: []string{"mailto:ops@example.com"}})
	a.ts.Check(err)
	a.ts.Setenv("ACCOUNT", account.ID)
	a.issued(ctx, account)
	a.failed(ctx, account)
}

func (a *apiSeed) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.ts.Check(err)
	return key
}

func (a *apiSeed) order(ctx context.Context, n store.NewOrder, account *acme.Account) (*acme.Order, []acme.Authorization) {
	n.AccountID, n.ProfileID, n.ProfileRevision = account.ID, "default", 1
	n.OrderTTL, n.AuthzTTL = time.Hour, time.Hour
	order, authzs, err := a.store.CreateOrder(ctx, n)
	a.ts.Check(err)
	time.Sleep(2 * time.Millisecond) // the ids of one millisecond have no order
	return order, authzs
}

func (a *apiSeed) issued(ctx context.Context, account *acme.Account) {
	order, _ := a.order(ctx, store.NewOrder{Trusted: true, Identifiers: []acme.Identifier{{Type: acme.DNS, Value: "www.test"}}}, account)
	serial, err := pki.NewSerial(rand.Reader)
	a.ts.Check(err)
	now := time.Now().UTC().Truncate(time.Second)
	claim := store.Claim{OrderID: order.ID, AccountID: account.ID, ProfileID: "default", ProfileRevision: 1, Identifiers: order.Names(),
		IssuerID: "iss-local", CSR: []byte{1}, CSRHash: []byte{2}, Serial: serial, NotBefore: now, NotAfter: now.Add(24 * time.Hour)}
	a.ts.Check(a.store.ClaimOrder(ctx, &claim, time.Minute))
	der, err := a.local.Issue(ctx, pki.Leaf{Serial: serial, NotBefore: claim.NotBefore, NotAfter: claim.NotAfter, DNSNames: []string{"www.test"},
		PublicKey: a.newKey().Public(), ExtKeyUsages: []pki.ExtKeyUsage{pki.ServerAuth}})
	a.ts.Check(err)
	a.ts.Check(a.store.FinishOrder(ctx, &claim, der))
	a.ts.Setenv("ORDER", order.ID)
	a.ts.Setenv("SERIAL", serial)
}

func (a *apiSeed) failed(ctx context.Context, account *acme.Account) {
	down := acme.Identifier{Type: acme.DNS, Value: "down.test"}
	order, authzs := a.order(ctx, store.NewOrder{
		Identifiers:    []acme.Identifier{down},
		Authorizations: []store.NewAuthorization{{Identifier: down, Token: "token", Offered: []acme.ChallengeType{acme.HTTP01}}},
	}, account)
	attempt, err := a.store.RespondChallenge(ctx, &authzs[0], acme.HTTP01, time.Minute)
	a.ts.Check(err)
	// What a foreign host says reaches the terminal: it must not act on it.
	trace := []map[string]string{
		{"at": "2030-01-02T03:04:05.678Z", "kind": "dial", "address": "192.0.2.1:80", "detail": "connection refused\x1b[31m"},
	}
	problem := acme.Connection("192.0.2.1:80 refused the connection")
	a.ts.Check(a.store.FinishValidation(ctx, attempt, problem, time.Hour, trace))
	a.ts.Setenv("FAILED", order.ID)
}
