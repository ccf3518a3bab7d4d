package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"
)

// crlIssuer returns a certificate that says its key is that of a CA which signs CRLs.
func crlIssuer(t testing.TB, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "Test"}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true, SubjectKeyId: []byte{1, 2, 3, 4},
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

// standardCRL makes the same CRL with crypto/x509.
func standardCRL(t *testing.T, c *CRL, issuer *x509.Certificate, key crypto.Signer) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: c.Number, ThisUpdate: c.ThisUpdate, NextUpdate: c.NextUpdate}
	for _, entry := range c.Revoked {
		serial, err := ParseSerial(entry.Serial)
		if err != nil {
			t.Fatal(err)
		}
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: serial, RevocationTime: entry.RevokedAt, ReasonCode: entry.Reason})
	}
	if c.IDP != nil {
		extension, err := c.IDP.extension()
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{extension}
	}
	der, err := x509.CreateRevocationList(nil, template, issuer, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestCRLIsTheStandardOne compares every byte with what crypto/x509 makes, for every kind of key.
func TestCRLIsTheStandardOne(t *testing.T) {
	var revoked []RevokedEntry
	for i := range 300 {
		revoked = append(revoked, RevokedEntry{
			Serial:    fmt.Sprintf("4%031x", i),
			RevokedAt: now.Add(time.Duration(i) * time.Hour),
			Reason:    []int{0, 1, 3, 4, 5, 9}[i%6],
		})
	}
	revoked[7].RevokedAt = time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC) // GeneralizedTime
	numbers := []*big.Int{big.NewInt(0), big.NewInt(128), big.NewInt(now.UnixMilli())}
	for keyType, key := range goodKeys() {
		signer := Deterministic(key)
		issuer := crlIssuer(t, key)
		for i, c := range []CRL{
			{},
			{Revoked: revoked},
			{Revoked: revoked[:1], IDP: &IDP{URL: "http://pki.test/crl/x/1.crl"}},
			{NextUpdate: time.Date(2051, 1, 1, 0, 0, 0, 0, time.UTC), IDP: &IDP{OnlyUserCerts: true}},
		} {
			c.Number, c.ThisUpdate = numbers[i%3], now
			if c.NextUpdate.IsZero() {
				c.NextUpdate = now.Add(time.Hour)
			}
			der, err := c.Sign(issuer, signer)
			if err != nil {
				t.Fatalf("%s, %d: %v", keyType, i, err)
			}
			if want := standardCRL(t, &c, issuer, signer); !bytes.Equal(der, want) {
				t.Errorf("%s, %d:\n%x\nwant\n%x", keyType, i, der, want)
			}
		}
	}
}

func TestCRLOrderDoesNotMatter(t *testing.T) {
	key := goodKeys()[ECDSAP256]
	issuer := crlIssuer(t, key)
	a := RevokedEntry{Serial: "4a000102030405060708090a0b0c0d0e", RevokedAt: now}
	b := RevokedEntry{Serial: "4b000102030405060708090a0b0c0d0e", RevokedAt: now, Reason: 4}
	var made [][]byte
	for _, revoked := range [][]RevokedEntry{{a, b}, {b, a}} {
		c := CRL{Number: big.NewInt(1), ThisUpdate: now.Add(time.Millisecond), NextUpdate: now.Add(time.Hour), Revoked: revoked}
		der, err := c.Sign(issuer, Deterministic(key))
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, der)
	}
	if !bytes.Equal(made[0], made[1]) {
		t.Error("the same facts in another order make another CRL")
	}
}

type damagingSigner struct{ crypto.Signer }

func (d damagingSigner) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := d.Signer.Sign(rand, digest, opts)
	if err == nil {
		signature[len(signature)-1] ^= 1
	}
	return signature, err
}

// TestCRLRefuses has what TestSignCRLRefuses has not.
func TestCRLRefuses(t *testing.T) {
	key := goodKeys()[ECDSAP256]
	good := RevokedEntry{Serial: "4a000102030405060708090a0b0c0d0e", RevokedAt: now}
	for name, test := range map[string]struct {
		change func(*CRL, *x509.Certificate)
		want   string
	}{
		"upper-case":       {func(c *CRL, _ *x509.Certificate) { c.Revoked[0].Serial = strings.ToUpper(good.Serial) }, "serial"},
		"negative serial":  {func(c *CRL, _ *x509.Certificate) { c.Revoked[0].Serial = "8" + good.Serial[1:] }, "serial"},
		"leading zero":     {func(c *CRL, _ *x509.Certificate) { c.Revoked[0].Serial = "00" + good.Serial[2:] }, "serial"},
		"IDP of a file":    {func(c *CRL, _ *x509.Certificate) { c.IDP = &IDP{URL: "file:///crl"} }, "URL"},
		"not for CRLs":     {func(_ *CRL, i *x509.Certificate) { i.KeyUsage = x509.KeyUsageCertSign }, "not for signing CRLs"},
		"no identifier":    {func(_ *CRL, i *x509.Certificate) { i.SubjectKeyId = nil }, "subject key identifier"},
		"another's key":    {func(_ *CRL, i *x509.Certificate) { i.PublicKey = goodKeys()[ECDSAP384].Public() }, "signature"},
		"a damaged signer": {nil, "signature"},
	} {
		t.Run(name, func(t *testing.T) {
			c := CRL{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour), Revoked: []RevokedEntry{good}}
			issuer, signer := crlIssuer(t, key), Deterministic(key)
			if test.change != nil {
				test.change(&c, issuer)
			} else {
				signer = damagingSigner{signer}
			}
			if der, err := c.Sign(issuer, signer); err == nil || der != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestShard(t *testing.T) {
	counts := make([]int, CRLShards)
	for range 64 * CRLShards {
		serial, err := NewSerial(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		shard := Shard(serial, CRLShards)
		if shard < 1 || shard > CRLShards || shard != Shard(serial, CRLShards) {
			t.Fatalf("%s is in shard %d", serial, shard)
		}
		counts[shard-1]++
	}
	for i, n := range counts {
		if n < 20 || n > 130 { // 64 are expected
			t.Errorf("shard %d has %d of %d", i+1, n, 64*CRLShards)
		}
	}
	// Certificates that are out there point to these.
	for serial, want := range map[string]int{
		"40000000000000000000000000000000": 1, "4000000000000000000000000000003f": 64,
		"40000000000000000000000000000040": 1, "400000000000000000000000ffffffff": 64, "": 1, "no serial": 1,
	} {
		if got := Shard(serial, 64); got != want {
			t.Errorf("%q is in shard %d, want %d", serial, got, want)
		}
	}
}

func BenchmarkCRL100000(b *testing.B) {
	key := goodKeys()[ECDSAP256]
	issuer := crlIssuer(b, key)
	c := CRL{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}
	for range 100_000 {
		serial, err := NewSerial(rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		c.Revoked = append(c.Revoked, RevokedEntry{Serial: serial, RevokedAt: now, Reason: 1})
	}
	b.ReportAllocs()
	for b.Loop() {
		der, err := c.Sign(issuer, Deterministic(key))
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(der)))
	}
}
