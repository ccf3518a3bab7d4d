package lifecycle

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

func TestOCSPSigner(t *testing.T) {
	t.Parallel()
	p := newPublished(t, 0)
	make := func() *OCSPSigner {
		t.Helper()
		o, err := NewOCSPSigner(p.Context(), p.store, p.issuer)
		p.ok(err)
		return o
	}
	o := make()
	first := o.Current()
	cert := first.Certificate
	p.ok(cert.CheckSignatureFrom(p.ca.Issuing))
	if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) || len(cert.DNSNames) > 0 {
		t.Errorf("%+v", cert)
	}
	if life := cert.NotAfter.Sub(cert.NotBefore) + time.Second; life != ocspCertLife {
		t.Errorf("it lives %v", life)
	}
	record, err := p.store.Certificate(p.Context(), first.Serial)
	if err != nil || !slices.Equal(record.DER, cert.Raw) || record.IssuerID != "iss" || record.ProfileID != "" {
		t.Errorf("recorded is %+v, %v", record, err)
	}
	events, err := p.store.AuditEvents(p.Context(), store.AuditQuery{Limit: 10})
	p.ok(err)
	if len(events) != 1 || events[0].Action != audit.CertificateIssued || events[0].ResourceID != first.Serial {
		t.Errorf("events %+v", events)
	}
	if again := make().Current(); again.Serial != first.Serial || !slices.Equal(again.Certificate.Raw, cert.Raw) {
		t.Error("it was not taken up again")
	}

	p.advance(ocspCertLife - ocspCertRenew - time.Hour)
	p.ok(o.renew(p.Context()))
	if o.Current() != first {
		t.Error("renewed too early")
	}
	p.advance(2 * time.Hour)
	p.ok(o.renew(p.Context()))
	second := o.Current()
	if second.Serial == first.Serial {
		t.Error("not renewed")
	}
	if slices.Equal(second.Certificate.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
		t.Error("renewed with the same key")
	}
	if stored := make().Current(); stored.Serial != second.Serial {
		t.Error("the new one was not stored")
	}

	p.revoke(second.Serial)
	p.ok(o.renew(p.Context()))
	if third := o.Current(); third.Serial == second.Serial {
		t.Error("a revoked one signs on")
	}
}

// TestOCSPSignerAtTheEndOfTheCA does not make a certificate a minute when none
// could live longer.
func TestOCSPSignerAtTheEndOfTheCA(t *testing.T) {
	t.Parallel()
	p := newPublished(t, 0)
	p.advance(p.issuer.NotAfter().Sub(p.store.Now()) - 5*24*time.Hour)
	o, err := NewOCSPSigner(p.Context(), p.store, p.issuer)
	p.ok(err)
	first := o.Current()
	if !first.Certificate.NotAfter.Equal(p.issuer.NotAfter()) {
		t.Errorf("it ends %v, the CA %v", first.Certificate.NotAfter, p.issuer.NotAfter())
	}
	p.advance(time.Hour)
	p.ok(o.renew(p.Context()))
	if o.Current() != first {
		t.Error("made anew without need")
	}
}

// TestOCSPSignerOfAnotherCA makes a certificate of the issuer that is there now.
func TestOCSPSignerOfAnotherCA(t *testing.T) {
	t.Parallel()
	p, other := newPublished(t, 0), newPublished(t, 0)
	key, err := NewOCSPSigner(p.Context(), other.store, other.issuer)
	p.ok(err)
	der, err := pki.MarshalKey(key.Current().Key)
	p.ok(err)
	foreign := key.Current().Certificate.Raw
	p.ok(p.store.StoreServerCertificate(p.Context(), &store.Certificate{Serial: key.Current().Serial, IssuerID: "iss", DER: foreign,
		NotBefore: p.store.Now(), NotAfter: p.store.Now()}, "ocsp-responder:iss", joinKeyAndCert(der, foreign)))
	o, err := NewOCSPSigner(p.Context(), p.store, p.issuer)
	p.ok(err)
	p.ok(o.Current().Certificate.CheckSignatureFrom(p.ca.Issuing))
}
