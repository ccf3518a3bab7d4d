package store

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/pki"
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
	Renewal   Renewal   // an operator's; zero: none

	// NoRevAvail: it says that its revocation is published nowhere (RFC 9608).
	NoRevAvail bool
}

// Renewal is a renewal window that an operator set in place of the derived one.
type Renewal struct {
	From, Until    time.Time
	ExplanationURL string
}

func (t *tx) insertCertificate(c *Certificate) error {
	_, err := t.exec(`INSERT INTO certificates (serial, order_id, account_id, profile_id, issuer_id, names, der, not_before, not_after, issued_at,
			no_rev_avail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		c.Serial, opt(c.OrderID), opt(c.AccountID), opt(c.ProfileID), c.IssuerID, strings.Join(c.Names, " "), c.DER,
		c.NotBefore, c.NotAfter, t.now, c.NoRevAvail)
	if err != nil {
		return err
	}
	number := t.c.LastInsertRowID()
	for _, name := range c.Names {
		if _, err := t.exec(`INSERT INTO certificate_names (name, number) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, number); err != nil {
			return err
		}
	}
	return nil
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
	revoked_at, revocation_reason, renew_from, renew_until, renew_url, no_rev_avail`

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
	sql, args := q.statement()
	all := []*Certificate{}
	err := s.search(ctx, func(c *conn) error {
		return c.query(sql, args, func(r row) error {
			all = append(all, scanCertificate(r))
			return nil
		})
	})
	return all, err
}

func (q CertificateQuery) statement() (sql string, args []any) {
	from, key := "certificates c", "c.number"
	if q.Name != "" {
		from, key = "certificate_names n CROSS JOIN certificates c ON c.number = n.number", "n.number"
	}
	var f filter
	f.where("n.name = ?", q.Name)
	f.where("account_id = ?", q.AccountID)
	f.where("profile_id = ?", q.ProfileID)
	f.where(key+" < (SELECT number FROM certificates WHERE serial = ?)", q.Before)
	return f.statement("SELECT "+certificateColumns+" FROM "+from, key, q.Limit)
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
		Renewal:   Renewal{r.time(12), r.time(13), r.text(14)},

		NoRevAvail: r.int(15) != 0,
	}
}

// RevokeCertificate records a revocation; ErrConflict when the certificate is
// revoked already. The key of one that is revoked for keyCompromise is blocked.
func (s *Store) RevokeCertificate(ctx context.Context, actor, serial string, reason int) error {
	e := event{actor, audit.CertificateRevoked, "certificate", serial, map[string]any{"reason": reason}}
	err := s.write(ctx, e, func(t *tx) error {
		err := t.must(ErrConflict, `UPDATE certificates SET revoked_at = $1, revocation_reason = $2 WHERE serial = $3 AND revoked_at IS NULL`,
			t.now, reason, serial)
		if err != nil || reason != pki.ReasonKeyCompromise {
			return err
		}
		return t.blockKey(serial)
	})
	s.answers.forget(serial) // also when it failed, as cache says
	return err
}

func (t *tx) blockKey(serial string) error {
	var der []byte
	err := t.one(`SELECT der FROM certificates WHERE serial = $1`, []any{serial}, func(r row) error {
		der = r.bytes(0)
		return nil
	})
	if err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil // no key is known, and the revocation must not wait for one
	}
	hash, err := pki.SPKIHash(cert.PublicKey)
	if err != nil {
		return nil
	}
	_, err = t.exec(`INSERT INTO blocked_keys (hash, serial, blocked_at) VALUES ($1, $2, $3) ON CONFLICT (hash) DO NOTHING`,
		hex.EncodeToString(hash[:]), serial, t.now)
	return err
}

// KeyInUse tells what speaks against a certificate for a key: that it is the key
// of an account (RFC 8555, Section 11.1), or that it was blocked.
func (s *Store) KeyInUse(ctx context.Context, key crypto.PublicKey) (account, blocked bool, err error) {
	hash, err := pki.SPKIHash(key)
	if err != nil {
		return false, false, err
	}
	thumbprint := ""
	if jwk, err := acme.NewKey(key); err == nil { // else it can be no account's
		thumbprint = jwk.Thumbprint()
	}
	err = s.read(ctx, func(c *conn) error {
		return c.one(`SELECT EXISTS (SELECT 1 FROM accounts WHERE thumbprint = $1), EXISTS (SELECT 1 FROM blocked_keys WHERE hash = $2)`,
			[]any{thumbprint, hex.EncodeToString(hash[:])}, func(r row) error {
				account, blocked = r.int(0) != 0, r.int(1) != 0
				return nil
			})
	})
	return account, blocked, err
}

// RenewalSet selects the certificates whose renewal an operator pulls forward.
// Empty fields select all.
type RenewalSet struct {
	Serials      []string
	AccountID    string
	ProfileID    string
	IssuedBefore time.Time
}

// renewalBatch bounds how many certificates one transaction marks.
const renewalBatch = 1000

// SetRenewal gives all certificates of the set that are in use the renewal window
// and returns how many they were. It works in steps; when it fails half-way it
// can be asked again.
func (s *Store) SetRenewal(ctx context.Context, actor string, set RenewalSet, window Renewal) (int, error) {
	serials, err := json.Marshal(set.Serials)
	if err != nil {
		return 0, err
	}
	issuedBefore := set.IssuedBefore
	if issuedBefore.IsZero() {
		issuedBefore = s.Now().Add(time.Hour)
	}
	total, last := 0, ""
	for {
		var marked []string
		err := s.writer.do(ctx, func(t *tx) error {
			marked = nil
			err := t.query(`UPDATE certificates SET renew_from = $1, renew_until = $2, renew_url = $3
				WHERE serial IN (SELECT serial FROM certificates WHERE serial > $4
					AND ($5 = 'null' OR serial IN (SELECT value FROM json_each($5)))
					AND ($6 = '' OR account_id = $6) AND ($7 = '' OR profile_id = $7)
					AND issued_at < $8 AND not_after > $9 AND revoked_at IS NULL AND order_id IS NOT NULL
					ORDER BY serial LIMIT $10)
				RETURNING serial`,
				[]any{window.From, window.Until, opt(window.ExplanationURL), last, string(serials), set.AccountID, set.ProfileID,
					issuedBefore, t.now, renewalBatch}, func(r row) error {
					marked = append(marked, r.text(0))
					return nil
				})
			if err != nil || len(marked) == 0 {
				return err
			}
			details, err := marshalDetails(map[string]any{"serials": marked, "from": window.From.Format(time.RFC3339),
				"until": window.Until.Format(time.RFC3339), "explanation_url": window.ExplanationURL})
			if err != nil {
				return err
			}
			return t.audit(event{actor: actor, action: audit.RenewalSet, resourceType: "certificate", resourceID: "set"}, details)
		})
		if err != nil || len(marked) == 0 {
			return total, err
		}
		total += len(marked)
		last = slices.Max(marked)
	}
}
