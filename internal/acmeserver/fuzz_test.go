package acmeserver_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// target is one kind of request that is valid as it stands.
type target struct {
	to, payload string
	byKey       bool
}

// targets makes one of everything that a URL can name.
func (c *wire) targets(alice *actor) []target {
	c.t.Helper()
	open := c.order(alice, oneName)
	issued := c.post(alice, c.order(alice, oneName).text("finalize"), csr(c.t, "a.test"))
	leaf := c.leaf(c.post(alice, issued.text("certificate"), "").body)
	pending := c.post(alice, "/acme/profile/challenge/new-order", oneName)
	authz := c.post(alice, pending.text("authorizations[0]"), "")
	id := alice.kid[strings.LastIndex(alice.kid, "/")+1:]
	fresh := &actor{key: newKey(c.t, "")}
	change := fmt.Sprintf(`{"account":%q,"oldKey":%s}`, alice.kid, jwk(alice.key.Public()))
	return []target{
		{to: "/acme/directory"},
		{to: "/acme/new-nonce"},
		{to: "/acme/new-account", payload: `{"contact":["mailto:a@x.test"],"termsOfServiceAgreed":true,"onlyReturnExisting":true,"externalAccountBinding":{"protected":"e30","payload":"e30","signature":"AA"}}`, byKey: true},
		{to: "/acme/new-order", payload: fmt.Sprintf(`{"identifiers":[{"type":"dns","value":"a.test"},{"type":"ip","value":"10.0.0.1"}],"notBefore":%q,"notAfter":%q,"profile":"trust"}`,
			c.store.Now().Format(time.RFC3339), c.store.Now().Add(time.Hour).Format(time.RFC3339))},
		{to: "/acme/new-order", payload: fmt.Sprintf(`{"identifiers":[{"type":"dns","value":"a.test"}],"replaces":"%s.%s"}`, b64(leaf.AuthorityKeyId), b64(leaf.SerialNumber.Bytes()))},
		{to: "/acme/profile/challenge/new-order", payload: `{"identifiers":[{"type":"dns","value":"*.a.test","ancestorDomain":"test"}]}`},
		{to: "/acme/profile/challenge/new-authz", payload: `{"identifier":{"type":"dns","value":"a.test","subdomainAuthAllowed":true}}`},
		{to: alice.kid, payload: `{"contact":["mailto:a@x.test"],"status":"valid"}`},
		{to: "/acme/orders/" + id},
		{to: open.header.Get("Location")},
		{to: open.text("authorizations[0]")},
		{to: open.text("finalize"), payload: csr(c.t, "b.test")},
		{to: pending.text("authorizations[0]"), payload: `{"status":"deactivated"}`},
		{to: authz.text("challenges[0].url"), payload: `{}`},
		{to: issued.text("certificate")},
		{to: "/acme/revoke-cert", payload: fmt.Sprintf(`{"certificate":%q,"reason":2}`, b64(leaf.Raw))},
		{to: "/acme/revoke-cert", payload: fmt.Sprintf(`{"certificate":%q,"reason":1}`, b64(leaf.Raw)), byKey: true},
		{to: "/acme/key-change", payload: newDraft(fresh.key, "", c.full("/acme/key-change"), "AAAA", change).sealed(c.t)},
	}
}

// odd are values that have broken readers of JSON, dates, names and base64.
var odd = []string{
	`null`, `true`, `0`, `-1`, `1e400`, `9223372036854775808`, `""`, `" "`, `"\u0000"`, `"\ud800"`, `"%s%n"`, `"'; DROP TABLE orders; --"`,
	`[]`, `{}`, `[null]`, `[[[[]]]]`, `{"":null}`, `"AAAA"`, `"AA=="`, `"A"`, `"-_-_"`, `"0001-01-01T00:00:00Z"`, `"9999-12-31T23:59:60Z"`,
	`"xn--"`, `"*."`, `"::"`, `"mailto:"`, `"` + strings.Repeat("a", 5000) + `"`, strings.Repeat("[", 40) + strings.Repeat("]", 40), `nul`, `"`, `{`,
}

// mutate changes one thing in a text of JSON: a value, a byte, its end, or its
// members.
func mutate(r *rand.Rand, text string) string {
	if text == "" {
		return odd[r.IntN(len(odd))]
	}
	at := r.IntN(len(text))
	switch r.IntN(6) {
	case 0:
		return text[:at] + string(rune(r.IntN(256))) + text[at+1:]
	case 1:
		return text[:at]
	case 2:
		return text[:at] + text[min(len(text), at+1+r.IntN(4)):]
	case 3:
		return text[:at] + text[at:] + text[:at]
	}
	var v any
	if json.Unmarshal([]byte(text), &v) != nil {
		return odd[r.IntN(len(odd))]
	}
	value, err := json.Marshal(replaceOne(r, v))
	if err != nil {
		return text
	}
	return strings.Replace(string(value), `"\u0001odd"`, odd[r.IntN(len(odd))], 1)
}

// replaceOne puts a mark in the place of one value somewhere.
func replaceOne(r *rand.Rand, v any) any {
	switch v := v.(type) {
	case map[string]any:
		if len(v) > 0 && r.IntN(8) > 0 {
			names := make([]string, 0, len(v))
			for name := range v {
				names = append(names, name)
			}
			slices.Sort(names)
			name := names[r.IntN(len(names))]
			v[name] = replaceOne(r, v[name])
			return v
		}
	case []any:
		if len(v) > 0 && r.IntN(8) > 0 {
			i := r.IntN(len(v))
			v[i] = replaceOne(r, v[i])
			return v
		}
	}
	return "\x01odd"
}

// TestMutations sends valid requests with one thing changed: a rightly signed
// payload, the header, the envelope, the path or the method. The wire asserts on
// each answer that nothing of that is the server's fault.
func TestMutations(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	alice := c.account("")
	targets := c.targets(alice)
	r := rand.New(rand.NewPCG(1, 2))
	for range 1500 {
		to := targets[r.IntN(len(targets))]
		e := &exchange{method: "POST", to: to.to, as: alice, byKey: to.byKey, payload: to.payload}
		switch r.IntN(6) {
		case 0, 1, 2:
			e.payload = mutate(r, to.payload)
		case 3:
			c.sendMutatedJWS(r, e)
			continue
		case 4:
			e.forgeries = []string{[]string{"alg", "kid", "jwk", "nonce", "url"}[r.IntN(5)] + "=" + odd[r.IntN(len(odd)-3)]}
		case 5:
			path := strings.TrimPrefix(c.full(to.to), c.http.URL)
			at := 1 + r.IntN(len(path)-1)
			e.to = path[:at] + []string{"/", "//", "%2f", "%00", "%ff", "..", "?", "'", "~", "-1", "x", "%25", ";"}[r.IntN(13)] + path[at+r.IntN(2):]
			e.method = []string{"POST", "POST", "GET", "HEAD", "PATCH"}[r.IntN(5)]
			if e.method != "POST" {
				e.as = nil
			}
		}
		if e := c.do(e); e.status == http.StatusTooManyRequests {
			t.Fatal("a limit hides what is tested")
		}
		if to.to == alice.kid || strings.Contains(to.to, "key-change") {
			if c.post(alice, alice.kid, "").status != http.StatusOK {
				alice = c.account("") // a mutation ended it or gave it another key
				targets = c.targets(alice)
			}
		}
	}
	c.Check()
}

// sendMutatedJWS changes the body after it is signed, or its protected header
// before.
func (c *wire) sendMutatedJWS(r *rand.Rand, e *exchange) {
	c.t.Helper()
	kid := e.as.kid
	if e.byKey {
		kid = ""
	}
	d := newDraft(e.as.key, kid, c.full(e.to), c.nonce(), e.payload)
	body := ""
	if r.IntN(2) == 0 {
		body = mutate(r, d.sealed(c.t))
	} else {
		protected := b64([]byte(mutate(r, d.header.String())))
		signature := sign(c.t, d.key, protected+"."+d.payload, false)
		body = fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, protected, d.payload, b64(signature))
	}
	c.send(e, c.full(e.to), "", "application/jose+json", body)
	c.checkAnswer(e, c.full(e.to), "")
}

// FuzzPayload gives rightly signed payloads to every resource, without a network
// between.
func FuzzPayload(f *testing.F) {
	c := newWire(newWorld(f, settings{}))
	alice := c.account("")
	targets := c.targets(alice)
	for i, to := range targets {
		f.Add(uint8(i), to.payload)
		for _, value := range odd {
			f.Add(uint8(i), value)
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, payload string) {
		to := targets[int(i)%len(targets)]
		if strings.Contains(payload, "deactivated") && to.to == alice.kid {
			return
		}
		kid := alice.kid
		if to.byKey {
			kid = ""
		}
		d := newDraft(alice.key, kid, c.full(to.to), c.store.NewNonce(), payload)
		request := httptest.NewRequest("POST", c.full(to.to), strings.NewReader(d.sealed(t)))
		request.Header.Set("Content-Type", d.contentType)
		answer := httptest.NewRecorder()
		c.http.Config.Handler.ServeHTTP(answer, request)
		if answer.Code >= 500 || answer.Header().Get("Replay-Nonce") == "" || len(c.log.take()) > 0 {
			t.Errorf("%s %q: %d %s", to.to, payload, answer.Code, answer.Body)
		}
	})
}
