package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl/internal/acme"
	"pgregory.net/rapid"
)

func dns(name string) acme.Identifier     { return acme.Identifier{Type: acme.DNS, Value: name} }
func address(addr string) acme.Identifier { return acme.Identifier{Type: acme.IP, Value: addr} }

func compile(t testing.TB, allowed, denied, ranges []string, wildcards bool) *NameRules {
	t.Helper()
	rules, err := CompileNames(allowed, denied, ranges, wildcards)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestDomainRuleGrammar(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, test := range []struct{ entry, want string }{ // want "": refused
		{"example.com", "example.com"},
		{"*.example.com", "*.example.com"},
		{".example.com", ".example.com"},
		{"*", "*"},
		{" \t*.Example.COM\n", "*.example.com"},
		{"localhost", "localhost"},
		{".test", ".test"},
		{"*.test", "*.test"},
		{"bücher.example", "xn--bcher-kva.example"},
		{".BÜCHER.example", ".xn--bcher-kva.example"},
		{"*.bücher.example", "*.xn--bcher-kva.example"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"r3---sn-4g5.example", "r3---sn-4g5.example"},
		{"1password.example", "1password.example"},
		{long + ".example", long + ".example"},

		{"", ""},
		{" ", ""},
		{".", ""},
		{"*.", ""},
		{"**", ""},
		{"*example.com", ""},
		{"*.*.example.com", ""},
		{"a.*.example.com", ""},
		{"example.*", ""},
		{".*.example.com", ""},
		{"*..example.com", ""},
		{"..example.com", ""},
		{"a..example.com", ""},
		{"a b.example.com", ""},
		{"a_b.example.com", ""},
		{"-a.example.com", ""},
		{"a-.example.com", ""},
		{long + "a.example", ""},
		{strings.Repeat(long+".", 4) + "example", ""},
		{"example.123", ""},
		{"10.0.0.1", ""},
		{"10.0.0.0/8", ""},
		{"::1", ""},
		{"https://example.com", ""},
		{"example.com:443", ""},
		{"user@example.com", ""},
		{"xn--a.example", ""},
		{"bücher\u0000.example", ""},
		{"\x00.example", ""},
		{"\xff.example", ""},
		{"*.\u3002example", ""},
	} {
		rule, err := parseDomainRule(test.entry)
		switch {
		case test.want == "" && err == nil:
			t.Errorf("%q: read as %q, want an error", test.entry, rule)
		case test.want != "" && err != nil:
			t.Errorf("%q: %v", test.entry, err)
		case test.want != "" && rule.String() != test.want:
			t.Errorf("%q: read as %q, want %q", test.entry, rule, test.want)
		}
	}
}

func TestRangeGrammar(t *testing.T) {
	for _, test := range []struct{ entry, want, hint string }{
		{"10.0.0.0/8", "10.0.0.0/8", ""},
		{" 10.0.0.1 ", "10.0.0.1/32", ""},
		{"2001:DB8::/32", "2001:db8::/32", ""},
		{"2001:db8:0:0::1", "2001:db8::1/128", ""},
		{"0.0.0.0/0", "0.0.0.0/0", ""},
		{"10.0.0.1/8", "", "10.0.0.0/8, or the address 10.0.0.1"},
		{"10.0.0.0/33", "", "neither"},
		{"10.0.0", "", "neither"},
		{"fe80::1%eth0", "", "zone"},
		{"fe80::%eth0/64", "", "zone"},
		{"::ffff:10.0.0.1", "", "IPv4 form"},
		{"::ffff:10.0.0.0/104", "", "IPv4 form"},
		{"example.com", "", "neither"},
		{"", "", "neither"},
		{"*", "", "neither"},
	} {
		prefix, err := parseRange(test.entry)
		switch {
		case test.want == "" && err == nil:
			t.Errorf("%q: read as %s, want an error", test.entry, prefix)
		case test.want == "" && !strings.Contains(err.Error(), test.hint):
			t.Errorf("%q: %v; want it to say %q", test.entry, err, test.hint)
		case test.want != "" && (err != nil || prefix.String() != test.want):
			t.Errorf("%q: %s, %v; want %s", test.entry, prefix, err, test.want)
		}
	}
}

func TestCompileNamesNamesEveryBadEntry(t *testing.T) {
	_, err := CompileNames([]string{"ok.example", "a b", "*.*.x"}, []string{"10.0.0.1"}, []string{"host"}, false)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`allowed_domains: "a b"`, `allowed_domains: "*.*.x"`, `denied_domains: "10.0.0.1"`, `allowed_ip_ranges: "host"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %s", err, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, test := range []struct {
		allowed, denied string // separated by spaces
		yes, no         string
	}{
		{"example.com", "", "example.com", "a.example.com example.org com xexample.com example.com.evil.test *.example.com"},
		{"*.example.com", "", "a.example.com *.example.com", "example.com a.b.example.com *.a.example.com aexample.com"},
		{".example.com", "", "example.com a.example.com a.b.example.com *.example.com *.a.b.example.com", "com xexample.com *.com *.xexample.com"},
		{"*", "", "example.com localhost *.com *.a.example.com", ""},
		{"localhost .localhost .test", "", "localhost a.localhost test a.test *.test *.localhost", "localhosts atest"},
		{"", "", "", "example.com localhost *.com"},
		{"bücher.example", "", "xn--bcher-kva.example", "bücher.example"},

		// A denied rule wins over every allowed one.
		{"a.example.com .example.com *.example.com *", "a.example.com", "b.example.com x.a.example.com example.com *.a.example.com", "a.example.com *.example.com"},
		{".example.com", "*.a.example.com", "a.example.com *.example.com x.y.a.example.com *.y.a.example.com", "x.a.example.com *.a.example.com"},
		{".example.com", ".a.example.com", "example.com b.example.com", "a.example.com x.a.example.com *.a.example.com *.example.com *.x.a.example.com"},
		{".example.com", ".a.b.example.com", "*.example.com b.example.com x.b.example.com", "a.b.example.com *.b.example.com *.a.b.example.com"},
		{".example.com", "*", "", "example.com a.example.com *.example.com"},
		{".example.com", "example.com", "a.example.com *.example.com", "example.com"},
		{".example.com", ".com", "", "example.com a.example.com *.example.com"},

		// Many single names are not every name.
		{"a.example.com b.example.com .c.example.com", "", "a.example.com b.example.com x.c.example.com *.c.example.com", "*.example.com"},
		// A rule for the level above says nothing about the level below.
		{"*.example.com", "", "a.example.com", "*.a.example.com"},

		// Only the canonical spelling of a name is looked up.
		{"*", "a.example.com", "b.example.com", "A.example.com a.example.com. .a.example.com a..example.com a.*.com *.*.com * *. b_c.com"},
	} {
		rules := compile(t, strings.Fields(test.allowed), strings.Fields(test.denied), nil, true)
		for name := range strings.FieldsSeq(test.yes) {
			if ok, reason := rules.Allows(dns(name)); !ok || reason != "" {
				t.Errorf("allowed %q, denied %q: %s is refused: %s", test.allowed, test.denied, name, reason)
			}
		}
		for name := range strings.FieldsSeq(test.no) {
			if ok, reason := rules.Allows(dns(name)); ok || reason == "" {
				t.Errorf("allowed %q, denied %q: %s is allowed (%s)", test.allowed, test.denied, name, reason)
			}
		}
		if ok, _ := rules.Allows(dns("")); ok {
			t.Errorf("allowed %q: the empty name is allowed", test.allowed)
		}
	}
}

func TestWildcardsNeedTheSwitch(t *testing.T) {
	rules := compile(t, []string{"*"}, nil, nil, false)
	ok, reason := rules.Allows(dns("*.example.com"))
	if ok || !strings.Contains(reason, "allow_wildcards") {
		t.Errorf("allowed: %v, reason %q", ok, reason)
	}
	if ok, _ := rules.Allows(dns("a.example.com")); !ok {
		t.Error("a.example.com is refused")
	}
}

func TestReasonsNameTheRule(t *testing.T) {
	rules := compile(t, []string{".example.com"}, []string{".a.example.com"}, nil, true)
	for name, want := range map[string]string{
		"x.a.example.com": `denied_domains has ".a.example.com"`,
		"*.example.com":   `".a.example.com", which is among the names`,
		"example.org":     "no entry of allowed_domains",
		"*.example.org":   "covers every name one label below example.org",
	} {
		if _, reason := rules.Allows(dns(name)); !strings.Contains(reason, want) {
			t.Errorf("%s: %q does not say %q", name, reason, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	rules := compile(t, []string{"*"}, nil, []string{"10.1.0.0/16", "192.0.2.7", "2001:db8::/32"}, true)
	for addr, want := range map[string]bool{
		"10.1.0.0": true, "10.1.255.255": true, "192.0.2.7": true, "2001:db8::1": true,
		"10.2.0.0": false, "192.0.2.8": false, "2001:db9::1": false, "::1": false,
		"::ffff:10.1.0.1": false, "2001:db8::1%eth0": false, "10.1.0": false, "": false, "*": false,
	} {
		if ok, reason := rules.Allows(address(addr)); ok != want || ok != (reason == "") {
			t.Errorf("%s: %v, %q", addr, ok, reason)
		}
	}
	if ok, _ := compile(t, []string{"*"}, nil, nil, true).Allows(address("10.1.0.0")); ok {
		t.Error(`"*" allows an address`)
	}
	if ok, _ := compile(t, nil, nil, []string{"0.0.0.0/0"}, true).Allows(address("::1")); ok {
		t.Error("0.0.0.0/0 allows an IPv6 address")
	}
}

func TestNothingIsAllowedByNothing(t *testing.T) {
	for _, rules := range []*NameRules{nil, {}} {
		for _, id := range []acme.Identifier{dns("a.test"), dns("*.test"), address("10.0.0.1"), {Type: "email", Value: "a@b.test"}, {}} {
			if ok, reason := rules.Allows(id); ok || reason == "" {
				t.Errorf("%v: %v, %q", id, ok, reason)
			}
		}
	}
	rules := compile(t, []string{"*"}, nil, []string{"0.0.0.0/0", "::/0"}, true)
	if ok, reason := rules.Allows(acme.Identifier{Type: "email", Value: "a.test"}); ok || !strings.Contains(reason, "email") {
		t.Errorf("email: %v, %q", ok, reason)
	}
}

// Few labels make collisions likely.
var (
	genLabel = rapid.SampledFrom([]string{"a", "b", "c"})
	genName  = rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(genLabel, 1, 4).Draw(t, "labels"), ".")
	})
	genRule = rapid.Custom(func(t *rapid.T) string {
		if rapid.IntRange(0, 20).Draw(t, "every") == 0 {
			return "*"
		}
		return rapid.SampledFrom([]string{"", "*.", "."}).Draw(t, "kind") + genName.Draw(t, "name")
	})
	genRules = rapid.SliceOfN(genRule, 0, 6)
)

// ruleMatches is the grammar, word for word.
func ruleMatches(rule, name string) bool {
	if rule == "*" {
		return true
	}
	if base, ok := strings.CutPrefix(rule, "*."); ok {
		label, found := strings.CutSuffix(name, "."+base)
		return found && !strings.Contains(label, ".")
	}
	if base, ok := strings.CutPrefix(rule, "."); ok {
		return name == base || strings.HasSuffix(name, rule)
	}
	return name == rule
}

func TestNamesAgreeWithTheGrammar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		allowed, denied, name := genRules.Draw(t, "allowed"), genRules.Draw(t, "denied"), genName.Draw(t, "name")
		matches := func(rules []string) bool {
			return slices.ContainsFunc(rules, func(rule string) bool { return ruleMatches(rule, name) })
		}
		want := matches(allowed) && !matches(denied)
		rules, err := CompileNames(allowed, denied, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		if got, reason := rules.Allows(dns(name)); got != want {
			t.Fatalf("%s: got %v (%s), want %v", name, got, reason, want)
		}
	})
}

func TestWildcardsAgreeWithTheGrammar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		allowed, denied, base := genRules.Draw(t, "allowed"), genRules.Draw(t, "denied"), genName.Draw(t, "base")
		// The rules speak of a, b and c only, so "other" stands for all other labels: a rule that covers it covers all.
		want := slices.ContainsFunc(allowed, func(rule string) bool { return ruleMatches(rule, "other."+base) })
		for _, label := range []string{"a", "b", "c", "other"} {
			if slices.ContainsFunc(denied, func(rule string) bool { return ruleMatches(rule, label+"."+base) }) {
				want = false
			}
		}
		rules, err := CompileNames(allowed, denied, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		if got, reason := rules.Allows(dns("*." + base)); got != want {
			t.Fatalf("*.%s: got %v (%s), want %v", base, got, reason, want)
		}
	})
}

func TestWildcardImpliesEveryChild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := genName.Draw(t, "base")
		allowed := append(genRules.Draw(t, "allowed"), rapid.SampledFrom([]string{"*." + base, "." + base, "*"}).Draw(t, "cover"))
		rules, err := CompileNames(allowed, genRules.Draw(t, "denied"), nil, true)
		if err != nil {
			t.Fatal(err)
		}
		if ok, _ := rules.Allows(dns("*." + base)); !ok {
			return
		}
		for _, label := range []string{"a", "b", "c", "other", "*"} {
			child := dns(label + "." + base)
			if ok, reason := rules.Allows(child); !ok {
				t.Fatalf("*.%s is allowed, %s is not: %s", base, child.Value, reason)
			}
		}
	})
}

func TestDenyWins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		allowed, denied := genRules.Draw(t, "allowed"), genRules.Draw(t, "denied")
		name := rapid.SampledFrom([]string{"", "*."}).Draw(t, "wildcard") + genName.Draw(t, "name")
		before, err := CompileNames(allowed, denied, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		// One more denied rule never allows anything; one that matches the name refuses it, whatever is allowed.
		more := genRule.Draw(t, "more")
		after, err := CompileNames(append(allowed, "*"), append(denied, more), nil, true)
		if err != nil {
			t.Fatal(err)
		}
		widest, err := CompileNames([]string{"*"}, denied, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		okBefore, _ := before.Allows(dns(name))
		okAfter, _ := after.Allows(dns(name))
		okWidest, _ := widest.Allows(dns(name))
		if okBefore && !okWidest {
			t.Fatalf("%s: allowed, but not by the widest rule", name)
		}
		if okAfter && !okWidest {
			t.Fatalf("%s: denying %s allows it", name, more)
		}
		if okAfter && ruleMatches(more, strings.Replace(name, "*", "other", 1)) {
			t.Fatalf("%s: allowed though %s is denied", name, more)
		}
	})
}

func FuzzDomainRule(f *testing.F) {
	for _, seed := range []string{"example.com", "*.example.com", ".example.com", "*", "*.*.x", "bücher.example", "xn--a", "10.0.0.1",
		"a.123", "。", "*.。x", ".", "ß.test", "a\u200d.test", "\xff", "faß.de", "İ.test", "K.test"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		rule, err := parseDomainRule(entry)
		if err != nil {
			return
		}
		text := rule.String()
		again, err := parseDomainRule(text)
		if err != nil || again != rule {
			t.Fatalf("%q is read as %q, which is read as %q, %v", entry, text, again, err)
		}
		if rule.kind == everyName {
			return
		}
		if id, err := acme.ParseIdentifier("dns", rule.name); err != nil || id.Value != rule.name {
			t.Fatalf("%q names %q, which is not canonical: %v", entry, rule.name, err)
		}
		rules, err := CompileNames([]string{entry}, nil, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		subject := rule.name
		if rule.kind == children {
			subject = "a." + subject
		}
		if ok, reason := rules.Allows(dns(subject)); !ok {
			t.Fatalf("%q does not allow %s: %s", entry, subject, reason)
		}
		denied, err := CompileNames([]string{"*"}, []string{entry}, nil, true)
		if err != nil {
			t.Fatal(err)
		}
		if ok, _ := denied.Allows(dns(subject)); ok {
			t.Fatalf("%q does not deny %s", entry, subject)
		}
	})
}
