package lifecycle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

func TestLintProblem(t *testing.T) {
	for _, test := range []struct {
		lints string
		want  acme.ErrorType
	}{
		{"e_dnsname_not_valid_tld", acme.ErrRejectedIdentifier},
		{"e_rsa_mod_less_than_2048_bits", acme.ErrBadCSR},
		{"e_rsa_mod_less_than_2048_bits e_rfc_dnsname_label_too_long", acme.ErrRejectedIdentifier},
		{"e_tls_server_cert_valid_time_longer_than_398_days", acme.ErrServerInternal},
	} {
		linted := &pki.LintError{}
		for _, name := range strings.Fields(test.lints) {
			linted.Findings = append(linted.Findings, pki.LintFinding{Lint: name, Detail: "not for the client"})
		}
		p := lintProblem(linted)
		want := "the certificate was refused by linting before it was signed: " + strings.ReplaceAll(test.lints, " ", ", ")
		if p.Type != test.want || p.Detail != want {
			t.Errorf("%s: %v", test.lints, p)
		}
	}
}

// A linted is a store with a claimed order whose certificate lives longer than
// the lints of its profile allow.
type linted struct {
	*testing.T
	store *store.Store
	life  *Lifecycle
	log   bytes.Buffer
	claim store.Claim
}

func (l *linted) ok(err error) {
	l.Helper()
	if err != nil {
		l.Fatal(err)
	}
}

func newLinted(t *testing.T) *linted {
	l := &linted{T: t}
	ctx := t.Context()
	var err error
	l.store, err = store.Open(ctx, store.Config{Dir: t.TempDir(), SecretKey: make([]byte, 32), NonceTTL: time.Minute})
	l.ok(err)
	t.Cleanup(func() { l.ok(l.store.Close()) })
	ca, err := pki.CreateCA(pki.CASpec{Name: "Test", Now: l.store.Now()}, rand.Reader)
	l.ok(err)
	local, err := issuer.NewLocal(issuer.LocalConfig{ID: "iss", Root: ca.Root, Issuing: ca.Issuing, Key: ca.IssuingKey})
	l.ok(err)
	l.life = &Lifecycle{cfg: Config{
		Store: l.store, Issuers: map[string]*issuer.Local{"iss": local}, Log: slog.New(slog.NewTextHandler(&l.log, nil)),
	}}

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	l.ok(err)
	accountKey, err := acme.NewKey(key.Public())
	l.ok(err)
	account, _, err := l.store.CreateAccount(ctx, store.NewAccount{Key: accountKey})
	l.ok(err)
	rules := l.createProfile("apple", pki.LintApple)
	id, err := acme.ParseIdentifier("dns", "a.test")
	l.ok(err)
	order, _, err := l.store.CreateOrder(ctx, store.NewOrder{AccountID: account.ID, ProfileID: "apple", ProfileRevision: rules.Profile().Revision,
		OrderTTL: time.Hour, AuthzTTL: time.Hour, Trusted: true, Identifiers: []acme.Identifier{id}})
	l.ok(err)
	certKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	l.ok(err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.test"}}, certKey)
	l.ok(err)
	serial, err := pki.NewSerial(rand.Reader)
	l.ok(err)
	hash := sha256.Sum256(csr)
	begin := l.store.Now().Truncate(time.Second).UTC()
	l.claim = store.Claim{OrderID: order.ID, AccountID: account.ID, ProfileID: "apple", ProfileRevision: rules.Profile().Revision,
		Identifiers: order.Names(), IssuerID: "iss", CSR: csr, CSRHash: hash[:], Serial: serial, NotBefore: begin, NotAfter: begin.AddDate(0, 0, 400)}
	l.ok(l.store.ClaimOrder(ctx, &l.claim, time.Minute))
	return l
}

func (l *linted) createProfile(id string, sources ...pki.LintSource) *policy.Rules {
	l.Helper()
	p := policy.Profile{ID: id, IssuerID: "iss", AuthMode: policy.TrustAuthenticated, MaxTTLSeconds: 500 * 86400,
		AllowedDomains: []string{".test"}, LintSources: sources}
	l.ok(p.Normalize())
	l.ok(p.Validate(policy.Constraints{}))
	rules, err := l.store.CreateProfile(l.Context(), "api:test", p)
	l.ok(err)
	return rules
}

// TestLintEndsOrder holds what is left of a certificate that a lint refuses: the
// order's problem, the audit event and the log name the lint.
func TestLintEndsOrder(t *testing.T) {
	const name = "e_tls_server_cert_valid_time_longer_than_398_days"
	l := newLinted(t)
	l.ok(l.life.reissue(t.Context(), &l.claim))
	order, _, err := l.store.Order(t.Context(), l.claim.OrderID)
	l.ok(err)
	if order.Problem == nil || order.Problem.Type != acme.ErrServerInternal || !strings.Contains(order.Problem.Detail, name) {
		t.Errorf("the order's problem is %v", order.Problem)
	}
	events, err := l.store.AuditEvents(t.Context(), store.AuditQuery{Limit: 100})
	l.ok(err)
	var failed int
	for _, e := range events {
		details, err := json.Marshal(e.Details)
		l.ok(err)
		switch e.Action {
		case audit.OrderFailed:
			failed++
			if e.ResourceID != l.claim.OrderID || !strings.Contains(string(details), name) {
				t.Errorf("the audit event is %+v", e)
			}
		case audit.CertificateIssued:
			t.Error("a certificate was issued")
		}
	}
	if failed != 1 {
		t.Errorf("%d audit events", failed)
	}
	if log := l.log.String(); !strings.Contains(log, name) || !strings.Contains(log, l.claim.OrderID) {
		t.Errorf("logged: %s", log)
	}
}

// TestLintsOfTheClaim holds that a claim is judged under the profile revision
// that it was made with: what the profile became since does not refuse it.
func TestLintsOfTheClaim(t *testing.T) {
	l := newLinted(t)
	p := l.createProfile("plain").Profile()
	csr, err := pki.ParseCSR(l.claim.CSR)
	l.ok(err)
	if _, err := l.life.sign(t.Context(), &l.claim, p, csr); err != nil {
		t.Error(err)
	}
	apple, err := l.store.StoredProfile(t.Context(), "apple")
	l.ok(err)
	changed := apple.Apply(policy.ProfilePatch{LintSources: &[]pki.LintSource{}})
	l.ok(changed.Normalize())
	_, err = l.store.UpdateProfile(t.Context(), "api:test", changed)
	l.ok(err)
	claimed, err := l.store.ProfileRevision(t.Context(), "apple", l.claim.ProfileRevision)
	l.ok(err)
	var refusal *pki.LintError
	if _, err := l.life.sign(t.Context(), &l.claim, &claimed, csr); !errors.As(err, &refusal) {
		t.Errorf("the claim was judged under another revision: %v", err)
	}
}
