package acme

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

const (
	minRSABits = 2048
	maxRSABits = 4096 // what a signature costs us to verify grows with it
)

// A Key is a public key that signs requests: an account's, or a certificate's
// that is being revoked. It is immutable.
type Key struct {
	pub        crypto.PublicKey
	alg        string // the one "alg" that goes with it
	canonical  []byte // the JWK as RFC 7638, Section 3.3 writes it
	thumbprint string
}

// ParseKey reads a public key in JWK form. The error is a *Problem of type
// badPublicKey, whose detail says why the key is not accepted: its form, its
// type or curve, its size, or that it is not a public key.
func ParseKey(jwk []byte) (*Key, error) {
	var k struct{ kty, crv, x, y, n, e []byte }
	err := readObject(jwk, func(name, value []byte) error {
		var field *[]byte
		switch string(name) {
		case "kty":
			field = &k.kty
		case "crv":
			field = &k.crv
		case "x":
			field = &k.x
		case "y":
			field = &k.y
		case "n":
			field = &k.n
		case "e":
			field = &k.e
		case "d", "p", "q", "dp", "dq", "qi", "oth", "priv":
			return errors.New("has a private key in it: consider that key as known to others")
		case "k":
			return errors.New("is a symmetric key")
		default:
			return nil
		}
		s, err := text(value)
		if err != nil {
			return fmt.Errorf("has a member %q that %w", name, err)
		}
		*field = s
		return nil
	})
	if err != nil {
		return nil, BadPublicKey("the JWK %v", err)
	}
	var pub crypto.PublicKey
	switch string(k.kty) {
	case "EC":
		pub, err = ecdsaKey(string(k.crv), k.x, k.y)
	case "RSA":
		pub, err = rsaKey(k.n, k.e)
	case "OKP":
		pub, err = edKey(string(k.crv), k.x)
	case "":
		err = errors.New("the JWK has no key type (kty)")
	default:
		err = fmt.Errorf("keys of type %q are not accepted, only EC, RSA and OKP", excerpt(k.kty))
	}
	if err != nil {
		return nil, BadPublicKey("%v", err)
	}
	return NewKey(pub)
}

// ecdsaKey makes a key of JWK members (RFC 7518, Section 6.2.1). Coordinates
// have the full size of the curve's field there.
func ecdsaKey(crv string, x, y []byte) (*ecdsa.PublicKey, error) {
	var curve elliptic.Curve
	switch crv {
	case "P-256":
		curve = elliptic.P256()
	case "P-384":
		curve = elliptic.P384()
	case "P-521":
		curve = elliptic.P521()
	default:
		return nil, fmt.Errorf("the curve %q is not accepted, only P-256, P-384 and P-521", excerpt(crv))
	}
	size := (curve.Params().BitSize + 7) / 8
	point := append(make([]byte, 0, 1+2*size), 4) // uncompressed: SEC 1, Section 2.3.4
	for _, coordinate := range [][]byte{x, y} {
		c, err := decodeBase64URL(coordinate)
		if err != nil {
			return nil, fmt.Errorf("a coordinate of the key %w", err)
		}
		if len(c) != size {
			return nil, fmt.Errorf("a coordinate of the key has %d bytes; on the curve %s it has %d", len(c), crv, size)
		}
		point = append(point, c...)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fmt.Errorf("the key is not a point on the curve %s", crv)
	}
	return pub, nil
}

// rsaKey makes a key of JWK members (RFC 7518, Section 6.3.1). "Any prepended
// zero octets in the fields of a JWK object MUST be stripped" (RFC 8555,
// Section 8.1), so a modulus with a zero in front is no other key.
func rsaKey(n, e []byte) (*rsa.PublicKey, error) {
	modulus, err := decodeBase64URL(n)
	if err != nil {
		return nil, fmt.Errorf("the modulus of the key %w", err)
	}
	exponent, err := decodeBase64URL(e)
	if err != nil {
		return nil, fmt.Errorf("the exponent of the key %w", err)
	}
	modulus, exponent = bytes.TrimLeft(modulus, "\x00"), bytes.TrimLeft(exponent, "\x00")
	if len(modulus) > maxRSABits/8 || len(exponent) > 4 {
		return nil, fmt.Errorf("the RSA key is larger than %d bits, or its exponent larger than 32", maxRSABits)
	}
	return &rsa.PublicKey{
		N: new(big.Int).SetBytes(modulus),
		E: int(new(big.Int).SetBytes(exponent).Int64()),
	}, nil
}

// edKey makes a key of JWK members (RFC 8037, Section 2).
func edKey(crv string, x []byte) (ed25519.PublicKey, error) {
	if crv != "Ed25519" {
		return nil, fmt.Errorf("the curve %q is not accepted, only Ed25519", excerpt(crv))
	}
	pub, err := decodeBase64URL(x)
	if err != nil {
		return nil, fmt.Errorf("the key %w", err)
	}
	return ed25519.PublicKey(pub), nil
}

// NewKey makes a Key of a public key in one of the forms that package x509
// uses. It refuses what ParseKey refuses.
func NewKey(pub crypto.PublicKey) (*Key, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return newECDSA(pub)
	case *rsa.PublicKey:
		return newRSA(pub)
	case ed25519.PublicKey:
		if len(pub) != ed25519.PublicKeySize {
			return nil, BadPublicKey("the Ed25519 key has %d bytes instead of %d", len(pub), ed25519.PublicKeySize)
		}
		return newKey(slices.Clone(pub), "EdDSA", `{"crv":"Ed25519","kty":"OKP","x":"%s"}`, pub), nil
	}
	return nil, BadPublicKey("keys of type %T are not accepted", pub)
}

func newECDSA(pub *ecdsa.PublicKey) (*Key, error) {
	var alg string
	switch pub.Curve {
	case elliptic.P256():
		alg = "ES256"
	case elliptic.P384():
		alg = "ES384"
	case elliptic.P521():
		alg = "ES512"
	default:
		return nil, BadPublicKey("the key's curve is not accepted, only P-256, P-384 and P-521")
	}
	point, err := pub.Bytes()
	if err != nil {
		return nil, BadPublicKey("the key is not a point on its curve")
	}
	x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
	return newKey(pub, alg, `{"crv":"`+pub.Curve.Params().Name+`","kty":"EC","x":"%s","y":"%s"}`, x, y), nil
}

func newRSA(pub *rsa.PublicKey) (*Key, error) {
	if pub.N == nil || pub.N.Sign() <= 0 {
		return nil, BadPublicKey("the RSA key has no modulus")
	}
	if bits := pub.N.BitLen(); bits < minRSABits || bits > maxRSABits {
		return nil, BadPublicKey("the RSA key has %d bits; %d to %d are accepted", bits, minRSABits, maxRSABits)
	}
	if pub.N.Bit(0) == 0 {
		return nil, BadPublicKey("the modulus of the RSA key is even")
	}
	// The upper bound is what crypto/rsa verifies with.
	if pub.E < 65537 || pub.E > 1<<31-1 || pub.E%2 == 0 {
		return nil, BadPublicKey("the exponent %d of the RSA key is not accepted: use 65537", pub.E)
	}
	e := big.NewInt(int64(pub.E)).Bytes()
	return newKey(pub, "RS256", `{"e":"%s","kty":"RSA","n":"%s"}`, e, pub.N.Bytes()), nil
}

// newKey fills the octets into the form, which has exactly the members that
// RFC 7638, Section 3.2 lists, in lexicographic order and without white space.
func newKey(pub crypto.PublicKey, alg, form string, octets ...[]byte) *Key {
	fields := make([]any, len(octets))
	for i, o := range octets {
		fields[i] = base64.RawURLEncoding.EncodeToString(o)
	}
	canonical := fmt.Appendf(nil, form, fields...)
	sum := sha256.Sum256(canonical)
	return &Key{
		pub:        pub,
		alg:        alg,
		canonical:  canonical,
		thumbprint: base64.RawURLEncoding.EncodeToString(sum[:]),
	}
}

// Public is the key for use with other packages. It must not be changed.
func (k *Key) Public() crypto.PublicKey { return k.pub }

// Thumbprint is the SHA-256 JWK thumbprint in base64url (RFC 7638).
func (k *Key) Thumbprint() string { return k.thumbprint }

// Equal reports whether both are the same public key.
func (k *Key) Equal(other *Key) bool {
	return k != nil && other != nil && bytes.Equal(k.canonical, other.canonical)
}

// MarshalJSON is the canonical JWK: only required members, sorted, no space.
func (k *Key) MarshalJSON() ([]byte, error) {
	if k.canonical == nil {
		return nil, errors.New("acme: a zero Key has no JWK")
	}
	return slices.Clone(k.canonical), nil
}

// UnmarshalJSON is ParseKey.
func (k *Key) UnmarshalJSON(jwk []byte) error {
	parsed, err := ParseKey(jwk)
	if err != nil {
		return err
	}
	*k = *parsed
	return nil
}

// KeyAuthorization is what proves, when found at the validation target, that
// the holder of the key asked for this challenge (RFC 8555, Section 8.1).
func KeyAuthorization(token string, k *Key) string {
	return token + "." + k.thumbprint
}

// verify checks a JWS signature made with the key's one algorithm
// (RFC 7518, Sections 3.3 and 3.4; RFC 8037, Section 3.1).
func (k *Key) verify(signed, signature []byte) bool {
	switch pub := k.pub.(type) {
	case *ecdsa.PublicKey:
		return verifyECDSA(pub, k.alg, signed, signature)
	case *rsa.PublicKey:
		sum := sha256.Sum256(signed)
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, sum[:], signature) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(pub, signed, signature)
	}
	return false
}

func verifyECDSA(pub *ecdsa.PublicKey, alg string, signed, signature []byte) bool {
	// "r || s", both of the full size of the curve's order, which for our
	// curves is that of the field (RFC 7518, Section 3.4).
	size := (pub.Curve.Params().BitSize + 7) / 8
	if len(signature) != 2*size {
		return false
	}
	r := new(big.Int).SetBytes(signature[:size])
	s := new(big.Int).SetBytes(signature[size:])
	switch alg {
	case "ES256":
		sum := sha256.Sum256(signed)
		return ecdsa.Verify(pub, sum[:], r, s)
	case "ES384":
		sum := sha512.Sum384(signed)
		return ecdsa.Verify(pub, sum[:], r, s)
	case "ES512":
		sum := sha512.Sum512(signed)
		return ecdsa.Verify(pub, sum[:], r, s)
	}
	return false
}
