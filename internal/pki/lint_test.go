package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3/lint"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write testdata anew")

// TestLints holds what is run, and what each lint is taken to be about, against the list in testdata: another version
// of zlint shows what it changes.
func TestLints(t *testing.T) {
	var text strings.Builder
	for _, source := range AllLintSources {
		for _, l := range lintsOf()[source] {
			about := &LintError{Findings: []LintFinding{{Lint: l.Name}}}
			fmt.Fprintf(&text, "%-9s %s", source, l.Name)
			if about.OfNames() {
				text.WriteString(" names")
			}
			if about.OfKey() {
				text.WriteString(" key")
			}
			text.WriteString("\n")
		}
		if len(lintsOf()[source]) == 0 {
			t.Errorf("%s has no lints", source)
		}
	}
	path := filepath.Join("testdata", "lints.txt")
	if *update {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(text.String(), "\n")
	for _, line := range strings.Split(string(want), "\n") {
		if i := slices.Index(got, line); i >= 0 {
			got = slices.Delete(got, i, i+1)
		} else {
			t.Errorf("gone: %s", line)
		}
	}
	for _, line := range got {
		t.Errorf("new: %s", line)
	}
	for name := range notRun {
		l := lint.GlobalRegistry().CertificateLints().ByName(name)
		if l == nil || !slices.Contains(AllLintSources, LintSource(strings.ToLower(string(l.Source)))) {
			t.Errorf("%s is left out, but would not be run anyway", name)
		}
	}
}

// caOf makes an issuing CA with a key of any kind.
func caOf(t testing.TB, key crypto.Signer) *x509.Certificate {
	t.Helper()
	ca := newCA(t, CASpec{})
	template := *ca.Issuing
	template.SignatureAlgorithm, template.SubjectKeyId = 0, []byte("a key identifier")
	der, err := x509.CreateCertificate(nil, &template, ca.Root, key.Public(), Deterministic(ca.RootKey))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A spySigner counts its uses and keeps what it was given to sign.
type spySigner struct {
	crypto.Signer
	messages [][]byte
}

func (s *spySigner) SignMessage(rand io.Reader, msg []byte, opts crypto.SignerOpts) ([]byte, error) {
	s.messages = append(s.messages, bytes.Clone(msg))
	return crypto.SignMessage(s.Signer, rand, msg, opts)
}

// lintLeaf issues what the template of the leaf became by the change, and returns what the lints say and the CA's key
// signed.
func lintLeaf(t testing.TB, ca *CA, leaf *Leaf, change func(*x509.Certificate)) (warnings []LintFinding, spy *spySigner, err error) {
	t.Helper()
	template, err := leaf.Template()
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(template)
	}
	spy = &spySigner{Signer: Deterministic(ca.IssuingKey)}
	signer := LintFirst(spy, leaf.LintSources)
	der, err := x509.CreateCertificate(nil, template, ca.Issuing, leaf.PublicKey, signer)
	if err == nil {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if len(spy.messages) != 1 || !bytes.Equal(spy.messages[0], cert.RawTBSCertificate) {
			t.Error("the key signed something else")
		}
	}
	return signer.Warnings(), spy, err
}

func namesOf(findings []LintFinding) []string {
	names := make([]string, len(findings))
	for i, f := range findings {
		names[i] = f.Lint
	}
	return names
}

func TestLintRefuses(t *testing.T) {
	ca := newCA(t, CASpec{})
	days := func(n int) func(*Leaf) {
		return func(l *Leaf) { l.NotAfter = l.NotBefore.AddDate(0, 0, n).Add(-time.Second) }
	}
	for _, test := range []struct {
		name       string
		sources    []LintSource
		leaf       func(*Leaf)
		change     func(*x509.Certificate)
		want       string // a lint that refuses; "": none
		names, key bool
	}{
		{name: "nothing wrong"},
		{name: "an underscore", change: func(c *x509.Certificate) { c.DNSNames = []string{"a.b_c.example.com", "a_b.com"} },
			want: "e_rfc_dnsname_underscore_in_sld", names: true},
		{name: "a label of 64", change: func(c *x509.Certificate) { c.DNSNames = []string{strings.Repeat("a", 64) + ".example.com"} },
			want: "e_rfc_dnsname_label_too_long", names: true},
		{name: "an empty label", change: func(c *x509.Certificate) { c.DNSNames = []string{"a..example.com"} },
			want: "e_rfc_dnsname_empty_label", names: true},
		{name: "a name of one space", change: func(c *x509.Certificate) { c.DNSNames = []string{" "} },
			want: "e_ext_san_space_dns_name", names: true},
		{name: "a long common name", change: func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("a", 65) },
			want: "e_subject_common_name_max_length", names: true},
		{name: "no names", change: func(c *x509.Certificate) { c.DNSNames = nil }, want: "e_subject_empty_without_san"},
		{name: "keyCertSign", change: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, want: "e_ext_key_usage_cert_sign_without_ca"},
		{name: "keyEncipherment of an ECDSA key", change: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment },
			want: "e_ecdsa_allowed_ku"},
		{name: "keyAgreement of an RSA key", leaf: func(l *Leaf) { l.PublicKey = goodKeys()[RSA2048].Public() },
			change: func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyAgreement }, want: "e_rsa_allowed_ku_ee"},
		{name: "usages that contradict", change: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign },
			want: "e_key_usage_and_extended_key_usage_inconsistent"},
		{name: "name constraints", change: func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"example.com"} },
			want: "e_ext_name_constraints_not_in_ca"},
		{name: "a long serial", change: func(c *x509.Certificate) { c.SerialNumber = new(big.Int).Lsh(big.NewInt(1), 168) },
			want: "e_serial_number_longer_than_20_octets"},

		{name: "398 days to Apple", sources: []LintSource{LintApple}, leaf: days(397)},
		{name: "more days than Apple allows", sources: []LintSource{LintApple}, leaf: days(399), want: "e_tls_server_cert_valid_time_longer_than_398_days"},
		{name: "the same to nobody", leaf: days(399)},
		{name: "a private address to the CA/Browser Forum", sources: []LintSource{LintCABForum},
			change: func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }, want: "e_ext_san_contains_reserved_ip", names: true},
		{name: "a private name to the CA/Browser Forum", sources: []LintSource{LintCABForum},
			change: func(c *x509.Certificate) { c.DNSNames = []string{"a.test"} }, want: "e_dnsname_not_valid_tld", names: true},
		{name: "client_auth to Chrome", sources: []LintSource{LintChrome},
			leaf: func(l *Leaf) { l.ExtKeyUsages = append(l.ExtKeyUsages, ClientAuth) }, want: "e_client_auth_not_allowed"},
		{name: "an Ed25519 key to the CA/Browser Forum", sources: []LintSource{LintCABForum}, leaf: func(l *Leaf) { l.PublicKey = goodKeys()[Ed25519].Public() },
			want: "e_algorithm_identifier_improper_encoding", key: true},
		{name: "a wildcard in the middle to the community", sources: []LintSource{LintCommunity},
			change: func(c *x509.Certificate) { c.DNSNames = []string{"a.*.example.com"} }, want: "e_san_wildcard_not_first", names: true},
		{name: "a name that is not normal", sources: []LintSource{LintRFC5891},
			change: func(c *x509.Certificate) { c.DNSNames = []string{"xn--e-xbb.example.com"} }, want: "e_international_dns_name_not_nfc", names: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaf := newLeaf("a.example.com")
			leaf.LintSources = test.sources
			leaf.CRLDistributionPoints, leaf.IssuingCertificateURLs = []string{"http://pki.example.com/crl"}, []string{"http://pki.example.com/aia"}
			if test.leaf != nil {
				test.leaf(leaf)
			}
			_, spy, err := lintLeaf(t, ca, leaf, test.change)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var linted *LintError
			if !errors.As(err, &linted) {
				t.Fatalf("got %v, want a refusal", err)
			}
			if !slices.Contains(namesOf(linted.Findings), test.want) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s", err, test.want)
			}
			if linted.OfNames() != test.names || linted.OfKey() != test.key {
				t.Errorf("%v: of names %v, of key %v", err, linted.OfNames(), linted.OfKey())
			}
			if len(spy.messages) > 0 {
				t.Error("the key was used")
			}
		})
	}
}

// TestLintsAcceptWhatIsIssued holds that the default lints have no objection, and not even a recommendation, to any
// certificate that a Leaf can describe.
func TestLintsAcceptWhatIsIssued(t *testing.T) {
	ca := newCA(t, CASpec{})
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.StringMatching(`(\*\.)?([a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\.){0,4}(test|localhost|internal|example|com|xn--bcher-kva|xn--p1ai)`)
		leaf := newLeaf(rapid.SliceOfNDistinct(name.Filter(validDNSName), 0, 100, rapid.ID).Draw(r, "names")...)
		if rapid.Bool().Draw(r, "addresses") || len(leaf.DNSNames) == 0 {
			leaf.IPs = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
		} else if rapid.Bool().Draw(r, "common name") && len(leaf.DNSNames[0]) <= maxCommonName {
			leaf.CommonName = leaf.DNSNames[0]
		}
		leaf.PublicKey = goodKeys()[rapid.SampledFrom(AllKeyTypes).Draw(r, "key")].Public()
		leaf.ExtKeyUsages = rapid.SampledFrom([][]ExtKeyUsage{{ServerAuth}, {ClientAuth}, {ServerAuth, ClientAuth}}).Draw(r, "usages")
		leaf.NotBefore = time.Date(rapid.IntRange(2025, 2060).Draw(r, "year"), 12, 31, 23, 59, 59, 0, time.UTC)
		leaf.NotAfter = leaf.NotBefore.Add(time.Duration(rapid.IntRange(0, 1<<29).Draw(r, "seconds")) * time.Second)
		if leaf.NoRevAvail = rapid.Bool().Draw(r, "noRevAvail"); !leaf.NoRevAvail && rapid.Bool().Draw(r, "pointers") {
			leaf.CRLDistributionPoints, leaf.OCSPServers = []string{"http://10.0.0.1:8080/crl"}, []string{"http://pki/ocsp"}
		}
		if rapid.Bool().Draw(r, "issuer") {
			leaf.IssuingCertificateURLs = []string{"http://pki.internal:8080/aia"}
		}
		warnings, _, err := lintLeaf(t, ca, leaf, nil)
		if err != nil || len(warnings) > 0 {
			r.Fatalf("%v, %v", err, warnings)
		}
	})
}

// TestLintsAcceptCAs shows the lints what CreateCA makes. The root, which CreateCA does not show them, is shown with
// its signature.
func TestLintsAcceptCAs(t *testing.T) {
	for _, spec := range []CASpec{
		{},
		{Name: "Bücher & Söhne <GmbH>"},
		{PermittedDomains: []string{"corp.test", ".b.test"}},
		{PermittedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}},
		{PermittedDomains: []string{"localhost"}, PermittedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	} {
		ca := newCA(t, spec)
		for _, cert := range []*x509.Certificate{ca.Root, ca.Issuing} {
			parsed, err := zx509.ParseCertificate(cert.Raw)
			if err != nil {
				t.Fatal(err)
			}
			for _, source := range DefaultLintSources {
				for _, l := range lintsOf()[source] {
					if result := l.Execute(parsed, unconfigured); result.Status > lint.Pass {
						t.Errorf("%s: %s: %v %s", cert.Subject.CommonName, l.Name, result.Status, result.Details)
					}
				}
			}
		}
	}
}

func TestLintWarnings(t *testing.T) {
	ca := newCA(t, CASpec{})
	leaf := newLeaf("a.example.com")
	warnings, spy, err := lintLeaf(t, ca, leaf, func(c *x509.Certificate) { c.DNSNames = []string{"a_b.c.example.com"} })
	if err != nil || !slices.Equal(namesOf(warnings), []string{"w_rfc_dnsname_underscore_in_trd"}) || len(spy.messages) != 1 {
		t.Errorf("%v, %v, signed %d times", err, warnings, len(spy.messages))
	}
	f := LintFinding{"w_a", "two\nlines"}
	if got := f.String(); got != `w_a ("two\nlines")` {
		t.Error(got)
	}
	if got := (LintFinding{Lint: "w_a"}).String(); got != "w_a" {
		t.Error(got)
	}
}

func TestLintFirst(t *testing.T) {
	ca := newCA(t, CASpec{})
	signer := LintFirst(ca.IssuingKey, nil)
	if _, err := signer.Sign(nil, make([]byte, 32), crypto.SHA256); err == nil {
		t.Error("a digest was signed")
	}
	if !ca.IssuingKey.PublicKey.Equal(signer.Public()) {
		t.Error("public key")
	}
	leaf := newLeaf("a.test")
	leaf.LintSources = []LintSource{"rfc0"}
	var linted *LintError
	if _, spy, err := lintLeaf(t, ca, leaf, nil); err == nil || errors.As(err, &linted) || len(spy.messages) > 0 {
		t.Errorf("an unknown source: %v", err)
	}
	cert := signLeaf(t, ca, newLeaf("a.test"))
	for _, tbs := range [][]byte{nil, {0x30}, {0x30, 0}, cert.Raw, cert.RawTBSCertificate[:100], append(slices.Clone(cert.RawTBSCertificate), 0), {0x30, 5, 2, 1, 1, 0x30, 0}} {
		if _, err := LintFirst(ca.IssuingKey, nil).SignMessage(nil, tbs, crypto.SHA256); err == nil || errors.As(err, &linted) {
			t.Errorf("% x: %v", tbs, err)
		}
	}
}

// verdict lints a parsed certificate with everything there is.
func verdict(cert *zx509.Certificate) []string {
	var findings []string
	for _, source := range AllLintSources {
		for _, l := range lintsOf()[source] {
			result := l.Execute(cert, unconfigured)
			findings = append(findings, fmt.Sprintf("%s %v %s", l.Name, result.Status, result.Details))
		}
	}
	return findings
}

// TestPlaceholder holds that linting before and after signing says the same, whatever the CA's key.
func TestPlaceholder(t *testing.T) {
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := goodKeys()
	for name, key := range map[string]crypto.Signer{"rsa": keys[RSA2048], "p256": keys[ECDSAP256], "p384": keys[ECDSAP384], "p521": keys[ECDSAP521],
		"ed25519": keys[Ed25519], "p224": p224} {
		t.Run(name, func(t *testing.T) {
			issuing := caOf(t, key)
			leaf := newLeaf("a.example.com")
			template, err := leaf.Template()
			if err != nil {
				t.Fatal(err)
			}
			der, err := x509.CreateCertificate(nil, template, issuing, leaf.PublicKey, Deterministic(key))
			if err != nil {
				t.Fatal(err)
			}
			after, err := zx509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			before, err := parseUnsigned(after.RawTBSCertificate, key.Public())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := len(before.Signature), len(after.Signature); got > want+8 || got < want-8 {
				t.Errorf("the signature has %d bytes, its placeholder %d", want, got)
			}
			if got, want := verdict(before), verdict(after); !slices.Equal(got, want) {
				for i := range got {
					if got[i] != want[i] {
						t.Errorf("before %s, after %s", got[i], want[i])
					}
				}
			}
		})
	}
}

// TestLintsAskNoClock lints at two times: now and at the beginning of a synctest bubble, when most of today's
// top-level domains were not there. The lint that is left out for its clock shows that the difference is seen.
func TestLintsAskNoClock(t *testing.T) {
	const asking = "w_sub_cert_aia_contains_internal_names"
	ca := newCA(t, CASpec{})
	leaf := newLeaf("a.app", "a.example.com", "b.test")
	leaf.NotBefore, leaf.NotAfter = time.Date(2026, 6, 20, 0, 0, 0, 0, time.UTC), time.Date(2027, 12, 20, 0, 0, 0, 0, time.UTC)
	leaf.CRLDistributionPoints, leaf.IssuingCertificateURLs = []string{"http://pki.app/crl"}, []string{"http://pki.app/aia"}
	parsed, err := zx509.ParseCertificate(signLeaf(t, ca, leaf).Raw)
	if err != nil {
		t.Fatal(err)
	}
	left := lint.GlobalRegistry().CertificateLints().ByName(asking)
	today, leftToday := verdict(parsed), left.Execute(parsed, unconfigured).Status
	synctest.Test(t, func(t *testing.T) {
		if then := verdict(parsed); !slices.Equal(today, then) {
			t.Errorf("now %q\nthen %q", today, then)
		}
		if left.Execute(parsed, unconfigured).Status == leftToday {
			t.Errorf("%s does not notice what time it is", asking)
		}
	})
}

// TestConcurrentLinting is for the race detector: lints and their settings are shared.
func TestConcurrentLinting(t *testing.T) {
	ca := newCA(t, CASpec{})
	leaf := newLeaf("a.example.com")
	leaf.PublicKey = goodKeys()[RSA2048].Public()
	leaf.LintSources = AllLintSources
	template, err := leaf.Template()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	verdicts := make([]error, 8)
	for i := range verdicts {
		wg.Go(func() {
			_, verdicts[i] = x509.CreateCertificate(nil, template, ca.Issuing, leaf.PublicKey, LintFirst(Deterministic(ca.IssuingKey), leaf.LintSources))
		})
	}
	wg.Wait()
	for _, err := range verdicts {
		if !reflect.DeepEqual(err, verdicts[0]) {
			t.Errorf("%v and %v", err, verdicts[0])
		}
	}
}

// lintedLeaves are the certificates that lints are timed on: one name, an RSA key and an ECDSA key.
func lintedLeaves(b *testing.B) (tbs map[KeyType][]byte, ca *CA) {
	ca, tbs = newCA(b, CASpec{}), make(map[KeyType][]byte)
	for _, keyType := range []KeyType{ECDSAP256, RSA2048} {
		leaf := newLeaf("a.example.com")
		leaf.PublicKey = goodKeys()[keyType].Public()
		leaf.CRLDistributionPoints, leaf.IssuingCertificateURLs = []string{"http://pki.example.com/crl"}, []string{"http://pki.example.com/aia"}
		tbs[keyType] = signLeaf(b, ca, leaf).RawTBSCertificate
	}
	return tbs, ca
}

// BenchmarkLint measures what linting adds to issuing: parsing, and the lints of the default sources or of all.
func BenchmarkLint(b *testing.B) {
	leaves, ca := lintedLeaves(b)
	for keyType, tbs := range leaves {
		b.Run(string(keyType)+"/parse", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parseUnsigned(tbs, ca.IssuingKey.Public()); err != nil {
					b.Fatal(err)
				}
			}
		})
		for name, sources := range map[string][]LintSource{"default": nil, "all": AllLintSources} {
			b.Run(string(keyType)+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := lintTBS(tbs, ca.IssuingKey.Public(), sources); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkLints measures every lint of every source alone, those that are left out too.
func BenchmarkLints(b *testing.B) {
	leaves, ca := lintedLeaves(b)
	for keyType, tbs := range leaves {
		cert, err := parseUnsigned(tbs, ca.IssuingKey.Public())
		if err != nil {
			b.Fatal(err)
		}
		for _, l := range lint.GlobalRegistry().CertificateLints().Lints() {
			b.Run(fmt.Sprintf("%s/%s/%s", l.Source, l.Name, keyType), func(b *testing.B) {
				for b.Loop() {
					l.Execute(cert, unconfigured)
				}
			})
		}
	}
}
