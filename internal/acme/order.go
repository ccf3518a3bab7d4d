package acme

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Order is a request for one certificate (RFC 8555, Section 7.1.3) as a set of
// facts; Status derives its state.
type Order struct {
	ID          string
	AccountID   string
	ProfileID   string
	Identifiers []OrderIdentifier
	NotBefore   time.Time // asked for by the client; zero: not asked
	NotAfter    time.Time // asked for by the client; zero: not asked
	TrustedAt   time.Time // set when the profile's trust authorized the order at birth
	CreatedAt   time.Time
	ExpiresAt   time.Time
	ClaimedAt   time.Time // finalize was accepted
	IssuedAt    time.Time // the certificate is stored
	Serial      string    // of the certificate claimed or issued
	CSRHash     []byte    // SHA-256 of the CSR that was claimed
	Problem     *Problem  // why the order can never be issued
	Replaces    string    // the certificate that it renews, as the client named it (RFC 9773, Section 5)
	// DeactivatedAuthzs lists the authorizations of a trusted order that the
	// client gave up; those of other orders record it themselves.
	DeactivatedAuthzs []string
}

// OrderIdentifier is an identifier of an order with the authorization that
// covers it. AuthzID is empty in a trusted order, whose authorizations are
// derived from the order itself.
type OrderIdentifier struct {
	Identifier
	AuthzID string `json:"authz,omitempty"`
}

// Status derives the order's state (RFC 8555, Section 7.1.6). The
// authorizations are those of its identifiers, in any order; one that is missing
// was swept, long after it ended. A trusted order needs none.
func (o *Order) Status(authzs []Authorization, now time.Time) Status {
	switch {
	case o.Problem != nil:
		return StatusInvalid
	case !o.IssuedAt.IsZero():
		return StatusValid
	case !o.ClaimedAt.IsZero():
		return StatusProcessing
	case !now.Before(o.ExpiresAt):
		return StatusInvalid
	}
	if o.Trusted() {
		if len(o.DeactivatedAuthzs) > 0 {
			return StatusInvalid
		}
		return StatusReady
	}
	if len(authzs) != len(o.Identifiers) {
		return StatusInvalid
	}
	valid := 0
	for i := range authzs {
		switch authzs[i].Status(now) {
		case StatusValid:
			valid++
		case StatusPending:
		default:
			return StatusInvalid
		}
	}
	if valid == len(o.Identifiers) {
		return StatusReady
	}
	return StatusPending
}

// Trusted reports whether the order's authorizations were born valid.
func (o *Order) Trusted() bool { return !o.TrustedAt.IsZero() }

// Names returns the order's identifiers.
func (o *Order) Names() []Identifier {
	ids := make([]Identifier, len(o.Identifiers))
	for i := range o.Identifiers {
		ids[i] = o.Identifiers[i].Identifier
	}
	return ids
}

// AuthzIDs returns the ids of the order's authorizations, in the order of its
// identifiers. One that covers several identifiers is there once.
func (o *Order) AuthzIDs() []string {
	ids := make([]string, 0, len(o.Identifiers))
	for i := range o.Identifiers {
		switch id := o.Identifiers[i].AuthzID; {
		case o.Trusted():
			ids = append(ids, o.ID+"-"+strconv.Itoa(i))
		case !slices.Contains(ids, id):
			ids = append(ids, id)
		}
	}
	return ids
}

// SplitTrustedAuthzID takes apart the id of an authorization that is derived
// from a trusted order. ok is false for ids of stored authorizations.
func SplitTrustedAuthzID(id string) (orderID string, index int, ok bool) {
	orderID, digits, found := strings.Cut(id, "-")
	if !found {
		return "", 0, false
	}
	index, err := strconv.Atoi(digits)
	if err != nil || index < 0 || strconv.Itoa(index) != digits {
		return "", 0, false
	}
	return orderID, index, true
}

// TrustedAuthorization derives the authorization with the given index of a
// trusted order: born valid, valid as long as the order, never reused.
func (o *Order) TrustedAuthorization(index int) (Authorization, bool) {
	if !o.Trusted() || index < 0 || index >= len(o.Identifiers) {
		return Authorization{}, false
	}
	id := o.Identifiers[index].Identifier
	a := Authorization{
		ID:          o.ID + "-" + strconv.Itoa(index),
		AccountID:   o.AccountID,
		ProfileID:   o.ProfileID,
		OrderID:     o.ID,
		Identifier:  id.Base(),
		Wildcard:    id.Wildcard(),
		CreatedAt:   o.CreatedAt,
		ExpiresAt:   o.ExpiresAt,
		ValidatedAt: o.TrustedAt,
		Trusted:     true,
	}
	for _, gone := range o.DeactivatedAuthzs {
		if gone == a.ID {
			a.DeactivatedAt = o.TrustedAt
		}
	}
	return a, true
}
