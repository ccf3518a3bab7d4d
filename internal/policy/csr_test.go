package policy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/pki"
)

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCSR(t testing.TB, key crypto.Signer, template x509.CertificateRequest) *pki.CSR {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// csrFor makes a CSR with the names, separated by spaces, addresses in brackets.
func csrFor(t testing.TB, key crypto.Signer, commonName, names string) *pki.CSR {
	t.Helper()
	template := x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName}}
	for field := range strings.FieldsSeq(names) {
		if addr, ok := strings.CutPrefix(field, "["); ok {
			template.IPAddresses = append(template.IPAddresses, net.ParseIP(strings.TrimSuffix(addr, "]")))
		} else {
			template.DNSNames = append(template.DNSNames, field)
		}
	}
	return newCSR(t, key, template)
}

func TestMatchCSRNames(t *testing.T) {
	key := newKey(t, elliptic.P256())
	for _, test := range []struct{ order, cn, csr, refused string }{
		{"a.test", "", "a.test", ""},
		{"a.test b.test", "", "b.test a.test", ""},
		{"a.test", "", "a.test a.test", ""},
		{"a.test a.test", "", "a.test", ""},
		{"a.test", "", "A.Test", ""},
		{"*.a.test a.test", "*.a.test", "a.test *.a.test", ""},
		{"a.test b.test", "b.test", "a.test b.test", ""},
		{"a.test", "A.TEST", "a.test", ""},
		{"a.test", "a.test", "", ""},
		{"a.test b.test", "b.test", "a.test", ""},
		{"[10.0.0.1] [2001:db8::1] a.test", "", "a.test [10.0.0.1] [2001:db8:0::1]", ""},
		{"[10.0.0.1]", "10.0.0.1", "", ""},
		{"[2001:db8::1]", "2001:DB8:0::1", "", ""},

		{"a.test", "", "", `lacks names of the order: "a.test"`},
		{"a.test b.test", "", "a.test", `lacks names of the order: "b.test"`},
		{"a.test", "", "a.test b.test", `not in the order: "b.test"`},
		{"a.test", "", "b.test", `not in the order: "b.test"`},
		{"a.test", "b.test", "a.test", `not in the order: "b.test"`},
		{"a.test", "My Server", "a.test", `not in the order: "my server"`},
		{"a.test", "10.0.0.1", "a.test", `not in the order: "10.0.0.1"`},
		{"*.a.test", "", "a.test", "not in the order"},
		{"*.a.test", "", "b.a.test", "not in the order"},
		{"a.test", "", "*.a.test", "not in the order"},
		{"a.test", "", "a.test.", "not in the order"},
		{"[10.0.0.1]", "", "10.0.0.1", "not in the order"}, // an address as a DNS name
		{"a.test", "", "a.test [10.0.0.1]", `not in the order: "10.0.0.1"`},
		{"a.test [10.0.0.1]", "", "a.test", `lacks names of the order: "10.0.0.1"`},
		{"a.test", "", strings.Join(manyNames(20), " "), "and 15 more"},
		{"a.test", "", strings.Repeat("x", 3000), `x"`},
	} {
		csr := csrFor(t, key, test.cn, test.csr)
		err := MatchCSR(csr, ids(test.order), pki.AllKeyTypes, nil)
		if test.refused == "" {
			if err != nil {
				t.Errorf("%+v: %v", test, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%+v: accepted", test)
			continue
		}
		if problem := problemOf(t, err); problem.Type != acme.ErrBadCSR || !strings.Contains(problem.Detail, test.refused) || len(problem.Detail) > 2000 {
			t.Errorf("%+v: %v", test, err)
		}
	}
}

func TestMatchCSRMappedAddress(t *testing.T) {
	csr := csrFor(t, newKey(t, elliptic.P256()), "", "a.test")
	csr.IPs = []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}
	if err := MatchCSR(csr, ids("a.test [10.0.0.1]"), pki.AllKeyTypes, nil); err == nil {
		t.Error("accepted")
	}
}

func TestMatchCSROtherNames(t *testing.T) {
	key := newKey(t, elliptic.P256())
	for name, template := range map[string]x509.CertificateRequest{
		"e-mail": {EmailAddresses: []string{"a@a.test"}},
		"URI":    {URIs: []*url.URL{{Scheme: "spiffe", Host: "a.test"}}},
	} {
		template.DNSNames = []string{"a.test"}
		err := MatchCSR(newCSR(t, key, template), ids("a.test"), pki.AllKeyTypes, nil)
		if err == nil || problemOf(t, err).Type != acme.ErrBadCSR {
			t.Errorf("%s: %v", name, err)
		}
	}
	csr := csrFor(t, key, "", "a.test")
	csr.OtherNames = 1
	if err := MatchCSR(csr, ids("a.test"), pki.AllKeyTypes, nil); err == nil {
		t.Error("other name: accepted")
	}
}

func TestMatchCSRKeys(t *testing.T) {
	key, account, ca := newKey(t, elliptic.P256()), newKey(t, elliptic.P256()), newKey(t, elliptic.P384())
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name    string
		key     crypto.Signer
		types   []pki.KeyType
		refused string
	}{
		{"its own", key, pki.AllKeyTypes, ""},
		{"the account's", account, pki.AllKeyTypes, "account key"},
		{"a CA's", ca, pki.AllKeyTypes, "CA's key"},
		{"another CA's", ed, pki.AllKeyTypes, "CA's key"},
		{"of a type that the profile leaves out", key, []pki.KeyType{pki.RSA2048, pki.ECDSAP384}, `allows "rsa2048", "ecdsa-p384"`},
		{"no types", key, nil, "the profile allows"},
	} {
		err := MatchCSR(csrFor(t, test.key, "", "a.test"), ids("a.test"), test.types, &account.PublicKey, &ca.PublicKey, ed.Public())
		if (err == nil) != (test.refused == "") {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if err == nil {
			continue
		}
		if problem := problemOf(t, err); problem.Type != acme.ErrBadCSR || !strings.Contains(problem.Detail, test.refused) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestLeaf(t *testing.T) {
	key := newKey(t, elliptic.P256())
	p := testProfile(func(p *Profile) {
		p.ExtKeyUsages, p.LintSources = []string{"client_auth", "server_auth"}, []pki.LintSource{pki.LintApple}
	})
	order := ids("b.test *.a.test [10.0.0.1] b.test [2001:db8::1]")
	long := strings.Repeat("a", 60) + ".test"
	for _, test := range []struct{ cn, want string }{
		{"", ""},
		{"B.test", "b.test"},
		{"*.a.test", "*.a.test"},
		{"2001:DB8::1", "2001:db8::1"},
		{"other.test", ""},
		{long, ""},
	} {
		csr := csrFor(t, key, test.cn, "evil.test [192.0.2.1]")
		leaf := p.Leaf(csr, append(order, dns(long)), "0123456789abcdef0123456789abcdef", epoch, epoch.AddDate(0, 0, 1))
		if leaf.CommonName != test.want {
			t.Errorf("common name %q: %q, want %q", test.cn, leaf.CommonName, test.want)
		}
		if !slices.Equal(leaf.DNSNames, []string{"b.test", "*.a.test", long}) ||
			!slices.Equal(leaf.IPs, []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}) {
			t.Errorf("names %q, %v", leaf.DNSNames, leaf.IPs)
		}
		if !slices.Equal(leaf.ExtKeyUsages, []pki.ExtKeyUsage{pki.ServerAuth, pki.ClientAuth}) || !key.PublicKey.Equal(leaf.PublicKey) {
			t.Errorf("%+v", leaf)
		}
		if !slices.Contains(leaf.LintSources, pki.LintApple) {
			t.Errorf("lint sources %q", leaf.LintSources)
		}
		if _, err := leaf.Template(); err != nil {
			t.Errorf("common name %q: %v", test.cn, err)
		}
	}
}
