package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// pages walks a list in pages of n and returns all it saw.
func pages[T any](t *testing.T, n int, key func(T) string, page func(before string, limit int) ([]T, error)) []string {
	t.Helper()
	all := []string{}
	before := ""
	for {
		rows, err := page(before, n)
		if err != nil {
			t.Fatal(err)
		}
		if rows == nil {
			t.Error("an empty page is nil: in JSON a list is a list")
		}
		if len(rows) > n {
			t.Fatalf("a page of %d rows, want at most %d", len(rows), n)
		}
		for _, row := range rows {
			all = append(all, key(row))
		}
		if len(rows) == 0 {
			return all
		}
		before = key(rows[len(rows)-1])
	}
}

// Every list shows every row once, the newest first, however long its pages are.
func TestLists(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		var accounts, mine, orders, serials []string
		first := w.account().ID
		accounts = append(accounts, first)
		for i := range 7 {
			s.Advance(time.Millisecond)
			account := first
			if i%2 == 0 {
				account = w.account().ID
				accounts = append(accounts, account)
			}
			s.Advance(time.Millisecond)
			o, _ := w.place(newTrusted(account))
			orders = append(orders, o.ID)
			if account == first {
				mine = append(mine, o.ID)
			}
			c := w.claim(o)
			w.ok(w.FinishOrder(ctx, c, []byte("der")))
			serials = append(serials, c.Serial)
		}
		for _, list := range [][]string{accounts, mine, orders, serials} {
			slices.Reverse(list)
		}
		events := make([]string, 0, 100)
		for _, row := range s.Rows(t, `SELECT id FROM audit_events ORDER BY id DESC`) {
			events = append(events, row[0])
		}
		for _, n := range []int{1, 2, 3, 100} {
			for name, list := range map[string]struct{ got, want []string }{
				"accounts": {pages(t, n, func(a *acme.Account) string { return a.ID },
					func(before string, limit int) ([]*acme.Account, error) { return s.Accounts(ctx, before, limit) }), accounts},
				"an account's orders": {pages(t, n, func(r store.OrderRef) string { return r.ID },
					func(before string, limit int) ([]store.OrderRef, error) {
						return s.OrderRefs(ctx, first, before, limit)
					}), mine},
				"orders": {pages(t, n, func(o *acme.Order) string { return o.ID },
					func(before string, limit int) ([]*acme.Order, error) {
						orders, _, err := s.Orders(ctx, store.OrderQuery{Before: before, Limit: limit})
						return orders, err
					}), orders},
				"certificates": {pages(t, n, func(c *store.Certificate) string { return c.Serial },
					func(before string, limit int) ([]*store.Certificate, error) {
						return s.Certificates(ctx, store.CertificateQuery{Before: before, Limit: limit})
					}), serials},
				"audit events": {pages(t, n, func(e audit.Event) string { return e.ID },
					func(before string, limit int) ([]audit.Event, error) {
						return s.AuditEvents(ctx, store.AuditQuery{Before: before, Limit: limit})
					}), events},
			} {
				if !slices.Equal(list.got, list.want) {
					t.Errorf("%s in pages of %d: got %v, want %v", name, n, list.got, list.want)
				}
			}
		}
	})
}

func TestCertificatesOfOneInstantArePaged(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		var want []string
		for range 5 {
			want = append(want, w.certificate())
		}
		got := pages(t, 2, func(c *store.Certificate) string { return c.Serial }, func(before string, limit int) ([]*store.Certificate, error) {
			return s.Certificates(ctx, store.CertificateQuery{Before: before, Limit: limit})
		})
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestQueriesSelect(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		a, b := w.account().ID, w.account().ID
		n := newTrusted(a)
		n.Identifiers = []acme.Identifier{dns("one.test"), dns("*.two.test")}
		first, _ := w.place(n)
		second, authzs := w.place(newChallenged(b, "one.test", "three.test"))
		c := w.claim(first)
		w.ok(w.FinishOrder(ctx, c, []byte("der")))
		other := w.certificate()

		for _, q := range []struct {
			query store.OrderQuery
			want  []string
		}{
			{store.OrderQuery{AccountID: a}, []string{first.ID}},
			{store.OrderQuery{AccountID: b}, []string{second.ID}},
			{store.OrderQuery{ProfileID: "challenge"}, []string{second.ID}},
			{store.OrderQuery{Name: "*.two.test"}, []string{first.ID}},
			{store.OrderQuery{Name: "two.test"}, nil},
			{store.OrderQuery{Name: "three.test", AccountID: a}, nil},
			{store.OrderQuery{Name: "one.test", ProfileID: "trust"}, []string{first.ID}},
			{store.OrderQuery{AccountID: "unknown"}, nil},
		} {
			q.query.Limit = 10
			orders, authzsOf, err := s.Orders(ctx, q.query)
			w.ok(err)
			var got []string
			for _, o := range orders {
				got = append(got, o.ID)
			}
			if !slices.Equal(got, q.want) {
				t.Errorf("%+v: got %v, want %v", q.query, got, q.want)
			}
			if len(authzsOf[second.ID]) != 0 && len(authzsOf[second.ID]) != len(authzs) {
				t.Errorf("%+v: %d authorizations of the order", q.query, len(authzsOf[second.ID]))
			}
		}
		for _, q := range []struct {
			query store.CertificateQuery
			want  []string
		}{
			{store.CertificateQuery{AccountID: a}, []string{c.Serial}},
			{store.CertificateQuery{ProfileID: "trust", Name: "one.test"}, []string{c.Serial}},
			{store.CertificateQuery{Name: "*.two.test"}, []string{c.Serial}},
			{store.CertificateQuery{Name: "wo.test"}, nil},
			{store.CertificateQuery{Name: "a.test"}, []string{other}},
			{store.CertificateQuery{Before: "unknown"}, nil},
		} {
			q.query.Limit = 10
			certificates, err := s.Certificates(ctx, q.query)
			w.ok(err)
			var got []string
			for _, c := range certificates {
				got = append(got, c.Serial)
			}
			if !slices.Equal(got, q.want) {
				t.Errorf("%+v: got %v, want %v", q.query, got, q.want)
			}
		}
		for _, q := range []struct {
			query store.AuditQuery
			want  int
		}{
			{store.AuditQuery{Actor: audit.Account(a)}, 4},
			{store.AuditQuery{Actor: audit.Account(a), Action: string(audit.OrderCreated)}, 1},
			{store.AuditQuery{ResourceID: second.ID}, 1},
			{store.AuditQuery{Action: string(audit.CertificateIssued)}, 2},
			{store.AuditQuery{Action: "unknown"}, 0},
		} {
			q.query.Limit = 10
			events, err := s.AuditEvents(ctx, q.query)
			w.ok(err)
			if len(events) != q.want {
				t.Errorf("%+v: %d events, want %d", q.query, len(events), q.want)
			}
		}
	})
}

// What was stored is read back as it was.
func TestRoundTrips(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		n := newChallenged(w.account().ID, "a.test", "*.b.test")
		n.NotBefore, n.NotAfter = begin.Add(time.Minute), begin.Add(time.Hour)
		placed, placedAuthzs := w.place(n)
		for range 2 {
			o, authzs, err := s.Order(ctx, placed.ID)
			w.ok(err)
			if got, want := fmt.Sprintf("%+v %+v", *o, authzs), fmt.Sprintf("%+v %+v", *placed, placedAuthzs); got != want {
				t.Errorf("got\n%s, want\n%s", got, want)
			}
			if a, err := s.Authorization(ctx, placedAuthzs[1].ID); err != nil || !a.Wildcard || a.Identifier.Value != "b.test" {
				t.Errorf("got %+v, %v", a, err)
			}
			s = reopen(t, s)
			w.Store = s
		}
		w.fail(&placedAuthzs[0])
		o, _, err := s.Order(ctx, placed.ID)
		w.ok(err)
		if o.Problem == nil || len(o.Problem.Subproblems) != 1 || o.Problem.Subproblems[0].Identifier.Value != "a.test" {
			t.Errorf("the order's problem: %+v", o.Problem)
		}
		if trace, err := s.Trace(ctx, placedAuthzs[0].ID); err != nil || trace != `"trace"` {
			t.Errorf("trace %q, %v", trace, err)
		}

		trusted := w.trusted()
		a, err := s.Authorization(ctx, trusted.AuthzIDs()[0])
		if err != nil || a.Status(s.Now()) != acme.StatusValid || !a.Trusted {
			t.Errorf("a trusted authorization: %+v, %v", a, err)
		}
		c := w.claim(trusted)
		w.Advance(2 * time.Minute)
		taken, err := s.TakeClaims(ctx, time.Minute, 10)
		w.ok(err)
		c.Fence = 2
		if len(taken) != 1 || fmt.Sprintf("%+v", taken[0]) != fmt.Sprintf("%+v", *c) {
			t.Errorf("taken over: %+v, want %+v", taken, *c)
		}
		w.ok(s.FinishOrder(ctx, c, []byte("der")))
		cert, err := s.Certificate(ctx, c.Serial)
		w.ok(err)
		if want := (store.Certificate{Serial: c.Serial, OrderID: trusted.ID, AccountID: trusted.AccountID, ProfileID: "trust", IssuerID: "iss",
			Names: []string{"a.test"}, DER: []byte("der"), NotBefore: c.NotBefore, NotAfter: c.NotAfter, IssuedAt: s.Now()}); fmt.Sprintf("%+v", *cert) != fmt.Sprintf("%+v", want) {
			t.Errorf("got %+v, want %+v", *cert, want)
		}

		for name, missing := range map[string]func() error{
			"order":                 func() error { _, _, err := s.Order(ctx, "unknown"); return err },
			"authorization":         func() error { _, err := s.Authorization(ctx, "unknown"); return err },
			"trusted authorization": func() error { _, err := s.Authorization(ctx, trusted.ID+"-1"); return err },
			"derived authorization of a challenged order": func() error { _, err := s.Authorization(ctx, placed.ID+"-0"); return err },
			"account":            func() error { _, err := s.Account(ctx, "unknown"); return err },
			"key":                func() error { _, err := s.AccountByKey(ctx, newKey()); return err },
			"certificate":        func() error { _, err := s.Certificate(ctx, "unknown"); return err },
			"profile":            func() error { _, err := s.Profile(ctx, "unknown"); return err },
			"issuer":             func() error { _, err := s.Issuer(ctx, "unknown"); return err },
			"issuer with chains": func() error { _, err := s.IssuerChains(ctx, "unknown"); return err },
			"CRL":                func() error { _, err := s.CRL(ctx, "unknown", 0); return err },
			"secret":             func() error { _, err := s.Secret(ctx, "unknown"); return err },
			"API key":            func() error { _, err := s.APIKeyByKey(ctx, "unknown"); return err },
			"EAB key":            func() error { _, err := s.EABKey(ctx, "unknown"); return err },
		} {
			if err := missing(); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("an unknown %s: %v", name, err)
			}
		}
	})
}

func TestProfilesKeepTheirRevisions(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		p := *w.rules("trust").Profile()
		p.AllowedDomains = []string{".other.test"}
		s.Advance(time.Minute)
		rules, err := s.UpdateProfile(ctx, "api:test", p)
		w.ok(err)
		if got := rules.Profile(); got.Revision != 2 || !got.CreatedAt.Equal(begin) || !got.UpdatedAt.Equal(begin.Add(time.Minute)) {
			t.Errorf("got %+v", got)
		}
		for revision, want := range map[int64]string{1: ".test", 2: ".other.test"} {
			if old, err := s.ProfileRevision(ctx, "trust", revision); err != nil || old.AllowedDomains[0] != want || old.Revision != revision {
				t.Errorf("revision %d: %+v, %v", revision, old, err)
			}
		}
		w.ok(s.ArchiveProfile(ctx, "api:test", "trust"))
		if _, err := s.Profile(ctx, "trust"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("an archived profile: %v", err)
		}
		for archived, want := range map[bool]int{false: 1, true: 2} {
			if all, err := s.Profiles(ctx, archived); err != nil || len(all) != want {
				t.Errorf("archived %v: %d profiles, %v", archived, len(all), err)
			}
		}
		if p, err := s.StoredProfile(ctx, "trust"); err != nil || p.ArchivedAt == nil || p.Revision != 2 {
			t.Errorf("got %+v, %v", p, err)
		}
	})
}

func TestEABRequiredByTheServer(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		if !w.rules("challenge").Profile().EABRequired {
			t.Error("the server's setting does not reach the rules")
		}
		if p, err := s.StoredProfile(ctx, "challenge"); err != nil || p.EABRequired {
			t.Errorf("the server's setting is in the stored profile: %+v, %v", p, err)
		}
	}, func(c *store.Config) { c.EABRequired = true })
}

func TestEABKeysTellTheirBindings(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		a, b := w.account().ID, w.account().ID
		at := begin.Add(time.Hour)
		w.ok(s.CreateEABKey(ctx, "api:test", store.EABKey{KeyID: "many", ProfileIDs: []string{"trust"}, AllowedDomains: []string{"a.test"}, Reusable: true, ExpiresAt: &at}, []byte("hmac")))
		w.ok(s.BindEABKey(ctx, "api:test", a, "many"))
		s.Advance(time.Minute)
		w.ok(s.BindEABKey(ctx, "api:test", b, "many"))
		w.ok(s.BindEABKey(ctx, "api:test", b, "many"))
		one := w.eabKey(false)
		w.ok(s.BindEABKey(ctx, "api:test", b, one))
		k, err := s.EABKey(ctx, "many")
		w.ok(err)
		if !slices.Equal(k.Accounts, []string{a, b}) || !k.Reusable || !k.ExpiresAt.Equal(at) || k.DisabledAt != nil {
			t.Errorf("got %+v", k)
		}
		if kids, err := s.BoundEABKeys(ctx, b); err != nil || len(kids) != 2 {
			t.Errorf("b is bound to %v, %v", kids, err)
		}
		// Expiry ends binding, not what bound accounts may do; disabling ends both.
		s.Advance(time.Hour)
		w.ok(s.BindEABKey(ctx, "api:test", a, "many"))
		rules := w.rules("trust")
		may := func(account, name string) bool {
			grants, err := s.Grants(ctx, account)
			w.ok(err)
			return policy.Authorize(rules, []acme.Identifier{dns(name)}, grants) == nil
		}
		if !may(a, "a.test") || may(a, "b.test") || !may(b, "b.test") {
			t.Error("the bindings give what they should not")
		}
		w.ok(s.DisableEABKey(ctx, "api:test", "many"))
		if may(a, "a.test") || !may(b, "b.test") {
			t.Error("the disabled key still counts, or took another with it")
		}
		if _, err := s.EABSecret(ctx, "many"); !errors.Is(err, store.ErrEABKey) {
			t.Errorf("a disabled key opens: %v", err)
		}
	}, func(c *store.Config) { c.EABRequired = true })
}

func TestRevokedByIsWhatACRLNeeds(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		first, second := w.certificate(), w.certificate()
		w.certificate()
		w.ok(s.RevokeCertificate(ctx, "api:test", second, 4))
		s.Advance(time.Minute)
		w.ok(s.RevokeCertificate(ctx, "api:test", first, 1))
		hidden := w.claim(w.trusted())
		hidden.Pointers = hidden.Pointers.WithoutRevocation()
		w.ok(s.FinishOrder(ctx, hidden, []byte("der")))
		w.ok(s.RevokeCertificate(ctx, "api:test", hidden.Serial, 1))
		at := func(since time.Time) func([]store.CRL) time.Time {
			return func([]store.CRL) time.Time { return since }
		}
		list, published, err := s.RevokedBy(ctx, "iss", at(s.Now()))
		w.ok(err)
		slices.SortFunc(list, func(a, b store.Revoked) int { return a.At.Compare(b.At) })
		end := begin.Add(time.Hour)
		want := []store.Revoked{{Serial: second, At: begin, Reason: 4, NotAfter: end}, {Serial: first, At: begin.Add(time.Minute), Reason: 1, NotAfter: end}}
		if len(published) != 0 || !slices.Equal(list, want) {
			t.Errorf("got %+v, %v published, want %+v", list, published, want)
		}
		w.ok(s.PublishCRL(ctx, "iss", store.CRL{Number: 5, Content: "c", DER: []byte("crl"), ThisUpdate: begin, NextUpdate: end}))
		list, published, err = s.RevokedBy(ctx, "iss", at(end.Add(time.Second)))
		if err != nil || len(list) != 0 || len(published) != 1 || published[0].Number != 5 || published[0].Content != "c" || !published[0].NextUpdate.Equal(end) {
			t.Errorf("after their expiry: %v, published %v, %v", list, published, err)
		}
		// Not before their last second has passed.
		if list, _, err = s.RevokedBy(ctx, "iss", at(end)); err != nil || len(list) != 2 {
			t.Errorf("at their end: %v, %v", list, err)
		}
		if list, _, err = s.RevokedBy(ctx, "other", at(begin)); err != nil || len(list) != 0 {
			t.Errorf("of another issuer: %v, %v", list, err)
		}
		plan := s.Rows(t, `EXPLAIN QUERY PLAN SELECT serial, revoked_at, revocation_reason, not_after FROM certificates
			WHERE issuer_id = ? AND not_after >= ? AND revoked_at IS NOT NULL AND no_rev_avail = 0`, "iss", 0)
		if len(plan) != 1 || !strings.Contains(plan[0][3], "COVERING INDEX certificates_revoked") {
			t.Errorf("the revoked are found by %q", plan)
		}
	})
}

// The list of an account's orders leaves out those that failed or ran out
// (RFC 8555, Section 7.1.2.1).
func TestOrderRefsAreAlive(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		open := w.trusted()
		account := open.AccountID
		place := func(n store.NewOrder) *acme.Order {
			o, _, err := w.CreateOrder(ctx, n)
			w.ok(err)
			return o
		}
		givenUp, short := place(newTrusted(account)), newTrusted(account)
		w.ok(w.DeactivateTrustedAuthz(ctx, givenUp, givenUp.AuthzIDs()[0]))
		short.OrderTTL = time.Minute
		place(short)
		issued := place(short)
		w.ok(w.FinishOrder(ctx, w.claim(issued), []byte("der")))
		w.Advance(2 * time.Minute)
		refs, err := w.OrderRefs(ctx, account, "", 10)
		w.ok(err)
		if len(refs) != 2 || refs[0].ID != issued.ID || refs[1].ID != open.ID {
			t.Errorf("listed %v, want %s and %s", refs, issued.ID, open.ID)
		}
	})
}
