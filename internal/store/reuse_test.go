package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// An authorization serves another order only when it was validated lately, for
// this account, profile, name and wildcard-ness, by a challenge that is still
// offered.
func TestAnAuthorizationIsUsedAgainOnlyForWhatItWasMadeFor(t *testing.T) {
	for name, test := range map[string]struct {
		made   func(w *world, n *store.NewOrder) // changes the order that the authorization is made for
		then   func(w *world, a *acme.Authorization)
		wanted func(w *world, n *store.NewOrder) // changes the order that would use it again
		reused bool
	}{
		"the same":        {reused: true},
		"another account": {wanted: func(w *world, n *store.NewOrder) { n.AccountID = w.account().ID }},
		"another profile": {wanted: func(w *world, n *store.NewOrder) {
			w.profile("other", policy.Challenge)
			n.ProfileID = "other"
		}},
		"another name":           {wanted: named("b.test", false)},
		"a wildcard":             {wanted: named("*.a.test", false)},
		"a wildcard's":           {made: named("*.a.test", false)},
		"no reuse":               {wanted: func(w *world, n *store.NewOrder) { n.ReuseFor = 0 }},
		"validated too long ago": {then: func(w *world, a *acme.Authorization) { w.Advance(30 * time.Minute) }},
		"validated just lately":  {then: func(w *world, a *acme.Authorization) { w.Advance(30*time.Minute - time.Millisecond) }, reused: true},
		"soon to expire": {then: func(w *world, a *acme.Authorization) { w.Advance(50 * time.Minute) },
			wanted: func(w *world, n *store.NewOrder) { n.ReuseFor = 2 * time.Hour }},
		"given up":                            {then: func(w *world, a *acme.Authorization) { w.ok(w.DeactivateAuthorization(ctx, a)) }},
		"a challenge that is offered no more": {wanted: func(w *world, n *store.NewOrder) { n.Authorizations[0].Offered = []acme.ChallengeType{"dns-01"} }},
		"one of several challenges": {wanted: func(w *world, n *store.NewOrder) {
			n.Authorizations[0].Offered = []acme.ChallengeType{"dns-01", acme.HTTP01}
		}, reused: true},
		"a name below, not made for subdomains": {wanted: named("x.a.test", false)},
		"a name below, made for subdomains":     {made: named("a.test", true), wanted: named("x.a.test", false), reused: true},
		"a name above, made for subdomains":     {made: named("x.a.test", true)},
		"subdomains wanted, not made for them":  {wanted: named("a.test", true)},
		"subdomains wanted, made for them":      {made: named("a.test", true), wanted: named("a.test", true), reused: true},
		"a name beside that ends alike":         {made: named("a.test", true), wanted: named("ba.test", false)},
		"a wildcard below, made for subdomains": {made: named("a.test", true), wanted: named("*.x.a.test", false)},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) {
				w := worldOf(t, s)
				account := w.account().ID
				order := func(change func(*world, *store.NewOrder)) store.NewOrder {
					n := newChallenged(account, "a.test")
					n.ReuseFor = 30 * time.Minute
					if change != nil {
						change(w, &n)
					}
					return n
				}
				_, made := w.place(order(test.made))
				w.validate(&made[0])
				if test.then != nil {
					test.then(w, &made[0])
				}
				o, authzs := w.place(order(test.wanted))
				if reused := authzs[0].ID == made[0].ID; reused != test.reused {
					t.Errorf("used again: %v, want %v", reused, test.reused)
				}
				want := acme.StatusPending
				if test.reused {
					want = acme.StatusReady
				}
				if got := w.orderStatus(o.ID); got != want {
					t.Errorf("the order is %s, want %s", got, want)
				}
				if err := w.ClaimOrder(ctx, newClaim(o), time.Minute); (err == nil) != test.reused {
					t.Errorf("its claim: %v", err)
				}
			})
		})
	}
}

// named makes an order one for another name, authorized by that name itself.
func named(name string, subdomains bool) func(*world, *store.NewOrder) {
	return func(_ *world, n *store.NewOrder) {
		n.Identifiers[0] = dns(name)
		z := &n.Authorizations[0]
		z.Identifier, z.Wildcard, z.Subdomains = dns(name).Base(), dns(name).Wildcard(), subdomains
		z.Covering = nil
		for above := z.Identifier.Value; above != ""; _, above, _ = strings.Cut(above, ".") {
			z.Covering = append(z.Covering, above)
		}
	}
}

// An authorization that does not cover its identifier is never recorded.
func TestAnAuthorizationForAnotherNameIsRefused(t *testing.T) {
	for name, change := range map[string]func(n *store.NewOrder){
		"another name": func(n *store.NewOrder) { n.Authorizations[0].Identifier = dns("b.test") },
		"a name above": func(n *store.NewOrder) { n.Authorizations[0].Identifier = dns("test") },
		"a wildcard":   func(n *store.NewOrder) { n.Authorizations[0].Wildcard = true },
		"a name below, with subdomains": func(n *store.NewOrder) {
			n.Authorizations[0].Identifier, n.Authorizations[0].Subdomains = dns("x.a.test"), true
		},
		"a name that ends alike, with subdomains": func(n *store.NewOrder) {
			n.Identifiers[0], n.Authorizations[0].Subdomains = dns("ba.test"), true
		},
		"an address for a name": func(n *store.NewOrder) { n.Authorizations[0].Identifier.Type = acme.IP },
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) {
				w := worldOf(t, s)
				n := newChallenged(w.account().ID, "a.test")
				change(&n)
				before := w.Dump(t)
				if _, _, err := w.CreateOrder(ctx, n); err == nil {
					t.Error("it was recorded")
				}
				if after := w.Dump(t); after != before {
					t.Errorf("it left a trace:\n%s", diff(before, after))
				}
			})
		})
	}
}

// One that is given up ends every order that it served.
func TestGivingUpASharedAuthorization(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		n := newChallenged(w.account().ID, "a.test")
		n.ReuseFor = time.Hour
		first, authzs := w.place(n)
		w.validate(&authzs[0])
		second, _ := w.place(n)
		third, _ := w.place(n)
		w.claim(third)
		w.ok(w.DeactivateAuthorization(ctx, &authzs[0]))
		for id, want := range map[string]acme.Status{first.ID: acme.StatusInvalid, second.ID: acme.StatusInvalid, third.ID: acme.StatusProcessing} {
			if got := w.orderStatus(id); got != want {
				t.Errorf("order %s is %s, want %s", id, got, want)
			}
		}
		w.check(t)
	})
}

// Identifiers that need the same authorization share it, and the order is ready
// when it is valid.
func TestIdentifiersShareAnAuthorization(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		n := newChallenged(w.account().ID, "x.a.test", "y.a.test", "b.test")
		for i := range 2 {
			n.Authorizations[i].Identifier, n.Authorizations[i].Subdomains = dns("a.test"), true
		}
		o, authzs := w.place(n)
		if authzs[0].ID != authzs[1].ID || authzs[0].ID == authzs[2].ID {
			t.Fatalf("authorizations %s, %s, %s", authzs[0].ID, authzs[1].ID, authzs[2].ID)
		}
		w.validate(&authzs[0])
		if got := w.orderStatus(o.ID); got != acme.StatusPending {
			t.Errorf("with one of two it is %s", got)
		}
		w.validate(&authzs[2])
		if got := w.orderStatus(o.ID); got != acme.StatusReady {
			t.Errorf("with both it is %s", got)
		}
		w.claim(o)
	})
}

func TestPreAuthorization(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		n := newChallenged(w.account().ID, "a.test")
		create := func() (*acme.Authorization, bool, error) {
			n.ReuseFor = time.Hour
			return w.CreateAuthorization(ctx, n)
		}
		a, created, err := create()
		w.ok(err)
		if !created || a.Status(s.Now()) != acme.StatusPending || a.OrderID != "" {
			t.Errorf("got %+v, created %v", a, created)
		}
		w.validate(a)
		again, created, err := create()
		w.ok(err)
		if created || again.ID != a.ID {
			t.Errorf("again: %+v, created %v", again, created)
		}
		n.ReuseFor = time.Hour
		if o, authzs := w.place(n); authzs[0].ID != a.ID || w.orderStatus(o.ID) != acme.StatusReady {
			t.Errorf("the order does not use it: %+v", authzs)
		}
		n.AccountID = w.account().ID
		w.ok(w.DeactivateAccount(ctx, "api:test", n.AccountID))
		before := w.Dump(t)
		if _, _, err := create(); !errors.Is(err, store.ErrConflict) {
			t.Errorf("for a deactivated account: %v", err)
		}
		if after := w.Dump(t); after != before {
			t.Errorf("the refused one left a trace:\n%s", diff(before, after))
		}
	})
}

// A certificate is replaced by one order, unless that can no longer be issued
// (RFC 9773, Section 5).
func TestACertificateIsReplacedOnce(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		o := w.trusted()
		c := w.claim(o)
		w.ok(w.FinishOrder(ctx, c, []byte("der")))
		n := newTrusted(o.AccountID)
		n.Replaces, n.ReplacesSerial = "aki.serial", c.Serial
		replace := func() (*acme.Order, error) {
			order, _, err := w.CreateOrder(ctx, n)
			return order, err
		}
		refused := func(when string) {
			t.Helper()
			before := w.Dump(t)
			_, err := replace()
			var p *acme.Problem
			if !errors.As(err, &p) || p.Type != acme.ErrAlreadyReplaced {
				t.Errorf("%s: got %v, want alreadyReplaced", when, err)
			}
			if after := w.Dump(t); after != before {
				t.Errorf("%s: the refused order left a trace:\n%s", when, diff(before, after))
			}
		}
		var first *acme.Order
		orders := make([]*acme.Order, 32)
		winners := 0
		for i, err := range together(len(orders), func(i int) (err error) {
			orders[i], err = replace()
			return err
		}) {
			if err == nil {
				winners++
				first = orders[i]
			}
		}
		if winners != 1 || first.Replaces != n.Replaces {
			t.Fatalf("%d orders replace the certificate: %+v", winners, first)
		}
		refused("while the order is open")
		w.ok(w.DeactivateTrustedAuthz(ctx, first, first.AuthzIDs()[0]))
		second, err := replace()
		w.ok(err)
		w.Advance(time.Hour) // the order expires
		third, err := replace()
		w.ok(err)
		w.ok(w.FailOrder(ctx, w.claim(third), acme.ServerInternal("broken")))
		fourth, err := replace()
		w.ok(err)
		claim := w.claim(fourth)
		w.Advance(2 * time.Hour)
		refused("while a certificate is made")
		w.ok(w.FinishOrder(ctx, claim, []byte("der")))
		refused("when it was replaced")
		n.AccountID = w.account().ID
		refused("by another account")
		w.sweep(time.Minute)
		refused("after a sweep")
		if w.events(audit.OrderCreated) != 5 || second.ID == third.ID {
			t.Errorf("%d orders", w.events(audit.OrderCreated))
		}
	})
}

func TestSetRenewal(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		var serials []string
		for range 5 {
			serials = append(serials, w.certificate())
		}
		w.ok(w.RevokeCertificate(ctx, "api:test", serials[4], 1))
		w.ok(w.StoreServerCertificate(ctx, &store.Certificate{Serial: newSerial(), DER: []byte("der"), NotBefore: begin, NotAfter: begin.Add(time.Hour)}, "tls", []byte("key")))
		window := store.Renewal{From: begin, Until: begin.Add(time.Minute), ExplanationURL: "https://example.com/why"}
		for _, set := range []struct {
			store.RenewalSet
			want int
		}{
			{store.RenewalSet{Serials: serials[:2]}, 2},
			{store.RenewalSet{Serials: []string{}}, 0},
			{store.RenewalSet{ProfileID: "challenge"}, 0},
			{store.RenewalSet{IssuedBefore: begin}, 0},
			{store.RenewalSet{}, 4},
		} {
			if n, err := s.SetRenewal(ctx, "api:test", set.RenewalSet, window); err != nil || n != set.want {
				t.Errorf("%+v: %d certificates, %v, want %d", set.RenewalSet, n, err, set.want)
			}
		}
		for i, serial := range serials {
			c, err := s.Certificate(ctx, serial)
			w.ok(err)
			if marked := c.Renewal == window; marked != (i < 4) {
				t.Errorf("certificate %d: %+v", i, c.Renewal)
			}
		}
		if n := w.events(audit.RenewalSet); n != 2 {
			t.Errorf("%d events, want 2", n)
		}
	})
}
