package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/audit"
)

// Certificate is an issued certificate. OrderID, AccountID and ProfileID are
// empty for the server's own.
type Certificate struct {
	Serial    string
	OrderID   string
	AccountID string
	ProfileID string
	IssuerID  string
	Names     []string
	DER       []byte
	NotBefore time.Time
	NotAfter  time.Time
	IssuedAt  time.Time
	RevokedAt time.Time // zero: not revoked
	Reason    int       // RFC 5280, Section 5.3.1, when revoked
}

func (t *tx) insertCertificate(c *Certificate) error {
	_, err := t.exec(`INSERT INTO certificates (serial, order_id, account_id, profile_id, issuer_id, names, der, not_before, not_after, issued_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		c.Serial, opt(c.OrderID), opt(c.AccountID), opt(c.ProfileID), c.IssuerID, strings.Join(c.Names, " "), c.DER,
		c.NotBefore, c.NotAfter, t.now)
	return err
}

// StoreServerCertificate records a certificate that the server made for itself
// and keeps it with its key as the secret of that name.
func (s *Store) StoreServerCertificate(ctx context.Context, c *Certificate, name string, secret []byte) error {
	sealed := s.secrets.seal(name, secret)
	e := event{audit.System("server-certificate"), audit.CertificateIssued, "certificate", c.Serial,
		map[string]any{"names": c.Names, "not_after": c.NotAfter.Format(time.RFC3339)}}
	return s.write(ctx, e, func(t *tx) error {
		_, err := t.exec(`INSERT INTO secrets (name, sealed, created_at) VALUES ($1, $2, $3)
			ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed, created_at = excluded.created_at`, name, sealed, t.now)
		if err != nil {
			return err
		}
		return t.insertCertificate(c)
	})
}

const certificateColumns = `serial, order_id, account_id, profile_id, issuer_id, names, der, not_before, not_after, issued_at,
	revoked_at, revocation_reason`

// Certificate returns the certificate with that serial.
func (s *Store) Certificate(ctx context.Context, serial string) (*Certificate, error) {
	var cert *Certificate
	err := s.read(ctx, func(c *conn) error {
		return c.one(`SELECT `+certificateColumns+` FROM certificates WHERE serial = $1`, []any{serial}, func(r row) error {
			cert = scanCertificate(r)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", serial, err)
	}
	return cert, nil
}

// CertificateQuery selects certificates; empty fields select all.
type CertificateQuery struct {
	AccountID string
	ProfileID string
	Name      string // one of its names, exactly
	Before    string // the serial of a certificate: only those issued earlier
	Limit     int
}

// Certificates returns certificates, the newest first.
func (s *Store) Certificates(ctx context.Context, q CertificateQuery) ([]*Certificate, error) {
	all := []*Certificate{}
	err := s.read(ctx, func(c *conn) error {
		return c.query(`SELECT `+certificateColumns+` FROM certificates
			WHERE ($1 = '' OR account_id = $1) AND ($2 = '' OR profile_id = $2)
			AND ($3 = '' OR instr(' ' || names || ' ', ' ' || $3 || ' ') > 0)
			AND ($4 = '' OR (issued_at, serial) < (SELECT issued_at, serial FROM certificates WHERE serial = $4))
			ORDER BY issued_at DESC, serial DESC LIMIT $5`,
			[]any{q.AccountID, q.ProfileID, q.Name, q.Before, q.Limit}, func(r row) error {
				all = append(all, scanCertificate(r))
				return nil
			})
	})
	return all, err
}

func scanCertificate(r row) *Certificate {
	return &Certificate{
		Serial:    r.text(0),
		OrderID:   r.text(1),
		AccountID: r.text(2),
		ProfileID: r.text(3),
		IssuerID:  r.text(4),
		Names:     strings.Fields(r.text(5)),
		DER:       r.bytes(6),
		NotBefore: r.time(7),
		NotAfter:  r.time(8),
		IssuedAt:  r.time(9),
		RevokedAt: r.time(10),
		Reason:    int(r.int(11)),
	}
}

// RevokeCertificate records a revocation; ErrConflict when the certificate is
// revoked already.
func (s *Store) RevokeCertificate(ctx context.Context, actor, serial string, reason int) error {
	e := event{actor, audit.CertificateRevoked, "certificate", serial, map[string]any{"reason": reason}}
	return s.write(ctx, e, func(t *tx) error {
		return t.must(ErrConflict, `UPDATE certificates SET revoked_at = $1, revocation_reason = $2 WHERE serial = $3 AND revoked_at IS NULL`,
			t.now, reason, serial)
	})
}
