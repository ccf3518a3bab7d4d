package acme

import (
	"bytes"
	"math"
	"math/bits"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func testSealer(fill byte) *NonceSealer {
	s, err := NewNonceSealer(bytes.Repeat([]byte{fill}, 32))
	if err != nil {
		panic(err)
	}
	return s
}

func TestNonceRoundTrip(t *testing.T) {
	s, replica, foreign := testSealer(1), testSealer(1), testSealer(2)
	rapid.Check(t, func(t *rapid.T) {
		n := Nonce{
			Epoch:   rapid.Uint32().Draw(t, "epoch"),
			Counter: rapid.Uint64().Draw(t, "counter"),
			Expires: time.Unix(rapid.Int64Range(0, math.MaxUint32).Draw(t, "expires"), 0).UTC(),
		}
		text := s.Seal(n)
		if len(text) != 43 || !isBase64URL([]byte(text)) {
			t.Fatalf("%q is no Replay-Nonce (RFC 8555, Section 6.5.1)", text)
		}
		if got, ok := replica.Open(text); !ok || got != n {
			t.Fatalf("%v opens as %v, %v", n, got, ok)
		}
		if _, ok := foreign.Open(text); ok {
			t.Fatal("opens with another key")
		}
		// Any other string of the length is no nonce.
		i := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		changed := []byte(text)
		changed[i] = rapid.SampledFrom([]byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/\n\r\x00")).Draw(t, "byte")
		if _, ok := s.Open(string(changed)); ok && string(changed) != text {
			t.Fatalf("%q opens as well as %q", changed, text)
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	s := testSealer(1)
	good := s.Seal(Nonce{Epoch: 1, Counter: 2, Expires: time.Unix(3, 0)})
	for _, text := range []string{
		"", "A", testNonce, good[:42], good + "A", good + "=", "=" + good[1:], good[:42] + "=", "\n" + good[1:], good[:42] + "\n",
		strings.Repeat("A", 43), strings.Repeat("_", 43), strings.ToLower(good), strings.Repeat("é", 21) + "A", good + good,
	} {
		if n, ok := s.Open(text); ok || n != (Nonce{}) {
			t.Errorf("%q opens as %v, %v", text, n, ok)
		}
	}
}

// TestNonceTellsNothing: nonces in a row look unrelated in every octet, so the
// counter tells nobody how many there are.
func TestNonceTellsNothing(t *testing.T) {
	s := testSealer(1)
	const rounds = 2000
	var flips [nonceSize]int
	raw := func(counter uint64) []byte {
		b, err := decodeBase64URL([]byte(s.Seal(Nonce{Epoch: 7, Counter: counter, Expires: time.Unix(1<<30, 0)})))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for c := range uint64(rounds) {
		a, b := raw(c), raw(c+1)
		for i := range a {
			flips[i] += bits.OnesCount8(a[i] ^ b[i])
		}
	}
	for i, n := range flips {
		if share := float64(n) / (8 * rounds); share < 0.45 || share > 0.55 {
			t.Errorf("octet %d changes %.0f%% of its bits from one nonce to the next, want about 50%%", i, 100*share)
		}
	}
}

func TestNonceSealerConcurrently(t *testing.T) {
	s := testSealer(1)
	var wg sync.WaitGroup
	for g := range uint32(8) {
		wg.Go(func() {
			for c := range uint64(500) {
				n := Nonce{Epoch: g, Counter: c, Expires: time.Unix(int64(c), 0).UTC()}
				if got, ok := s.Open(s.Seal(n)); !ok || got != n {
					t.Errorf("%v opens as %v, %v", n, got, ok)
				}
			}
		})
	}
	wg.Wait()
}

func TestNonceKeyLength(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := NewNonceSealer(make([]byte, n)); err == nil {
			t.Errorf("a key of %d bytes was accepted", n)
		}
	}
}

func TestNonceAllocations(t *testing.T) {
	if raceEnabled {
		return // the race detector drops what a sync.Pool keeps
	}
	s := testSealer(1)
	n := Nonce{Epoch: 1, Counter: 2, Expires: time.Unix(3, 0)}
	text := s.Seal(n)
	if got := testing.AllocsPerRun(1000, func() { s.Seal(n) }); got > 1 {
		t.Errorf("Seal allocates %v times, want only its string", got)
	}
	if got := testing.AllocsPerRun(1000, func() { s.Open(text) }); got > 0 {
		t.Errorf("Open allocates %v times", got)
	}
}

func FuzzOpenNonce(f *testing.F) {
	s := testSealer(1)
	good := s.Seal(Nonce{Epoch: 1, Counter: 2, Expires: time.Unix(3, 0)})
	for _, text := range []string{"", good, good[1:], good + "A", testNonce, strings.Repeat("A", 43), testSealer(2).Seal(Nonce{Expires: time.Unix(0, 0)})} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, ok := s.Open(text)
		if ok && s.Seal(n) != text {
			t.Fatalf("%q opens as %v, which seals as %q", text, n, s.Seal(n))
		}
	})
}

func BenchmarkNonce(b *testing.B) {
	s := testSealer(1)
	n := Nonce{Epoch: 1, Counter: 2, Expires: time.Unix(3, 0)}
	text := s.Seal(n)
	b.Run("Seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Seal(n)
		}
	})
	b.Run("Open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Open(text)
		}
	})
}
