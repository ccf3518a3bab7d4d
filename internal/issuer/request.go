package issuer

import (
	"crypto/x509"
	"fmt"
	"slices"
)

// requested are the extensions of the issuing certificate that another CA should put into one of its own: subject key
// identifier, which leaves point to, key usage, basic constraints and name constraints.
var requested = []string{"2.5.29.14", "2.5.29.15", "2.5.29.19", "2.5.29.30"}

// CSR returns a request (PKCS #10, DER) for another CA to sign the issuer's key under the issuer's own name, with which
// the certificates that it issues verify under that CA too. It asks for the extensions of the issuing certificate.
func (l *Local) CSR() ([]byte, error) {
	template := &x509.CertificateRequest{RawSubject: l.issuing.RawSubject}
	for _, extension := range l.issuing.Extensions {
		if slices.Contains(requested, extension.Id.String()) {
			template.ExtraExtensions = append(template.ExtraExtensions, extension)
		}
	}
	der, err := x509.CreateCertificateRequest(nil, template, l.key)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", l.id, err)
	}
	return der, nil
}
