package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/pki"
)

// OwnChain stands for an issuer's own chain where one of its chains is named.
const OwnChain = "own"

// IssuerChain is a chain that an issuer's certificates are offered with.
type IssuerChain struct {
	*pki.Chain
	Own       bool // and not added
	Default   bool
	CreatedAt time.Time
}

// IssuerChains returns an issuer's chains in the order in which they are offered: the default one, the issuer's own,
// and the others as they were added. They are shared between requests.
func (s *Store) IssuerChains(ctx context.Context, issuerID string) ([]IssuerChain, error) {
	return s.chains.get(issuerID, func() (all []IssuerChain, err error) {
		err = s.snapshot(ctx, func(c *conn) error {
			standard := ""
			err := c.one(`SELECT chain, created_at, default_chain FROM issuers WHERE id = $1`, []any{issuerID}, func(r row) error {
				standard = r.text(2)
				own, err := scanChain(r.text(0))
				all = append(all, IssuerChain{Chain: own, Own: true, Default: standard == "", CreatedAt: r.time(1)})
				return err
			})
			if err != nil {
				return fmt.Errorf("chain of issuer %s: %w", issuerID, err)
			}
			return c.query(`SELECT id, chain, created_at FROM issuer_chains WHERE issuer_id = $1 ORDER BY created_at, id`, []any{issuerID}, func(r row) error {
				chain, err := scanChain(r.text(1))
				all = append(all, IssuerChain{Chain: chain, Default: standard == r.text(0), CreatedAt: r.time(2)})
				return err
			})
		})
		slices.SortStableFunc(all, func(a, b IssuerChain) int {
			switch {
			case a.Default == b.Default:
				return 0
			case a.Default:
				return -1
			}
			return 1
		})
		return all, err
	})
}

func scanChain(text string) (*pki.Chain, error) {
	certs, err := pki.ParseChainPEM([]byte(text))
	if err != nil {
		return nil, err
	}
	return pki.NewChain(certs)
}

// OfferedChains returns the chains that a certificate is offered with, the default one first.
func (s *Store) OfferedChains(ctx context.Context, cert *Certificate) ([]*pki.Chain, error) {
	all, err := s.IssuerChains(ctx, cert.IssuerID)
	if err != nil {
		return nil, err
	}
	chains := make([]*pki.Chain, len(all))
	for i, chain := range all {
		chains[i] = chain.Chain
	}
	return pki.OfferedChains(cert.DER, chains, s.Now())
}

// AddIssuerChain adds a chain, which must have been checked, to those of an issuer, and makes it the default one if
// wanted. ErrExists when the issuer has it already, with or without its root.
func (s *Store) AddIssuerChain(ctx context.Context, actor, issuerID string, chain *pki.Chain, standard bool) error {
	e := event{actor, audit.IssuerChainAdded, "issuer", issuerID, map[string]any{"chain": chain.ID(), "name": chain.Name(), "default": standard}}
	err := s.write(ctx, e, func(t *tx) error {
		if err := t.one(`SELECT 1 FROM issuers WHERE id = $1`, []any{issuerID}, func(row) error { return nil }); err != nil {
			return err
		}
		err := t.must(ErrExists, `INSERT INTO issuer_chains (issuer_id, id, chain, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (issuer_id, id) DO NOTHING`,
			issuerID, chain.ID(), string(pki.EncodePEM(chain.All()...)), t.now)
		if err != nil || !standard {
			return err
		}
		return t.must(ErrNotFound, `UPDATE issuers SET default_chain = $1 WHERE id = $2`, chain.ID(), issuerID)
	})
	s.chains.forget(issuerID)
	return err
}

// RemoveIssuerChain takes away a chain that was added. When it was the default one, the issuer's own is again.
func (s *Store) RemoveIssuerChain(ctx context.Context, actor, issuerID, id string) error {
	e := event{actor, audit.IssuerChainRemoved, "issuer", issuerID, map[string]string{"chain": id}}
	err := s.write(ctx, e, func(t *tx) error {
		if err := t.must(ErrNotFound, `DELETE FROM issuer_chains WHERE issuer_id = $1 AND id = $2`, issuerID, id); err != nil {
			return err
		}
		_, err := t.exec(`UPDATE issuers SET default_chain = NULL WHERE id = $1 AND default_chain = $2`, issuerID, id)
		return err
	})
	s.chains.forget(issuerID)
	return err
}

// SetDefaultChain makes another chain of an issuer, or OwnChain, the default one. ErrNotFound when it has no such
// chain, ErrConflict when that one is the default already.
func (s *Store) SetDefaultChain(ctx context.Context, actor, issuerID, id string) error {
	e := event{actor, audit.IssuerDefaultChainSet, "issuer", issuerID, map[string]string{"chain": id}}
	err := s.write(ctx, e, func(t *tx) error {
		if id == OwnChain {
			return t.must(ErrConflict, `UPDATE issuers SET default_chain = NULL WHERE id = $1 AND default_chain IS NOT NULL`, issuerID)
		}
		err := t.one(`SELECT 1 FROM issuer_chains WHERE issuer_id = $1 AND id = $2`, []any{issuerID, id}, func(row) error { return nil })
		if err != nil {
			return err
		}
		return t.must(ErrConflict, `UPDATE issuers SET default_chain = $1 WHERE id = $2 AND (default_chain IS NULL OR default_chain <> $1)`, id, issuerID)
	})
	s.chains.forget(issuerID)
	return err
}

// RecordIssuerCSR records that an issuer's request for a certificate was made.
func (s *Store) RecordIssuerCSR(ctx context.Context, actor, issuerID string) error {
	return s.write(ctx, event{actor, audit.IssuerCSRCreated, "issuer", issuerID, nil}, func(*tx) error { return nil })
}
