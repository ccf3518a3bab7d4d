package acme

import (
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// IdentifierType is the type of an identifier (RFC 8555, Section 9.7.7).
type IdentifierType string

// The identifier types that certctl issues for.
const (
	DNS IdentifierType = "dns" // RFC 8555, Section 7.1.4
	IP  IdentifierType = "ip"  // RFC 8738, Section 3
)

// An Identifier is a name or an address that a certificate is wanted for. One
// made by ParseIdentifier is in the one form in which this name or address can
// be written, so identifiers are compared with ==.
type Identifier struct {
	// "The type of identifier."
	Type IdentifierType `json:"type"`
	// "The identifier itself."
	Value string `json:"value"`
}

// maxName is the length of the longest name that DNS can carry, written
// without the trailing dot.
const maxName = 253

// ParseIdentifier checks an identifier that a client sent and returns it in
// canonical form: names as lower-case A-labels, addresses as RFC 5952 writes
// them. The error is a *Problem: unsupportedIdentifier for a type other than
// "dns" and "ip", malformed for what is no name or address or is not written
// as the RFCs ask, and rejectedIdentifier for what is well-formed but can
// never be issued for.
//
// A name may begin with the wildcard label "*.", over a single label too. A
// name with a trailing dot is refused instead of cut, since a certificate must
// not have "contents other than those requested" (RFC 8555, Section 7.4).
func ParseIdentifier(typ, value string) (Identifier, error) {
	switch IdentifierType(typ) {
	case DNS:
		return parseDNS(value)
	case IP:
		return parseIP(value)
	case "":
		return Identifier{}, Malformed("the identifier has no type")
	}
	return Identifier{}, UnsupportedIdentifier("identifiers of type %q are not supported, only %q and %q", excerpt(typ), DNS, IP)
}

// Wildcard reports whether the identifier is a wildcard name.
func (id Identifier) Wildcard() bool {
	return id.Type == DNS && strings.HasPrefix(id.Value, "*.")
}

// Base is the identifier without the wildcard label: what an authorization for
// it names (RFC 8555, Section 7.1.4).
func (id Identifier) Base() Identifier {
	if id.Wildcard() {
		id.Value = id.Value[len("*."):]
	}
	return id
}

// String is the identifier as in "dns:www.example.org".
func (id Identifier) String() string { return string(id.Type) + ":" + id.Value }

func parseDNS(value string) (Identifier, error) {
	if value == "" {
		return Identifier{}, Malformed("the DNS name is empty")
	}
	if len(value) > maxName {
		return Identifier{}, Malformed("the DNS name %q is longer than %d bytes", excerpt(value), maxName)
	}
	if !isASCII(value) {
		return Identifier{}, refuseULabels(value)
	}
	name := strings.ToLower(value)
	if addr, err := netip.ParseAddr(name); err == nil {
		return Identifier{}, Malformed("%q is an IP address: ask for it with the identifier type %q and the value %q", name, IP, addr.Unmap().WithZone(""))
	}
	if strings.HasSuffix(name, ".") {
		return Identifier{}, Malformed("the DNS name %q ends in a dot: write it without", name)
	}
	base := strings.TrimPrefix(name, "*.")
	last := ""
	for label := range strings.SplitSeq(base, ".") {
		if problem := checkLabel(name, label); problem != nil {
			return Identifier{}, problem
		}
		last = label
	}
	// What ends in a number is an IPv4 address to many readers (WHATWG URL), in
	// hexadecimal too.
	hex, isHex := strings.CutPrefix(last, "0x")
	if strings.Trim(last, "0123456789") == "" || isHex && strings.Trim(hex, "0123456789abcdef") == "" {
		return Identifier{}, Malformed("the last label of the DNS name %q is a number", name)
	}
	for _, zone := range neverIssued {
		if base == zone.name || strings.HasSuffix(base, "."+zone.name) {
			return Identifier{}, RejectedIdentifier("no certificate is issued for %q: %s", name, zone.why)
		}
	}
	return Identifier{Type: DNS, Value: name}, nil
}

// neverIssued are the zones whose names a certificate cannot speak for.
var neverIssued = []struct{ name, why string }{
	// RFC 8738, Section 6 gives these names to the validation of addresses.
	{"in-addr.arpa", "names under in-addr.arpa stand for addresses"},
	{"ip6.arpa", "names under ip6.arpa stand for addresses"},
	// RFC 7686, Section 2: these must not be looked up in DNS.
	{"onion", "names under onion do not exist in DNS"},
}

// checkLabel checks one label of the lower-case name against the preferred
// name syntax that RFC 5280, Section 4.2.1.6 asks for.
func checkLabel(name, label string) *Problem {
	switch {
	case label == "*":
		return Malformed("the wildcard in %q is only allowed once, as the first label before others", name)
	case label == "":
		return Malformed("the DNS name %q has an empty label", name)
	case len(label) > 63:
		return Malformed("the DNS name %q has a label longer than 63 bytes", excerpt(name))
	case label[0] == '-' || label[len(label)-1] == '-':
		return Malformed("the DNS name %q has a label that begins or ends with a hyphen", name)
	}
	for _, c := range []byte(label) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
		case c == '_':
			return Malformed("the DNS name %q has an underscore, which no host name may have", name)
		case c == '*':
			return Malformed("the DNS name %q has a wildcard that is not a label of its own", name)
		default:
			return Malformed("the DNS name %q has the character %q, which no host name may have", name, c)
		}
	}
	// "Servers MUST verify any identifier values that begin with the
	// ASCII-Compatible Encoding prefix 'xn--' [...] are properly encoded"
	// (RFC 8555, Section 7.1.4).
	if strings.HasPrefix(label, "xn--") {
		// The rules for registration map nothing: an A-label of what IDNA would
		// have mapped away is no A-label.
		if _, err := idna.Registration.ToUnicode(label); err != nil {
			return Malformed("the label %q of the DNS name %q is not valid IDNA", label, name)
		}
	}
	return nil
}

// refuseULabels says how a name with characters beyond ASCII has to be
// written.
func refuseULabels(value string) *Problem {
	if !utf8.ValidString(value) {
		return Malformed("the DNS name is not valid UTF-8")
	}
	rest, wildcard := strings.CutPrefix(value, "*.")
	ascii, err := idna.Lookup.ToASCII(rest)
	if err != nil {
		return Malformed("the DNS name %q has characters beyond ASCII and is not valid IDNA", excerpt(value))
	}
	if wildcard {
		ascii = "*." + ascii
	}
	return Malformed("the DNS name %q has characters beyond ASCII: write it as %q", excerpt(value), ascii)
}

func parseIP(value string) (Identifier, error) {
	addr, err := netip.ParseAddr(value)
	if err != nil {
		return Identifier{}, Malformed("%q is not an IP address", excerpt(value))
	}
	if addr.Zone() != "" {
		return Identifier{}, Malformed("the IP address %q has a zone, which means something on one host only", excerpt(value))
	}
	if addr.Is4In6() {
		return Identifier{}, Malformed("%q is an IPv4 address written as IPv6: write it as %q", value, addr.Unmap())
	}
	// RFC 8738, Section 3: "in Section 2.1 of [RFC1123] for IPv4 and in
	// Section 4 of [RFC5952] for IPv6".
	if addr.String() != value {
		return Identifier{}, Malformed("the IP address %q must be written as %q (RFC 5952, Section 4)", value, addr)
	}
	if addr.IsUnspecified() || addr.IsMulticast() || value == "255.255.255.255" {
		return Identifier{}, RejectedIdentifier("no certificate is issued for %q: it is not the address of one host", value)
	}
	return Identifier{Type: IP, Value: value}, nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
