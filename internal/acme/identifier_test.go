package acme

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestParseIdentifier(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	name253 := strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
	const (
		ok       = ErrorType("")
		mal      = ErrMalformed
		rejected = ErrRejectedIdentifier
	)
	for _, test := range []struct {
		typ, value string
		want       ErrorType
		text       string // the canonical value, or a part of the detail
	}{
		// RFC 8555, Section 7.1.3.
		{"dns", "www.example.org", ok, "www.example.org"},
		{"dns", "*.example.org", ok, "*.example.org"},
		{"dns", "WWW.Example.ORG", ok, "www.example.org"},
		{"dns", "localhost", ok, "localhost"},
		{"dns", "*.test", ok, "*.test"},
		{"dns", "a", ok, "a"},
		{"dns", "1.example", ok, "1.example"},
		{"dns", "10.0.0.1.example", ok, "10.0.0.1.example"},
		{"dns", "a1.1a", ok, "a1.1a"},
		{"dns", "r3---sn-apo3qvuoxuxbt-j5pe.example.com", ok, "r3---sn-apo3qvuoxuxbt-j5pe.example.com"},
		{"dns", "ab--cd.example", ok, "ab--cd.example"},
		{"dns", label63 + ".example", ok, label63 + ".example"},
		{"dns", name253, ok, name253},
		{"dns", "xn--bcher-kva.example", ok, "xn--bcher-kva.example"},
		{"dns", "XN--BCHER-KVA.example", ok, "xn--bcher-kva.example"},
		{"dns", "*.xn--bcher-kva.example", ok, "*.xn--bcher-kva.example"},
		{"dns", "xn--fiqs8s", ok, "xn--fiqs8s"},
		{"dns", "xn--strae-oqa.example", ok, "xn--strae-oqa.example"},
		{"dns", "printer.local", ok, "printer.local"},
		{"dns", "arpa", ok, "arpa"},
		{"dns", "router.home.arpa", ok, "router.home.arpa"},

		{"dns", "", mal, "empty"},
		{"dns", ".", mal, "dot"},
		{"dns", "example.org.", mal, "dot"},
		{"dns", ".example.org", mal, "empty label"},
		{"dns", "a..example.org", mal, "empty label"},
		{"dns", "*", mal, "wildcard"},
		{"dns", "*.", mal, "dot"},
		{"dns", "*..example.org", mal, "empty label"},
		{"dns", "**.example.org", mal, "wildcard"},
		{"dns", "*.*.example.org", mal, "wildcard"},
		{"dns", "*.*", mal, "wildcard"},
		{"dns", "a.*.example.org", mal, "wildcard"},
		{"dns", "www.*", mal, "wildcard"},
		{"dns", "*a.example.org", mal, "wildcard"},
		{"dns", "a*.example.org", mal, "wildcard"},
		{"dns", "_example.org", mal, "underscore"}, // RFC 8555, Section 6.7.1
		{"dns", "-a.example", mal, "hyphen"},
		{"dns", "a-.example", mal, "hyphen"},
		{"dns", "-", mal, "hyphen"},
		{"dns", "a b.example", mal, "character"},
		{"dns", " a.example", mal, "character"},
		{"dns", "a.example\n", mal, "character"},
		{"dns", "a\x00.example", mal, "character"},
		{"dns", "a.example:443", mal, "character"},
		{"dns", "https://a.example/", mal, "character"},
		{"dns", "user@a.example", mal, "character"},
		{"dns", "a,b.example", mal, "character"},
		{"dns", "a\"b.example", mal, "character"},
		{"dns", label63 + "a.example", mal, "63"},
		{"dns", name253 + "b", mal, "253"},
		{"dns", "*." + name253, mal, "253"},
		{"dns", strings.Repeat("a.", 1<<16), mal, "253"},
		{"dns", "1.2", mal, "number"},
		{"dns", "example.1", mal, "number"},
		{"dns", "1", mal, "number"},
		{"dns", "*.10", mal, "number"},
		{"dns", "999.999.999.999", mal, "number"},
		{"dns", "10.0.0.1", mal, `type "ip"`},
		{"dns", "2001:DB8::1", mal, `"2001:db8::1"`},
		{"dns", "::ffff:10.0.0.1", mal, `"10.0.0.1"`},
		{"dns", "fe80::1%eth0", mal, `"fe80::1"`},
		{"dns", "[::1]", mal, "character"},

		// U-labels are refused with the A-label told.
		{"dns", "bücher.example", mal, `"xn--bcher-kva.example"`},
		{"dns", "*.Bücher.example", mal, `"*.xn--bcher-kva.example"`},
		{"dns", "例え.テスト", mal, `"xn--r8jz45g.xn--zckzah"`},
		{"dns", "a。example", mal, `"a.example"`},
		{"dns", "ａ.example", mal, `"a.example"`},
		{"dns", "a\u200bb.example", mal, "ASCII"},
		{"dns", "\u202ea.example", mal, "not valid IDNA"},
		{"dns", "b\xfccher.example", mal, "UTF-8"},
		{"dns", strings.Repeat("ü", 120), mal, "ASCII"},

		// "Servers MUST verify any identifier values that begin with the
		// ASCII-Compatible Encoding prefix" (RFC 8555, Section 7.1.4).
		{"dns", "xn--.example", mal, "hyphen"},
		{"dns", "xn--a.example", mal, "IDNA"},
		{"dns", "xn--abc-.example", mal, "hyphen"},
		{"dns", "xn--example-.com", mal, "hyphen"},
		{"dns", "xn--99999999.example", mal, "IDNA"},
		{"dns", "xn--u-ccb.example", mal, "IDNA"},     // u and a combining mark: not normalized
		{"dns", "xn--BCHER-0xa.example", mal, "IDNA"}, // decodes to capitals with an umlaut
		{"dns", "www.xn--bcher-kva.xn--", mal, "hyphen"},
		{"dns", "xn--0ca24w.example", mal, "IDNA"},        // letters of both directions in one label
		{"dns", "xn--xn--bcher-kva-.example", mal, "hyp"}, // twice encoded

		{"dns", "onion", rejected, "onion"},
		{"dns", "xyz.onion", rejected, "onion"},
		{"dns", "*.xyz.onion", rejected, "onion"},
		{"dns", "notonion", ok, "notonion"},
		{"dns", "1.0.0.127.in-addr.arpa", rejected, "in-addr.arpa"},
		{"dns", "*.IN-ADDR.ARPA", rejected, "in-addr.arpa"},
		{"dns", "8.b.d.0.1.0.0.2.ip6.arpa", rejected, "ip6.arpa"},

		// RFC 8738, Section 3.
		{"ip", "192.0.2.1", ok, "192.0.2.1"},
		{"ip", "2001:db8::1", ok, "2001:db8::1"},
		{"ip", "127.0.0.1", ok, "127.0.0.1"},
		{"ip", "::1", ok, "::1"},
		{"ip", "fe80::1", ok, "fe80::1"},
		{"ip", "2001:db8:0:1:1:1:1:1", ok, "2001:db8:0:1:1:1:1:1"}, // RFC 5952, Section 4.2.2
		{"ip", "2001:db8:0:0:1::1", mal, "2001:db8::1:0:0:1"},      // RFC 5952, Section 4.2.3
		{"ip", "2001:db8::1:0:0:1", ok, "2001:db8::1:0:0:1"},
		{"ip", "2001:DB8::1", mal, `"2001:db8::1"`},
		{"ip", "2001:0db8::1", mal, `"2001:db8::1"`},
		{"ip", "2001:db8:0:0:0:0:0:1", mal, `"2001:db8::1"`},
		{"ip", "2001:db8::0:1", mal, `"2001:db8::1"`},
		{"ip", "2001:db8::192.0.2.1", mal, `"2001:db8::c000:201"`},
		{"ip", "::ffff:192.0.2.1", mal, `"192.0.2.1"`},
		{"ip", "::ffff:c000:201", mal, `"192.0.2.1"`},
		{"ip", "fe80::1%eth0", mal, "zone"},
		{"ip", "::ffff:192.0.2.1%eth0", mal, "zone"},
		{"ip", "", mal, "not an IP address"},
		{"ip", "192.0.2.01", mal, "not an IP address"},
		{"ip", "0300.0.2.1", mal, "not an IP address"},
		{"ip", "192.0.2", mal, "not an IP address"},
		{"ip", "3221225985", mal, "not an IP address"},
		{"ip", "192.0.2.0/24", mal, "not an IP address"},
		{"ip", "192.0.2.1:80", mal, "not an IP address"},
		{"ip", "[2001:db8::1]", mal, "not an IP address"},
		{"ip", " 192.0.2.1", mal, "not an IP address"},
		{"ip", "*.0.2.1", mal, "not an IP address"},
		{"ip", "www.example.org", mal, "not an IP address"},
		{"ip", strings.Repeat("1", 1<<16), mal, "not an IP address"},
		{"ip", "0.0.0.0", rejected, "one host"},
		{"ip", "::", rejected, "one host"},
		{"ip", "255.255.255.255", rejected, "one host"},
		{"ip", "224.0.0.1", rejected, "one host"},
		{"ip", "ff02::1", rejected, "one host"},

		{"", "www.example.org", mal, "no type"},
		{"DNS", "www.example.org", ErrUnsupportedIdentifier, "DNS"},
		{"email", "a@example.org", ErrUnsupportedIdentifier, "email"},
		{"permanent-identifier", "x", ErrUnsupportedIdentifier, "permanent-identifier"},
		{strings.Repeat("x", 1<<16), "x", ErrUnsupportedIdentifier, "xxx..."},
	} {
		id, err := ParseIdentifier(test.typ, test.value)
		if test.want == ok {
			if err != nil || id != (Identifier{IdentifierType(test.typ), test.text}) {
				t.Errorf("%s %q: %v, %v", test.typ, test.value, id, err)
			}
			continue
		}
		t.Run(excerpt(test.typ+" "+test.value), func(t *testing.T) {
			wantProblem(t, err, test.want, test.text)
			if id != (Identifier{}) {
				t.Errorf("returns %v beside the error", id)
			}
		})
	}
}

func TestIdentifier(t *testing.T) {
	for _, test := range []struct {
		id       Identifier
		wildcard bool
		base     string
		text     string
	}{
		{Identifier{DNS, "a.test"}, false, "a.test", "dns:a.test"},
		{Identifier{DNS, "*.a.test"}, true, "a.test", "dns:*.a.test"},
		{Identifier{IP, "192.0.2.1"}, false, "192.0.2.1", "ip:192.0.2.1"},
	} {
		if test.id.Wildcard() != test.wildcard || test.id.String() != test.text ||
			test.id.Base() != (Identifier{test.id.Type, test.base}) {
			t.Errorf("%v: %v, %v", test.id, test.id.Wildcard(), test.id.Base())
		}
	}
	wire, err := json.Marshal(Identifier{DNS, "example.org"})
	if err != nil || string(wire) != `{"type":"dns","value":"example.org"}` {
		t.Errorf("%s, %v", wire, err)
	}
}

// canonical checks what holds for every identifier that is accepted.
func canonical(t interface{ Fatalf(string, ...any) }, typ, value string) {
	id, err := ParseIdentifier(typ, value)
	if err != nil {
		if _, ok := err.(*Problem); !ok {
			t.Fatalf("%s %q: %T is not a problem", typ, value, err)
		}
		return
	}
	if again, err := ParseIdentifier(string(id.Type), id.Value); err != nil || again != id {
		t.Fatalf("%v parses to %v, %v", id, again, err)
	}
	if !strings.EqualFold(id.Value, value) {
		t.Fatalf("%q became %q", value, id.Value)
	}
	if len(id.Value) > 253 || id.Value != strings.ToLower(id.Value) || strings.HasSuffix(id.Value, ".") || !isASCII(id.Value) {
		t.Fatalf("%q is not canonical", id.Value)
	}
	if base := id.Base(); base.Wildcard() || strings.Contains(base.Value, "*") {
		t.Fatalf("the base of %v is %v", id, base)
	} else if again, err := ParseIdentifier(string(base.Type), base.Value); err != nil || again != base {
		t.Fatalf("the base %v parses to %v, %v", base, again, err)
	}
	addr, err := netip.ParseAddr(id.Value)
	if (err == nil) != (id.Type == IP) {
		t.Fatalf("%v is of the wrong type", id)
	}
	if id.Type == IP && (addr.Is4In6() || addr.Zone() != "" || addr.String() != id.Value) {
		t.Fatalf("%v is not canonical", id)
	}
}

func TestIdentifierCanonical(t *testing.T) {
	label := rapid.OneOf(
		rapid.StringMatching(`[a-zA-Z0-9-]{1,8}`),
		rapid.StringMatching(`xn--[a-z0-9-]{1,8}`),
		rapid.SampledFrom([]string{"*", "", "example", "onion", "arpa", "xn--bcher-kva"}),
	)
	name := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(label, 1, 5).Draw(t, "labels"), ".")
	})
	address := rapid.Custom(func(t *rapid.T) string {
		octets := rapid.SliceOfN(rapid.OneOf(rapid.Byte(), rapid.Just(byte(0))), 16, 16).Draw(t, "octets")
		addr, _ := netip.AddrFromSlice(octets[:rapid.SampledFrom([]int{4, 16}).Draw(t, "length")])
		return addr.String()
	})
	rapid.Check(t, func(t *rapid.T) {
		canonical(t, "dns", name.Draw(t, "name"))
		canonical(t, "ip", address.Draw(t, "address"))
	})
}

func FuzzParseIdentifier(f *testing.F) {
	for _, value := range []string{
		"www.example.org", "*.example.org", "xn--bcher-kva.example", "bücher.example", "a.*.b", "*.*.b", "-a-.b", "a_b",
		"1.2.3.4", "2001:db8::1", "::ffff:1.2.3.4", "fe80::1%1", "010.1.1.1", "xn--", "xn--a", "a..b", "a.", "x.onion",
	} {
		f.Add("dns", value)
		f.Add("ip", value)
	}
	f.Fuzz(func(t *testing.T, typ, value string) {
		canonical(t, typ, value)
	})
}
