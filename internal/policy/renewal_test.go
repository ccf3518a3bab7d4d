package policy

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestRenewalWindowIsInsideTheValidity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		notBefore := time.Unix(rapid.Int64Range(0, 4e9).Draw(t, "notBefore"), 0)
		life := time.Duration(rapid.Int64Range(60, 10*365*86400).Draw(t, "life")) * time.Second
		notAfter := notBefore.Add(life)
		w := RenewalWindow(rapid.String().Draw(t, "serial"), notBefore, notAfter)
		if !w.Start.Before(w.End) {
			t.Fatalf("%v is not before %v", w.Start, w.End)
		}
		if w.Start.Sub(notBefore) < life/2 || !w.End.Before(notAfter) {
			t.Fatalf("%v to %v is not in the second half of %v to %v", w.Start, w.End, notBefore, notAfter)
		}
	})
}

// A fleet that was issued in one second must not come back in one.
func TestRenewalWindowsAreSpread(t *testing.T) {
	notBefore := time.Unix(1_800_000_000, 0)
	const fleet = 1000
	perHour := map[int64]int{}
	for i := range fleet {
		w := RenewalWindow(fmt.Sprintf("%032x", i), notBefore, notBefore.Add(90*24*time.Hour))
		perHour[w.Start.Unix()/3600]++
	}
	for hour, n := range perHour {
		if n > fleet/20 {
			t.Errorf("%d of %d windows begin in hour %d", n, fleet, hour)
		}
	}
}

func TestRevokedWindow(t *testing.T) {
	notBefore := time.Unix(1_800_000_000, 0)
	for _, after := range []time.Duration{0, time.Second, time.Minute, 48 * time.Hour} {
		revoked := notBefore.Add(after)
		w := RevokedWindow(notBefore, revoked)
		if !w.Start.Before(w.End) || w.End.After(revoked) {
			t.Errorf("revoked after %v: %v to %v", after, w.Start, w.End)
		}
	}
}

func TestRenewalPoll(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, test := range []struct{ remains, want time.Duration }{
		{90 * 24 * time.Hour, 6 * time.Hour},
		{10 * time.Hour, time.Hour},
		{time.Minute, 6 * time.Second},
		{-time.Hour, time.Second},
	} {
		if got := RenewalPoll(6*time.Hour, now, now.Add(test.remains)); got != test.want {
			t.Errorf("%v remain: %v, want %v", test.remains, got, test.want)
		}
	}
}
