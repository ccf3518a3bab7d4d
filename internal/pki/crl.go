package pki

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
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
func (c *CRL) Sign(issuer *x509.Certificate, key crypto.Signer) ([]byte, error) {
	thisUpdate, nextUpdate := c.ThisUpdate.UTC().Truncate(time.Second), c.NextUpdate.UTC().Truncate(time.Second)
	if !nextUpdate.After(thisUpdate) {
		return nil, errors.New("the CRL's next update does not come after this one")
	}
	if c.Number == nil || c.Number.Sign() < 0 {
		return nil, errors.New("the CRL has no number")
	}
	template := &x509.RevocationList{
		Number:                    c.Number,
		ThisUpdate:                thisUpdate,
		NextUpdate:                nextUpdate,
		RevokedCertificateEntries: make([]x509.RevocationListEntry, len(c.Revoked)),
	}
	sorted := slices.SortedFunc(slices.Values(c.Revoked), func(a, b RevokedEntry) int { return cmp.Compare(a.Serial, b.Serial) })
	for i, entry := range sorted {
		if i > 0 && entry.Serial == sorted[i-1].Serial {
			return nil, fmt.Errorf("the certificate %s is revoked twice", entry.Serial)
		}
		serial, err := ParseSerial(entry.Serial)
		if err != nil {
			return nil, err
		}
		if entry.RevokedAt.IsZero() {
			return nil, fmt.Errorf("the certificate %s has no time of revocation", entry.Serial)
		}
		if !onCRL(entry.Reason) {
			return nil, fmt.Errorf("the certificate %s has the unknown revocation reason %d", entry.Serial, entry.Reason)
		}
		template.RevokedCertificateEntries[i] = x509.RevocationListEntry{
			SerialNumber:   serial,
			RevocationTime: entry.RevokedAt.UTC().Truncate(time.Second),
			ReasonCode:     entry.Reason, // 0 is left out, as RFC 5280, Section 5.3.1 asks
		}
	}
	if c.IDP != nil {
		extension, err := c.IDP.extension()
		if err != nil {
			return nil, err
		}
		template.ExtraExtensions = []pkix.Extension{extension}
	}
	return x509.CreateRevocationList(nil, template, issuer, key)
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
