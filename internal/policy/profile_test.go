package policy

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/pki"
	"pgregory.net/rapid"
)

// testProfile is a valid and normalized trust profile for .example.com, changed by each of the functions.
func testProfile(change ...func(*Profile)) Profile {
	p := Profile{
		ID:             "web",
		IssuerID:       "iss-local",
		AuthMode:       TrustAuthenticated,
		MaxTTLSeconds:  int64(24 * time.Hour / time.Second),
		AllowedDomains: []string{".example.com"},
	}
	for _, f := range change {
		f(&p)
	}
	_ = p.Normalize() // what cannot be read is for Validate
	return p
}

func TestPatchHasEverySettableField(t *testing.T) {
	fixed := []string{"ID", "Revision", "CreatedAt", "UpdatedAt", "ArchivedAt"}
	profile, patch := reflect.TypeFor[Profile](), reflect.TypeFor[ProfilePatch]()
	settable := 0
	for _, field := range reflect.VisibleFields(profile) {
		if field.Anonymous {
			continue // its fields come by themselves
		}
		counterpart, ok := patch.FieldByName(field.Name)
		if slices.Contains(fixed, field.Name) {
			if ok {
				t.Errorf("%s can be patched", field.Name)
			}
			continue
		}
		settable++
		if !ok {
			t.Errorf("%s cannot be patched", field.Name)
			continue
		}
		if counterpart.Type != reflect.PointerTo(field.Type) {
			t.Errorf("%s: %v patches %v", field.Name, counterpart.Type, field.Type)
		}
		if got, want := counterpart.Tag.Get("json"), field.Tag.Get("json")+",omitempty"; got != want {
			t.Errorf("%s: JSON name %q, want %q", field.Name, got, want)
		}
	}
	if patch.NumField() != settable {
		t.Errorf("the patch has %d fields, the profile %d that can be set", patch.NumField(), settable)
	}
}

func TestApplySetsEachFieldAlone(t *testing.T) {
	for i := range reflect.TypeFor[ProfilePatch]().NumField() {
		field := reflect.TypeFor[ProfilePatch]().Field(i)
		var patch ProfilePatch
		value := reflect.New(field.Type.Elem())
		switch v := value.Elem(); v.Kind() {
		case reflect.String:
			v.SetString("changed")
		case reflect.Int64:
			v.SetInt(7)
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 1, 1))
			v.Index(0).SetString("changed")
		default:
			t.Fatalf("%s is of a kind that this test does not know", field.Name)
		}
		reflect.ValueOf(&patch).Elem().Field(i).Set(value)

		before := testProfile()
		after := before.Apply(patch)
		for _, f := range reflect.VisibleFields(reflect.TypeFor[Profile]()) {
			if f.Anonymous {
				continue
			}
			got := reflect.ValueOf(after).FieldByIndex(f.Index).Interface()
			want := reflect.ValueOf(before).FieldByIndex(f.Index).Interface()
			if f.Name == field.Name {
				want = value.Elem().Interface()
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("after patching %s, %s is %v, want %v", field.Name, f.Name, got, want)
			}
		}
	}
}

func TestApplySharesNothing(t *testing.T) {
	before, archived := testProfile(), time.Unix(0, 0)
	before.ArchivedAt = &archived
	domains := []string{"a.test"}
	after := before.Apply(ProfilePatch{AllowedDomains: &domains})
	domains[0], before.KeyTypes[0], before.LintSources[0], *before.ArchivedAt = "b.test", "none", "none", time.Unix(1, 0)
	if after.AllowedDomains[0] != "a.test" || after.KeyTypes[0] != pki.RSA2048 || after.LintSources[0] != pki.LintRFC3279 || !after.ArchivedAt.Equal(time.Unix(0, 0)) {
		t.Errorf("changed from outside: %+v", after)
	}
}

func TestPatchFromJSON(t *testing.T) {
	var patch ProfilePatch
	if err := json.Unmarshal([]byte(`{"allowed_domains":[],"eab_required":true,"name":null}`), &patch); err != nil {
		t.Fatal(err)
	}
	after := testProfile().Apply(patch)
	if len(after.AllowedDomains) != 0 || !after.EABRequired || after.Name != "web" {
		t.Errorf("%+v", after)
	}
	text, err := json.Marshal(patch)
	if err != nil || string(text) != `{"allowed_domains":[],"eab_required":true}` {
		t.Errorf("%s, %v", text, err)
	}
}

func TestNormalize(t *testing.T) {
	p := Profile{
		ID:              "web",
		Name:            " ",
		AllowedDomains:  []string{"B.test", ".a.test", "b.test ", "bücher.test"},
		DeniedDomains:   nil,
		AllowedIPRanges: []string{"10.0.0.1", "2001:DB8::/32", "10.0.0.1/32"},
		KeyTypes:        []pki.KeyType{"ed25519", "RSA4096", "ed25519"},
		ExtKeyUsages:    []string{"client_auth", "server_auth", "other"},
		LintSources:     []pki.LintSource{"other", "Mozilla", "apple", "RFC5280"},
	}
	if err := p.Normalize(); err != nil {
		t.Fatal(err)
	}
	want := Profile{
		ID:              "web",
		Name:            "web",
		AllowedDomains:  []string{".a.test", "b.test", "xn--bcher-kva.test"},
		DeniedDomains:   []string{},
		AllowedIPRanges: []string{"10.0.0.1/32", "2001:db8::/32"},
		ChallengeTypes:  []string{"http-01", "dns-01", "tls-alpn-01"},
		KeyTypes:        []pki.KeyType{pki.RSA4096, pki.Ed25519},
		ExtKeyUsages:    []string{"server_auth", "client_auth", "other"},
		LintSources:     []pki.LintSource{"rfc3279", "rfc5280", "rfc5480", "rfc8813", "apple", "mozilla", "other"},

		AuthorizationRules: AuthorizationRules{CAA: CAAOff, OfferedProfiles: []string{}},
	}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("got  %+v\nwant %+v", p, want)
	}

	var empty Profile
	if err := empty.Normalize(); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(empty.KeyTypes, pki.AllKeyTypes) || !slices.Equal(empty.ExtKeyUsages, []string{"server_auth"}) ||
		!slices.Equal(empty.LintSources, pki.DefaultLintSources) {
		t.Errorf("defaults: %+v", empty)
	}
	text, err := json.Marshal(empty)
	if err != nil || strings.Contains(string(text), "null") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestNormalizeKeepsAndNamesTheUnreadable(t *testing.T) {
	p := Profile{AllowedDomains: []string{"B.test", "*.*.x", "A b"}, AllowedIPRanges: []string{"10.0.0.1/8"}}
	err := p.Normalize()
	for _, want := range []string{`"*.*.x"`, `"A b"`, `"10.0.0.1/8"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if !slices.Equal(p.AllowedDomains, []string{"*.*.x", "A b", "b.test"}) {
		t.Errorf("%q", p.AllowedDomains)
	}
}

func TestNormalizeTwiceIsOnce(t *testing.T) {
	entries := rapid.SliceOfN(rapid.OneOf(genRule, rapid.String(),
		rapid.SampledFrom([]string{"A.test", " a.test", "bücher.test", "10.0.0.1", "10.0.0.0/8", "10.0.0.1/8", ""})), 0, 5)
	rapid.Check(t, func(t *rapid.T) {
		p := Profile{
			ID:              "web",
			Name:            rapid.String().Draw(t, "name"),
			AllowedDomains:  entries.Draw(t, "allowed"),
			DeniedDomains:   entries.Draw(t, "denied"),
			AllowedIPRanges: entries.Draw(t, "ranges"),
			ChallengeTypes:  rapid.SliceOf(rapid.SampledFrom([]string{"http-01", "HTTP-01", "x", " x"})).Draw(t, "challenges"),
			KeyTypes:        rapid.SliceOf(rapid.SampledFrom([]pki.KeyType{"rsa2048", "Ed25519", "x"})).Draw(t, "keys"),
			LintSources:     rapid.SliceOf(rapid.SampledFrom([]pki.LintSource{"rfc5280", "Apple", "x"})).Draw(t, "lints"),
		}
		err1 := p.Normalize()
		once := p.clone()
		err2 := p.Normalize()
		if !reflect.DeepEqual(once, p) || (err1 == nil) != (err2 == nil) {
			t.Fatalf("once  %+v (%v)\ntwice %+v (%v)", once, err1, p, err2)
		}
		_, err := p.compileNames()
		if (err == nil) != (err1 == nil) {
			t.Fatalf("Normalize says %v, compiling says %v", err1, err)
		}
	})
}

func TestNormalizeDomains(t *testing.T) {
	got, err := NormalizeDomains([]string{"B.test", "*", "b.test"})
	if err != nil || !slices.Equal(got, []string{"*", "b.test"}) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := NormalizeDomains([]string{"*.*.x"}); err == nil {
		t.Error("no error")
	}
	if got, err := NormalizeDomains(nil); got == nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestOfferedChallengesIsACopy(t *testing.T) {
	OfferedChallenges()[0] = "none"
	if got := OfferedChallenges(); !slices.Equal(got, []string{"http-01", "dns-01", "tls-alpn-01"}) {
		t.Errorf("%q", got)
	}
}

// messages are the lines of a joined error.
func messages(err error) []string {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []string{err.Error()}
	}
	return strings.Split(err.Error(), "\n")
}
