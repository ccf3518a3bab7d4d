package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/certctl/certctl/internal/pki"
)

// publish takes up where revocations are published.
func (l *Local) publish(config *LocalConfig) error {
	list := func(url string) []string {
		if url == "" {
			return nil
		}
		return []string{url}
	}
	l.shardURLs = slices.Clone(config.ShardURLs)
	l.pointers = pki.Pointers{CRL: list(config.CRLURL), AIA: list(config.AIAURL), OCSP: list(config.OCSPURL)}
	return pki.CheckURLs(slices.Concat(l.pointers.CRL, l.pointers.AIA, l.pointers.OCSP, l.shardURLs))
}

// Pointers returns the URLs that the certificate with that serial should carry: of the CRL, or of its shard when the
// CRL is divided, of the issuing certificate and of the OCSP responder.
func (l *Local) Pointers(serial string) pki.Pointers {
	p := l.pointers
	if len(l.shardURLs) > 0 {
		shard := pki.Shard(serial, len(l.shardURLs))
		p.CRL = l.shardURLs[shard-1 : shard : shard]
	}
	return p
}

// ShardURLs returns the URLs of the shards of the CRL, the first shard first; none when it is not divided. The caller
// must not change them.
func (l *Local) ShardURLs() []string { return l.shardURLs }

// SignCRL signs a CRL: shard 0 is the complete one, which lists every revoked certificate of this issuer. It carries no
// issuing distribution point, which is critical and not understood by every relying party. That of a shard names the
// URL to which the certificates that it covers point (RFC 5280, Section 5.2.5), and nothing else: its scope is every
// certificate of the issuer with that pointer, of whatever kind.
func (l *Local) SignCRL(shard int, crl pki.CRL) ([]byte, error) {
	switch {
	case shard < 0 || shard > len(l.shardURLs):
		return nil, fmt.Errorf("issuer %s: the CRL has no shard %d", l.id, shard)
	case shard == 0:
		crl.IDP = nil
	default:
		// RFC 5280, Section 5.2.5: this CA issues end-entity certificates only.
		crl.IDP = &pki.IDP{URL: l.shardURLs[shard-1], OnlyUserCerts: true}
	}
	der, err := crl.Sign(l.issuing, l.key)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", l.id, err)
	}
	return der, nil
}

// IssueOCSPResponder signs the certificate of a key that may sign OCSP responses about what this issuer issued. Like
// Issue it refuses what would outlive the CA, and reads again what it signed.
func (l *Local) IssueOCSPResponder(ctx context.Context, responder pki.OCSPResponder) (*x509.Certificate, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if responder.NotAfter.After(l.NotAfter()) {
		return nil, fmt.Errorf("issuer %s: the OCSP responder's certificate would outlive the CA", l.id)
	}
	template, err := responder.Template()
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", l.id, err)
	}
	der, err := x509.CreateCertificate(nil, template, l.issuing, responder.PublicKey, pki.LintFirst(l.key, nil))
	if err != nil {
		return nil, fmt.Errorf("issuer %s: signing: %w", l.id, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if cert.IsCA || !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}) || cert.Subject.CommonName != responder.CommonName {
		return nil, errors.New("the signed OCSP responder's certificate is not the one that was meant")
	}
	return cert, nil
}
