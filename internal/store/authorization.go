package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
)

// authorize gives each identifier of the order an authorization: one that the
// account has already and that may be used again, or a new one. Identifiers that
// need the same one share it.
func (t *tx) authorize(n *NewOrder, o *acme.Order) ([]acme.Authorization, error) {
	if n.Trusted {
		return nil, nil
	}
	authzs := make([]acme.Authorization, len(n.Authorizations))
next:
	for i := range n.Authorizations {
		want := &n.Authorizations[i]
		if !want.covers(n.Identifiers[i]) {
			return nil, fmt.Errorf("an authorization for %s does not cover %s", want.Identifier, n.Identifiers[i])
		}
		for j := range authzs[:i] {
			if made := &authzs[j]; made.Identifier == want.Identifier && made.Wildcard == want.Wildcard && made.Subdomains == want.Subdomains {
				authzs[i], o.Identifiers[i].AuthzID = *made, made.ID
				continue next
			}
		}
		found, err := t.reusable(n.AccountID, n.ProfileID, want, n.ReuseFor)
		if err != nil {
			return nil, err
		}
		if found == nil {
			found = want.authorization(t, n.AccountID, n.ProfileID, o.ID, n.AuthzTTL)
			if err := t.insertAuthorization(found); err != nil {
				return nil, err
			}
		}
		authzs[i], o.Identifiers[i].AuthzID = *found, found.ID
	}
	return authzs, nil
}

// covers reports whether what is to be authorized includes the identifier.
func (w *NewAuthorization) covers(id acme.Identifier) bool {
	base := id.Base()
	return w.Wildcard == id.Wildcard() && (w.Identifier == base ||
		w.Subdomains && base.Type == acme.DNS && w.Identifier.Type == acme.DNS && strings.HasSuffix(base.Value, "."+w.Identifier.Value))
}

func (w *NewAuthorization) authorization(t *tx, accountID, profileID, orderID string, life time.Duration) *acme.Authorization {
	return &acme.Authorization{
		ID:         t.ids.next(t.now),
		AccountID:  accountID,
		ProfileID:  profileID,
		OrderID:    orderID,
		Identifier: w.Identifier,
		Wildcard:   w.Wildcard,
		Subdomains: w.Subdomains,
		Token:      w.Token,
		Offered:    w.Offered,
		CreatedAt:  t.now,
		ExpiresAt:  wholeSecond(t.now.Add(life)),
	}
}

// reuseMargin is how long an authorization that is used again must still be valid,
// so that its order can be finalized.
const reuseMargin = 10 * time.Minute

// reusable finds a valid authorization of the account under the profile that
// covers what is wanted: of the same name and wildcard-ness, or made for
// subdomains of a name above; validated lately, and by a challenge that the
// profile offers now. nil when there is none.
func (t *tx) reusable(accountID, profileID string, want *NewAuthorization, reuseFor time.Duration) (found *acme.Authorization, err error) {
	if reuseFor <= 0 {
		return nil, nil
	}
	covering, err := json.Marshal(append([]string{want.Identifier.Value}, want.Covering...))
	if err != nil {
		return nil, err
	}
	err = t.query(selectAuthorization+` WHERE account_id = $1 AND value IN (SELECT value FROM json_each($2))
		AND (value = $3 AND subdomains >= $4 OR subdomains = 1)
		AND profile_id = $5 AND type = $6 AND wildcard = $7 AND instr(' ' || $8 || ' ', ' ' || attempted || ' ') > 0
		AND validated_at > $9 AND expires_at > $10 AND deactivated_at IS NULL AND failed_at IS NULL
		ORDER BY expires_at DESC LIMIT 1`,
		[]any{accountID, string(covering), want.Identifier.Value, want.Subdomains, profileID, string(want.Identifier.Type), want.Wildcard,
			joinTypes(want.Offered), t.now.Add(-reuseFor), t.now.Add(reuseMargin)}, func(r row) error {
			found, err = scanAuthorization(r)
			return err
		})
	return found, err
}

// CreateAuthorization makes the first authorization of n without an order
// (RFC 8555, Section 7.4.1), or returns a valid one that may be used again. It
// spends what an order spends; ErrConflict as of CreateOrder.
func (s *Store) CreateAuthorization(ctx context.Context, n NewOrder) (a *acme.Authorization, created bool, err error) {
	want := n.Authorizations[0]
	accountID, profileID := n.AccountID, n.ProfileID
	details, err := marshalDetails(map[string]any{"identifier": want.Identifier.String(), "profile": profileID, "subdomains": want.Subdomains})
	if err != nil {
		return nil, false, err
	}
	err = s.writer.do(ctx, func(t *tx) error {
		created = false
		if err := t.sameKeys(accountID, n.EABKeys); err != nil {
			return err
		}
		if a, err = t.reusable(accountID, profileID, &want, n.ReuseFor); err != nil || a != nil {
			return err
		}
		if err := t.spend("orders:"+accountID, s.cfg.Limits.Orders, "orders of this account"); err != nil {
			return err
		}
		a, created = want.authorization(t, accountID, profileID, "", n.AuthzTTL), true
		err := t.one(`SELECT 1 FROM profiles WHERE id = $1 AND revision = $2 AND archived_at IS NULL`,
			[]any{profileID, n.ProfileRevision}, func(row) error { return nil })
		if errors.Is(err, ErrNotFound) {
			err = ErrConflict
		}
		if err != nil {
			return err
		}
		if err := t.insertAuthorization(a); err != nil {
			return err
		}
		return t.audit(event{actor: audit.Account(accountID), action: audit.AuthorizationCreated, resourceType: "authorization", resourceID: a.ID}, details)
	})
	return a, created, err
}

func (t *tx) insertAuthorization(a *acme.Authorization) error {
	return t.must(ErrConflict, `INSERT INTO authorizations (id, account_id, profile_id, order_id, type, value, wildcard, subdomains, token, offered,
			created_at, expires_at)
		SELECT $1, a.id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 FROM accounts a WHERE a.id = $12 AND a.deactivated_at IS NULL`,
		a.ID, a.ProfileID, a.OrderID, string(a.Identifier.Type), a.Identifier.Value, a.Wildcard, a.Subdomains,
		a.Token, joinTypes(a.Offered), a.CreatedAt, a.ExpiresAt, a.AccountID)
}

const selectAuthorization = `SELECT id, account_id, profile_id, order_id, type, value, wildcard, token, offered,
	attempted, attempted_at, created_at, expires_at, validated_at, deactivated_at, problem, subdomains, caa_checked_at FROM authorizations`

// Authorization returns a stored authorization, or derives that of a trusted
// order.
func (s *Store) Authorization(ctx context.Context, id string) (*acme.Authorization, error) {
	if orderID, index, ok := acme.SplitTrustedAuthzID(id); ok {
		order, _, err := s.Order(ctx, orderID)
		if err != nil {
			return nil, err
		}
		a, ok := order.TrustedAuthorization(index)
		if !ok {
			return nil, fmt.Errorf("authorization %s: %w", id, ErrNotFound)
		}
		return &a, nil
	}
	var a *acme.Authorization
	err := s.read(ctx, func(c *conn) (err error) {
		a, err = c.authorization(id)
		return err
	})
	return a, err
}

func (c *conn) authorization(id string) (a *acme.Authorization, err error) {
	err = c.one(selectAuthorization+` WHERE id = $1`, []any{id}, func(r row) error {
		a, err = scanAuthorization(r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("authorization %s: %w", id, err)
	}
	return a, nil
}

// authorizationsOf returns the authorizations of an order's identifiers. One that
// was swept, long after it ended, is not among them.
func (c *conn) authorizationsOf(o *acme.Order) ([]acme.Authorization, error) {
	authzs := make([]acme.Authorization, 0, len(o.Identifiers))
	for i := range o.Identifiers {
		a, err := c.authorization(o.Identifiers[i].AuthzID)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		authzs = append(authzs, *a)
	}
	return authzs, nil
}

func scanAuthorization(r row) (*acme.Authorization, error) {
	a := &acme.Authorization{
		ID:            r.text(0),
		AccountID:     r.text(1),
		ProfileID:     r.text(2),
		OrderID:       r.text(3),
		Identifier:    acme.Identifier{Type: acme.IdentifierType(r.text(4)), Value: r.text(5)},
		Wildcard:      r.int(6) != 0,
		Token:         r.text(7),
		Attempted:     acme.ChallengeType(r.text(9)),
		AttemptedAt:   r.time(10),
		CreatedAt:     r.time(11),
		ExpiresAt:     r.time(12),
		ValidatedAt:   r.time(13),
		DeactivatedAt: r.time(14),
		Subdomains:    r.int(16) != 0,
		CAACheckedAt:  r.time(17),
	}
	for _, t := range strings.Fields(r.text(8)) {
		a.Offered = append(a.Offered, acme.ChallengeType(t))
	}
	var err error
	a.Problem, err = scanProblem(r, 15)
	return a, err
}

// HoldsAuthorizations reports whether the account has a valid authorization under
// the profile for every identifier, of the same wildcard-ness: one that a
// challenge validated, since those born valid are not stored.
func (s *Store) HoldsAuthorizations(ctx context.Context, accountID, profileID string, ids []acme.Identifier) (holds bool, err error) {
	now := s.Now()
	err = s.snapshot(ctx, func(c *conn) error {
		holds = len(ids) > 0
		for _, id := range ids {
			base, found := id.Base(), false
			err := c.query(`SELECT 1 FROM authorizations WHERE account_id = $1 AND value = $2 AND profile_id = $3 AND type = $4 AND wildcard = $5
				AND validated_at IS NOT NULL AND deactivated_at IS NULL AND failed_at IS NULL AND expires_at > $6 LIMIT 1`,
				[]any{accountID, base.Value, profileID, string(base.Type), id.Wildcard(), now}, func(row) error {
					found = true
					return nil
				})
			if err != nil {
				return err
			}
			holds = holds && found
		}
		return nil
	})
	return holds, err
}

// CountResponse spends a response to a challenge that starts nothing, because it
// was responded to before.
func (s *Store) CountResponse(ctx context.Context, authzID string) error {
	if s.cfg.Limits.Responds.Off() {
		return nil
	}
	return s.writer.do(ctx, func(t *tx) error {
		return t.spend("responds:"+authzID, s.cfg.Limits.Responds, "responses to this challenge")
	})
}

// Validation is one attempt to validate an authorization that is due.
type Validation struct {
	Authorization acme.Authorization
	Attempt       int   // 1 for the first
	Fence         int64 // of the lease that the attempt is made under
	CAACheckedAt  time.Time
}

// RespondChallenge records that the client is ready for validation
// (RFC 8555, Section 7.5.1) and returns the first attempt, leased for the time
// given. The first challenge responded to decides. ErrConflict when the
// authorization is no longer pending or was responded to before.
func (s *Store) RespondChallenge(ctx context.Context, a *acme.Authorization, challenge acme.ChallengeType, lease time.Duration) (*Validation, error) {
	e := event{audit.Account(a.AccountID), audit.ChallengeProcessing, "authorization", a.ID,
		map[string]string{"challenge": string(challenge), "identifier": a.Identifier.String()}}
	v := &Validation{Authorization: *a, Attempt: 1, Fence: 1}
	err := s.write(ctx, e, func(t *tx) error {
		if err := t.spend("responds:"+a.ID, s.cfg.Limits.Responds, "responses to this challenge"); err != nil {
			return err
		}
		v.Authorization.Attempted, v.Authorization.AttemptedAt = challenge, t.now
		return t.must(ErrConflict, `UPDATE authorizations SET attempted = $1, attempted_at = $2, next_attempt_at = $3, attempts = 1, fence = 1
			WHERE id = $4 AND attempted_at IS NULL AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL
			AND expires_at > $2`, string(challenge), t.now, t.now.Add(lease), a.ID)
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// takeFromOne bounds how many validations of one account are taken at once.
const takeFromOne = 32

// TakeValidations takes up to limit authorizations whose validation by that
// challenge is due and leases them for the time given; one that is not finished
// by then is due again. Accounts take turns, but for those listed, of whom none is
// taken: one with thousands of names does not hold up the others.
func (s *Store) TakeValidations(ctx context.Context, challenge acme.ChallengeType, lease time.Duration, limit int, except []string) ([]Validation, error) {
	if except == nil {
		except = []string{}
	}
	not, err := json.Marshal(except)
	if err != nil {
		return nil, err
	}
	found := false
	err = s.read(ctx, func(c *conn) error {
		return c.query(`SELECT 1 FROM authorizations WHERE next_attempt_at <= $1 AND attempted_at IS NOT NULL
			AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL AND attempted = $2 AND expires_at > $1
			AND account_id NOT IN (SELECT value FROM json_each($3)) LIMIT 1`, []any{s.Now(), string(challenge), string(not)}, func(row) error {
			found = true
			return nil
		})
	})
	if err != nil || !found {
		return nil, err
	}
	var taken []Validation
	err = s.writer.do(ctx, func(t *tx) error {
		taken = nil
		return t.query(`WITH due AS (SELECT id, next_attempt_at, row_number() OVER (PARTITION BY account_id ORDER BY next_attempt_at) AS turn
				FROM authorizations WHERE next_attempt_at <= $1 AND attempted_at IS NOT NULL
				AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL AND attempted = $2 AND expires_at > $1
				AND account_id NOT IN (SELECT value FROM json_each($3)))
			UPDATE authorizations SET next_attempt_at = $4, attempts = attempts + 1, fence = fence + 1
			WHERE id IN (SELECT id FROM due WHERE turn <= $5 ORDER BY turn, next_attempt_at LIMIT $6)
			RETURNING id, account_id, profile_id, order_id, type, value, wildcard, token, offered, attempted, attempted_at,
				created_at, expires_at, validated_at, deactivated_at, problem, subdomains, caa_checked_at, attempts, fence`,
			[]any{t.now, string(challenge), string(not), t.now.Add(lease), takeFromOne, limit}, func(r row) error {
				a, err := scanAuthorization(r)
				if err != nil {
					return err
				}
				taken = append(taken, Validation{Authorization: *a, Attempt: int(r.int(18)), Fence: r.int(19)})
				return nil
			})
	})
	return taken, err
}

// RetryValidation makes an attempt due again after a time. ErrConflict when the
// lease was lost.
func (s *Store) RetryValidation(ctx context.Context, v *Validation, after time.Duration) error {
	return s.writer.do(ctx, func(t *tx) error {
		return t.must(ErrConflict, `UPDATE authorizations SET next_attempt_at = $1
			WHERE id = $2 AND fence = $3 AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL`,
			t.now.Add(after), v.Authorization.ID, v.Fence)
	})
}

// FinishValidation records how the validation ended: with a problem, or without
// one as valid until the time given. A failure ends the order that the
// authorization was made for. ErrConflict when the lease was lost.
func (s *Store) FinishValidation(ctx context.Context, v *Validation, p *acme.Problem, validFor time.Duration, trace any) error {
	a := &v.Authorization
	traceText, err := json.Marshal(trace)
	if err != nil {
		return err
	}
	var problem, orderProblem string
	if p != nil {
		if problem, orderProblem, err = validationProblems(a, p); err != nil {
			return err
		}
	}
	e := event{audit.System("validate"), audit.ChallengeCompleted, "authorization", a.ID, map[string]any{
		"challenge": a.Attempted, "identifier": a.Identifier.String(), "account": a.AccountID, "valid": p == nil, "problem": p}}
	return s.write(ctx, e, func(t *tx) error {
		if p == nil {
			return t.must(ErrConflict, `UPDATE authorizations SET validated_at = $1, expires_at = $2, trace = $3, caa_checked_at = $4, next_attempt_at = NULL
				WHERE id = $5 AND fence = $6 AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL AND expires_at > $1`,
				t.now, wholeSecond(t.now.Add(validFor)), string(traceText), v.CAACheckedAt, a.ID, v.Fence)
		}
		err := t.must(ErrConflict, `UPDATE authorizations SET failed_at = $1, problem = $2, trace = $3, next_attempt_at = NULL
			WHERE id = $4 AND fence = $5 AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL`,
			t.now, problem, string(traceText), a.ID, v.Fence)
		if err != nil {
			return err
		}
		return t.failUnclaimed(a.OrderID, "", orderProblem)
	})
}

// validationProblems returns the problem as the challenge and as the order tell
// it: the order names the identifier (RFC 8555, Section 6.7.1).
func validationProblems(a *acme.Authorization, p *acme.Problem) (challenge, order string, err error) {
	text, err := json.Marshal(p)
	if err != nil {
		return "", "", err
	}
	named := *p
	named.Identifier = &a.Identifier
	ofOrder := acme.Unauthorized("validation of %s by %s failed", a.Identifier.Value, a.Attempted)
	ofOrder.Subproblems = []*acme.Problem{&named}
	orderText, err := json.Marshal(ofOrder)
	return string(text), string(orderText), err
}

// DeactivateAuthorization ends an authorization (RFC 8555, Section 7.5.2) and,
// unless that was claimed, the order that it was made for.
func (s *Store) DeactivateAuthorization(ctx context.Context, a *acme.Authorization) error {
	gone, err := json.Marshal(deactivatedAuthz(a.Identifier))
	if err != nil {
		return err
	}
	e := event{audit.Account(a.AccountID), audit.AuthorizationDeactivated, "authorization", a.ID,
		map[string]string{"identifier": a.Identifier.String()}}
	return s.write(ctx, e, func(t *tx) error {
		err := t.must(ErrConflict, `UPDATE authorizations SET deactivated_at = $1
			WHERE id = $2 AND deactivated_at IS NULL AND failed_at IS NULL AND expires_at > $1`, t.now, a.ID)
		if err != nil {
			return err
		}
		return t.failUnclaimed(a.OrderID, "", string(gone))
	})
}

// deactivatedAuthz is why an order ends whose authorization was given up.
func deactivatedAuthz(id acme.Identifier) *acme.Problem {
	return acme.Unauthorized("the authorization for %s was deactivated", id.Value)
}

// failUnclaimed ends orders that can become ready no more, each with its event:
// the one given, or all of an account. One that was claimed ends as it will.
func (t *tx) failUnclaimed(orderID, accountID, problem string) error {
	var ended []string
	err := t.query(`UPDATE orders SET failed_at = $1, problem = $2
		WHERE (id = $3 OR account_id = $4) AND claimed_at IS NULL AND issued_at IS NULL AND failed_at IS NULL RETURNING id`,
		[]any{t.now, problem, orderID, accountID}, func(r row) error {
			ended = append(ended, r.text(0))
			return nil
		})
	if err != nil {
		return err
	}
	details, err := marshalDetails(map[string]any{"problem": json.RawMessage(problem)})
	if err != nil {
		return err
	}
	for _, id := range ended {
		e := event{actor: audit.System("order"), action: audit.OrderFailed, resourceType: "order", resourceID: id}
		if err := t.audit(e, details); err != nil {
			return err
		}
	}
	return nil
}

// Trace returns what operators may know of an authorization's last validation:
// JSON, or "" when none has ended.
func (s *Store) Trace(ctx context.Context, authzID string) (trace string, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.one(`SELECT trace FROM authorizations WHERE id = $1`, []any{authzID}, func(r row) error {
			trace = r.text(0)
			return nil
		})
	})
	return trace, err
}
