package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestLife(t *testing.T) {
	for text, want := range map[string]string{
		"24h": "24h", "1d": "24h", "90d": "90d", "2160h": "90d", "36h": "36h", "90m": "1h30m", "1h30s": "1h30s", "30s": "30s", "0s": "0s", "10m": "10m",
	} {
		var l life
		if err := l.UnmarshalText([]byte(text)); err != nil || lifeText(int64(l)) != want {
			t.Errorf("%s is read as %s, want %s (%v)", text, lifeText(int64(l)), want, err)
		}
	}
	for _, text := range []string{"", "24", "d", "-1d", "-1h", "1.5d", "99999d", "1ms", "1w", "24 h"} {
		var l life
		if err := l.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %d", text, l)
		}
	}
}

func TestRelative(t *testing.T) {
	now := time.Now()
	for want, d := range map[string]time.Duration{
		"now":            300 * time.Millisecond,
		"1 second ago":   -time.Second,
		"in 119 seconds": 119 * time.Second,
		"3 minutes ago":  -3*time.Minute - 10*time.Second,
		"in 24 hours":    24 * time.Hour,
		"in 47 hours":    47 * time.Hour,
		"2 days ago":     -48 * time.Hour,
		"in 3652 days":   3652 * 24 * time.Hour,
	} {
		if got := relative(now.Add(d), now); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestSerialText(t *testing.T) {
	const want = "52c5b3b7a1c64be1a5b0c1bb9a9d2f10"
	for _, text := range []string{want, "52C5B3B7A1C64BE1A5B0C1BB9A9D2F10", "serial=52C5B3B7A1C64BE1A5B0C1BB9A9D2F10", " 0x" + want + "\n",
		"52:c5:b3:b7:a1:c6:4b:e1:a5:b0:c1:bb:9a:9d:2f:10"} {
		var s serial
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q is read as %q (%v)", text, s, err)
		}
	}
	for _, text := range []string{"", want + "00", want[:30], "g" + want[1:], "../x"} {
		var s serial
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %q", text, s)
		}
	}
}

func TestReasonText(t *testing.T) {
	for text, want := range map[string]reason{"unspecified": 0, "keyCompromise": 1, "key-compromise": 1, "KEYCOMPROMISE": 1, "4": 4, "cessation-of-operation": 5} {
		var r reason
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%q is read as %v (%v)", text, r, err)
		}
	}
	for _, text := range []string{"", "2", "cACompromise", "6", "-1", "01"} {
		var r reason
		if err := r.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, r)
		}
	}
}

func TestTableIsHarmless(t *testing.T) {
	for text, want := range map[string]string{"a\tb\nc": "a?b?c", "\x1b[2J": "?[2J", "é ü": "é ü", "\u202egnp": "?gnp",
		"\u009b2J": "?2J", "\u2066a\u2069": "?a?", "a\u200bb\u061c": "a?b?", "\U000e0041": "?", "\x9b2J": "\ufffd2J", "": ""} {
		if got := clean(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// JSON is harmless too, and says what it said.
func TestJSONIsHarmless(t *testing.T) {
	contacts := []string{"mailto:é@test", "\u009b2J\x7f\x1b[2J", "\u202egnp\u2066\u2069\u200e\u061c", "\U000e0041\U0001f600", "a\nb\t<c>\u2028\u00a0"}
	var out bytes.Buffer
	s := &session{json: true, out: &out}
	if err := s.print(contacts, nil); err != nil {
		t.Fatal(err)
	}
	if bad := strings.IndexFunc(out.String(), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); bad >= 0 {
		t.Errorf("not printable: %q", out.String()[bad:])
	}
	for _, want := range []string{"mailto:é@test", `\u009b2J`, `\u202egnp`, "\U0001f600", "<c>"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in %s", want, out.String())
		}
	}
	var back []string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || !slices.Equal(back, contacts) {
		t.Errorf("it says %q (%v), want %q", back, err, contacts)
	}
}

// What a server says is wrong is told in harmless lines.
func TestErrorsAreHarmless(t *testing.T) {
	var out bytes.Buffer
	report(&out, errors.New("one\u009b2J\ntwo\u202e"))
	if got, want := out.String(), "certctl: one?2J\ncertctl: two?\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
