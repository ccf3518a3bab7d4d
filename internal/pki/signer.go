package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
)

// Deterministic returns a signer that makes the same signature whenever it is given the same key and message:
// whoever takes over a claimed order after a crash then produces the very certificate that may already have been
// handed out. ECDSA keys sign as RFC 6979 says; Ed25519 and RSA (PKCS #1 v1.5) do so by nature. Signers of other
// types, such as hardware, come back unchanged: SignsDeterministically tells.
func Deterministic(key crypto.Signer) crypto.Signer {
	if key, ok := key.(*ecdsa.PrivateKey); ok {
		return deterministicECDSA{key}
	}
	return key
}

// SignsDeterministically reports whether the key, as Deterministic returned it, repeats its signatures.
func SignsDeterministically(key crypto.Signer) bool {
	switch key.(type) {
	case deterministicECDSA, ed25519.PrivateKey, *rsa.PrivateKey:
		return true
	}
	return false
}

type deterministicECDSA struct {
	key *ecdsa.PrivateKey
}

func (d deterministicECDSA) Public() crypto.PublicKey { return d.key.Public() }

// Sign leaves the random source out, which selects RFC 6979.
func (d deterministicECDSA) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return d.key.Sign(nil, digest, opts)
}

// MarshalKey encodes a private key as PKCS #8 DER.
func MarshalKey(key crypto.Signer) ([]byte, error) {
	return x509.MarshalPKCS8PrivateKey(key)
}

// ParseKey reads a private key in PKCS #8 DER. Errors never show key material.
func ParseKey(der []byte) (crypto.Signer, error) {
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, errors.New("not a private key in PKCS #8")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the private key cannot sign")
	}
	return signer, nil
}

const pemCertificate = "CERTIFICATE"

var pemBegin = []byte("-----BEGIN ")

// EncodePEM writes the certificates one after the other, in the order given.
func EncodePEM(certs ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, cert := range certs {
		pem.Encode(&out, &pem.Block{Type: pemCertificate, Bytes: cert.Raw}) // a bytes.Buffer does not fail
	}
	return out.Bytes()
}

// ParseChainPEM reads one or more PEM certificates and nothing else: text or keys between them are mistakes that an
// operator should hear of.
func ParseChainPEM(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := bytes.TrimSpace(text); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		if !bytes.HasPrefix(rest, pemBegin) {
			return nil, errors.New("found something other than PEM blocks")
		}
		block, remaining := pem.Decode(rest)
		// The decoder goes on to the next block when one is damaged.
		if block == nil || bytes.Count(rest[:len(rest)-len(remaining)], pemBegin) != 1 {
			return nil, errors.New("found a damaged PEM block")
		}
		if block.Type != pemCertificate {
			return nil, fmt.Errorf("found a PEM block %q instead of %q", block.Type, pemCertificate)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(chain)+1, err)
		}
		chain, rest = append(chain, cert), remaining
	}
	if len(chain) == 0 {
		return nil, errors.New("found no certificate")
	}
	return chain, nil
}
