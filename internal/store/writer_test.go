package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/store"
)

// put is a change that makes one row.
func put(key string) func(*store.Tx) error {
	return func(tx *store.Tx) error {
		_, err := tx.Exec(`INSERT INTO server_state (key, value) VALUES ($1, $2)`, "test-"+key, []byte{1})
		return err
	}
}

// keys returns which rows are there.
func keys(t *testing.T, s *store.Store) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	for _, row := range s.Rows(t, `SELECT key FROM server_state WHERE key LIKE 'test-%'`) {
		there[strings.TrimPrefix(row[0], "test-")] = true
	}
	return there
}

// hold stops the writer inside a change until the test says go; what is queued
// meanwhile makes the next batch.
func hold(t *testing.T, s *store.Store) (release func()) {
	t.Helper()
	entered, leave := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- s.Change(ctx, func(*store.Tx) error {
			close(entered)
			<-leave
			return nil
		})
	}()
	<-entered
	return func() {
		t.Helper()
		close(leave)
		<-done
	}
}

// waitQueued waits until n changes stand in the queue.
func waitQueued(t *testing.T, s *store.Store, n int) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Microsecond) {
		if waiting, _ := s.QueueLength(); waiting == n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("never %d changes in the queue", n)
		}
	}
}

// batch queues changes one after another behind one that holds the writer, so
// that they make one batch in this order, and returns their errors.
func batch(t *testing.T, s *store.Store, changes ...func() error) []error {
	t.Helper()
	release := hold(t, s)
	errs := make([]error, len(changes))
	var wg sync.WaitGroup
	for i, change := range changes {
		wg.Go(func() { errs[i] = change() })
		waitQueued(t, s, i+1)
	}
	release()
	wg.Wait()
	return errs
}

// commits counts the COMMITs that the database makes from now on.
func commits(s *store.Store) *atomic.Int32 {
	n := new(atomic.Int32)
	s.Fault(func(committed bool) error {
		if committed {
			n.Add(1)
		}
		return nil
	})
	return n
}

func TestChangesThatWaitShareACommit(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		n := commits(s)
		changes := make([]func() error, 64)
		for i := range changes {
			changes[i] = func() error { return s.Change(ctx, put(fmt.Sprint(i))) }
		}
		for i, err := range batch(t, s, changes...) {
			if err != nil {
				t.Errorf("change %d: %v", i, err)
			}
		}
		if n.Load() != 2 { // the one that held the writer, and the batch
			t.Errorf("%d commits for 65 changes, want 2", n.Load())
		}
		if there := keys(t, s.Crash(t)); len(there) != len(changes) {
			t.Errorf("%d of %d changes are durable", len(there), len(changes))
		}
	})
}

func TestNobodyIsAnsweredBeforeTheCommit(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		var answered atomic.Int32
		seen := make(chan int32, 10)
		s.Fault(func(committed bool) error {
			if !committed {
				time.Sleep(20 * time.Millisecond)
				seen <- answered.Load()
			}
			return nil
		})
		changes := make([]func() error, 8)
		for i := range changes {
			changes[i] = func() error {
				err := s.Change(ctx, put(fmt.Sprint(i)))
				answered.Add(1)
				return err
			}
		}
		for _, err := range batch(t, s, changes...) {
			if err != nil {
				t.Error(err)
			}
		}
		<-seen
		if n := <-seen; n != 0 {
			t.Errorf("%d of 8 were answered before their COMMIT", n)
		}
	})
}

func TestAChangeThatFailsTakesNothingWithIt(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		n := commits(s)
		refused := errors.New("refused")
		errs := batch(t, s,
			func() error { return s.Change(ctx, put("first")) },
			func() error {
				return s.Change(ctx, func(tx *store.Tx) error { return errors.Join(put("half")(tx), refused) })
			},
			func() error {
				return s.Change(ctx, func(tx *store.Tx) error { return errors.Join(put("twice")(tx), put("twice")(tx)) })
			},
			func() error { return s.Change(ctx, put("last")) },
		)
		if errs[0] != nil || errs[3] != nil || !errors.Is(errs[1], refused) || errs[2] == nil {
			t.Errorf("got %v", errs)
		}
		if there := keys(t, s.Crash(t)); len(there) != 2 || !there["first"] || !there["last"] {
			t.Errorf("durable are %v, want first and last", there)
		}
		if n.Load() != 2 {
			t.Errorf("%d commits, want 2: a refusal must not cost the batch", n.Load())
		}
	})
}

func TestAPanicIsTheErrorOfItsChange(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		w.trusted()
		w.trusted()
		n := commits(s)
		errs := batch(t, s,
			func() error { return s.Change(ctx, put("before")) },
			func() error {
				return s.Change(ctx, func(tx *store.Tx) error {
					if err := put("panic")(tx); err != nil {
						return err
					}
					// In the middle of a statement that writes: SQLite commits nothing while one is open.
					return tx.Query(`UPDATE orders SET expires_at = 0 RETURNING id`, func() { panic("a defect") })
				})
			},
			func() error { return s.Change(ctx, put("behind")) },
		)
		if errs[0] != nil || errs[2] != nil || errs[1] == nil || !strings.Contains(errs[1].Error(), "a defect") {
			t.Fatalf("got %v", errs)
		}
		if err := s.Change(ctx, put("later")); err != nil {
			t.Errorf("a change after the panic: %v", err)
		}
		if there := keys(t, s.Crash(t)); len(there) != 3 || there["panic"] {
			t.Errorf("durable are %v", there)
		}
		if n.Load() != 3 {
			t.Errorf("%d commits, want 3: a panic must not cost the batch", n.Load())
		}
		if rows := s.Rows(t, `SELECT 1 FROM orders WHERE expires_at = 0`); len(rows) != 0 {
			t.Errorf("%d orders keep what the panic left", len(rows))
		}
	})
}

// A client that hangs up while its change is under way changes nothing for the
// others: all run once and share the commit, and its own is carried through too.
// SQLite takes the whole transaction down when a statement in it is interrupted.
func TestAClientThatHangsUpChangesNothingForOthers(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		const callers, leaver = 64, 31
		n := commits(s)
		var runs [callers]atomic.Int32
		leaving, cancel := context.WithCancel(ctx)
		defer cancel()
		changes := make([]func() error, callers)
		for i := range changes {
			caller := ctx
			if i == leaver {
				caller = leaving
			}
			changes[i] = func() error {
				return s.Change(caller, func(tx *store.Tx) error {
					runs[i].Add(1)
					if i != leaver {
						return put(fmt.Sprint(i))(tx)
					}
					cancel()
					time.Sleep(20 * time.Millisecond) // whoever listens to the context has heard it
					return put(fmt.Sprint(i))(tx)
				})
			}
		}
		for i, err := range batch(t, s, changes...) {
			if err != nil {
				t.Errorf("change %d: %v", i, err)
			}
			if runs[i].Load() != 1 {
				t.Errorf("change %d ran %d times: the batch was lost", i, runs[i].Load())
			}
		}
		if n.Load() != 2 {
			t.Errorf("%d commits, want 2", n.Load())
		}
		if there := keys(t, s.Crash(t)); len(there) != callers {
			t.Errorf("%d of %d changes are durable", len(there), callers)
		}
	})
}

// The same when a defect does interrupt the connection: the batch is lost, each
// change runs again alone, and only the one at fault fails.
func TestALostTransactionIsRunAgainOneByOne(t *testing.T) {
	for name, lose := range map[string]func(*store.Tx) error{
		"interrupted": func(tx *store.Tx) error {
			gone := make(chan struct{})
			close(gone)
			tx.Interrupt(gone)
			defer tx.Interrupt(nil)
			return put("lost")(tx)
		},
		"rolled back": func(tx *store.Tx) error {
			if err := put("lost")(tx); err != nil {
				return err
			}
			_, err := tx.Exec("ROLLBACK")
			return errors.Join(err, errors.New("rolled back"))
		},
		"rolled back in silence": func(tx *store.Tx) error {
			_, err := tx.Exec("ROLLBACK")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) {
				changes := make([]func() error, 9)
				for i := range changes {
					changes[i] = func() error { return s.Change(ctx, put(fmt.Sprint(i))) }
				}
				changes[4] = func() error { return s.Change(ctx, lose) }
				for i, err := range batch(t, s, changes...) {
					if (err != nil) != (i == 4) {
						t.Errorf("change %d: %v", i, err)
					}
				}
				if there := keys(t, s.Crash(t)); len(there) != 8 || there["lost"] {
					t.Errorf("durable are %v", there)
				}
			})
		})
	}
}

// The tool of the two tests above is sharp: an interrupt really takes down the
// changes that ran before it in the same transaction.
func TestAnInterruptTakesTheTransactionDown(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		var runs atomic.Int32
		errs := batch(t, s,
			func() error {
				return s.Change(ctx, func(tx *store.Tx) error { runs.Add(1); return put("neighbour")(tx) })
			},
			func() error {
				return s.Change(ctx, func(tx *store.Tx) error {
					done := make(chan struct{})
					tx.Interrupt(done)
					defer tx.Interrupt(nil)
					time.AfterFunc(20*time.Millisecond, func() { close(done) })
					_, err := tx.Exec(`INSERT INTO server_state (key, value)
						WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000)
						SELECT 'endless-' || i, x'00' FROM n`)
					return err
				})
			},
		)
		if errs[0] != nil || errs[1] == nil {
			t.Fatalf("got %v", errs)
		}
		if !keys(t, s)["neighbour"] {
			t.Error("the neighbour is gone")
		}
		if runs.Load() != 2 {
			t.Errorf("the neighbour ran %d times, want 2", runs.Load())
		}
	})
}

func TestAContextThatEndsInTheQueue(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		release := hold(t, s)
		_, most := s.QueueLength()
		errs := make(chan error, most)
		for i := range most {
			go func() { errs <- s.Change(ctx, put(fmt.Sprint(i))) }()
		}
		waitQueued(t, s, most)
		late, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		if err := s.Change(late, put("late")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a full queue: %v, want that the context ended", err)
		}
		release()
		for range most {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if err := s.Change(late, put("ended")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a context that has ended: %v", err)
		}
		if there := keys(t, s); len(there) != most || there["late"] || there["ended"] {
			t.Errorf("%d changes, want %d; late: %v, ended: %v", len(there), most, there["late"], there["ended"])
		}
	})
}

// A stop answers every caller: what was answered with nil is durable, what was
// answered with ErrClosed was not done.
func TestCloseAnswersEveryCaller(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		s.Fault(func(committed bool) error {
			if committed {
				time.Sleep(20 * time.Millisecond) // the stop comes between a COMMIT and its answers
			}
			return nil
		})
		release := hold(t, s)
		const callers = 200
		errs := make([]error, callers)
		var wg sync.WaitGroup
		call := func(from, to int) {
			for i := from; i < to; i++ {
				wg.Go(func() { errs[i] = s.Change(ctx, put(fmt.Sprint(i))) })
			}
		}
		call(0, callers/2)
		waitQueued(t, s, callers/2)
		closed := make(chan error)
		go func() { closed <- s.Close() }()
		waitQueued(t, s, callers/2+1) // the stop saves the nonces first
		call(callers/2, callers)
		waitQueued(t, s, callers+1)
		release()
		if err := <-closed; err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		again, err := store.Open(ctx, s.Settings())
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		there := keys(t, again)
		for i, err := range errs {
			if err != nil && !errors.Is(err, store.ErrClosed) {
				t.Errorf("change %d: %v", i, err)
			}
			if there[fmt.Sprint(i)] != (err == nil) {
				t.Errorf("change %d was answered %v, and durable is %v", i, err, there[fmt.Sprint(i)])
			}
		}
	})
}

func TestAFailedCommitIsRunAgain(t *testing.T) {
	broken := errors.New("disk on fire")
	for name, test := range map[string]struct {
		fault     func() func(committed bool) error
		wantErr   bool
		wantThere bool
	}{
		"once, not persisted": {func() func(bool) error {
			var n atomic.Int32
			return func(committed bool) error {
				if !committed && n.Add(1) == 2 { // the first holds the writer
					return broken
				}
				return nil
			}
		}, false, true},
		"always, not persisted": {func() func(bool) error {
			return func(committed bool) error { return broken }
		}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) {
				changes := make([]func() error, 5)
				for i := range changes {
					changes[i] = func() error { return s.Change(ctx, put(fmt.Sprint(i))) }
				}
				s.Fault(test.fault())
				for i, err := range batch(t, s, changes...) {
					if (err != nil) != test.wantErr || err != nil && !errors.Is(err, broken) {
						t.Errorf("change %d: %v", i, err)
					}
				}
				s.Fault(nil)
				there := keys(t, s.Crash(t))
				for i := range changes {
					if there[fmt.Sprint(i)] != test.wantThere {
						t.Errorf("change %d is there: %v, want %v", i, !test.wantThere, test.wantThere)
					}
				}
			})
		})
	}
}
