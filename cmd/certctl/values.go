package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
)

// authMode is how accounts prove that they may have a name.
type authMode policy.AuthMode

func (m *authMode) UnmarshalText(text []byte) error {
	*m = authMode(text)
	if mode := policy.AuthMode(text); mode != policy.TrustAuthenticated && mode != policy.Challenge {
		return fmt.Errorf("%q is neither %s nor %s", text, policy.TrustAuthenticated, policy.Challenge)
	}
	return nil
}

// timestamp is a time as RFC 3339 writes it.
type timestamp time.Time

func (t *timestamp) UnmarshalText(text []byte) error {
	at, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return fmt.Errorf("%q is not a time such as 2030-01-31T12:00:00Z", text)
	}
	*t = timestamp(at)
	return nil
}

// pageSize is how much of a list is shown at once.
type pageSize int

func (p *pageSize) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	if err != nil || n < 1 || n > 1000 {
		return fmt.Errorf("%q is not a number between 1 and 1000", text)
	}
	*p = pageSize(n)
	return nil
}

// life is a duration in whole seconds: as Go writes them, or in days as "90d".
type life int64

func (l *life) UnmarshalText(text []byte) error {
	s := string(text)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 24h or 90d", s)
		}
		*l = life(n * 24 * 60 * 60)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a duration such as 24h or 90d", s)
	}
	if d%time.Second != 0 {
		return fmt.Errorf("%q is not a whole number of seconds", s)
	}
	*l = life(d / time.Second)
	return nil
}

// lifeText writes a life as life reads it.
func lifeText(seconds int64) string {
	const day = 24 * 60 * 60
	if seconds > day && seconds%day == 0 {
		return fmt.Sprintf("%dd", seconds/day)
	}
	text := ""
	for _, part := range []struct {
		n    int64
		unit string
	}{{seconds / 3600, "h"}, {seconds / 60 % 60, "m"}, {seconds % 60, "s"}} {
		if part.n != 0 {
			text += fmt.Sprintf("%d%s", part.n, part.unit)
		}
	}
	if text == "" {
		return "0s"
	}
	return text
}

// expiry is a moment, given as such or as a time from now.
type expiry struct {
	at   time.Time
	from life
}

func (e *expiry) UnmarshalText(text []byte) error {
	if at, err := time.Parse(time.RFC3339, string(text)); err == nil {
		e.at = at
		return nil
	}
	if err := e.from.UnmarshalText(text); err != nil || e.from == 0 {
		return fmt.Errorf("%q is neither a duration such as 24h or 90d nor a time such as 2030-01-31T12:00:00Z", text)
	}
	return nil
}

// time returns nil when no expiry was given.
func (e *expiry) time(now time.Time) *time.Time {
	switch {
	case e.from != 0:
		at := now.Add(time.Duration(e.from) * time.Second).UTC().Truncate(time.Second)
		return &at
	case !e.at.IsZero():
		return &e.at
	}
	return nil
}

// serial is a certificate's serial number in any of the spellings that tools
// print.
type serial string

func (s *serial) UnmarshalText(text []byte) error {
	plain := strings.ToLower(strings.TrimSpace(string(text)))
	plain = strings.TrimPrefix(strings.TrimPrefix(plain, "serial="), "0x")
	plain = strings.NewReplacer(":", "", " ", "").Replace(plain)
	if _, err := pki.ParseSerial(plain); err != nil {
		return fmt.Errorf("%q is not a serial number of this CA (32 hexadecimal digits, with or without colons)", text)
	}
	*s = serial(plain)
	return nil
}

// reason is why a certificate is revoked (RFC 5280, Section 5.3.1), by its name
// or its number.
type reason int

var reasonNames = map[reason]string{
	pki.ReasonUnspecified:          "unspecified",
	pki.ReasonKeyCompromise:        "keyCompromise",
	pki.ReasonAffiliationChanged:   "affiliationChanged",
	pki.ReasonSuperseded:           "superseded",
	pki.ReasonCessationOfOperation: "cessationOfOperation",
	pki.ReasonPrivilegeWithdrawn:   "privilegeWithdrawn",
}

func (r *reason) UnmarshalText(text []byte) error {
	for code, name := range reasonNames {
		if strings.EqualFold(name, strings.ReplaceAll(string(text), "-", "")) || string(text) == strconv.Itoa(int(code)) {
			*r = code
			return nil
		}
	}
	return fmt.Errorf("%q is none of unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn", text)
}

func (r reason) String() string {
	if name, ok := reasonNames[r]; ok {
		return name
	}
	return strconv.Itoa(int(r))
}

// list returns the values of a flag that may be repeated and may hold commas;
// nil when the flag was not given, and an empty list when it was given as "".
func list(given []string) *[]string {
	if given == nil {
		return nil
	}
	all := []string{}
	for _, values := range given {
		for value := range strings.SplitSeq(values, ",") {
			if value = strings.TrimSpace(value); value != "" {
				all = append(all, value)
			}
		}
	}
	return &all
}
