package pki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// ExtKeyUsage names what a certificate may be used for, as profiles list it.
type ExtKeyUsage string

// The extended key usages of RFC 5280, Section 4.2.1.12 that certificates may have.
const (
	ServerAuth ExtKeyUsage = "server_auth"
	ClientAuth ExtKeyUsage = "client_auth"
)

// AllExtKeyUsages lists every ExtKeyUsage.
var AllExtKeyUsages = []ExtKeyUsage{ServerAuth, ClientAuth}

// Leaf says everything about an end-entity certificate that its issuer does not decide. The same Leaf, issuer and
// deterministic key give the same bytes.
type Leaf struct {
	Serial              string    // as NewSerial makes it
	NotBefore, NotAfter time.Time // both inclusive (RFC 5280, Section 4.1.2.5), in whole seconds
	CommonName          string    // "" for an empty subject; otherwise one of the names below
	DNSNames            []string  // canonical: lower-case A-labels, "*." at most in front
	IPs                 []netip.Addr
	PublicKey           crypto.PublicKey
	ExtKeyUsages        []ExtKeyUsage

	CRLDistributionPoints  []string
	IssuingCertificateURLs []string
	OCSPServers            []string

	// NoRevAvail says in the certificate that nothing will ever be known of its revocation (RFC 9608).
	NoRevAvail bool

	// LintSources lists what the certificate is held against before it is signed, beside DefaultLintSources.
	LintSources []LintSource
}

var oidNoRevAvail = asn1.ObjectIdentifier{2, 5, 29, 56}

// Template returns the certificate to be signed, or an error for a Leaf that breaks the rules of RFC 5280.
//
// The checks of names are not the CA's policy, only a last line: whatever went wrong before, no certificate leaves
// with a name that means something else to another reader.
func (l *Leaf) Template() (*x509.Certificate, error) {
	serial, err := ParseSerial(l.Serial)
	if err != nil {
		return nil, err
	}
	keyType, err := KeyTypeOf(l.PublicKey)
	if err != nil {
		return nil, err
	}
	keyID, err := subjectKeyID(l.PublicKey)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(l.checkValidity(), l.checkNames(), l.checkPointers()); err != nil {
		return nil, err
	}
	usages, err := l.usages()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             l.NotBefore.UTC(),
		NotAfter:              l.NotAfter.UTC(),
		Subject:               pkix.Name{CommonName: l.CommonName},
		DNSNames:              l.DNSNames,
		IPAddresses:           make([]net.IP, len(l.IPs)),
		KeyUsage:              keyUsage(keyType, l.ExtKeyUsages),
		ExtKeyUsage:           usages,
		BasicConstraintsValid: true, // with IsCA false: the extension is there, critical, and says it is no CA
		SubjectKeyId:          keyID,
		CRLDistributionPoints: l.CRLDistributionPoints,
		IssuingCertificateURL: l.IssuingCertificateURLs,
		OCSPServer:            l.OCSPServers,
	}
	for i, addr := range l.IPs {
		template.IPAddresses[i] = addr.AsSlice()
	}
	if l.NoRevAvail {
		// RFC 9608, Section 2: the value is NULL and the extension not critical.
		template.ExtraExtensions = []pkix.Extension{{Id: oidNoRevAvail, Value: asn1.NullBytes}}
	}
	return template, nil
}

// keyUsage follows RFC 5280, Section 4.2.1.3: every key signs handshakes; only RSA keys can also receive the
// encrypted premaster secret of TLS before 1.3, and only a server does (Section 4.2.1.12).
func keyUsage(t KeyType, extended []ExtKeyUsage) x509.KeyUsage {
	switch t {
	case RSA2048, RSA3072, RSA4096:
		if slices.Contains(extended, ServerAuth) {
			return x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
		}
	}
	return x509.KeyUsageDigitalSignature
}

func (l *Leaf) usages() ([]x509.ExtKeyUsage, error) {
	if len(l.ExtKeyUsages) == 0 {
		return nil, errors.New("the certificate has no extended key usage, which would allow every use")
	}
	usages := make([]x509.ExtKeyUsage, 0, len(l.ExtKeyUsages))
	for i, usage := range l.ExtKeyUsages {
		if slices.Contains(l.ExtKeyUsages[:i], usage) {
			return nil, fmt.Errorf("the extended key usage %q is there twice", usage)
		}
		switch usage {
		case ServerAuth:
			usages = append(usages, x509.ExtKeyUsageServerAuth)
		case ClientAuth:
			usages = append(usages, x509.ExtKeyUsageClientAuth)
		default:
			return nil, fmt.Errorf("the extended key usage %q is not known", usage)
		}
	}
	return usages, nil
}

// lastTime is the end of time in certificates: RFC 5280, Section 4.1.2.5 has four digits for the year.
var lastTime = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

func (l *Leaf) checkValidity() error {
	switch {
	case l.NotBefore.Year() < 1950 || l.NotAfter.After(lastTime):
		return errors.New("the validity lies outside of what a certificate can say")
	case l.NotBefore.Nanosecond() != 0 || l.NotAfter.Nanosecond() != 0:
		return errors.New("the validity is not in whole seconds")
	case l.NotAfter.Before(l.NotBefore):
		return errors.New("the validity ends before it begins")
	}
	return nil
}

// maxCommonName is ub-common-name of RFC 5280, Appendix A.1.
const maxCommonName = 64

func (l *Leaf) checkNames() error {
	if len(l.DNSNames)+len(l.IPs) == 0 {
		return errors.New("the certificate has no name")
	}
	seen := make(map[string]struct{}, len(l.DNSNames)+len(l.IPs))
	add := func(name string) error {
		if _, twice := seen[name]; twice {
			return fmt.Errorf("the name %q is there twice", name)
		}
		seen[name] = struct{}{}
		return nil
	}
	for _, name := range l.DNSNames {
		if !validDNSName(name) {
			return fmt.Errorf("%q is not a DNS name in canonical form", name)
		}
		if err := add(name); err != nil {
			return err
		}
	}
	for _, addr := range l.IPs {
		if !addr.IsValid() || addr.Zone() != "" || addr.Is4In6() {
			return fmt.Errorf("%q is not an address that a certificate can hold", addr)
		}
		if err := add(addr.String()); err != nil {
			return err
		}
	}
	if l.CommonName == "" {
		return nil
	}
	if len(l.CommonName) > maxCommonName {
		return fmt.Errorf("the common name has more than %d bytes", maxCommonName)
	}
	if _, found := seen[l.CommonName]; !found {
		return fmt.Errorf("the common name %q is not among the certificate's names", l.CommonName)
	}
	return nil
}

func (l *Leaf) checkPointers() error {
	// RFC 9608, Section 3.
	if l.NoRevAvail && (len(l.CRLDistributionPoints) > 0 || len(l.OCSPServers) > 0) {
		return errors.New("a certificate with noRevAvail must not point to a CRL or an OCSP responder")
	}
	return errors.Join(CheckURLs(l.CRLDistributionPoints), CheckURLs(l.IssuingCertificateURLs), CheckURLs(l.OCSPServers))
}

// validDNSName reports whether the name is one that a dNSName may hold here: labels of lower-case letters, digits
// and hyphens, the first one possibly "*". Names of this form and addresses cannot be mistaken for each other as long
// as the last label is not all digits.
func validDNSName(name string) bool {
	if len(name) > 253 {
		return false
	}
	if len(name) > 2 && name[:2] == "*." {
		name = name[2:]
	}
	start, digits := 0, true
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '.' {
			c := name[i]
			if !isLDH(c) || c == '-' && (i == start || i == len(name)-1 || name[i+1] == '.') {
				return false
			}
			digits = digits && '0' <= c && c <= '9'
			continue
		}
		if length := i - start; length == 0 || length > 63 || i == len(name) && digits {
			return false
		}
		start, digits = i+1, true
	}
	return true
}

func isLDH(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-'
}
