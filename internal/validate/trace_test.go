package validate

import (
	"strings"
	"testing"
	"time"
)

func TestRecorderIsBounded(t *testing.T) {
	r := &recorder{now: time.Now}
	for i := range 100 {
		r.add(StepBody, strings.Repeat("t", 1000), "\x00a\nb\xff", "%d %s", i, strings.Repeat("é", 1000))
	}
	steps := r.take()
	if len(steps) != maxSteps {
		t.Fatalf("%d steps", len(steps))
	}
	for i, want := range map[int]string{0: "0 ", 19: "19 ", 20: "(60 steps before this one left out) 80 ", 39: "99 "} {
		if got := steps[i].Detail; !strings.HasPrefix(got, want) {
			t.Errorf("step %d is %q; want %q", i, got, want)
		}
	}
	for _, s := range steps {
		if len(s.Target) > maxStepText || len(s.Detail) > maxStepText || s.Address != "?a?b?" {
			t.Fatalf("step %+v", s)
		}
		if !strings.HasSuffix(s.Target, "...") || strings.Contains(s.Detail, "?") {
			t.Fatalf("step %+v", s)
		}
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"":                             `""`,
		"a\"b\n\x1b[0m\u202e\xff":      `"a\"b\n\x1b[0m\u202e\xff"`,
		strings.Repeat("a", 64):        `"` + strings.Repeat("a", 64) + `"`,
		strings.Repeat("a", 64) + "bc": `"` + strings.Repeat("a", 64) + `" (cut off)`,
	} {
		if got := quote([]byte(in)); got != want {
			t.Errorf("%q: %s; want %s", in, got, want)
		}
	}
}
