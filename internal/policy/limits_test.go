package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func TestInterval(t *testing.T) {
	for _, test := range []struct {
		limit Limit
		want  time.Duration
	}{
		{Limit{1000, time.Hour}, 3600 * time.Millisecond},
		{Limit{5, time.Hour}, 12 * time.Minute},
		{Limit{1, time.Second}, time.Second},
		{Limit{7, time.Hour}, 514285715 * time.Microsecond}, // rounded up
		{Limit{3, time.Microsecond}, time.Microsecond},
		{Limit{1 << 62, time.Hour}, time.Microsecond},
		{Limit{0, time.Hour}, 0},
		{Limit{-1, time.Hour}, 0},
		{Limit{5, 0}, 0},
		{Limit{}, 0},
	} {
		if got := test.limit.Interval(); got != test.want {
			t.Errorf("%v: %v, want %v", test.limit, got, test.want)
		}
		if off := test.limit.Off(); off != (test.want == 0) {
			t.Errorf("%v: off %v", test.limit, off)
		}
	}
}

func TestSpend(t *testing.T) {
	limit := Limit{Burst: 5, Period: time.Hour} // one each 12 minutes
	at := func(minutes int) time.Time { return epoch.Add(time.Duration(minutes) * time.Minute) }
	for _, test := range []struct {
		name    string
		tat     time.Time
		n       int
		want    time.Time
		retry   time.Duration
		refused bool
	}{
		{name: "first", n: 1, want: at(12)},
		{name: "whole burst at once", n: 5, want: at(60)},
		{name: "more than the burst", n: 6, refused: true},
		{name: "long ago", tat: at(-600), n: 5, want: at(60)},
		{name: "last of the burst", tat: at(48), n: 1, want: at(60)},
		{name: "one too many", tat: at(49), n: 1, want: at(49), retry: time.Minute, refused: true},
		{name: "used up", tat: at(60), n: 1, want: at(60), retry: 12 * time.Minute, refused: true},
		{name: "used up, two wanted", tat: at(60), n: 2, want: at(60), retry: 24 * time.Minute, refused: true},
		{name: "the clock was years ahead", tat: at(5_000_000), n: 1, want: at(60)},
		{name: "the clock was ahead, two wanted", tat: at(61), n: 2, want: at(60)},
		{name: "the clock was ahead, more than the burst", tat: at(600), n: 6, want: at(600), refused: true},
		{name: "nothing wanted", tat: at(60), n: 0, want: at(60)},
	} {
		got, retry, ok := limit.Spend(test.tat, epoch, test.n)
		if !got.Equal(test.want) || retry != test.retry || ok == test.refused {
			t.Errorf("%s: %v, %v, %v", test.name, got.Sub(epoch), retry, ok)
		}
	}
}

func TestSpendWithoutLimit(t *testing.T) {
	for _, limit := range []Limit{{}, {Burst: 0, Period: time.Hour}, {Burst: 5}} {
		if tat, retry, ok := limit.Spend(epoch, epoch, 1_000_000); !ok || retry != 0 || !tat.Equal(epoch) {
			t.Errorf("%v: %v, %v, %v", limit, tat, retry, ok)
		}
	}
}

var genLimit = rapid.Custom(func(t *rapid.T) Limit {
	return Limit{
		Burst:  rapid.IntRange(1, 20).Draw(t, "burst"),
		Period: time.Duration(rapid.Int64Range(1, int64(time.Minute)).Draw(t, "period")),
	}
})

// In no stretch of time are more events had than the burst and what was regained meanwhile.
func TestSpendNeverGivesMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := genLimit.Draw(t, "limit")
		type spent struct {
			at time.Time
			n  int
		}
		var had []spent
		var tat time.Time
		now := epoch
		for range rapid.IntRange(1, 60).Draw(t, "requests") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(limit.Interval())*3/2).Draw(t, "wait")))
			n := rapid.IntRange(1, limit.Burst+1).Draw(t, "n")
			next, _, ok := limit.Spend(tat, now, n)
			if !ok && !next.Equal(tat) {
				t.Fatal("a refusal changed the state")
			}
			if tat = next; ok {
				had = append(had, spent{now, n})
			}
		}
		for i := range had {
			total := 0
			for _, s := range had[i:] {
				total += s.n
				regained := int(s.at.Sub(had[i].at) / limit.Interval())
				if total > limit.Burst+regained {
					t.Fatalf("%d events in %v with %v", total, s.at.Sub(had[i].at), limit)
				}
			}
		}
	})
}

// Events had together leave the same state as the same events one by one.
func TestSpendInAnySplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := genLimit.Draw(t, "limit")
		tat := epoch.Add(time.Duration(rapid.Int64Range(-int64(limit.Period), int64(limit.Period)).Draw(t, "tat")))
		n := rapid.IntRange(1, limit.Burst).Draw(t, "n")
		whole, _, ok := limit.Spend(tat, epoch, n)

		parts, okParts := tat, true
		for left := n; left > 0 && okParts; {
			part := rapid.IntRange(1, left).Draw(t, "part")
			parts, _, okParts = limit.Spend(parts, epoch, part)
			left -= part
		}
		if ok != okParts || ok && !whole.Equal(parts) {
			t.Fatalf("together %v, %v; in parts %v, %v", whole, ok, parts, okParts)
		}
	})
}

// Who waits as told is served, and not a moment earlier.
func TestRetryAfterIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := genLimit.Draw(t, "limit")
		tat := epoch.Add(time.Duration(rapid.Int64Range(0, 2*int64(limit.Period)).Draw(t, "tat")))
		n := rapid.IntRange(1, limit.Burst).Draw(t, "n")
		state, retry, ok := limit.Spend(tat, epoch, n)
		if ok {
			if retry != 0 {
				t.Fatalf("served, and told to wait %v", retry)
			}
			return
		}
		if retry <= 0 {
			t.Fatalf("refused, and told to wait %v", retry)
		}
		if _, _, ok := limit.Spend(state, epoch.Add(retry), n); !ok {
			t.Fatalf("refused after waiting %v", retry)
		}
		if _, _, ok := limit.Spend(state, epoch.Add(retry-1), n); ok {
			t.Fatalf("served before waiting %v", retry)
		}
	})
}

// A state from a clock that ran ahead locks nobody out, and gives no more than one request beyond what is regained.
func TestAClockErrorLocksNobodyOut(t *testing.T) {
	limit := Limit{Burst: 5, Period: time.Hour}
	tat, had := epoch.Add(5*365*24*time.Hour), 0
	for minute := range 60 {
		next, _, ok := limit.Spend(tat, epoch.Add(time.Duration(minute)*time.Minute), 1)
		if ok {
			had++
		}
		tat = next
	}
	if had != 5 { // at once, and one each 12 minutes
		t.Errorf("%d events in an hour after the clock error, want 5", had)
	}
}
