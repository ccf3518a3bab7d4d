package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// MaxCSRBytes is the largest certificate signing request that is looked at. It has room for an RSA key of 4096 bits
// and more names than an order may have.
const MaxCSRBytes = 64 << 10

// CSR is what certctl takes from a certificate signing request (RFC 2986): a key whose possession is proven, and the
// names that were asked for, which are compared with the order. Whatever else is in it has no effect.
type CSR struct {
	Raw       []byte
	PublicKey crypto.PublicKey
	KeyType   KeyType

	CommonName string       // lower-case; "" when the subject has none
	DNSNames   []string     // lower-case, in the order of the request
	IPs        []netip.Addr // as encoded: a mapped IPv4 address in 16 bytes stays one

	// How many alternative names of kinds that are never issued were asked for.
	Emails, URIs, OtherNames int
}

var csrSignatures = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
	x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512,
	x509.PureEd25519,
}

// ParseCSR reads and judges a certificate signing request in DER. The errors are one line each and fit for the
// client; a refused key is a *KeyError, which says that another key will do.
//
// The key is checked before the signature: verifying under a key of absurd size is work that a client could make the
// CA do.
func ParseCSR(der []byte) (*CSR, error) {
	if len(der) > MaxCSRBytes {
		return nil, fmt.Errorf("the CSR has more than %d bytes", MaxCSRBytes)
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("the CSR cannot be parsed: %q", err)
	}
	if req.Version != 0 {
		return nil, errors.New("the CSR's version is not 1")
	}
	if !slices.Contains(csrSignatures, req.SignatureAlgorithm) {
		return nil, fmt.Errorf("the CSR's signature algorithm %s is not accepted", req.SignatureAlgorithm)
	}
	keyType, err := KeyTypeOf(req.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("the CSR's key is refused: %w", err)
	}
	if err := CheckKey(req.PublicKey); err != nil {
		return nil, fmt.Errorf("the CSR's key is refused: %w", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, errors.New("the CSR's signature does not verify with its key")
	}

	csr := &CSR{
		Raw:       req.Raw,
		PublicKey: req.PublicKey,
		KeyType:   keyType,
		DNSNames:  lower(req.DNSNames),
		Emails:    len(req.EmailAddresses),
		URIs:      len(req.URIs),
	}
	if csr.CommonName, err = commonName(req); err != nil {
		return nil, err
	}
	for _, ip := range req.IPAddresses {
		addr, _ := netip.AddrFromSlice(ip) // the parser lets 4 and 16 bytes through only
		csr.IPs = append(csr.IPs, addr)
	}
	if csr.OtherNames, err = inspectExtensions(req); err != nil {
		return nil, err
	}
	return csr, nil
}

func lower(names []string) []string {
	for i, name := range names {
		names[i] = strings.ToLower(name)
	}
	return names
}

var oidCommonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// commonName returns the subject's only common name. The standard library would keep the last of several and
// forget those that are not strings; either could hide a name from the comparison with the order.
func commonName(req *x509.CertificateRequest) (string, error) {
	found, name := 0, ""
	for _, attribute := range req.Subject.Names {
		if !attribute.Type.Equal(oidCommonName) {
			continue
		}
		text, ok := attribute.Value.(string)
		if found++; found > 1 || !ok {
			return "", errors.New("the CSR's subject has more than one common name, or one that is not text")
		}
		name = strings.ToLower(text)
	}
	return name, nil
}

var (
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}

	errAttributes = errors.New("the CSR's attributes are malformed")
)

// inspectExtensions refuses requests whose extensions can be read in two ways, and counts the alternative names that
// the standard library passes over. That library also skips attributes it cannot parse and all values of the
// extension request but the first, so another reader could see other names in the same CSR.
func inspectExtensions(req *x509.CertificateRequest) (otherNames int, err error) {
	input := cryptobyte.String(req.RawTBSCertificateRequest)
	var info, attributes cryptobyte.String
	var present bool
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) ||
		!info.SkipASN1(cbasn1.INTEGER) || !info.SkipASN1(cbasn1.SEQUENCE) || !info.SkipASN1(cbasn1.SEQUENCE) ||
		!info.ReadOptionalASN1(&attributes, &present, cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!info.Empty() {
		return 0, errAttributes
	}
	requests := 0
	for !attributes.Empty() {
		var attribute, values cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !attributes.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) ||
			!attribute.ReadASN1(&values, cbasn1.SET) || !attribute.Empty() {
			return 0, errAttributes
		}
		if !oid.Equal(oidExtensionRequest) {
			continue
		}
		if requests++; requests > 1 {
			return 0, errors.New("the CSR has more than one extension request")
		}
		if otherNames, err = inspectExtensionRequest(values); err != nil {
			return 0, err
		}
	}
	return otherNames, nil
}

// inspectExtensionRequest reads the values of one extension request: RFC 2985, Section 5.4.2 allows exactly one.
func inspectExtensionRequest(values cryptobyte.String) (otherNames int, err error) {
	var extensions cryptobyte.String
	if !values.ReadASN1(&extensions, cbasn1.SEQUENCE) || !values.Empty() {
		return 0, errors.New("the CSR's extension request does not have exactly one value")
	}
	var seen []string
	for !extensions.Empty() {
		var extension, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		if !extensions.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) ||
			!extension.SkipOptionalASN1(cbasn1.BOOLEAN) || !extension.ReadASN1(&value, cbasn1.OCTET_STRING) ||
			!extension.Empty() {
			return 0, errAttributes
		}
		if slices.Contains(seen, oid.String()) {
			return 0, errors.New("the CSR asks for the same extension twice")
		}
		// The search above is quadratic; no honest request has more.
		if seen = append(seen, oid.String()); len(seen) > 64 {
			return 0, errors.New("the CSR asks for too many extensions")
		}
		if oid.Equal(oidSubjectAltName) {
			if otherNames, err = countOtherNames(value); err != nil {
				return 0, err
			}
		}
	}
	return otherNames, nil
}

// The context-specific tags of GeneralName in RFC 5280, Section 4.2.1.6.
const (
	tagEmail = 1
	tagDNS   = 2
	tagURI   = 6
	tagIP    = 7
)

func countOtherNames(value cryptobyte.String) (count int, err error) {
	var names cryptobyte.String
	if !value.ReadASN1(&names, cbasn1.SEQUENCE) || !value.Empty() {
		return 0, errors.New("the CSR's subjectAltName is malformed")
	}
	for !names.Empty() {
		var name cryptobyte.String
		var tag cbasn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return 0, errors.New("the CSR's subjectAltName is malformed")
		}
		switch tag {
		case cbasn1.Tag(tagEmail).ContextSpecific(), cbasn1.Tag(tagURI).ContextSpecific(), cbasn1.Tag(tagIP).ContextSpecific():
		case cbasn1.Tag(tagDNS).ContextSpecific():
			if bytes.IndexByte(name, 0) >= 0 {
				return 0, errors.New("the CSR has a DNS name with a zero byte")
			}
		default:
			count++
		}
	}
	return count, nil
}
