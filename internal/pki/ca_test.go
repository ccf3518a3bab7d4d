package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func newCA(t testing.TB, spec CASpec) *CA {
	t.Helper()
	if spec.Name == "" {
		spec.Name = "Test"
	}
	spec.Now = now.Add(123 * time.Millisecond)
	ca, err := CreateCA(spec, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func verifyChain(ca *CA, cert *x509.Certificate) error {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(ca.Root)
	intermediates.AddCert(ca.Issuing)
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now})
	return err
}

func TestCreateCA(t *testing.T) {
	ca := newCA(t, CASpec{Name: "Exämple & Co"})
	for _, test := range []struct {
		cert          *x509.Certificate
		key           *ecdsa.PrivateKey
		name, issuer  string
		pathLen       int
		years         int
		authorityKey  []byte
		zeroIsAPathLn bool
	}{
		{ca.Root, ca.RootKey, "Exämple & Co Root CA", "Exämple & Co Root CA", 1, 20, nil, false},
		{ca.Issuing, ca.IssuingKey, "Exämple & Co Issuing CA", "Exämple & Co Root CA", 0, 10, ca.Root.SubjectKeyId, true},
	} {
		cert := test.cert
		if !cert.IsCA || !cert.BasicConstraintsValid || cert.MaxPathLen != test.pathLen || cert.MaxPathLenZero != test.zeroIsAPathLn {
			t.Errorf("%s: basic constraints, path length %d", test.name, cert.MaxPathLen)
		}
		if cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
			t.Errorf("%s: key usage %b", test.name, cert.KeyUsage)
		}
		if cert.Subject.CommonName != test.name || cert.Issuer.CommonName != test.issuer || !slices.Equal(cert.Subject.Organization, []string{"Exämple & Co"}) {
			t.Errorf("%s: subject %s, issuer %s", test.name, cert.Subject, cert.Issuer)
		}
		if !test.key.PublicKey.Equal(cert.PublicKey) || len(cert.SubjectKeyId) != 20 || !bytes.Equal(cert.AuthorityKeyId, test.authorityKey) {
			t.Errorf("%s: keys", test.name)
		}
		if cert.NotBefore.After(now.Add(-10*time.Minute)) || !cert.NotAfter.Equal(cert.NotBefore.AddDate(test.years, 0, 0).Add(-time.Second)) {
			t.Errorf("%s: from %v to %v", test.name, cert.NotBefore, cert.NotAfter)
		}
		if _, err := FormatSerial(cert.SerialNumber); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if extension(cert, 2, 5, 29, 30) != nil {
			t.Errorf("%s: name constraints that were not asked for", test.name)
		}
	}
	if err := ca.Root.CheckSignatureFrom(ca.Root); err != nil {
		t.Error(err)
	}
	if err := verifyChain(ca, signLeaf(t, ca, newLeaf("a.test"))); err != nil {
		t.Error(err)
	}
	if NameConstraintsOf(ca.Issuing, ca.Root) != nil {
		t.Error("constraints out of nowhere")
	}
}

func TestCreateCARefuses(t *testing.T) {
	for name, spec := range map[string]CASpec{
		"no name":          {},
		"a long name":      {Name: strings.Repeat("x", 54)},
		"a control":        {Name: "a\nb"},
		"not UTF-8":        {Name: "a\xff"},
		"a wildcard":       {Name: "x", PermittedDomains: []string{"*.a.test"}},
		"every name":       {Name: "x", PermittedDomains: []string{"*"}},
		"an empty domain":  {Name: "x", PermittedDomains: []string{""}},
		"a U-label":        {Name: "x", PermittedDomains: []string{"bücher.test"}},
		"an upper case":    {Name: "x", PermittedDomains: []string{"A.test"}},
		"host bits":        {Name: "x", PermittedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")}},
		"no prefix":        {Name: "x", PermittedIPs: []netip.Prefix{{}}},
		"a mapped address": {Name: "x", PermittedIPs: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}},
	} {
		spec.Now = now
		if _, err := CreateCA(spec, rand.Reader); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	if _, err := CreateCA(CASpec{Name: "x"}, rand.Reader); err == nil {
		t.Error("no time was accepted")
	}
	if _, err := CreateCA(CASpec{Name: strings.Repeat("ä", 53), Now: now}, rand.Reader); err != nil {
		t.Error(err)
	}
}

func TestNameConstraints(t *testing.T) {
	ten, doc := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")
	for _, test := range []struct {
		name    string
		spec    CASpec
		domains []string
		ips     []netip.Prefix
		good    []string
		bad     []string
	}{
		{"domains only", CASpec{PermittedDomains: []string{"a.test", ".b.test"}}, []string{"a.test", "b.test"}, []netip.Prefix{},
			[]string{"a.test", "x.y.a.test", "*.a.test", "b.test", "*.b.test"},
			[]string{"test", "*.test", "xa.test", "a.test.c", "10.0.0.1", "::1"}},
		{"domains and addresses", CASpec{PermittedDomains: []string{"a.test"}, PermittedIPs: []netip.Prefix{ten, doc}}, []string{"a.test"}, []netip.Prefix{ten, doc},
			[]string{"a.test", "10.255.0.1", "2001:db8::1"},
			[]string{"b.test", "11.0.0.1", "2001:db9::1"}},
		{"one kind of address", CASpec{PermittedDomains: []string{"a.test"}, PermittedIPs: []netip.Prefix{ten}}, []string{"a.test"}, []netip.Prefix{ten},
			[]string{"10.0.0.1"}, []string{"2001:db8::1", "::1"}},
		{"addresses only", CASpec{PermittedIPs: []netip.Prefix{doc}}, []string{}, []netip.Prefix{doc},
			[]string{"2001:db8::1"}, []string{"a.test", "*.a.test", "10.0.0.1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			ca := newCA(t, test.spec)
			for _, cert := range []*x509.Certificate{ca.Root, ca.Issuing} {
				if e := extension(cert, 2, 5, 29, 30); e == nil || !e.Critical {
					t.Errorf("%s: name constraints %+v", cert.Subject, e)
				}
			}
			constraints := NameConstraintsOf(ca.Issuing, ca.Root)
			domains, ips := constraints.Permitted()
			if !slices.Equal(domains, test.domains) || !slices.Equal(ips, test.ips) || domains == nil || ips == nil {
				t.Errorf("permitted %q %v", domains, ips)
			}
			for _, name := range append(slices.Clone(test.good), test.bad...) {
				leaf := newLeaf()
				if addr, err := netip.ParseAddr(name); err == nil {
					leaf.IPs = []netip.Addr{addr}
				} else {
					leaf.DNSNames = []string{name}
				}
				good := slices.Contains(test.good, name)
				if err := constraints.Check(leaf.DNSNames, leaf.IPs); (err == nil) != good {
					t.Errorf("%s: Check answers %v", name, err)
				}
				if err := verifyChain(ca, signLeaf(t, ca, leaf)); (err == nil) != good {
					t.Errorf("%s: the standard library answers %v", name, err)
				}
			}
		})
	}
}

// TestNameConstraintsLikeStandardLibrary compares Check with the standard library on chains that CreateCA does not
// make: random permitted and excluded subtrees, different in both certificates.
func TestNameConstraintsLikeStandardLibrary(t *testing.T) {
	ca := newCA(t, CASpec{})
	subtree := rapid.SampledFrom([]string{"", "test", "a.test", ".a.test", "b.a.test", "B.test", "*.test"})
	prefix := rapid.SampledFrom([]string{"0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "::/0", "2001:db8::/32"})
	name := rapid.SampledFrom([]string{"test", "a.test", "b.a.test", "c.b.a.test", "*.a.test", "*.test", "b.test", "x.b.test", "ba.test", "a.c"})
	addr := rapid.SampledFrom([]string{"10.0.0.1", "10.1.0.1", "11.0.0.1", "2001:db8::1", "::1"})
	answers := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		subtrees := func(label string) []string { return rapid.SliceOfN(subtree, 0, 2).Draw(t, label) }
		ranges := func(label string) (list []*net.IPNet) {
			for _, text := range rapid.SliceOfN(prefix, 0, 2).Draw(t, label) {
				list = append(list, ipNet(netip.MustParsePrefix(text)))
			}
			return list
		}
		constrain := func(cert *x509.Certificate, label string) *x509.Certificate {
			constrained := *cert
			constrained.PermittedDNSDomains, constrained.ExcludedDNSDomains = subtrees(label+" permitted DNS"), subtrees(label+" excluded DNS")
			constrained.PermittedIPRanges, constrained.ExcludedIPRanges = ranges(label+" permitted IPs"), ranges(label+" excluded IPs")
			return &constrained
		}
		resign := func(template, parent *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
			der, err := x509.CreateCertificate(nil, template, parent, key, ca.RootKey)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			return cert
		}
		root := constrain(ca.Root, "root")
		root = resign(root, root, ca.RootKey.Public())
		issuing := resign(constrain(ca.Issuing, "issuing"), root, ca.IssuingKey.Public())

		leaf := newLeaf(rapid.SliceOfNDistinct(name, 0, 2, rapid.ID).Draw(t, "names")...)
		if text := addr.Draw(t, "address"); len(leaf.DNSNames) == 0 || rapid.Bool().Draw(t, "with address") {
			leaf.IPs = []netip.Addr{netip.MustParseAddr(text)}
		}
		template, err := leaf.Template()
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificate(nil, template, issuing, leaf.PublicKey, ca.IssuingKey)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		want := verifyChain(&CA{Root: root, Issuing: issuing}, cert)
		var invalid x509.CertificateInvalidError
		if want != nil && (!errors.As(want, &invalid) || invalid.Reason != x509.CANotAuthorizedForThisName) {
			t.Fatal(want)
		}
		answers[want == nil]++
		if got := NameConstraintsOf(issuing, root).Check(leaf.DNSNames, leaf.IPs); (got == nil) != (want == nil) {
			t.Fatalf("Check: %v; standard library: %v", got, want)
		}
	})
	if answers[true] == 0 || answers[false] == 0 {
		t.Errorf("one answer never came: %v", answers)
	}
}

func TestDeterministicKeepsOtherSigners(t *testing.T) {
	for keyType, key := range goodKeys() {
		wrapped := Deterministic(key)
		if !SignsDeterministically(wrapped) {
			t.Errorf("%s is not deterministic", keyType)
		}
		if !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(wrapped.Public()) {
			t.Errorf("%s: another public key", keyType)
		}
		message, options := []byte("message"), crypto.SignerOpts(crypto.SHA256)
		if keyType == Ed25519 {
			options = crypto.Hash(0)
		} else {
			sum := sha256.Sum256(message)
			message = sum[:]
		}
		a, errA := wrapped.Sign(rand.Reader, message, options)
		b, errB := wrapped.Sign(rand.Reader, message, options)
		if errA != nil || errB != nil || !bytes.Equal(a, b) {
			t.Errorf("%s: %v, %v, or different signatures", keyType, errA, errB)
		}
	}
	if key := goodKeys()[ECDSAP256]; SignsDeterministically(key) || SignsDeterministically(struct{ crypto.Signer }{key}) {
		t.Error("a signer with random nonces is taken for deterministic")
	}
}

func TestKeysAndPEM(t *testing.T) {
	for keyType, key := range goodKeys() {
		der, err := MarshalKey(key)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseKey(der)
		if err != nil || !key.(interface{ Equal(crypto.PrivateKey) bool }).Equal(back) {
			t.Errorf("%s: %v", keyType, err)
		}
		if _, err := ParseKey(der[:len(der)-1]); err == nil {
			t.Errorf("%s: a damaged key was read", keyType)
		}
	}
	ca := newCA(t, CASpec{})
	text := EncodePEM(ca.Issuing, ca.Root)
	chain, err := ParseChainPEM(append([]byte("\n\n"), text...))
	if err != nil || len(chain) != 2 || !chain[0].Equal(ca.Issuing) || !chain[1].Equal(ca.Root) {
		t.Errorf("chain %v, %v", chain, err)
	}
	keyDER, _ := MarshalKey(ed25519.NewKeyFromSeed(make([]byte, 32)))
	for name, bad := range map[string][]byte{
		"nothing":       nil,
		"text before":   append([]byte("hello\n"), text...),
		"text after":    append(bytes.Clone(text), "hello"...),
		"cut off":       text[:len(text)-10],
		"a key":         append(bytes.Clone(text), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})...),
		"not a cert":    pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
		"a damaged one": bytes.Replace(text, []byte("-----BEGIN CERTIFICATE-----\nM"), []byte("-----BEGIN CERTIFICATE-----\n!"), 1),
	} {
		if _, err := ParseChainPEM(bad); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestSignCRL(t *testing.T) {
	ca := newCA(t, CASpec{})
	number := new(big.Int).Lsh(big.NewInt(1), 100)
	a, b, c := "4a000102030405060708090a0b0c0d0e", "4b000102030405060708090a0b0c0d0e", "7f000102030405060708090a0b0c0d0e"
	entries := []RevokedEntry{
		{Serial: c, RevokedAt: now.Add(time.Millisecond), Reason: ReasonKeyCompromise},
		{Serial: a, RevokedAt: now, Reason: ReasonUnspecified},
		{Serial: b, RevokedAt: now, Reason: ReasonSuperseded},
	}
	create := func(entries []RevokedEntry, idp *IDP) []byte {
		t.Helper()
		der, err := (&CRL{number, now, now.Add(24 * time.Hour), entries, idp}).Sign(ca.Issuing, Deterministic(ca.IssuingKey))
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	der := create(entries, nil)
	slices.Reverse(entries)
	if !bytes.Equal(der, create(entries, nil)) {
		t.Error("the order of the entries shows in the CRL")
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := crl.CheckSignatureFrom(ca.Issuing); err != nil {
		t.Error(err)
	}
	if crl.Number.Cmp(number) != 0 || !crl.ThisUpdate.Equal(now) || !crl.NextUpdate.Equal(now.Add(24*time.Hour)) || !bytes.Equal(crl.AuthorityKeyId, ca.Issuing.SubjectKeyId) {
		t.Error("fields")
	}
	for i, want := range []RevokedEntry{{a, now, 0}, {b, now, 4}, {c, now, 1}} {
		got := crl.RevokedCertificateEntries[i]
		serial, err := FormatSerial(got.SerialNumber)
		if err != nil || serial != want.Serial || !got.RevocationTime.Equal(want.RevokedAt) || got.ReasonCode != want.Reason {
			t.Errorf("entry %d: %s %v %d, %v", i, serial, got.RevocationTime, got.ReasonCode, err)
		}
		if (len(got.Extensions) == 0) != (want.Reason == 0) {
			t.Errorf("entry %d: %d extensions", i, len(got.Extensions))
		}
	}
	if empty, err := x509.ParseRevocationList(create(nil, nil)); err != nil || len(empty.RevokedCertificateEntries) != 0 {
		t.Errorf("empty CRL: %v", err)
	}

	for _, test := range []struct {
		idp  IDP
		want string
	}{
		{IDP{URL: "http://a/"}, "\x30\x0f\xa0\x0d\xa0\x0b\x86\x09http://a/"},
		{IDP{OnlyUserCerts: true}, "\x30\x03\x81\x01\xff"},
		{IDP{URL: "http://a/", OnlyUserCerts: true}, "\x30\x12\xa0\x0d\xa0\x0b\x86\x09http://a/\x81\x01\xff"},
	} {
		crl, err := x509.ParseRevocationList(create(nil, &test.idp))
		if err != nil {
			t.Fatal(err)
		}
		e := crl.Extensions[len(crl.Extensions)-1]
		if !e.Id.Equal(oidIssuingDistributionPoint) || !e.Critical || string(e.Value) != test.want {
			t.Errorf("%+v: %v %v %q", test.idp, e.Id, e.Critical, e.Value)
		}
	}
}

func TestSignCRLRefuses(t *testing.T) {
	ca := newCA(t, CASpec{})
	good := RevokedEntry{Serial: "4a000102030405060708090a0b0c0d0e", RevokedAt: now}
	for _, test := range []struct {
		name    string
		number  *big.Int
		next    time.Time
		entries []RevokedEntry
		idp     *IDP
		want    string
	}{
		{"no number", nil, now.Add(time.Hour), nil, nil, "number"},
		{"a negative number", big.NewInt(-1), now.Add(time.Hour), nil, nil, "number"},
		{"a number of 21 bytes", new(big.Int).Lsh(big.NewInt(1), 160), now.Add(time.Hour), nil, nil, "20 octets"},
		{"no progress", big.NewInt(1), now, nil, nil, "next update"},
		{"an entry twice", big.NewInt(1), now.Add(time.Hour), []RevokedEntry{good, good}, nil, "twice"},
		{"a serial", big.NewInt(1), now.Add(time.Hour), []RevokedEntry{{Serial: "1", RevokedAt: now}}, nil, "serial"},
		{"no time", big.NewInt(1), now.Add(time.Hour), []RevokedEntry{{Serial: good.Serial}}, nil, "time"},
		{"reason 7", big.NewInt(1), now.Add(time.Hour), []RevokedEntry{{good.Serial, now, 7}}, nil, "reason 7"},
		{"removeFromCRL", big.NewInt(1), now.Add(time.Hour), []RevokedEntry{{good.Serial, now, ReasonRemoveFromCRL}}, nil, "reason 8"},
		{"an empty IDP", big.NewInt(1), now.Add(time.Hour), nil, &IDP{}, "empty"},
		{"a relative IDP", big.NewInt(1), now.Add(time.Hour), nil, &IDP{URL: "/crl"}, "absolute"},
	} {
		t.Run(test.name, func(t *testing.T) {
			der, err := (&CRL{test.number, now, test.next, test.entries, test.idp}).Sign(ca.Issuing, ca.IssuingKey)
			if err == nil || der != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestValidReason(t *testing.T) {
	for code := -1; code <= 12; code++ {
		if want := slices.Contains([]int{0, 1, 3, 4, 5, 9}, code); ValidReason(code) != want {
			t.Errorf("reason %d: %v", code, !want)
		}
	}
}

func BenchmarkSignCRL(b *testing.B) {
	ca := newCA(b, CASpec{})
	entries := make([]RevokedEntry, 10000)
	for i := range entries {
		serial, err := NewSerial(rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		entries[i] = RevokedEntry{Serial: serial, RevokedAt: now, Reason: i % 2}
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (&CRL{big.NewInt(1), now, now.Add(time.Hour), entries, nil}).Sign(ca.Issuing, ca.IssuingKey); err != nil {
			b.Fatal(err)
		}
	}
}
