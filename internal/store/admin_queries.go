package store

import (
	"context"
	"fmt"

	"github.com/certctl/certctl/internal/policy"
)

// StoredProfile returns a profile as its last revision wrote it, archived or
// not: what a change starts from. Profile returns what requests are decided by,
// in which the server's own settings count too.
func (s *Store) StoredProfile(ctx context.Context, id string) (policy.Profile, error) {
	var p policy.Profile
	err := s.read(ctx, func(c *conn) error {
		return c.one(selectProfile+` WHERE p.id = $1`, []any{id}, func(r row) (err error) {
			p, err = scanProfile(r)
			return err
		})
	})
	if err != nil {
		return policy.Profile{}, fmt.Errorf("profile %s: %w", id, err)
	}
	return p, nil
}

// EABKey returns one external account key, disabled or not.
func (s *Store) EABKey(ctx context.Context, kid string) (EABKey, error) {
	all, err := s.EABKeys(ctx)
	if err != nil {
		return EABKey{}, err
	}
	for _, k := range all {
		if k.KeyID == kid {
			return k, nil
		}
	}
	return EABKey{}, fmt.Errorf("external account key %s: %w", kid, ErrNotFound)
}

// BoundEABKeys returns the ids of the external account keys that an account is
// bound to, disabled ones too, in the order in which they were bound.
func (s *Store) BoundEABKeys(ctx context.Context, accountID string) ([]string, error) {
	kids := []string{}
	err := s.read(ctx, func(c *conn) error {
		return c.query(`SELECT kid FROM eab_bindings WHERE account_id = $1 ORDER BY bound_at, kid`, []any{accountID}, func(r row) error {
			kids = append(kids, r.text(0))
			return nil
		})
	})
	return kids, err
}

// APIKey returns the API key of that name, disabled or not.
func (s *Store) APIKey(ctx context.Context, name string) (APIKey, error) {
	var k APIKey
	err := s.read(ctx, func(c *conn) error {
		return c.one(selectAPIKey+` WHERE name = $1`, []any{name}, func(r row) error {
			k = scanAPIKey(r)
			return nil
		})
	})
	if err != nil {
		return APIKey{}, fmt.Errorf("API key %s: %w", name, err)
	}
	return k, nil
}
