// Package pki holds certctl's X.509: which keys and requests are acceptable, how a certificate, a CA and a CRL look.
// It is pure: it reads no clock, stores nothing and knows nothing of ACME.
//
// Certificates are built from a Leaf, never from a request: a CSR gives its key and the names it asks for, and
// whoever calls decides what goes into the Leaf.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
)

// KeyType names a kind of public key that certificates are issued for, as profiles list it.
type KeyType string

// The key types: RSA with the sizes that are in use, the NIST curves and Ed25519.
const (
	RSA2048   KeyType = "rsa2048"
	RSA3072   KeyType = "rsa3072"
	RSA4096   KeyType = "rsa4096"
	ECDSAP256 KeyType = "ecdsa-p256"
	ECDSAP384 KeyType = "ecdsa-p384"
	ECDSAP521 KeyType = "ecdsa-p521"
	Ed25519   KeyType = "ed25519"
)

// AllKeyTypes lists every KeyType, in the order in which they are shown.
var AllKeyTypes = []KeyType{RSA2048, RSA3072, RSA4096, ECDSAP256, ECDSAP384, ECDSAP521, Ed25519}

// A KeyError says why a public key is refused. Its text is one line and fit for the client.
type KeyError struct {
	Reason string
}

func (e *KeyError) Error() string { return e.Reason }

func keyErrorf(format string, args ...any) error {
	return &KeyError{Reason: fmt.Sprintf(format, args...)}
}

// KeyTypeOf returns the type of a public key, or a *KeyError for one that certificates are never issued for.
// It looks at the kind and size only; CheckKey judges the key itself.
func KeyTypeOf(pub crypto.PublicKey) (KeyType, error) {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		if pub == nil || pub.N == nil {
			return "", keyErrorf("the RSA key has no modulus")
		}
		switch bits := pub.N.BitLen(); bits {
		case 2048:
			return RSA2048, nil
		case 3072:
			return RSA3072, nil
		case 4096:
			return RSA4096, nil
		default:
			return "", keyErrorf("RSA keys of %d bits are not accepted, only 2048, 3072 and 4096", bits)
		}
	case *ecdsa.PublicKey:
		if pub == nil || pub.Curve == nil {
			return "", keyErrorf("the ECDSA key has no curve")
		}
		switch pub.Curve {
		case elliptic.P256():
			return ECDSAP256, nil
		case elliptic.P384():
			return ECDSAP384, nil
		case elliptic.P521():
			return ECDSAP521, nil
		default:
			return "", keyErrorf("ECDSA keys on this curve are not accepted, only P-256, P-384 and P-521")
		}
	case ed25519.PublicKey:
		if len(pub) != ed25519.PublicKeySize {
			return "", keyErrorf("the Ed25519 key has %d bytes instead of %d", len(pub), ed25519.PublicKeySize)
		}
		return Ed25519, nil
	default:
		return "", keyErrorf("keys of this kind are not accepted, only RSA, ECDSA and Ed25519")
	}
}

// SPKIHash returns the SHA-256 of the key's DER SubjectPublicKeyInfo, the name under which keys are blocked and
// found again.
func SPKIHash(pub crypto.PublicKey) ([32]byte, error) {
	if _, err := KeyTypeOf(pub); err != nil {
		return [32]byte{}, err
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return [32]byte{}, keyErrorf("the key cannot be encoded")
	}
	return sha256.Sum256(der), nil
}

// subjectKeyID is method 1 of RFC 7093, Section 2: the leftmost 160 bits of the SHA-256 of the subjectPublicKey.
// It takes the place of the SHA-1 of RFC 5280, Section 4.2.1.2.
func subjectKeyID(pub crypto.PublicKey) ([]byte, error) {
	var bits []byte
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		bits = x509.MarshalPKCS1PublicKey(pub)
	case *ecdsa.PublicKey:
		var err error
		if bits, err = pub.Bytes(); err != nil {
			return nil, keyErrorf("the ECDSA key's point is not on its curve")
		}
	case ed25519.PublicKey:
		bits = pub
	default:
		return nil, keyErrorf("keys of this kind are not accepted")
	}
	sum := sha256.Sum256(bits)
	return sum[:20], nil
}
