package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/store"
)

// endless looks at rows until it is interrupted.
const endless = `WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c) SELECT count(*) FROM c`

func TestSearchesHaveConnectionsOfTheirOwn(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		kid := w.eabKey(true)
		for range store.ReaderCount {
			defer s.HoldReader()()
		}
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		for name, search := range map[string]func() error{
			"orders":       func() error { _, _, err := s.Orders(short, store.OrderQuery{Limit: 1}); return err },
			"certificates": func() error { _, err := s.Certificates(short, store.CertificateQuery{Limit: 1}); return err },
			"accounts":     func() error { _, err := s.Accounts(short, "", 1); return err },
			"audit events": func() error { _, err := s.AuditEvents(short, store.AuditQuery{Limit: 1}); return err },
			"EAB keys":     func() error { _, err := s.EABKeys(short); return err },
			"an EAB key":   func() error { _, err := s.EABKey(short, kid); return err },
		} {
			if err := search(); err != nil {
				t.Errorf("while all readers are in use, a list of %s: %v", name, err)
			}
		}
	})
}

// Searches that look at everything hold up each other, and nobody else; one whose
// client is gone ends, and leaves its connection fit for the next.
func TestASearchThatIsGivenUpEnds(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		o := w.trusted()
		given, giveUp := context.WithCancel(ctx)
		ended := make(chan error)
		for range 2 * store.SearcherCount {
			go func() { ended <- s.Search(given, endless) }()
		}
		time.Sleep(20 * time.Millisecond)
		w.certificate()
		if _, _, err := s.Order(ctx, o.ID); err != nil {
			t.Error(err)
		}
		giveUp()
		for range 2 * store.SearcherCount {
			select {
			case err := <-ended:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("a search that was given up: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("a search goes on for nobody")
			}
		}
		for range 2 * store.SearcherCount {
			if orders, _, err := s.Orders(ctx, store.OrderQuery{Limit: 10}); err != nil || len(orders) != 2 {
				t.Errorf("the next search: %d orders, %v", len(orders), err)
			}
		}
		s.SetSearchTime(20 * time.Millisecond)
		if err := s.Search(ctx, endless); !errors.Is(err, store.ErrSearchTime) {
			t.Errorf("a search without end: %v", err)
		}
	})
}

// What an index finds is not scanned for, and comes in the order of the list.
func TestSearchesUseIndexes(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		for _, test := range []struct {
			plan, want string
		}{
			{s.Plan(t, store.OrderQuery{Before: "x"}), "SEARCH orders USING INDEX sqlite_autoindex_orders_1 (id<?)"},
			{s.Plan(t, store.OrderQuery{AccountID: "a", Before: "x"}), "SEARCH orders USING INDEX orders_account (account_id=? AND id<?)"},
			{s.Plan(t, store.OrderQuery{Name: "n", AccountID: "a", ProfileID: "p", Before: "x"}),
				"SEARCH n USING PRIMARY KEY (name=? AND order_id<?)\nSEARCH orders USING INDEX orders_account (account_id=? AND id=?)"},
			{s.Plan(t, store.OrderQuery{Name: "n"}), "SEARCH n USING PRIMARY KEY (name=?)\nSEARCH orders USING INDEX sqlite_autoindex_orders_1 (id=?)"},
			{s.Plan(t, store.CertificateQuery{}), "SCAN c"}, // from the newest on, as far as the page goes
			{s.Plan(t, store.CertificateQuery{AccountID: "a"}), "SEARCH c USING INDEX certificates_account (account_id=?)"},
			{s.Plan(t, store.CertificateQuery{ProfileID: "p"}), "SEARCH c USING INDEX certificates_profile (profile_id=?)"},
			{s.Plan(t, store.CertificateQuery{Name: "n", AccountID: "a", ProfileID: "p"}),
				"SEARCH n USING PRIMARY KEY (name=?)\nSEARCH c USING INTEGER PRIMARY KEY (rowid=?)"},
			{s.Plan(t, store.AuditQuery{ResourceID: "r", Action: "a"}),
				"SEARCH audit_events USING INDEX audit_events_resource (resource_id=?)\nUSE TEMP B-TREE FOR ORDER BY"},
		} {
			if test.plan != test.want {
				t.Errorf("got  %s\nwant %s", test.plan, test.want)
			}
		}
		paged := s.Plan(t, store.CertificateQuery{Name: "n", Before: "x"})
		if !strings.HasPrefix(paged, "SEARCH n USING PRIMARY KEY (name=? AND number<?)\n") || strings.Contains(paged, "TEMP B-TREE") {
			t.Errorf("the next page: %s", paged)
		}
	})
}

// A name is found in all that has it, issued or not, in pages.
func TestNamesAreFoundInPages(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		account := w.account().ID
		var orders, serials []string
		for i := range 7 {
			n := newTrusted(account)
			n.Identifiers = []acme.Identifier{dns(fmt.Sprintf("n%d.test", i)), dns("shared.test"), {Type: acme.IP, Value: "10.0.0.1"}}
			o, _ := w.place(n)
			orders = append([]string{o.ID}, orders...)
			switch i % 3 {
			case 0:
				c := w.claim(o)
				w.ok(w.FinishOrder(ctx, c, []byte("der")))
				serials = append([]string{c.Serial}, serials...)
			case 1:
				w.ok(w.FailOrder(ctx, w.claim(o), acme.ServerInternal("broken")))
			}
		}
		own := store.Certificate{Serial: newSerial(), IssuerID: "iss", Names: []string{"localhost", "10.0.0.1"}, DER: []byte("der"), NotBefore: begin, NotAfter: begin}
		w.ok(s.StoreServerCertificate(ctx, &own, "tls", []byte("key")))
		for _, name := range []string{"shared.test", "10.0.0.1"} {
			got := pages(t, 2, func(o *acme.Order) string { return o.ID }, func(before string, limit int) ([]*acme.Order, error) {
				orders, _, err := s.Orders(ctx, store.OrderQuery{Name: name, AccountID: account, Before: before, Limit: limit})
				return orders, err
			})
			if fmt.Sprint(got) != fmt.Sprint(orders) {
				t.Errorf("%s: orders %v, want %v", name, got, orders)
			}
			if name == "10.0.0.1" {
				serials = append([]string{own.Serial}, serials...)
			}
			got = pages(t, 2, func(c *store.Certificate) string { return c.Serial }, func(before string, limit int) ([]*store.Certificate, error) {
				return s.Certificates(ctx, store.CertificateQuery{Name: name, Before: before, Limit: limit})
			})
			if fmt.Sprint(got) != fmt.Sprint(serials) {
				t.Errorf("%s: certificates %v, want %v", name, got, serials)
			}
		}
		events, err := s.AuditEvents(ctx, store.AuditQuery{ResourceID: orders[0], Actor: audit.Account(account), Limit: 10})
		if err != nil || len(events) == 0 {
			t.Errorf("events: %v, %v", events, err)
		}
		w.check(t)
	})
}
