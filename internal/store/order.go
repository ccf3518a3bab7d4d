package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/pki"
)

// NewOrder is what newOrder records. Policy has allowed it under the profile
// revision that it names.
type NewOrder struct {
	AccountID       string
	ProfileID       string
	ProfileRevision int64
	EABKeys         []string // the account's keys that policy went by; nil: they do not matter
	Identifiers     []acme.Identifier
	NotBefore       time.Time
	NotAfter        time.Time
	Replaces        string // certificate identifier, as the client sent it; "": none
	ReplacesSerial  string // the serial in it
	OrderTTL        time.Duration
	Trusted         bool               // authorized by the profile: no authorization is made
	Authorizations  []NewAuthorization // what each identifier needs, unless Trusted
	AuthzTTL        time.Duration
	// ReuseFor is how long after its validation an authorization of the account
	// under the profile may serve this order too; 0: none may.
	ReuseFor time.Duration
}

// NewAuthorization is what has to be validated for an identifier: its own name, or
// one above it whose authorization covers it (RFC 9444).
type NewAuthorization struct {
	Identifier acme.Identifier // without "*."
	Wildcard   bool
	Subdomains bool
	Token      string
	Offered    []acme.ChallengeType
	// Covering are the names whose authorizations cover the identifier when they
	// were made for subdomains: Identifier and those above it.
	Covering []string
}

// CreateOrder spends the account's limits and makes the order with its
// authorizations. A *acme.Problem says which limit is spent; ErrConflict means
// that the account or the profile changed after policy looked at them.
func (s *Store) CreateOrder(ctx context.Context, n NewOrder) (*acme.Order, []acme.Authorization, error) {
	id := s.NewID()
	names := make([]string, len(n.Identifiers))
	for i, name := range n.Identifiers {
		names[i] = name.String()
	}
	e := event{audit.Account(n.AccountID), audit.OrderCreated, "order", id,
		map[string]any{"profile": n.ProfileID, "identifiers": names}}
	var order *acme.Order
	var authzs []acme.Authorization
	err := s.write(ctx, e, func(t *tx) (err error) {
		if err = t.sameKeys(n.AccountID, n.EABKeys); err != nil {
			return err
		}
		order = n.order(id, t.now)
		if err = t.spendOrderLimits(s.cfg.Limits, n.AccountID); err != nil {
			return err
		}
		if authzs, err = t.authorize(&n, order); err != nil {
			return err
		}
		if err = t.insertOrder(order, n.ProfileRevision); err != nil {
			return err
		}
		if n.Replaces != "" {
			if err = t.replaceCertificate(n.ReplacesSerial, order); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return order, authzs, nil
}

// order is the order that the request makes now, without its authorizations.
func (n *NewOrder) order(id string, now time.Time) *acme.Order {
	o := &acme.Order{
		ID:          id,
		AccountID:   n.AccountID,
		ProfileID:   n.ProfileID,
		Identifiers: make([]acme.OrderIdentifier, len(n.Identifiers)),
		NotBefore:   n.NotBefore,
		NotAfter:    n.NotAfter,
		Replaces:    n.Replaces,
		CreatedAt:   now,
		ExpiresAt:   wholeSecond(now.Add(n.OrderTTL)),
	}
	for i, name := range n.Identifiers {
		o.Identifiers[i].Identifier = name
	}
	if n.Trusted {
		o.TrustedAt = now
	}
	return o
}

// wholeSecond rounds up: times on the wire have whole seconds, and what is told
// must not be later than what holds.
func wholeSecond(t time.Time) time.Time {
	return t.Add(time.Second - 1).Truncate(time.Second)
}

func (t *tx) spendOrderLimits(limits Limits, accountID string) error {
	if limits.OpenOrders > 0 {
		var open int64
		err := t.query(`SELECT count(*) FROM orders WHERE account_id = $1 AND expires_at > $2 AND issued_at IS NULL AND failed_at IS NULL`,
			[]any{accountID, t.now}, func(r row) error {
				open = r.int(0)
				return nil
			})
		if err != nil {
			return err
		}
		if open >= int64(limits.OpenOrders) {
			p := acme.RateLimited("the account has %d unfinished orders, which is the most allowed; finish or wait for some", open)
			p.RetryAfter = time.Minute
			return p
		}
	}
	return t.spend("orders:"+accountID, limits.Orders, "orders of this account")
}

func (t *tx) insertOrder(o *acme.Order, profileRevision int64) error {
	identifiers, err := json.Marshal(o.Identifiers)
	if err != nil {
		return err
	}
	err = t.must(ErrConflict, `INSERT INTO orders (id, account_id, profile_id, identifiers, not_before, not_after,
			created_at, expires_at, replaces, trusted_at)
		SELECT $1, a.id, p.id, $2, $3, $4, $5, $6, $7, $8 FROM accounts a, profiles p
		WHERE a.id = $9 AND a.deactivated_at IS NULL AND p.id = $10 AND p.revision = $11 AND p.archived_at IS NULL`,
		o.ID, string(identifiers), o.NotBefore, o.NotAfter, o.CreatedAt, o.ExpiresAt, opt(o.Replaces), o.TrustedAt,
		o.AccountID, o.ProfileID, profileRevision)
	if err != nil {
		return err
	}
	for _, name := range o.Identifiers {
		if _, err := t.exec(`INSERT INTO order_names (name, order_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name.Value, o.ID); err != nil {
			return err
		}
	}
	return nil
}

// replaceCertificate marks the certificate as replaced by the order, unless
// another order that can still be or was issued did so before
// (RFC 9773, Section 5).
func (t *tx) replaceCertificate(serial string, o *acme.Order) error {
	return t.must(acme.AlreadyReplaced("the certificate %s is replaced by another order already", serial),
		`UPDATE certificates SET replaced_by = $1 WHERE serial = $2 AND account_id = $3
			AND (replaced_by IS NULL OR NOT EXISTS (SELECT 1 FROM orders o WHERE o.id = replaced_by
				AND o.failed_at IS NULL AND (o.claimed_at IS NOT NULL OR o.expires_at > $4)))`,
		o.ID, serial, o.AccountID, t.now)
}

const orderColumns = `id, account_id, profile_id, identifiers, not_before, not_after, created_at, expires_at,
	trusted_at, deactivated_authzs, claimed_at, issued_at, serial, csr_hash, problem, replaces`

// Order returns an order and, unless it is a trusted one, its authorizations.
func (s *Store) Order(ctx context.Context, id string) (order *acme.Order, authzs []acme.Authorization, err error) {
	err = s.snapshot(ctx, func(c *conn) error {
		err := c.one(`SELECT `+orderColumns+` FROM orders WHERE id = $1`, []any{id}, func(r row) (err error) {
			order, err = scanOrder(r)
			return err
		})
		if err != nil || order.Trusted() {
			return err
		}
		authzs, err = c.authorizationsOf(order)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("order %s: %w", id, err)
	}
	return order, authzs, nil
}

// OrderRef names an order.
type OrderRef struct{ ID, ProfileID string }

// OrderRefs returns up to limit orders of an account that are below before
// ("": from the newest), newest first. Orders that failed or ran out are not
// among them (RFC 8555, Section 7.1.2.1).
func (s *Store) OrderRefs(ctx context.Context, accountID, before string, limit int) ([]OrderRef, error) {
	refs := []OrderRef{}
	err := s.read(ctx, func(c *conn) error {
		return c.query(`SELECT id, profile_id FROM orders WHERE account_id = $1 AND id < $2
			AND failed_at IS NULL AND (claimed_at IS NOT NULL OR expires_at > $3) ORDER BY id DESC LIMIT $4`,
			[]any{accountID, pageStart(before), s.Now(), limit}, func(r row) error {
				refs = append(refs, OrderRef{r.text(0), r.text(1)})
				return nil
			})
	})
	return refs, err
}

// pageStart makes the empty bound the highest one.
func pageStart(before string) string {
	if before == "" {
		return "~"
	}
	return before
}

// OrderQuery selects orders for operators; empty fields select all.
type OrderQuery struct {
	AccountID string
	ProfileID string
	Name      string // an identifier, exactly
	Before    string // an order id: only older ones
	Limit     int
}

// Orders returns orders, newest first, with the authorizations of each.
func (s *Store) Orders(ctx context.Context, q OrderQuery) (orders []*acme.Order, authzs map[string][]acme.Authorization, err error) {
	sql, args := q.statement()
	orders, authzs = []*acme.Order{}, map[string][]acme.Authorization{}
	err = s.search(ctx, func(c *conn) error {
		err := c.query(sql, args, func(r row) error {
			o, err := scanOrder(r)
			orders = append(orders, o)
			return err
		})
		if err != nil {
			return err
		}
		for _, o := range orders {
			if o.Trusted() {
				continue
			}
			if authzs[o.ID], err = c.authorizationsOf(o); err != nil {
				return err
			}
		}
		return nil
	})
	return orders, authzs, err
}

func (q OrderQuery) statement() (sql string, args []any) {
	from, key := "orders", "id"
	if q.Name != "" {
		from, key = "order_names n CROSS JOIN orders ON id = n.order_id", "n.order_id"
	}
	var f filter
	f.where("n.name = ?", q.Name)
	f.where("account_id = ?", q.AccountID)
	f.where("profile_id = ?", q.ProfileID)
	f.where(key+" < ?", q.Before)
	return f.statement("SELECT "+orderColumns+" FROM "+from, key, q.Limit)
}

func scanOrder(r row) (*acme.Order, error) {
	o := &acme.Order{
		ID:        r.text(0),
		AccountID: r.text(1),
		ProfileID: r.text(2),
		NotBefore: r.time(4),
		NotAfter:  r.time(5),
		CreatedAt: r.time(6),
		ExpiresAt: r.time(7),
		TrustedAt: r.time(8),
		ClaimedAt: r.time(10),
		IssuedAt:  r.time(11),
		Serial:    r.text(12),
		CSRHash:   r.bytes(13),
		Replaces:  r.text(15),
	}
	if err := json.Unmarshal([]byte(r.text(3)), &o.Identifiers); err != nil {
		return nil, fmt.Errorf("stored identifiers: %w", err)
	}
	if !r.null(9) {
		if err := json.Unmarshal([]byte(r.text(9)), &o.DeactivatedAuthzs); err != nil {
			return nil, fmt.Errorf("stored authorizations: %w", err)
		}
	}
	var err error
	o.Problem, err = scanProblem(r, 14)
	return o, err
}

func scanProblem(r row, column int) (*acme.Problem, error) {
	if r.null(column) {
		return nil, nil
	}
	p := new(acme.Problem)
	if err := json.Unmarshal([]byte(r.text(column)), p); err != nil {
		return nil, fmt.Errorf("stored problem: %w", err)
	}
	return p, nil
}

// Claim fixes all that determines the certificate of an order.
type Claim struct {
	OrderID         string
	AccountID       string
	ProfileID       string
	ProfileRevision int64
	EABKeys         []string // the account's keys that policy went by; nil: they do not matter
	Identifiers     []acme.Identifier
	IssuerID        string
	CSR             []byte
	CSRHash         []byte // SHA-256 of CSR
	Serial          string
	NotBefore       time.Time
	NotAfter        time.Time
	Pointers        pki.Pointers
	Fence           int64 // of the lease that the work is done under
}

// ClaimOrder takes an order that is ready for issuance. Exactly one of many
// callers wins; the others get ErrConflict. The guard repeats what the caller
// has seen: the order is ready, its account in use, its profile unchanged.
// The winner holds the lease for the time given; then another may take over.
func (s *Store) ClaimOrder(ctx context.Context, c *Claim, lease time.Duration) error {
	e := event{audit.Account(c.AccountID), audit.OrderFinalized, "order", c.OrderID,
		map[string]any{"serial": c.Serial, "issuer": c.IssuerID, "profile_revision": c.ProfileRevision}}
	c.Fence = 1
	pointers, err := json.Marshal(c.Pointers)
	if err != nil {
		return err
	}
	return s.write(ctx, e, func(t *tx) error {
		if err := t.sameKeys(c.AccountID, c.EABKeys); err != nil {
			return err
		}
		return t.must(ErrConflict, `UPDATE orders SET claimed_at = $1, csr = $2, csr_hash = $3, issuer_id = $4,
				profile_revision = $5, serial = $6, cert_not_before = $7, cert_not_after = $8, pointers = $9, fence = $10, lease_until = $11
			WHERE id = $12 AND account_id = $13 AND profile_id = $14
			AND claimed_at IS NULL AND issued_at IS NULL AND failed_at IS NULL AND expires_at > $1
			AND EXISTS (SELECT 1 FROM accounts WHERE id = $13 AND deactivated_at IS NULL)
			AND EXISTS (SELECT 1 FROM profiles WHERE id = $14 AND revision = $5 AND archived_at IS NULL)
			AND CASE WHEN trusted_at IS NOT NULL THEN deactivated_authzs IS NULL
				ELSE NOT EXISTS (SELECT 1 FROM json_each(identifiers) i
					LEFT JOIN authorizations z ON z.id = json_extract(i.value, '$.authz')
					WHERE z.validated_at IS NULL OR z.deactivated_at IS NOT NULL OR z.failed_at IS NOT NULL OR z.expires_at <= $1)
				END`,
			t.now, c.CSR, c.CSRHash, c.IssuerID, c.ProfileRevision, c.Serial, c.NotBefore, c.NotAfter, string(pointers), c.Fence, t.now.Add(lease),
			c.OrderID, c.AccountID, c.ProfileID)
	})
}

// TakeClaims takes over up to limit claimed orders whose lease has run out.
func (s *Store) TakeClaims(ctx context.Context, lease time.Duration, limit int) ([]Claim, error) {
	var claims []Claim
	err := s.writer.do(ctx, func(t *tx) error {
		claims = nil
		return t.query(`UPDATE orders SET fence = fence + 1, lease_until = $1
			WHERE id IN (SELECT id FROM orders WHERE claimed_at IS NOT NULL AND issued_at IS NULL AND failed_at IS NULL
				AND lease_until < $2 LIMIT $3)
			AND claimed_at IS NOT NULL AND issued_at IS NULL AND failed_at IS NULL AND lease_until < $2
			RETURNING id, account_id, profile_id, profile_revision, identifiers, issuer_id, csr, csr_hash, serial,
				cert_not_before, cert_not_after, fence, pointers`,
			[]any{t.now.Add(lease), t.now, limit}, func(r row) error {
				c := Claim{
					OrderID: r.text(0), AccountID: r.text(1), ProfileID: r.text(2), ProfileRevision: r.int(3),
					IssuerID: r.text(5), CSR: r.bytes(6), CSRHash: r.bytes(7), Serial: r.text(8),
					NotBefore: r.time(9), NotAfter: r.time(10), Fence: r.int(11),
				}
				if err := json.Unmarshal([]byte(r.text(4)), &c.Identifiers); err != nil {
					return fmt.Errorf("stored identifiers: %w", err)
				}
				if err := json.Unmarshal([]byte(r.text(12)), &c.Pointers); err != nil {
					return fmt.Errorf("stored pointers: %w", err)
				}
				claims = append(claims, c)
				return nil
			})
	})
	return claims, err
}

// FinishOrder stores the certificate of a claim and so makes the order valid.
// ErrConflict when the lease was lost to another, who then finishes it.
func (s *Store) FinishOrder(ctx context.Context, c *Claim, der []byte) error {
	names := make([]string, len(c.Identifiers))
	for i, id := range c.Identifiers {
		names[i] = id.Value
	}
	e := event{audit.Account(c.AccountID), audit.CertificateIssued, "certificate", c.Serial,
		map[string]any{"order": c.OrderID, "profile": c.ProfileID, "names": names, "not_after": c.NotAfter.Format(time.RFC3339)}}
	return s.write(ctx, e, func(t *tx) error {
		err := t.must(ErrConflict, `UPDATE orders SET issued_at = $1, csr = NULL, pointers = NULL, lease_until = NULL
			WHERE id = $2 AND fence = $3 AND claimed_at IS NOT NULL AND issued_at IS NULL AND failed_at IS NULL`,
			t.now, c.OrderID, c.Fence)
		if err != nil {
			return err
		}
		return t.insertCertificate(&Certificate{
			Serial: c.Serial, OrderID: c.OrderID, AccountID: c.AccountID, ProfileID: c.ProfileID, IssuerID: c.IssuerID,
			Names: names, DER: der, NotBefore: c.NotBefore, NotAfter: c.NotAfter, NoRevAvail: c.Pointers.NoRevAvail,
		})
	})
}

// FailOrder ends a claim that can never be issued.
func (s *Store) FailOrder(ctx context.Context, c *Claim, p *acme.Problem) error {
	problem, err := json.Marshal(p)
	if err != nil {
		return err
	}
	e := event{audit.System("issue"), audit.OrderFailed, "order", c.OrderID, map[string]any{"serial": c.Serial, "problem": p}}
	return s.write(ctx, e, func(t *tx) error {
		return t.must(ErrConflict, `UPDATE orders SET failed_at = $1, problem = $2, csr = NULL, pointers = NULL, lease_until = NULL
			WHERE id = $3 AND fence = $4 AND claimed_at IS NOT NULL AND issued_at IS NULL AND failed_at IS NULL`,
			t.now, string(problem), c.OrderID, c.Fence)
	})
}

// releaseLeases ends every lease: the process that held them is gone.
func (s *Store) releaseLeases(ctx context.Context) error {
	return s.writer.do(ctx, func(t *tx) error {
		_, err := t.exec(`UPDATE orders SET lease_until = 0
			WHERE claimed_at IS NOT NULL AND issued_at IS NULL AND failed_at IS NULL`)
		if err != nil {
			return err
		}
		_, err = t.exec(`UPDATE authorizations SET next_attempt_at = 0
			WHERE attempted_at IS NOT NULL AND validated_at IS NULL AND failed_at IS NULL AND deactivated_at IS NULL`)
		return err
	})
}

// DeactivateTrustedAuthz gives up one authorization of a trusted order
// (RFC 8555, Section 7.5.2) and with it, unless it was claimed, the order.
// ErrConflict when it was given up before.
func (s *Store) DeactivateTrustedAuthz(ctx context.Context, o *acme.Order, authzID string) error {
	index := slices.Index(o.AuthzIDs(), authzID)
	if index < 0 {
		return ErrNotFound
	}
	if slices.Contains(o.DeactivatedAuthzs, authzID) {
		return ErrConflict
	}
	problem, err := json.Marshal(deactivatedAuthz(o.Identifiers[index].Identifier))
	if err != nil {
		return err
	}
	gone, err := json.Marshal(append(append([]string{}, o.DeactivatedAuthzs...), authzID))
	if err != nil {
		return err
	}
	before, err := json.Marshal(o.DeactivatedAuthzs)
	if err != nil {
		return err
	}
	e := event{audit.Account(o.AccountID), audit.AuthorizationDeactivated, "authorization", authzID, map[string]string{"order": o.ID}}
	return s.write(ctx, e, func(t *tx) error {
		err := t.must(ErrConflict, `UPDATE orders SET deactivated_authzs = $1
			WHERE id = $2 AND COALESCE(deactivated_authzs, 'null') = $3 AND trusted_at IS NOT NULL AND expires_at > $4`,
			string(gone), o.ID, string(before), t.now)
		if err != nil {
			return err
		}
		return t.failUnclaimed(o.ID, "", string(problem))
	})
}

// joinTypes writes challenge types as the database keeps them.
func joinTypes(types []acme.ChallengeType) string {
	text := make([]string, len(types))
	for i, t := range types {
		text[i] = string(t)
	}
	return strings.Join(text, " ")
}
