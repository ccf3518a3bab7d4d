package acmeserver_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// What many requests at once come to: one winner, and no answer that blames the
// server.

// atOnce calls f n times at once.
func atOnce(n int, f func(i int)) {
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	all.Wait()
}

// tally counts answers: "200", or the status with the type of the problem.
type tally struct {
	sync.Mutex
	counts map[string]int
}

func (c *tally) add(e *exchange) {
	c.Lock()
	defer c.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[strings.TrimSpace(fmt.Sprint(e.status, " ", e.problemType()))]++
}

// want asserts how often an answer came, and that nothing but the others given
// came besides.
func (c *tally) want(t *testing.T, n int, answer string, others ...string) {
	t.Helper()
	rest := 0
	for _, other := range others {
		rest += c.counts[other]
	}
	total := 0
	for _, count := range c.counts {
		total += count
	}
	if c.counts[answer] != n || n+rest != total {
		t.Errorf("answers %v, want %s %d times and otherwise only %q", c.counts, answer, n, others)
	}
}

const oneName = `{"identifiers":[{"type":"dns","value":"a.test"}]}`

func (c *wire) order(a *actor, payload string) *exchange {
	c.t.Helper()
	e := c.post(a, "/acme/new-order", payload)
	if e.status != http.StatusCreated {
		c.t.Fatalf("new-order: %d %s", e.status, e.body)
	}
	return e
}

// csr makes a request with a key of its own.
func csr(t testing.TB, names ...string) string {
	t.Helper()
	return csrWith(t, newKey(t, ""), names...)
}

func csrWith(t testing.TB, key crypto.Signer, names ...string) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"csr":%q}`, b64(der))
}

func TestNonceServesOnce(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	alice := c.account("")
	nonce := c.nonce()
	var got tally
	atOnce(100, func(int) { got.add(c.post(alice, alice.kid, "", "nonce="+nonce)) })
	got.want(t, 1, "200", "400 badNonce")
	c.Check()
}

func TestFinalizeHasOneWinner(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	alice := c.account("")
	t.Run("same CSR", func(t *testing.T) {
		finalize, request := c.order(alice, oneName).text("finalize"), csr(t, "a.test")
		var got tally
		atOnce(32, func(int) { got.add(c.post(alice, finalize, request)) })
		got.want(t, 32, "200")
	})
	t.Run("other CSRs", func(t *testing.T) {
		finalize := c.order(alice, oneName).text("finalize")
		var got tally
		atOnce(32, func(int) { got.add(c.post(alice, finalize, csr(t, "a.test"))) })
		got.want(t, 1, "200", "403 orderNotReady")
	})
	c.Check()
}

func TestKeyChangeHasOneWinner(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	alice := c.account("")
	keys := make([]*actor, 8)
	for i := range keys {
		keys[i] = &actor{key: newKey(t, ""), kid: alice.kid}
	}
	var got tally
	atOnce(len(keys), func(i int) {
		payload := fmt.Sprintf(`{"account":%q,"oldKey":%s}`, alice.kid, jwk(alice.key.Public()))
		inner := newDraft(keys[i].key, "", c.full("/acme/key-change"), "", payload).sealed(t)
		got.add(c.post(alice, "/acme/key-change", inner))
	})
	// A loser is told 409, or, when its key is no longer the account's already, that
	// its signature is wrong.
	got.want(t, 1, "200", "409 malformed", "400 malformed")
	var now tally
	for _, a := range append(keys, alice) {
		now.add(c.post(a, alice.kid, ""))
	}
	now.want(t, 1, "200", "400 malformed")
	c.Check()
}

func TestNewAccountHasOneWinner(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	a := &actor{key: newKey(t, "")}
	var got, places tally
	atOnce(16, func(int) {
		e := c.do(&exchange{method: "POST", to: "/acme/new-account", as: a, byKey: true, payload: "{}"})
		got.add(e)
		places.Lock()
		defer places.Unlock()
		if places.counts == nil {
			places.counts = map[string]int{}
		}
		places.counts[e.header.Get("Location")]++
	})
	got.want(t, 1, "201", "200")
	if len(places.counts) != 1 {
		t.Errorf("one key has the accounts %v", places.counts)
	}
	c.Check()
}

func TestSingleUseEABKeyBindsOneAccount(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	c.ok(c.store.CreateEABKey(ctx, "test", store.EABKey{KeyID: "once", ProfileIDs: []string{"eab"}, AllowedDomains: []string{".test"}}, eabSecret("once")))
	var got tally
	atOnce(8, func(int) {
		a := &actor{key: newKey(t, "")}
		d := &draft{mac: eabSecret("once"), payload: b64([]byte(jwk(a.key.Public())))}
		d.header.add("alg", `"HS256"`)
		d.header.add("kid", `"once"`)
		d.header.add("url", quoted(c.full("/acme/profile/eab/new-account")))
		got.add(c.do(&exchange{method: "POST", to: "/acme/profile/eab/new-account", as: a, byKey: true,
			payload: `{"externalAccountBinding":` + d.sealed(t) + `}`}))
	})
	got.want(t, 1, "201", "403 unauthorized")
	accounts, err := c.store.Accounts(ctx, "", 100)
	c.ok(err)
	if len(accounts) != 1 {
		t.Errorf("%d accounts, want 1: a refused binding leaves none", len(accounts))
	}
	c.Check()
}

// An account that ends while it orders: each request comes before or after.
func TestDeactivationAgainstOrders(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	for range 5 {
		alice := c.account("")
		finalize := c.order(alice, oneName).text("finalize")
		request := csr(t, "a.test")
		var ended, orders, finalized tally
		atOnce(24, func(i int) {
			switch {
			case i < 4:
				ended.add(c.post(alice, alice.kid, `{"status":"deactivated"}`))
			case i < 20:
				orders.add(c.post(alice, "/acme/new-order", oneName))
			default:
				finalized.add(c.post(alice, finalize, request))
			}
		})
		ended.want(t, 1, "200", "401 unauthorized")
		orders.want(t, orders.counts["201"], "201", "401 unauthorized")
		finalized.want(t, finalized.counts["200"], "200", "401 unauthorized", "403 orderNotReady")
	}
	c.Check()
}

// The account ends after the request was let in and before its order is made.
func TestDeactivationWithinNewOrder(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	for _, path := range []string{"/acme/new-order", "/acme/profile/challenge/new-order"} {
		alice := c.account("")
		var once sync.Once
		end := func() {
			if strings.Contains(string(debug.Stack()), ".newOrder(") {
				once.Do(func() {
					c.onNow.Store(nil)
					c.ok(c.store.DeactivateAccount(ctx, "test", alice.kid[strings.LastIndex(alice.kid, "/")+1:]))
				})
			}
		}
		c.onNow.Store(&end)
		if e := c.post(alice, path, oneName); e.status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", path, e.status, e.body)
		}
	}
	c.Check()
}

// All authorizations of a trusted order are given up at once.
func TestDeactivationOfTrustedAuthorizations(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	alice := c.account("")
	order := c.order(alice, `{"identifiers":`+manyNames(20)+`}`)
	var got tally
	atOnce(20, func(i int) {
		got.add(c.post(alice, order.text(fmt.Sprintf("authorizations[%d]", i)), `{"status":"deactivated"}`))
	})
	got.want(t, 20, "200")
	if e := c.post(alice, order.header.Get("Location"), ""); e.text("status") != "invalid" {
		t.Errorf("the order is %s", e.text("status"))
	}
	c.Check()
}

func TestRevocationHasOneWinner(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	alice := c.account("")
	e := c.post(alice, c.order(alice, oneName).text("finalize"), csr(t, "a.test"))
	leaf := c.leaf(c.post(alice, e.text("certificate"), "").body)
	var got tally
	atOnce(16, func(int) {
		got.add(c.post(alice, "/acme/revoke-cert", fmt.Sprintf(`{"certificate":%q,"reason":1}`, b64(leaf.Raw))))
	})
	got.want(t, 1, "200", "400 alreadyRevoked")
	c.Check()
}

// The profile changes all the time while orders are made and finalized under it.
func TestProfileChangesMeanwhile(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	alice := c.account("")
	done := make(chan struct{})
	var changes sync.WaitGroup
	changes.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			case <-time.After(20 * time.Millisecond):
				name := fmt.Sprint("revision ", i)
				c.changeProfile("trust", policy.ProfilePatch{Name: &name})
			}
		}
	})
	var got tally
	atOnce(8, func(int) {
		for range 5 {
			e := c.post(alice, "/acme/new-order", oneName)
			got.add(e)
			if e.status == http.StatusCreated {
				got.add(c.post(alice, e.text("finalize"), csr(t, "a.test")))
			}
		}
	})
	close(done)
	changes.Wait()
	got.want(t, 40, "201", "200")
	c.Check()
}

// A client that hangs up in finalize leaves an order that ends all the same.
func TestClientHangsUp(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	alice := c.account("")
	orders := make([]*exchange, 16)
	for i := range orders {
		orders[i] = c.order(alice, oneName)
	}
	nonces := make([]string, len(orders))
	for i := range nonces {
		nonces[i] = c.nonce()
	}
	atOnce(len(orders), func(i int) {
		to := orders[i].text("finalize")
		body := newDraft(alice.key, alice.kid, to, nonces[i], csr(t, "a.test")).sealed(t)
		short, cancel := context.WithTimeout(ctx, time.Duration(i)*time.Millisecond)
		defer cancel()
		req, err := http.NewRequestWithContext(short, "POST", to, strings.NewReader(body))
		c.ok(err)
		req.Header.Set("Content-Type", "application/jose+json")
		if resp, err := c.client.Do(req); err == nil {
			resp.Body.Close()
		}
	})
	for _, order := range orders {
		status := ""
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if status = c.post(alice, order.header.Get("Location"), "").text("status"); status != "processing" {
				break
			}
		}
		if status != "valid" && status != "ready" {
			t.Errorf("an order is %s", status)
		}
	}
	c.Check()
}

// What is not HTTP as clients speak it reaches nothing, and above all not the next
// request on the connection.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	c := newWire(newWorld(t, settings{}))
	address := c.http.Listener.Addr().String()
	for _, test := range []struct{ name, request, want string }{
		{"plain", "HEAD /acme/new-nonce HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "200"},
		{"absolute form", "GET https://HOST/acme/directory HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", "200"},
		{"absolute form of another", "GET https://evil.example/acme/directory HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "421"},
		{"two hosts", "GET /acme/directory HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\nConnection: close\r\n\r\n", "400"},
		{"no host", "GET /acme/directory HTTP/1.1\r\nConnection: close\r\n\r\n", "400"},
		{"HTTP/1.0 without a host", "GET /acme/directory HTTP/1.0\r\n\r\n", "421"},
		{"two lengths", "POST /acme/new-order HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", "400"},
		{"length and chunks", "POST /acme/new-order HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/jose+json\r\nContent-Length: 4\r\n" +
			"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{}\r\n0\r\n\r\nGET /acme/directory HTTP/1.1\r\nHost: HOST\r\n\r\n", "400"},
		{"unknown coding", "POST /acme/new-order HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
		{"space before the colon", "POST /acme/new-order HTTP/1.1\r\nHost: HOST\r\nContent-Length : 2\r\n\r\n{}", "400"},
		{"authority form", "CONNECT HOST HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "404"},
		{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "200"},
		{"no path", "GET acme/directory HTTP/1.1\r\nHost: HOST\r\n\r\n", "400"},
		{"fragment", "GET /acme/directory#x HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n", "404"},
		{"trailing body is not read", "POST /acme/new-order HTTP/1.1\r\nHost: HOST\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}DELETE / HTTP/1.1\r\n\r\n", "415"},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
			c.ok(err)
			defer conn.Close()
			c.ok(conn.SetDeadline(time.Now().Add(10 * time.Second)))
			_, err = io.WriteString(conn, strings.ReplaceAll(test.request, "HOST", address))
			c.ok(err)
			answer, err := io.ReadAll(bufio.NewReader(conn))
			if len(answer) == 0 {
				t.Fatal(err)
			}
			if n := strings.Count(string(answer), "HTTP/1."); n != 1 {
				t.Errorf("%d answers:\n%s", n, answer)
			}
			if _, status, _ := strings.Cut(string(answer), " "); !strings.HasPrefix(status, test.want) {
				t.Errorf("want status %s:\n%s", test.want, answer)
			}
		})
	}
	c.Check()
}
