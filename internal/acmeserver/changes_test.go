package acmeserver_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/acmeserver"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
	"github.com/certctl/certctl/internal/validate"
)

// What an operator changed, and was told is done, holds for orders that are under
// way.

func pointer[T any](v T) *T { return &v }

// prove has every authorization of an order validated by the challenge.
func (c *wire) prove(a *actor, order *exchange, challenge string) {
	c.t.Helper()
	for _, at := range order.json.(map[string]any)["authorizations"].([]any) {
		z := c.post(a, at.(string), "")
		for _, one := range z.json.(map[string]any)["challenges"].([]any) {
			if m := one.(map[string]any); m["type"] == challenge {
				c.post(a, m["url"].(string), "{}")
			}
		}
		for range 200 {
			if z = c.post(a, at.(string), ""); z.text("status") != "pending" {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if z.text("status") != "valid" {
			c.t.Fatalf("not validated: %s", z.body)
		}
	}
}

// A CAA check whose refusal was only reported counts for nothing once the profile
// obeys the records.
func TestCAAReportedIsNotPassed(t *testing.T) {
	c := newWire(newWorld(t, settings{}))
	c.createProfile(policy.Profile{ID: "caa", AuthMode: policy.Challenge, AllowedDomains: []string{".test"},
		AuthorizationRules: policy.AuthorizationRules{CAA: policy.CAAReport}})
	c.forbidden.Store(true)
	a := c.account("")
	order := c.post(a, "/acme/profile/caa/new-order", oneName)
	c.prove(a, order, "http-01")
	c.changeProfile("caa", policy.ProfilePatch{CAA: pointer(policy.CAAEnforce)})
	if got := c.post(a, order.text("finalize"), csr(t, "a.test")); got.status != 403 {
		t.Errorf("issued although the records forbid it: %d %s", got.status, got.body)
	}
}

// What an ancestor proved is not taken once the profile takes it no more.
func TestSubdomainsSwitchedOff(t *testing.T) {
	c := newWire(newWorld(t, settings{}))
	c.createProfile(policy.Profile{ID: "sub", AuthMode: policy.Challenge, AllowedDomains: []string{".test"},
		AuthorizationRules: policy.AuthorizationRules{SubdomainAuth: true}})
	a := c.account("")
	order := c.post(a, "/acme/profile/sub/new-order", `{"identifiers":[{"type":"dns","value":"a.b.test","ancestorDomain":"b.test"}]}`)
	c.prove(a, order, "dns-01")
	c.changeProfile("sub", policy.ProfilePatch{SubdomainAuth: pointer(false)})
	if got := c.post(a, order.text("finalize"), csr(t, "a.b.test")); got.status != 403 {
		t.Errorf("issued for a.b.test on a proof of b.test: %d %s", got.status, got.body)
	}
}

// An external account key is disabled while finalize asks for CAA records: the
// claim, which comes later, finds that.
func TestEABKeyDisabledDuringFinalize(t *testing.T) {
	w := newWorld(t, settings{})
	asked, answer := make(chan bool), make(chan bool)
	issuers := map[string]*issuer.Local{issuerID: w.issuer}
	slow, err := lifecycle.New(lifecycle.Config{
		CAA: lifecycle.CAA{
			Check: func(context.Context, validate.CAAQuery) validate.Outcome {
				asked <- true
				<-answer
				return validate.Outcome{}
			},
			AccountURLs: func(string) []string { return nil },
		},
		Store: w.store, Issuers: issuers, Log: slog.New(w.log), AuthzTTL: time.Hour, SweepInterval: time.Hour,
		Probe: func(context.Context, acme.ChallengeType, validate.Target) validate.Outcome { return validate.Outcome{} },
	})
	w.ok(err)
	w.http.Config.Handler, err = acmeserver.New(acmeserver.Config{
		Store: w.store, Lifecycle: slow, Issuers: issuers, Log: slog.New(w.log),
		ExternalURLs: []string{"https://" + w.http.Listener.Addr().String(), otherOrigin}, DefaultProfile: "trust",
		FinalizeWait: time.Minute, OrderTTL: 24 * time.Hour, AuthzTTL: 24 * time.Hour, ARIPollInterval: 6 * time.Hour,
	})
	w.ok(err)
	c := newWire(w)
	c.createProfile(policy.Profile{ID: "slow", AuthMode: policy.TrustAuthenticated, EABRequired: true, AllowedDomains: []string{".test"},
		AuthorizationRules: policy.AuthorizationRules{CAA: policy.CAAEnforce}})
	a := c.account("")
	id := a.kid[len(a.kid)-26:]
	c.ok(c.store.CreateEABKey(ctx, "test", store.EABKey{KeyID: "k1", ProfileIDs: []string{"slow"}}, []byte("0123456789abcdef0123456789abcdef")))
	c.ok(c.store.BindEABKey(ctx, "test", id, "k1"))
	order := c.post(a, "/acme/profile/slow/new-order", oneName)
	done := make(chan *exchange)
	go func() { done <- c.post(a, order.text("finalize"), csr(t, "a.test")) }()
	<-asked
	c.ok(c.store.DisableEABKey(ctx, "test", "k1"))
	answer <- true
	if got := <-done; got.status != 403 {
		t.Errorf("issued after the key's end was acknowledged: %d %s", got.status, got.body)
	}
}

// A key that was reported compromised, and the key of any account, get no
// certificate.
func TestKeysThatGetNoCertificate(t *testing.T) {
	c := newWire(newWorld(t, settings{}))
	a, b := c.account(""), c.account("")
	finalize := func(request string) *exchange {
		order := c.post(a, "/acme/new-order", oneName)
		return c.post(a, order.text("finalize"), request)
	}
	request := csr(t, "a.test")
	issued := finalize(request)
	serial := issued.text("certificate")
	serial = serial[len(serial)-32:]
	if again := finalize(request); again.text("status") != "valid" {
		t.Fatalf("a key that is used again: %d %s", again.status, again.body)
	}
	c.ok(c.store.RevokeCertificate(ctx, "test", serial, pki.ReasonKeyCompromise))
	if got := finalize(request); got.status != 400 || !strings.Contains(string(got.body), "reported compromised") {
		t.Errorf("after its compromise was reported: %d %s", got.status, got.body)
	}
	if got := finalize(csrWith(t, b.key, "a.test")); got.status != 400 || !strings.Contains(string(got.body), "that of an account") {
		t.Errorf("the key of another account: %d %s", got.status, got.body)
	}
}
