package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// OCSPErrorStatus is the status of a response that says nothing of a certificate (RFC 6960, Section 4.2.1).
type OCSPErrorStatus byte

// The error statuses in use.
const (
	OCSPMalformedRequest OCSPErrorStatus = 1
	OCSPInternalError    OCSPErrorStatus = 2
	OCSPTryLater         OCSPErrorStatus = 3
	// OCSPUnauthorized also says that the responder has no record of the certificate (RFC 5019, Section 2.2.3).
	OCSPUnauthorized OCSPErrorStatus = 6
)

// Response returns the OCSPResponse of the status. It is not signed.
func (s OCSPErrorStatus) Response() []byte { return []byte{0x30, 3, 0x0a, 1, byte(s)} }

var (
	oidOCSPBasic = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 1}
	oidOCSPNonce = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}
	oidSHA1      = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	oidSHA256    = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
)

const (
	// MaxOCSPRequest bounds a request. A plain one has less than 100 bytes; one that is signed carries certificates.
	MaxOCSPRequest = 8 << 10
	// maxOCSPNonce is the longest nonce of RFC 9654, Section 2.1.
	maxOCSPNonce = 128
	// OCSPForms is the number of values of OCSPCertID.Form.
	OCSPForms = 4
)

// OCSPRequest asks for the status of one certificate (RFC 6960, Section 4.1).
type OCSPRequest struct {
	CertID OCSPCertID
	Nonce  []byte // 1 to 128 octets, or nil when there is none (RFC 9654)
}

// OCSPCertID names a certificate by hashes of its issuer.
type OCSPCertID struct {
	Hash     crypto.Hash // SHA1 or SHA256; 0: another
	Serial   string      // as NewSerial makes it; "": a number that it never makes
	nameHash []byte
	keyHash  []byte
	null     bool   // the algorithm has NULL parameters
	raw      []byte // as it was sent; the response repeats it to the byte
}

// Form tells the ways apart in which the same certificate can be asked for, each of which gets a response of its own:
// two hashes, and NULL or no parameters for them. It lies between 0 and OCSPForms-1.
func (id *OCSPCertID) Form() int {
	form := 0
	if id.Hash == crypto.SHA256 {
		form = 2
	}
	if id.null {
		form++
	}
	return form
}

var errOCSPRequest = errors.New("not an OCSP request")

// ParseOCSPRequest reads a request in DER. It must ask for one certificate, since RFC 6960, Section 4.2.2.3 has a
// response answer all of them and RFC 5019, Section 2.1.1 allows one. A signature and a requestor's name are read
// over, as RFC 5019, Section 2.1.2 permits. Every error stands for malformedRequest.
func ParseOCSPRequest(der []byte) (*OCSPRequest, error) {
	if len(der) > MaxOCSPRequest {
		return nil, fmt.Errorf("%w: more than %d bytes", errOCSPRequest, MaxOCSPRequest)
	}
	input := cryptobyte.String(der)
	var request, tbs, list, one, certID cryptobyte.String
	if !input.ReadASN1(&request, cbasn1.SEQUENCE) || !input.Empty() ||
		!request.ReadASN1(&tbs, cbasn1.SEQUENCE) || !skipSignature(&request) || !request.Empty() ||
		!skipVersion(&tbs) || !skipRequestor(&tbs) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) {
		return nil, errOCSPRequest
	}
	r := new(OCSPRequest)
	var err error
	if r.Nonce, err = readExtensions(&tbs, 2); err != nil {
		return nil, err
	}
	if !tbs.Empty() || !list.ReadASN1(&one, cbasn1.SEQUENCE) || !one.ReadASN1Element(&certID, cbasn1.SEQUENCE) {
		return nil, errOCSPRequest
	}
	if !list.Empty() {
		return nil, fmt.Errorf("%w for a single certificate", errOCSPRequest)
	}
	if _, err := readExtensions(&one, 0); err != nil {
		return nil, err
	}
	if !one.Empty() || !r.CertID.read(certID) {
		return nil, errOCSPRequest
	}
	return r, nil
}

func contextTag(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific().Constructed() }

func skipSignature(request *cryptobyte.String) bool {
	var explicit, signature cryptobyte.String
	var present bool
	if !request.ReadOptionalASN1(&explicit, &present, contextTag(0)) || !present {
		return !present
	}
	return explicit.ReadASN1(&signature, cbasn1.SEQUENCE) && explicit.Empty() && !signature.Empty()
}

// skipVersion reads version, which is 0 whether it is there or not.
func skipVersion(tbs *cryptobyte.String) bool {
	var version int
	return tbs.ReadOptionalASN1Integer(&version, contextTag(0), 0) && version == 0
}

func skipRequestor(tbs *cryptobyte.String) bool {
	var explicit, name cryptobyte.String
	var tag cbasn1.Tag
	var present bool
	if !tbs.ReadOptionalASN1(&explicit, &present, contextTag(1)) || !present {
		return !present
	}
	return explicit.ReadAnyASN1(&name, &tag) && explicit.Empty()
}

// readExtensions reads optional Extensions under an explicit tag and returns the nonce among them. An extension that
// is not known is ignored unless it is critical (RFC 6960, Section 4.1.2).
func readExtensions(from *cryptobyte.String, tag uint8) (nonce []byte, err error) {
	var explicit, list cryptobyte.String
	var present bool
	if !from.ReadOptionalASN1(&explicit, &present, contextTag(tag)) {
		return nil, errOCSPRequest
	}
	if !present {
		return nil, nil
	}
	if !explicit.ReadASN1(&list, cbasn1.SEQUENCE) || !explicit.Empty() || list.Empty() {
		return nil, errOCSPRequest
	}
	for !list.Empty() {
		var extension, value cryptobyte.String
		var oid asn1.ObjectIdentifier
		var critical bool
		if !list.ReadASN1(&extension, cbasn1.SEQUENCE) || !extension.ReadASN1ObjectIdentifier(&oid) ||
			extension.PeekASN1Tag(cbasn1.BOOLEAN) && !extension.ReadASN1Boolean(&critical) ||
			!extension.ReadASN1(&value, cbasn1.OCTET_STRING) || !extension.Empty() {
			return nil, errOCSPRequest
		}
		switch {
		case oid.Equal(oidOCSPNonce) && tag == 2:
			var octets cryptobyte.String
			if nonce != nil || !value.ReadASN1(&octets, cbasn1.OCTET_STRING) || !value.Empty() {
				return nil, fmt.Errorf("%w: the nonce is not one octet string", errOCSPRequest)
			}
			// RFC 9654, Section 2.1.
			if len(octets) < 1 || len(octets) > maxOCSPNonce {
				return nil, fmt.Errorf("%w: the nonce has %d octets, not 1 to %d", errOCSPRequest, len(octets), maxOCSPNonce)
			}
			nonce = bytes.Clone(octets)
		case critical:
			return nil, fmt.Errorf("%w: the critical extension %s is not known", errOCSPRequest, oid)
		}
	}
	return nonce, nil
}

// read reads a CertID. What is well formed but cannot be ours leaves Hash or Serial empty.
func (id *OCSPCertID) read(element cryptobyte.String) bool {
	id.raw = bytes.Clone(element)
	var fields, algorithm, null, nameHash, keyHash cryptobyte.String
	var oid asn1.ObjectIdentifier
	serial := new(big.Int)
	if !element.ReadASN1(&fields, cbasn1.SEQUENCE) || !fields.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!algorithm.ReadASN1ObjectIdentifier(&oid) || !algorithm.ReadOptionalASN1(&null, &id.null, cbasn1.NULL) || !null.Empty() ||
		!fields.ReadASN1(&nameHash, cbasn1.OCTET_STRING) || !fields.ReadASN1(&keyHash, cbasn1.OCTET_STRING) ||
		!fields.ReadASN1Integer(serial) || !fields.Empty() {
		return false
	}
	if algorithm.Empty() { // other parameters make another algorithm
		switch {
		case oid.Equal(oidSHA1):
			id.Hash = crypto.SHA1
		case oid.Equal(oidSHA256):
			id.Hash = crypto.SHA256
		}
	}
	id.nameHash, id.keyHash = bytes.Clone(nameHash), bytes.Clone(keyHash)
	id.Serial, _ = FormatSerial(serial) // "" for what cannot be ours
	return true
}

// OCSPIssuer recognizes the certificates of one CA in OCSP requests.
type OCSPIssuer struct {
	nameSHA1, keySHA1     [sha1.Size]byte
	nameSHA256, keySHA256 [sha256.Size]byte
}

// NewOCSPIssuer returns the OCSPIssuer of a CA certificate.
func NewOCSPIssuer(ca *x509.Certificate) (*OCSPIssuer, error) {
	key, err := publicKeyBits(ca)
	if err != nil {
		return nil, err
	}
	return &OCSPIssuer{
		nameSHA1: sha1.Sum(ca.RawSubject), keySHA1: sha1.Sum(key),
		nameSHA256: sha256.Sum256(ca.RawSubject), keySHA256: sha256.Sum256(key),
	}, nil
}

// Issued reports whether the CertID names a certificate of this CA, by both hashes (RFC 6960, Section 4.1.2).
func (i *OCSPIssuer) Issued(id *OCSPCertID) bool {
	switch id.Hash {
	case crypto.SHA1:
		return bytes.Equal(id.nameHash, i.nameSHA1[:]) && bytes.Equal(id.keyHash, i.keySHA1[:])
	case crypto.SHA256:
		return bytes.Equal(id.nameHash, i.nameSHA256[:]) && bytes.Equal(id.keyHash, i.keySHA256[:])
	}
	return false
}

// publicKeyBits returns the value of subjectPublicKey without tag, length and number of unused bits.
func publicKeyBits(cert *x509.Certificate) ([]byte, error) {
	input := cryptobyte.String(cert.RawSubjectPublicKeyInfo)
	var info, algorithm cryptobyte.String
	var bits asn1.BitString
	if !input.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !info.ReadASN1BitString(&bits) {
		return nil, errors.New("the certificate's public key cannot be read")
	}
	return bits.RightAlign(), nil
}

// OCSPResponse says what is known of the revocation of one certificate (RFC 6960, Section 4.2).
type OCSPResponse struct {
	CertID                 *OCSPCertID // of the request
	RevokedAt              time.Time   // zero: not revoked
	Reason                 int         // when revoked
	ThisUpdate, NextUpdate time.Time
	Nonce                  []byte // of the request; nil: none
}

// Sign makes the response, produced at ThisUpdate, in the name of a responder whose certificate it carries. Responders
// have P-256 keys; they sign with randomness, which unlike the CA's certificates need not repeat.
func (r *OCSPResponse) Sign(rand io.Reader, responder *x509.Certificate, key crypto.Signer) ([]byte, error) {
	public, ok := responder.PublicKey.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() || !public.Equal(key.Public()) {
		return nil, errors.New("the responder's key is not the P-256 key of its certificate")
	}
	if !r.NextUpdate.Truncate(time.Second).After(r.ThisUpdate.Truncate(time.Second)) {
		return nil, errors.New("the OCSP response's next update does not come after this one")
	}
	if !r.RevokedAt.IsZero() && !onCRL(r.Reason) {
		return nil, fmt.Errorf("the certificate %s has the unknown revocation reason %d", r.CertID.Serial, r.Reason)
	}
	bits, err := publicKeyBits(responder)
	if err != nil {
		return nil, err
	}
	var data cryptobyte.Builder
	r.addData(&data, sha1.Sum(bits))
	tbs, err := data.Bytes()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(tbs)
	signature, err := key.Sign(rand, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0) // successful
		b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1ObjectIdentifier(oidOCSPBasic)
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { addBasicResponse(b, tbs, signature, responder.Raw) })
			})
		})
	})
	return b.Bytes()
}

// addBasicResponse encodes BasicOCSPResponse.
func addBasicResponse(b *cryptobyte.Builder, tbs, signature, certificate []byte) {
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidECDSASHA256) })
		b.AddASN1BitString(signature)
		b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(certificate) })
		})
	})
}

// addData encodes ResponseData. The responder is named by its key, which is shorter (RFC 5019, Section 2.2.2), and
// times have whole seconds (RFC 5019, Section 2.2.4).
func (r *OCSPResponse) addData(b *cryptobyte.Builder, keyHash [sha1.Size]byte) {
	addTime := func(b *cryptobyte.Builder, t time.Time) { b.AddASN1GeneralizedTime(t.UTC().Truncate(time.Second)) }
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(contextTag(2), func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyHash[:]) })
		addTime(b, r.ThisUpdate)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(r.CertID.raw)
				r.addStatus(b, addTime)
				addTime(b, r.ThisUpdate)
				b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) { addTime(b, r.NextUpdate) })
			})
		})
		if r.Nonce == nil {
			return
		}
		b.AddASN1(contextTag(1), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(oidOCSPNonce)
					b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(r.Nonce) })
				})
			})
		})
	})
}

// addStatus encodes CertStatus. As on CRLs the reason "unspecified" is told by leaving it out.
func (r *OCSPResponse) addStatus(b *cryptobyte.Builder, addTime func(*cryptobyte.Builder, time.Time)) {
	if r.RevokedAt.IsZero() {
		b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(*cryptobyte.Builder) {})
		return
	}
	b.AddASN1(contextTag(1), func(b *cryptobyte.Builder) {
		addTime(b, r.RevokedAt)
		if r.Reason != ReasonUnspecified {
			b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(r.Reason)) })
		}
	})
}
