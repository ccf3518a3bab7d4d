package policy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl/internal/acme"
	"pgregory.net/rapid"
)

func rules(t testing.TB, change ...func(*Profile)) *Rules {
	t.Helper()
	p := testProfile(change...)
	if err := p.Validate(Constraints{}); err != nil {
		t.Fatal(err)
	}
	r, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func grant(t testing.TB, id string, live bool, profiles, domains string) EABGrant {
	t.Helper()
	g, err := NewEABGrant(id, live, strings.Fields(profiles), strings.Fields(domains))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// ids reads identifiers separated by spaces, addresses in brackets.
func ids(text string) (list []acme.Identifier) {
	for field := range strings.FieldsSeq(text) {
		if addr, ok := strings.CutPrefix(field, "["); ok {
			list = append(list, address(strings.TrimSuffix(addr, "]")))
		} else {
			list = append(list, dns(field))
		}
	}
	return list
}

func problemOf(t testing.TB, err error) *acme.Problem {
	t.Helper()
	var problem *acme.Problem
	if !errors.As(err, &problem) {
		t.Fatalf("%v is no problem document", err)
	}
	return problem
}

// refused returns the identifiers that the problem is about, in brackets when addresses.
func refused(t testing.TB, err error) (list []string) {
	t.Helper()
	if err == nil {
		return nil
	}
	problem := problemOf(t, err)
	if problem.Type != acme.ErrRejectedIdentifier {
		t.Fatalf("%v is not about identifiers", err)
	}
	for _, sub := range problem.Subproblems {
		if sub.Type != acme.ErrRejectedIdentifier || sub.Identifier == nil || !strings.Contains(sub.Detail, `"web"`) {
			t.Errorf("subproblem %+v", sub)
			continue
		}
		if value := sub.Identifier.Value; sub.Identifier.Type == acme.IP {
			list = append(list, "["+value+"]")
		} else {
			list = append(list, value)
		}
	}
	return list
}

func TestAuthorizeWithoutEAB(t *testing.T) {
	r := rules(t, func(p *Profile) {
		p.AllowWildcards, p.DeniedDomains, p.AllowedIPRanges = true, []string{".db.example.com"}, []string{"10.0.0.0/8"}
	})
	other := grant(t, "k", true, "web", "elsewhere.test")
	for _, test := range []struct{ ids, refused string }{
		{"example.com a.example.com *.a.example.com [10.1.2.3]", ""},
		{"example.org", "example.org"},
		{"a.example.com example.org x.db.example.com *.example.com [192.0.2.1] [10.0.0.1]", "example.org x.db.example.com *.example.com [192.0.2.1]"},
	} {
		// Keys are bound to the account, but this profile does not ask for them.
		for _, keys := range [][]EABGrant{nil, {other}} {
			err := Authorize(r, ids(test.ids), keys)
			if got := refused(t, err); !slices.Equal(got, strings.Fields(test.refused)) {
				t.Errorf("%s: refused %q, want %q", test.ids, got, test.refused)
			}
		}
	}
	if err := Authorize(r, nil, nil); err == nil || problemOf(t, err).Type != acme.ErrMalformed {
		t.Errorf("no identifiers: %v", err)
	}
}

func TestAuthorizeWithEAB(t *testing.T) {
	named := func(p *Profile) {
		p.EABRequired, p.AllowWildcards, p.AllowedIPRanges = true, true, []string{"10.0.0.0/8"}
	}
	silent := func(p *Profile) { named(p); p.AllowedDomains, p.AllowedIPRanges = nil, nil }
	every := func(p *Profile) { named(p); p.AllowedDomains = []string{"*"} }
	everyOpen := func(p *Profile) { every(p); p.AllowOpen = true }
	everyProved := func(p *Profile) { every(p); p.AuthMode, p.AllowWildcards = Challenge, false }

	type key struct{ profiles, domains string }
	for _, test := range []struct {
		name    string
		profile func(*Profile)
		keys    []key
		ids     string
		refused string
	}{
		{"a key without domains gives what the profile gives", named, []key{{"web", ""}}, "a.example.com *.example.com [10.0.0.1] x.test", "x.test"},
		{"a key with domains gives only these", named, []key{{"web", "a.example.com"}}, "a.example.com b.example.com *.example.com [10.0.0.1]", "b.example.com *.example.com [10.0.0.1]"},
		{"a key gives nothing beyond the profile", named, []key{{"web", "*"}}, "a.example.com x.test", "x.test"},
		{"several keys give their own names each", named, []key{{"web", "a.example.com"}, {"web", "b.example.com"}}, "a.example.com b.example.com c.example.com", "c.example.com"},
		{"the names of one key do not count with the profile of another", named, []key{{"other", "a.example.com"}, {"web", "b.example.com"}}, "a.example.com b.example.com", "a.example.com"},
		{"a wildcard needs one key that covers it", named, []key{{"web", "a.example.com b.example.com"}}, "*.example.com", "*.example.com"},
		{"a wildcard that a key covers", named, []key{{"web", "*.example.com"}}, "*.example.com a.example.com", ""},

		{"a profile that names nothing leaves it to the keys", silent, []key{{"web", ".x.test"}}, "x.test *.x.test y.test [10.0.0.1]", "y.test [10.0.0.1]"},
		{"a key that names nothing either gives nothing", silent, []key{{"web", ""}}, "x.test", "x.test"},
		{"an open profile that trusts leaves it to the keys", every, []key{{"web", "x.test"}}, "x.test y.test", "y.test"},
		{"a key that names nothing gives no name of an open profile that trusts", every, []key{{"web", ""}}, "x.test [10.0.0.1] [192.0.2.1]", "x.test [192.0.2.1]"},
		{"unless open is meant", everyOpen, []key{{"web", ""}}, "x.test *.y.test", ""},
		{"or control is proved", everyProved, []key{{"web", ""}}, "x.test", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var keys []EABGrant
			for i, k := range test.keys {
				keys = append(keys, grant(t, fmt.Sprint("k", i), true, k.profiles, k.domains))
			}
			// A dead key that could do everything changes nothing.
			keys = append(keys, grant(t, "dead", false, "web", "*"), EABGrant{})
			err := Authorize(rules(t, test.profile), ids(test.ids), keys)
			if got := refused(t, err); !slices.Equal(got, strings.Fields(test.refused)) {
				t.Errorf("refused %q, want %q: %v", got, test.refused, err)
			}
		})
	}
}

func TestAuthorizeNeedsALiveKey(t *testing.T) {
	r := rules(t, func(p *Profile) { p.EABRequired = true })
	for name, keys := range map[string][]EABGrant{
		"none":                {},
		"zero":                {{}},
		"dead":                {grant(t, "k", false, "web", "")},
		"for another profile": {grant(t, "k", true, "mail", "")},
		"for no profile":      {grant(t, "k", true, "", "*")},
	} {
		problem := problemOf(t, Authorize(r, ids("a.example.com"), keys))
		if problem.Type != acme.ErrUnauthorized || problem.Status != http.StatusForbidden {
			t.Errorf("%s: %+v", name, problem)
		}
		for _, want := range []string{`"web"`, "newAccount", "externalAccountBinding"} {
			if !strings.Contains(problem.Detail, want) {
				t.Errorf("%s: %q does not say %s", name, problem.Detail, want)
			}
		}
	}
}

func TestNewEABGrantRefusesBadRules(t *testing.T) {
	if _, err := NewEABGrant("k1", true, []string{"web"}, []string{"*.*.x"}); err == nil || !strings.Contains(err.Error(), "k1") {
		t.Errorf("%v", err)
	}
}

func TestRulesAreACopy(t *testing.T) {
	p := testProfile()
	r, err := Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	p.AllowedDomains[0] = "*"
	if got := r.Profile().AllowedDomains[0]; got != ".example.com" {
		t.Error(got)
	}
}

// With EAB required, nothing is allowed that the profile alone or all keys together would not allow, and each name
// stands and falls by itself.
func TestEABOnlyNarrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := testProfile(func(p *Profile) {
			p.AllowOpen, p.AllowWildcards, p.AllowedDomains = true, true, append(genRules.Draw(t, "allowed"), "a")
			p.DeniedDomains = genRules.Draw(t, "denied")
		})
		free, err := Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		p.EABRequired = true
		bound, err := Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		var keys []EABGrant
		for range rapid.IntRange(1, 3).Draw(t, "keys") {
			g, err := NewEABGrant("k", rapid.Bool().Draw(t, "live"),
				rapid.SliceOfN(rapid.SampledFrom([]string{"web", "mail"}), 0, 2).Draw(t, "profiles"), genRules.Draw(t, "names"))
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, g)
		}
		name := dns(rapid.SampledFrom([]string{"", "*."}).Draw(t, "wildcard") + genName.Draw(t, "name"))
		want := false
		for _, k := range keys {
			if k.Live && k.counts("web") {
				ok, _ := k.names.Allows(name)
				want = want || k.names == nil || ok
			}
		}
		want = want && Authorize(free, []acme.Identifier{name}, nil) == nil
		if got := Authorize(bound, []acme.Identifier{name}, keys); (got == nil) != want {
			t.Fatalf("%s: %v, want allowed %v", name.Value, got, want)
		}
		if want && Authorize(bound, []acme.Identifier{name, dns("never.test")}, keys) == nil != (Authorize(bound, []acme.Identifier{dns("never.test")}, keys) == nil) {
			t.Fatal("one name allows another")
		}
	})
}

func manyNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("host-%d.eu.example.com", i)
	}
	return names
}

func BenchmarkAuthorize(b *testing.B) {
	r := rules(b, func(p *Profile) {
		p.EABRequired = true
		p.AllowedDomains = append(manyNames(100), ".example.com")
		p.DeniedDomains = []string{".db.example.com", "secret.example.com"}
	})
	keys := []EABGrant{grant(b, "k1", true, "mail", ""), grant(b, "k2", true, "web", ".eu.example.com")}
	for _, n := range []int{1, 100} {
		list := ids(strings.Join(manyNames(n), " "))
		b.Run(fmt.Sprintf("names=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Authorize(r, list, keys); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	p := testProfile(func(p *Profile) { p.AllowedDomains = manyNames(10) })
	for b.Loop() {
		if _, err := Compile(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSpend(b *testing.B) {
	limit := Limit{Burst: 1000, Period: 3600e9}
	for b.Loop() {
		limit.Spend(epoch, epoch, 1)
	}
}
