package acmeserver_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/certctl/certctl/internal/acme"
)

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// quoted is the JSON string of s.
func quoted(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		return "null"
	}
	return string(text)
}

// actor is who signs requests.
type actor struct {
	key crypto.Signer
	kid string // URL of the account, once there is one
}

// newKey makes a key of a kind that scripts name.
func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case "", "ecdsa", "ecdsa-p256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p224":
		key, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "ecdsa-p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ecdsa-p521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "rsa1024", "rsa2048", "rsa2056", "rsa3072":
		key = rsaKey(t, kind)
	default:
		t.Fatalf("no kind of key is called %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var rsaKeys struct {
	sync.Mutex
	made map[string]*rsa.PrivateKey
}

// rsaKey makes one key of a size for all tests: they are slow to make.
func rsaKey(t testing.TB, kind string) *rsa.PrivateKey {
	t.Helper()
	rsaKeys.Lock()
	defer rsaKeys.Unlock()
	if key := rsaKeys.made[kind]; key != nil {
		return key
	}
	bits := map[string]int{"rsa1024": 1024, "rsa2048": 2048, "rsa2056": 2056, "rsa3072": 3072}[kind]
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	if rsaKeys.made == nil {
		rsaKeys.made = map[string]*rsa.PrivateKey{}
	}
	rsaKeys.made[kind] = key
	return key
}

// jwk writes a public key as a client would, acceptable or not.
func jwk(pub crypto.PublicKey) string {
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":%q}`, b64(pub.N.Bytes()), b64(big.NewInt(int64(pub.E)).Bytes()))
	case *ecdsa.PublicKey:
		point, err := pub.Bytes() // 4, x, y
		if err != nil {
			return "null"
		}
		size := (len(point) - 1) / 2
		return fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q}`, pub.Curve.Params().Name,
			b64(point[1:1+size]), b64(point[1+size:]))
	case ed25519.PublicKey:
		return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q}`, b64(pub))
	}
	return "null"
}

// algorithm is the "alg" of a key, and sign makes its signature (RFC 7518).
func algorithm(key crypto.Signer) (alg string, hash crypto.Hash) {
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		return "RS256", crypto.SHA256
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P384():
			return "ES384", crypto.SHA384
		case elliptic.P521():
			return "ES512", crypto.SHA512
		}
		return "ES256", crypto.SHA256
	}
	return "EdDSA", 0
}

// sign makes a signature as RFC 7518 has it, or one in ASN.1 as X.509 has it.
func sign(t testing.TB, key crypto.Signer, text string, inASN1 bool) []byte {
	t.Helper()
	_, hash := algorithm(key)
	digest := []byte(text)
	if hash != 0 {
		h := hash.New()
		h.Write(digest)
		digest = h.Sum(nil)
	}
	signature, err := key.Sign(rand.Reader, digest, hash)
	if err != nil {
		t.Fatal(err)
	}
	pub, isECDSA := key.Public().(*ecdsa.PublicKey)
	if !isECDSA || inASN1 {
		return signature
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signature, &rs); err != nil {
		t.Fatal(err)
	}
	size := (pub.Curve.Params().BitSize + 7) / 8
	return append(rs.R.FillBytes(make([]byte, size)), rs.S.FillBytes(make([]byte, size))...)
}

// object is a JSON object whose members keep their order and may be there twice.
type object []struct{ name, value string }

func (o *object) add(name, value string) { *o = append(*o, struct{ name, value string }{name, value}) }

func (o *object) drop(name string) {
	*o = slices.DeleteFunc(*o, func(m struct{ name, value string }) bool { return m.name == name })
}

func (o *object) set(name, value string) {
	o.drop(name)
	o.add(name, value)
}

func (o object) String() string {
	members := make([]string, len(o))
	for i, m := range o {
		members[i] = quoted(m.name) + ":" + m.value
	}
	return "{" + strings.Join(members, ",") + "}"
}

// draft is a JWS before it is signed and sent, which forgeries change.
type draft struct {
	header   object
	payload  string // base64url
	key      crypto.Signer
	mac      []byte // sign with this instead
	inASN1   bool
	spoil    func(signature []byte) []byte
	envelope func(o *object) // changes what was signed

	host, contentType string
	body              *string // instead of all this
}

func newDraft(key crypto.Signer, kid, to, nonce, payload string) *draft {
	alg, _ := algorithm(key)
	d := &draft{key: key, payload: b64([]byte(payload)), contentType: "application/jose+json"}
	d.header.add("alg", quoted(alg))
	if kid == "" {
		d.header.add("jwk", jwk(key.Public()))
	} else {
		d.header.add("kid", quoted(kid))
	}
	if nonce != "" {
		d.header.add("nonce", quoted(nonce))
	}
	d.header.add("url", quoted(to))
	return d
}

// String is the JWS.
func (d *draft) sealed(t testing.TB) string {
	t.Helper()
	if d.body != nil {
		return *d.body
	}
	protected := b64([]byte(d.header.String()))
	text := protected + "." + d.payload
	var signature []byte
	if d.mac != nil {
		mac := hmac.New(sha256.New, d.mac)
		mac.Write([]byte(text))
		signature = mac.Sum(nil)
	} else {
		signature = sign(t, d.key, text, d.inASN1)
	}
	if d.spoil != nil {
		signature = d.spoil(signature)
	}
	var o object
	o.add("protected", quoted(protected))
	o.add("payload", quoted(d.payload))
	o.add("signature", quoted(b64(signature)))
	if d.envelope != nil {
		d.envelope(&o)
	}
	return o.String()
}

// exchange is one request with its answer.
type exchange struct {
	method, to string // path or URL
	as         *actor // nil: not signed
	byKey      bool   // with jwk instead of kid
	payload    string
	forgeries  []string

	status int
	header http.Header
	body   []byte
	json   any
}

func (e *exchange) problemType() string {
	o, _ := e.json.(map[string]any)
	kind, _ := o["type"].(string)
	short, _ := strings.CutPrefix(kind, "urn:ietf:params:acme:error:")
	return short
}

// wire speaks to the server of a world, and asserts on each answer what all
// answers have in common.
type wire struct {
	*world
	actors map[string]*actor // by the names that scripts give them

	mu    sync.Mutex
	seen  map[string]bool // nonces that the server gave
	fresh []string        // nonces that were not used
	spent string          // the nonce used last
}

func newWire(w *world) *wire {
	return &wire{world: w, actors: map[string]*actor{}, seen: map[string]bool{}}
}

// full makes a URL of a path.
func (c *wire) full(to string) string {
	if strings.HasPrefix(to, "/") {
		return c.http.URL + to
	}
	return to
}

// nonce takes a nonce of an earlier answer, or asks for one.
func (c *wire) nonce() string {
	c.mu.Lock()
	if n := len(c.fresh); n > 0 {
		nonce := c.fresh[n-1]
		c.fresh, c.spent = c.fresh[:n-1], nonce
		c.mu.Unlock()
		return nonce
	}
	c.mu.Unlock()
	c.do(&exchange{method: "HEAD", to: "/acme/profile/trust/new-nonce"})
	return c.nonce()
}

// do sends a request and reads the answer.
func (c *wire) do(e *exchange) *exchange {
	c.t.Helper()
	to := c.full(e.to)
	host, contentType, body := "", "", ""
	if e.as != nil {
		kid := e.as.kid
		if e.byKey {
			kid = ""
		}
		spent := c.lastSpent()
		d := newDraft(e.as.key, kid, to, c.nonce(), e.payload)
		for _, f := range e.forgeries {
			c.forge(d, f, spent)
		}
		host, contentType, body = d.host, d.contentType, d.sealed(c.t)
	}
	for _, f := range e.forgeries {
		if e.as == nil {
			if h, ok := strings.CutPrefix(f, "host="); ok {
				host = h
			}
		}
	}
	c.send(e, to, host, contentType, body)
	c.checkAnswer(e, to, host)
	return e
}

func (c *wire) send(e *exchange, to, host, contentType, body string) {
	c.t.Helper()
	if rest, ok := strings.CutPrefix(to, otherOrigin); ok && host == "" {
		to, host = c.http.URL+rest, strings.TrimPrefix(otherOrigin, "https://")
	}
	req, err := http.NewRequestWithContext(ctx, e.method, to, strings.NewReader(body))
	c.ok(err)
	req.Host = host
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.client.Do(req)
	c.ok(err)
	defer resp.Body.Close()
	e.status, e.header = resp.StatusCode, resp.Header
	e.body, err = io.ReadAll(resp.Body)
	c.ok(err)
	e.json = nil
	if len(e.body) > 0 && strings.Contains(resp.Header.Get("Content-Type"), "json") {
		c.ok(json.Unmarshal(e.body, &e.json))
	}
}

func (c *wire) lastSpent() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spent
}

// checkAnswer asserts what RFC 8555 asks of every answer, and DESIGN.md besides.
func (c *wire) checkAnswer(e *exchange, to, host string) {
	c.t.Helper()
	name := fmt.Sprintf("%s %s: %d", e.method, e.to, e.status)
	nonce := e.header.Get("Replay-Nonce")
	c.mu.Lock()
	if nonce != "" && c.seen[nonce] {
		c.t.Errorf("%s: the nonce was given before", name)
	}
	if nonce != "" {
		c.seen[nonce] = true
		c.fresh = append(c.fresh, nonce)
	}
	c.mu.Unlock()
	cacheable := strings.Contains(to, "/renewal-info/") && e.status == http.StatusOK
	if cache := e.header.Get("Cache-Control"); cacheable && (nonce != "" || !strings.HasPrefix(cache, "public, max-age=")) || !cacheable && cache != "no-store" {
		c.t.Errorf("%s: Cache-Control %q, Replay-Nonce %q", name, cache, nonce)
	}
	isDirectory := strings.HasSuffix(to, "/directory")
	failed := e.status >= 400
	if nonce == "" && (failed || e.method == "POST" || strings.HasSuffix(to, "/new-nonce")) {
		c.t.Errorf("%s: no Replay-Nonce", name)
	}
	hasIndex := slices.ContainsFunc(e.header.Values("Link"), func(l string) bool { return strings.HasSuffix(l, `/directory>;rel="index"`) })
	if !hasIndex && !isDirectory && e.status != http.StatusMisdirectedRequest {
		c.t.Errorf("%s: Link %q, none of them the index", name, e.header.Values("Link"))
	}
	if failed && e.method != "HEAD" {
		o, _ := e.json.(map[string]any)
		if e.header.Get("Content-Type") != "application/problem+json" || e.problemType() == "" || o["status"] != float64(e.status) || o["detail"] == "" {
			c.t.Errorf("%s: %s is not the problem: %s", name, e.header.Get("Content-Type"), e.body)
		}
	}
	if e.problemType() == "serverInternal" || e.status >= 500 {
		c.t.Errorf("%s: %s", name, e.body)
	}
	covered.add(e, to)
}

// forge changes a draft as a line of a script says: NAME or NAME=VALUE.
func (c *wire) forge(d *draft, line, spent string) {
	c.t.Helper()
	name, value, _ := strings.Cut(line, "=")
	forgery, ok := forgeries[name]
	switch {
	case ok:
		forgery(d, value)
	case name == "url" && value != "none":
		d.header.set("url", quoted(c.full(value)))
	case name == "nonce" && value == "reuse":
		d.header.set("nonce", quoted(spent))
	case name == "key":
		d.key = c.actor(value).key
		alg, _ := algorithm(d.key)
		d.header.set("alg", quoted(alg))
	case name == "kid+jwk":
		d.header.add("jwk", jwk(d.key.Public()))
	default:
		applyMember(c.t, d, name, value)
	}
}

// actor is the one that a forgery names.
func (c *wire) actor(name string) *actor {
	a, ok := c.actors[name]
	if !ok {
		c.t.Fatalf("nobody is called %q", name)
	}
	return a
}

// applyMember sets a member of the protected header: "none" removes it, what looks
// like JSON other than a string is taken as it is.
func applyMember(t testing.TB, d *draft, name, value string) {
	t.Helper()
	switch {
	case !slices.Contains([]string{"alg", "kid", "jwk", "nonce", "url"}, name):
		t.Fatalf("no forgery is called %q", name)
	case value == "none":
		d.header.drop(name)
	case value == "null", strings.HasPrefix(value, "{"), strings.HasPrefix(value, "["), strings.HasPrefix(value, `"`):
		d.header.set(name, value)
	default:
		d.header.set(name, quoted(value))
	}
}

// forgeries are the ways to get a JWS wrong, beside wrong values in its header.
var forgeries = map[string]func(d *draft, value string){
	"badsig":   func(d *draft, _ string) { d.spoil = func(s []byte) []byte { s[len(s)/2] ^= 1; return s } },
	"nosig":    func(d *draft, _ string) { d.spoil = func([]byte) []byte { return nil } },
	"shortsig": func(d *draft, _ string) { d.spoil = func(s []byte) []byte { return s[:len(s)-1] } },
	"zerosig":  func(d *draft, _ string) { d.spoil = func(s []byte) []byte { return make([]byte, len(s)) } },
	"asn1sig":  func(d *draft, _ string) { d.inASN1 = true },
	// A MAC whose key is the public key, which everybody knows.
	"mac": func(d *draft, _ string) {
		d.mac = []byte(jwk(d.key.Public()))
		d.header.set("alg", `"HS256"`)
	},
	"crit":          func(d *draft, value string) { d.header.add("crit", `["`+value+`"]`) },
	"b64":           func(d *draft, _ string) { d.header.add("b64", "false") },
	"duplicate-alg": func(d *draft, _ string) { d.header.add("alg", `"none"`) },
	"duplicate-url": func(d *draft, _ string) { d.header.add("url", `"https://evil.example/"`) },
	"unprotected":   inEnvelope(func(o *object) { o.add("header", `{"nonce":"x"}`) }),
	"two-signatures": inEnvelope(func(o *object) {
		one := fmt.Sprintf(`{"protected":%s,"signature":%s}`, (*o)[0].value, (*o)[2].value)
		o.drop("protected")
		o.drop("signature")
		o.add("signatures", "["+one+","+one+"]")
	}),
	"signatures":        inEnvelope(func(o *object) { o.add("signatures", "[]") }),
	"detached":          inEnvelope(func(o *object) { o.drop("payload") }),
	"null-payload":      inEnvelope(func(o *object) { o.set("payload", "null") }),
	"duplicate-payload": inEnvelope(func(o *object) { o.add("payload", `"e30"`) }),
	"extra-member":      inEnvelope(func(o *object) { o.add("extra", "1") }),
	"no-protected":      inEnvelope(func(o *object) { o.drop("protected") }),
	"array":             func(d *draft, _ string) { d.body = new("[]") },
	"nested": func(d *draft, _ string) {
		d.body = new(strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000))
	},
	"empty":     func(d *draft, _ string) { d.body = new("") },
	"huge":      func(d *draft, _ string) { d.body = new(strings.Repeat(" ", 256<<10+1)) },
	"padding":   func(d *draft, _ string) { d.payload += "=" },
	"linebreak": func(d *draft, _ string) { d.payload = d.payload[:2] + "\n" + d.payload[2:] },
	"payload":   func(d *draft, value string) { d.payload = value },
	"compact":   func(d *draft, _ string) { d.body = new(b64([]byte(d.header.String())) + "." + d.payload + ".AAAA") },
	"type":      func(d *draft, value string) { d.contentType = value },
	"host":      func(d *draft, value string) { d.host = value },
}

func inEnvelope(change func(o *object)) func(*draft, string) {
	return func(d *draft, _ string) { d.envelope = change }
}

// covered remembers which resources answered how, for all tests together.
var covered = coverage{seen: map[string]bool{}}

type coverage struct {
	sync.Mutex
	seen map[string]bool // "order ok", "order failed", "problem badCSR", "status 405"
}

func (c *coverage) add(e *exchange, to string) {
	c.Lock()
	defer c.Unlock()
	c.seen[fmt.Sprintf("status %d", e.status)] = true
	if e.status >= 400 {
		c.seen["problem "+e.problemType()] = true
	}
	outcome := " ok"
	if e.status >= 400 {
		outcome = " failed"
	}
	u, err := url.Parse(to)
	if err != nil {
		return
	}
	parts := strings.Split(strings.TrimPrefix(u.Path, "/acme/"), "/")
	if parts[0] == "profile" && len(parts) > 2 {
		parts = parts[2:]
	}
	c.seen[parts[0]+outcome] = true
	c.problems(e.json)
}

// problems notes the types of problems inside of objects.
func (c *coverage) problems(value any) {
	switch value := value.(type) {
	case map[string]any:
		if kind, ok := value["type"].(string); ok {
			if short, ok := strings.CutPrefix(kind, string(acme.ErrMalformed[:len(acme.ErrMalformed)-len("malformed")])); ok {
				c.seen["problem "+short] = true
			}
		}
		for v := range maps.Values(value) {
			c.problems(v)
		}
	case []any:
		for _, v := range value {
			c.problems(v)
		}
	}
}

func (c *coverage) has(what string) bool {
	c.Lock()
	defer c.Unlock()
	return c.seen[what]
}

// account makes an account and fails the test if that is refused.
func (c *wire) account(kind string) *actor {
	c.t.Helper()
	a := &actor{key: newKey(c.t, kind)}
	e := c.do(&exchange{method: "POST", to: "/acme/profile/trust/new-account", as: a, byKey: true, payload: "{}"})
	if e.status != http.StatusCreated {
		c.t.Fatalf("new-account: %d %s", e.status, e.body)
	}
	a.kid = e.header.Get("Location")
	return a
}

// post sends a request as an account.
func (c *wire) post(a *actor, to, payload string, forgeries ...string) *exchange {
	c.t.Helper()
	return c.do(&exchange{method: "POST", to: to, as: a, payload: payload, forgeries: forgeries})
}

// text returns a string in a JSON answer.
func (e *exchange) text(path string) string {
	value, _ := at(e.json, path)
	s, _ := value.(string)
	return s
}
