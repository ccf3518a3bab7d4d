package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/validate"
)

// TestCAAIsAskedOfEveryName: "Issuers MUST verify authorization for all the FQDNs
// and Wildcard Domain Names specified in the request" (RFC 8659, Section 3), each
// with the account and the method that it was validated with (RFC 8657).
func TestCAAIsAskedOfEveryName(t *testing.T) {
	w := newWork(t, 1)
	var mu sync.Mutex
	var asked []string
	forbidden := ""
	w.life.cfg.CAA.Check = func(_ context.Context, q validate.CAAQuery) (o validate.Outcome) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, fmt.Sprint(q.Identifier.Value, q.AccountURLs, q.Methods))
		if q.Identifier.Value == forbidden {
			o.Problem = acme.CAA("no")
		}
		return o
	}
	w.life.cfg.CAA.AccountURLs = func(id string) []string { return []string{"url-of-" + id} }

	now := w.store.Now()
	o := &acme.Order{AccountID: "alice"}
	var authzs []acme.Authorization
	for i, name := range []string{"a.test", "*.a.test", "fresh.test", "stale.test", "below.sub.test"} {
		id := acme.Identifier{Type: acme.DNS, Value: name}
		o.Identifiers = append(o.Identifiers, acme.OrderIdentifier{Identifier: id, AuthzID: fmt.Sprint(i)})
		authzs = append(authzs, acme.Authorization{Identifier: id.Base(), Wildcard: id.Wildcard(), Attempted: acme.DNS01})
	}
	authzs[2].CAACheckedAt = now.Add(-caaFresh + time.Minute)
	authzs[3].CAACheckedAt = now.Add(-caaFresh - time.Minute)
	authzs[4].Identifier.Value, authzs[4].Subdomains, authzs[4].CAACheckedAt = "sub.test", true, now
	o.Identifiers = append(o.Identifiers, acme.OrderIdentifier{Identifier: acme.Identifier{Type: acme.IP, Value: "10.0.0.1"}})
	authzs = append(authzs, acme.Authorization{Identifier: o.Identifiers[5].Identifier, Attempted: acme.HTTP01})
	names := []string{"a.test", "*.a.test", "stale.test", "below.sub.test"}

	ask := func(mode policy.CAAMode, method string, want ...string) error {
		t.Helper()
		asked = nil
		err := w.life.CheckCAA(t.Context(), &policy.Profile{AuthorizationRules: policy.AuthorizationRules{CAA: mode}}, o, authzs)
		for i, name := range want {
			want[i] = name + "[url-of-alice] [" + method + "]"
		}
		slices.Sort(asked)
		slices.Sort(want)
		if !slices.Equal(asked, want) {
			t.Errorf("%s: asked %q, want %q", mode, asked, want)
		}
		return err
	}
	w.ok(ask(policy.CAAEnforce, "dns-01", slices.Clone(names)...))
	for _, forbidden = range names {
		var p *acme.Problem
		if err := ask(policy.CAAEnforce, "dns-01", slices.Clone(names)...); !errors.As(err, &p) || p.Type != acme.ErrCAA {
			t.Errorf("%s is forbidden: %v", forbidden, err)
		}
	}
	w.ok(ask(policy.CAAReport, "dns-01", slices.Clone(names)...))
	w.ok(ask(policy.CAAOff, ""))
	// Of a trusted order all names are asked, whatever was before.
	o.TrustedAt, forbidden = now, ""
	w.ok(ask(policy.CAAEnforce, validate.MethodTrust, append(slices.Clone(names), "fresh.test")...))
}
