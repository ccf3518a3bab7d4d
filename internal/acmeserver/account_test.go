package acmeserver_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acmeserver"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// One holder's addresses are one source, in whatever form the connection has them.
func TestSourceOfNewAccounts(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:443":                "192.0.2.7/32",
		"[::ffff:192.0.2.7]:443":       "192.0.2.7/32",
		"[2001:db8:1:2::7]:443":        "2001:db8:1:2::/64",
		"[2001:db8:1:2:ffff::1]:50000": "2001:db8:1:2::/64",
		"[fe80::1%eth0]:443":           "fe80::/64",
		"":                             "invalid Prefix",
		"@":                            "invalid Prefix",
	} {
		if got := acmeserver.Source(remote).String(); got != want {
			t.Errorf("%q: %s, want %s", remote, got, want)
		}
	}
}

// New accounts are limited by where the connection comes from; what a header says
// about it changes nothing.
func TestNewAccountsAreLimitedByConnection(t *testing.T) {
	w := newWorld(t, settings{limits: store.Limits{NewAccounts: policy.Limit{Burst: 2, Period: time.Hour}}})
	inner := w.http.Config.Handler
	var remote atomic.Value
	var asked atomic.Int64
	w.http.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		r.RemoteAddr = remote.Load().(string)
		liar := fmt.Sprintf("198.51.100.%d", asked.Add(1))
		for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "True-Client-Ip"} {
			r.Header.Set(name, liar)
		}
		r.Header.Set("Forwarded", "for="+liar)
		inner.ServeHTTP(rw, r)
	})
	c := newWire(w)
	for _, from := range [][]string{
		{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3"},
		{"192.0.2.2:1", "192.0.2.2:1", "192.0.2.2:1"},
		{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1"},
		{"[2001:db8:0:1::1]:1", "[2001:db8:0:1::1]:1", "[2001:db8:0:1::1]:1"},
	} {
		for i, addr := range from {
			remote.Store(addr)
			e := c.do(&exchange{method: "POST", to: "/acme/new-account", as: &actor{key: newKey(t, "")}, byKey: true, payload: "{}"})
			if want := []int{201, 201, 429}[i]; e.status != want {
				t.Errorf("from %s: %d, want %d: %s", addr, e.status, want, e.body)
			}
		}
	}
}
