package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certctl/certctl/internal/audit"
)

// CRL is the newest certificate revocation list of an issuer, or of one shard of
// it.
type CRL struct {
	Shard      int // from 1; 0: the complete CRL
	Number     int64
	Content    string // hash of what it says, beside number and times
	DER        []byte
	ThisUpdate time.Time
	NextUpdate time.Time
}

// crlKey names a CRL.
type crlKey struct {
	issuerID string
	shard    int
}

// CRL returns the newest CRL of an issuer's shard, or for shard 0 the complete
// one; ErrNotFound before the first. It comes from memory, and is shared: the
// caller must not change it.
func (s *Store) CRL(ctx context.Context, issuerID string, shard int) (CRL, error) {
	return s.crls.get(crlKey{issuerID, shard}, func() (crl CRL, err error) {
		err = s.read(ctx, func(c *conn) error {
			return c.one(`SELECT number, content, der, this_update, next_update FROM crls WHERE issuer_id = $1 AND shard = $2`,
				[]any{issuerID, shard}, func(r row) error {
					crl = CRL{shard, r.int(0), r.text(1), r.bytes(2), r.time(3), r.time(4)}
					return nil
				})
		})
		if err != nil {
			return crl, fmt.Errorf("CRL %s/%d: %w", issuerID, shard, err)
		}
		return crl, nil
	})
}

// PublishCRL stores CRLs in place of those with lower numbers, all or nothing;
// ErrConflict when one that is stored is as new.
func (s *Store) PublishCRL(ctx context.Context, issuerID string, crls ...CRL) error {
	if len(crls) == 0 {
		return errors.New("there is no CRL to publish")
	}
	shards := make([]int, len(crls))
	for i := range crls {
		shards[i] = crls[i].Shard
	}
	e := event{audit.System("crl"), audit.CRLPublished, "issuer", issuerID, map[string]any{"number": crls[0].Number, "shards": shards}}
	err := s.write(ctx, e, func(t *tx) error {
		for _, crl := range crls {
			err := t.must(ErrConflict, `INSERT INTO crls (issuer_id, shard, number, content, der, this_update, next_update)
				VALUES ($1, $2, $3, $4, $5, $6, $7)
				ON CONFLICT (issuer_id, shard) DO UPDATE SET number = excluded.number, content = excluded.content,
				der = excluded.der, this_update = excluded.this_update, next_update = excluded.next_update
				WHERE crls.number < excluded.number`,
				issuerID, crl.Shard, crl.Number, crl.Content, crl.DER, crl.ThisUpdate, crl.NextUpdate)
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, shard := range shards {
		s.crls.forget(crlKey{issuerID, shard})
	}
	return err
}

// Revoked is a revoked certificate as a CRL lists it.
type Revoked struct {
	Serial   string
	At       time.Time
	Reason   int
	NotAfter time.Time
}

// RevokedBy returns what the next CRLs of an issuer are made from, all of one
// moment: those published last, without their DER, and the issuer's revoked
// certificates whose end is not before the time that since chooses by them. Left
// out are certificates that say that their revocation is published nowhere.
func (s *Store) RevokedBy(ctx context.Context, issuerID string, since func(published []CRL) time.Time) (list []Revoked, published []CRL, err error) {
	err = s.snapshot(ctx, func(c *conn) error {
		err := c.query(`SELECT shard, number, content, this_update, next_update FROM crls WHERE issuer_id = $1 ORDER BY shard`,
			[]any{issuerID}, func(r row) error {
				published = append(published, CRL{
					Shard: int(r.int(0)), Number: r.int(1), Content: r.text(2), ThisUpdate: r.time(3), NextUpdate: r.time(4)})
				return nil
			})
		if err != nil {
			return err
		}
		return c.query(`SELECT serial, revoked_at, revocation_reason, not_after FROM certificates
			WHERE issuer_id = $1 AND not_after >= $2 AND revoked_at IS NOT NULL AND no_rev_avail = 0`,
			[]any{issuerID, since(published).UnixMilli()}, func(r row) error {
				list = append(list, Revoked{r.text(0), r.time(1), int(r.int(2)), r.time(3)})
				return nil
			})
	})
	return list, published, err
}
