package validate

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, s := range texts {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

func TestGuard(t *testing.T) {
	tests := []struct {
		addr        string
		allow, deny []netip.Prefix
		refused     string // part of the operator's reason; "": dialled
	}{
		// Private and public addresses are dialled.
		{addr: "10.0.0.1"},
		{addr: "192.168.1.1"},
		{addr: "172.16.0.1"},
		{addr: "100.64.0.1"},
		{addr: "93.184.216.34"},
		{addr: "fd00::1"},
		{addr: "2001:db8::1"},
		{addr: "::ffff:10.0.0.1"},
		{addr: "64:ff9b::a00:1"},
		{addr: "2002:a00:1::1"},

		// What is refused by default.
		{addr: "127.0.0.1", refused: "loopback"},
		{addr: "127.255.255.254", refused: "loopback"},
		{addr: "::1", refused: "loopback"},
		{addr: "0.0.0.0", refused: "unspecified"},
		{addr: "0.1.2.3", refused: "unspecified"},
		{addr: "::", refused: "unspecified"},
		{addr: "169.254.1.1", refused: "link-local"},
		{addr: "fe80::1", refused: "link-local"},
		{addr: "224.0.0.1", refused: "multicast"},
		{addr: "239.255.255.255", refused: "multicast"},
		{addr: "ff02::1", refused: "multicast"},
		{addr: "255.255.255.255", refused: "broadcast"},
		{addr: "169.254.169.254", refused: "metadata"},
		{addr: "fd00:ec2::254", refused: "metadata"},
		{addr: "100.100.100.200", refused: "metadata"},
		{addr: "168.63.129.16", refused: "metadata"},
		{addr: "192.0.0.192", refused: "metadata"},
		{addr: "fd20:ce::254", refused: "metadata"},
		{addr: "fd00:42::42", refused: "metadata"},
		{addr: "fe80::1%lo", refused: "zone"},
		{addr: "::1%lo", refused: "zone"},

		// The same in other clothes.
		{addr: "::ffff:127.0.0.1", refused: "loopback"},
		{addr: "::ffff:169.254.169.254", refused: "metadata"},
		{addr: "::ffff:100.100.100.200", refused: "metadata"},
		{addr: "64:ff9b::7f00:1", refused: "NAT64"},
		{addr: "64:ff9b::a9fe:a9fe", refused: "NAT64"},
		{addr: "64:ff9b::e000:1", refused: "NAT64"},
		{addr: "64:ff9b:1::7f00:1", refused: "local NAT64"},
		{addr: "2002:7f00:1::", refused: "6to4"},
		{addr: "2002:a9fe:a9fe::1", refused: "6to4"},
		{addr: "2002:a83f:8110::1", refused: "6to4"},
		{addr: "2001:0:7f00:1::1", refused: "Teredo server"},
		{addr: "2001:0:102:304:0:0:80ff:fffe", refused: "Teredo client"},
		{addr: "2001:0:102:304:0:0:5601:5601", refused: "Teredo client"},
		{addr: "::127.0.0.1", refused: "IPv4-compatible"},
		{addr: "::ffff:0:127.0.0.1", refused: "SIIT"},

		// An exception has to be as narrow as what it is made from.
		{addr: "127.0.0.1", allow: prefixes("127.0.0.0/8")},
		{addr: "127.0.0.1", allow: prefixes("127.0.0.1/32")},
		{addr: "127.0.0.1", allow: prefixes("126.0.0.0/7"), refused: "loopback"},
		{addr: "127.0.0.1", allow: prefixes("0.0.0.0/0"), refused: "loopback"},
		{addr: "::1", allow: prefixes("::/0"), refused: "loopback"},
		{addr: "169.254.169.254", allow: prefixes("169.254.0.0/16"), refused: "metadata"},
		{addr: "169.254.169.254", allow: prefixes("169.254.169.0/24"), refused: "metadata"},
		{addr: "169.254.169.254", allow: prefixes("169.254.169.254/32")},
		{addr: "169.254.7.7", allow: prefixes("169.254.0.0/16")},
		{addr: "::ffff:127.0.0.1", allow: prefixes("127.0.0.0/8")},
		{addr: "127.0.0.1", allow: prefixes("::ffff:127.0.0.0/104")},
		{addr: "127.0.0.1", allow: prefixes("127.1.2.3/8")}, // host bits do not count

		// One for an IPv4 address is none for its IPv6 forms.
		{addr: "64:ff9b::7f00:1", allow: prefixes("127.0.0.0/8"), refused: "NAT64"},
		{addr: "64:ff9b::7f00:1", allow: prefixes("64:ff9b::/96"), refused: "NAT64"},
		{addr: "64:ff9b::7f00:1", allow: prefixes("64:ff9b::7f00:0/104")},
		{addr: "2002:7f00:1::", allow: prefixes("2002:7f00::/24")},
		{addr: "2002:7f00:1::", allow: prefixes("2002::/16"), refused: "6to4"},

		// The operator's own denials.
		{addr: "10.0.0.1", deny: prefixes("10.0.0.0/8"), refused: "denied"},
		{addr: "::ffff:10.0.0.1", deny: prefixes("10.0.0.0/8"), refused: "denied"},
		{addr: "64:ff9b::a00:1", deny: prefixes("10.0.0.0/8"), refused: "denied"},
		{addr: "10.0.0.1", deny: prefixes("10.0.0.0/8"), allow: prefixes("10.0.0.0/24")},
		{addr: "10.0.0.1", deny: prefixes("10.0.0.0/24"), allow: prefixes("10.0.0.0/8"), refused: "denied"},
		{addr: "10.0.0.1", deny: prefixes("10.0.0.0/8"), allow: prefixes("10.0.0.0/8"), refused: "denied"},
		{addr: "127.0.0.1", deny: prefixes("127.0.0.1/32"), allow: prefixes("127.0.0.0/8"), refused: "denied"},
		{addr: "10.1.1.1", deny: prefixes("0.0.0.0/0"), allow: prefixes("10.0.0.0/8")},
		{addr: "11.1.1.1", deny: prefixes("0.0.0.0/0"), allow: prefixes("10.0.0.0/8"), refused: "denied"},
	}
	for _, test := range tests {
		g, err := newGuard(test.allow, test.deny, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		err = g.control(t.Context(), "tcp", netip.AddrPortFrom(netip.MustParseAddr(test.addr), 80).String(), nil)
		var r *refusal
		if errors.As(err, &r) {
			got = r.operator
		}
		if test.refused == "" && err != nil || test.refused != "" && !strings.Contains(got, test.refused) {
			t.Errorf("%s with allow %v, deny %v: %v; want refused %q", test.addr, test.allow, test.deny, err, test.refused)
		}
	}
}

func TestGuardSelf(t *testing.T) {
	here := netip.MustParseAddr("192.0.2.7")
	tests := []struct {
		self, dst string
		refused   bool
	}{
		{"10.0.0.5:5432", "10.0.0.5:5432", true},
		{"10.0.0.5:5432", "10.0.0.5:80", false},
		{"10.0.0.5:5432", "10.0.0.6:5432", false},
		{"10.0.0.5:5432", "[::ffff:10.0.0.5]:5432", true},
		{"[::ffff:10.0.0.5]:5432", "10.0.0.5:5432", true},
		{"10.0.0.5:5432", "[64:ff9b::a00:5]:5432", true},
		{"10.0.0.5:5432", "[2002:a00:5::1]:5432", true},
		{"[::]:8443", "192.0.2.7:8443", true},
		{"0.0.0.0:8443", "192.0.2.7:8443", true},
		{"[::]:8443", "127.0.0.1:8443", true},
		{"[::]:8443", "127.9.9.9:8443", true},
		{"[::]:8443", "192.0.2.7:80", false},
		{"[::]:8443", "192.0.2.8:8443", false},
		{"[::]:8443", "[64:ff9b::c000:207]:8443", true},
		{"127.0.0.1:8080", "0.0.0.0:8080", true},
		{"127.0.0.1:8080", "[::]:8080", true},
	}
	for _, test := range tests {
		// Allowing an address does not allow these.
		g, err := newGuard(prefixes("127.0.0.0/8", "0.0.0.0/8", "::/128", "10.0.0.0/8", "192.0.2.0/24"), nil,
			func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(test.self)} })
		if err != nil {
			t.Fatal(err)
		}
		g.local = func() ([]netip.Addr, error) { return []netip.Addr{here}, nil }
		r := g.check(netip.MustParseAddrPort(test.dst))
		if (r != nil) != test.refused {
			t.Errorf("listening on %s, dialling %s: %v; want refused %v", test.self, test.dst, r, test.refused)
		}
		if r != nil && (r.client != refusedSilently || !strings.Contains(r.operator, "listens")) {
			t.Errorf("%s: told %q, operator %q", test.dst, r.client, r.operator)
		}
	}
}

// A host that cannot list its addresses takes all of them for its own.
func TestGuardSelfFailsClosed(t *testing.T) {
	g, err := newGuard(nil, nil, func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("[::]:80")} })
	if err != nil {
		t.Fatal(err)
	}
	g.local = func() ([]netip.Addr, error) { return nil, errors.New("no interfaces") }
	if g.check(netip.MustParseAddrPort("10.0.0.1:80")) == nil {
		t.Error("dialled")
	}
	if r := g.check(netip.MustParseAddrPort("10.0.0.1:81")); r != nil {
		t.Error(r)
	}
}

func TestInterfaceAddrs(t *testing.T) {
	addrs, err := interfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if a == netip.MustParseAddr("127.0.0.1") {
			return
		}
	}
	t.Errorf("127.0.0.1 is not among %v", addrs)
}

func TestGuardRefusesNoPrefix(t *testing.T) {
	if _, err := newGuard([]netip.Prefix{{}}, nil, nil); err == nil {
		t.Error("an empty prefix was taken")
	}
}
