package bench

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestSign(t *testing.T) {
	for _, kid := range []string{"", "https://ca.test/acme/account/1"} {
		a := &Account{Key: newKey(t), URL: kid}
		body, err := sign(a, "the-nonce", "https://ca.test/acme/new-order", []byte(`{"a":1}`))
		if err != nil {
			t.Fatal(err)
		}
		jws, err := jose.ParseSignedJSON(string(body), []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		payload, err := jws.Verify(a.Key.Public())
		if err != nil || string(payload) != `{"a":1}` {
			t.Errorf("payload %q, %v", payload, err)
		}
		header := jws.Signatures[0].Protected
		if header.Nonce != "the-nonce" || header.KeyID != kid || header.ExtraHeaders["url"] != "https://ca.test/acme/new-order" {
			t.Errorf("protected header %+v", header)
		}
		if kid == "" && !a.Key.PublicKey.Equal(header.JSONWebKey.Key) {
			t.Error("the header's jwk is not the account's key")
		}
	}
}

func TestThumbprint(t *testing.T) {
	a := &Account{Key: newKey(t)}
	var key jose.JSONWebKey
	if err := json.Unmarshal(a.jwk(), &key); err != nil {
		t.Fatal(err)
	}
	want, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Thumbprint(); got != base64.RawURLEncoding.EncodeToString(want) {
		t.Errorf("%s, want %x", got, want)
	}
}

// ca signs what a test asks for.
type ca struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newCA(t *testing.T) *ca {
	t.Helper()
	c := &ca{t: t, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	c.cert = c.sign(template, template, c.key)
	return c
}

func (c *ca) sign(template, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	c.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

func (c *ca) leaf(key *ecdsa.PrivateKey, notAfter time.Time, names ...string) []byte {
	c.t.Helper()
	cert := c.sign(&x509.Certificate{
		SerialNumber: big.NewInt(0xabc), DNSNames: names, NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, c.cert, key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
}

// TestVerify shows what a driver must not count as issued.
func TestVerify(t *testing.T) {
	own, other := newCA(t), newCA(t)
	roots := x509.NewCertPool()
	roots.AddCert(own.cert)
	key := newKey(t)
	later, earlier := time.Now().Add(time.Minute), time.Now().Add(-time.Minute)
	tests := []struct {
		name  string
		chain []byte
		want  string // "": it holds
	}{
		{"good", own.leaf(key, later, "b.test", "a.test"), ""},
		{"nothing", nil, "the chain is empty"},
		{"no PEM", []byte("certificate"), "no PEM"},
		{"no PEM behind", append(own.leaf(key, later, "a.test", "b.test"), "more"...), "no PEM"},
		{"another key", own.leaf(newKey(t), later, "a.test", "b.test"), "another key"},
		{"a name too few", own.leaf(key, later, "a.test"), `it is for ["a.test"]`},
		{"a name too many", own.leaf(key, later, "a.test", "b.test", "c.test"), `"c.test"`},
		{"expired", own.leaf(key, earlier, "a.test", "b.test"), "expired"},
		{"another root", other.leaf(key, later, "a.test", "b.test"), "unknown authority"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := &Order{Names: []string{"a.test", "b.test"}, Key: key, Chain: tt.chain}
			err := o.verify(roots)
			switch {
			case tt.want == "" && (err != nil || o.Serial != strings.Repeat("0", 29)+"abc"):
				t.Errorf("%v, serial %q", err, o.Serial)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestSerialTwice(t *testing.T) {
	l := &load{serials: make(map[string]bool)}
	orders := []*Order{{Serial: "1", started: time.Now()}, {Serial: "2", started: time.Now()}, {Serial: "1", started: time.Now()}}
	l.checkSerials(orders)
	if orders[0].Err != nil || orders[1].Err != nil || orders[2].Err == nil {
		t.Errorf("%v, %v, %v", orders[0].Err, orders[1].Err, orders[2].Err)
	}
}

func TestReport(t *testing.T) {
	var orders []*Order
	for i := range 100 {
		orders = append(orders, &Order{started: time.Now(), Latency: time.Duration(i+1) * time.Millisecond, Requests: 3})
	}
	now := time.Now()
	orders = append(orders,
		&Order{started: now.Add(time.Second), Requests: 1, Err: &Error{Step: "newOrder", Type: "network", Detail: "second"}},
		&Order{started: now, Requests: 1, Err: &Error{Step: "newOrder", Type: "network", Detail: "first"}},
		&Order{}, // not begun
	)
	var sum tally
	sum.add(orders, 2*time.Second, 50*time.Millisecond)
	got := sum.report(&Config{Clients: 1})
	if got.Orders != 102 || got.Issued != 100 || got.Failed() != 2 || got.Rate != 50 || got.DriverCPUPer1000 != 0.5 {
		t.Errorf("%+v", got)
	}
	if got.Latency != (Latency{P50: 50, P95: 95, P99: 99, Max: 100}) {
		t.Errorf("latency %+v", got.Latency)
	}
	if got.Errors["newOrder network"] != 2 || got.FirstError != "newOrder: network: first" {
		t.Errorf("errors %v, first %q", got.Errors, got.FirstError)
	}
}

func TestRefusal(t *testing.T) {
	err := refusal(403, []byte(`{"type":"urn:ietf:params:acme:error:rejectedIdentifier","detail":"no","subproblems":[{"detail":"a.test"}]}`))
	if err.Error() != "rejectedIdentifier: no; a.test (status 403)" {
		t.Error(err)
	}
	if err := refusal(502, []byte("<html>")); err.Error() != `http: status 502: "<html>"` {
		t.Error(err)
	}
}

func TestParseStat(t *testing.T) {
	u, err := parseStat([]byte("7 (a) b (c)) S 1 7 7 0 -1 4194560 9 0 0 0 100 20 3 4 20 0 8 0 99 5000000 10 1844 1 1\n"))
	if err != nil || u.cpu != 1270*time.Millisecond || u.rss != 10*int64(os.Getpagesize()) {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := parseStat([]byte("7 (a) S 1")); err == nil {
		t.Error("too few fields are taken")
	}
}

func TestResponder(t *testing.T) {
	r, err := newResponder("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	w := httptest.NewRecorder()
	hit := r.answer("token", "token.thumbprint")
	request, err := http.NewRequest(http.MethodGet, "http://a.test/.well-known/acme-challenge/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.ServeHTTP(w, request)
	<-hit
	r.ServeHTTP(w, request) // validated from a second place
	if w.Body.String() != "token.thumbprinttoken.thumbprint" {
		t.Errorf("%q", w.Body)
	}
	r.forget("token")
	w = httptest.NewRecorder()
	r.ServeHTTP(w, request)
	if w.Code != http.StatusNotFound {
		t.Errorf("a token that was forgotten is answered %d", w.Code)
	}
}
