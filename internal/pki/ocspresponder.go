package pki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"time"
)

var oidOCSPNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// OCSPResponder describes the certificate by which a CA lets a key sign OCSP responses about what it issued (RFC 6960,
// Section 4.2.2.2). Relying parties trust it to its end without asking whether it is revoked (id-pkix-ocsp-nocheck),
// so it should be short; it carries no pointers (RFC 5019, Section 2.2.2) and no names but its subject.
type OCSPResponder struct {
	Serial              string
	NotBefore, NotAfter time.Time
	CommonName          string
	PublicKey           crypto.PublicKey // P-256
}

// Template returns the certificate to be signed.
func (r *OCSPResponder) Template() (*x509.Certificate, error) {
	serial, err := ParseSerial(r.Serial)
	if err != nil {
		return nil, err
	}
	if keyType, err := KeyTypeOf(r.PublicKey); err != nil || keyType != ECDSAP256 {
		return nil, errors.Join(errors.New("an OCSP responder has a P-256 key"), err)
	}
	if r.CommonName == "" || len(r.CommonName) > maxCommonName {
		return nil, errors.New("an OCSP responder needs a common name of at most 64 bytes")
	}
	if err := (&Leaf{NotBefore: r.NotBefore, NotAfter: r.NotAfter}).checkValidity(); err != nil {
		return nil, err
	}
	keyID, err := subjectKeyID(r.PublicKey)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             r.NotBefore.UTC(),
		NotAfter:              r.NotAfter.UTC(),
		Subject:               pkix.Name{CommonName: r.CommonName},
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		BasicConstraintsValid: true,
		SubjectKeyId:          keyID,
		// RFC 6960, Section 4.2.2.2.1: NULL, and not critical.
		ExtraExtensions: []pkix.Extension{{Id: oidOCSPNoCheck, Value: asn1.NullBytes}},
	}, nil
}
