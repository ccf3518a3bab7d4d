package acme

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"hash"
)

// An EAB is an external account binding: the account key, authenticated with a
// MAC key that the holder of an external account was given (RFC 8555,
// Section 7.3.4). What it says is not to be believed before Verify has
// returned nil.
type EAB struct {
	KeyID string // which MAC key

	newHash func() hash.Hash
	envelope
}

// ParseEAB reads the "externalAccountBinding" of a newAccount request and
// checks that its protected header meets the criteria of RFC 8555,
// Section 7.3.4. The error is a *Problem: malformed or badSignatureAlgorithm.
func ParseEAB(raw json.RawMessage) (*EAB, error) {
	e, err := parseEnvelope(raw)
	if err != nil {
		problem := *err.(*Problem)
		problem.Detail = "externalAccountBinding: " + problem.Detail
		return nil, &problem
	}
	b := &EAB{KeyID: string(e.kid), envelope: e}
	// "The 'alg' field MUST indicate a MAC-based algorithm".
	switch string(e.alg) {
	case "HS256":
		b.newHash = sha256.New
	case "HS384":
		b.newHash = sha512.New384
	case "HS512":
		b.newHash = sha512.New
	default:
		problem := BadSignatureAlgorithm("the externalAccountBinding has the algorithm %q; accepted are HS256, HS384 and HS512", excerpt(e.alg))
		problem.Algorithms = []string{"HS256", "HS384", "HS512"}
		return nil, problem
	}
	switch {
	case len(e.kid) == 0:
		// "The 'kid' field MUST contain the key identifier provided by the CA".
		return nil, Malformed("the protected header of the externalAccountBinding has no kid")
	case !isASCII(b.KeyID):
		// "The key identifier MUST be an ASCII string."
		return nil, Malformed("the kid of the externalAccountBinding is not ASCII")
	case e.jwk != nil:
		return nil, Malformed("the protected header of the externalAccountBinding has a jwk, which it must not have")
	case e.nonce != nil:
		// "The 'nonce' field MUST NOT be present".
		return nil, Malformed("the protected header of the externalAccountBinding has a nonce, which it must not have")
	case len(e.url) == 0:
		return nil, Malformed("the protected header of the externalAccountBinding has no url")
	}
	return b, nil
}

// Verify checks that the binding was made with the MAC key, for the account
// key that signed the newAccount request, and for the URL of that request
// (RFC 8555, Section 7.3.4, steps 2, 4 and 5). The error is a *Problem:
// unauthorized when the MAC is wrong, and malformed when the binding is
// authentic but does not belong to this request.
func (b *EAB) Verify(hmacKey []byte, accountKey *Key, newAccountURL string) error {
	// Anybody can make a MAC with an empty key, so one that got lost on its
	// way here must not open the door.
	if len(hmacKey) == 0 || !b.authentic(hmacKey) {
		return Unauthorized("the externalAccountBinding does not verify with the MAC key of %q", excerpt(b.KeyID))
	}
	// "The 'url' field MUST be set to the same value as the outer JWS".
	if string(b.url) != newAccountURL {
		return Malformed("the externalAccountBinding is for the URL %q, but the request for %q", excerpt(b.url), excerpt(newAccountURL))
	}
	key, err := ParseKey(b.payload)
	if err != nil {
		return Malformed("the payload of the externalAccountBinding is not the account key: %s", err.(*Problem).Detail)
	}
	if !key.Equal(accountKey) {
		return Malformed("the payload of the externalAccountBinding is not the key that signed the request")
	}
	return nil
}

func (b *EAB) authentic(hmacKey []byte) bool {
	mac := hmac.New(b.newHash, hmacKey)
	mac.Write(b.signed)
	return hmac.Equal(mac.Sum(nil), b.signature)
}
