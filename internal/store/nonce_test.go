package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/store"
)

func spends(t *testing.T, s *store.Store, nonce string) {
	t.Helper()
	if err := s.SpendNonce(nonce); err != nil {
		t.Errorf("a nonce that is good: %v", err)
	}
}

func refusesNonce(t *testing.T, s *store.Store, nonce string) {
	t.Helper()
	if err := s.SpendNonce(nonce); !errors.Is(err, store.ErrNonce) {
		t.Errorf("a nonce that is void: got %v, want ErrNonce", err)
	}
}

func TestANonceIsSpentOnce(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		first, second := s.NewNonce(), s.NewNonce()
		if first == second {
			t.Fatal("two nonces are the same")
		}
		spends(t, s, second)
		spends(t, s, first)
		for _, nonce := range []string{first, second, "", "nonsense", first[:len(first)-1] + "A", open(t, t.TempDir()).NewNonce()} {
			refusesNonce(t, s, nonce)
		}
	})
}

func TestANonceIsSpentOnceUnderLoad(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		const callers = 100
		shared := make([]string, 50)
		for i := range shared {
			shared[i] = s.NewNonce()
		}
		wins := make([][]int, callers)
		for _, err := range together(callers, func(i int) error {
			for j := range shared {
				if s.SpendNonce(shared[(i+j)%len(shared)]) == nil {
					wins[i] = append(wins[i], (i+j)%len(shared))
				}
				if err := s.SpendNonce(s.NewNonce()); err != nil {
					return err
				}
			}
			return nil
		}) {
			if err != nil {
				t.Errorf("a nonce of the caller's own: %v", err)
			}
		}
		winners := map[int]int{}
		for _, won := range wins {
			for _, nonce := range won {
				winners[nonce]++
			}
		}
		for i := range shared {
			if winners[i] != 1 {
				t.Errorf("nonce %d was spent %d times", i, winners[i])
			}
		}
	})
}

func TestANonceExpires(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		early, late := s.NewNonce(), s.NewNonce()
		s.Advance(5*time.Minute - time.Millisecond)
		spends(t, s, early)
		s.Advance(time.Second + time.Millisecond) // what rounding may give
		refusesNonce(t, s, late)
		spends(t, s, s.NewNonce())
	})
}

func TestNoncesOutliveAnOrderlyStop(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		spent := s.NewNonce()
		spends(t, s, spent)
		var kept []string
		for range 2*store.NonceBlockSize + 7 {
			kept = append(kept, s.NewNonce())
		}
		for round := range 3 {
			s = reopen(t, s)
			refusesNonce(t, s, spent)
			spent = kept[len(kept)-1-round*store.NonceBlockSize]
			spends(t, s, spent)
			refusesNonce(t, s, spent)
			fresh := s.NewNonce()
			for _, old := range kept {
				if fresh == old {
					t.Fatal("a nonce was issued twice")
				}
			}
			spends(t, s, fresh)
		}
		s.Advance(6 * time.Minute)
		s = reopen(t, s)
		refusesNonce(t, s, kept[0])
		spends(t, s, s.NewNonce())
	})
}

func TestACrashVoidsNonces(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		// What an orderly stop saved serves once: not again after a crash.
		before := s.NewNonce()
		s = reopen(t, s)
		spent, unspent := s.NewNonce(), s.NewNonce()
		spends(t, s, spent)
		crashed := s.Crash(t)
		for range 10 { // as many as were issued before
			crashed.NewNonce()
		}
		for _, nonce := range []string{before, spent, unspent} {
			refusesNonce(t, crashed, nonce)
		}
		spends(t, crashed, crashed.NewNonce())
		// One crash after another: each has an epoch of its own.
		first := crashed.NewNonce()
		again := crashed.Crash(t)
		refusesNonce(t, again, first)
		spends(t, again, again.NewNonce())
		refusesNonce(t, again, first)
	})
}

func TestNonceMemoryIsBounded(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, s *store.Store, nonce string){
		"spent":   spends,
		"unspent": func(*testing.T, *store.Store, string) {},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, s *store.Store) {
				most := 0
				for range 20 {
					for range store.NonceBlockSize {
						use(t, s, s.NewNonce())
					}
					s.Advance(3 * time.Minute)
					most = max(most, s.NonceBlocks())
				}
				if most > 4 { // a nonce lives for five minutes, so for two blocks and those begun
					t.Errorf("%d blocks in memory", most)
				}
				s.Advance(6 * time.Minute)
				s = reopen(t, s)
				for range store.NonceBlockSize + 1 {
					use(t, s, s.NewNonce())
				}
				if n := s.NonceBlocks(); n > 2 {
					t.Errorf("%d blocks in memory after a stop that outlived them", n)
				}
			})
		})
	}
}
