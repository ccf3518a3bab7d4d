// Package issuer signs certificates. Local does it with a key of its own; it knows nothing of orders or storage.
package issuer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/certctl/certctl/internal/pki"
)

// LocalConfig is what a Local is made of.
type LocalConfig struct {
	ID            string
	Root, Issuing *x509.Certificate
	Key           crypto.Signer // of Issuing

	// Where relying parties find the complete CRL, the issuing certificate and the OCSP responder. Empty: certificates
	// carry no such pointer.
	CRLURL, AIAURL, OCSPURL string
	// ShardURLs are where they find the shards of the CRL, the first shard first. Certificates point to theirs then,
	// and not to the complete CRL. None: the CRL is not divided.
	ShardURLs []string

	// LintWarnings is told which recommendations a certificate does not follow, after it was signed; may be nil.
	LintWarnings func(serial string, warnings []pki.LintFinding)
}

// Local issues from a CA whose key this process holds or can use. It does not change once it is made and may be used
// by many goroutines.
type Local struct {
	id            string
	root, issuing *x509.Certificate
	key           crypto.Signer
	constraints   *pki.NameConstraints

	roots, intermediates *x509.CertPool

	shardURLs []string
	pointers  pki.Pointers // but for the CRL's shard

	lintWarnings func(serial string, warnings []pki.LintFinding)

	rootFingerprint string
}

// NewLocal checks that the parts belong together: the key is that of the issuing certificate, which may issue
// certificates and CRLs and was issued by the root. Whether they are still valid is not asked, since a CA at its end
// must still be able to publish CRLs; Issue refuses what would outlive it.
func NewLocal(config LocalConfig) (*Local, error) {
	if config.ID == "" || config.Root == nil || config.Issuing == nil || config.Key == nil {
		return nil, errors.New("an issuer needs an id, a root, an issuing certificate and its key")
	}
	l := &Local{
		id:            config.ID,
		root:          config.Root,
		issuing:       config.Issuing,
		key:           pki.Deterministic(config.Key),
		constraints:   pki.NameConstraintsOf(config.Issuing, config.Root),
		roots:         x509.NewCertPool(),
		intermediates: x509.NewCertPool(),
		lintWarnings:  config.LintWarnings,
	}
	l.roots.AddCert(config.Root)
	l.intermediates.AddCert(config.Issuing)
	if err := l.checkParts(); err != nil {
		return nil, fmt.Errorf("issuer %s: %w", l.id, err)
	}
	if err := l.publish(&config); err != nil {
		return nil, fmt.Errorf("issuer %s: %w", l.id, err)
	}
	fingerprint := sha256.Sum256(config.Root.Raw)
	l.rootFingerprint = hex.EncodeToString(fingerprint[:])
	return l, nil
}

func (l *Local) checkParts() error {
	public, ok := l.key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(l.issuing.PublicKey) {
		return errors.New("the key is not that of the issuing certificate")
	}
	const needed = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if !l.issuing.BasicConstraintsValid || !l.issuing.IsCA || l.issuing.KeyUsage&needed != needed {
		return errors.New("the issuing certificate is not that of a CA which may sign certificates and CRLs")
	}
	if len(l.issuing.SubjectKeyId) == 0 {
		return errors.New("the issuing certificate has no subject key identifier")
	}
	if err := l.verify(l.issuing, l.issuing.NotBefore); err != nil {
		return fmt.Errorf("the issuing certificate does not belong to the root: %w", err)
	}
	return nil
}

// verify builds and checks the chain from a certificate to the root as a relying party would, at the given time or
// at the beginning of the CA, whichever is later.
func (l *Local) verify(cert *x509.Certificate, at time.Time) error {
	for _, ca := range []*x509.Certificate{l.issuing, l.root} {
		if at.Before(ca.NotBefore) {
			at = ca.NotBefore
		}
	}
	_, err := cert.Verify(x509.VerifyOptions{
		Roots:         l.roots,
		Intermediates: l.intermediates,
		CurrentTime:   at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err
}

// Issue signs the certificate that the leaf describes, pointers included, and returns its DER. Called twice with the
// same leaf it returns the same bytes, if Deterministic.
//
// What must not be issued is refused before the key is used, for a signature cannot be taken back: names outside of
// the CA's constraints, an end after the CA's own, and what breaks a lint (the error is then a *pki.LintError). What
// comes back from the key is read again and compared with the leaf. The signature itself was already verified by
// x509.CreateCertificate.
func (l *Local) Issue(ctx context.Context, leaf pki.Leaf) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if leaf.NotAfter.After(l.NotAfter()) {
		return nil, fmt.Errorf("issuer %s: the certificate would outlive the CA, which ends %s", l.id, l.NotAfter().Format(time.RFC3339))
	}
	if err := l.constraints.Check(leaf.DNSNames, leaf.IPs); err != nil {
		return nil, fmt.Errorf("issuer %s: %w", l.id, err)
	}
	template, err := leaf.Template()
	if err != nil {
		return nil, fmt.Errorf("issuer %s: %w", l.id, err)
	}
	der, err := l.sign(template, &leaf)
	if err != nil {
		return nil, fmt.Errorf("issuer %s: signing: %w", l.id, err)
	}
	if err := l.inspect(der, template, &leaf); err != nil {
		return nil, fmt.Errorf("issuer %s: the signed certificate is not the one that was meant: %w", l.id, err)
	}
	return der, nil
}

// sign lints the certificate that the template makes, then signs it.
func (l *Local) sign(template *x509.Certificate, leaf *pki.Leaf) ([]byte, error) {
	signer := pki.LintFirst(l.key, leaf.LintSources)
	der, err := x509.CreateCertificate(nil, template, l.issuing, leaf.PublicKey, signer)
	if err != nil {
		return nil, err
	}
	if warnings := signer.Warnings(); len(warnings) > 0 && l.lintWarnings != nil {
		l.lintWarnings(leaf.Serial, warnings)
	}
	return der, nil
}

// inspect compares what was signed with what was to be signed.
func (l *Local) inspect(der []byte, template *x509.Certificate, leaf *pki.Leaf) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case cert.SerialNumber.Cmp(template.SerialNumber) != 0:
		return errors.New("serial number")
	case !cert.NotBefore.Equal(leaf.NotBefore) || !cert.NotAfter.Equal(leaf.NotAfter):
		return errors.New("validity")
	case !bytes.Equal(cert.RawIssuer, l.issuing.RawSubject):
		return errors.New("issuer")
	case cert.Subject.CommonName != leaf.CommonName:
		return errors.New("subject")
	case !slices.Equal(cert.DNSNames, leaf.DNSNames) || !slices.EqualFunc(cert.IPAddresses, leaf.IPs, sameIP):
		return errors.New("subject alternative names")
	case len(cert.EmailAddresses)+len(cert.URIs) > 0:
		return errors.New("names of other kinds")
	case !ok || !public.Equal(leaf.PublicKey):
		return errors.New("public key")
	case !bytes.Equal(cert.SubjectKeyId, template.SubjectKeyId) || !bytes.Equal(cert.AuthorityKeyId, l.issuing.SubjectKeyId):
		return errors.New("key identifiers")
	case cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage != template.KeyUsage || !slices.Equal(cert.ExtKeyUsage, template.ExtKeyUsage):
		return errors.New("usages")
	}
	if l.constraints != nil {
		return l.verify(cert, leaf.NotBefore)
	}
	return nil
}

func sameIP(ip net.IP, addr netip.Addr) bool {
	return bytes.Equal(ip, addr.AsSlice())
}

// ID returns the name under which profiles refer to the issuer.
func (l *Local) ID() string { return l.id }

// Deterministic reports whether the key repeats its signatures, so that a claimed certificate can be signed again.
func (l *Local) Deterministic() bool { return pki.SignsDeterministically(l.key) }

// Chain returns the certificates that follow a leaf, without the root, which relying parties have.
func (l *Local) Chain() []*x509.Certificate { return []*x509.Certificate{l.issuing} }

// Root returns the certificate that relying parties are given to trust.
func (l *Local) Root() *x509.Certificate { return l.root }

// RootFingerprint returns the SHA-256 of the root in lower-case hexadecimal, for people to compare.
func (l *Local) RootFingerprint() string { return l.rootFingerprint }

// NotAfter returns the last moment at which a certificate of this issuer can be valid.
func (l *Local) NotAfter() time.Time {
	if l.root.NotAfter.Before(l.issuing.NotAfter) {
		return l.root.NotAfter
	}
	return l.issuing.NotAfter
}

// CheckNames returns an error for the first name that the CA's name constraints do not permit.
func (l *Local) CheckNames(dnsNames []string, ips []netip.Addr) error {
	return l.constraints.Check(dnsNames, ips)
}

// Permitted returns the CA's name constraints, as pki.NameConstraints.Permitted does.
func (l *Local) Permitted() (domains []string, ips []netip.Prefix) { return l.constraints.Permitted() }
