package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// NameConstraints are the name constraints of a chain of CA certificates (RFC 5280, Section 4.2.1.10), for DNS names
// and IP addresses. They let an issuer refuse before it signs; a nil value permits every name.
type NameConstraints struct {
	subtrees []subtrees
}

// subtrees are the constraints of one certificate. A name must be permitted by, and excluded by none of, each.
type subtrees struct {
	permittedDNS, excludedDNS []string
	permittedIPs, excludedIPs []netip.Prefix
}

// NameConstraintsOf collects the constraints of the CA certificates, nil when they have none.
func NameConstraintsOf(chain ...*x509.Certificate) *NameConstraints {
	var constraints NameConstraints
	for _, cert := range chain {
		s := subtrees{
			permittedDNS: cert.PermittedDNSDomains,
			excludedDNS:  cert.ExcludedDNSDomains,
			permittedIPs: prefixes(cert.PermittedIPRanges),
			excludedIPs:  prefixes(cert.ExcludedIPRanges),
		}
		if len(s.permittedDNS)+len(s.excludedDNS)+len(s.permittedIPs)+len(s.excludedIPs) > 0 {
			constraints.subtrees = append(constraints.subtrees, s)
		}
	}
	if len(constraints.subtrees) == 0 {
		return nil
	}
	return &constraints
}

func prefixes(ranges []*net.IPNet) []netip.Prefix {
	var result []netip.Prefix
	for _, r := range ranges {
		addr, _ := netip.AddrFromSlice(r.IP)
		ones, _ := r.Mask.Size() // the certificate parser refuses other masks
		result = append(result, netip.PrefixFrom(addr, ones))
	}
	return result
}

// Check returns an error that shows the first name which the constraints do not permit. DNS names are in the
// canonical form of Leaf. A wildcard is permitted where every name that it stands for is.
func (n *NameConstraints) Check(dnsNames []string, ips []netip.Addr) error {
	if n == nil {
		return nil
	}
	for _, s := range n.subtrees {
		for _, name := range dnsNames {
			if !s.permitsDNS(name) {
				return fmt.Errorf("the CA's name constraints do not permit the name %q", name)
			}
		}
		for _, addr := range ips {
			if !s.permitsIP(addr) {
				return fmt.Errorf("the CA's name constraints do not permit the address %s", addr)
			}
		}
	}
	return nil
}

func (s *subtrees) permitsDNS(name string) bool {
	within := func(subtree string) bool { return inSubtree(name, subtree) }
	if len(s.permittedDNS) > 0 && !slices.ContainsFunc(s.permittedDNS, within) {
		return false
	}
	return !slices.ContainsFunc(s.excludedDNS, func(subtree string) bool {
		return within(subtree) || standsFor(name, subtree)
	})
}

// standsFor reports whether a wildcard name covers the root of a subtree one label below its own parent, so that
// excluding the subtree "x.a.test" also excludes "*.a.test".
func standsFor(name, subtree string) bool {
	parent, wildcard := strings.CutPrefix(name, "*")
	label, found := strings.CutSuffix(strings.ToLower(subtree), parent)
	return wildcard && found && label != "" && !strings.Contains(label, ".")
}

func (s *subtrees) permitsIP(addr netip.Addr) bool {
	contains := func(p netip.Prefix) bool { return p.Contains(addr) }
	if len(s.permittedIPs) > 0 && !slices.ContainsFunc(s.permittedIPs, contains) {
		return false
	}
	return !slices.ContainsFunc(s.excludedIPs, contains)
}

// inSubtree reports whether the name is the subtree's root or below it; the empty subtree holds every name. A leading
// dot, which RFC 5280 does not define for DNS names but which is in use, leaves the root itself out.
func inSubtree(name, subtree string) bool {
	subtree = strings.ToLower(subtree)
	if subtree == "" || name == subtree {
		return true
	}
	if subtree[0] != '.' {
		subtree = "." + subtree
	}
	return strings.HasSuffix(name, subtree)
}

// Permitted returns what an operator may be told of the constraints: the DNS subtrees and the address ranges in which
// names can be permitted, taken from the certificate closest to the leaf that says something about the kind. Nil means
// that the kind is not constrained, an empty list that none is permitted; Check has the last word.
func (n *NameConstraints) Permitted() (domains []string, ips []netip.Prefix) {
	if n == nil {
		return nil, nil
	}
	for _, s := range n.subtrees {
		if domains == nil && len(s.permittedDNS) > 0 {
			domains = slices.Clone(s.permittedDNS)
		}
		if domains == nil && slices.Contains(s.excludedDNS, "") {
			domains = []string{}
		}
		if ips == nil && len(s.permittedIPs) > 0 {
			ips = slices.Clone(s.permittedIPs)
		}
		if ips == nil && slices.Contains(s.excludedIPs, allIPv4) && slices.Contains(s.excludedIPs, allIPv6) {
			ips = []netip.Prefix{}
		}
	}
	return domains, ips
}

// leave reports whether the constraints leave any DNS name and any address: a subtree that leaves something leaves its
// root or a name below it, and a range its first address or its last.
func (n *NameConstraints) leave() (domains, ips bool) {
	if n == nil {
		return true, true
	}
	const label = "certctl-probe-0f3a."
	names := []string{label + "test"}
	addrs := []netip.Addr{netip.MustParseAddr("10.66.3.99"), netip.MustParseAddr("fd00:66:3::99")}
	for _, s := range n.subtrees {
		for _, subtree := range s.permittedDNS {
			root := strings.ToLower(strings.TrimPrefix(subtree, "."))
			names = append(names, root, label+root)
		}
		for _, prefix := range s.permittedIPs {
			addrs = append(addrs, prefix.Addr(), lastOf(prefix))
		}
	}
	domains = slices.ContainsFunc(names, func(name string) bool { return n.Check([]string{name}, nil) == nil })
	ips = slices.ContainsFunc(addrs, func(addr netip.Addr) bool { return n.Check(nil, []netip.Addr{addr}) == nil })
	return domains, ips
}

// lastOf returns the last address of a range.
func lastOf(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(bytes)
	return addr
}

var (
	allIPv4 = netip.MustParsePrefix("0.0.0.0/0")
	allIPv6 = netip.MustParsePrefix("::/0")
)

// permittedSubtree turns a domain rule into the subtree of RFC 5280, Section 4.2.1.10, in which "x" stands for x and
// everything below it. A rule for fewer names cannot be said in a certificate and is refused.
func permittedSubtree(rule string) (string, error) {
	domain := strings.TrimPrefix(rule, ".")
	if strings.HasPrefix(domain, "*") {
		return "", fmt.Errorf("the permitted domain %q cannot be a name constraint: write %q, which includes everything below",
			rule, strings.TrimLeft(domain, "*."))
	}
	if !validDNSName(domain) {
		return "", fmt.Errorf("the permitted domain %q is not a DNS name in lower-case A-labels", rule)
	}
	return domain, nil
}

func permittedRange(prefix netip.Prefix) (*net.IPNet, error) {
	if !prefix.IsValid() || prefix.Addr().Is4In6() || prefix != prefix.Masked() {
		return nil, fmt.Errorf("the permitted range %q is not an address prefix without host bits", prefix)
	}
	return ipNet(prefix), nil
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}

// CheckURLs accepts what a certificate may point to: absolute http or https URLs in ASCII.
func CheckURLs(urls []string) error {
	for _, text := range urls {
		if err := checkURL(text); err != nil {
			return err
		}
	}
	return nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("%q is not an absolute http URL", text)
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return errors.New("a URL in a certificate must be ASCII without spaces")
		}
	}
	return nil
}
