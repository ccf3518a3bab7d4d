package acme

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// signatureAlgorithms are the values of "alg" that requests may have: "An ACME
// server MUST implement the ES256 signature algorithm and SHOULD implement the
// EdDSA signature algorithm" (RFC 8555, Section 6.2). None is a MAC.
var signatureAlgorithms = []string{"ES256", "ES384", "ES512", "RS256", "EdDSA"}

// A JWS is the signed envelope of a request (RFC 8555, Section 6.2). What it
// says is not to be believed before Verify has returned the payload.
type JWS struct {
	Algorithm string // one of those that we accept
	Nonce     string // "" when the header has none, which is a badNonce; else base64url
	URL       string // "" when the header has none; see CheckURL
	KeyID     string // the account URL, or "" when the key itself is in the header
	Key       *Key   // the key in the header, or nil when KeyID is set

	envelope
}

// ParseJWS reads the body of a request. The error is a *Problem: malformed, or
// badSignatureAlgorithm, or badPublicKey for a "jwk" that is not acceptable or
// not of the kind that "alg" asks for (RFC 8555, Section 6.2). The JWS shares
// no memory with body.
func ParseJWS(body []byte) (*JWS, error) {
	e, err := parseEnvelope(body)
	if err != nil {
		return nil, err
	}
	i := slices.Index(signatureAlgorithms, string(e.alg))
	if i < 0 {
		return nil, BadSignatureAlgorithm("the JWS is signed with the algorithm %q; accepted are %s",
			excerpt(e.alg), strings.Join(signatureAlgorithms, ", "))
	}
	j := &JWS{
		Algorithm: signatureAlgorithms[i],
		Nonce:     string(e.nonce),
		URL:       string(e.url),
		KeyID:     string(e.kid),
		envelope:  e,
	}
	// "The 'jwk' and 'kid' fields are mutually exclusive. Servers MUST reject
	// requests that contain both" (RFC 8555, Section 6.2).
	switch {
	case e.jwk != nil && e.kid != nil:
		return nil, Malformed("the protected header of the JWS has both jwk and kid")
	case e.jwk == nil && e.kid == nil:
		return nil, Malformed("the protected header of the JWS has neither jwk nor kid")
	case e.kid != nil && len(e.kid) == 0:
		return nil, Malformed("the kid in the protected header of the JWS is empty")
	case e.jwk != nil:
		if j.Key, err = ParseKey(e.jwk); err != nil {
			return nil, err
		}
		if j.Key.alg != j.Algorithm {
			return nil, BadPublicKey("the JWS has the algorithm %s, but the key in it is one for %s", j.Algorithm, j.Key.alg)
		}
	}
	return j, nil
}

// ParseInnerJWS reads a JWS inside the payload of another one, which must not
// have a nonce (RFC 8555, Section 7.3.5).
func ParseInnerJWS(body []byte) (*JWS, error) {
	j, err := ParseJWS(body)
	if err != nil {
		return nil, err
	}
	if j.nonce != nil {
		return nil, Malformed("the inner JWS has a nonce, which it must not have")
	}
	return j, nil
}

// CheckURL compares the "url" of the protected header with the URL that the
// request was sent to. "If the two do not match, then the server MUST reject
// the request as unauthorized" (RFC 8555, Section 6.4).
func (j *JWS) CheckURL(requested string) error {
	if j.URL == "" {
		return Malformed("the protected header of the JWS has no url")
	}
	if j.URL != requested {
		return Unauthorized("the JWS is signed for the URL %q, but was sent to %q", excerpt(j.URL), excerpt(requested))
	}
	return nil
}

// Verify checks the signature with the key and returns the payload, which is
// empty for POST-as-GET (RFC 8555, Section 6.3). A key of another kind than
// "alg" says is a badSignatureAlgorithm; a wrong signature is malformed.
func (j *JWS) Verify(key *Key) (payload []byte, err error) {
	if key == nil {
		return nil, Malformed("the JWS has no key to verify it with")
	}
	if j.Algorithm != key.alg {
		return nil, BadSignatureAlgorithm("the JWS is signed with %s, but the key that has to sign it is one for %s", j.Algorithm, key.alg)
	}
	if !key.verify(j.signed, j.signature) {
		return nil, Malformed("JWS verification error")
	}
	return j.payload, nil
}

// An envelope is a JWS taken apart: well-formed, with nothing in it that ACME
// forbids, and its algorithm and keys not looked at.
type envelope struct {
	header
	signed    []byte // what the signature is over (RFC 7515, Section 5.1)
	payload   []byte
	signature []byte
}

// A header has the members of a protected header that we know; nil is absent.
type header struct {
	alg, nonce, url, kid, jwk []byte
}

// parseEnvelope reads a JWS in the flattened JSON serialization (RFC 7515,
// Section 7.2.2). The error is a *Problem of type malformed.
func parseEnvelope(body []byte) (envelope, error) {
	var e envelope
	var protected, payload, signature []byte
	err := readObject(body, func(name, value []byte) (err error) {
		switch string(name) {
		case "protected":
			protected, err = text(value)
		case "payload":
			payload, err = text(value)
		case "signature":
			signature, err = text(value)
		case "header":
			return errors.New("has an unprotected header, which ACME forbids (RFC 8555, Section 6.2)")
		case "signatures":
			return errors.New("is not in the flattened serialization: ACME allows one signature only (RFC 8555, Section 6.2)")
		default:
			return fmt.Errorf("has the member %q beside protected, payload and signature", excerpt(name))
		}
		if err != nil {
			return fmt.Errorf("has a member %q that %w", name, err)
		}
		return nil
	})
	if err != nil {
		return e, Malformed("the JWS %v", err)
	}
	// "The JWS Payload MUST NOT be detached": for POST-as-GET it is there and
	// empty (RFC 8555, Sections 6.2 and 6.3).
	if protected == nil || payload == nil || signature == nil {
		return e, Malformed("the JWS lacks one of the members protected, payload and signature")
	}
	head, err := decodeBase64URL(protected)
	if err != nil {
		return e, Malformed("the protected header of the JWS %v", err)
	}
	if e.payload, err = decodeBase64URL(payload); err != nil {
		return e, Malformed("the payload of the JWS %v", err)
	}
	if e.signature, err = decodeBase64URL(signature); err != nil {
		return e, Malformed("the signature of the JWS %v", err)
	}
	if err := e.read(head); err != nil {
		return e, Malformed("the protected header of the JWS %v", err)
	}
	e.signed = make([]byte, 0, len(protected)+1+len(payload))
	e.signed = append(e.signed, protected...)
	e.signed = append(e.signed, '.')
	e.signed = append(e.signed, payload...)
	return e, nil
}

// read fills h from the decoded protected header.
func (h *header) read(data []byte) error {
	err := readObject(data, func(name, value []byte) (err error) {
		switch string(name) {
		case "alg":
			h.alg, err = text(value)
		case "nonce":
			h.nonce, err = text(value)
		case "url":
			h.url, err = text(value)
		case "kid":
			h.kid, err = text(value)
		case "jwk":
			h.jwk = value
			if value[0] != '{' {
				err = errNoObject
			}
		case "crit":
			// We understand no extension, and one that is not understood
			// makes the JWS invalid (RFC 7515, Section 4.1.11).
			return errors.New("has crit, but no extension is understood")
		case "b64":
			return errors.New("has b64, which ACME forbids (RFC 8555, Section 6.2)")
		}
		if err != nil {
			return fmt.Errorf("has a member %q that %w", name, err)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(h.alg) == 0:
		return errors.New("has no alg")
	case !isBase64URL(h.nonce):
		// "If the value of a 'nonce' header parameter is not valid according to
		// this encoding, then the verifier MUST reject the JWS as malformed"
		// (RFC 8555, Section 6.5.2).
		return errors.New("has a nonce that is not base64url")
	}
	return nil
}

// isBase64URL reports whether s can be the encoding of some octets. It does
// not mind stray bits at the end, as the nonces in the examples of RFC 8555
// have them: whether we issued a nonce is for NonceSealer to say.
func isBase64URL(s []byte) bool {
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return len(s)%4 != 1
}
