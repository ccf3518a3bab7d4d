package acme

import (
	"encoding/hex"
	"strings"
)

// CertID names a certificate by its issuer's key and its serial number
// (RFC 9773, Section 4.1).
type CertID struct {
	KeyID  string // keyIdentifier of the authority key identifier, lower-case hexadecimal
	Serial string // serial number, lower-case hexadecimal, as its DER encoding without tag and length
}

// ParseCertID reads a certificate identifier in its one valid form: two parts in
// base64url without padding, the serial a DER integer that is positive and has
// no superfluous octet in front. The error is a *Problem.
func ParseCertID(text string) (CertID, error) {
	keyText, serialText, found := strings.Cut(text, ".")
	if !found || len(text) > 128 {
		return CertID{}, Malformed("%q is not a certificate identifier: two parts in base64url with a period between", excerpt(text))
	}
	keyID, err := decodeBase64URL([]byte(keyText))
	if err != nil || len(keyID) == 0 {
		return CertID{}, Malformed("the key identifier in the certificate identifier %q is not base64url without padding", excerpt(text))
	}
	serial, err := decodeBase64URL([]byte(serialText))
	if err != nil || len(serial) == 0 {
		return CertID{}, Malformed("the serial number in the certificate identifier %q is not base64url without padding", excerpt(text))
	}
	if serial[0] >= 0x80 || serial[0] == 0 && (len(serial) == 1 || serial[1] < 0x80) {
		return CertID{}, Malformed("the serial number in the certificate identifier %q is not the DER encoding of a positive number", excerpt(text))
	}
	return CertID{KeyID: hex.EncodeToString(keyID), Serial: hex.EncodeToString(serial)}, nil
}
