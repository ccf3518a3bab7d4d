package store

import (
	"context"
	"fmt"
	"time"

	"github.com/certctl/certctl/internal/audit"
)

// Issuer is the record of who signs: its certificates; the keys are secrets.
type Issuer struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"` // "local"
	Name      string    `json:"name"`
	Chain     string    `json:"chain"`      // PEM: issuing certificate first, root last
	CRLShards int       `json:"crl_shards"` // as pki.CRLShards when it was made; 0: its CRL is not divided
	CreatedAt time.Time `json:"created_at"`
}

// CreateIssuer stores an issuer with its keys, all or nothing. When one of that
// id is there already it stays as it is and ErrExists is returned.
func (s *Store) CreateIssuer(ctx context.Context, actor string, i Issuer, keys map[string][]byte) error {
	e := event{actor, audit.IssuerCreated, "issuer", i.ID, map[string]string{"name": i.Name, "kind": i.Kind}}
	return s.write(ctx, e, func(t *tx) error {
		err := t.must(ErrExists, `INSERT INTO issuers (id, kind, name, chain, crl_shards, created_at) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (id) DO NOTHING`, i.ID, i.Kind, i.Name, i.Chain, i.CRLShards, t.now)
		if err != nil {
			return err
		}
		for name, key := range keys {
			if err := t.putSecret(s.secrets, name, key); err != nil {
				return fmt.Errorf("secret %s: %w", name, err)
			}
		}
		return nil
	})
}

// Issuer returns one issuer.
func (s *Store) Issuer(ctx context.Context, id string) (Issuer, error) {
	all, err := s.Issuers(ctx)
	if err != nil {
		return Issuer{}, err
	}
	for _, i := range all {
		if i.ID == id {
			return i, nil
		}
	}
	return Issuer{}, fmt.Errorf("issuer %s: %w", id, ErrNotFound)
}

// Issuers returns all issuers by id.
func (s *Store) Issuers(ctx context.Context) ([]Issuer, error) {
	all := []Issuer{}
	err := s.read(ctx, func(c *conn) error {
		return c.query(`SELECT id, kind, name, chain, crl_shards, created_at FROM issuers ORDER BY id`, nil, func(r row) error {
			all = append(all, Issuer{ID: r.text(0), Kind: r.text(1), Name: r.text(2), Chain: r.text(3), CRLShards: int(r.int(4)), CreatedAt: r.time(5)})
			return nil
		})
	})
	return all, err
}
