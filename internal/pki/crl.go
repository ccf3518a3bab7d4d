package pki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The reason codes of RFC 5280, Section 5.3.1.
const (
	ReasonUnspecified          = 0
	ReasonKeyCompromise        = 1
	ReasonCACompromise         = 2
	ReasonAffiliationChanged   = 3
	ReasonSuperseded           = 4
	ReasonCessationOfOperation = 5
	ReasonCertificateHold      = 6
	ReasonRemoveFromCRL        = 8
	ReasonPrivilegeWithdrawn   = 9
	ReasonAACompromise         = 10
)

// ValidReason reports whether a revocation request may give the reason (RFC 8555, Section 7.6 lets the server choose).
// Left out are the reasons that are not about an end-entity certificate and those for which revocation would not be
// for good.
func ValidReason(code int) bool {
	switch code {
	case ReasonUnspecified, ReasonKeyCompromise, ReasonAffiliationChanged, ReasonSuperseded,
		ReasonCessationOfOperation, ReasonPrivilegeWithdrawn:
		return true
	}
	return false
}

// RevokedEntry is a revoked certificate on a CRL.
type RevokedEntry struct {
	Serial    string
	RevokedAt time.Time
	Reason    int
}

// IDP is the issuing distribution point of a CRL that does not cover everything its issuer signed (RFC 5280, Section
// 5.2.5). It is critical: relying parties that do not know it must not use the CRL.
type IDP struct {
	URL           string // the same as in the certificates' CRL distribution points
	OnlyUserCerts bool
}

var oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}

// CRL says what a certificate revocation list (RFC 5280, Section 5) contains.
type CRL struct {
	Number                 *big.Int
	ThisUpdate, NextUpdate time.Time
	Revoked                []RevokedEntry
	IDP                    *IDP // nil: the CRL covers every certificate of the issuer
}

// Sign makes a version 2 CRL. The entries are put in the order of their serials, so that the same facts and a
// deterministic key give the same bytes.
//
// It encodes what x509.CreateRevocationList does, without the thirty allocations that this makes for each entry: a CA
// with 100,000 revoked certificates builds its CRL whenever it revokes another.
func (c *CRL) Sign(issuer *x509.Certificate, key crypto.Signer) ([]byte, error) {
	if !c.NextUpdate.Truncate(time.Second).After(c.ThisUpdate.Truncate(time.Second)) {
		return nil, errors.New("the CRL's next update does not come after this one")
	}
	if c.Number == nil || c.Number.Sign() < 0 {
		return nil, errors.New("the CRL has no number")
	}
	if c.Number.BitLen() >= 8*20 {
		return nil, errors.New("the number of a CRL has at most 20 octets") // RFC 5280, Section 5.2.3
	}
	if issuer.KeyUsage&x509.KeyUsageCRLSign == 0 || len(issuer.SubjectKeyId) == 0 {
		return nil, errors.New("the issuer's certificate is not for signing CRLs, or has no subject key identifier")
	}
	algorithm, err := signatureOf(key.Public())
	if err != nil {
		return nil, err
	}
	entries, err := c.entries()
	if err != nil {
		return nil, err
	}
	extensions, err := c.extensions(issuer)
	if err != nil {
		return nil, err
	}
	room := len(entries) + len(extensions) + len(issuer.RawSubject) + 200
	b := cryptobyte.NewBuilder(make([]byte, 0, room))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1) // version 2
		algorithm.add(b)
		b.AddBytes(issuer.RawSubject)
		b.AddBytes(appendTime(nil, c.ThisUpdate))
		b.AddBytes(appendTime(nil, c.NextUpdate))
		if len(entries) > 0 {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(entries) })
		}
		b.AddASN1(contextTag(0), func(b *cryptobyte.Builder) { b.AddBytes(extensions) })
	})
	tbs, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	signature, err := algorithm.sign(key, tbs)
	if err != nil {
		return nil, err
	}
	// As for certificates: what a faulty signer made is not handed out.
	if err := issuer.CheckSignature(algorithm.name, tbs, signature); err != nil {
		return nil, fmt.Errorf("the signature of the CRL: %w", err)
	}
	out := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+1<<10))
	out.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		algorithm.add(b)
		b.AddASN1BitString(signature)
	})
	return out.Bytes()
}

// reasonCode is the encoded extension of an entry (RFC 5280, Section 5.3.1), but for its last byte, the code.
var reasonCode = []byte{0x30, 12, 0x30, 10, 0x06, 3, 85, 29, 21, 0x04, 3, 0x0a, 1}

// entries encodes revokedCertificates, without the tag around all of them.
func (c *CRL) entries() ([]byte, error) {
	bySerial := func(a, b RevokedEntry) int { return strings.Compare(a.Serial, b.Serial) }
	sorted := c.Revoked
	if !slices.IsSortedFunc(sorted, bySerial) {
		sorted = slices.SortedFunc(slices.Values(sorted), bySerial)
	}
	out := make([]byte, 0, 52*len(sorted))
	for i, entry := range sorted {
		if i > 0 && entry.Serial == sorted[i-1].Serial {
			return nil, fmt.Errorf("the certificate %s is revoked twice", entry.Serial)
		}
		serial, err := parseSerial(entry.Serial)
		if err != nil {
			return nil, err
		}
		if entry.RevokedAt.IsZero() {
			return nil, fmt.Errorf("the certificate %s has no time of revocation", entry.Serial)
		}
		if !onCRL(entry.Reason) {
			return nil, fmt.Errorf("the certificate %s has the unknown revocation reason %d", entry.Serial, entry.Reason)
		}
		// All of an entry is shorter than 128 bytes, so lengths have one byte.
		start := len(out)
		out = append(out, 0x30, 0, 0x02, serialBytes)
		out = append(out, serial[:]...)
		out = appendTime(out, entry.RevokedAt)
		if entry.Reason != ReasonUnspecified { // which RFC 5280, Section 5.3.1 asks to leave out
			out = append(append(out, reasonCode...), byte(entry.Reason))
		}
		out[start+1] = byte(len(out) - start - 2)
	}
	return out, nil
}

// appendTime encodes Time in whole seconds: UTCTime through 2049 (RFC 5280, Section 5.1.2.4).
func appendTime(to []byte, t time.Time) []byte {
	if t = t.UTC(); t.Year() < 2050 {
		return t.AppendFormat(append(to, byte(cbasn1.UTCTime), 13), "060102150405Z")
	}
	return t.AppendFormat(append(to, byte(cbasn1.GeneralizedTime), 15), "20060102150405Z")
}

var (
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCRLNumber      = asn1.ObjectIdentifier{2, 5, 29, 20}
)

// extensions encodes crlExtensions of RFC 5280, Section 5.2.
func (c *CRL) extensions(issuer *x509.Certificate) ([]byte, error) {
	number, err := asn1.Marshal(c.Number)
	if err != nil {
		return nil, err
	}
	keyID, err := asn1.Marshal(struct {
		ID []byte `asn1:"tag:0"`
	}{issuer.SubjectKeyId})
	if err != nil {
		return nil, err
	}
	all := []pkix.Extension{{Id: oidAuthorityKeyID, Value: keyID}, {Id: oidCRLNumber, Value: number}}
	if c.IDP != nil {
		idp, err := c.IDP.extension()
		if err != nil {
			return nil, err
		}
		all = append(all, idp)
	}
	return asn1.Marshal(all)
}

// onCRL reports whether the reason may stand on a complete CRL; removeFromCRL is for delta CRLs, 7 is not used.
func onCRL(reason int) bool {
	return ValidReason(reason) || reason == ReasonCACompromise || reason == ReasonCertificateHold || reason == ReasonAACompromise
}

// extension encodes IssuingDistributionPoint of RFC 5280, Section 5.2.5.
func (idp *IDP) extension() (pkix.Extension, error) {
	if idp.URL == "" && !idp.OnlyUserCerts {
		return pkix.Extension{}, errors.New("an issuing distribution point must not be empty")
	}
	if idp.URL != "" {
		if err := checkURL(idp.URL); err != nil {
			return pkix.Extension{}, err
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if idp.URL != "" {
			// distributionPoint [0], which is a CHOICE and hence explicitly tagged, of fullName [0].
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.Tag(tagURI).ContextSpecific(), func(b *cryptobyte.Builder) {
						b.AddBytes([]byte(idp.URL))
					})
				})
			})
		}
		if idp.OnlyUserCerts {
			b.AddASN1(cbasn1.Tag(1).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddUint8(0xff) })
		}
	})
	value, err := b.Bytes()
	return pkix.Extension{Id: oidIssuingDistributionPoint, Critical: true, Value: value}, err
}
