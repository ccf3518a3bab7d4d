package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/policy"
)

// NewAccount is what newAccount records.
type NewAccount struct {
	Key         *acme.Key
	Contacts    []string
	TermsAgreed bool
	EABKeyID    string // the external account key to bind; "": none
	// Source is where the request came from, as far as one holder has it. Requests
	// whose source is not known share the limit of the zero Prefix.
	Source netip.Prefix
}

// CreateAccount makes the account of a key. When the key has one already that
// account is returned as it is, except that an external account key that came
// along is bound to it; so a request whose answer was lost can be sent again.
// ErrEABKey when the external account key cannot be bound; then nothing is made.
// Only an account that is made spends the limit of its source.
func (s *Store) CreateAccount(ctx context.Context, n NewAccount) (account *acme.Account, created bool, err error) {
	if n.Contacts == nil {
		n.Contacts = []string{}
	}
	contacts, err := json.Marshal(n.Contacts)
	if err != nil {
		return nil, false, err
	}
	jwk, err := json.Marshal(n.Key)
	if err != nil {
		return nil, false, err
	}
	details, err := marshalDetails(map[string]any{"contacts": n.Contacts, "thumbprint": n.Key.Thumbprint()})
	if err != nil {
		return nil, false, err
	}
	fresh := s.NewID()
	var id string
	err = s.writer.do(ctx, func(t *tx) error {
		id, created = fresh, true
		inserted, err := t.exec(`INSERT INTO accounts (id, thumbprint, jwk, contacts, terms_agreed_at, created_at)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (thumbprint) DO NOTHING`,
			id, n.Key.Thumbprint(), string(jwk), string(contacts), timeIf(n.TermsAgreed, t.now), t.now)
		if err != nil {
			return err
		}
		if inserted == 0 {
			created = false
			if id, err = t.activeAccountByKey(n.Key.Thumbprint()); err != nil || id == "" {
				return err
			}
		} else if err := t.created(id, n.Source, s.cfg.Limits.NewAccounts, details); err != nil {
			return err
		}
		if n.EABKeyID == "" {
			return nil
		}
		return t.bindEAB(audit.Account(id), id, n.EABKeyID)
	})
	s.accounts.forget(id)
	s.grants.forget(id)
	if err != nil {
		return nil, false, err
	}
	if id == "" { // deactivated
		account, err = s.AccountByKey(ctx, n.Key)
		return account, false, err
	}
	account, err = s.Account(ctx, id)
	return account, created, err
}

// created spends the limit of new accounts and writes the event of this one.
func (t *tx) created(id string, source netip.Prefix, limit policy.Limit, details string) error {
	if err := t.spend("new-accounts:"+source.String(), limit, "new accounts from this address"); err != nil {
		return err
	}
	return t.audit(event{actor: audit.Account(id), action: audit.AccountCreated, resourceType: "account", resourceID: id}, details)
}

// spendChange spends the limit of the changes that an account makes of itself.
func (s *Store) spendChange(t *tx, id string) error {
	return t.spend("account-changes:"+id, s.cfg.Limits.AccountChanges, "changes of this account")
}

// activeAccountByKey returns "" for a deactivated account.
func (t *tx) activeAccountByKey(thumbprint string) (id string, err error) {
	err = t.one(`SELECT id, deactivated_at FROM accounts WHERE thumbprint = $1`, []any{thumbprint}, func(r row) error {
		if r.null(1) {
			id = r.text(0)
		}
		return nil
	})
	return id, err
}

const selectAccount = `SELECT id, jwk, contacts, terms_agreed_at, created_at, deactivated_at,
	EXISTS (SELECT 1 FROM eab_bindings WHERE account_id = accounts.id) FROM accounts`

// Account returns an account, deactivated or not. It is shared between requests:
// nobody changes it.
func (s *Store) Account(ctx context.Context, id string) (*acme.Account, error) {
	return s.accounts.get(id, func() (*acme.Account, error) {
		return s.oneAccount(ctx, selectAccount+` WHERE id = $1`, id)
	})
}

// AccountByKey returns the account of a key, deactivated or not.
func (s *Store) AccountByKey(ctx context.Context, key *acme.Key) (*acme.Account, error) {
	return s.oneAccount(ctx, selectAccount+` WHERE thumbprint = $1`, key.Thumbprint())
}

func (s *Store) oneAccount(ctx context.Context, sql, arg string) (account *acme.Account, err error) {
	err = s.read(ctx, func(c *conn) error {
		return c.one(sql, []any{arg}, func(r row) error {
			account, err = scanAccount(r)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	return account, nil
}

// Accounts returns up to limit accounts with an id below before ("": the newest
// first), newest first.
func (s *Store) Accounts(ctx context.Context, before string, limit int) ([]*acme.Account, error) {
	all := []*acme.Account{}
	err := s.search(ctx, func(c *conn) error {
		return c.query(selectAccount+` WHERE id < $1 ORDER BY id DESC LIMIT $2`, []any{pageStart(before), limit}, func(r row) error {
			a, err := scanAccount(r)
			all = append(all, a)
			return err
		})
	})
	return all, err
}

func scanAccount(r row) (*acme.Account, error) {
	key, err := acme.ParseKey([]byte(r.text(1)))
	if err != nil {
		return nil, fmt.Errorf("stored account key: %w", err)
	}
	a := &acme.Account{
		ID:              r.text(0),
		Key:             key,
		TermsAgreedAt:   r.time(3),
		CreatedAt:       r.time(4),
		DeactivatedAt:   r.time(5),
		BoundExternally: r.int(6) != 0,
	}
	if err := json.Unmarshal([]byte(r.text(2)), &a.Contacts); err != nil {
		return nil, fmt.Errorf("stored contacts: %w", err)
	}
	return a, nil
}

// UpdateContacts replaces the contacts of an account in use; ErrConflict when it
// is deactivated. It spends from the limit of account changes.
func (s *Store) UpdateContacts(ctx context.Context, id string, contacts []string) error {
	text, err := json.Marshal(contacts)
	if err != nil {
		return err
	}
	e := event{audit.Account(id), audit.AccountContactUpdated, "account", id, map[string]any{"contacts": contacts}}
	err = s.write(ctx, e, func(t *tx) error {
		if err := s.spendChange(t, id); err != nil {
			return err
		}
		return t.must(ErrConflict, `UPDATE accounts SET contacts = $1 WHERE id = $2 AND deactivated_at IS NULL`, string(text), id)
	})
	s.accounts.forget(id)
	return err
}

// AgreeTerms records that an account agreed to the terms of service. It spends
// from the limit of account changes.
func (s *Store) AgreeTerms(ctx context.Context, id string) error {
	err := s.write(ctx, event{audit.Account(id), audit.AccountTermsAgreed, "account", id, nil}, func(t *tx) error {
		if err := s.spendChange(t, id); err != nil {
			return err
		}
		return t.must(ErrConflict, `UPDATE accounts SET terms_agreed_at = $1 WHERE id = $2 AND deactivated_at IS NULL`, t.now, id)
	})
	s.accounts.forget(id)
	return err
}

// DeactivateAccount ends an account (RFC 8555, Section 7.3.6) and with it its
// open orders and its authorizations. ErrConflict when it was ended before.
func (s *Store) DeactivateAccount(ctx context.Context, actor, id string) error {
	gone, err := json.Marshal(acme.Unauthorized("the account was deactivated"))
	if err != nil {
		return err
	}
	err = s.write(ctx, event{actor, audit.AccountDeactivated, "account", id, nil}, func(t *tx) error {
		err := t.must(ErrConflict, `UPDATE accounts SET deactivated_at = $1 WHERE id = $2 AND deactivated_at IS NULL`, t.now, id)
		if err != nil {
			return err
		}
		if err := t.failUnclaimed("", id, string(gone)); err != nil {
			return err
		}
		_, err = t.exec(`UPDATE authorizations SET deactivated_at = $1
			WHERE account_id = $2 AND expires_at > $1 AND deactivated_at IS NULL AND failed_at IS NULL`, t.now, id)
		return err
	})
	s.accounts.forget(id)
	if errors.Is(err, ErrConflict) {
		if _, missing := s.Account(ctx, id); missing != nil {
			return missing
		}
	}
	return err
}

// ChangeKey gives an account a new key (RFC 8555, Section 7.3.5). Of two changes
// that start from the same old key one wins and the other gets ErrConflict.
// ErrExists when the new key is that of an account already. Only a change that is
// made spends the limit of key changes.
func (s *Store) ChangeKey(ctx context.Context, id string, from, to *acme.Key) error {
	jwk, err := json.Marshal(to)
	if err != nil {
		return err
	}
	e := event{audit.Account(id), audit.AccountKeyRolled, "account", id,
		map[string]string{"old_thumbprint": from.Thumbprint(), "thumbprint": to.Thumbprint()}}
	err = s.write(ctx, e, func(t *tx) error {
		taken := false
		err := t.query(`SELECT 1 FROM accounts WHERE thumbprint = $1`, []any{to.Thumbprint()}, func(row) error {
			taken = true
			return nil
		})
		if err != nil {
			return err
		}
		if taken {
			return ErrExists
		}
		err = t.must(ErrConflict, `UPDATE accounts SET thumbprint = $1, jwk = $2
			WHERE id = $3 AND thumbprint = $4 AND deactivated_at IS NULL`, to.Thumbprint(), string(jwk), id, from.Thumbprint())
		if err != nil {
			return err
		}
		return t.spend("key-changes:"+id, s.cfg.Limits.KeyChanges, "key changes of this account")
	})
	s.accounts.forget(id)
	return err
}
