package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certctl/certctl/internal/audit"
)

// AuditQuery selects audit events; empty fields select all.
type AuditQuery struct {
	Actor      string
	Action     string
	ResourceID string
	Before     string // an event id: only older ones
	Limit      int
}

// AuditEvents returns audit events, newest first.
func (s *Store) AuditEvents(ctx context.Context, q AuditQuery) ([]audit.Event, error) {
	sql, args := q.statement()
	all := []audit.Event{}
	err := s.search(ctx, func(c *conn) error {
		return c.query(sql, args, func(r row) error {
			at, err := time.Parse(audit.TimeFormat, r.text(6))
			if err != nil {
				return fmt.Errorf("stored audit event %s: %w", r.text(0), err)
			}
			all = append(all, audit.Event{
				ID: r.text(0), Actor: r.text(1), Action: audit.Action(r.text(2)), ResourceType: r.text(3),
				ResourceID: r.text(4), Details: json.RawMessage(r.text(5)), CreatedAt: at,
			})
			return nil
		})
	})
	return all, err
}

func (q AuditQuery) statement() (sql string, args []any) {
	var f filter
	f.where("actor = ?", q.Actor)
	f.where("action = ?", q.Action)
	f.where("resource_id = ?", q.ResourceID)
	f.where("id < ?", q.Before)
	return f.statement("SELECT id, actor, action, resource_type, resource_id, details, created_at FROM audit_events", "id", q.Limit)
}

// RecordStart writes that the server started, with what it warns of.
func (s *Store) RecordStart(ctx context.Context, details any) error {
	e := event{audit.System("server"), audit.ServerStarted, "server", "certctl", details}
	return s.write(ctx, e, func(*tx) error { return nil })
}
