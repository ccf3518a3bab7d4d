package store

import (
	"context"
	"errors"
	"fmt"
)

// maxBatch bounds how many changes share one commit, and so how long the first
// of them waits for the last.
const maxBatch = 128

// change is one caller's change of state.
type change struct {
	apply func(*tx) error
	err   error
	done  chan struct{}
}

// writer applies changes one after another on the only connection that writes
// and commits those that wait together: one sync for many.
//
// Contract. A change runs in a savepoint of its own, so one that fails takes
// nothing with it. It runs under no request's context: SQLite drops the whole
// transaction when a statement in it is interrupted, and a client that hangs up
// must not take the other changes down. Nobody is answered before the common
// COMMIT returned. When the common transaction is lost, every change in it is
// run again in a transaction of its own; so a change must be repeatable, and
// must neither sign nor wait nor speak to the network.
type writer struct {
	conn  *conn
	wal   *walKeeper
	queue chan *change
	quit  chan struct{}
	ended chan struct{}
	ids   *idSource
	now   func() int64 // milliseconds, never backwards

	// fault is nil but in tests. It is called before and after each COMMIT, and
	// an error of it is taken for the COMMIT's.
	fault func(committed bool) error
}

func newWriter(c *conn, wal *walKeeper, ids *idSource, now func() int64) *writer {
	w := &writer{
		conn:  c,
		wal:   wal,
		ids:   ids,
		queue: make(chan *change, 4*maxBatch),
		quit:  make(chan struct{}),
		ended: make(chan struct{}),
		now:   now,
	}
	go w.run()
	return w
}

// do applies one change and returns when it is durable or refused. A context
// that ends before the change was taken up leaves nothing done; afterwards the
// change is carried through whatever becomes of the caller.
func (w *writer) do(ctx context.Context, apply func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &change{apply: apply, done: make(chan struct{})}
	select {
	case w.queue <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.quit:
		return ErrClosed
	}
	select {
	case <-c.done:
		return c.err
	case <-w.ended:
		// The writer may have finished this change as its last.
		select {
		case <-c.done:
			return c.err
		default:
			return ErrClosed
		}
	}
}

// close lets the changes that were taken up finish and ends the writer.
func (w *writer) close() {
	close(w.quit)
	<-w.ended
}

func (w *writer) run() {
	defer close(w.ended)
	batch := make([]*change, 0, maxBatch)
	for {
		batch = batch[:0]
		select {
		case c := <-w.queue:
			batch = append(batch, c)
		case <-w.quit:
			return
		}
	fill:
		for len(batch) < maxBatch {
			select {
			case c := <-w.queue:
				batch = append(batch, c)
			default:
				break fill
			}
		}
		w.commit(batch)
		w.wal.keep() // when all of them are answered
	}
}

// commit applies a batch in one transaction, or, when that is lost, each change
// in its own.
func (w *writer) commit(batch []*change) {
	if err := w.together(batch); err != nil {
		for _, c := range batch {
			c.err = nil
			if err := w.together([]*change{c}); err != nil {
				c.err = fmt.Errorf("commit: %w", err)
			}
		}
	}
	for _, c := range batch {
		close(c.done)
	}
}

// together returns an error when the transaction as a whole was lost; what
// became of each change stands in the change.
func (w *writer) together(batch []*change) error {
	if _, err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	t := &tx{conn: w.conn, ids: w.ids, now: msTime(w.now())}
	for _, c := range batch {
		if err := w.savepoint(t, c); err != nil {
			return errors.Join(err, w.rollback())
		}
	}
	if err := w.end(); err != nil {
		return errors.Join(err, w.rollback())
	}
	return nil
}

func (w *writer) end() error {
	if w.fault != nil {
		if err := w.fault(false); err != nil {
			return err
		}
	}
	_, err := w.conn.exec("COMMIT")
	if err == nil && w.fault != nil {
		err = w.fault(true)
	}
	return err
}

// savepoint applies one change. Its error is about the transaction, not the
// change.
func (w *writer) savepoint(t *tx, c *change) error {
	if _, err := w.conn.exec("SAVEPOINT change"); err != nil {
		return err
	}
	c.err = apply(c.apply, t)
	if c.err != nil {
		if w.conn.c.AutocommitEnabled() {
			return fmt.Errorf("transaction lost: %w", c.err)
		}
		if _, err := w.conn.exec("ROLLBACK TO change"); err != nil {
			return err
		}
	}
	_, err := w.conn.exec("RELEASE change")
	return err
}

// apply turns a panic in a change into its error, so that one defect does not
// end the only writer.
func apply(f func(*tx) error, t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a change: %v", p)
		}
	}()
	return f(t)
}

func (w *writer) rollback() error {
	if w.conn.c.AutocommitEnabled() {
		return nil
	}
	_, err := w.conn.exec("ROLLBACK")
	return err
}
