package policy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl/internal/pki"
)

func TestValidate(t *testing.T) {
	type change = func(*Profile)
	for _, test := range []struct {
		name   string
		change change
		want   []string // what each message begins with; none: valid
	}{
		{"the base", func(p *Profile) {}, nil},
		{"id of one character", func(p *Profile) { p.ID = "0" }, nil},
		{"longest id", func(p *Profile) { p.ID = strings.Repeat("a", 63) }, nil},
		{"no id", func(p *Profile) { p.ID = "" }, []string{`id: ""`}},
		{"id too long", func(p *Profile) { p.ID = strings.Repeat("a", 64) }, []string{"id:"}},
		{"id with a hyphen first", func(p *Profile) { p.ID = "-a" }, []string{"id:"}},
		{"id in upper case", func(p *Profile) { p.ID = "Web" }, []string{"id:"}},
		{"id with a slash", func(p *Profile) { p.ID = "a/b" }, []string{"id:"}},
		{"id with a dot", func(p *Profile) { p.ID = "a.b" }, []string{"id:"}},
		{"id beyond ASCII", func(p *Profile) { p.ID = "ä" }, []string{"id:"}},
		{"no issuer", func(p *Profile) { p.IssuerID = "" }, []string{"issuer_id:"}},
		{"name of two lines", func(p *Profile) { p.Name = "a\nb" }, []string{"name:"}},
		{"name too long", func(p *Profile) { p.Name = strings.Repeat("a", 201) }, []string{"name:"}},
		{"name not UTF-8", func(p *Profile) { p.Name = "a\xff" }, []string{"name:"}},
		{"unknown mode", func(p *Profile) { p.AuthMode = "trust" }, []string{"acme_auth_mode:"}},
		{"no mode", func(p *Profile) { p.AuthMode = "" }, []string{"acme_auth_mode:"}},

		{"one minute", func(p *Profile) { p.MaxTTLSeconds = 60 }, nil},
		{"ten years", func(p *Profile) { p.MaxTTLSeconds = 315_360_000 }, nil},
		{"no life", func(p *Profile) { p.MaxTTLSeconds = 0 }, []string{"max_ttl_seconds: 0"}},
		{"life too short", func(p *Profile) { p.MaxTTLSeconds = 59 }, []string{"max_ttl_seconds: 59"}},
		{"life too long", func(p *Profile) { p.MaxTTLSeconds = 315_360_001 }, []string{"max_ttl_seconds:"}},
		{"negative life", func(p *Profile) { p.MaxTTLSeconds = -1 << 63 }, []string{"max_ttl_seconds:"}},
		{"default life", func(p *Profile) { p.DefaultTTLSeconds = p.MaxTTLSeconds }, nil},
		{"default life too long", func(p *Profile) { p.DefaultTTLSeconds = p.MaxTTLSeconds + 1 }, []string{"default_ttl_seconds:"}},
		{"default life too short", func(p *Profile) { p.DefaultTTLSeconds = 59 }, []string{"default_ttl_seconds:"}},
		{"negative default life", func(p *Profile) { p.DefaultTTLSeconds = -1 }, []string{"default_ttl_seconds:"}},

		{"unreadable entries", func(p *Profile) {
			p.AllowedDomains, p.DeniedDomains, p.AllowedIPRanges = []string{"a b"}, []string{"**"}, []string{"x"}
		}, []string{`allowed_domains: "a b"`, `denied_domains: "**"`, `allowed_ip_ranges: "x"`}},
		{"too many entries", func(p *Profile) { p.DeniedDomains = manyNames(10_001) }, []string{"denied_domains: 10001"}},
		{"challenge type that is not offered", func(p *Profile) { p.ChallengeTypes = []string{"dns-02"} }, []string{`challenge_types: "dns-02"`}},
		{"unknown key type", func(p *Profile) { p.KeyTypes = []pki.KeyType{"dsa"} }, []string{`key_types: "dsa"`}},
		{"unknown usage", func(p *Profile) { p.ExtKeyUsages = []string{"code_signing"} }, []string{`ext_key_usages: "code_signing"`}},
		{"lints of the public Web", func(p *Profile) { p.LintSources = []pki.LintSource{"CABF_BR", "apple"} }, nil},
		{"unknown lints", func(p *Profile) { p.LintSources = []pki.LintSource{"rfc0"} }, []string{`lint_sources: "rfc0" is none of "rfc3279", "rfc5280"`}},
		{"wildcards that no challenge proves", func(p *Profile) {
			p.AuthMode, p.AllowWildcards, p.ChallengeTypes = Challenge, true, []string{"http-01"}
		}, []string{"allow_wildcards:"}},
		{"trusted wildcards", func(p *Profile) { p.AllowWildcards = true }, nil},
		{"several at once", func(p *Profile) { p.ID, p.MaxTTLSeconds, p.AllowedDomains = "", 0, nil },
			[]string{"id:", "max_ttl_seconds:", "allowed_domains:"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := testProfile(test.change)
			checkMessages(t, p.Validate(Constraints{}), test.want)
		})
	}
}

func TestValidateWithoutNormalize(t *testing.T) {
	p := testProfile()
	p.KeyTypes, p.ChallengeTypes, p.ExtKeyUsages = nil, nil, []string{"server_auth", "server_auth"}
	checkMessages(t, p.Validate(Constraints{}), []string{"challenge_types: at least one", "key_types: at least one", `ext_key_usages: "server_auth" is there twice`})
}

func TestTrustIsNeverAccidental(t *testing.T) {
	const trust, challenge = TrustAuthenticated, Challenge
	for _, test := range []struct {
		mode            AuthMode
		domains, ranges string
		eab, allowOpen  bool
		want            string // what the refusal says; "": valid
		warns           bool
	}{
		{mode: trust, domains: "a.test"},
		{mode: trust, ranges: "10.0.0.0/8"},
		{mode: trust, eab: true},
		{mode: trust, want: "must name its domains"},
		{mode: trust, allowOpen: true, want: "must name its domains"},
		{mode: trust, domains: "*", want: "open"},
		{mode: trust, domains: "a.test *", want: "open"},
		{mode: trust, domains: "*", allowOpen: true, warns: true},
		{mode: trust, domains: "*", eab: true},
		{mode: trust, domains: "*", eab: true, allowOpen: true, warns: true},
		{mode: trust, domains: "a.test", ranges: "0.0.0.0/0", eab: true, warns: true}, // keys name domains, not addresses
		{mode: trust, domains: "a.test", ranges: "10.0.0.0/8", eab: true},
		{mode: trust, domains: "a.test", ranges: "0.0.0.0/0", want: "open"},
		{mode: trust, ranges: "::/0", want: "open"},
		{mode: trust, ranges: "::/0", allowOpen: true, warns: true},
		{mode: trust, domains: "a.test", allowOpen: true},

		{mode: challenge, domains: "a.test"},
		{mode: challenge, ranges: "10.0.0.0/8"},
		{mode: challenge, want: "issue nothing"},
		{mode: challenge, eab: true, want: "issue nothing"},
		{mode: challenge, allowOpen: true, want: "issue nothing"},
		{mode: challenge, domains: "*", want: "open"},
		{mode: challenge, domains: "*", eab: true},
		{mode: challenge, domains: "*", allowOpen: true, warns: true},
		{mode: challenge, domains: "a.test", ranges: "0.0.0.0/0", want: "open"},
	} {
		p := testProfile(func(p *Profile) {
			p.AuthMode, p.EABRequired, p.AllowOpen = test.mode, test.eab, test.allowOpen
			p.AllowedDomains, p.AllowedIPRanges = strings.Fields(test.domains), strings.Fields(test.ranges)
		})
		err := p.Validate(Constraints{})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test, err)
		}
		// A profile that was stored nevertheless is not used.
		if _, errCompile := Compile(p); (errCompile == nil) != (err == nil) {
			t.Errorf("%+v: Validate says %v, Compile says %v", test, err, errCompile)
		}
		if warnings := p.Warnings(); err == nil && len(warnings) > 0 != test.warns {
			t.Errorf("%+v: warnings %q", test, warnings)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	for name, change := range map[string]func(*Profile){
		"no life":      func(p *Profile) { p.MaxTTLSeconds = 0 },
		"unknown mode": func(p *Profile) { p.AuthMode = "" },
		"bad entry":    func(p *Profile) { p.DeniedDomains = []string{"**"} },
	} {
		if _, err := Compile(testProfile(change)); err == nil || !strings.Contains(err.Error(), "profile web") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConstraints(t *testing.T) {
	prefixes := func(text string) (list []netip.Prefix) {
		for field := range strings.FieldsSeq(text) {
			list = append(list, netip.MustParsePrefix(field))
		}
		return list
	}
	for _, test := range []struct {
		permitted, permittedIPs string
		domains, ranges         string
		outside                 string // the entries refused
	}{
		{"", "", "* a.test", "0.0.0.0/0", ""},
		{"corp.test", "", "corp.test .corp.test *.corp.test a.b.corp.test", "", ""},
		{".corp.test", "", "corp.test .corp.test *.corp.test a.corp.test", "", ""},
		{"Corp.Test", "", "corp.test", "", ""},
		{"bücher.test", "", "xn--bcher-kva.test", "", ""},
		{"corp.test", "", "* test .test *.test acorp.test corp.test.evil", "", "* test .test *.test acorp.test corp.test.evil"},
		{"a.test b.test", "", ".a.test x.b.test c.test", "", "c.test"},
		{"corp.test", "", "corp.test", "10.0.0.0/8", "10.0.0.0/8"},
		{"corp.test", "10.0.0.0/8", "corp.test", "10.0.0.0/8 10.1.0.0/16 10.1.2.3/32", ""},
		{"corp.test", "10.0.0.0/8", "corp.test", "10.0.0.0/7 0.0.0.0/0 11.0.0.0/8 ::/0", "10.0.0.0/7 0.0.0.0/0 11.0.0.0/8 ::/0"},
		{"", "10.0.0.0/8", "* a.test", "10.1.0.0/16 ::1/128", "::1/128"},
	} {
		p := testProfile(func(p *Profile) {
			p.AllowOpen = true
			p.AllowedDomains, p.AllowedIPRanges = strings.Fields(test.domains), strings.Fields(test.ranges)
		})
		c := Constraints{PermittedDomains: strings.Fields(test.permitted), PermittedIPs: prefixes(test.permittedIPs)}
		err := p.Validate(c)
		got := messages(err)
		for entry := range strings.FieldsSeq(test.outside) {
			named := func(m string) bool {
				return strings.Contains(m, entry+`" reaches`) || strings.Contains(m, entry+" reaches")
			}
			if !slices.ContainsFunc(got, named) {
				t.Errorf("%+v: %s is not refused", test, entry)
			}
		}
		if len(got) != len(strings.Fields(test.outside)) {
			t.Errorf("%+v: %v", test, err)
		}
		if c.CheckDomains(p.AllowedDomains) == nil && strings.Trim(test.outside, "0123456789:./ ") != "" {
			t.Errorf("%+v: CheckDomains finds nothing", test)
		}
	}

	p := testProfile()
	checkMessages(t, p.Validate(Constraints{PermittedDomains: []string{"*.x"}}), []string{`permitted domain "*.x" of the CA`})
}

func TestWarnings(t *testing.T) {
	p := testProfile(func(p *Profile) {
		p.AllowedDomains = []string{"a.test", "*.b.test", ".c.test", "d.test", "*.e.test", ".e.test"}
		p.DeniedDomains = []string{".a.test", "*.b.test", "*.c.test", "x.d.test", ".test.test"}
		p.MaxTTLSeconds = 826 * 24 * 3600
	})
	checkMessages(t, p.Validate(Constraints{}), nil)
	want := []string{`allowed_domains: "*.b.test"`, `allowed_domains: "a.test"`, "max_ttl_seconds"}
	got := p.Warnings()
	if len(got) != len(want) {
		t.Fatalf("%q", got)
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%q does not begin with %q", got[i], want[i])
		}
	}
	p.ExtKeyUsages = []string{"client_auth"}
	if got := p.Warnings(); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

// What is open by a profile's names and what by its addresses is told in a line each.
func TestOpenToKeysWarnings(t *testing.T) {
	const names, addresses = "open to every account", "allowed_ip_ranges: open to every account"
	for _, test := range []struct {
		domains, ranges []string
		allowOpen       bool
		want            []string
	}{
		{[]string{"*"}, nil, true, []string{names}},
		{[]string{"a.test"}, []string{"::/0"}, true, []string{addresses}},
		{[]string{"a.test"}, []string{"::/0"}, false, []string{addresses}},
		{[]string{"*"}, []string{"10.0.0.0/8", "0.0.0.0/0"}, true, []string{names, addresses}},
	} {
		p := testProfile(func(p *Profile) {
			p.AuthMode, p.EABRequired, p.AllowOpen = TrustAuthenticated, true, test.allowOpen
			p.AllowedDomains, p.AllowedIPRanges = test.domains, test.ranges
		})
		got := p.Warnings()
		if len(got) != len(test.want) {
			t.Fatalf("%+v: %q", test, got)
		}
		for i, prefix := range test.want {
			if !strings.HasPrefix(got[i], prefix) {
				t.Errorf("%+v: %q does not begin with %q", test, got[i], prefix)
			}
		}
	}
}

func checkMessages(t *testing.T, err error, want []string) {
	t.Helper()
	got := messages(err)
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for _, prefix := range want {
		if !slices.ContainsFunc(got, func(m string) bool { return strings.HasPrefix(m, prefix) }) {
			t.Errorf("%q has nothing that begins with %q", got, prefix)
		}
	}
}
