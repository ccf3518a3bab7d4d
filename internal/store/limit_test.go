package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// refusedByLimit checks that an order is refused by a limit and leaves no trace,
// and returns when to come back.
func (w *world) refusedByLimit(t *testing.T, n store.NewOrder) time.Duration {
	t.Helper()
	before := w.Dump(t)
	_, _, err := w.CreateOrder(ctx, n)
	var p *acme.Problem
	if !errors.As(err, &p) || p.Type != acme.ErrRateLimited || p.RetryAfter <= 0 {
		t.Fatalf("got %v, want rateLimited with a time to come back", err)
	}
	if after := w.Dump(t); after != before {
		t.Errorf("the refused order left a trace:\n%s", diff(before, after))
	}
	return p.RetryAfter
}

func TestOrdersPerTime(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		account, other := w.account().ID, w.account().ID
		for range 3 {
			w.place(newTrusted(account))
		}
		for range 5 { // refusals spend nothing
			if again := w.refusedByLimit(t, newTrusted(account)); again != 20*time.Minute {
				t.Errorf("come back in %v, want 20 minutes", again)
			}
		}
		w.place(newTrusted(other))
		w.Advance(20*time.Minute - time.Millisecond)
		if again := w.refusedByLimit(t, newTrusted(account)); again != time.Millisecond {
			t.Errorf("come back in %v, want 1ms", again)
		}
		w.Advance(time.Millisecond)
		w.place(newTrusted(account))
		w.refusedByLimit(t, newTrusted(account))
		w.Store = reopen(t, w.Store) // a stop forgives nothing
		w.refusedByLimit(t, newTrusted(account))
		w.Advance(time.Hour)
		for range 3 {
			w.place(newTrusted(account))
		}
		w.refusedByLimit(t, newTrusted(account))
	}, withLimits(store.Limits{Orders: policy.Limit{Burst: 3, Period: time.Hour}}))
}

func TestOrdersPerTimeUnderLoad(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		account := w.account().ID
		placed := 0
		for _, err := range together(64, func(int) error {
			_, _, err := w.CreateOrder(ctx, newTrusted(account))
			return err
		}) {
			var p *acme.Problem
			if err == nil {
				placed++
			} else if !errors.As(err, &p) || p.Type != acme.ErrRateLimited {
				t.Error(err)
			}
		}
		if placed != 10 {
			t.Errorf("%d orders, want 10", placed)
		}
		w.check(t)
	}, withLimits(store.Limits{Orders: policy.Limit{Burst: 10, Period: time.Hour}}))
}

// An order that is refused for another reason spends nothing of the limit.
func TestARefusedOrderSpendsNothing(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		account := w.account().ID
		stale := newTrusted(account)
		stale.ProfileRevision = 7
		for range 3 {
			if _, _, err := w.CreateOrder(ctx, stale); !errors.Is(err, store.ErrConflict) {
				t.Fatalf("got %v", err)
			}
		}
		w.place(newTrusted(account))
		w.refusedByLimit(t, newTrusted(account))
	}, withLimits(store.Limits{Orders: policy.Limit{Burst: 1, Period: time.Hour}}))
}

// An order counts as open until it is issued, failed, given up or expired.
func TestOpenOrders(t *testing.T) {
	for name, end := range map[string]func(w *world, o *acme.Order, a *acme.Authorization){
		"issued": func(w *world, o *acme.Order, a *acme.Authorization) {
			w.validate(a)
			c := w.claim(o)
			w.ok(w.FinishOrder(ctx, c, []byte("der")))
		},
		"failed": func(w *world, o *acme.Order, a *acme.Authorization) {
			w.validate(a)
			w.ok(w.FailOrder(ctx, w.claim(o), acme.ServerInternal("broken")))
		},
		"not validated": func(w *world, o *acme.Order, a *acme.Authorization) { w.fail(a) },
		"given up":      func(w *world, o *acme.Order, a *acme.Authorization) { w.ok(w.DeactivateAuthorization(ctx, a)) },
		"given up when ready": func(w *world, o *acme.Order, a *acme.Authorization) {
			w.validate(a)
			w.ok(w.DeactivateAuthorization(ctx, a))
		},
		"expired": func(w *world, o *acme.Order, a *acme.Authorization) { w.Advance(30 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) {
				w := worldOf(t, s)
				account := w.account().ID
				n := newChallenged(account, "a.test")
				n.OrderTTL = 30 * time.Minute
				o, authzs := w.place(n)
				for range 2 {
					w.place(newChallenged(account, "b.test"))
				}
				w.refusedByLimit(t, newTrusted(account))
				w.place(newTrusted(w.account().ID))
				end(w, o, &authzs[0])
				w.place(newTrusted(account))
				w.refusedByLimit(t, newTrusted(account))
			}, withLimits(store.Limits{OpenOrders: 3}))
		})
	}
}

func TestATrustedOrderGivenUpIsNotOpen(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		account := w.account().ID
		o, _ := w.place(newTrusted(account))
		w.refusedByLimit(t, newTrusted(account))
		w.ok(w.DeactivateTrustedAuthz(ctx, o, o.AuthzIDs()[0]))
		w.place(newTrusted(account))
	}, withLimits(store.Limits{OpenOrders: 1}))
}

func TestOpenOrdersUnderLoad(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		account := w.account().ID
		placed := 0
		for _, err := range together(32, func(int) error {
			_, _, err := w.CreateOrder(ctx, newTrusted(account))
			return err
		}) {
			if err == nil {
				placed++
			}
		}
		if placed != 5 {
			t.Errorf("%d open orders, want 5", placed)
		}
	}, withLimits(store.Limits{OpenOrders: 5}))
}

// Saying again that one is ready starts nothing, but it is counted: the first
// response and the repeated ones share the challenge's limit.
func TestResponsesAreLimited(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		_, a := w.challenged()
		_, other := w.challenged()
		w.respond(a)
		w.ok(w.CountResponse(ctx, a.ID))
		var p *acme.Problem
		if err := w.CountResponse(ctx, a.ID); !errors.As(err, &p) || p.Type != acme.ErrRateLimited || p.RetryAfter <= 0 {
			t.Errorf("got %v, want rateLimited with the time to wait", err)
		}
		w.ok(w.CountResponse(ctx, other.ID))
	}, withLimits(store.Limits{Responds: policy.Limit{Burst: 2, Period: time.Hour}}))
}
