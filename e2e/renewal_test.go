package e2e

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"
	"time"
)

// renewalInfo is what a client makes of renewal information.
type renewalInfo struct {
	Start, End     time.Time
	ExplanationURL string
	RetryAfter     time.Duration
	RenewNow       bool // in the next hour
}

// TestRenewalInformation has clients ask when to renew, the operator pull that
// forward, and the clients renew with "replaces" (RFC 9773).
func TestRenewalInformation(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	s := startServer(t, n.flags()...)
	s.with(t, "prof-test", map[string]any{
		"acme_auth_mode": "challenge", "allowed_domains": []string{".example.com"}, "max_ttl_seconds": 36_000,
	})
	for _, library := range []string{"lego", "acmez"} {
		t.Run(library, func(t *testing.T) { s.renewalInformation(t, n, library) })
	}
}

func (s *server) renewalInformation(t *testing.T, n *network, library string) {
	name, other := library+".example.com", "other-"+library+".example.com"
	c := newClient(t, s, n, library, "prof-test")
	c.run(t, c.solving("http-01"), "obtain", name).must(t)
	c.run(t, c.solving("http-01"), "obtain", other).must(t)
	old := c.leaf(t, name)
	writeFile(t, readFile(t, c.chain(name)), c.chain("old")) // renewing overwrites it

	var early renewalInfo
	c.get(t, &early, nil, "renewal-info", name)
	if early.Start.Before(old.NotBefore) || !early.End.After(early.Start) || early.End.After(old.NotAfter) || early.RenewNow || early.ExplanationURL != "" {
		t.Errorf("valid from %v until %v: %+v", old.NotBefore, old.NotAfter, early)
	}
	if early.RetryAfter <= 0 || early.RetryAfter > time.Hour { // a tenth of ten hours
		t.Errorf("ask again after %v", early.RetryAfter)
	}

	const page = "https://wiki.example.com/why"
	began := time.Now().Add(-time.Second)
	s.certctl(t, "cert", "renew", serialOf(old), "--within", "30m", "--explanation-url", page).must(t)
	var pulled, untouched renewalInfo
	c.get(t, &pulled, nil, "renewal-info", name)
	if pulled.Start.Before(began.Truncate(time.Second)) || pulled.End.After(time.Now().Add(30*time.Minute)) || !pulled.End.After(pulled.Start) ||
		!pulled.RenewNow || pulled.ExplanationURL != page {
		t.Errorf("pulled forward at %v: %+v", began, pulled)
	}
	if c.get(t, &untouched, nil, "renewal-info", other); untouched.RenewNow || untouched.ExplanationURL != "" {
		t.Errorf("the other certificate: %+v", untouched)
	}

	certID := base64.RawURLEncoding.EncodeToString(old.AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(old.SerialNumber.Bytes())
	if old.SerialNumber.Bytes()[0] >= 0x80 {
		t.Fatalf("the serial %x needs a zero in front", old.SerialNumber)
	}
	renew := func(of string) result {
		if library == "lego" {
			return c.run(t, c.solving("http-01"), "renew", of).must(t)
		}
		return c.run(t, append(c.solving("http-01"), "-replaces", of), "obtain", name).must(t)
	}
	if ran := renew(name); !strings.Contains(ran.stderr, `"replaces":"`+certID+`"`) {
		t.Errorf("the order did not say what it replaces\n%s", ran.stderr)
	}
	renewed := c.leaf(t, name)
	if renewed.SerialNumber.Cmp(old.SerialNumber) == 0 {
		t.Error("no new certificate")
	}
	var next renewalInfo
	if c.get(t, &next, nil, "renewal-info", name); next.RenewNow || next.ExplanationURL != "" {
		t.Errorf("the new certificate: %+v", next)
	}
	s.mayNotReplaceAgain(t, c, name)

	// A client renews at once when its certificate was revoked.
	s.certctl(t, "cert", "revoke", serialOf(renewed)).must(t)
	var revoked renewalInfo
	if c.get(t, &revoked, nil, "renewal-info", name); !revoked.RenewNow || !revoked.End.Before(time.Now()) {
		t.Errorf("revoked: %+v", revoked)
	}
}

// mayNotReplaceAgain tries to replace once more a certificate that a client keeps
// as "old" (RFC 9773, Section 5).
func (s *server) mayNotReplaceAgain(t *testing.T, c *libraryClient, name string) {
	t.Helper()
	again := *c
	again.library = "acmez" // the one that does not hide the refusal; the account is the same
	again.run(t, []string{"-replaces", "old"}, "order", name).mustFail(t, "alreadyReplaced", "409")
	again.run(t, []string{"-replaces", name}, "order", "third-"+name).mustFail(t, "acme:error:malformed", "none of its names")
	stranger := newClient(t, s, c.network, "acmez", "prof-test")
	writeFile(t, readFile(t, c.chain(name)), stranger.chain(name))
	stranger.run(t, []string{"-replaces", name}, "order", name).mustFail(t, "acme:error:unauthorized")

	if c.library == "lego" { // it orders again without "replaces"
		ran := c.run(t, c.solving("http-01"), "renew", "old").must(t)
		if lines := strings.Split(ran.stderr, "\n"); !slices.ContainsFunc(lines, func(line string) bool {
			return strings.HasPrefix(line, "< 409 ") && strings.Contains(line, "alreadyReplaced")
		}) {
			t.Errorf("nobody told lego that the certificate was replaced\n%s", ran.stderr)
		}
	}
}
