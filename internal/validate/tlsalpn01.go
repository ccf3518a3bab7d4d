package validate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/internal/acme"
)

// protocolACMETLS is the protocol of RFC 8737, Section 4.
const protocolACMETLS = "acme-tls/1"

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	// id-pe-acmeIdentifier (RFC 8737, Section 3).
	oidACMEIdentifier = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}
)

// The tags of a GeneralName (RFC 5280, Section 4.2.1.6).
const (
	tagDNSName   = 2
	tagIPAddress = 7
)

// TLSALPN01 runs the tls-alpn-01 challenge (RFC 8737, Section 3; RFC 8738,
// Section 6 for IP addresses).
func (p *Prober) TLSALPN01(ctx context.Context, t Target) Outcome {
	return p.run(ctx, t, (*probe).tlsALPN01)
}

func (pr *probe) tlsALPN01(ctx context.Context) *failure {
	addrs := []netip.Addr{pr.addr}
	if !pr.addr.IsValid() {
		var err *lookupError
		if addrs, err = pr.resolver.addresses(ctx, pr.trace, pr.name); err != nil {
			return err.failure()
		}
	}
	conn, dialErr := pr.connect(ctx, addrs, pr.tlsPort)
	if dialErr != nil {
		return failf(acme.ErrConnection, "connecting for tls-alpn-01 of %s: %v", pr.Identifier.Value, dialErr).
			orRetry(dialErr.transient())
	}
	defer conn.Close()
	secured, err := pr.handshake(ctx, conn, &tls.Config{
		ServerName: pr.serverName(),
		NextProtos: []string{protocolACMETLS},
		MinVersion: tls.VersionTLS12, // RFC 8737, Section 4
		// What the certificate has to say is not for x509 to verify.
		InsecureSkipVerify: true,
	})
	if err != nil {
		return tlsFailure(fmt.Sprintf("TLS with %v, SNI %s, ALPN %s", conn.addr, pr.serverName(), protocolACMETLS), err)
	}
	state := secured.ConnectionState()
	if reason := pr.unproven(state); reason != "" {
		pr.trace.add(StepTLS, pr.serverName(), conn.addr.String(), "refused: %s", reason)
		problem := acme.ErrIncorrectResponse
		if state.NegotiatedProtocol != protocolACMETLS {
			problem = acme.ErrUnauthorized
		}
		return failf(problem, "TLS with %v, SNI %s: %s", conn.addr, pr.serverName(), reason)
	}
	return nil
}

// serverName is the name for the SNI extension: the identifier, or the reverse
// mapping of an address, which SNI cannot carry (RFC 8738, Section 6).
func (pr *probe) serverName() string {
	if pr.name != "" {
		return pr.name
	}
	reverse, err := dns.ReverseAddr(pr.addr.String())
	if err != nil {
		return "" // not for an address that netip has parsed
	}
	return strings.TrimSuffix(reverse, ".")
}

// unproven returns why a handshake does not prove control of the identifier,
// or "" when it does.
func (pr *probe) unproven(state tls.ConnectionState) string {
	if state.NegotiatedProtocol != protocolACMETLS {
		return "the server did not negotiate the protocol " + protocolACMETLS
	}
	if len(state.PeerCertificates) == 0 {
		return "the server showed no certificate"
	}
	cert := state.PeerCertificates[0]
	// "a self-signed certificate" (RFC 8737, Section 3).
	if !bytes.Equal(cert.RawIssuer, cert.RawSubject) ||
		cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) != nil {
		return "the certificate is not self-signed"
	}
	if reason := pr.wrongName(cert); reason != "" {
		return reason
	}
	extension, ok := find(cert, oidACMEIdentifier)
	switch {
	case !ok:
		return "the certificate has no acmeIdentifier extension"
	case !extension.Critical:
		return "the acmeIdentifier extension of the certificate is not critical"
	}
	var digest []byte
	rest, err := asn1.Unmarshal(extension.Value, &digest)
	if err != nil || len(rest) > 0 || len(digest) != sha256.Size {
		return "the acmeIdentifier extension of the certificate is not an octet string of 32 bytes"
	}
	want := sha256.Sum256([]byte(pr.KeyAuthorization))
	if subtle.ConstantTimeCompare(digest, want[:]) != 1 {
		return "the acmeIdentifier extension of the certificate is not the digest of the key authorization"
	}
	return ""
}

// wrongName returns why the certificate does not name the identifier "and no
// other entries" (RFC 8737, Section 3), or "" when it does.
func (pr *probe) wrongName(cert *x509.Certificate) string {
	extension, ok := find(cert, oidSubjectAltName)
	if !ok {
		return "the certificate has no subjectAltName extension"
	}
	// Read here and not by x509, which passes over the kinds of names that it
	// does not know.
	var names []asn1.RawValue
	rest, err := asn1.Unmarshal(extension.Value, &names)
	if err != nil || len(rest) > 0 {
		return "the subjectAltName extension of the certificate cannot be read"
	}
	if len(names) != 1 {
		return "the certificate does not have exactly one name"
	}
	name := names[0]
	same := false
	switch {
	case name.Class != asn1.ClassContextSpecific || name.IsCompound:
	case pr.name != "" && name.Tag == tagDNSName:
		same = strings.EqualFold(string(name.Bytes), pr.name) // RFC 4343
	case pr.name == "" && name.Tag == tagIPAddress:
		same = bytes.Equal(name.Bytes, pr.addr.AsSlice())
	}
	if !same {
		return "the name in the certificate is not the identifier"
	}
	return ""
}

func find(cert *x509.Certificate, oid asn1.ObjectIdentifier) (pkix.Extension, bool) {
	for _, e := range cert.Extensions {
		if e.Id.Equal(oid) {
			return e, true
		}
	}
	return pkix.Extension{}, false
}
