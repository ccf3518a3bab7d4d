package store

import (
	"context"
	"errors"
	"time"
)

const (
	// readerCount is how many reads of the CA's own work run at once.
	readerCount = 4
	// searcherCount is how many searches of operators run at once, on connections of
	// their own: one that looks at every row keeps nobody from a certificate.
	searcherCount = 2
	// searchTime bounds a search. One that runs holds up the log (wal.go).
	searchTime = 30 * time.Second
)

// pool is a number of connections that only read.
type pool struct {
	free   chan *conn    // has room for all
	wanted chan *conn    // to who collects them all, ahead of those who wait for one
	most   time.Duration // that a search may take
}

func newPool(size int, most time.Duration) *pool {
	return &pool{free: make(chan *conn, size), wanted: make(chan *conn), most: most}
}

// fill opens the connections.
func (p *pool) fill(path string) error {
	for range cap(p.free) {
		c, err := openConn(path, true)
		if err != nil {
			return err
		}
		p.free <- c
	}
	return nil
}

func (p *pool) put(c *conn) {
	select {
	case p.wanted <- c:
	default:
		p.free <- c
	}
}

// collect takes all connections, or as many as it gets until the time is up; they
// go back with put.
func (p *pool) collect(timeout <-chan time.Time) (all []*conn, ok bool) {
	for len(all) < cap(p.free) {
		select {
		case c := <-p.free:
			all = append(all, c)
		case c := <-p.wanted:
			all = append(all, c)
		case <-timeout:
			return all, false
		}
	}
	return all, true
}

// close waits for the connections in use and closes all; of a pool that was not
// filled, those that are there.
func (p *pool) close(filled bool) error {
	n := len(p.free)
	if filled {
		n = cap(p.free)
	}
	var errs []error
	for range n {
		errs = append(errs, (<-p.free).close())
	}
	return errors.Join(errs...)
}

// read runs fn on a connection that sees one snapshot per statement; ErrClosed
// after Close.
func (s *Store) read(ctx context.Context, fn func(c *conn) error) error {
	return s.use(ctx, s.readers, fn)
}

// snapshot runs fn on a connection whose statements all see one state of the
// database.
func (s *Store) snapshot(ctx context.Context, fn func(c *conn) error) error {
	return s.use(ctx, s.readers, func(c *conn) error { return c.snapshot(fn) })
}

// search runs fn as snapshot does, for an operator, who may ask for more than an
// index finds: a context that ends interrupts the statement.
func (s *Store) search(ctx context.Context, fn func(c *conn) error) error {
	limited, cancel := context.WithTimeout(ctx, s.searchers.most)
	defer cancel()
	err := s.use(limited, s.searchers, func(c *conn) error {
		return c.snapshot(func(c *conn) error {
			c.c.SetInterrupt(limited.Done())
			defer c.c.SetInterrupt(nil) // the COMMIT is not interrupted
			return fn(c)
		})
	})
	switch {
	case err == nil || errors.Is(err, ErrClosed) || limited.Err() == nil:
		return err
	case ctx.Err() == nil:
		return ErrSearchTime
	}
	return ctx.Err()
}

func (s *Store) use(ctx context.Context, p *pool, fn func(c *conn) error) error {
	select {
	case c := <-p.free:
		defer p.put(c)
		return fn(c)
	case <-s.writer.quit:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// snapshot runs fn in a transaction that reads.
func (c *conn) snapshot(fn func(c *conn) error) (err error) {
	if _, err := c.exec("BEGIN"); err != nil {
		return err
	}
	// Also when fn panics: the next reader starts a transaction of its own.
	defer func() {
		_, end := c.exec("COMMIT")
		err = errors.Join(err, end)
	}()
	return fn(c)
}
