package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

func newCSR(t testing.TB, key crypto.Signer, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestParseCSR(t *testing.T) {
	for _, keyType := range AllKeyTypes {
		key := goodKeys()[keyType]
		der := newCSR(t, key, x509.CertificateRequest{
			Subject:        pkix.Name{CommonName: "A.test", Organization: []string{"ignored"}},
			DNSNames:       []string{"A.test", "*.b.test"},
			IPAddresses:    []net.IP{net.IPv4(192, 0, 2, 1), net.ParseIP("2001:db8::1")},
			EmailAddresses: []string{"x@a.test"},
			URIs:           []*url.URL{{Scheme: "spiffe", Host: "a.test"}, {Scheme: "https", Host: "b.test"}},
		})
		csr, err := ParseCSR(der)
		if err != nil {
			t.Errorf("%s: %v", keyType, err)
			continue
		}
		if csr.KeyType != keyType || !key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(csr.PublicKey) || !bytes.Equal(csr.Raw, der) {
			t.Errorf("%s: key %s", keyType, csr.KeyType)
		}
		if csr.CommonName != "a.test" || !slices.Equal(csr.DNSNames, []string{"a.test", "*.b.test"}) {
			t.Errorf("names %q %q", csr.CommonName, csr.DNSNames)
		}
		if !slices.Equal(csr.IPs, []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}) {
			t.Errorf("addresses %v", csr.IPs)
		}
		if csr.Emails != 1 || csr.URIs != 2 || csr.OtherNames != 0 {
			t.Errorf("counts %d %d %d", csr.Emails, csr.URIs, csr.OtherNames)
		}
	}
}

func TestParseCSRSignatureAlgorithms(t *testing.T) {
	for _, algorithm := range csrSignatures {
		var key crypto.Signer
		switch {
		case strings.Contains(algorithm.String(), "RSA"):
			key = goodKeys()[RSA2048]
		case strings.Contains(algorithm.String(), "ECDSA"):
			key = goodKeys()[ECDSAP384]
		default:
			key = goodKeys()[Ed25519]
		}
		if _, err := ParseCSR(newCSR(t, key, x509.CertificateRequest{SignatureAlgorithm: algorithm})); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
}

// rawCSR builds requests that the standard library would not write.
type rawCSR struct {
	version    int64
	subject    []byte // DER, empty: no names
	attributes [][]byte
	hash       crypto.Hash
}

func (r rawCSR) sign(t testing.TB) []byte {
	t.Helper()
	key := goodKeys()[ECDSAP256].(*ecdsa.PrivateKey)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if r.subject == nil {
		r.subject = []byte{0x30, 0}
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(r.version)
		b.AddBytes(r.subject)
		b.AddBytes(spki)
		b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			for _, attribute := range r.attributes {
				b.AddBytes(attribute)
			}
		})
	})
	info := b.BytesOrPanic()
	sum := sha256.Sum256(info)
	digest, algorithm := sum[:], asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	if r.hash == crypto.SHA1 {
		sum := sha1.Sum(info)
		digest, algorithm = sum[:], asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}
	}
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest)
	if err != nil {
		t.Fatal(err)
	}
	var out cryptobyte.Builder
	out.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(info)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(algorithm) })
		b.AddASN1BitString(signature)
	})
	return out.BytesOrPanic()
}

func marshal(t testing.TB, value any) []byte {
	t.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// extensionRequest is an attribute with one value per list.
func extensionRequest(t testing.TB, lists ...[]pkix.Extension) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidExtensionRequest)
		b.AddASN1(cbasn1.SET, func(b *cryptobyte.Builder) {
			for _, list := range lists {
				b.AddBytes(marshal(t, list))
			}
		})
	})
	return b.BytesOrPanic()
}

func sanExtension(t testing.TB, names ...asn1.RawValue) pkix.Extension {
	return pkix.Extension{Id: oidSubjectAltName, Value: marshal(t, names)}
}

func generalName(tag int, value string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(value)}
}

func TestParseCSRSeesOtherNames(t *testing.T) {
	san := sanExtension(t, generalName(tagDNS, "a.test"), generalName(8, "\x2a\x03"), generalName(tagIP, "\x0a\x00\x00\x01"), generalName(0, ""))
	csr, err := ParseCSR(rawCSR{attributes: [][]byte{extensionRequest(t, []pkix.Extension{san})}}.sign(t))
	if err != nil {
		t.Fatal(err)
	}
	if csr.OtherNames != 2 || len(csr.DNSNames) != 1 || len(csr.IPs) != 1 {
		t.Errorf("%d other names, %q, %v", csr.OtherNames, csr.DNSNames, csr.IPs)
	}
}

// TestParseCSRIgnoresOtherExtensions: what else a CSR asks for neither hurts nor helps, critical or not.
func TestParseCSRIgnoresOtherExtensions(t *testing.T) {
	san := sanExtension(t, generalName(tagDNS, "a.test"))
	san.Critical = true
	isCA := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 3, 1, 1, 0xff}}
	password := []byte{0x30, 0x10, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 7, 0x31, 3, 0x0c, 1, 'x'}
	csr, err := ParseCSR(rawCSR{attributes: [][]byte{password, extensionRequest(t, []pkix.Extension{isCA, san})}}.sign(t))
	if err != nil || !slices.Equal(csr.DNSNames, []string{"a.test"}) || csr.OtherNames != 0 {
		t.Errorf("%+v, %v", csr, err)
	}
}

func TestParseCSRWithoutNames(t *testing.T) {
	csr, err := ParseCSR(rawCSR{}.sign(t))
	if err != nil || csr.CommonName != "" || len(csr.DNSNames)+len(csr.IPs) != 0 {
		t.Errorf("%+v, %v", csr, err)
	}
}

func TestParseCSRRefuses(t *testing.T) {
	good := newCSR(t, goodKeys()[ECDSAP256], x509.CertificateRequest{DNSNames: []string{"a.test"}})
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	otherName := bytes.Replace(good, []byte("a.test"), []byte("b.test"), 1)
	san := sanExtension(t, generalName(tagDNS, "a.test"))
	otherSAN := sanExtension(t, generalName(tagDNS, "b.test"))
	names := func(values ...any) []byte {
		var rdns []pkix.RelativeDistinguishedNameSET
		for _, value := range values {
			rdns = append(rdns, pkix.RelativeDistinguishedNameSET{{Type: oidCommonName, Value: value}})
		}
		return marshal(t, rdns)
	}
	var many []pkix.Extension
	for i := range 65 {
		many = append(many, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, i}, Value: asn1.NullBytes})
	}
	withAttributes := func(attributes ...[]byte) []byte { return rawCSR{attributes: attributes}.sign(t) }

	for _, test := range []struct {
		name string
		der  []byte
		want string
	}{
		{"nothing", nil, "cannot be parsed"},
		{"a certificate's worth of nonsense", []byte("-----BEGIN CERTIFICATE REQUEST-----"), "cannot be parsed"},
		{"cut off", good[:len(good)-1], "cannot be parsed"},
		{"trailing data", append(bytes.Clone(good), 0), "trailing data"},
		{"too large", make([]byte, MaxCSRBytes+1), "more than 65536 bytes"},
		{"a damaged signature", flipped, "signature does not verify"},
		{"a changed name", otherName, "signature does not verify"},
		{"version 2", rawCSR{version: 1}.sign(t), "version"},
		{"SHA-1", rawCSR{hash: crypto.SHA1}.sign(t), "ECDSA-SHA1"},
		{"two common names", rawCSR{subject: names("a.test", "b.test")}.sign(t), "common name"},
		{"a common name that is no text", rawCSR{subject: names(7)}.sign(t), "common name"},
		{"two extension requests", withAttributes(extensionRequest(t, []pkix.Extension{san}), extensionRequest(t, nil)), "more than one extension request"},
		{"two values in one request", withAttributes(extensionRequest(t, []pkix.Extension{san}, []pkix.Extension{otherSAN})), "exactly one value"},
		{"no value", withAttributes(extensionRequest(t)), "exactly one value"},
		{"two alternative names extensions", withAttributes(extensionRequest(t, []pkix.Extension{san, otherSAN})), "duplicate"},
		{"too many extensions", withAttributes(extensionRequest(t, many)), "too many"},
		{"a broken attribute", withAttributes([]byte{0x30, 1, 0}), "attributes are malformed"},
		{"a broken SAN", withAttributes(extensionRequest(t, []pkix.Extension{{Id: oidSubjectAltName, Value: []byte{0x30, 9}}})), "cannot be parsed"},
		{"a zero byte in a name", withAttributes(extensionRequest(t, []pkix.Extension{sanExtension(t, generalName(tagDNS, "a.test\x00.b"))})), "zero byte"},
		{"an address of 5 bytes", withAttributes(extensionRequest(t, []pkix.Extension{sanExtension(t, generalName(tagIP, "12345"))})), "cannot be parsed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			csr, err := ParseCSR(test.der)
			if err == nil || csr != nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

// TestParseCSRRefusesKeys also makes sure that the key is judged before the signature, which is a wrong one here.
func TestParseCSRRefusesKeys(t *testing.T) {
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := topPrime(1024)
	good := newCSR(t, goodKeys()[RSA2048], x509.CertificateRequest{DNSNames: []string{"a.test"}})
	modulus := goodKeys()[RSA2048].Public().(*rsa.PublicKey).N.Bytes()
	weak := new(big.Int).Mul(p, nextPrime(p)).Bytes()
	for name, der := range map[string][]byte{
		"P-224":        newCSR(t, p224, x509.CertificateRequest{DNSNames: []string{"a.test"}}),
		"close primes": bytes.Replace(good, modulus, weak, 1),
	} {
		var keyError *KeyError
		if _, err := ParseCSR(der); !errors.As(err, &keyError) {
			t.Errorf("%s: %v is not a KeyError", name, err)
		}
	}
}

func FuzzParseCSR(f *testing.F) {
	for _, keyType := range []KeyType{RSA2048, ECDSAP256, ECDSAP521, Ed25519} {
		f.Add(newCSR(f, goodKeys()[keyType], x509.CertificateRequest{
			Subject:     pkix.Name{CommonName: "a.test"},
			DNSNames:    []string{"a.test", "*.b.test"},
			IPAddresses: []net.IP{net.IPv4(10, 0, 0, 1)},
		}))
	}
	f.Add(rawCSR{attributes: [][]byte{extensionRequest(f, []pkix.Extension{sanExtension(f, generalName(0, "x"))})}}.sign(f))
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := ParseCSR(der)
		if err != nil {
			if csr != nil {
				t.Error("a request beside an error")
			}
			if strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("the error is not one clean line: %q", err)
			}
			return
		}
		if keyType, err := KeyTypeOf(csr.PublicKey); err != nil || keyType != csr.KeyType {
			t.Errorf("key type %s, %v", keyType, err)
		}
		if err := CheckKey(csr.PublicKey); err != nil {
			t.Error(err)
		}
		for _, addr := range csr.IPs {
			if !addr.IsValid() {
				t.Error("an invalid address")
			}
		}
	})
}

func BenchmarkParseCSR(b *testing.B) {
	for _, keyType := range []KeyType{ECDSAP256, RSA2048, RSA4096, Ed25519} {
		der := newCSR(b, goodKeys()[keyType], x509.CertificateRequest{DNSNames: []string{"a.test", "b.test"}})
		b.Run(string(keyType), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseCSR(der); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
