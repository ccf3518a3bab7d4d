package store

import (
	"context"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"zombiezen.com/go/sqlite"
)

// What the tests may see and do that callers may not.

// Tx is what a change works on.
type Tx = tx

// Exec runs a statement.
func (t *tx) Exec(sql string, args ...any) (int, error) { return t.exec(sql, args...) }

// Query calls fn for each row.
func (t *tx) Query(sql string, fn func()) error {
	return t.query(sql, nil, func(row) error {
		fn()
		return nil
	})
}

// Interrupt hands a channel to the writer's connection, as a store that ran
// changes under their requests' contexts would.
func (t *tx) Interrupt(done <-chan struct{}) { t.c.SetInterrupt(done) }

// Change runs a change of the test's own.
func (s *Store) Change(ctx context.Context, apply func(*Tx) error) error {
	return s.writer.do(ctx, apply)
}

// Fault has f called before and after each COMMIT; an error of it is taken for
// the COMMIT's. It must be set while no change is under way.
func (s *Store) Fault(f func(committed bool) error) { s.writer.fault = f }

// QueueLength is how many changes can wait for the writer.
func (s *Store) QueueLength() (waiting, most int) { return len(s.writer.queue), cap(s.writer.queue) }

// Advance moves the store's clock forward; with a wall clock that stands still
// it is all the time that passes.
func (s *Store) Advance(d time.Duration) {
	s.clock.mu.Lock()
	defer s.clock.mu.Unlock()
	s.clock.last += d.Milliseconds()
}

// TellClock asks a clock of its own, one wall and monotonic time after the other.
func TellClock(times [][2]time.Duration) (told []time.Duration) {
	var c storeClock
	for _, t := range times {
		told = append(told, time.Duration(c.tell(t[0].Milliseconds(), t[1]))*time.Millisecond)
	}
	return told
}

// HoldReader takes a connection from the readers, as a read that is under way.
func (s *Store) HoldReader() (release func()) {
	c := <-s.readers.free
	return func() { s.readers.put(c) }
}

// SetWALMax sets how long the write-ahead log may become.
func (s *Store) SetWALMax(ctx context.Context, size int64) error {
	return s.writer.do(ctx, func(*tx) error {
		s.writer.wal.max = size
		return nil
	})
}

// WALRetry is how long the writer pauses between two attempts to begin the log anew.
const WALRetry = walRetry

// Plan is how SQLite runs the statement of a search, a step a line.
func (s *Store) Plan(t testing.TB, query interface{ statement() (string, []any) }) string {
	t.Helper()
	sql, args := query.statement()
	var steps []string
	for _, row := range s.Rows(t, "EXPLAIN QUERY PLAN "+sql, args...) {
		steps = append(steps, row[3])
	}
	return strings.Join(steps, "\n")
}

// Search runs a search of the test's own; what it finds is of no interest.
func (s *Store) Search(ctx context.Context, sql string) error {
	return s.search(ctx, func(c *conn) error { return c.query(sql, nil, func(row) error { return nil }) })
}

// SetSearchTime sets how long a search may take.
func (s *Store) SetSearchTime(d time.Duration) { s.searchers.most = d }

// ReaderCount and SearcherCount are how many connections there are.
const (
	ReaderCount   = readerCount
	SearcherCount = searcherCount
)

// HoldSnapshot keeps a reader at the state of the database as it is now.
func (s *Store) HoldSnapshot(t testing.TB) (release func()) {
	t.Helper()
	began, leave, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- s.snapshot(context.Background(), func(c *conn) error {
			_, err := selectAll(c, `SELECT count(*) FROM accounts`, nil)
			close(began)
			<-leave
			return err
		})
	}()
	<-began
	return func() {
		close(leave)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// NonceBlocks is how many blocks of nonces are in memory.
func (s *Store) NonceBlocks() int {
	s.nonces.mu.Lock()
	defer s.nonces.mu.Unlock()
	return len(s.nonces.blocks)
}

// NonceBlockSize is how many nonces a block is for.
const NonceBlockSize = nonceBlockSize

// Dir is the data folder.
func (s *Store) Dir() string { return s.cfg.Dir }

// Settings is the configuration that the store was opened with.
func (s *Store) Settings() Config { return s.cfg }

// Select returns what a query returns, blobs in hexadecimal.
func (s *Store) Select(sql string, args ...any) ([][]string, error) {
	var rows [][]string
	err := s.read(context.Background(), func(c *conn) (err error) {
		rows, err = selectAll(c, sql, args)
		return err
	})
	return rows, err
}

func selectAll(c *conn, sql string, args []any) (rows [][]string, err error) {
	err = c.query(sql, args, func(r row) error {
		columns := make([]string, r.s.ColumnCount())
		for i := range columns {
			switch r.s.ColumnType(i) {
			case sqlite.TypeNull:
				columns[i] = "NULL"
			case sqlite.TypeBlob:
				columns[i] = hex.EncodeToString(r.bytes(i))
			default:
				columns[i] = r.text(i)
			}
		}
		rows = append(rows, columns)
		return nil
	})
	return rows, err
}

// Rows is Select for a test.
func (s *Store) Rows(t testing.TB, sql string, args ...any) [][]string {
	t.Helper()
	rows, err := s.Select(sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return rows
}

// WriterPragma is a setting of the connection that writes.
func (s *Store) WriterPragma(t testing.TB, name string) (value string) {
	t.Helper()
	if err := s.writer.do(context.Background(), func(t *tx) error {
		rows, err := selectAll(t.conn, "PRAGMA "+name, nil)
		value = rows[0][0]
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return value
}

// Dump is every row of every table.
func (s *Store) Dump(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, table := range s.Rows(t, `SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name`) {
		b.WriteString(table[0] + "\n")
		for _, row := range s.Rows(t, `SELECT * FROM `+table[0]+` ORDER BY 1, 2`) {
			b.WriteString("\t" + strings.Join(row, " | ") + "\n")
		}
	}
	return b.String()
}

// RefuseEvents makes the database refuse every audit event from now on.
func (s *Store) RefuseEvents(t testing.TB) {
	t.Helper()
	if err := s.writer.do(context.Background(), func(t *tx) error {
		_, err := t.exec(`CREATE TRIGGER refuse BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'refused by the test'); END`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// Crash returns a store over what a killed process would leave behind: the
// database files as they are now, without an orderly stop.
func (s *Store) Crash(t testing.TB) *Store {
	t.Helper()
	after, err := s.CrashTo(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { after.Close() })
	return after
}

// CrashTo is Crash with the folder to copy the files to.
func (s *Store) CrashTo(dir string) (*Store, error) {
	cfg := s.cfg
	cfg.Dir = dir
	now := s.Now()
	cfg.Now = func() time.Time { return now }
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, name := range []string{"certctl.db", "certctl.db-wal"} {
		b, err := os.ReadFile(filepath.Join(s.cfg.Dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			return nil, err
		}
	}
	after, err := Open(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	after.Advance(time.Duration(s.Now().UnixMilli()-after.Now().UnixMilli()) * time.Millisecond)
	return after, nil
}
