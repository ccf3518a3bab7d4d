// Package store keeps every fact of the CA in a SQL database and makes every
// transition between them: one guarded statement, with its audit event, in one
// transaction.
//
// What it promises its callers:
//
//   - Durability. A method that returned nil is on disk: it survives kill -9 and
//     power loss.
//   - Atomicity. A method that returned an error changed nothing, unless the
//     disk itself failed during the commit.
//   - Guards. A transition names the state it starts from; when another caller
//     was first it returns ErrConflict, and exactly one caller wins.
//   - Time. Every stored "when" comes from one clock that never runs backwards.
package store

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/policy"
)

// Config says where the store is and what it enforces.
type Config struct {
	// Dir is the data folder. It is created, readable by its owner only.
	Dir string
	// SecretKey seals the secrets; 32 bytes (LoadSecretKey).
	SecretKey []byte
	// NonceTTL is how long a nonce can be used.
	NonceTTL time.Duration
	// EABRequired makes every profile require an external account key.
	EABRequired bool
	// Limits are spent in the transaction of what they limit.
	Limits Limits
	// AcceptClock opens a database whose last change lies in the future, and lets the
	// clock go back to now.
	AcceptClock bool
	// Now is the wall clock; nil means time.Now.
	Now func() time.Time
}

// Limits bounds what one account may do, and one address without any. A zero
// limit is off.
type Limits struct {
	// Orders is how many orders an account may place in a time.
	Orders policy.Limit
	// OpenOrders is how many unfinished orders an account may have at once.
	OpenOrders int
	// Responds is how often one challenge may be responded to in a time.
	Responds policy.Limit
	// NewAccounts is how many accounts may be made from one source in a time.
	NewAccounts policy.Limit
	// AccountChanges is how often an account may change its contacts or agree to
	// terms in a time: each is an audit event that is kept for ever.
	AccountChanges policy.Limit
	// KeyChanges is how often an account may change its key in a time.
	KeyChanges policy.Limit
}

// Store is the database of one CA.
type Store struct {
	cfg       Config
	lock      *os.File
	writer    *writer
	readers   *pool
	searchers *pool
	secrets   *sealer
	nonces    *nonces
	clock     storeClock
	// monotonic tells the time since some moment, unmoved by the wall clock.
	monotonic func() time.Duration
	ids       idSource
	closing   sync.Once
	closed    error // of the first Close

	accounts cache[string, *acme.Account]
	profiles cache[string, *policy.Rules]
	grants   cache[string, []policy.EABGrant]
	apiKeys  cache[string, APIKey]
	crls     cache[crlKey, CRL]
	chains   cache[string, []IssuerChain]
	answers  answers
}

// Open opens the store in its folder, makes or migrates its tables and takes up
// its nonces. Its errors are one line for the operator: ErrLocked, ErrSecretKey,
// or what the file system said.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	monotonic := func() time.Duration { return 0 } // a wall clock of a test is all the time there is
	if cfg.Now == nil {
		started := time.Now()
		cfg.Now, monotonic = time.Now, func() time.Duration { return time.Since(started) }
	}
	secrets, err := newSealer(cfg.SecretKey)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, monotonic: monotonic, lock: lock, secrets: secrets, readers: newPool(readerCount, 0), searchers: newPool(searcherCount, searchTime)}
	path := filepath.Join(cfg.Dir, "certctl.db")
	if err := s.open(ctx, path); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), s.closeFiles())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context, path string) error {
	// SQLite would make a file that everybody can read.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	c, err := openConn(path, false)
	if err != nil {
		return err
	}
	if err := migrate(c); err != nil {
		return errors.Join(err, c.close())
	}
	for _, p := range []*pool{s.readers, s.searchers} {
		if err := p.fill(path); err != nil {
			return errors.Join(err, c.close())
		}
	}
	if err := s.startClock(c); err != nil {
		return errors.Join(err, c.close())
	}
	wal := &walKeeper{path: path + "-wal", max: walMax, conn: c, pools: []*pool{s.searchers, s.readers}}
	s.writer = newWriter(c, wal, &s.ids, func() int64 { return s.Now().UnixMilli() })
	if err := s.checkSecretKey(ctx); err != nil {
		return err
	}
	// No other process can hold a lease: the folder is locked.
	if err := s.releaseLeases(ctx); err != nil {
		return err
	}
	return s.openNonces(ctx)
}

// Close saves the nonces, lets changes and reads under way finish and closes the
// database. Nonces that were saved are accepted after the next start.
func (s *Store) Close() error {
	s.closing.Do(func() {
		err := s.saveNonces(context.Background())
		s.closed = errors.Join(err, s.closeFiles())
	})
	return s.closed
}

func (s *Store) closeFiles() error {
	if s.writer != nil {
		s.writer.close()
	}
	errs := []error{s.readers.close(s.writer != nil), s.searchers.close(s.writer != nil)}
	// The last connection to close takes the log into the database, which one that
	// only reads cannot.
	if s.writer != nil {
		errs = append(errs, s.writer.conn.close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// maxAhead is how far the last event may lie ahead of the wall clock at a start.
const maxAhead = 10 * time.Minute

// startClock lets the clock begin behind the last event, so that it does not run
// backwards over a restart either. When that event lies far ahead, one of the two
// clocks was wrong, and dates in certificates would be: that is for the operator.
func (s *Store) startClock(c *conn) error {
	return c.query(`SELECT created_at FROM audit_events ORDER BY id DESC LIMIT 1`, nil, func(r row) error {
		last, err := time.Parse(audit.TimeFormat, r.text(0))
		if err != nil {
			return err
		}
		if ahead := last.Sub(s.cfg.Now()); ahead > maxAhead && !s.cfg.AcceptClock {
			return fmt.Errorf("%w: its last change was at %s, which is %v ahead of this machine's clock",
				ErrClock, last.Format(time.RFC3339), ahead.Round(time.Second))
		} else if ahead <= maxAhead {
			s.clock.last = last.UnixMilli() + 1
		}
		return nil
	})
}

// storeClock follows the wall clock, but never runs backwards. While the wall
// clock is behind, because it was set back, it goes on at half speed until it is
// caught up: leases and limits go on too, and dates come right again.
type storeClock struct {
	mu   sync.Mutex
	last int64         // the last time told, milliseconds
	at   time.Duration // when, by the monotonic clock
}

func (c *storeClock) tell(wall int64, monotonic time.Duration) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := max(wall, c.last+(monotonic-c.at).Milliseconds()/2)
	if now > c.last {
		c.last, c.at = now, monotonic
	}
	return c.last
}

// Now is the store's clock, in whole milliseconds.
func (s *Store) Now() time.Time {
	return msTime(s.clock.tell(s.cfg.Now().UnixMilli(), s.monotonic()))
}

func msTime(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// NewID returns a time-ordered id in 26 characters, so that inserts go to the
// right edge of an index: 48 bits of milliseconds, 16 bits that count the ids of
// one millisecond, and 64 random bits.
func (s *Store) NewID() string { return s.ids.next(s.Now()) }

// idSource makes ids. Each is greater than the one before.
type idSource struct{ last atomic.Uint64 } // milliseconds and count

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

func (s *idSource) next(now time.Time) string {
	want := uint64(now.UnixMilli()) << 16
	for {
		last := s.last.Load()
		next := max(want, last+1)
		if s.last.CompareAndSwap(last, next) {
			var b [16]byte
			binary.BigEndian.PutUint64(b[:8], next)
			rand.Read(b[8:])
			return idEncoding.EncodeToString(b[:])
		}
	}
}

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the tables to the newest version, one transaction a version. A
// database that a newer certctl wrote is refused.
func migrate(c *conn) error {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return err
	}
	var version int64
	if err := c.query("PRAGMA user_version", nil, func(r row) error {
		version = r.int(0)
		return nil
	}); err != nil {
		return err
	}
	if int(version) > len(names) {
		return fmt.Errorf("it was written by a newer certctl (schema %d, this one knows %d)", version, len(names))
	}
	for i, name := range names[version:] {
		text, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		script := fmt.Sprintf("%s;\nPRAGMA user_version = %d;", text, int(version)+i+1)
		if err := sqlitex.ExecScript(c.c, script); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
