package acme

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// A signer is a private key for tests, with our view of its public half.
type signer struct {
	*Key
	private crypto.Signer
}

func newSigner(private crypto.Signer) signer {
	key, err := NewKey(private.Public())
	if err != nil {
		panic(err)
	}
	return signer{key, private}
}

// The keys of all tests, one for each algorithm, made once.
var signers = sync.OnceValue(func() map[string]signer {
	all := map[string]signer{"RS256": newSigner(rfc7515RSA())}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			panic(err)
		}
		s := newSigner(private)
		all[s.alg] = s
	}
	all["EdDSA"] = newSigner(ed25519.NewKeyFromSeed(make([]byte, 32)))
	return all
})

// another is an ES256 key that is not signers()["ES256"].
var another = sync.OnceValue(func() signer {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return newSigner(private)
})

// sign makes a JWS signature without go-jose.
func (s signer) sign(signed string) []byte {
	var digest []byte
	switch s.alg {
	case "ES256", "RS256":
		d := sha256.Sum256([]byte(signed))
		digest = d[:]
	case "ES384":
		d := sha512.Sum384([]byte(signed))
		digest = d[:]
	case "ES512":
		d := sha512.Sum512([]byte(signed))
		digest = d[:]
	}
	switch private := s.private.(type) {
	case *ecdsa.PrivateKey:
		r, t, err := ecdsa.Sign(rand.Reader, private, digest)
		if err != nil {
			panic(err)
		}
		size := (private.Curve.Params().BitSize + 7) / 8
		sig := make([]byte, 2*size)
		r.FillBytes(sig[:size])
		t.FillBytes(sig[size:])
		return sig
	case *rsa.PrivateKey:
		sig, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest)
		if err != nil {
			panic(err)
		}
		return sig
	case ed25519.PrivateKey:
		return ed25519.Sign(private, []byte(signed))
	}
	panic("no such key")
}

// jws makes a flattened JWS with exactly this protected header.
func (s signer) jws(header, payload string) string {
	protected, body := b64(header), b64(payload)
	return flattened(protected, body, b64(string(s.sign(protected+"."+body))))
}

// jwk is the public key as a JWK.
func (s signer) jwk() string { return string(s.canonical) }

func flattened(protected, payload, signature string) string {
	return `{"protected":"` + protected + `","payload":"` + payload + `","signature":"` + signature + `"}`
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// wantProblem checks that err is a *Problem of the type with the status that
// goes with it, and that its detail contains text.
func wantProblem(t *testing.T, err error, want ErrorType, text string) {
	t.Helper()
	var p *Problem
	if !errors.As(err, &p) {
		t.Fatalf("error is %T %v, want a problem of type %s", err, err, want)
	}
	if p == nil {
		t.Fatal("error is a nil *Problem")
	}
	if p.Type != want {
		t.Errorf("problem is %v, want type %s", p, want)
	}
	if p.Status != want.Status() {
		t.Errorf("status is %d, want %d", p.Status, want.Status())
	}
	if !strings.Contains(p.Detail, text) {
		t.Errorf("detail is %q, want it to contain %q", p.Detail, text)
	}
	if len(p.Detail) > 600 {
		t.Errorf("detail has %d bytes", len(p.Detail))
	}
	if p.Type == ErrBadSignatureAlgorithm && len(p.Algorithms) == 0 {
		t.Error("badSignatureAlgorithm without algorithms (RFC 8555, Section 6.2)")
	}
}

// rfc7515RSA is the key of RFC 7515, Appendix A.2.1.
func rfc7515RSA() *rsa.PrivateKey {
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON([]byte(rfc7515RSAKey)); err != nil {
		panic(err)
	}
	return k.Key.(*rsa.PrivateKey)
}

// publicJWK is the JWK without its private members.
func publicJWK(t *testing.T, jwk string) string {
	t.Helper()
	var members map[string]string
	if err := json.Unmarshal([]byte(jwk), &members); err != nil {
		t.Fatal(err)
	}
	for _, private := range []string{"d", "p", "q", "dp", "dq", "qi"} {
		delete(members, private)
	}
	out, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// rsaJWK is a JWK with an odd modulus of so many bits.
func rsaJWK(bits int, e string) string {
	n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	n.Add(n, big.NewInt(12345))
	return `{"kty":"RSA","n":"` + b64(string(n.Bytes())) + `","e":"` + e + `"}`
}
