package store

import (
	"os"
	"time"
)

const (
	// walMax is how long the write-ahead log may become. SQLite takes it into the
	// database as it grows, but begins it anew only at a moment when nobody reads;
	// under load there is none.
	walMax = 64 << 20
	// walWait is how long the writer waits for those who read to finish, and again
	// for another program that reads the file, as a backup does. All new reads and
	// changes wait with it.
	walWait = 250 * time.Millisecond
	// walRetry is the pause after an attempt that somebody was in the way of.
	walRetry = 5 * time.Second
)

// walKeeper keeps the write-ahead log short. It belongs to the writer's goroutine.
type walKeeper struct {
	path  string
	max   int64
	conn  *conn   // the writer's
	pools []*pool // all who read: those who may take long first
	next  time.Time
}

// keep begins the log anew when it is too long. What goes wrong with that is left
// for the next commit to find.
func (k *walKeeper) keep() {
	info, err := os.Stat(k.path)
	if err != nil || info.Size() <= k.max || time.Now().Before(k.next) {
		return
	}
	timeout := time.After(walWait)
	for _, p := range k.pools {
		all, ok := p.collect(timeout)
		defer func() {
			for _, c := range all {
				p.put(c)
			}
		}()
		if !ok {
			k.next = time.Now().Add(walRetry)
			return
		}
	}
	k.conn.c.SetBusyTimeout(walWait)
	defer k.conn.c.SetBlockOnBusy()
	busy := true
	err = k.conn.query("PRAGMA wal_checkpoint(TRUNCATE)", nil, func(r row) error {
		busy = r.int(0) != 0
		return nil
	})
	if err != nil || busy {
		k.next = time.Now().Add(walRetry)
	}
}
