package acmeserver_test

import (
	"regexp"
	"testing"
)

// TestChainIsStrictPEM: "The textual encoding of certificates in this file MUST
// use the strict encoding and MUST NOT include explanatory text" (RFC 8555,
// Section 9.1; RFC 7468, Section 3).
func TestChainIsStrictPEM(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	alice := c.account("")
	e := c.post(alice, "/acme/new-order", oneName)
	e = c.post(alice, e.text("finalize"), csr(t, "a.test"))
	e = c.post(alice, e.text("certificate"), "")
	strict := regexp.MustCompile(`^(-----BEGIN CERTIFICATE-----\n([A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{1,64}={0,2}\n-----END CERTIFICATE-----\n){2}$`)
	if !strict.Match(e.body) {
		t.Errorf("not a certificate and its issuer in strict encoding:\n%s", e.body)
	}
}
