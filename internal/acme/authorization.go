package acme

import "time"

// Authorization is the server's record of an account's control over one
// identifier under one profile (RFC 8555, Section 7.1.4), as a set of facts.
// All its challenges share one token; the first that the client responds to is
// the one that decides.
type Authorization struct {
	ID            string
	AccountID     string
	ProfileID     string
	OrderID       string
	Identifier    Identifier // without "*."
	Wildcard      bool
	Subdomains    bool // it covers the names below its own too (RFC 9444)
	Trusted       bool // derived from a trusted order; it has no challenge that was run
	Token         string
	Offered       []ChallengeType
	Attempted     ChallengeType // the challenge that was responded to
	AttemptedAt   time.Time
	CreatedAt     time.Time
	ExpiresAt     time.Time
	ValidatedAt   time.Time
	CAACheckedAt  time.Time // zero: CAA records were not asked
	DeactivatedAt time.Time
	Problem       *Problem // why validation failed
}

// Status derives the authorization's state (RFC 8555, Section 7.1.6).
func (a *Authorization) Status(now time.Time) Status {
	switch {
	case !a.DeactivatedAt.IsZero():
		return StatusDeactivated
	case a.Problem != nil:
		return StatusInvalid
	case !now.Before(a.ExpiresAt):
		// A pending authorization that ran out is "invalid", one that had been
		// valid is "expired" (RFC 8555, Section 7.1.6).
		if a.ValidatedAt.IsZero() {
			return StatusInvalid
		}
		return StatusExpired
	case !a.ValidatedAt.IsZero():
		return StatusValid
	default:
		return StatusPending
	}
}

// Challenges returns the authorization's challenges. When one has decided,
// only that one is shown, as RFC 8555, Section 7.1.4 asks of a valid or invalid
// authorization.
func (a *Authorization) Challenges() []Challenge {
	if a.Trusted {
		return []Challenge{{Type: HTTP01, Token: TrustedToken, ValidatedAt: a.ValidatedAt}}
	}
	if a.Attempted != "" && (a.Problem != nil || !a.ValidatedAt.IsZero()) {
		return []Challenge{a.challenge(a.Attempted)}
	}
	all := make([]Challenge, len(a.Offered))
	for i, t := range a.Offered {
		all[i] = a.challenge(t)
	}
	return all
}

// Challenge returns the authorization's challenge of that type.
func (a *Authorization) Challenge(t ChallengeType) (Challenge, bool) {
	for _, c := range a.Challenges() {
		if c.Type == t {
			return c, true
		}
	}
	return Challenge{}, false
}

func (a *Authorization) challenge(t ChallengeType) Challenge {
	c := Challenge{Type: t, Token: a.Token}
	if t == a.Attempted {
		c.RespondedAt, c.ValidatedAt, c.Problem = a.AttemptedAt, a.ValidatedAt, a.Problem
	}
	return c
}
