package acme

import (
	"fmt"
	"testing"
)

const keyChangeURL = "https://example.com/acme/key-change" // RFC 8555, Section 7.3.5

func TestParseKeyChange(t *testing.T) {
	const ok = ErrorType("")
	old, fresh := signers()["ES256"], another()
	header := func(s signer, url string) string {
		return fmt.Sprintf(`{"alg":%q,"jwk":%s,"url":%q}`, s.alg, s.jwk(), url)
	}
	change := func(account, oldKey string) string { return fmt.Sprintf(`{"account":%q,"oldKey":%s}`, account, oldKey) }
	right := change(testKid, old.jwk())
	rightHeader := header(fresh, keyChangeURL)
	ed, rsa := signers()["EdDSA"], signers()["RS256"]

	for _, test := range []struct {
		name   string
		outer  string
		want   ErrorType
		detail string
	}{
		{"good", fresh.jws(rightHeader, right), ok, ""},
		{"to Ed25519", ed.jws(header(ed, keyChangeURL), right), ok, ""},
		{"to RSA", rsa.jws(header(rsa, keyChangeURL), right), ok, ""},
		{"more members", fresh.jws(rightHeader, `{"x":1,`+right[1:]), ok, ""},
		{"old key in another form", fresh.jws(rightHeader, change(testKid, ` {"use":"sig", `+old.jwk()[1:])), ok, ""},

		// Step 2: a well-formed JWS.
		{"empty payload", "", ErrMalformed, "not a JSON object"},
		{"keyChange without a JWS", right, ErrMalformed, "beside protected"},
		{"inner JWS in a string", `"` + b64(fresh.jws(rightHeader, right)) + `"`, ErrMalformed, "not a JSON object"},
		{"inner JWS with nonce", fresh.jws(`{"nonce":"AAAA",`+rightHeader[1:], right), ErrMalformed, "nonce"},
		{"inner JWS with HS256", fresh.jws(fmt.Sprintf(`{"alg":"HS256","kid":"x","url":%q}`, keyChangeURL), right), ErrBadSignatureAlgorithm, "HS256"},
		{"new key weak", fresh.jws(fmt.Sprintf(`{"alg":"RS256","jwk":%s,"url":%q}`, rsaJWK(1024, "AQAB"), keyChangeURL), right), ErrBadPublicKey, "1024"},
		// Step 3: a "jwk" field.
		{"kid instead of jwk", fresh.jws(fmt.Sprintf(`{"alg":"ES256","kid":%q,"url":%q}`, testKid, keyChangeURL), right), ErrMalformed, "kid"},
		{"kid and jwk", fresh.jws(`{"kid":"x",`+rightHeader[1:], right), ErrMalformed, "both"},
		// Step 4: it verifies with that key.
		{"signed by the old key", old.jws(rightHeader, right), ErrMalformed, "not signed with the new key"},
		// Step 5: a well-formed keyChange object.
		{"inner payload empty", fresh.jws(rightHeader, ""), ErrMalformed, "empty"},
		{"inner payload null", fresh.jws(rightHeader, "null"), ErrMalformed, "not a JSON object"},
		{"duplicate account", fresh.jws(rightHeader, `{"account":"x",`+right[1:]), ErrMalformed, "duplicate"},
		{"no oldKey", fresh.jws(rightHeader, fmt.Sprintf(`{"account":%q}`, testKid)), ErrMalformed, "oldKey"},
		{"oldKey null", fresh.jws(rightHeader, change(testKid, "null")), ErrMalformed, "oldKey"},
		{"oldKey no key", fresh.jws(rightHeader, change(testKid, "{}")), ErrMalformed, "oldKey"},
		// Step 6: the same "url".
		{"no url", fresh.jws(fmt.Sprintf(`{"alg":"ES256","jwk":%s}`, fresh.jwk()), right), ErrMalformed, "URL"},
		{"another url", fresh.jws(header(fresh, testURL), right), ErrMalformed, "URL"},
		// Step 7: the account.
		{"no account", fresh.jws(rightHeader, fmt.Sprintf(`{"oldKey":%s}`, old.jwk())), ErrMalformed, "account"},
		{"another account", fresh.jws(rightHeader, change(testKid+"x", old.jwk())), ErrMalformed, "account"},
		{"account a number", fresh.jws(rightHeader, fmt.Sprintf(`{"account":1,"oldKey":%s}`, old.jwk())), ErrMalformed, "wrong type"},
		// Step 8: the old key.
		{"another old key", fresh.jws(rightHeader, change(testKid, ed.jwk())), ErrMalformed, "oldKey"},
		{"the new key as old key", fresh.jws(rightHeader, change(testKid, fresh.jwk())), ErrMalformed, "oldKey"},

		{"new key is the old one", old.jws(header(old, keyChangeURL), right), ErrMalformed, "already"},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := ParseKeyChange([]byte(test.outer), keyChangeURL, testKid, old.Key)
			if test.want != ok {
				wantProblem(t, err, test.want, test.detail)
				if key != nil {
					t.Error("returns a key beside the error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if key.Equal(old.Key) {
				t.Error("returns the old key")
			}
		})
	}
	key, err := ParseKeyChange([]byte(fresh.jws(rightHeader, right)), keyChangeURL, testKid, old.Key)
	if err != nil || !key.Equal(fresh.Key) {
		t.Errorf("%v, %v", key, err)
	}
	// What the caller forgot must not match what the client left out.
	_, err = ParseKeyChange([]byte(fresh.jws(header(fresh, ""), right)), "", testKid, old.Key)
	wantProblem(t, err, ErrMalformed, "URL")
	_, err = ParseKeyChange([]byte(fresh.jws(rightHeader, change("", old.jwk()))), keyChangeURL, "", old.Key)
	wantProblem(t, err, ErrMalformed, "account")
	_, err = ParseKeyChange([]byte(fresh.jws(rightHeader, right)), keyChangeURL, testKid, nil)
	wantProblem(t, err, ErrMalformed, "oldKey")
}
