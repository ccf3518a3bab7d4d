package store

import (
	"fmt"
	"time"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// conn is one database connection, used by one goroutine at a time. Statements
// are prepared once per connection.
//
// Arguments may be string, []byte, int, int64, bool, time.Time (stored as Unix
// milliseconds, the zero time as NULL), opt (NULL when empty) and nil.
type conn struct{ c *sqlite.Conn }

// opt is text that is stored as NULL when it is empty.
type opt string

// row is the current row of a query.
type row struct{ s *sqlite.Stmt }

// openConn opens the database file. Commits are durable when they return:
// synchronous=FULL syncs the log before a commit is acknowledged.
func openConn(path string, readOnly bool) (*conn, error) {
	flags := sqlite.OpenReadWrite | sqlite.OpenCreate | sqlite.OpenWAL
	if readOnly {
		flags = sqlite.OpenReadOnly | sqlite.OpenWAL
	}
	c, err := sqlite.OpenConn(path, flags)
	if err != nil {
		return nil, err
	}
	c.SetBlockOnBusy()
	pragmas := []string{"PRAGMA foreign_keys=OFF", "PRAGMA cache_size=-16384", "PRAGMA temp_store=MEMORY"}
	if !readOnly {
		pragmas = append(pragmas, "PRAGMA synchronous=FULL", "PRAGMA wal_autocheckpoint=2000", "PRAGMA journal_size_limit=67108864")
	}
	for _, p := range pragmas {
		if err := sqlitex.ExecuteTransient(c, p, nil); err != nil {
			c.Close()
			return nil, fmt.Errorf("%s: %w", p, err)
		}
	}
	return &conn{c}, nil
}

func (c *conn) close() error { return c.c.Close() }

// exec runs a statement and returns how many rows it changed.
func (c *conn) exec(sql string, args ...any) (int, error) {
	s, err := c.prepare(sql, args)
	if err != nil {
		return 0, err
	}
	for {
		more, err := s.Step()
		if err != nil {
			s.Reset()
			return 0, err
		}
		if !more {
			break
		}
	}
	n := c.c.Changes()
	return n, s.Reset()
}

// query calls fn for each row. The row is valid only during the call.
func (c *conn) query(sql string, args []any, fn func(r row) error) error {
	s, err := c.prepare(sql, args)
	if err != nil {
		return err
	}
	// Also when fn panics: no transaction ends while a statement in it is open.
	defer s.Reset()
	for {
		more, err := s.Step()
		if err != nil || !more {
			return err
		}
		if err := fn(row{s}); err != nil {
			return err
		}
	}
}

// one calls fn with the only row, or returns ErrNotFound.
func (c *conn) one(sql string, args []any, fn func(r row) error) error {
	found := false
	err := c.query(sql, args, func(r row) error {
		found = true
		return fn(r)
	})
	if err == nil && !found {
		return ErrNotFound
	}
	return err
}

func (c *conn) prepare(sql string, args []any) (*sqlite.Stmt, error) {
	s, err := c.c.Prepare(sql)
	if err != nil {
		return nil, err
	}
	if n := s.BindParamCount(); n != len(args) {
		return nil, fmt.Errorf("statement has %d parameters, %d given: %s", n, len(args), sql)
	}
	for i, a := range args {
		if err := bind(s, i+1, a); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func bind(s *sqlite.Stmt, i int, arg any) error {
	switch v := arg.(type) {
	case nil:
		s.BindNull(i)
	case string:
		s.BindText(i, v)
	case opt:
		if v == "" {
			s.BindNull(i)
		} else {
			s.BindText(i, string(v))
		}
	case []byte:
		if v == nil {
			s.BindNull(i)
		} else {
			s.BindBytes(i, v)
		}
	case int:
		s.BindInt64(i, int64(v))
	case int64:
		s.BindInt64(i, v)
	case bool:
		s.BindBool(i, v)
	case time.Time:
		if v.IsZero() {
			s.BindNull(i)
		} else {
			s.BindInt64(i, v.UnixMilli())
		}
	default:
		return fmt.Errorf("parameter %d has unsupported type %T", i, arg)
	}
	return nil
}

func (r row) text(i int) string { return r.s.ColumnText(i) }
func (r row) int(i int) int64   { return r.s.ColumnInt64(i) }
func (r row) null(i int) bool   { return r.s.ColumnType(i) == sqlite.TypeNull }

// firstTime and lastTime bound the times that are read. JSON has none beyond them,
// and one row of a clock gone wild must not take a whole list with it.
var (
	firstTime = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC).UnixMilli() // not the zero time, which says "never"
	lastTime  = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).UnixMilli()
)

// time returns the zero time for NULL.
func (r row) time(i int) time.Time {
	if r.null(i) {
		return time.Time{}
	}
	return msTime(min(max(r.int(i), firstTime), lastTime))
}

// bytes returns nil for NULL.
func (r row) bytes(i int) []byte {
	if r.null(i) {
		return nil
	}
	b := make([]byte, r.s.ColumnLen(i))
	r.s.ColumnBytes(i, b)
	return b
}
