package pki

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Chain is a way from an issuing CA to a root: its own, or one by which another CA, that relying parties trust already,
// has signed the issuing CA's key too (RFC 8555, Section 7.4.2). It does not change once it is made.
type Chain struct {
	id          string
	certs       []*x509.Certificate // as they follow a leaf: the issuing CA's first, without the root
	root        *x509.Certificate   // nil when it is not known
	pem         []byte              // of certs
	constraints *NameConstraints
}

// NewChain makes a chain of certificates in the order in which they follow a leaf. A self-signed one at the end is the
// root. Whether they belong together is not asked; Check does.
func NewChain(certs []*x509.Certificate) (*Chain, error) {
	c := &Chain{certs: slices.Clone(certs), constraints: NameConstraintsOf(certs...)}
	if last := len(certs) - 1; last >= 0 && selfIssued(certs[last]) {
		c.certs, c.root = c.certs[:last], certs[last]
	}
	if len(c.certs) == 0 {
		return nil, errors.New("there is no certificate below a root")
	}
	c.pem = EncodePEM(c.certs...)
	sum := sha256.New()
	for _, cert := range c.certs {
		sum.Write(cert.Raw)
	}
	c.id = hex.EncodeToString(sum.Sum(nil)[:8])
	return c, nil
}

// selfIssued reports whether a certificate says that it is signed with its own key.
func selfIssued(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawIssuer, cert.RawSubject) &&
		(len(cert.AuthorityKeyId) == 0 || bytes.Equal(cert.AuthorityKeyId, cert.SubjectKeyId))
}

// ID names the chain: the beginning of the SHA-256 of what is served of it, so that it is the same with and without
// its root.
func (c *Chain) ID() string { return c.id }

// PEM returns what follows a leaf, without the root. The caller must not change it.
func (c *Chain) PEM() []byte { return c.pem }

// Root returns the root, nil when it is not known.
func (c *Chain) Root() *x509.Certificate { return c.root }

// All returns the certificates with the root, when it is known, at the end.
func (c *Chain) All() []*x509.Certificate {
	if c.root == nil {
		return slices.Clone(c.certs)
	}
	return append(slices.Clone(c.certs), c.root)
}

// Name returns the common name of whoever issued the last certificate, by which clients choose among chains.
func (c *Chain) Name() string { return c.certs[len(c.certs)-1].Issuer.CommonName }

// NotAfter returns when the first of the certificates to expire does so.
func (c *Chain) NotAfter() time.Time {
	end := c.certs[0].NotAfter
	for _, cert := range c.All() {
		if cert.NotAfter.Before(end) {
			end = cert.NotAfter
		}
	}
	return end
}

// SignsCRLs reports whether the chain's certificate of the issuing CA lets it sign CRLs. Without that, relying parties
// that take this chain cannot use the CA's CRLs.
func (c *Chain) SignsCRLs() bool {
	return c.certs[0].KeyUsage&x509.KeyUsageCRLSign != 0
}

// Permitted returns the chain's name constraints, as NameConstraints.Permitted does.
func (c *Chain) Permitted() (domains []string, ips []netip.Prefix) { return c.constraints.Permitted() }

// Check judges a chain that is to be offered beside own, the CA's own one, as a relying party would that trusts its
// root: its first certificate must be one of the same CA, every link must hold, and it must leave something that the
// CA can issue. Without the root the last signature cannot be verified. Errors are for the operator.
func (c *Chain) Check(own *Chain, now time.Time) error {
	if c.id == own.id {
		return errors.New("this is the issuer's own chain")
	}
	if err := c.checkCA(own.certs[0]); err != nil {
		return fmt.Errorf("the first certificate %w", err)
	}
	all := c.All()
	for i, cert := range all {
		if err := c.checkCertificate(i, cert, now); err != nil {
			return fmt.Errorf("certificate %d (%s) %w", i+1, cert.Subject, err)
		}
		if i == len(all)-1 {
			break
		}
		if err := checkLink(cert, all[i+1]); err != nil {
			return fmt.Errorf("certificate %d (%s) %w", i+1, cert.Subject, err)
		}
	}
	if !c.allows(x509.ExtKeyUsageServerAuth) && !c.allows(x509.ExtKeyUsageClientAuth) {
		return errors.New("the extended key usages of its certificates allow neither servers nor clients")
	}
	domains, ips := NameConstraintsOf(append(own.All(), all...)...).leave()
	if ownDomains, _ := own.constraints.leave(); ownDomains && !domains || !domains && !ips {
		return errors.New("its name constraints permit no name that the issuer may issue for")
	}
	return nil
}

// checkCA holds that the first certificate is one of the CA that leaves are issued by: they name their issuer by its
// subject and by its key identifier.
func (c *Chain) checkCA(issuing *x509.Certificate) error {
	cert := c.certs[0]
	public, ok := issuing.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(cert.PublicKey):
		return errors.New("is not for the issuer's key; it must be the issuer's certificate, signed by another CA, and the others must follow in order")
	case !bytes.Equal(cert.RawSubject, issuing.RawSubject):
		return fmt.Errorf("has the subject %q; it must be that of the issuer's request, %q, byte for byte", cert.Subject, issuing.Subject)
	case len(cert.SubjectKeyId) > 0 && !bytes.Equal(cert.SubjectKeyId, issuing.SubjectKeyId):
		return fmt.Errorf("has the subject key identifier %x; it must have that of the issuer's request, %x, or none: have it signed with the extensions of the request copied",
			cert.SubjectKeyId, issuing.SubjectKeyId)
	}
	return nil
}

// checkCertificate judges one certificate, above which stand those before it in the chain.
func (c *Chain) checkCertificate(i int, cert *x509.Certificate, now time.Time) error {
	switch {
	case cert != c.root && (!cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0):
		return errors.New("is not that of a CA which may sign certificates")
	case cert != c.root && selfIssued(cert):
		return errors.New("is self-signed, so it belongs at the end")
	case now.Before(cert.NotBefore):
		return fmt.Errorf("is valid from %s only", cert.NotBefore.UTC().Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return fmt.Errorf("has expired on %s", cert.NotAfter.UTC().Format(time.RFC3339))
	case cert.BasicConstraintsValid && cert.MaxPathLen >= 0 && cert.MaxPathLen < i:
		return fmt.Errorf("allows %d CAs below it, and there are %d", cert.MaxPathLen, i)
	case len(cert.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("has a critical extension that few understand: %s", cert.UnhandledCriticalExtensions[0])
	}
	if key, ok := cert.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSABits {
		return fmt.Errorf("has an RSA key of %d bits, which relying parties refuse", key.N.BitLen())
	}
	for _, before := range c.certs[:i] {
		// Paths are built by name and key: one that meets a CA twice is refused.
		if bytes.Equal(before.RawSubject, cert.RawSubject) && bytes.Equal(before.RawSubjectPublicKeyInfo, cert.RawSubjectPublicKeyInfo) {
			return errors.New("is of a CA that comes earlier in the chain")
		}
	}
	if cert == c.root {
		// How old roots have signed themselves matters to nobody.
		if err := cert.CheckSignatureFrom(cert); err != nil && !errors.As(err, new(x509.InsecureAlgorithmError)) {
			return fmt.Errorf("is not signed with its own key: %w", err)
		}
	}
	return nil
}

// minRSABits is what relying parties ask of a CA's RSA key at least.
const minRSABits = 2048

// checkLink holds that a certificate was issued by the one after it.
func checkLink(cert, above *x509.Certificate) error {
	switch {
	case !bytes.Equal(cert.RawIssuer, above.RawSubject):
		return fmt.Errorf("was issued by %q, and after it comes the certificate of %q", cert.Issuer, above.Subject)
	case len(cert.AuthorityKeyId) > 0 && len(above.SubjectKeyId) > 0 && !bytes.Equal(cert.AuthorityKeyId, above.SubjectKeyId):
		return fmt.Errorf("was signed with the key %x, and after it comes the key %x", cert.AuthorityKeyId, above.SubjectKeyId)
	}
	if err := cert.CheckSignatureFrom(above); err != nil {
		return fmt.Errorf("is not signed by the one after it: %w", err)
	}
	return nil
}

// allows reports whether every certificate of the chain allows a use of leaves. One without extended key usages allows
// every use.
func (c *Chain) allows(usage x509.ExtKeyUsage) bool {
	for _, cert := range c.All() {
		if len(cert.ExtKeyUsage)+len(cert.UnknownExtKeyUsage) == 0 {
			continue
		}
		if !slices.Contains(cert.ExtKeyUsage, usage) && !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageAny) {
			return false
		}
	}
	return true
}

// Carries reports whether a leaf of the CA verifies under the chain now, as far as that differs between chains: by
// their validity, their name constraints and their extended key usages.
func (c *Chain) Carries(leaf *x509.Certificate, now time.Time) bool {
	for _, cert := range c.All() {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return false
		}
	}
	if !slices.ContainsFunc(leaf.ExtKeyUsage, c.allows) {
		return false
	}
	ips := make([]netip.Addr, 0, len(leaf.IPAddresses))
	for _, ip := range leaf.IPAddresses {
		addr, _ := netip.AddrFromSlice(ip)
		ips = append(ips, addr)
	}
	return c.constraints.Check(leaf.DNSNames, ips) == nil
}

// OfferedChains returns those of a CA's chains, in the order given, that carry the leaf now: what a client is offered
// for it verifies. When none does, as after the CA's own end, all are offered.
func OfferedChains(leaf []byte, chains []*Chain, now time.Time) ([]*Chain, error) {
	if len(chains) < 2 {
		return chains, nil
	}
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		return nil, err
	}
	offered := slices.DeleteFunc(slices.Clone(chains), func(c *Chain) bool { return !c.Carries(cert, now) })
	if len(offered) == 0 {
		return chains, nil
	}
	return offered, nil
}
