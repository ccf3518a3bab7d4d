package store

import "sync"

// cache holds rows that every request needs, by key. The store is the only
// writer of its database, so a value stays true until the store forgets it
// itself, which it does after the commit and before the change is answered. It
// does so when the change failed too: a commit that was reported as failed may
// have been made.
type cache[K comparable, V any] struct {
	mu    sync.RWMutex
	rows  map[K]V
	epoch uint64 // rises with each forget; a load that began before one is not kept
}

// maxCached bounds a cache; a full one starts anew.
const maxCached = 100_000

// get returns the cached value, or loads and keeps it. Errors are not kept.
func (c *cache[K, V]) get(key K, load func() (V, error)) (V, error) {
	c.mu.RLock()
	v, ok := c.rows[key]
	epoch := c.epoch
	c.mu.RUnlock()
	if ok {
		return v, nil
	}
	v, err := load()
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.epoch == epoch {
		if c.rows == nil || len(c.rows) >= maxCached {
			c.rows = make(map[K]V)
		}
		c.rows[key] = v
	}
	return v, nil
}

// forget drops a key.
func (c *cache[K, V]) forget(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	delete(c.rows, key)
}

// clear drops everything.
func (c *cache[K, V]) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	clear(c.rows)
}
