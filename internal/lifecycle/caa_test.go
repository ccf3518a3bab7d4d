package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
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

// many is a trusted order with n names.
func many(id string, n int) *acme.Order {
	o := &acme.Order{ID: id, AccountID: "alice", TrustedAt: time.Now()}
	for i := range n {
		o.Identifiers = append(o.Identifiers, acme.OrderIdentifier{Identifier: acme.Identifier{Type: acme.DNS, Value: fmt.Sprintf("n%d.test", i)}})
	}
	return o
}

var enforced = &policy.Profile{AuthorizationRules: policy.AuthorizationRules{CAA: policy.CAAEnforce}}

// However many orders are finalized at once, resolvers are asked for a bounded
// number of names, and whoever gets no turn in time is told to come again.
func TestCAAChecksAreBounded(t *testing.T) {
	w := newWork(t, 1)
	var asking, most atomic.Int64
	w.life.cfg.CAA.Check = func(context.Context, validate.CAAQuery) (o validate.Outcome) {
		n := asking.Add(1)
		defer asking.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(5 * time.Millisecond)
		return o
	}
	var orders sync.WaitGroup
	for i := range 12 {
		orders.Go(func() {
			if err := w.life.CheckCAA(t.Context(), enforced, many(fmt.Sprint(i), 30), nil); err != nil {
				t.Error(err)
			}
		})
	}
	orders.Wait()
	if m := most.Load(); m > 64 || m <= caaAtOnce {
		t.Errorf("%d names were asked for at once, want %d at most, and more than one order's", m, 64)
	}

	for range cap(w.life.caaSlots) {
		w.life.caaSlots <- struct{}{}
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	var p *acme.Problem
	if err := w.life.CheckCAA(short, enforced, many("late", 30), nil); !errors.As(err, &p) || p.Type != acme.ErrRateLimited || p.RetryAfter == 0 {
		t.Errorf("without a turn: %v", err)
	}
}

// Who finalizes an order a second time while its CAA records are asked for asks no
// one, waits, and is told to look at the order again.
func TestCAAIsAskedOnceAtATimeForAnOrder(t *testing.T) {
	w := newWork(t, 1)
	var asked atomic.Int64
	entered, leave := make(chan bool, 10), make(chan bool)
	w.life.cfg.CAA.Check = func(context.Context, validate.CAAQuery) (o validate.Outcome) {
		asked.Add(1)
		entered <- true
		<-leave
		return o
	}
	check := func(ctx context.Context, id string) <-chan error {
		done := make(chan error, 1)
		go func() { done <- w.life.CheckCAA(ctx, enforced, many(id, 1), nil) }()
		return done
	}
	first := check(t.Context(), "one")
	<-entered
	second, other := check(t.Context(), "one"), check(t.Context(), "two")
	<-entered
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var p *acme.Problem
	select {
	case err := <-check(short, "one"):
		if !errors.As(err, &p) || p.Type != acme.ErrRateLimited {
			t.Errorf("who waits too long: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for ever")
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("%d names were asked for, want one of each order", n)
	}
	close(leave)
	if err := errors.Join(<-first, <-other); err != nil {
		t.Error(err)
	}
	if err := <-second; !errors.Is(err, store.ErrConflict) {
		t.Errorf("the second of an order: %v", err)
	}
	if err := <-check(t.Context(), "one"); err != nil || asked.Load() != 3 || len(w.life.caaRounds.ordered) != 0 {
		t.Errorf("the next of the order: %v, %d names asked for", err, asked.Load())
	}
}
