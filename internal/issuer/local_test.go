package issuer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/certctl/certctl/internal/pki"
)

var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

var leafKey = func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}()

func newCA(t testing.TB, domains []string, ips ...netip.Prefix) *pki.CA {
	t.Helper()
	ca, err := pki.CreateCA(pki.CASpec{Name: "Test", PermittedDomains: domains, PermittedIPs: ips, Now: now}, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newLocal(t testing.TB, ca *pki.CA) *Local {
	t.Helper()
	l, err := NewLocal(LocalConfig{
		ID: "iss-local", Root: ca.Root, Issuing: ca.Issuing, Key: ca.IssuingKey,
		CRLURL: "http://pki.test/crl/1.crl", AIAURL: "http://pki.test/aia/1.cer",
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func newLeaf(names ...string) pki.Leaf {
	leaf := pki.Leaf{
		Serial:       "4a000102030405060708090a0b0c0d0e",
		NotBefore:    now.Add(-time.Minute),
		NotAfter:     now.Add(24*time.Hour - time.Second),
		PublicKey:    leafKey.Public(),
		ExtKeyUsages: []pki.ExtKeyUsage{pki.ServerAuth},
	}
	for _, name := range names {
		if addr, err := netip.ParseAddr(name); err == nil {
			leaf.IPs = append(leaf.IPs, addr)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	return leaf
}

func issue(t testing.TB, l *Local, leaf pki.Leaf) *x509.Certificate {
	t.Helper()
	der, err := l.Issue(context.Background(), leaf)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func verify(ca *pki.CA, cert *x509.Certificate, name string) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(ca.Root)
	intermediates.AddCert(ca.Issuing)
	_, err := cert.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: intermediates, CurrentTime: now})
	return err
}

func TestIssue(t *testing.T) {
	ca := newCA(t, nil)
	l := newLocal(t, ca)
	leaf := newLeaf("a.test", "*.b.test", "192.0.2.1", "2001:db8::1")
	leaf.Point(l.Pointers(leaf.Serial))
	cert := issue(t, l, leaf)
	for _, name := range []string{"a.test", "x.b.test", "192.0.2.1", "2001:db8::1"} {
		if err := verify(ca, cert, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if verify(ca, cert, "c.test") == nil {
		t.Error("verifies for a name that it does not have")
	}
	if got := cert.CRLDistributionPoints; len(got) != 1 || got[0] != "http://pki.test/crl/1.crl" {
		t.Errorf("CRL distribution points %q", got)
	}
	if got := cert.IssuingCertificateURL; len(got) != 1 || got[0] != "http://pki.test/aia/1.cer" {
		t.Errorf("issuing certificate URLs %q", got)
	}
	if !bytes.Equal(cert.AuthorityKeyId, ca.Issuing.SubjectKeyId) || len(cert.SubjectKeyId) != 20 {
		t.Error("key identifiers")
	}
}

func TestIssuePointers(t *testing.T) {
	ca := newCA(t, nil)
	l := newLocal(t, ca)
	if cert := issue(t, l, newLeaf("a.test")); len(cert.CRLDistributionPoints)+len(cert.IssuingCertificateURL) > 0 {
		t.Error("the certificate has pointers that the leaf has not")
	}
	leaf := newLeaf("a.test")
	leaf.Point(l.Pointers(leaf.Serial))
	cert := issue(t, l, leaf)
	if len(cert.CRLDistributionPoints) != 1 || len(cert.IssuingCertificateURL) != 1 {
		t.Error("the issuer's pointers are not in the certificate")
	}

	bare, err := NewLocal(LocalConfig{ID: "x", Root: ca.Root, Issuing: ca.Issuing, Key: ca.IssuingKey})
	if err != nil {
		t.Fatal(err)
	}
	if p := bare.Pointers(leaf.Serial); len(p.CRL)+len(p.AIA)+len(p.OCSP) > 0 || p.NoRevAvail {
		t.Error("pointers came from nowhere")
	}
}

func TestIssueRefuses(t *testing.T) {
	l := newLocal(t, newCA(t, []string{"corp.test"}))
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct {
		name   string
		ctx    context.Context
		change func(*pki.Leaf)
		want   string
	}{
		{"a canceled request", canceled, func(*pki.Leaf) {}, "canceled"},
		{"outlives the CA", nil, func(l *pki.Leaf) { l.NotAfter = now.AddDate(11, 0, 0) }, "outlive"},
		{"a name outside", nil, func(l *pki.Leaf) { l.DNSNames = []string{"a.other.test"} }, "a.other.test"},
		{"an address", nil, func(l *pki.Leaf) { l.IPs = []netip.Addr{netip.MustParseAddr("10.0.0.1")} }, "10.0.0.1"},
		{"no serial", nil, func(l *pki.Leaf) { l.Serial = "" }, "serial"},
		{"noRevAvail with OCSP", nil, func(l *pki.Leaf) { l.NoRevAvail, l.OCSPServers = true, []string{"http://x.test/"} }, "noRevAvail"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx := test.ctx
			if ctx == nil {
				ctx = context.Background()
			}
			leaf := newLeaf("a.corp.test")
			test.change(&leaf)
			der, err := l.Issue(ctx, leaf)
			if err == nil || der != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// faultySigner is a key that counts its uses and, on demand, damages what it signs.
type faultySigner struct {
	crypto.Signer
	uses   *int
	damage bool
}

func (f faultySigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	*f.uses++
	signature, err := f.Signer.Sign(rand, digest, opts)
	if f.damage && err == nil {
		signature[len(signature)-1] ^= 1
	}
	return signature, err
}

func TestRefusedBeforeTheKeyIsUsed(t *testing.T) {
	ca := newCA(t, []string{"corp.test"}, netip.MustParsePrefix("10.0.0.0/8"))
	var uses int
	l, err := NewLocal(LocalConfig{ID: "x", Root: ca.Root, Issuing: ca.Issuing, Key: faultySigner{ca.IssuingKey, &uses, false}})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"other.test", "*.test", "corp.test.other.test", "xcorp.test", "11.0.0.1", "2001:db8::1"} {
		if _, err := l.Issue(context.Background(), newLeaf("a.corp.test", name)); err == nil {
			t.Errorf("%s was issued", name)
		}
	}
	if uses != 0 {
		t.Errorf("the key signed %d refused certificates", uses)
	}
	if l.Deterministic() {
		t.Error("an unknown signer is taken for deterministic")
	}
}

func TestDamagedSignature(t *testing.T) {
	ca := newCA(t, nil)
	var uses int
	l, err := NewLocal(LocalConfig{ID: "x", Root: ca.Root, Issuing: ca.Issuing, Key: faultySigner{ca.IssuingKey, &uses, true}})
	if err != nil {
		t.Fatal(err)
	}
	if der, err := l.Issue(context.Background(), newLeaf("a.test")); err == nil || der != nil {
		t.Error("a certificate with a damaged signature was handed out")
	}
	if uses != 1 {
		t.Errorf("the key was used %d times", uses)
	}
}

// TestLintedBeforeTheKeyIsUsed signs templates that are not those of their leaves.
func TestLintedBeforeTheKeyIsUsed(t *testing.T) {
	ca := newCA(t, nil)
	var uses int
	var warned []string
	l, err := NewLocal(LocalConfig{
		ID: "x", Root: ca.Root, Issuing: ca.Issuing, Key: faultySigner{ca.IssuingKey, &uses, false},
		LintWarnings: func(serial string, warnings []pki.LintFinding) {
			warned = append(warned, serial)
			for _, f := range warnings {
				warned = append(warned, f.Lint)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		change func(*x509.Certificate)
		want   string // the lint that refuses; "": none
		warns  string
	}{
		{"as it was meant", func(*x509.Certificate) {}, "", ""},
		{"a label of 64", func(c *x509.Certificate) { c.DNSNames = []string{strings.Repeat("a", 64) + ".test"} }, "e_rfc_dnsname_label_too_long", ""},
		{"a CA's usage", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, "e_ext_key_usage_cert_sign_without_ca", ""},
		{"not recommended", func(c *x509.Certificate) { c.DNSNames = []string{"a_b.c.d.test"} }, "", "w_rfc_dnsname_underscore_in_trd"},
	} {
		t.Run(test.name, func(t *testing.T) {
			uses, warned = 0, nil
			leaf := newLeaf("a.test")
			template, err := leaf.Template()
			if err != nil {
				t.Fatal(err)
			}
			test.change(template)
			der, err := l.sign(template, &leaf)
			if test.want != "" {
				var linted *pki.LintError
				if !errors.As(err, &linted) || linted.Findings[0].Lint != test.want || der != nil || uses != 0 {
					t.Errorf("got %v, want %s; the key was used %d times", err, test.want, uses)
				}
				return
			}
			if err != nil || uses != 1 {
				t.Errorf("%v, the key was used %d times", err, uses)
			}
			if test.warns == "" && len(warned) > 0 || test.warns != "" && !slices.Equal(warned, []string{leaf.Serial, test.warns}) {
				t.Errorf("warnings %q", warned)
			}
		})
	}
}

func TestLintSources(t *testing.T) {
	ca := newCA(t, nil)
	l := newLocal(t, ca)
	leaf := newLeaf("a.test")
	leaf.NotAfter = leaf.NotBefore.AddDate(0, 0, 400)
	plain := issue(t, l, leaf)
	for source, want := range map[pki.LintSource]string{
		pki.LintApple: "e_tls_server_cert_valid_time_longer_than_398_days", pki.LintCABForum: "e_dnsname_not_valid_tld", "x": `"x"`} {
		leaf.LintSources = []pki.LintSource{source}
		if der, err := l.Issue(context.Background(), leaf); err == nil || der != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", source, err, want)
		}
	}
	// What does not refuse a certificate does not change it.
	leaf.LintSources = []pki.LintSource{pki.LintRFC5891, pki.LintMozilla, pki.LintRFC5280}
	if cert := issue(t, l, leaf); !cert.Equal(plain) {
		t.Error("linting changed the certificate")
	}
}

// TestInspect shows inspect a certificate that differs from the leaf in one thing at a time.
func TestInspect(t *testing.T) {
	ca := newCA(t, []string{"corp.test"}, netip.MustParsePrefix("10.0.0.0/8"))
	l := newLocal(t, ca)
	signed := newLeaf("a.corp.test", "10.0.0.1")
	signed.CommonName = "a.corp.test"
	der, err := l.Issue(context.Background(), signed)
	if err != nil {
		t.Fatal(err)
	}
	inspect := func(l *Local, leaf pki.Leaf) error {
		template, err := leaf.Template()
		if err != nil {
			t.Fatal(err)
		}
		return l.inspect(der, template, &leaf)
	}
	if err := inspect(l, signed); err != nil {
		t.Error(err)
	}
	otherKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	for want, change := range map[string]func(*pki.Leaf){
		"serial number":             func(l *pki.Leaf) { l.Serial = "4b000102030405060708090a0b0c0d0e" },
		"validity":                  func(l *pki.Leaf) { l.NotAfter = l.NotAfter.Add(time.Second) },
		"subject":                   func(l *pki.Leaf) { l.CommonName = "" },
		"subject alternative names": func(l *pki.Leaf) { l.IPs = nil },
		"public key":                func(l *pki.Leaf) { l.PublicKey = otherKey.Public() },
		"usages":                    func(l *pki.Leaf) { l.ExtKeyUsages = []pki.ExtKeyUsage{pki.ClientAuth} },
	} {
		leaf := signed
		change(&leaf)
		if err := inspect(l, leaf); err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := inspect(newLocal(t, newCA(t, nil)), signed); err == nil || err.Error() != "key identifiers" {
		t.Errorf("another CA of the same name: %v", err)
	}
	// The last check does not rely on the one before signing.
	leaf := newLeaf("a.other.test")
	template, err := leaf.Template()
	if err != nil {
		t.Fatal(err)
	}
	if der, err = x509.CreateCertificate(nil, template, ca.Issuing, leaf.PublicKey, ca.IssuingKey); err != nil {
		t.Fatal(err)
	}
	var invalid x509.CertificateInvalidError
	if err := inspect(l, leaf); !errors.As(err, &invalid) {
		t.Errorf("a name outside of the constraints: %v", err)
	}
}

// selfSignedCA makes a root of any key type, which also issues.
func selfSignedCA(t *testing.T, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Root"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestDeterministic(t *testing.T) {
	rsaKey, _ := rsa.GenerateKey(rand.Reader, 2048)
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	for _, key := range []crypto.Signer{rsaKey, p256, p384, ed} {
		root := selfSignedCA(t, key)
		config := LocalConfig{ID: "x", Root: root, Issuing: root, Key: key, CRLURL: "http://pki.test/crl"}
		var certs, crls [][]byte
		for range 2 {
			l, err := NewLocal(config)
			if err != nil {
				t.Fatal(err)
			}
			if !l.Deterministic() {
				t.Errorf("%T is not deterministic", key)
			}
			der, err := l.Issue(context.Background(), newLeaf("a.test", "10.0.0.1"))
			if err != nil {
				t.Fatal(err)
			}
			crl, err := l.SignCRL(0, pki.CRL{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour),
				Revoked: []pki.RevokedEntry{{Serial: newLeaf().Serial, RevokedAt: now}}})
			if err != nil {
				t.Fatal(err)
			}
			certs, crls = append(certs, der), append(crls, crl)
		}
		if !bytes.Equal(certs[0], certs[1]) || !bytes.Equal(crls[0], crls[1]) {
			t.Errorf("%T: signing twice gave different bytes", key)
		}
	}
}

func TestNewLocalRefuses(t *testing.T) {
	ca, other := newCA(t, nil), newCA(t, nil)
	good := LocalConfig{ID: "x", Root: ca.Root, Issuing: ca.Issuing, Key: ca.IssuingKey}
	for name, change := range map[string]func(*LocalConfig){
		"no id":             func(c *LocalConfig) { c.ID = "" },
		"no root":           func(c *LocalConfig) { c.Root = nil },
		"no key":            func(c *LocalConfig) { c.Key = nil },
		"another key":       func(c *LocalConfig) { c.Key = ca.RootKey },
		"another root":      func(c *LocalConfig) { c.Root = other.Root },
		"a leaf as issuing": func(c *LocalConfig) { c.Issuing, c.Key = issue(t, newLocal(t, ca), newLeaf("a.test")), leafKey },
		"a relative URL":    func(c *LocalConfig) { c.CRLURL = "/crl" },
		"an ldap URL":       func(c *LocalConfig) { c.AIAURL = "ldap://x/y" },
	} {
		config := good
		change(&config)
		if _, err := NewLocal(config); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := NewLocal(good); err != nil {
		t.Error(err)
	}
}

func TestAccessors(t *testing.T) {
	ca := newCA(t, []string{".corp.test"})
	l := newLocal(t, ca)
	chain, err := pki.ParseChainPEM(pki.EncodePEM(l.Chain()...))
	if err != nil || len(chain) != 1 || !chain[0].Equal(ca.Issuing) || !l.Chain()[0].Equal(ca.Issuing) {
		t.Errorf("chain %v, %v", chain, err)
	}
	if l.ID() != "iss-local" || !l.Root().Equal(ca.Root) || len(l.RootFingerprint()) != 64 || !l.NotAfter().Equal(ca.Issuing.NotAfter) {
		t.Error("accessors")
	}
	domains, ips := l.Permitted()
	if len(domains) != 1 || domains[0] != "corp.test" || ips == nil || len(ips) != 0 {
		t.Errorf("permitted %v %v", domains, ips)
	}
	if l.CheckNames([]string{"a.corp.test"}, nil) != nil || l.CheckNames([]string{"a.test"}, nil) == nil {
		t.Error("CheckNames")
	}
}

// TestConcurrentIssue is for the race detector: the constraints of shared CA certificates are read by every call.
func TestConcurrentIssue(t *testing.T) {
	ca := newCA(t, []string{"b.test", "a.test"}, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.0.0/16"))
	l := newLocal(t, ca)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := l.Issue(context.Background(), newLeaf("x.a.test", "y.b.test", "10.1.2.3")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestIssuedVerifies holds Issue against the standard library: what it signs verifies under the CA's constraints.
func TestIssuedVerifies(t *testing.T) {
	ca := newCA(t, []string{"a.test", ".b.test"}, netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"))
	l := newLocal(t, ca)
	names := []string{"a.test", "x.a.test", "*.a.test", "b.test", "y.x.b.test", "*.b.test", "10.1.2.3", "2001:db8::5",
		"c.test", "xa.test", "*.test", "a.test.c", "11.0.0.1", "2001:db9::1"}
	const permitted = 8
	rapid.Check(t, func(t *rapid.T) {
		picked := rapid.SliceOfNDistinct(rapid.IntRange(0, len(names)-1), 1, 5, rapid.ID).Draw(t, "names")
		leaf, good := newLeaf(), true
		for _, i := range picked {
			more := newLeaf(names[i])
			leaf.DNSNames, leaf.IPs = append(leaf.DNSNames, more.DNSNames...), append(leaf.IPs, more.IPs...)
			good = good && i < permitted
		}
		der, err := l.Issue(context.Background(), leaf)
		if (err == nil) != good {
			t.Fatalf("permitted %v, but Issue answered %v", good, err)
		}
		if err != nil {
			return
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(ca, cert, ""); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOpenSSL asks another implementation about a constrained chain, an address that is not permitted in it, and a
// CRL that revokes one of two certificates.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Fatal("openssl is not installed")
	}
	ca := newCA(t, []string{"corp.test"}, netip.MustParsePrefix("10.0.0.0/8"))
	l := newLocal(t, ca)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root, chain := write("root.pem", pki.EncodePEM(ca.Root)), write("chain.pem", pki.EncodePEM(l.Chain()...))
	good, revoked := newLeaf("a.corp.test", "*.corp.test", "10.1.2.3"), newLeaf("b.corp.test")
	revoked.Serial = "4b000102030405060708090a0b0c0d0e"
	goodPath := write("good.pem", pki.EncodePEM(issue(t, l, good)))
	revokedPath := write("revoked.pem", pki.EncodePEM(issue(t, l, revoked)))

	// What a thief of the key would sign: the CA's own checks left out.
	outside := newLeaf("a.corp.test", "11.0.0.1")
	template, err := outside.Template()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(nil, template, ca.Issuing, leafKey.Public(), ca.IssuingKey)
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	outsidePath := write("outside.pem", pki.EncodePEM(stolen))

	crlDER, err := l.SignCRL(0, pki.CRL{Number: big.NewInt(7), ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour),
		Revoked: []pki.RevokedEntry{{Serial: revoked.Serial, RevokedAt: now.Add(-time.Minute), Reason: pki.ReasonKeyCompromise}}})
	if err != nil {
		t.Fatal(err)
	}
	crlPath := filepath.Join(dir, "crl.pem")
	if out, err := exec.Command(openssl, "crl", "-inform", "DER", "-in", write("crl.der", crlDER), "-out", crlPath).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, test := range []struct {
		path, want string
		args       []string
	}{
		{goodPath, ": OK", []string{"-x509_strict", "-purpose", "sslserver", "-verify_hostname", "x.corp.test", "-verify_ip", "10.1.2.3"}},
		{goodPath, ": OK", []string{"-crl_check", "-CRLfile", crlPath}},
		{revokedPath, "revoked", []string{"-crl_check", "-CRLfile", crlPath}},
		{outsidePath, "permitted subtree violation", nil},
	} {
		args := []string{"verify", "-attime", big.NewInt(now.Unix()).String(), "-CAfile", root, "-untrusted", chain}
		args = append(append(args, test.args...), test.path)
		out, _ := exec.Command(openssl, args...).CombinedOutput()
		if !strings.Contains(string(out), test.want) {
			t.Errorf("openssl %q: want %q, got %s", args, test.want, out)
		}
	}
}

func TestSignCRLCarriesNoIDP(t *testing.T) {
	ca := newCA(t, nil)
	der, err := newLocal(t, ca).SignCRL(0, pki.CRL{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := crl.CheckSignatureFrom(ca.Issuing); err != nil {
		t.Error(err)
	}
	for _, extension := range crl.Extensions {
		if extension.Critical || extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 28}) {
			t.Errorf("extension %v", extension.Id)
		}
	}
}

func BenchmarkIssue(b *testing.B) {
	ca := newCA(b, nil)
	constrained := newCA(b, []string{"corp.test"})
	leaf := newLeaf("a.corp.test")
	b.Run("CreateCertificateAlone", func(b *testing.B) {
		template, err := leaf.Template()
		if err != nil {
			b.Fatal(err)
		}
		key := pki.Deterministic(ca.IssuingKey)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := x509.CreateCertificate(nil, template, ca.Issuing, leaf.PublicKey, key); err != nil {
				b.Fatal(err)
			}
		}
	})
	for name, ca := range map[string]*pki.CA{"Unconstrained": ca, "Constrained": constrained} {
		l := newLocal(b, ca)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Issue(context.Background(), leaf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("AllLints", func(b *testing.B) {
		l, leaf := newLocal(b, ca), newLeaf("a.example.com")
		leaf.LintSources = pki.AllLintSources
		leaf.CRLDistributionPoints, leaf.IssuingCertificateURLs = []string{"http://pki.example.com/crl"}, []string{"http://pki.example.com/aia"}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := l.Issue(context.Background(), leaf); err != nil {
				b.Fatal(err)
			}
		}
	})
}
