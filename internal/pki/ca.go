package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"
	"unicode"
	"unicode/utf8"
)

// CASpec says what kind of CA to make.
type CASpec struct {
	Name string // organization, and beginning of both common names

	// The names that the CA may ever issue for, as critical name constraints on both certificates: domains with
	// everything below them ("x" and ".x" mean the same) and address ranges. Once one of the lists has an entry, the
	// kind of name whose list is empty is excluded altogether, so that constraining names does not leave addresses open.
	PermittedDomains []string
	PermittedIPs     []netip.Prefix

	Now time.Time
}

// CA is a root and the CA below it that issues. The root's key is needed again only to replace the issuing CA.
type CA struct {
	Root, Issuing       *x509.Certificate
	RootKey, IssuingKey *ecdsa.PrivateKey
}

const (
	rootYears    = 20
	issuingYears = 10

	// caBackdate makes the CA valid before the first certificates that it issues, which are backdated too, and for
	// clients whose clocks are slow.
	caBackdate = time.Hour

	// longestSuffix is what CreateCA appends to the name; ub-common-name of RFC 5280, Appendix A.1 bounds the sum.
	longestSuffix = " Issuing CA"
)

// CreateCA makes a new root and issuing CA with P-256 keys.
func CreateCA(spec CASpec, rand io.Reader) (*CA, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	var ca CA
	var err error
	if ca.RootKey, err = ecdsa.GenerateKey(elliptic.P256(), rand); err != nil {
		return nil, err
	}
	if ca.IssuingKey, err = ecdsa.GenerateKey(elliptic.P256(), rand); err != nil {
		return nil, err
	}
	root, err := spec.template(" Root CA", rootYears, 1, &ca.RootKey.PublicKey, rand)
	if err != nil {
		return nil, err
	}
	if ca.Root, err = sign(root, root, &ca.RootKey.PublicKey, ca.RootKey); err != nil {
		return nil, err
	}
	issuing, err := spec.template(longestSuffix, issuingYears, 0, &ca.IssuingKey.PublicKey, rand)
	if err != nil {
		return nil, err
	}
	if ca.Issuing, err = sign(issuing, ca.Root, &ca.IssuingKey.PublicKey, ca.RootKey); err != nil {
		return nil, err
	}
	return &ca, nil
}

func (spec *CASpec) check() error {
	switch {
	case spec.Name == "":
		return errors.New("the CA needs a name")
	case !utf8.ValidString(spec.Name) || utf8.RuneCountInString(spec.Name)+len(longestSuffix) > maxCommonName:
		return fmt.Errorf("the CA's name must have at most %d characters", maxCommonName-len(longestSuffix))
	case spec.Now.IsZero():
		return errors.New("the CA's beginning is not set")
	}
	for _, r := range spec.Name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("the CA's name %q has characters that cannot be shown", spec.Name)
		}
	}
	return nil
}

func (spec *CASpec) template(suffix string, years, maxPathLen int, pub *ecdsa.PublicKey, rand io.Reader) (*x509.Certificate, error) {
	hexSerial, err := NewSerial(rand)
	if err != nil {
		return nil, err
	}
	serial, err := ParseSerial(hexSerial)
	if err != nil {
		return nil, err
	}
	keyID, err := subjectKeyID(pub)
	if err != nil {
		return nil, err
	}
	notBefore := spec.Now.UTC().Truncate(time.Second).Add(-caBackdate)
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{spec.Name}, CommonName: spec.Name + suffix},
		NotBefore:             notBefore,
		NotAfter:              notBefore.AddDate(years, 0, 0).Add(-time.Second),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            maxPathLen,
		MaxPathLenZero:        maxPathLen == 0,
		SubjectKeyId:          keyID,
	}
	return template, spec.constrain(template)
}

func (spec *CASpec) constrain(template *x509.Certificate) error {
	if len(spec.PermittedDomains)+len(spec.PermittedIPs) == 0 {
		return nil
	}
	// RFC 5280, Section 4.2.1.10: name constraints MUST be critical. The field covers the whole extension.
	template.PermittedDNSDomainsCritical = true
	for _, rule := range spec.PermittedDomains {
		subtree, err := permittedSubtree(rule)
		if err != nil {
			return err
		}
		template.PermittedDNSDomains = append(template.PermittedDNSDomains, subtree)
	}
	for _, prefix := range spec.PermittedIPs {
		ipRange, err := permittedRange(prefix)
		if err != nil {
			return err
		}
		template.PermittedIPRanges = append(template.PermittedIPRanges, ipRange)
	}
	if len(spec.PermittedDomains) == 0 {
		template.ExcludedDNSDomains = []string{""}
	}
	if len(spec.PermittedIPs) == 0 {
		template.ExcludedIPRanges = []*net.IPNet{ipNet(allIPv4), ipNet(allIPv6)}
	}
	return nil
}

func sign(template, parent *x509.Certificate, pub *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	signer := Deterministic(key)
	if template != parent { // lints tell a self-signed certificate by its signature, which is not there yet
		signer = LintFirst(signer, nil)
	}
	der, err := x509.CreateCertificate(nil, template, parent, pub, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
