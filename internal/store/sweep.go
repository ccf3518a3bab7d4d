package store

import (
	"context"
	"encoding/json"
	"time"
)

// sweepBatch bounds one step of a sweep, so that requests never wait long for it.
const sweepBatch = 500

// Sweep removes a bounded number of rows that can matter no more: orders that
// were never claimed and their authorizations, a grace time after they ended,
// and limits that are full again. It returns how many it removed; 0 means that
// nothing is left to do. What was issued, and the audit log, stay: each statement
// finds its rows by an index that has none of them.
func (s *Store) Sweep(ctx context.Context, grace time.Duration) (int, error) {
	var removed int
	err := s.writer.do(ctx, func(t *tx) (err error) {
		ended := t.now.Add(-grace)
		if removed, err = t.sweepOrders(ended); err != nil {
			return err
		}
		for _, del := range []struct {
			sql  string
			args []any
		}{
			{`DELETE FROM authorizations WHERE id IN (SELECT id FROM authorizations
				WHERE order_id = '' AND expires_at < $1 LIMIT $2)`, []any{ended, sweepBatch}},
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

// sweepOrders removes orders with their authorizations. One that is still valid
// stays, without an order, for others to use.
func (t *tx) sweepOrders(ended time.Time) (removed int, err error) {
	ids := []string{}
	err = t.query(`SELECT id FROM orders WHERE expires_at < $1 AND claimed_at IS NULL LIMIT $2`, []any{ended, sweepBatch}, func(r row) error {
		ids = append(ids, r.text(0))
		return nil
	})
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return 0, err
	}
	removed, err = t.exec(`DELETE FROM authorizations WHERE order_id IN (SELECT value FROM json_each($1)) AND expires_at < $2`, string(list), ended)
	if err != nil {
		return 0, err
	}
	if _, err = t.exec(`UPDATE authorizations SET order_id = '' WHERE order_id IN (SELECT value FROM json_each($1))`, string(list)); err != nil {
		return 0, err
	}
	if _, err = t.exec(`DELETE FROM order_names WHERE (name, order_id) IN (SELECT json_extract(i.value, '$.value'), o.id
		FROM json_each($1) s CROSS JOIN orders o ON o.id = s.value CROSS JOIN json_each(o.identifiers) i)`, string(list)); err != nil {
		return 0, err
	}
	n, err := t.exec(`DELETE FROM orders WHERE id IN (SELECT value FROM json_each($1))`, string(list))
	return removed + n, err
}
