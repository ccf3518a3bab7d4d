package acmeserver_test

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/policy"
)

// issued has a certificate issued under the profile, and returns it.
func (c *wire) issued(a *actor, directory string) *x509.Certificate {
	c.t.Helper()
	e := c.post(a, directory+"/new-order", oneName)
	if e.status != http.StatusCreated {
		c.t.Fatalf("new-order: %d %s", e.status, e.body)
	}
	e = c.post(a, e.text("finalize"), csr(c.t, "a.test"))
	if e.text("status") != "valid" {
		c.t.Fatalf("finalize: %d %s", e.status, e.body)
	}
	return c.leaf([]byte(c.post(a, e.text("certificate"), "").body))
}

func hasNoRevAvail(cert *x509.Certificate) bool {
	for _, e := range cert.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 56}) {
			return true
		}
	}
	return false
}

// TestNoRevocationBelow issues on both sides of the bound. A certificate without
// revocation information is revoked like others, which ends its use here and tells
// its client to renew, but stands on no CRL.
func TestNoRevocationBelow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, settings{})
	c := newWire(w)
	alice := c.account("")
	directory := "/acme/profile/trust"
	seconds := int64(certLifetime / time.Second)

	w.changeProfile("trust", policy.ProfilePatch{NoRevocationBelowSeconds: &seconds})
	long := c.issued(alice, directory) // not shorter
	if hasNoRevAvail(long) || !slices.Equal(long.OCSPServer, []string{"http://ca.test/ocsp"}) || !slices.Equal(long.CRLDistributionPoints, []string{"http://ca.test/crl"}) {
		t.Errorf("noRevAvail %v, OCSP %q, CRL %q", hasNoRevAvail(long), long.OCSPServer, long.CRLDistributionPoints)
	}
	seconds++
	w.changeProfile("trust", policy.ProfilePatch{NoRevocationBelowSeconds: &seconds})
	short := c.issued(alice, directory)
	if !hasNoRevAvail(short) || len(short.OCSPServer)+len(short.CRLDistributionPoints) > 0 || len(short.IssuingCertificateURL) != 1 {
		t.Errorf("noRevAvail %v, OCSP %q, CRL %q", hasNoRevAvail(short), short.OCSPServer, short.CRLDistributionPoints)
	}
	// What was decided when it was claimed stays.
	seconds = 0
	w.changeProfile("trust", policy.ProfilePatch{NoRevocationBelowSeconds: &seconds})

	var serials []string
	for _, cert := range []*x509.Certificate{long, short} {
		revoke := fmt.Sprintf(`{"certificate":%q,"reason":1}`, b64(cert.Raw))
		if e := c.post(alice, directory+"/revoke-cert", revoke); e.status != http.StatusOK {
			t.Errorf("revoke: %d %s", e.status, e.body)
		}
		serial := fmt.Sprintf("%032x", cert.SerialNumber)
		serials = append(serials, serial)
		stored, err := w.store.Certificate(ctx, serial)
		w.ok(err)
		if stored.RevokedAt.IsZero() || stored.NoRevAvail != hasNoRevAvail(cert) {
			t.Errorf("recorded is %+v", stored)
		}
	}
	w.checkCRL(serials[:1])
}
