package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var now = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func newLeaf(names ...string) *Leaf {
	return &Leaf{
		Serial:       "4a000102030405060708090a0b0c0d0e",
		NotBefore:    now.Add(-time.Minute),
		NotAfter:     now.Add(24*time.Hour - time.Second),
		DNSNames:     names,
		PublicKey:    goodKeys()[ECDSAP256].Public(),
		ExtKeyUsages: []ExtKeyUsage{ServerAuth},
	}
}

// signLeaf issues without any of the checks that an issuer makes beyond the template.
func signLeaf(t testing.TB, ca *CA, leaf *Leaf) *x509.Certificate {
	t.Helper()
	template, err := leaf.Template()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(nil, template, ca.Issuing, leaf.PublicKey, Deterministic(ca.IssuingKey))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func extension(cert *x509.Certificate, oid ...int) *pkix.Extension {
	for i, e := range cert.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier(oid)) {
			return &cert.Extensions[i]
		}
	}
	return nil
}

func TestTemplate(t *testing.T) {
	ca := newCA(t, CASpec{})
	leaf := newLeaf("a.test", "*.b.test")
	leaf.IPs = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}
	leaf.ExtKeyUsages = []ExtKeyUsage{ServerAuth, ClientAuth}
	leaf.CRLDistributionPoints = []string{"http://pki.test/crl"}
	leaf.IssuingCertificateURLs = []string{"http://pki.test/aia"}
	leaf.OCSPServers = []string{"http://pki.test/ocsp"}
	cert := signLeaf(t, ca, leaf)

	if got, err := FormatSerial(cert.SerialNumber); err != nil || got != leaf.Serial {
		t.Errorf("serial %s, %v", got, err)
	}
	if !cert.NotBefore.Equal(leaf.NotBefore) || !cert.NotAfter.Equal(leaf.NotAfter) {
		t.Error("validity")
	}
	if !slices.Equal(cert.DNSNames, leaf.DNSNames) || len(cert.IPAddresses) != 2 || len(cert.IPAddresses[0]) != 4 {
		t.Errorf("names %q %v", cert.DNSNames, cert.IPAddresses)
	}
	if len(cert.Subject.Names) != 0 {
		t.Errorf("subject %v", cert.Subject)
	}
	if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) {
		t.Errorf("extended key usages %v", cert.ExtKeyUsage)
	}
	if cert.IsCA || !cert.BasicConstraintsValid {
		t.Error("basic constraints")
	}
	// Key usage, basic constraints, and the names of an empty subject are critical; nothing else is.
	critical := map[string]bool{"2.5.29.15": true, "2.5.29.19": true, "2.5.29.17": true}
	for _, e := range cert.Extensions {
		if e.Critical != critical[e.Id.String()] {
			t.Errorf("extension %v: critical %v", e.Id, e.Critical)
		}
	}
	if got := []string{cert.CRLDistributionPoints[0], cert.IssuingCertificateURL[0], cert.OCSPServer[0]}; !slices.Equal(got, []string{"http://pki.test/crl", "http://pki.test/aia", "http://pki.test/ocsp"}) {
		t.Errorf("pointers %q", got)
	}
	if extension(cert, 2, 5, 29, 56) != nil {
		t.Error("noRevAvail was not asked for")
	}
	keyID, _ := subjectKeyID(leaf.PublicKey)
	if !bytes.Equal(cert.SubjectKeyId, keyID) || !bytes.Equal(cert.AuthorityKeyId, ca.Issuing.SubjectKeyId) {
		t.Error("key identifiers")
	}
}

func TestTemplateKeyUsage(t *testing.T) {
	ca := newCA(t, CASpec{})
	for keyType, key := range goodKeys() {
		want := x509.KeyUsageDigitalSignature
		if strings.HasPrefix(string(keyType), "rsa") {
			want |= x509.KeyUsageKeyEncipherment
		}
		leaf := newLeaf("a.test")
		leaf.PublicKey = key.Public()
		if got := signLeaf(t, ca, leaf).KeyUsage; got != want {
			t.Errorf("%s: key usage %b", keyType, got)
		}
		leaf.ExtKeyUsages = []ExtKeyUsage{ClientAuth}
		if got := signLeaf(t, ca, leaf).KeyUsage; got != x509.KeyUsageDigitalSignature {
			t.Errorf("%s of a client: key usage %b", keyType, got)
		}
	}
}

func TestTemplateCommonName(t *testing.T) {
	ca := newCA(t, CASpec{})
	leaf := newLeaf("a.test", "*.b.test")
	leaf.IPs = []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	for _, name := range []string{"a.test", "*.b.test", "10.0.0.1"} {
		leaf.CommonName = name
		cert := signLeaf(t, ca, leaf)
		if cert.Subject.CommonName != name || len(cert.Subject.Names) != 1 {
			t.Errorf("subject %v", cert.Subject)
		}
		if extension(cert, 2, 5, 29, 17).Critical {
			t.Error("alternative names are critical beside a subject")
		}
	}
}

func TestTemplateNoRevAvail(t *testing.T) {
	leaf := newLeaf("a.test")
	leaf.NoRevAvail = true
	leaf.IssuingCertificateURLs = []string{"http://pki.test/aia"}
	cert := signLeaf(t, newCA(t, CASpec{}), leaf)
	e := extension(cert, 2, 5, 29, 56)
	if e == nil || e.Critical || !bytes.Equal(e.Value, []byte{5, 0}) {
		t.Errorf("noRevAvail %+v", e)
	}
}

func TestTemplateRefuses(t *testing.T) {
	long := strings.Repeat("a", 60) + ".test"
	for _, test := range []struct {
		name   string
		change func(*Leaf)
		want   string
	}{
		{"no serial", func(l *Leaf) { l.Serial = "" }, "serial"},
		{"no key", func(l *Leaf) { l.PublicKey = nil }, "keys of this kind"},
		{"P-224", func(l *Leaf) { l.PublicKey = &ecdsa.PublicKey{Curve: elliptic.P224()} }, "curve"},
		{"no names", func(l *Leaf) { l.DNSNames = nil }, "no name"},
		{"a name twice", func(l *Leaf) { l.DNSNames = []string{"a.test", "b.test", "a.test"} }, "twice"},
		{"an address twice", func(l *Leaf) { l.IPs = slices.Repeat([]netip.Addr{netip.MustParseAddr("10.0.0.1")}, 2) }, "twice"},
		{"an upper-case name", func(l *Leaf) { l.DNSNames = []string{"A.test"} }, "canonical"},
		{"no address", func(l *Leaf) { l.IPs = []netip.Addr{{}} }, "address"},
		{"a zone", func(l *Leaf) { l.IPs = []netip.Addr{netip.MustParseAddr("fe80::1%eth0")} }, "address"},
		{"a mapped address", func(l *Leaf) { l.IPs = []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")} }, "address"},
		{"a foreign common name", func(l *Leaf) { l.CommonName = "b.test" }, "not among"},
		{"a long common name", func(l *Leaf) { l.DNSNames, l.CommonName = []string{long}, long }, "64 bytes"},
		{"no usage", func(l *Leaf) { l.ExtKeyUsages = nil }, "no extended key usage"},
		{"an unknown usage", func(l *Leaf) { l.ExtKeyUsages = []ExtKeyUsage{"any"} }, "not known"},
		{"a usage twice", func(l *Leaf) { l.ExtKeyUsages = []ExtKeyUsage{ServerAuth, ServerAuth} }, "twice"},
		{"ends first", func(l *Leaf) { l.NotAfter = l.NotBefore.Add(-time.Second) }, "before it begins"},
		{"no beginning", func(l *Leaf) { l.NotBefore = time.Time{} }, "outside"},
		{"year 10000", func(l *Leaf) { l.NotAfter = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "outside"},
		{"a fraction of a second", func(l *Leaf) { l.NotAfter = l.NotAfter.Add(time.Millisecond) }, "whole seconds"},
		{"noRevAvail with CRL", func(l *Leaf) { l.NoRevAvail, l.CRLDistributionPoints = true, []string{"http://a.test/"} }, "noRevAvail"},
		{"noRevAvail with OCSP", func(l *Leaf) { l.NoRevAvail, l.OCSPServers = true, []string{"http://a.test/"} }, "noRevAvail"},
		{"a relative URL", func(l *Leaf) { l.OCSPServers = []string{"/ocsp"} }, "absolute"},
		{"a URL with a space", func(l *Leaf) { l.IssuingCertificateURLs = []string{"http://a.test/a b"} }, "ASCII"},
	} {
		t.Run(test.name, func(t *testing.T) {
			leaf := newLeaf("a.test")
			test.change(leaf)
			if template, err := leaf.Template(); err == nil || template != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestValidDNSName(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	for _, name := range []string{"localhost", "a.test", "*.a.test", "*.test", "xn--bcher-kva.test", "1.a", "a-b.c-d.test", "3com.test",
		label63 + ".test", strings.Repeat("a.", 126) + "a"} {
		if !validDNSName(name) {
			t.Errorf("%q is refused", name)
		}
	}
	for _, name := range []string{"", ".", "*", "*.", "a.", ".a", "a..b", "*.*.a", "a.*.b", "A.test", "a_b.test", "-a.test", "a-.test", "a.test-",
		"bücher.test", "a test", "a\x00.test", "10.0.0.1", "1", "a.1", "*.1", "a:b", "a/b", label63 + "a.test", strings.Repeat("a.", 127) + "a"} {
		if validDNSName(name) {
			t.Errorf("%q is accepted", name)
		}
	}
}

func TestNewSerial(t *testing.T) {
	seen := map[string]bool{}
	rapid.Check(t, func(t *rapid.T) {
		serial, err := NewSerial(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		number, err := ParseSerial(serial)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := FormatSerial(number); err != nil || back != serial || seen[serial] {
			t.Fatalf("%s came back as %s, %v", serial, back, err)
		}
		if der, _ := asn1.Marshal(number); len(der) != 18 {
			t.Fatalf("%s takes %d bytes", serial, len(der))
		}
		seen[serial] = true
	})
	// Whatever is drawn, the form is kept.
	for _, fill := range []byte{0, 0xff} {
		serial, err := NewSerial(bytes.NewReader(bytes.Repeat([]byte{fill}, 16)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSerial(serial); err != nil {
			t.Errorf("%s: %v", serial, err)
		}
	}
	if _, err := NewSerial(bytes.NewReader(make([]byte, 15))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too little randomness: %v", err)
	}
}

func TestParseSerialRefuses(t *testing.T) {
	for _, serial := range []string{"", "4a", "4A000102030405060708090a0b0c0d0e", "00000102030405060708090a0b0c0d0e", "80000102030405060708090a0b0c0d0e",
		"4a000102030405060708090a0b0c0d0e00", "4g000102030405060708090a0b0c0d0e"} {
		if _, err := ParseSerial(serial); err == nil {
			t.Errorf("%q is accepted", serial)
		}
	}
	one := big.NewInt(1)
	for _, number := range []*big.Int{nil, big.NewInt(0), one, big.NewInt(-5), new(big.Int).Lsh(one, 127), new(big.Int).Lsh(one, 119)} {
		if serial, err := FormatSerial(number); err == nil {
			t.Errorf("%v is formatted as %s", number, serial)
		}
	}
	if serial, err := FormatSerial(new(big.Int).Lsh(one, 120)); err != nil || serial != "01"+strings.Repeat("0", 30) {
		t.Errorf("%s, %v", serial, err)
	}
}

// TestSignTwice is what a takeover after a crash relies on: every Leaf gives the same bytes again.
func TestSignTwice(t *testing.T) {
	ca := newCA(t, CASpec{})
	rapid.Check(t, func(t *rapid.T) {
		leaf := newLeaf(rapid.SliceOfNDistinct(rapid.StringMatching(`(\*\.)?[a-z]{1,8}\.test`), 1, 5, rapid.ID).Draw(t, "names")...)
		leaf.Serial = rapid.StringMatching(`[1-7][0-9a-f]{31}`).Draw(t, "serial")
		leaf.NotAfter = leaf.NotBefore.Add(time.Duration(rapid.IntRange(0, 1<<31).Draw(t, "seconds")) * time.Second)
		leaf.NoRevAvail = rapid.Bool().Draw(t, "noRevAvail")
		leaf.PublicKey = goodKeys()[rapid.SampledFrom(AllKeyTypes).Draw(t, "key")].Public()
		var signed [2][]byte
		for i := range signed {
			template, err := leaf.Template()
			if err != nil {
				t.Fatal(err)
			}
			if signed[i], err = x509.CreateCertificate(rand.Reader, template, ca.Issuing, leaf.PublicKey, Deterministic(ca.IssuingKey)); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(signed[0], signed[1]) {
			t.Fatal("signing twice gave different bytes")
		}
		cert, err := x509.ParseCertificate(signed[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := cert.CheckSignatureFrom(ca.Issuing); err != nil {
			t.Fatal(err)
		}
	})
}
