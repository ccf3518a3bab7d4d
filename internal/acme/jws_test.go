package acme

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"
)

const (
	testURL   = "https://example.com/acme/new-order"
	testKid   = "https://example.com/acme/acct/evOfKhNU60wg" // RFC 8555, Section 7.4
	testNonce = "5XJ1L3lEkMG7tR6pA00clA"
)

// kidHeader is a good protected header with a kid.
func kidHeader(alg string) string {
	return fmt.Sprintf(`{"alg":%q,"kid":%q,"nonce":%q,"url":%q}`, alg, testKid, testNonce, testURL)
}

// jwkHeader is a good protected header with a jwk.
func jwkHeader(alg, jwk string) string {
	return fmt.Sprintf(`{"alg":%q,"jwk":%s,"nonce":%q,"url":%q}`, alg, jwk, testNonce, testURL)
}

// TestVerifyVectors checks the signatures of the RFCs' own examples. They have
// no ACME headers, so they enter below ParseJWS.
func TestVerifyVectors(t *testing.T) {
	for _, test := range []struct{ name, alg, jwk, compact string }{
		{"RFC 7515, A.2", "RS256", rfc7515RSAKey, rfc7515RS256},
		{"RFC 7515, A.3", "ES256", rfc7515P256Key, rfc7515ES256},
		{"RFC 7515, A.4", "ES512", rfc7515P521Key, rfc7515ES512},
		{"RFC 8037, A.4", "EdDSA", rfc8037Key, rfc8037EdDSA},
	} {
		t.Run(test.name, func(t *testing.T) {
			key, err := ParseKey([]byte(publicJWK(t, test.jwk)))
			if err != nil {
				t.Fatal(err)
			}
			j := compactJWS(t, test.alg, test.compact)
			payload, err := j.Verify(key)
			if err != nil {
				t.Fatal(err)
			}
			if string(payload) != string(j.payload) {
				t.Errorf("payload is %q", payload)
			}
			for i := range j.signature {
				j.signature[i] ^= 1
				if _, err := j.Verify(key); err == nil {
					t.Fatalf("verifies with byte %d of the signature changed", i)
				}
				j.signature[i] ^= 1
			}
			j.signed[0] ^= 1
			_, err = j.Verify(key)
			wantProblem(t, err, ErrMalformed, "JWS verification error")
		})
	}
}

func compactJWS(t *testing.T, alg, compact string) *JWS {
	t.Helper()
	i := strings.LastIndexByte(compact, '.')
	signature, err := base64.RawURLEncoding.DecodeString(compact[i+1:])
	if err != nil {
		t.Fatal(err)
	}
	return &JWS{Algorithm: alg, envelope: envelope{signed: []byte(compact[:i]), signature: signature, payload: []byte{}}}
}

// TestParseJWS reads what go-jose signs, as an independent writer.
func TestParseJWS(t *testing.T) {
	for alg, s := range signers() {
		for _, embed := range []bool{true, false} {
			for _, payload := range []string{"", `{"identifiers":[{"type":"dns","value":"www.example.org"}]}`} {
				t.Run(fmt.Sprintf("%s/jwk=%v/%d", alg, embed, len(payload)), func(t *testing.T) {
					body := joseSign(t, s, alg, embed, payload)
					j, err := ParseJWS([]byte(body))
					if err != nil {
						t.Fatal(err)
					}
					if j.Algorithm != alg || j.Nonce != testNonce || j.URL != testURL {
						t.Errorf("header is %q, %q, %q", j.Algorithm, j.Nonce, j.URL)
					}
					if embed && (j.KeyID != "" || !j.Key.Equal(s.Key)) {
						t.Errorf("kid %q, jwk %v", j.KeyID, j.Key)
					}
					if !embed && (j.KeyID != testKid || j.Key != nil) {
						t.Errorf("kid %q, jwk %v", j.KeyID, j.Key)
					}
					if err := j.CheckURL(testURL); err != nil {
						t.Error(err)
					}
					got, err := j.Verify(s.Key)
					if err != nil || string(got) != payload {
						t.Errorf("payload is %q, %v", got, err)
					}
				})
			}
		}
	}
}

type fixedNonce string

func (n fixedNonce) Nonce() (string, error) { return string(n), nil }

func joseSign(t *testing.T, s signer, alg string, embed bool, payload string) string {
	t.Helper()
	key := jose.JSONWebKey{Key: s.private, KeyID: testKid}
	if embed {
		key.KeyID = ""
	}
	options := (&jose.SignerOptions{EmbedJWK: embed, NonceSource: fixedNonce(testNonce)}).WithHeader("url", testURL)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	object, err := signer.Sign([]byte(payload))
	if err != nil {
		t.Fatal(err)
	}
	return object.FullSerialize()
}

// TestParseJWSRefuses has every body that RFC 8555, Section 6.2 forbids.
func TestParseJWSRefuses(t *testing.T) {
	s := signers()["ES256"]
	header := kidHeader("ES256")
	good := s.jws(header, "{}")
	// with changes one thing of the good body, and only that.
	with := func(old, new string) string {
		if strings.Count(good, old) != 1 {
			t.Fatalf("%q is not once in %s", old, good)
		}
		return strings.Replace(good, old, new, 1)
	}
	head := func(h string) string { return s.jws(h, "{}") }
	rest := `"nonce":"` + testNonce + `","url":"` + testURL + `"`
	kid := `"kid":"` + testKid + `"`
	p256 := s.jwk()
	deep := strings.Repeat("[", 200) + strings.Repeat("]", 200)

	tests := []struct {
		name   string
		body   string
		want   ErrorType
		detail string
	}{
		// The envelope.
		{"empty", "", ErrMalformed, "not a JSON object"},
		{"not JSON", "hello", ErrMalformed, "not a JSON object"},
		{"null", "null", ErrMalformed, "not a JSON object"},
		{"array", "[" + good + "]", ErrMalformed, "not a JSON object"},
		{"string", `"` + b64("x") + `"`, ErrMalformed, "not a JSON object"},
		{"compact form", rfc7515ES256, ErrMalformed, "not a JSON object"},
		{"cut short", good[:len(good)-1], ErrMalformed, "not valid JSON"},
		{"trailing JSON", good + "{}", ErrMalformed, "after its JSON object"},
		{"trailing brace", good + "}", ErrMalformed, "after its JSON object"},
		{"trailing NUL", good + "\x00", ErrMalformed, "after its JSON object"},
		{"trailing comma", strings.TrimSuffix(good, "}") + ",}", ErrMalformed, "not valid JSON"},
		{"byte order mark", "\ufeff" + good, ErrMalformed, "not a JSON object"},
		{"invalid UTF-8", with(`"protected"`, "\"\xff\":1,\"protected\""), ErrMalformed, "UTF-8"},
		{"control character", with(`"payload":"`, "\"payload\":\"\n"), ErrMalformed, "not valid JSON"},
		{"bad escape", with(`"payload":"`, `"payload":"\x`), ErrMalformed, "not valid JSON"},
		{"duplicate payload", with(`"payload"`, `"payload":"","payload"`), ErrMalformed, "twice"},
		{"duplicate protected", with(`"payload"`, `"protected":"","payload"`), ErrMalformed, "twice"},
		{"duplicate, one escaped", with(`"payload"`, `"p\u0061yload":"","payload"`), ErrMalformed, "twice"},
		{"unprotected header", with(`"payload"`, `"header":{"kid":"x"},"payload"`), ErrMalformed, "unprotected header"},
		{"empty unprotected header", with(`"payload"`, `"header":{},"payload"`), ErrMalformed, "unprotected header"},
		{"null unprotected header", with(`"payload"`, `"header":null,"payload"`), ErrMalformed, "unprotected header"},
		{"several signatures", `{"payload":"e30","signatures":[{"protected":"` + b64(header) + `","signature":""}]}`, ErrMalformed, "one signature only"},
		{"flattened and several signatures", with(`"payload"`, `"signatures":[],"payload"`), ErrMalformed, "one signature only"},
		{"unknown member", with(`"payload"`, `"extra":1,"payload"`), ErrMalformed, `"extra"`},
		{"member in capitals", with(`"payload"`, `"Payload"`), ErrMalformed, `"Payload"`},
		{"deep nesting", with(`"payload"`, `"extra":`+deep+`,"payload"`), ErrMalformed, "nested deeper"},
		{"very deep nesting", with(`"payload"`, `"extra":`+strings.Repeat(`{"a":`, 1<<16)), ErrMalformed, "nested deeper"},
		{"payload detached", with(`"payload":"e30",`, ``), ErrMalformed, "lacks"},
		{"payload null", with(`"payload":"e30"`, `"payload":null`), ErrMalformed, "not a string"},
		{"payload object", with(`"payload":"e30"`, `"payload":{}`), ErrMalformed, "not a string"},
		{"payload padded", with(`"payload":"e30"`, `"payload":"e30="`), ErrMalformed, "padding"},
		{"payload in plain base64", with(`"payload":"e30"`, `"payload":"+/++"`), ErrMalformed, "base64url"},
		{"payload with a line break", with(`"payload":"e30"`, `"payload":"e3\n0"`), ErrMalformed, "line break"},
		{"payload with stray bits", with(`"payload":"e30"`, `"payload":"e31"`), ErrMalformed, "base64url"},
		{"no protected", `{"payload":"e30","signature":"AAAA"}`, ErrMalformed, "lacks"},
		{"protected empty", flattened("", "e30", "AAAA"), ErrMalformed, "not a JSON object"},
		{"protected null", `{"protected":null,"payload":"e30","signature":"AAAA"}`, ErrMalformed, "not a string"},
		{"protected padded", flattened(b64(header)+"=", "e30", "AAAA"), ErrMalformed, "padding"},
		{"no signature", `{"protected":"` + b64(header) + `","payload":"e30"}`, ErrMalformed, "lacks"},
		{"signature null", `{"protected":"` + b64(header) + `","payload":"e30","signature":null}`, ErrMalformed, "not a string"},
		{"signature padded", flattened(b64(header), "e30", "AA=="), ErrMalformed, "padding"},

		// The protected header.
		{"header not an object", head(`"x"`), ErrMalformed, "not a JSON object"},
		{"header with trailing JSON", head(header + "{}"), ErrMalformed, "after its JSON object"},
		{"header invalid UTF-8", head("{\"alg\":\"ES256\",\"x\":\"\xc3\x28\"," + kid + "," + rest + "}"), ErrMalformed, "UTF-8"},
		{"header deeply nested", head(`{"alg":"ES256","x":` + deep + `,` + kid + `,` + rest + `}`), ErrMalformed, "nested deeper"},
		{"header broken in a member nobody knows", head(`{"alg":"ES256","x":[1,],` + kid + `,` + rest + `}`), ErrMalformed, "not valid JSON"},
		{"duplicate alg", head(`{"alg":"ES256","alg":"none",` + kid + `,` + rest + `}`), ErrMalformed, "twice"},
		{"duplicate url", head(`{"alg":"ES256","url":"x",` + kid + `,` + rest + `}`), ErrMalformed, "twice"},
		{"duplicate kid", head(`{"alg":"ES256","kid":"x",` + kid + `,` + rest + `}`), ErrMalformed, "twice"},
		{"too many members", head(`{"alg":"ES256"` + manyMembers(40) + `}`), ErrMalformed, "members"},
		{"crit", head(`{"alg":"ES256","crit":["exp"],` + kid + `,` + rest + `}`), ErrMalformed, "crit"},
		{"crit null", head(`{"alg":"ES256","crit":null,` + kid + `,` + rest + `}`), ErrMalformed, "crit"},
		{"b64 false", head(`{"alg":"ES256","b64":false,` + kid + `,` + rest + `}`), ErrMalformed, "b64"},
		{"b64 false with crit", head(`{"alg":"ES256","b64":false,"crit":["b64"],` + kid + `,` + rest + `}`), ErrMalformed, "b64"},
		{"no alg", head(`{` + kid + `,` + rest + `}`), ErrMalformed, "no alg"},
		{"alg null", head(`{"alg":null,` + kid + `,` + rest + `}`), ErrMalformed, "not a string"},
		{"alg a number", head(`{"alg":256,` + kid + `,` + rest + `}`), ErrMalformed, "not a string"},
		{"alg empty", head(`{"alg":"",` + kid + `,` + rest + `}`), ErrMalformed, "no alg"},
		{"alg none", head(kidHeader("none")), ErrBadSignatureAlgorithm, "none"},
		{"alg None", head(kidHeader("None")), ErrBadSignatureAlgorithm, "None"},
		{"alg HS256", head(kidHeader("HS256")), ErrBadSignatureAlgorithm, "HS256"},
		{"alg HS256 with the public key as secret", head(jwkHeader("HS256", `{"kty":"oct","k":"AAAA"}`)), ErrBadSignatureAlgorithm, "HS256"},
		{"alg HS512", head(kidHeader("HS512")), ErrBadSignatureAlgorithm, "HS512"},
		{"alg PS256", head(kidHeader("PS256")), ErrBadSignatureAlgorithm, "PS256"},
		{"alg RS1", head(kidHeader("RS1")), ErrBadSignatureAlgorithm, "RS1"},
		{"alg ES256K", head(kidHeader("ES256K")), ErrBadSignatureAlgorithm, "ES256K"},
		{"alg es256", head(kidHeader("es256")), ErrBadSignatureAlgorithm, "es256"},
		{"alg very long", head(kidHeader(strings.Repeat("A", 1<<16))), ErrBadSignatureAlgorithm, "AAA..."},
		{"nonce null", head(`{"alg":"ES256",` + kid + `,"nonce":null,"url":"` + testURL + `"}`), ErrMalformed, "not a string"},
		{"nonce a number", head(`{"alg":"ES256",` + kid + `,"nonce":1,"url":"` + testURL + `"}`), ErrMalformed, "not a string"},
		{"nonce padded", head(`{"alg":"ES256",` + kid + `,"nonce":"AA==","url":"` + testURL + `"}`), ErrMalformed, "nonce"},
		{"nonce not base64url", head(`{"alg":"ES256",` + kid + `,"nonce":"a.b","url":"` + testURL + `"}`), ErrMalformed, "nonce"},
		{"nonce of impossible length", head(`{"alg":"ES256",` + kid + `,"nonce":"AAAAA","url":"` + testURL + `"}`), ErrMalformed, "nonce"},
		{"url null", head(`{"alg":"ES256",` + kid + `,"nonce":"AAAA","url":null}`), ErrMalformed, "not a string"},
		{"url an array", head(`{"alg":"ES256",` + kid + `,"nonce":"AAAA","url":["x"]}`), ErrMalformed, "not a string"},

		// The key.
		{"neither jwk nor kid", head(`{"alg":"ES256",` + rest + `}`), ErrMalformed, "neither"},
		{"both jwk and kid", head(`{"alg":"ES256","jwk":` + p256 + `,` + kid + `,` + rest + `}`), ErrMalformed, "both"},
		{"both, kid empty", head(`{"alg":"ES256","jwk":` + p256 + `,"kid":"",` + rest + `}`), ErrMalformed, "both"},
		{"kid empty", head(`{"alg":"ES256","kid":"",` + rest + `}`), ErrMalformed, "kid"},
		{"kid null", head(`{"alg":"ES256","kid":null,` + rest + `}`), ErrMalformed, "not a string"},
		{"kid null with jwk", head(`{"alg":"ES256","kid":null,"jwk":` + p256 + `,` + rest + `}`), ErrMalformed, "not a string"},
		{"jwk null", head(jwkHeader("ES256", "null")), ErrMalformed, "not a JSON object"},
		{"jwk null with kid", head(`{"alg":"ES256","jwk":null,` + kid + `,` + rest + `}`), ErrMalformed, "not a JSON object"},
		{"jwk a string", head(jwkHeader("ES256", `"x"`)), ErrMalformed, "not a JSON object"},
		{"jwk empty", head(jwkHeader("ES256", `{}`)), ErrBadPublicKey, "no key type"},
		{"jwk with duplicates", head(jwkHeader("ES256", `{"kty":"EC","kty":"RSA"}`)), ErrBadPublicKey, "twice"},
		{"jwk private", head(jwkHeader("ES256", rfc7515P256Key)), ErrBadPublicKey, "private key"},
		{"jwk symmetric", head(jwkHeader("ES256", rfc7515MACKey)), ErrBadPublicKey, "symmetric"},
		{"RS256 with 512 bits", head(jwkHeader("RS256", rsaJWK(512, "AQAB"))), ErrBadPublicKey, "512 bits"},
		{"RS256 with 1024 bits", head(jwkHeader("RS256", rsaJWK(1024, "AQAB"))), ErrBadPublicKey, "1024 bits"},
		{"ES256 with a P-384 key", head(jwkHeader("ES256", signers()["ES384"].jwk())), ErrBadPublicKey, "ES384"},
		{"RS256 with a P-256 key", head(jwkHeader("RS256", p256)), ErrBadPublicKey, "ES256"},
		{"EdDSA with a P-256 key", head(jwkHeader("EdDSA", p256)), ErrBadPublicKey, "ES256"},
		{"EdDSA with Ed448", head(jwkHeader("EdDSA", `{"kty":"OKP","crv":"Ed448","x":"`+b64(strings.Repeat("x", 57))+`"}`)), ErrBadPublicKey, "Ed448"},
	}
	if j, err := ParseJWS([]byte(good)); err != nil {
		t.Fatal(err)
	} else if _, err := j.Verify(s.Key); err != nil {
		t.Fatal(err)
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			j, err := ParseJWS([]byte(test.body))
			wantProblem(t, err, test.want, test.detail)
			if j != nil {
				t.Error("returns a JWS beside the error")
			}
		})
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":1`, i)
	}
	return b.String()
}

// TestParseJWSAccepts has what is unusual but allowed.
func TestParseJWSAccepts(t *testing.T) {
	s := signers()["ES256"]
	good := s.jws(kidHeader("ES256"), "{}")
	for name, body := range map[string]string{
		"white space":                " \t\r\n" + strings.ReplaceAll(strings.ReplaceAll(good, ":", " : "), ",", "\n,\n") + "\n",
		"escaped slashes":            s.jws(strings.ReplaceAll(kidHeader("ES256"), "/", `\/`), "{}"),
		"escaped member":             strings.Replace(good, "payload", `p\u0061yload`, 1),
		"other header members":       s.jws(`{"typ":"JWT","cty":[{"x":null}],`+kidHeader("ES256")[1:], "{}"),
		"nonce of RFC 8555, 7.4":     s.jws(strings.Replace(kidHeader("ES256"), testNonce, "CGf81JWBsq8QyIgPCi9Q9X", 1), "{}"),
		"payload that is not JSON":   s.jws(kidHeader("ES256"), "\xff\x00"),
		"members in another order":   reorder(good),
		"header with line feeds (A)": s.jws(strings.ReplaceAll(kidHeader("ES256"), ",", ",\r\n "), "{}"),
	} {
		t.Run(name, func(t *testing.T) {
			j, err := ParseJWS([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := j.Verify(s.Key); err != nil {
				t.Error(err)
			}
			if j.KeyID != testKid || j.URL != testURL {
				t.Errorf("kid %q, url %q", j.KeyID, j.URL)
			}
		})
	}
}

func reorder(body string) string {
	m := strings.Split(strings.Trim(body, "{}"), ",")
	return "{" + m[2] + "," + m[1] + "," + m[0] + "}"
}

// TestMissingNonceAndURL: a missing nonce is not for ParseJWS to refuse, since
// its problem is badNonce and no NonceSealer opens "".
func TestMissingNonceAndURL(t *testing.T) {
	s := signers()["ES256"]
	for name, header := range map[string]string{
		"missing": `{"alg":"ES256","kid":"x"}`,
		"empty":   `{"alg":"ES256","kid":"x","nonce":"","url":""}`,
	} {
		j, err := ParseJWS([]byte(s.jws(header, "")))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if j.Nonce != "" {
			t.Errorf("%s: nonce is %q", name, j.Nonce)
		}
		if _, ok := testSealer(0).Open(j.Nonce); ok {
			t.Errorf("%s: the nonce opens", name)
		}
		wantProblem(t, j.CheckURL(testURL), ErrMalformed, "no url")
		wantProblem(t, j.CheckURL(""), ErrMalformed, "no url")
	}
}

func TestCheckURL(t *testing.T) {
	for _, requested := range []string{
		"https://example.com/acme/new-orde",
		"https://example.com/acme/new-order/",
		"https://example.com/acme/new-order?x",
		"https://EXAMPLE.com/acme/new-order",
		"http://example.com/acme/new-order",
		"https://example.com:443/acme/new-order",
		"https://example.com/acme/new%2dorder",
		"",
	} {
		wantProblem(t, (&JWS{URL: testURL}).CheckURL(requested), ErrUnauthorized, testURL)
	}
}

// TestVerifyRefuses has the forgeries that only the account's key uncovers.
func TestVerifyRefuses(t *testing.T) {
	p256 := signers()["ES256"]
	good := p256.jws(kidHeader("ES256"), `{"a":1}`)
	m := strings.Split(good, `"`) // protected, payload, signature at 3, 7, 11
	protected, payload, signature := m[3], m[7], m[11]
	raw, _ := base64.RawURLEncoding.DecodeString(signature)
	zeros := string(make([]byte, 64))

	for _, test := range []struct {
		name string
		body string
		key  *Key
		want ErrorType
	}{
		{"another key", good, another().Key, ErrMalformed},
		{"no key", good, nil, ErrMalformed},
		{"another payload", flattened(protected, b64(`{"a":2}`), signature), p256.Key, ErrMalformed},
		{"payload taken away", flattened(protected, "", signature), p256.Key, ErrMalformed},
		{"another header", flattened(b64(kidHeader("ES256")+" "), payload, signature), p256.Key, ErrMalformed},
		{"signature empty", flattened(protected, payload, ""), p256.Key, ErrMalformed},
		{"signature of zeros", flattened(protected, payload, b64(zeros)), p256.Key, ErrMalformed},
		{"signature too short", flattened(protected, payload, b64(string(raw[:63]))), p256.Key, ErrMalformed},
		{"signature with a zero in front", flattened(protected, payload, b64("\x00"+string(raw))), p256.Key, ErrMalformed},
		{"signature with a zero between r and s", flattened(protected, payload, b64(string(raw[:32])+"\x00"+string(raw[32:]))), p256.Key, ErrMalformed},
		{"signature in DER", flattened(protected, payload, b64(derSignature(t, p256, protected+"."+payload))), p256.Key, ErrMalformed},
		{"signature over the decoded payload", flattened(protected, payload, b64(string(p256.sign(protected+`.{"a":1}`)))), p256.Key, ErrMalformed},
		{"ES384 with a P-256 key", signers()["ES384"].jws(kidHeader("ES384"), "{}"), p256.Key, ErrBadSignatureAlgorithm},
		{"ES256 for a P-384 key", good, signers()["ES384"].Key, ErrBadSignatureAlgorithm},
		{"ES256 for an RSA key", good, signers()["RS256"].Key, ErrBadSignatureAlgorithm},
		{"ES256 for an Ed25519 key", good, signers()["EdDSA"].Key, ErrBadSignatureAlgorithm},
		{"claims ES384, signed by P-256", p256.jws(kidHeader("ES384"), "{}"), p256.Key, ErrBadSignatureAlgorithm},
	} {
		t.Run(test.name, func(t *testing.T) {
			j, err := ParseJWS([]byte(test.body))
			if err != nil {
				t.Fatal(err)
			}
			payload, err := j.Verify(test.key)
			wantProblem(t, err, test.want, "")
			if payload != nil {
				t.Error("returns the payload beside the error")
			}
		})
	}
}

func derSignature(t *testing.T, s signer, signed string) string {
	t.Helper()
	raw := s.sign(signed)
	r, q := raw[:32], raw[32:]
	integer := func(b []byte) string {
		b = []byte(strings.TrimLeft(string(b), "\x00"))
		if b[0] >= 0x80 {
			b = append([]byte{0}, b...)
		}
		return "\x02" + string(rune(len(b))) + string(b)
	}
	body := integer(r) + integer(q)
	return "\x30" + string(rune(len(body))) + body
}

// TestJWSIndependentOfBody: the server reuses the buffer of a body.
func TestJWSIndependentOfBody(t *testing.T) {
	s := signers()["ES256"]
	body := []byte(s.jws(jwkHeader("ES256", s.jwk()), `{"a":1}`))
	j, err := ParseJWS(body)
	if err != nil {
		t.Fatal(err)
	}
	for i := range body {
		body[i] = 'x'
	}
	if payload, err := j.Verify(j.Key); err != nil || string(payload) != `{"a":1}` {
		t.Errorf("%q, %v", payload, err)
	}
}

func TestParseInnerJWS(t *testing.T) {
	s := signers()["ES256"]
	inner := func(extra string) []byte {
		return []byte(s.jws(`{"alg":"ES256","jwk":`+s.jwk()+`,"url":"`+testURL+`"`+extra+`}`, "{}"))
	}
	if j, err := ParseInnerJWS(inner("")); err != nil || j.URL != testURL || j.Nonce != "" {
		t.Errorf("%+v, %v", j, err)
	}
	_, err := ParseInnerJWS(inner(`,"nonce":"AAAA"`))
	wantProblem(t, err, ErrMalformed, "nonce")
	_, err = ParseInnerJWS(inner(`,"nonce":""`))
	wantProblem(t, err, ErrMalformed, "nonce")
	_, err = ParseInnerJWS([]byte(`{}`))
	wantProblem(t, err, ErrMalformed, "lacks")
}

// TestChangedBodies: whatever byte of a signed body is changed, nothing
// verifies that says something else.
func TestChangedBodies(t *testing.T) {
	s := signers()["EdDSA"]
	body := s.jws(kidHeader("EdDSA"), `{"a":1}`)
	rapid.Check(t, func(t *rapid.T) {
		changed := []byte(body)
		i := rapid.IntRange(0, len(body)-1).Draw(t, "at")
		changed[i] = rapid.Byte().Draw(t, "byte")
		j, err := ParseJWS(changed)
		if err != nil {
			return
		}
		payload, err := j.Verify(s.Key)
		if err == nil && (string(payload) != `{"a":1}` || j.KeyID != testKid || j.URL != testURL || j.Nonce != testNonce) {
			t.Fatalf("%s verifies with the payload %q", changed, payload)
		}
	})
}

func FuzzParseJWS(f *testing.F) {
	for alg, s := range signers() {
		f.Add([]byte(s.jws(kidHeader(alg), "{}")))
		f.Add([]byte(s.jws(jwkHeader(alg, s.jwk()), "")))
	}
	f.Add([]byte(`{"protected":"","payload":"","signature":""}`))
	f.Add([]byte(`{"payload":"e30","signatures":[]}`))
	f.Add([]byte(`{"p\u0072otected":"e30","payload":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		j, err := ParseJWS(body)
		if err != nil {
			if _, ok := err.(*Problem); !ok || j != nil {
				t.Fatalf("%v, %T", j, err)
			}
			return
		}
		if (j.Key == nil) == (j.KeyID == "") {
			t.Fatal("not exactly one of key and key id")
		}
		key := signers()["ES256"].Key
		if j.Key != nil {
			key = j.Key
		}
		if payload, err := j.Verify(key); err != nil && payload != nil {
			t.Fatal("payload beside an error")
		}
		// go-jose reads whatever we read. It does not take the key by value,
		// so only the envelope is compared.
		object, err := jose.ParseSignedJSON(string(body), []jose.SignatureAlgorithm{
			jose.ES256, jose.ES384, jose.ES512, jose.RS256, jose.EdDSA})
		if err != nil {
			return
		}
		if got := object.Signatures[0].Protected; got.Algorithm != j.Algorithm || got.KeyID != j.KeyID || got.Nonce != j.Nonce {
			t.Fatalf("go-jose reads %+v, we %+v", got, j)
		}
		if string(object.UnsafePayloadWithoutVerification()) != string(j.payload) {
			t.Fatal("go-jose reads another payload")
		}
	})
}

func BenchmarkParseAndVerify(b *testing.B) {
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		s := signers()[alg]
		body := []byte(s.jws(kidHeader(alg), `{"identifiers":[{"type":"dns","value":"www.example.org"}]}`))
		b.Run(alg+"/parse", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ParseJWS(body); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(alg+"/both", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				j, _ := ParseJWS(body)
				if _, err := j.Verify(s.Key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
