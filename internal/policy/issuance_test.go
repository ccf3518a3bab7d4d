package policy

import (
	"strings"
	"testing"
	"time"
)

func TestPublishesRevocation(t *testing.T) {
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		below int64
		life  time.Duration
		want  bool
	}{
		{0, time.Second, true},
		{0, 24 * time.Hour, true},
		{3600, time.Hour - time.Second, false},
		{3600, time.Hour, true}, // not shorter
		{3600, time.Hour + time.Second, true},
		{7 * 86400, 7*24*time.Hour - time.Second, false},
		{7 * 86400, 7 * 24 * time.Hour, true},
	} {
		rules := IssuanceRules{NoRevocationBelowSeconds: test.below}
		// A life of one second begins and ends in the same one.
		if got := rules.PublishesRevocation(begin.Add(time.Minute), begin, begin.Add(test.life-time.Second)); got != test.want {
			t.Errorf("below %d s, a life of %v: %v, want %v", test.below, test.life, got, test.want)
		}
	}
}

// A certificate that is dated in advance can be misused until its end, however
// short its validity is.
func TestPublishesRevocationOfPostDated(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	rules := IssuanceRules{NoRevocationBelowSeconds: 7 * 86400}
	for ahead, want := range map[time.Duration]bool{0: false, 12 * time.Hour: false, 89 * 24 * time.Hour: true} {
		nb := now.Add(ahead)
		if got := rules.PublishesRevocation(now, nb, nb.Add(6*24*time.Hour)); got != want {
			t.Errorf("%v ahead: %v, want %v", ahead, got, want)
		}
	}
}

// TestPublishesRevocationOfDefaultLife ties the rule to the lives that Validity chooses: one of exactly the bound
// keeps its pointers.
func TestPublishesRevocationOfDefaultLife(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for ttl, want := range map[int64]bool{86399: false, 86400: true} {
		p := testProfile(func(p *Profile) { p.MaxTTLSeconds, p.NoRevocationBelowSeconds = ttl, 86400 })
		nb, na, err := p.Validity(time.Time{}, time.Time{}, now, now.AddDate(1, 0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.PublishesRevocation(now, nb, na); got != want {
			t.Errorf("a life of %d s: %v, want %v", ttl, got, want)
		}
	}
}

func TestValidateNoRevocationBelow(t *testing.T) {
	for seconds, valid := range map[int64]bool{-1: false, 0: true, 1: true, 604800: true, 604801: false} {
		p := testProfile(func(p *Profile) { p.NoRevocationBelowSeconds = seconds })
		err := p.Validate(Constraints{})
		if (err == nil) != valid || err != nil && !strings.Contains(err.Error(), "no_revocation_below_seconds") {
			t.Errorf("%d seconds: %v", seconds, err)
		}
	}
}
