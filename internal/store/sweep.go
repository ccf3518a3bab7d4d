package store

import (
	"context"
	"time"
)

// sweepBatch bounds one step of a sweep, so that requests never wait long for it.
const sweepBatch = 500

// Sweep removes a bounded number of rows that can matter no more: orders that
// were never claimed and their authorizations, a grace time after they ended,
// and limits that are full again. It returns how many it removed; 0 means that
// nothing is left to do. What was issued, and the audit log, stay.
func (s *Store) Sweep(ctx context.Context, grace time.Duration) (int, error) {
	var removed int
	err := s.writer.do(ctx, func(t *tx) error {
		removed = 0
		ended := t.now.Add(-grace)
		for _, del := range []struct {
			sql  string
			args []any
		}{
			{`DELETE FROM orders WHERE id IN (SELECT id FROM orders
				WHERE expires_at < $1 AND claimed_at IS NULL LIMIT $2)`, []any{ended, sweepBatch}},
			{`DELETE FROM authorizations WHERE id IN (SELECT z.id FROM authorizations z
				WHERE z.expires_at < $1 AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = z.order_id) LIMIT $2)`, []any{ended, sweepBatch}},
			{`DELETE FROM rate_limits WHERE key IN (SELECT key FROM rate_limits WHERE tat < $1 LIMIT $2)`,
				[]any{t.now.UnixMicro(), sweepBatch}},
		} {
			n, err := t.exec(del.sql, del.args...)
			if err != nil {
				return err
			}
			removed += n
		}
		return nil
	})
	return removed, err
}
