package store

import (
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
)

// spend takes one from a limit, or refuses with a rateLimited problem that says
// when to come back. A database error refuses too.
func (t *tx) spend(key string, limit policy.Limit, what string) error {
	if limit.Off() {
		return nil
	}
	var tat time.Time
	err := t.query(`SELECT tat FROM rate_limits WHERE key = $1`, []any{key}, func(r row) error {
		tat = time.UnixMicro(r.int(0)).UTC()
		return nil
	})
	if err != nil {
		return err
	}
	next, retryAfter, ok := limit.Spend(tat, t.now, 1)
	if !ok {
		p := acme.RateLimited("too many %s: %d per %s are allowed", what, limit.Burst, limit.Period)
		p.RetryAfter = retryAfter
		return p
	}
	_, err = t.exec(`INSERT INTO rate_limits (key, tat) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET tat = excluded.tat`,
		key, next.UnixMicro())
	return err
}
