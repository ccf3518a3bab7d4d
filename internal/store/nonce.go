package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/certctl/certctl/internal/acme"
)

// nonces issues and spends replay nonces (RFC 8555, Section 6.5). A nonce is an
// authenticated counter, so issuing one writes nothing. Which were spent is a
// bitmap in memory that an orderly stop saves; after a crash the epoch is a new
// one and older nonces are void, so none can be spent twice.
type nonces struct {
	sealer *acme.NonceSealer
	ttl    time.Duration

	mu     sync.Mutex
	epoch  uint32
	next   uint64
	blocks map[uint64]*nonceBlock // by counter / nonceBlockSize
	oldest uint64                 // lowest block that may still be in blocks
}

const nonceBlockSize = 4096

// nonceBlock remembers which of a run of counters were spent.
type nonceBlock struct {
	Spent   [nonceBlockSize / 64]uint64
	Expires int64 // Unix seconds: when the last nonce of the block has expired
}

// savedNonces is what an orderly stop leaves for the next start.
type savedNonces struct {
	Epoch  uint32
	Next   uint64
	Oldest uint64
	Blocks map[uint64]*nonceBlock
}

const (
	nonceStateKey = "nonces"
	nonceEpochKey = "nonce-epoch"
)

// openNonces takes up the state of an orderly stop, and removes it in the same
// transaction so that it serves once, or starts a new epoch.
func (s *Store) openNonces(ctx context.Context) error {
	key, err := s.EnsureSecret(ctx, "nonce-key", func() ([]byte, error) {
		key := make([]byte, 32)
		rand.Read(key)
		return key, nil
	})
	if err != nil {
		return err
	}
	sealer, err := acme.NewNonceSealer(key)
	if err != nil {
		return err
	}
	var saved savedNonces
	err = s.writer.do(ctx, func(t *tx) error {
		saved = savedNonces{}
		var state []byte
		err := t.one(`SELECT value FROM server_state WHERE key = $1`, []any{nonceStateKey}, func(r row) error {
			state = r.bytes(0)
			return nil
		})
		if err == nil {
			if err := json.Unmarshal(state, &saved); err != nil {
				return fmt.Errorf("saved nonces: %w", err)
			}
			_, err = t.exec(`DELETE FROM server_state WHERE key = $1`, nonceStateKey)
			return err
		}
		if !errors.Is(err, ErrNotFound) {
			return err
		}
		saved.Epoch, err = t.nextNonceEpoch()
		return err
	})
	if err != nil {
		return err
	}
	if saved.Blocks == nil {
		saved.Blocks = make(map[uint64]*nonceBlock)
	}
	s.nonces = &nonces{
		sealer: sealer,
		ttl:    s.cfg.NonceTTL,
		epoch:  saved.Epoch,
		next:   saved.Next,
		oldest: saved.Oldest,
		blocks: saved.Blocks,
	}
	return nil
}

func (t *tx) nextNonceEpoch() (uint32, error) {
	var epoch uint32
	err := t.query(`SELECT value FROM server_state WHERE key = $1`, []any{nonceEpochKey}, func(r row) error {
		b := r.bytes(0)
		if len(b) != 4 {
			return errors.New("nonce epoch is not four bytes")
		}
		epoch = binary.BigEndian.Uint32(b)
		return nil
	})
	if err != nil {
		return 0, err
	}
	epoch++
	_, err = t.exec(`INSERT INTO server_state (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
		nonceEpochKey, binary.BigEndian.AppendUint32(nil, epoch))
	return epoch, err
}

// saveNonces keeps the spent nonces for the next start. No nonce is issued or
// spent afterwards.
func (s *Store) saveNonces(ctx context.Context) error {
	if s.nonces == nil {
		return nil
	}
	n := s.nonces
	n.mu.Lock()
	state, err := json.Marshal(savedNonces{Epoch: n.epoch, Next: n.next, Oldest: n.oldest, Blocks: n.blocks})
	n.blocks = nil
	n.mu.Unlock()
	if err != nil {
		return err
	}
	return s.writer.do(ctx, func(t *tx) error {
		_, err := t.exec(`INSERT INTO server_state (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
			nonceStateKey, state)
		return err
	})
}

// NewNonce returns a fresh nonce. It writes nothing.
func (s *Store) NewNonce() string {
	n := s.nonces
	// Seconds are what a nonce can carry; rounding up never shortens its life.
	now := s.Now()
	expires := now.Add(n.ttl + time.Second).Truncate(time.Second)
	n.mu.Lock()
	counter := n.next
	n.next++
	if n.blocks != nil {
		b := n.blocks[counter/nonceBlockSize]
		if b == nil {
			n.dropExpired(now.Unix())
			b = new(nonceBlock)
			n.blocks[counter/nonceBlockSize] = b
		}
		b.Expires = max(b.Expires, expires.Unix())
	}
	epoch := n.epoch
	n.mu.Unlock()
	return n.sealer.Seal(acme.Nonce{Epoch: epoch, Counter: counter, Expires: expires})
}

// SpendNonce uses a nonce up. It answers nil once for each nonce and ErrNonce
// ever after, whatever becomes of the request that carried it.
func (s *Store) SpendNonce(nonce string) error {
	n := s.nonces
	v, ok := n.sealer.Open(nonce)
	now := s.Now()
	if !ok || !now.Before(v.Expires) {
		return ErrNonce
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dropExpired(now.Unix())
	b := n.blocks[v.Counter/nonceBlockSize]
	if b == nil || v.Epoch != n.epoch || v.Counter >= n.next {
		return ErrNonce
	}
	word, bit := v.Counter%nonceBlockSize/64, uint64(1)<<(v.Counter%64)
	if b.Spent[word]&bit != 0 {
		return ErrNonce
	}
	b.Spent[word] |= bit
	return nil
}

// dropExpired forgets blocks whose last nonce has expired. It is amortized: each
// block is looked at once while it is the oldest and dropped once.
func (n *nonces) dropExpired(now int64) {
	for current := n.next / nonceBlockSize; n.oldest < current; n.oldest++ {
		b := n.blocks[n.oldest]
		if b != nil && b.Expires > now {
			return
		}
		delete(n.blocks, n.oldest)
	}
}
