package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certctl/certctl/internal/audit"
)

// Issuer is the record of who signs: its certificates; the keys are secrets.
type Issuer struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind"` // "local"
	Name      string    `json:"name"`
	Chain     string    `json:"chain"` // PEM: issuing certificate first, root last
	CreatedAt time.Time `json:"created_at"`
}

// CreateIssuer stores an issuer with its keys, all or nothing. When one of that
// id is there already it stays as it is and ErrExists is returned.
func (s *Store) CreateIssuer(ctx context.Context, actor string, i Issuer, keys map[string][]byte) error {
	e := event{actor, audit.IssuerCreated, "issuer", i.ID, map[string]string{"name": i.Name, "kind": i.Kind}}
	return s.write(ctx, e, func(t *tx) error {
		err := t.must(ErrExists, `INSERT INTO issuers (id, kind, name, chain, created_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (id) DO NOTHING`, i.ID, i.Kind, i.Name, i.Chain, t.now)
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
		return c.query(`SELECT id, kind, name, chain, created_at FROM issuers ORDER BY id`, nil, func(r row) error {
			all = append(all, Issuer{ID: r.text(0), Kind: r.text(1), Name: r.text(2), Chain: r.text(3), CreatedAt: r.time(4)})
			return nil
		})
	})
	return all, err
}

// CRL is the newest certificate revocation list of an issuer.
type CRL struct {
	Number     int64
	DER        []byte
	ThisUpdate time.Time
	NextUpdate time.Time
}

// CRL returns the issuer's newest CRL; ErrNotFound before the first.
func (s *Store) CRL(ctx context.Context, issuerID string) (CRL, error) {
	var crl CRL
	err := s.read(ctx, func(c *conn) error {
		return c.one(`SELECT number, der, this_update, next_update FROM crls WHERE issuer_id = $1`, []any{issuerID}, func(r row) error {
			crl = CRL{r.int(0), r.bytes(1), r.time(2), r.time(3)}
			return nil
		})
	})
	return crl, err
}

// PublishCRL stores a CRL in place of one with a lower number; ErrConflict when
// the stored one is as new.
func (s *Store) PublishCRL(ctx context.Context, issuerID string, crl CRL) error {
	e := event{audit.System("crl"), audit.CRLPublished, "issuer", issuerID, map[string]any{"number": crl.Number}}
	return s.write(ctx, e, func(t *tx) error {
		return t.must(ErrConflict, `INSERT INTO crls (issuer_id, number, der, this_update, next_update) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (issuer_id) DO UPDATE SET number = excluded.number, der = excluded.der,
			this_update = excluded.this_update, next_update = excluded.next_update
			WHERE crls.number < excluded.number`,
			issuerID, crl.Number, crl.DER, crl.ThisUpdate, crl.NextUpdate)
	})
}

// Revoked is a revoked certificate as a CRL lists it.
type Revoked struct {
	Serial string
	At     time.Time
	Reason int
}

// RevokedBy returns, in one snapshot, the issuer's revoked certificates that had
// not expired before the time given, and the number of its newest CRL (0: none).
func (s *Store) RevokedBy(ctx context.Context, issuerID string, since time.Time) (list []Revoked, number int64, err error) {
	err = s.snapshot(ctx, func(c *conn) error {
		err := c.one(`SELECT number FROM crls WHERE issuer_id = $1`, []any{issuerID}, func(r row) error {
			number = r.int(0)
			return nil
		})
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		return c.query(`SELECT serial, revoked_at, revocation_reason FROM certificates
			WHERE issuer_id = $1 AND not_after >= $2 AND revoked_at IS NOT NULL ORDER BY revoked_at, serial`,
			[]any{issuerID, since}, func(r row) error {
				list = append(list, Revoked{r.text(0), r.time(1), int(r.int(2))})
				return nil
			})
	})
	return list, number, err
}
