package validate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// A guard decides which addresses a probe may connect to. It is asked by the
// dialer, for the address that is really dialled.
type guard struct {
	rules []rule
	self  func() []netip.AddrPort
	local func() ([]netip.Addr, error) // this host's addresses
}

// A rule allows or refuses a range of addresses.
type rule struct {
	prefix netip.Prefix
	rank   rank
	reason string // what the range is, for builtin rules
	public bool   // the client may be told the reason
}

// rank orders rules whose prefixes have the same length; the highest decides.
type rank int

const (
	builtin rank = iota // refuses
	allowed
	denied
)

func (r rule) refuses() bool { return r.rank != allowed }

// builtinRules are the ranges that are refused unless an allow entry at least
// as long names them. The ranges of private networks are not among them: they
// are what a private CA is for.
var builtinRules = []rule{
	refused("0.0.0.0/8", "an unspecified address"),
	refused("127.0.0.0/8", "a loopback address"),
	refused("169.254.0.0/16", "a link-local address"),
	refused("224.0.0.0/4", "a multicast address"),
	refused("255.255.255.255/32", "the broadcast address"),
	refused("::/128", "the unspecified address"),
	refused("::1/128", "the loopback address"),
	refused("fe80::/10", "a link-local address"),
	refused("ff00::/8", "a multicast address"),

	// The services that tell a virtual machine its credentials.
	metadata("169.254.169.254/32"), // most clouds
	metadata("100.100.100.200/32"), // Alibaba Cloud
	metadata("168.63.129.16/32"),   // Azure
	metadata("192.0.0.192/32"),     // Oracle Cloud
	metadata("fd00:ec2::254/128"),  // AWS
	metadata("fd20:ce::254/128"),   // Google Cloud
	metadata("fd00:42::42/128"),    // Scaleway
}

func refused(prefix, reason string) rule {
	return rule{prefix: netip.MustParsePrefix(prefix), reason: reason, public: true}
}

func metadata(prefix string) rule {
	return rule{prefix: netip.MustParsePrefix(prefix), reason: "the metadata service of a cloud"}
}

func newGuard(allow, deny []netip.Prefix, self func() []netip.AddrPort) (*guard, error) {
	g := &guard{rules: builtinRules[:len(builtinRules):len(builtinRules)], self: self, local: interfaceAddrs}
	if g.self == nil {
		g.self = func() []netip.AddrPort { return nil }
	}
	var errs []error
	add := func(prefixes []netip.Prefix, as rank) {
		for _, p := range prefixes {
			if !p.IsValid() {
				errs = append(errs, errors.New("an address range of the validation rules is empty"))
				continue
			}
			g.rules = append(g.rules, rule{prefix: plainPrefix(p), rank: as})
		}
	}
	add(allow, allowed)
	add(deny, denied)
	return g, errors.Join(errs...)
}

// plainPrefix is p in canonical form: without host bits, and IPv4 as IPv4.
func plainPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// A refusal is the error of dialling an address that a probe must not reach.
type refusal struct {
	client   string // what the client may read
	operator string // the rule
}

func (r *refusal) Error() string { return r.operator }

// The client is not told why in these cases: the reason would map what it
// cannot see.
const refusedSilently = "validation does not connect to this address"

// control is the ControlContext function of the dialer: it runs between the
// making of the socket and its use.
func (g *guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	dst, err := netip.ParseAddrPort(address)
	if err != nil {
		return &refusal{refusedSilently, fmt.Sprintf("%q is not an address: %v", address, err)}
	}
	if r := g.check(dst); r != nil {
		return r
	}
	return nil
}

// check returns why dst must not be dialled, or nil.
func (g *guard) check(dst netip.AddrPort) *refusal {
	if dst.Addr().Zone() != "" {
		// Prefixes never contain an address with a zone, so no rule would speak.
		return &refusal{refusedSilently, "addresses with a zone are refused"}
	}
	dst = netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	if g.isSelf(dst) {
		return &refusal{refusedSilently, "certctl or its database listens there"}
	}
	r, via := g.decisive(dst.Addr())
	switch {
	case r == nil || !r.refuses():
		return nil
	case r.rank == denied:
		return &refusal{refusedSilently, fmt.Sprintf("%s%s is denied by configuration", r.prefix, via)}
	case !r.public:
		return &refusal{refusedSilently, fmt.Sprintf("%s%s is %s", r.prefix, via, r.reason)}
	default:
		return &refusal{
			fmt.Sprintf("validation does not connect to %s unless the server is configured to (CERTCTL_ACME_SERVER_VALIDATION_ALLOW_CIDRS)", r.reason),
			fmt.Sprintf("%s%s is %s and no allow entry names it", r.prefix, via, r.reason),
		}
	}
}

// decisive returns the rule that decides about addr: the one with the longest
// prefix, and of these the one with the highest rank. nil means that no rule
// speaks of addr. via says through which form of address the rule applied.
//
// An IPv6 address that carries an IPv4 address in it is also refused by the
// IPv4 rules, whose prefixes count from where the IPv4 address begins. An allow
// entry has to name the IPv6 form itself.
func (g *guard) decisive(addr netip.Addr) (best *rule, via string) {
	bestBits := -1
	consider := func(r *rule, bits int, form string) {
		if bits > bestBits || bits == bestBits && r.rank > best.rank {
			best, bestBits, via = r, bits, form
		}
	}
	carried := carriedIPv4(addr)
	for i := range g.rules {
		r := &g.rules[i]
		if r.prefix.Contains(addr) {
			consider(r, r.prefix.Bits(), "")
		}
		for _, c := range carried {
			if r.refuses() && r.prefix.Contains(c.addr) {
				consider(r, c.offset+r.prefix.Bits(), " (as "+c.form+")")
			}
		}
	}
	return best, via
}

// A carried address is an IPv4 address within an IPv6 address.
type carried struct {
	addr   netip.Addr
	offset int // in bits
	form   string
}

// forms are the ways in which IPv6 addresses carry IPv4 ones.
var forms = []struct {
	prefix netip.Prefix
	at     int // in bytes
	flip   byte
	name   string
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12, 0, "NAT64"},          // RFC 6052, Section 2.1
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12, 0, "local NAT64"},  // RFC 8215
	{netip.MustParsePrefix("2002::/16"), 2, 0, "6to4"},               // RFC 3056, Section 2
	{netip.MustParsePrefix("2001::/32"), 4, 0, "Teredo server"},      // RFC 4380, Section 4
	{netip.MustParsePrefix("2001::/32"), 12, 0xff, "Teredo client"},  // RFC 4380, Section 4
	{netip.MustParsePrefix("::/96"), 12, 0, "IPv4-compatible"},       // RFC 4291, Section 2.5.5.1
	{netip.MustParsePrefix("::ffff:0:0:0/96"), 12, 0, "IPv4 (SIIT)"}, // RFC 2765, Section 2.1
}

func carriedIPv4(addr netip.Addr) []carried {
	if addr.Is4() {
		return nil
	}
	var found []carried
	for _, f := range forms {
		if !f.prefix.Contains(addr) {
			continue
		}
		b := addr.As16()
		var v4 [4]byte
		for i := range v4 {
			v4[i] = b[f.at+i] ^ f.flip
		}
		found = append(found, carried{netip.AddrFrom4(v4), 8 * f.at, f.name})
	}
	return found
}

// isSelf reports whether certctl or its database listens on dst.
func (g *guard) isSelf(dst netip.AddrPort) bool {
	targets := []netip.Addr{dst.Addr()}
	for _, c := range carriedIPv4(dst.Addr()) {
		targets = append(targets, c.addr)
	}
	for _, s := range g.self() {
		if s.Port() != dst.Port() {
			continue
		}
		own := s.Addr().Unmap().WithZone("")
		for _, a := range targets {
			// To dial an unspecified address is to dial this host.
			if a == own || a.IsUnspecified() || own.IsUnspecified() && g.isLocal(a) {
				return true
			}
		}
	}
	return false
}

// isLocal reports whether addr is one of this host's. When that cannot be
// found out, it is.
func (g *guard) isLocal(addr netip.Addr) bool {
	if addr.IsLoopback() {
		return true
	}
	local, err := g.local()
	if err != nil {
		return true
	}
	for _, l := range local {
		if l == addr {
			return true
		}
	}
	return false
}

func interfaceAddrs() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			if addr, ok := netip.AddrFromSlice(n.IP); ok {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	return addrs, nil
}
