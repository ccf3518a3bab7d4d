package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// signatureAlgorithm is how a key signs: the same that crypto/x509 chooses for it.
type signatureAlgorithm struct {
	name x509.SignatureAlgorithm
	oid  asn1.ObjectIdentifier
	hash crypto.Hash // 0: the key hashes by itself
	null bool        // the parameters are NULL (RFC 4055, Section 5), not left out
}

var oidECDSASHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}

// signatureOf returns the algorithm that keys like this one sign CRLs with.
func signatureOf(pub crypto.PublicKey) (signatureAlgorithm, error) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return signatureAlgorithm{x509.ECDSAWithSHA256, oidECDSASHA256, crypto.SHA256, false}, nil
		case elliptic.P384():
			return signatureAlgorithm{x509.ECDSAWithSHA384, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}, crypto.SHA384, false}, nil
		case elliptic.P521():
			return signatureAlgorithm{x509.ECDSAWithSHA512, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}, crypto.SHA512, false}, nil
		}
	case *rsa.PublicKey:
		return signatureAlgorithm{x509.SHA256WithRSA, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, crypto.SHA256, true}, nil
	case ed25519.PublicKey:
		return signatureAlgorithm{x509.PureEd25519, asn1.ObjectIdentifier{1, 3, 101, 112}, 0, false}, nil
	}
	return signatureAlgorithm{}, errors.New("keys of this kind do not sign here")
}

// add encodes AlgorithmIdentifier.
func (a signatureAlgorithm) add(b *cryptobyte.Builder) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(a.oid)
		if a.null {
			b.AddASN1NULL()
		}
	})
}

// sign signs without a random source, which a deterministic key needs none of.
func (a signatureAlgorithm) sign(key crypto.Signer, message []byte) ([]byte, error) {
	if a.hash != 0 {
		h := a.hash.New()
		h.Write(message)
		message = h.Sum(nil)
	}
	return key.Sign(nil, message, a.hash)
}
