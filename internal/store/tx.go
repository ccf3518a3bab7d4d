package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certctl/certctl/internal/audit"
)

// tx is what a change works on.
type tx struct {
	*conn
	ids *idSource
	now time.Time // of the transaction
}

// must runs a guarded statement that has to change exactly one row; when it does
// not, the change ends with the error given.
func (t *tx) must(otherwise error, sql string, args ...any) error {
	n, err := t.exec(sql, args...)
	if err != nil {
		return err
	}
	if n != 1 {
		return otherwise
	}
	return nil
}

// event is an audit event before its transaction gives it an id and a time.
type event struct {
	actor        string
	action       audit.Action
	resourceType string
	resourceID   string
	details      any // marshalled to a JSON object; nil is {}
}

// write runs one change with its audit event in one transaction.
func (s *Store) write(ctx context.Context, e event, apply func(*tx) error) error {
	details, err := marshalDetails(e.details)
	if err != nil {
		return err
	}
	return s.writer.do(ctx, func(t *tx) error {
		if err := apply(t); err != nil {
			return err
		}
		return t.audit(e, details)
	})
}

func marshalDetails(details any) (string, error) {
	if details == nil {
		return "{}", nil
	}
	b, err := json.Marshal(details)
	if err != nil {
		return "", fmt.Errorf("audit details: %w", err)
	}
	return string(b), nil
}

func (t *tx) audit(e event, details string) error {
	_, err := t.exec(`INSERT INTO audit_events (id, actor, action, resource_type, resource_id, details, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		t.ids.next(t.now), e.actor, string(e.action), e.resourceType, e.resourceID, details,
		t.now.Format(audit.TimeFormat))
	return err
}

// timeIf is the time when the condition holds, and otherwise the zero time,
// which is stored as NULL.
func timeIf(condition bool, t time.Time) time.Time {
	if condition {
		return t
	}
	return time.Time{}
}
