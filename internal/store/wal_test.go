package store_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/store"
)

const walMax = 2 << 20

// writeUntil changes many pages, commit by commit, until enough were, and returns
// how long the log became and how long a change took at most.
func writeUntil(t *testing.T, s *store.Store, enough func(commits int) bool) (most int64, slowest time.Duration) {
	t.Helper()
	for i := 0; !enough(i); i++ {
		began := time.Now()
		err := s.Change(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE server_state SET value = zeroblob(3800 + abs(random()) % 100) WHERE key LIKE 'page-%'`)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(began))
		most = max(most, logSize(t, s))
	}
	return most, slowest
}

func logSize(t *testing.T, s *store.Store) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(s.Dir(), "certctl.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// fillPages makes rows for writeUntil to change.
func fillPages(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.SetWALMax(ctx, walMax); err != nil {
		t.Fatal(err)
	}
	err := s.Change(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(`WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 50)
			INSERT INTO server_state (key, value) SELECT 'page-' || i, zeroblob(3900) FROM c`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Readers that overlap never let SQLite begin the log anew by itself.
func TestTheLogStaysShortUnderReaders(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		fillPages(t, s)
		reading, stop := context.WithCancel(ctx)
		var readers sync.WaitGroup
		for range 2 * store.ReaderCount {
			readers.Go(func() {
				for reading.Err() == nil {
					if _, err := s.Select(`SELECT count(*) FROM server_state WHERE instr(value, x'77')`); err != nil {
						t.Error(err)
					}
				}
			})
		}
		most, _ := writeUntil(t, s, func(commits int) bool { return commits == 100 })
		stop()
		readers.Wait()
		if most > 2*walMax {
			t.Errorf("the log became %d MiB long, want %d at most and what one commit adds", most>>20, walMax>>20)
		}
	})
}

// A reader that does not finish holds up changes for a moment now and then, and
// when it has finished the log is begun anew.
func TestALongReadDoesNotHoldUpChanges(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		fillPages(t, s)
		release := s.HoldSnapshot(t)
		writeUntil(t, s, func(int) bool { return logSize(t, s) > walMax }) // SQLite cannot begin it anew
		if _, slowest := writeUntil(t, s, func(commits int) bool { return commits == 50 }); slowest > 10*time.Second {
			t.Errorf("a change took %v while a read went on", slowest)
		}
		release()
		deadline := time.Now().Add(6 * store.WALRetry)
		writeUntil(t, s, func(int) bool { return logSize(t, s) <= walMax || time.Now().After(deadline) })
		if size := logSize(t, s); size > walMax {
			t.Errorf("the log is %d MiB long when nobody reads", size>>20)
		}
	})
}
