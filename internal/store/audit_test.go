package store_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/store"
)

// The database itself refuses to change or remove an audit event.
func TestAuditEventsAreAppendOnly(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		w.trusted()
		event := s.Rows(t, `SELECT id, rowid FROM audit_events LIMIT 1`)[0]
		const columns = ` (id, actor, action, resource_type, resource_id, details, created_at)`
		before := s.Dump(t)
		for _, forgery := range []struct {
			sql  string
			args []any
		}{
			{`UPDATE audit_events SET actor = 'nobody'`, nil},
			{`UPDATE OR REPLACE audit_events SET id = $1`, []any{event[0]}},
			{`DELETE FROM audit_events`, nil},
			{`DELETE FROM audit_events WHERE id = $1`, []any{event[0]}},
			{`INSERT OR REPLACE INTO audit_events` + columns + ` VALUES ($1, 'nobody', '', '', '', '{}', '')`, []any{event[0]}},
			{`REPLACE INTO audit_events` + columns + ` VALUES ($1, 'nobody', '', '', '', '{}', '')`, []any{event[0]}},
			{`INSERT INTO audit_events` + columns + ` VALUES ($1, 'nobody', '', '', '', '{}', '')
				ON CONFLICT (id) DO UPDATE SET actor = excluded.actor`, []any{event[0]}},
			{`INSERT OR REPLACE INTO audit_events (rowid, id, actor, action, resource_type, resource_id, details, created_at)
				VALUES (CAST($1 AS INTEGER), 'forged', 'nobody', '', '', '', '{}', '')`, []any{event[1]}},
			{`INSERT OR REPLACE INTO audit_events SELECT id, 'nobody', action, resource_type, resource_id, details, created_at FROM audit_events`, nil},
		} {
			err := s.Change(ctx, func(tx *store.Tx) error {
				_, err := tx.Exec(forgery.sql, forgery.args...)
				return err
			})
			if err == nil || !strings.Contains(err.Error(), "append-only") {
				t.Errorf("%s: got %v, want that it is append-only", forgery.sql, err)
			}
			if after := s.Dump(t); after != before {
				t.Errorf("%s changed:\n%s", forgery.sql, diff(before, after))
				before = after
			}
		}
		w.trusted() // and yet it can be written
	})
}

func TestAuditEventsTellWhatHappened(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		o := w.trusted()
		s.Advance(90 * time.Second)
		c := w.claim(o)
		w.ok(w.FinishOrder(ctx, c, []byte("der")))
		events, err := s.AuditEvents(ctx, store.AuditQuery{ResourceID: c.Serial, Limit: 10})
		w.ok(err)
		if len(events) != 1 {
			t.Fatalf("%d events of the certificate", len(events))
		}
		e := events[0]
		var details struct {
			Order string
			Names []string
		}
		w.ok(json.Unmarshal(e.Details, &details))
		if e.Actor != audit.Account(o.AccountID) || e.Action != audit.CertificateIssued || e.ResourceType != "certificate" ||
			!e.CreatedAt.Equal(begin.Add(90*time.Second)) || details.Order != o.ID || len(details.Names) != 1 {
			t.Errorf("got %+v, details %s", e, e.Details)
		}
		text := s.Rows(t, `SELECT created_at FROM audit_events WHERE id = $1`, e.ID)[0][0]
		if text != "2026-03-01T12:01:30.000Z" {
			t.Errorf("its time is written %q", text)
		}
	})
}
