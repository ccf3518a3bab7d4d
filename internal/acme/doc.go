// Package acme holds the values of the ACME protocol: what travels in requests
// and responses, how it is checked, and which error answers what is wrong.
//
// It is pure. It serves no HTTP, keeps nothing, and never asks what time it
// is: a function that depends on the time takes it as an argument. Functions
// that read what a client sent return a *Problem as their error, so a handler
// can return that error as it is.
//
// # Where to look
//
//	identifier.go  names and addresses in their one canonical form (RFC 8555, Section 7.1.4; RFC 8738)
//	problem.go     the errors that clients are told (RFC 8555, Section 6.7)
//	jws.go         the signed envelope around every request (RFC 8555, Section 6.2)
//	key.go         account keys, thumbprints and key authorizations (RFC 7638; RFC 8555, Section 8.1)
//	eab.go         external account binding (RFC 8555, Section 7.3.4)
//	keychange.go   account key rollover (RFC 8555, Section 7.3.5)
//	nonce.go       nonces that cost nothing to issue (RFC 8555, Section 6.5)
//	directory.go   the directory object (RFC 8555, Section 7.1.1)
//	wire.go        request bodies, and what belongs to no other file
//	json.go        the strict reader below all of it
//
// # The checks of one request
//
// A POST is taken apart in this order, the cheap refusals first:
//
//  1. ParseJWS: the envelope is well-formed, the algorithm is one we accept,
//     and there is exactly one of "jwk" and "kid".
//  2. JWS.CheckURL: the client signed the URL that it asked (Section 6.4).
//  3. NonceSealer.Open, and the caller spends the nonce (Section 6.5).
//  4. JWS.Verify: the signature. Nothing of the payload is looked at before.
//  5. UnmarshalPayload.
//
// # Strictness
//
// A JWS is read more strictly than RFC 7515 asks: members of the envelope that
// RFC 8555 gives no meaning are refused, as are duplicate members, null where
// a value belongs, padding and line breaks in base64url, and invalid UTF-8.
// Two readers of one signed message must never see two different messages.
// Payloads are read more kindly, since clients send fields of extensions that
// we do not know: these are ignored, and null means that a field is absent.
package acme
