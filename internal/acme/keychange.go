package acme

import "github.com/go-jose/go-jose/v4/json"

// ParseKeyChange reads the payload of a keyChange request that is verified
// already, and returns the key that the account is to have. It takes steps 2
// to 8 of RFC 8555, Section 7.3.5: outerURL is the "url" of the request,
// accountURL the URL of the account that signed it and oldKey that account's
// key. That no other account has the new key (step 9) is for the store to see.
// The error is a *Problem.
func ParseKeyChange(outerPayload []byte, outerURL string, accountURL string, oldKey *Key) (newKey *Key, err error) {
	inner, err := ParseInnerJWS(outerPayload)
	if err != nil {
		return nil, err
	}
	// "The inner JWS MUST have a 'jwk' header parameter, containing the public
	// key of the new key pair."
	if inner.Key == nil {
		return nil, Malformed("the inner JWS has a kid instead of the new key as jwk")
	}
	payload, err := inner.Verify(inner.Key)
	if err != nil {
		return nil, Malformed("the inner JWS is not signed with the new key: %s", err.(*Problem).Detail)
	}
	var change struct {
		// "The URL for the account being modified."
		Account string `json:"account"`
		// "The JWK representation of the old key."
		OldKey json.RawMessage `json:"oldKey"`
	}
	if err := UnmarshalPayload(payload, &change); err != nil {
		return nil, err
	}
	// "The inner JWS MUST have the same 'url' header parameter as the outer
	// JWS."
	if inner.URL == "" || inner.URL != outerURL {
		return nil, Malformed("the inner JWS is for the URL %q, but the request for %q", excerpt(inner.URL), excerpt(outerURL))
	}
	if change.Account == "" || change.Account != accountURL {
		return nil, Malformed("the inner JWS is about the account %q, but the request is signed by %q", excerpt(change.Account), excerpt(accountURL))
	}
	named, err := ParseKey(change.OldKey)
	if err != nil {
		return nil, Malformed("the oldKey in the inner JWS is not a key: %s", err.(*Problem).Detail)
	}
	if !named.Equal(oldKey) {
		return nil, Malformed("the oldKey in the inner JWS is not the account's key")
	}
	if inner.Key.Equal(oldKey) {
		return nil, Malformed("the new key is the one that the account has already")
	}
	return inner.Key, nil
}
