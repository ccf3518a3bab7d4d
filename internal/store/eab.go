package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/policy"
)

// EABKey is an external account key (RFC 8555, Section 7.3.4): the accounts
// bound to it may use the profiles and the names that it lists.
type EABKey struct {
	KeyID          string     `json:"kid"`
	ProfileIDs     []string   `json:"profile_ids"`
	AllowedDomains []string   `json:"allowed_domains"` // none: all that the profile allows
	Reusable       bool       `json:"reusable"`        // binds any number of accounts, not one
	CreatedAt      time.Time  `json:"created_at"`
	ExpiresAt      *time.Time `json:"expires_at,omitempty"`  // ends binding, not the rights of bound accounts
	DisabledAt     *time.Time `json:"disabled_at,omitempty"` // ends binding and rights
	Accounts       []string   `json:"accounts"`              // that are bound
}

// CreateEABKey stores an external account key with its HMAC key, sealed.
func (s *Store) CreateEABKey(ctx context.Context, actor string, k EABKey, hmacKey []byte) error {
	profiles, err := json.Marshal(k.ProfileIDs)
	if err != nil {
		return err
	}
	domains, err := json.Marshal(k.AllowedDomains)
	if err != nil {
		return err
	}
	var limit any
	if !k.Reusable {
		limit = 1
	}
	var expires time.Time
	if k.ExpiresAt != nil {
		expires = *k.ExpiresAt
	}
	e := event{actor, audit.EABKeyCreated, "eab_key", k.KeyID, map[string]any{
		"profile_ids": k.ProfileIDs, "allowed_domains": k.AllowedDomains, "reusable": k.Reusable}}
	return s.write(ctx, e, func(t *tx) error {
		return t.must(ErrExists, `INSERT INTO eab_keys (kid, sealed, profile_ids, allowed_domains, binding_limit, created_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (kid) DO NOTHING`,
			k.KeyID, s.secrets.seal("eab:"+k.KeyID, hmacKey), string(profiles), string(domains), limit, t.now, expires)
	})
}

// DisableEABKey ends a key: it binds no account any more, and what bound
// accounts could do because of it ends with it.
func (s *Store) DisableEABKey(ctx context.Context, actor, kid string) error {
	err := s.write(ctx, event{actor, audit.EABKeyDisabled, "eab_key", kid, nil}, func(t *tx) error {
		return t.must(ErrNotFound, `UPDATE eab_keys SET disabled_at = $1 WHERE kid = $2 AND disabled_at IS NULL`, t.now, kid)
	})
	s.grants.clear()
	return err
}

// BindEABKey binds an account to a key on an operator's word; ErrConflict when
// the account is deactivated.
func (s *Store) BindEABKey(ctx context.Context, actor, accountID, kid string) error {
	if _, err := s.Account(ctx, accountID); err != nil {
		return err
	}
	err := s.writer.do(ctx, func(t *tx) error {
		err := t.one(`SELECT 1 FROM accounts WHERE id = $1 AND deactivated_at IS NULL`, []any{accountID}, func(row) error { return nil })
		if errors.Is(err, ErrNotFound) {
			return ErrConflict
		}
		if err != nil {
			return err
		}
		return t.bindEAB(actor, accountID, kid)
	})
	s.accounts.forget(accountID)
	s.grants.forget(accountID)
	return err
}

// bindEAB binds the account unless it is bound already. The guard stands in the
// statement: of two accounts that race for a single-use key one wins.
func (t *tx) bindEAB(actor, accountID, kid string) error {
	bound, err := t.exec(`INSERT INTO eab_bindings (account_id, kid, bound_at)
		SELECT $1, kid, $2 FROM eab_keys k
		WHERE kid = $3 AND disabled_at IS NULL AND (expires_at IS NULL OR expires_at > $2)
		AND (binding_limit IS NULL OR binding_limit > (SELECT count(*) FROM eab_bindings b WHERE b.kid = k.kid))
		ON CONFLICT (account_id, kid) DO NOTHING`, accountID, t.now, kid)
	if err != nil {
		return err
	}
	if bound == 1 {
		details, err := marshalDetails(map[string]string{"kid": kid})
		if err != nil {
			return err
		}
		return t.audit(event{actor: actor, action: audit.AccountEABBound, resourceType: "account", resourceID: accountID}, details)
	}
	// An account that is bound already may say so again, as long as the key is in use.
	err = t.one(`SELECT 1 FROM eab_bindings b JOIN eab_keys k ON k.kid = b.kid
		WHERE b.account_id = $1 AND b.kid = $2 AND k.disabled_at IS NULL`, []any{accountID, kid}, func(row) error { return nil })
	if errors.Is(err, ErrNotFound) {
		return ErrEABKey
	}
	return err
}

// EABSecret returns the HMAC key of a key that can still be bound or already
// binds; ErrEABKey otherwise.
func (s *Store) EABSecret(ctx context.Context, kid string) ([]byte, error) {
	var sealed []byte
	err := s.read(ctx, func(c *conn) error {
		return c.query(`SELECT sealed FROM eab_keys WHERE kid = $1 AND disabled_at IS NULL`, []any{kid}, func(r row) error {
			sealed = r.bytes(0)
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	if sealed == nil {
		return nil, ErrEABKey
	}
	return s.secrets.open("eab:"+kid, sealed)
}

// Grants returns what the account's enabled external account keys allow.
func (s *Store) Grants(ctx context.Context, accountID string) ([]policy.EABGrant, error) {
	return s.grants.get(accountID, func() ([]policy.EABGrant, error) {
		var grants []policy.EABGrant
		err := s.read(ctx, func(c *conn) error {
			return c.query(`SELECT k.kid, k.profile_ids, k.allowed_domains FROM eab_bindings b JOIN eab_keys k ON k.kid = b.kid
				WHERE b.account_id = $1 AND k.disabled_at IS NULL ORDER BY k.kid`, []any{accountID}, func(r row) error {
				profiles, domains, err := scanLists(r.text(1), r.text(2))
				if err != nil {
					return err
				}
				g, err := policy.NewEABGrant(r.text(0), true, profiles, domains)
				if err != nil {
					return fmt.Errorf("stored external account key %s: %w", r.text(0), err)
				}
				grants = append(grants, g)
				return nil
			})
		})
		return grants, err
	})
}

// sameKeys makes sure that the account's enabled keys are still those that policy
// went by; ErrConflict otherwise.
func (t *tx) sameKeys(accountID string, keys []string) error {
	if keys == nil {
		return nil
	}
	now := []string{}
	err := t.query(`SELECT k.kid FROM eab_bindings b JOIN eab_keys k ON k.kid = b.kid
		WHERE b.account_id = $1 AND k.disabled_at IS NULL ORDER BY k.kid`, []any{accountID}, func(r row) error {
		now = append(now, r.text(0))
		return nil
	})
	if err == nil && !slices.Equal(now, keys) {
		err = ErrConflict
	}
	return err
}

// EABKeys returns all external account keys, newest first.
func (s *Store) EABKeys(ctx context.Context) ([]EABKey, error) {
	all := []EABKey{}
	err := s.search(ctx, func(c *conn) error {
		bound := map[string][]string{}
		err := c.query(`SELECT kid, account_id FROM eab_bindings ORDER BY bound_at`, nil, func(r row) error {
			bound[r.text(0)] = append(bound[r.text(0)], r.text(1))
			return nil
		})
		if err != nil {
			return err
		}
		return c.query(`SELECT kid, profile_ids, allowed_domains, binding_limit, created_at, expires_at, disabled_at
			FROM eab_keys ORDER BY created_at DESC, kid`, nil, func(r row) error {
			k := EABKey{KeyID: r.text(0), Reusable: r.null(3), CreatedAt: r.time(4), Accounts: bound[r.text(0)]}
			if k.Accounts == nil {
				k.Accounts = []string{}
			}
			if at := r.time(5); !at.IsZero() {
				k.ExpiresAt = &at
			}
			if at := r.time(6); !at.IsZero() {
				k.DisabledAt = &at
			}
			k.ProfileIDs, k.AllowedDomains, err = scanLists(r.text(1), r.text(2))
			all = append(all, k)
			return err
		})
	})
	return all, err
}

func scanLists(first, second string) (a, b []string, err error) {
	if err = json.Unmarshal([]byte(first), &a); err == nil {
		err = json.Unmarshal([]byte(second), &b)
	}
	return a, b, err
}
