package validate

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxSteps      = 40  // in a trace
	maxStepText   = 256 // bytes of one string in a trace
	maxQuoted     = 64  // bytes of an answer that a client may read
	maxNameInText = 256 // bytes of a name or URL that is told to a client
)

// Kind says what a step of a probe did.
type Kind string

// The kinds of steps.
const (
	StepResolve  Kind = "resolve"
	StepDial     Kind = "dial"
	StepTLS      Kind = "tls"
	StepRequest  Kind = "request"
	StepRedirect Kind = "redirect"
	StepResponse Kind = "response"
	StepBody     Kind = "body"
	StepCAA      Kind = "caa"
)

// A Step is one thing that a probe did and what came of it. It is for
// operators: it may name addresses and quote answers of hosts that the client
// must not learn about.
type Step struct {
	At      time.Time `json:"at"`
	Kind    Kind      `json:"kind"`
	Target  string    `json:"target,omitempty"`  // the name or URL
	Address string    `json:"address,omitempty"` // the server asked or dialled
	Detail  string    `json:"detail,omitempty"`
}

// A recorder collects the steps of one probe, a bounded number of bounded
// strings: the first half of a trace that is too long, and the last.
type recorder struct {
	now func() time.Time

	mu    sync.Mutex
	steps []Step
	lost  int
}

func (r *recorder) add(kind Kind, target, address, format string, args ...any) {
	s := Step{
		At:      r.now(),
		Kind:    kind,
		Target:  clip(target, maxStepText),
		Address: clip(address, maxStepText),
		Detail:  clip(fmt.Sprintf(format, args...), maxStepText),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.steps) == maxSteps {
		r.steps = slices.Delete(r.steps, maxSteps/2, maxSteps/2+1)
		r.lost++
	}
	r.steps = append(r.steps, s)
}

// take returns the steps. When some were left out, the one after them says so.
func (r *recorder) take() []Step {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost > 0 {
		after := &r.steps[maxSteps/2]
		after.Detail = clip(fmt.Sprintf("(%d steps before this one left out) %s", r.lost, after.Detail), maxStepText)
	}
	return r.steps
}

// clip makes s printable and at most n bytes long.
func clip(s string, n int) string {
	const more = "..."
	if len(s) > 4*n {
		s = s[:4*n]
	}
	s = strings.Map(func(c rune) rune {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			return '?'
		}
		return c
	}, s)
	if len(s) <= n {
		return s
	}
	cut := n - len(more)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + more
}

// quote renders the beginning of an answer, at most 64 bytes of it, such that
// nothing in it can act on whoever displays it.
func quote(b []byte) string {
	if len(b) > maxQuoted {
		return strconv.QuoteToASCII(string(b[:maxQuoted])) + " (cut off)"
	}
	return strconv.QuoteToASCII(string(b))
}
