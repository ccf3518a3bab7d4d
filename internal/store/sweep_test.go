package store_test

import (
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// sweep sweeps until nothing is left to do and returns how much that was.
func (w *world) sweep(grace time.Duration) (removed int) {
	w.t.Helper()
	for range 100 {
		n, err := w.Sweep(ctx, grace)
		w.ok(err)
		if n == 0 {
			return removed
		}
		removed += n
	}
	w.t.Fatalf("the sweep never ends")
	return 0
}

// A sweep removes what was never claimed, a grace time after it ended, and
// nothing else.
func TestSweepRemovesOnlyWhatCanMatterNoMore(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		// What stays: all that was claimed, however it ended, and its authorizations.
		kept := map[string]*acme.Order{}
		issued, a := w.challenged()
		w.validate(a)
		w.ok(w.FinishOrder(ctx, w.claim(issued), []byte("der")))
		kept["issued"] = issued
		failed, a := w.challenged()
		w.validate(a)
		w.ok(w.FailOrder(ctx, w.claim(failed), acme.ServerInternal("broken")))
		kept["failed"] = failed
		claimed, a := w.challenged()
		w.validate(a)
		w.claim(claimed)
		kept["claimed"] = claimed
		// What goes: what ended without a claim.
		gone := map[string]*acme.Order{"trusted": w.trusted()}
		gone["pending"], _ = w.challenged()
		gone["not validated"], a = w.challenged()
		w.fail(a)
		gone["ready"], a = w.challenged()
		w.ok(w.FinishValidation(ctx, w.respond(a), nil, time.Hour, nil))
		gone["given up"], a = w.challenged()
		w.ok(w.DeactivateAuthorization(ctx, a))
		// What goes later: an order whose authorization is still good for others.
		reusable, long := w.challenged()
		w.ok(w.FinishValidation(ctx, w.respond(long), nil, 48*time.Hour, nil))
		open := w.account().ID
		events := len(s.Rows(t, `SELECT id FROM audit_events`))

		w.Advance(3 * time.Hour) // they ended two hours ago
		fresh, _ := w.place(newChallenged(open, "a.test"))
		events++
		limits := len(s.Rows(t, `SELECT key FROM rate_limits`))
		if n := w.sweep(2*time.Hour + time.Second); n != limits-1 {
			t.Errorf("within the grace time %d rows went, want %d limits that are full again", n, limits-1)
		}
		w.sweep(2*time.Hour - time.Second)
		for name, o := range kept {
			if _, authzs, err := s.Order(ctx, o.ID); err != nil || len(authzs) != 1 {
				t.Errorf("the %s order: %v, %d authorizations", name, err, len(authzs))
			}
		}
		if _, _, err := s.Order(ctx, fresh.ID); err != nil {
			t.Errorf("the fresh order: %v", err)
		}
		for name, o := range gone {
			if n := len(s.Rows(t, `SELECT id FROM orders WHERE id = $1`, o.ID)) + len(s.Rows(t, `SELECT id FROM authorizations WHERE order_id = $1`, o.ID)); n != 0 {
				t.Errorf("of the %s order %d rows are left", name, n)
			}
		}
		if a, err := s.Authorization(ctx, long.ID); err != nil || a.Status(s.Now()) != acme.StatusValid {
			t.Errorf("the valid authorization: %+v, %v", a, err)
		}
		w.refusedByLimit(t, newTrusted(open))
		w.Advance(50 * time.Hour)
		w.sweep(time.Second)
		if n := len(s.Rows(t, `SELECT id FROM authorizations WHERE order_id = $1`, reusable.ID)); n != 0 {
			t.Error("the authorization outlives its time")
		}
		if n := len(s.Rows(t, `SELECT id FROM audit_events`)); n != events {
			t.Errorf("%d events, want %d: the log is never swept", n, events)
		}
		w.check(t)
		if n := len(s.Rows(t, `SELECT serial FROM certificates`)); n != 1 {
			t.Errorf("%d certificates, want 1", n)
		}
	}, withLimits(store.Limits{Orders: policy.Limit{Burst: 1, Period: time.Hour}}))
}

func TestSweepIsBounded(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		account := w.account().ID
		for _, err := range together(600, func(int) error {
			_, _, err := w.CreateOrder(ctx, newChallenged(account, "a.test"))
			return err
		}) {
			w.ok(err)
		}
		w.Advance(3 * time.Hour)
		n, err := w.Sweep(ctx, time.Hour)
		w.ok(err)
		if n == 0 || n > 1000 {
			t.Errorf("one step removed %d rows", n)
		}
		if n += w.sweep(time.Hour); n != 1200 {
			t.Errorf("%d rows went, want 600 orders and 600 authorizations", n)
		}
	})
}
