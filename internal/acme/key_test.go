package acme

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"
)

func TestThumbprintVectors(t *testing.T) {
	for _, test := range []struct{ name, jwk, want string }{
		{"RFC 7638, Section 3.1", rfc7638Key, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"},
		{"RFC 8037, Appendix A.3", rfc8037Key, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"},
	} {
		key, err := ParseKey([]byte(test.jwk))
		if err != nil {
			t.Fatal(err)
		}
		if key.Thumbprint() != test.want {
			t.Errorf("%s: %s, want %s", test.name, key.Thumbprint(), test.want)
		}
		// RFC 8555, Section 8.1.
		if got := KeyAuthorization("DGyRejmCefe7v4NfDGDKfA", key); got != "DGyRejmCefe7v4NfDGDKfA."+test.want {
			t.Errorf("%s: key authorization is %s", test.name, got)
		}
	}
}

// TestKeyRoundTrip compares thumbprints with go-jose's, and what is stored with
// what was there.
func TestKeyRoundTrip(t *testing.T) {
	for alg, s := range signers() {
		t.Run(alg, func(t *testing.T) {
			want, err := (&jose.JSONWebKey{Key: s.private.Public()}).Thumbprint(crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Thumbprint(); got != base64.RawURLEncoding.EncodeToString(want) {
				t.Errorf("thumbprint is %s", got)
			}
			stored, err := json.Marshal(s.Key)
			if err != nil {
				t.Fatal(err)
			}
			var back Key
			if err := json.Unmarshal(stored, &back); err != nil {
				t.Fatal(err)
			}
			if !back.Equal(s.Key) || back.Thumbprint() != s.Thumbprint() || back.alg != alg {
				t.Errorf("%s becomes %+v", stored, back)
			}
			if !back.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(s.private.Public()) {
				t.Error("the public key is another one")
			}
			// Optional members and their order make no other key.
			var jwk map[string]any
			if err := json.Unmarshal(stored, &jwk); err != nil {
				t.Fatal(err)
			}
			jwk["alg"], jwk["use"], jwk["kid"], jwk["a"], jwk["z"] = alg, "sig", "x", []int{1}, nil
			more, err := json.MarshalIndent(jwk, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			if other, err := ParseKey(more); err != nil || !other.Equal(s.Key) || other.Thumbprint() != s.Thumbprint() {
				t.Errorf("%s: %v", more, err)
			}
			if s.Equal(another().Key) || s.Equal(nil) || (*Key)(nil).Equal(s.Key) {
				t.Error("equals another key")
			}
		})
	}
	if _, err := json.Marshal(&Key{}); err == nil {
		t.Error("a zero key is written")
	}
}

// TestPrependedZeros: they "MUST be stripped before doing the computation"
// (RFC 8555, Section 8.1).
func TestPrependedZeros(t *testing.T) {
	s := signers()["RS256"]
	n := s.Public().(*rsa.PublicKey).N.Bytes()
	jwk := fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AAEAAQ"}`, b64("\x00\x00"+string(n)))
	key, err := ParseKey([]byte(jwk))
	if err != nil {
		t.Fatal(err)
	}
	if !key.Equal(s.Key) || key.Thumbprint() != s.Thumbprint() {
		t.Error("leading zeros make another key")
	}
	// They do not count for the size either.
	large := strings.Replace(rsaJWK(4096, "AAAAAAEAAQ"), `"n":"`, `"n":"AAAA`, 1)
	if _, err := ParseKey([]byte(large)); err != nil {
		t.Error(err)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	p256 := signers()["ES256"].jwk()
	x, y := strings.Split(p256, `"`)[11], strings.Split(p256, `"`)[15]
	ec := func(crv, x, y string) string { return fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q}`, crv, x, y) }
	rawX, _ := base64.RawURLEncoding.DecodeString(x)
	zero32 := b64(string(make([]byte, 32)))
	p := elliptic.P256().Params().P
	even := new(big.Int).Lsh(big.NewInt(1), 2047)
	for _, test := range []struct{ name, jwk, detail string }{
		{"empty", ``, "not a JSON object"},
		{"null", `null`, "not a JSON object"},
		{"trailing data", p256 + "{}", "after its JSON object"},
		{"duplicates", `{"kty":"EC",` + p256[1:], "twice"},
		{"no kty", `{}`, "no key type"},
		{"kty null", `{"kty":null}`, "not a string"},
		{"kty in another case", strings.Replace(p256, `"EC"`, `"ec"`, 1), "ec"},
		{"symmetric", rfc7515MACKey, "symmetric"},
		{"oct without k", `{"kty":"oct"}`, "oct"},
		{"private P-256", rfc7515P256Key, "private"},
		{"private P-521", rfc7515P521Key, "private"},
		{"private RSA", rfc7515RSAKey, "private"},
		{"private member null", `{"d":null,` + p256[1:], "private"},
		{"private ML-DSA", `{"kty":"AKP","alg":"ML-DSA-44","priv":"AA"}`, "private"},

		{"no crv", ec("", x, y), "curve"},
		{"P-224", ec("P-224", x, y), "P-224"},
		{"secp256k1", ec("secp256k1", x, y), "secp256k1"},
		{"curve very long", ec(strings.Repeat("P", 5000), x, y), "PPP..."},
		{"P-384 with short coordinates", ec("P-384", x, y), "48"},
		{"no y", `{"kty":"EC","crv":"P-256","x":"` + x + `"}`, "0 bytes"},
		{"coordinates swapped", ec("P-256", y, x), "not a point"},
		{"origin", ec("P-256", zero32, zero32), "not a point"},
		{"x beyond the field", ec("P-256", b64(string(p.Bytes())), y), "not a point"},
		{"x with a zero in front", ec("P-256", b64("\x00"+string(rawX)), y), "33 bytes"},
		{"x short", ec("P-256", b64(string(rawX[1:])), y), "31 bytes"},
		{"x padded", ec("P-256", x+"=", y), "padding"},
		{"x a number", `{"kty":"EC","crv":"P-256","x":1,"y":2}`, "not a string"},

		{"RSA without n", `{"kty":"RSA","e":"AQAB"}`, "modulus"},
		{"RSA n of zeros", `{"kty":"RSA","n":"AAAA","e":"AQAB"}`, "modulus"},
		{"RSA 512", rsaJWK(512, "AQAB"), "512 bits"},
		{"RSA 1024", rsaJWK(1024, "AQAB"), "1024 bits"},
		{"RSA 2047", rsaJWK(2047, "AQAB"), "2047 bits"},
		{"RSA 4097", rsaJWK(4097, "AQAB"), "larger"},
		{"RSA 1 MiB", rsaJWK(8<<20, "AQAB"), "larger"},
		{"RSA even", `{"kty":"RSA","n":"` + b64(string(even.Bytes())) + `","e":"AQAB"}`, "even"},
		{"RSA without e", `{"kty":"RSA","n":"` + b64(string(even.Bytes())) + `"}`, ""},
		{"RSA e 1", rsaJWK(2048, "AQ"), "exponent"},
		{"RSA e 3", rsaJWK(2048, "Aw"), "exponent"},
		{"RSA e even", rsaJWK(2048, "AQAC"), "exponent"},
		{"RSA e 2^31", rsaJWK(2048, "gAAAAQ"), "exponent"},
		{"RSA e of 5 bytes", rsaJWK(2048, "AQAAAAE"), "exponent"},
		{"RSA e padded", rsaJWK(2048, "AQAB="), "exponent"},

		{"Ed448", `{"kty":"OKP","crv":"Ed448","x":"AA"}`, "Ed448"},
		{"X25519", `{"kty":"OKP","crv":"X25519","x":"` + zero32 + `"}`, "X25519"},
		{"Ed25519 without x", `{"kty":"OKP","crv":"Ed25519"}`, "0 bytes"},
		{"Ed25519 with 33 bytes", `{"kty":"OKP","crv":"Ed25519","x":"` + b64(strings.Repeat("x", 33)) + `"}`, "33 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := ParseKey([]byte(test.jwk))
			wantProblem(t, err, ErrBadPublicKey, test.detail)
			if key != nil {
				t.Error("returns a key beside the error")
			}
			if err := new(Key).UnmarshalJSON([]byte(test.jwk)); err == nil {
				t.Error("UnmarshalJSON accepts it")
			}
		})
	}
	for bits, want := range map[int]bool{2048: true, 2049: true, 3072: true, 4096: true} {
		if _, err := ParseKey([]byte(rsaJWK(bits, "AQAB"))); (err == nil) != want {
			t.Errorf("RSA with %d bits: %v", bits, err)
		}
	}
}

func TestNewKeyRefuses(t *testing.T) {
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, pub := range map[string]crypto.PublicKey{
		"nil":                nil,
		"P-224":              &p224.PublicKey,
		"RSA by value":       *signers()["RS256"].Public().(*rsa.PublicKey),
		"RSA without N":      &rsa.PublicKey{E: 65537},
		"RSA with a minus":   &rsa.PublicKey{N: new(big.Int).Neg(signers()["RS256"].Public().(*rsa.PublicKey).N), E: 65537},
		"RSA with 4097 bits": &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 4096, 1), E: 65537},
		"short Ed25519":      ed25519.PublicKey("short"),
		"a private key":      signers()["ES256"].private,
		"not a point":        &ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}, //nolint:staticcheck // an invalid key cannot be made otherwise
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewKey(pub)
			wantProblem(t, err, ErrBadPublicKey, "")
		})
	}
}

// TestManyKeys: P-256 keys whose coordinates begin with zeros are the ones
// that implementations disagree about.
func TestManyKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "private key")
		private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
		if err != nil {
			return
		}
		s := newSigner(private)
		theirs, err := (&jose.JSONWebKey{Key: private.Public()}).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if key, err := ParseKey(theirs); err != nil || !key.Equal(s.Key) {
			t.Fatalf("%s: %v", theirs, err)
		}
		var back jose.JSONWebKey
		if err := back.UnmarshalJSON(s.canonical); err != nil || !private.PublicKey.Equal(back.Key) {
			t.Fatalf("go-jose reads %s as %v, %v", s.canonical, back.Key, err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, s := range signers() {
		f.Add(s.canonical)
	}
	for _, jwk := range []string{rfc7638Key, rfc7515P256Key, rfc7515MACKey, rsaJWK(1024, "AQAB"), rsaJWK(2048, "Aw"), `{"kty":"RSA","n":"","e":""}`} {
		f.Add([]byte(jwk))
	}
	f.Fuzz(func(t *testing.T, jwk []byte) {
		key, err := ParseKey(jwk)
		if err != nil {
			if p, ok := err.(*Problem); !ok || p.Type != ErrBadPublicKey {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseKey(key.canonical)
		if err != nil || !again.Equal(key) || again.thumbprint != key.thumbprint || again.alg != key.alg {
			t.Fatalf("%s becomes %s, %v", jwk, key.canonical, err)
		}
		var theirs jose.JSONWebKey
		if err := theirs.UnmarshalJSON(key.canonical); err != nil {
			t.Fatalf("go-jose does not read %s: %v", key.canonical, err)
		}
		key.verify(jwk, jwk)
	})
}

func BenchmarkParseKey(b *testing.B) {
	for _, alg := range []string{"ES256", "RS256"} {
		jwk := signers()[alg].canonical
		b.Run(alg, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseKey(jwk); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
