package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
)

func (t *tx) insertAuthorization(a *acme.Authorization) error {
	_, err := t.exec(`INSERT INTO authorizations (id, account_id, profile_id, order_id, type, value, wildcard, token, offered,
			created_at, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		a.ID, a.AccountID, a.ProfileID, a.OrderID, string(a.Identifier.Type), a.Identifier.Value, a.Wildcard,
		a.Token, joinTypes(a.Offered), a.CreatedAt, a.ExpiresAt)
	return err
}

const selectAuthorization = `SELECT id, account_id, profile_id, order_id, type, value, wildcard, token, offered,
	attempted, attempted_at, created_at, expires_at, validated_at, deactivated_at, problem FROM authorizations`

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
	}
	for _, t := range strings.Fields(r.text(8)) {
		a.Offered = append(a.Offered, acme.ChallengeType(t))
	}
	var err error
	a.Problem, err = scanProblem(r, 15)
	return a, err
}

// Validation is one attempt to validate an authorization that is due.
type Validation struct {
	Authorization acme.Authorization
	Attempt       int   // 1 for the first
	Fence         int64 // of the lease that the attempt is made under
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

// TakeValidations takes up to limit authorizations whose validation by that
// challenge is due and leases them for the time given; one that is not finished
// by then is due again.
func (s *Store) TakeValidations(ctx context.Context, challenge acme.ChallengeType, lease time.Duration, limit int) ([]Validation, error) {
	due := 0
	err := s.read(ctx, func(c *conn) error {
		return c.query(`SELECT 1 FROM authorizations WHERE next_attempt_at <= $1 AND attempted_at IS NOT NULL
			AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL AND attempted = $2 LIMIT 1`, []any{s.Now(), string(challenge)}, func(row) error {
			due++
			return nil
		})
	})
	if err != nil || due == 0 {
		return nil, err
	}
	var taken []Validation
	err = s.writer.do(ctx, func(t *tx) error {
		taken = nil
		return t.query(`UPDATE authorizations SET next_attempt_at = $1, attempts = attempts + 1, fence = fence + 1
			WHERE id IN (SELECT id FROM authorizations WHERE next_attempt_at <= $2 AND attempted_at IS NOT NULL
				AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL AND attempted = $3
				ORDER BY next_attempt_at LIMIT $4)
			RETURNING id, account_id, profile_id, order_id, type, value, wildcard, token, offered, attempted, attempted_at,
				created_at, expires_at, validated_at, deactivated_at, problem, attempts, fence`,
			[]any{t.now.Add(lease), t.now, string(challenge), limit}, func(r row) error {
				a, err := scanAuthorization(r)
				if err != nil {
					return err
				}
				taken = append(taken, Validation{*a, int(r.int(16)), r.int(17)})
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
			WHERE id = $2 AND fence = $3 AND validated_at IS NULL AND failed_at IS NULL`, t.now.Add(after), v.Authorization.ID, v.Fence)
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
			return t.must(ErrConflict, `UPDATE authorizations SET validated_at = $1, expires_at = $2, trace = $3, next_attempt_at = NULL
				WHERE id = $4 AND fence = $5 AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL AND expires_at > $1`,
				t.now, wholeSecond(t.now.Add(validFor)), string(traceText), a.ID, v.Fence)
		}
		err := t.must(ErrConflict, `UPDATE authorizations SET failed_at = $1, problem = $2, trace = $3, next_attempt_at = NULL
			WHERE id = $4 AND fence = $5 AND validated_at IS NULL AND failed_at IS NULL`,
			t.now, problem, string(traceText), a.ID, v.Fence)
		if err != nil {
			return err
		}
		_, err = t.exec(`UPDATE orders SET failed_at = $1, problem = $2
			WHERE id = $3 AND claimed_at IS NULL AND issued_at IS NULL AND failed_at IS NULL`, t.now, orderProblem, a.OrderID)
		return err
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
// when it was pending, the order that it was made for.
func (s *Store) DeactivateAuthorization(ctx context.Context, a *acme.Authorization) error {
	e := event{audit.Account(a.AccountID), audit.AuthorizationDeactivated, "authorization", a.ID,
		map[string]string{"identifier": a.Identifier.String()}}
	return s.write(ctx, e, func(t *tx) error {
		return t.must(ErrConflict, `UPDATE authorizations SET deactivated_at = $1
			WHERE id = $2 AND deactivated_at IS NULL AND failed_at IS NULL AND expires_at > $1`, t.now, a.ID)
	})
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
