package acme

import "time"

// Account is what the server knows of an account (RFC 8555, Section 7.1.2).
// It belongs to the server and is the same under every profile.
type Account struct {
	ID              string
	Key             *Key
	Contacts        []string
	TermsAgreedAt   time.Time // zero: not agreed
	CreatedAt       time.Time
	DeactivatedAt   time.Time // zero: in use
	BoundExternally bool      // at least one external account key is bound
}

// Status is "valid" or "deactivated" (RFC 8555, Section 7.1.6).
func (a *Account) Status() Status {
	if !a.DeactivatedAt.IsZero() {
		return StatusDeactivated
	}
	return StatusValid
}
