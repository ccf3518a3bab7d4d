package policy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"pgregory.net/rapid"
)

func TestValidity(t *testing.T) {
	const day = 24 * time.Hour
	const never = time.Duration(1 << 62)
	for _, test := range []struct {
		name             string
		max, byDefault   time.Duration
		from, until      time.Duration // requested, as distances from now; never: not requested
		ca               time.Duration
		wantFrom, wantTo time.Duration
		refused          string
	}{
		{name: "nothing requested", max: day, from: never, until: never, ca: 365 * day, wantFrom: -time.Minute, wantTo: day - time.Minute - time.Second},
		{name: "the default", max: day, byDefault: time.Hour, from: never, until: never, ca: 365 * day, wantFrom: -time.Minute, wantTo: 59*time.Minute - time.Second},
		{name: "short life, short backdating", max: time.Minute, from: never, until: never, ca: day, wantFrom: -6 * time.Second, wantTo: 53 * time.Second},
		{name: "the CA ends earlier", max: day, from: never, until: never, ca: time.Hour, wantFrom: -time.Minute, wantTo: time.Hour},
		{name: "the CA is about to end", max: day, from: never, until: never, ca: time.Second, wantFrom: -time.Minute, wantTo: time.Second},

		{name: "requested end", max: day, from: never, until: time.Hour, ca: 365 * day, wantFrom: -time.Minute, wantTo: time.Hour},
		{name: "requested end ignores the default", max: day, byDefault: time.Hour, from: never, until: 2 * time.Hour, ca: 365 * day, wantFrom: -time.Minute, wantTo: 2 * time.Hour},
		{name: "requested end shortens the backdating", max: day, from: never, until: day - 30*time.Second, ca: 365 * day, wantFrom: -29 * time.Second, wantTo: day - 30*time.Second},
		{name: "requested end leaves no backdating", max: day, from: never, until: day - time.Second, ca: 365 * day, wantFrom: 0, wantTo: day - time.Second},
		{name: "requested end one second too late", max: day, from: never, until: day, ca: 365 * day, refused: "at the latest 2030-01-01T23:59:59Z"},
		{name: "requested end a moment ahead", max: day, from: never, until: time.Second, ca: 365 * day, wantFrom: 0, wantTo: time.Second},
		{name: "requested end is now", max: day, from: never, until: 0, ca: 365 * day, refused: "not in the future"},
		{name: "requested end in the past", max: day, from: never, until: -day, ca: 365 * day, refused: "not in the future"},
		{name: "requested end at the CA's", max: day, from: never, until: time.Hour, ca: time.Hour, wantFrom: -time.Minute, wantTo: time.Hour},
		{name: "requested end after the CA's", max: day, from: never, until: time.Hour, ca: time.Hour - time.Second, refused: "end of the CA certificate"},

		{name: "requested start", max: day, from: time.Hour, until: never, ca: 365 * day, wantFrom: time.Hour, wantTo: 25*time.Hour - time.Second},
		{name: "requested start, the CA ends earlier", max: day, from: time.Hour, until: never, ca: 2 * time.Hour, wantFrom: time.Hour, wantTo: 2 * time.Hour},
		{name: "requested start after the CA's end", max: day, from: 3 * time.Hour, until: never, ca: 2 * time.Hour, refused: "too far ahead"},
		{name: "requested start just now past", max: day, from: -5 * time.Minute, until: never, ca: 365 * day, wantFrom: -5 * time.Minute, wantTo: day - 5*time.Minute - time.Second},
		{name: "requested start long past", max: day, from: -5*time.Minute - time.Second, until: never, ca: 365 * day, refused: "in the past"},
		{name: "requested start, and the life is over", max: time.Minute, from: -5 * time.Minute, until: never, ca: 365 * day, refused: "not in the future"},
		{name: "latest start", max: day, from: day, until: never, ca: 365 * day, wantFrom: day, wantTo: 2*day - time.Second},
		{name: "start too far ahead", max: day, from: day + time.Second, until: never, ca: 365 * day, refused: "too far ahead"},

		{name: "both", max: day, from: time.Hour, until: 2 * time.Hour, ca: 365 * day, wantFrom: time.Hour, wantTo: 2 * time.Hour},
		{name: "both, longest", max: day, from: time.Hour, until: 25*time.Hour - time.Second, ca: 365 * day, wantFrom: time.Hour, wantTo: 25*time.Hour - time.Second},
		{name: "both, one second too long", max: day, from: time.Hour, until: 25 * time.Hour, ca: 365 * day, refused: "at the latest 2030-01-02T00:59:59Z"},
		{name: "both the same", max: day, from: time.Hour, until: time.Hour, ca: 365 * day, wantFrom: time.Hour, wantTo: time.Hour},
		{name: "both, the wrong way round", max: day, from: time.Hour, until: time.Hour - time.Second, ca: 365 * day, refused: "before notBefore"},
		{name: "both, fractions of a second", max: day, from: time.Hour + 999*time.Millisecond, until: 2*time.Hour + time.Millisecond, ca: 365 * day, wantFrom: time.Hour, wantTo: 2 * time.Hour},
		{name: "ages ago", max: day, from: -1 << 61, until: never, ca: 365 * day, refused: "in the past"},
		{name: "far future", max: day, from: never, until: 1 << 61, ca: 365 * day, refused: "too late"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := testProfile(func(p *Profile) {
				p.MaxTTLSeconds, p.DefaultTTLSeconds = int64(test.max/time.Second), int64(test.byDefault/time.Second)
			})
			now := epoch.Add(123 * time.Millisecond).In(time.FixedZone("", 3600))
			at := func(d time.Duration) time.Time {
				if d == never {
					return time.Time{}
				}
				return epoch.Add(d).In(time.FixedZone("", 7200))
			}
			nb, na, err := p.Validity(at(test.from), at(test.until), now, at(test.ca))
			if test.refused != "" {
				if err == nil {
					t.Fatalf("got %v to %v, want a refusal", nb, na)
				}
				if problem := problemOf(t, err); problem.Type != acme.ErrMalformed || !strings.Contains(problem.Detail, test.refused) {
					t.Errorf("%v does not say %q", err, test.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if nb.Sub(epoch) != test.wantFrom || na.Sub(epoch) != test.wantTo {
				t.Errorf("got %v to %v, want %v to %v", nb.Sub(epoch), na.Sub(epoch), test.wantFrom, test.wantTo)
			}
			if nb.Location() != time.UTC || na.Location() != time.UTC {
				t.Error("not in UTC")
			}
		})
	}
}

func TestValidityUnderAnExpiredCA(t *testing.T) {
	p := testProfile()
	_, _, err := p.Validity(time.Time{}, time.Time{}, epoch, epoch)
	var problem *acme.Problem
	if err == nil || errors.As(err, &problem) || !strings.Contains(err.Error(), "iss-local") {
		t.Errorf("%v is not the issuer's error", err)
	}
}

func TestValidityKeepsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := func(name string, from, to int64) time.Duration {
			return time.Duration(rapid.Int64Range(from, to).Draw(t, name)) * time.Second
		}
		p := testProfile()
		p.MaxTTLSeconds = rapid.Int64Range(60, 1000).Draw(t, "max")
		p.DefaultTTLSeconds = rapid.Int64Range(59, p.MaxTTLSeconds).Draw(t, "default")
		if p.DefaultTTLSeconds == 59 {
			p.DefaultTTLSeconds = 0
		}
		var from, until time.Time
		if rapid.Bool().Draw(t, "asks for a start") {
			from = epoch.Add(seconds("from", -400, 1200))
		}
		if rapid.Bool().Draw(t, "asks for an end") {
			until = epoch.Add(seconds("until", -100, 2200))
		}
		ca := epoch.Add(seconds("ca", 1, 3000))
		nb, na, err := p.Validity(from, until, epoch, ca)
		if err != nil {
			if from.IsZero() && until.IsZero() {
				t.Fatalf("nothing was asked for, and yet: %v", err)
			}
			return
		}
		switch {
		case na.Sub(nb)+time.Second > time.Duration(p.MaxTTLSeconds)*time.Second:
			t.Fatalf("%v to %v is longer than %d s", nb, na, p.MaxTTLSeconds)
		case na.Before(nb), !na.After(epoch), na.After(ca):
			t.Fatalf("%v to %v at %v under a CA to %v", nb, na, epoch, ca)
		case !from.IsZero() && !nb.Equal(from), !until.IsZero() && !na.Equal(until):
			t.Fatalf("asked for %v to %v, got %v to %v", from, until, nb, na)
		case from.IsZero() && (nb.After(epoch) || nb.Before(epoch.Add(-time.Minute))):
			t.Fatalf("starts at %v, now is %v", nb, epoch)
		}
	})
}
