package acme

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"hash"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

const newAccountURL = "https://example.com/acme/new-account" // RFC 8555, Section 7.3.4

var macKey = []byte("a MAC key that nobody is to guess")

// bind makes an external account binding with exactly this protected header.
func bind(newHash func() hash.Hash, key []byte, header, payload string) string {
	signed := b64(header) + "." + b64(payload)
	mac := hmac.New(newHash, key)
	mac.Write([]byte(signed))
	return flattened(b64(header), b64(payload), b64(string(mac.Sum(nil))))
}

func bindHeader(alg string) string {
	return fmt.Sprintf(`{"alg":%q,"kid":"kid-1","url":%q}`, alg, newAccountURL)
}

// TestMACVector is the example of RFC 7515, Appendix A.1.
func TestMACVector(t *testing.T) {
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON([]byte(rfc7515MACKey)); err != nil {
		t.Fatal(err)
	}
	b := &EAB{newHash: sha256.New, envelope: compactJWS(t, "HS256", rfc7515HS256).envelope}
	if !b.authentic(jwk.Key.([]byte)) {
		t.Error("does not verify")
	}
	b.signed[3] ^= 1
	if b.authentic(jwk.Key.([]byte)) {
		t.Error("verifies changed")
	}
}

func TestEAB(t *testing.T) {
	account := signers()["ES256"]
	for alg, newHash := range map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New} {
		t.Run(alg, func(t *testing.T) {
			b, err := ParseEAB(json.RawMessage(bind(newHash, macKey, bindHeader(alg), account.jwk())))
			if err != nil {
				t.Fatal(err)
			}
			if b.KeyID != "kid-1" {
				t.Errorf("kid is %q", b.KeyID)
			}
			if err := b.Verify(macKey, account.Key, newAccountURL); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("go-jose", func(t *testing.T) {
		options := (&jose.SignerOptions{}).WithHeader("url", newAccountURL).WithHeader("kid", "kid-1")
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: macKey}, options)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := (&jose.JSONWebKey{Key: account.Public()}).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		object, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseEAB(json.RawMessage(object.FullSerialize()))
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Verify(macKey, account.Key, newAccountURL); err != nil {
			t.Error(err)
		}
	})
}

func TestParseEABRefuses(t *testing.T) {
	account := signers()["ES256"]
	head := func(h string) string { return bind(sha256.New, macKey, h, account.jwk()) }
	url := `"url":"` + newAccountURL + `"`
	good := head(bindHeader("HS256"))
	for _, test := range []struct {
		name, raw string
		want      ErrorType
		detail    string
	}{
		{"empty", ``, ErrMalformed, "externalAccountBinding"},
		{"null", `null`, ErrMalformed, "not a JSON object"},
		{"empty object", `{}`, ErrMalformed, "lacks"},
		{"several signatures", `{"signatures":[]}`, ErrMalformed, "one signature only"},
		{"unprotected header", strings.Replace(good, `{`, `{"header":{},`, 1), ErrMalformed, "unprotected"},
		{"alg none", head(bindHeader("none")), ErrBadSignatureAlgorithm, "none"},
		{"alg of a signature", account.jws(bindHeader("ES256"), account.jwk()), ErrBadSignatureAlgorithm, "ES256"},
		{"alg HS1", head(bindHeader("HS1")), ErrBadSignatureAlgorithm, "HS1"},
		{"no alg", head(`{"kid":"x",` + url + `}`), ErrMalformed, "no alg"},
		{"no kid", head(`{"alg":"HS256",` + url + `}`), ErrMalformed, "no kid"},
		{"kid empty", head(`{"alg":"HS256","kid":"",` + url + `}`), ErrMalformed, "no kid"},
		{"kid null", head(`{"alg":"HS256","kid":null,` + url + `}`), ErrMalformed, "not a string"},
		{"kid not ASCII", head(`{"alg":"HS256","kid":"ü",` + url + `}`), ErrMalformed, "ASCII"},
		{"kid an escaped surrogate", head(`{"alg":"HS256","kid":"\ud800",` + url + `}`), ErrMalformed, "ASCII"},
		{"jwk", head(`{"alg":"HS256","kid":"x","jwk":{},` + url + `}`), ErrMalformed, "jwk"},
		{"nonce", head(`{"alg":"HS256","kid":"x","nonce":"AAAA",` + url + `}`), ErrMalformed, "nonce"},
		{"nonce empty", head(`{"alg":"HS256","kid":"x","nonce":"",` + url + `}`), ErrMalformed, "nonce"},
		{"no url", head(`{"alg":"HS256","kid":"x"}`), ErrMalformed, "no url"},
		{"crit", head(`{"alg":"HS256","kid":"x","crit":["x"],` + url + `}`), ErrMalformed, "crit"},
		{"duplicate kid", head(`{"alg":"HS256","kid":"x","kid":"y",` + url + `}`), ErrMalformed, "twice"},
		{"trailing data", good + "1", ErrMalformed, "after its JSON object"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := ParseEAB(json.RawMessage(test.raw))
			wantProblem(t, err, test.want, test.detail)
			if p := err.(*Problem); p.Type == ErrBadSignatureAlgorithm && !slices.Equal(p.Algorithms, []string{"HS256", "HS384", "HS512"}) {
				t.Errorf("algorithms are %v", p.Algorithms)
			}
		})
	}
}

func TestVerifyEABRefuses(t *testing.T) {
	account := signers()["ES256"]
	good := bind(sha256.New, macKey, bindHeader("HS256"), account.jwk())
	m := strings.Split(good, `"`)
	with := func(payload string) string { return bind(sha256.New, macKey, bindHeader("HS256"), payload) }
	for _, test := range []struct {
		name, raw string
		mac       []byte
		account   *Key
		url       string
		want      ErrorType
		detail    string
	}{
		{"another MAC key", good, []byte("another"), account.Key, newAccountURL, ErrUnauthorized, "kid-1"},
		{"no MAC key", good, nil, account.Key, newAccountURL, ErrUnauthorized, "kid-1"},
		{"made with an empty MAC key", bind(sha256.New, nil, bindHeader("HS256"), account.jwk()), []byte{}, account.Key, newAccountURL, ErrUnauthorized, ""},
		{"MAC empty", flattened(m[3], m[7], ""), macKey, account.Key, newAccountURL, ErrUnauthorized, ""},
		{"MAC cut", flattened(m[3], m[7], m[11][:20]), macKey, account.Key, newAccountURL, ErrUnauthorized, ""},
		{"MAC of another algorithm", bind(sha512.New, macKey, bindHeader("HS256"), account.jwk()), macKey, account.Key, newAccountURL, ErrUnauthorized, ""},
		{"another kid, same MAC", flattened(b64(strings.Replace(bindHeader("HS256"), "kid-1", "kid-2", 1)), m[7], m[11]), macKey, account.Key, newAccountURL, ErrUnauthorized, "kid-2"},
		{"another payload, same MAC", flattened(m[3], b64(another().jwk()), m[11]), macKey, another().Key, newAccountURL, ErrUnauthorized, ""},
		{"another url", good, macKey, account.Key, newAccountURL + "/", ErrMalformed, "URL"},
		{"another profile's url", good, macKey, account.Key, "https://example.com/acme/profile/x/new-account", ErrMalformed, "URL"},
		{"another account key", good, macKey, another().Key, newAccountURL, ErrMalformed, "not the key that signed"},
		{"no account key", good, macKey, nil, newAccountURL, ErrMalformed, "not the key that signed"},
		{"payload empty", with(""), macKey, account.Key, newAccountURL, ErrMalformed, "not the account key"},
		{"payload no key", with("{}"), macKey, account.Key, newAccountURL, ErrMalformed, "not the account key"},
		{"payload a private key", with(rfc7515P256Key), macKey, account.Key, newAccountURL, ErrMalformed, "private"},
		{"payload the thumbprint", with(`"` + account.Thumbprint() + `"`), macKey, account.Key, newAccountURL, ErrMalformed, "not the account key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := ParseEAB(json.RawMessage(test.raw))
			if err != nil {
				t.Fatal(err)
			}
			wantProblem(t, b.Verify(test.mac, test.account, test.url), test.want, test.detail)
		})
	}
}
