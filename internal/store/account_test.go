package store_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// limited checks that a change is refused by a limit and leaves no trace, and
// returns when to come back.
func (w *world) limited(t *testing.T, change func() error) time.Duration {
	t.Helper()
	before := w.Dump(t)
	err := change()
	var p *acme.Problem
	if !errors.As(err, &p) || p.Type != acme.ErrRateLimited || p.RetryAfter <= 0 {
		t.Fatalf("got %v, want rateLimited with a time to come back", err)
	}
	if after := w.Dump(t); after != before {
		t.Errorf("the refused change left a trace:\n%s", diff(before, after))
	}
	return p.RetryAfter
}

func perHour(n int) policy.Limit { return policy.Limit{Burst: n, Period: time.Hour} }

func TestNewAccountsOfASource(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		here, there := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")
		from := func(source netip.Prefix, key *acme.Key, kid string) (created bool, err error) {
			_, created, err = w.CreateAccount(ctx, store.NewAccount{Key: key, Source: source, EABKeyID: kid})
			return created, err
		}
		first := newKey()
		for _, key := range []*acme.Key{first, newKey()} {
			created, err := from(here, key, "")
			w.ok(err)
			if !created {
				t.Fatal("no account was made")
			}
		}
		refused := func(source netip.Prefix) time.Duration {
			t.Helper()
			return w.limited(t, func() error { _, err := from(source, newKey(), ""); return err })
		}
		if again := refused(here); again != 30*time.Minute {
			t.Errorf("come back in %v, want 30 minutes", again)
		}
		for range 5 { // who has an account is not limited, and spends nothing
			if created, err := from(here, first, ""); created || err != nil {
				t.Errorf("the known key: %v, %v", created, err)
			}
		}
		w.Advance(30 * time.Minute)
		for range 3 { // neither does an account that is not made
			if _, err := from(here, newKey(), "unknown"); !errors.Is(err, store.ErrEABKey) {
				t.Errorf("an unknown EAB key: %v", err)
			}
		}
		_, err := from(here, newKey(), "")
		w.ok(err)
		refused(here)
		// Each source has its own limit, and what has none shares one.
		for _, source := range []netip.Prefix{there, {}} {
			for range 2 {
				_, err := from(source, newKey(), "")
				w.ok(err)
			}
			refused(source)
		}
		w.Advance(2 * time.Hour)
		_, err = w.Sweep(ctx, time.Hour)
		w.ok(err)
		if rows := w.Rows(t, `SELECT key FROM rate_limits`); len(rows) != 0 {
			t.Errorf("limits that are full again are kept: %q", rows)
		}
	}, withLimits(store.Limits{NewAccounts: perHour(2)}))
}

func TestNewAccountsUnderLoad(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		made := 0
		for _, err := range together(32, func(int) error {
			_, _, err := w.CreateAccount(ctx, store.NewAccount{Key: newKey()})
			return err
		}) {
			if err == nil {
				made++
			}
		}
		if made != 5 {
			t.Errorf("%d accounts, want 5", made)
		}
	}, withLimits(store.Limits{NewAccounts: perHour(5)}))
}

func TestChangesOfAnAccount(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		a, other := w.account(), w.account()
		contacts := func() error { return w.UpdateContacts(ctx, a.ID, []string{"mailto:a@example.com"}) }
		terms := func() error { return w.AgreeTerms(ctx, a.ID) }
		w.ok(contacts())
		w.ok(terms())
		w.limited(t, contacts)
		if again := w.limited(t, terms); again != 30*time.Minute {
			t.Errorf("come back in %v, want 30 minutes", again)
		}
		w.ok(w.UpdateContacts(ctx, other.ID, nil))
		w.ok(w.ChangeKey(ctx, a.ID, a.Key, newKey())) // has a limit of its own
		w.Advance(30 * time.Minute)
		w.ok(contacts())
		w.ok(w.DeactivateAccount(ctx, "api:test", a.ID))
	}, withLimits(store.Limits{AccountChanges: perHour(2)}))
}

func TestKeyChangesOfAnAccount(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		a, other := w.account(), w.account()
		for range 3 { // what changes no key costs nothing
			if err := w.ChangeKey(ctx, a.ID, a.Key, other.Key); !errors.Is(err, store.ErrExists) {
				t.Fatal(err)
			}
			if err := w.ChangeKey(ctx, a.ID, newKey(), newKey()); !errors.Is(err, store.ErrConflict) {
				t.Fatal(err)
			}
		}
		key := a.Key
		change := func() error {
			to := newKey()
			err := w.ChangeKey(ctx, a.ID, key, to)
			if err == nil {
				key = to
			}
			return err
		}
		w.ok(change())
		w.ok(change())
		if again := w.limited(t, change); again != 30*time.Minute {
			t.Errorf("come back in %v, want 30 minutes", again)
		}
		w.ok(w.ChangeKey(ctx, other.ID, other.Key, newKey()))
		w.Advance(30 * time.Minute)
		w.ok(change())
	}, withLimits(store.Limits{KeyChanges: perHour(2)}))
}

// A state from a clock that ran ahead by years locks no account out.
func TestALimitAfterAClockError(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		account := w.account().ID
		w.place(newTrusted(account))
		w.ok(w.Change(ctx, func(tx *store.Tx) error {
			_, err := tx.Exec(`UPDATE rate_limits SET tat = $1`, begin.AddDate(5, 0, 0).UnixMicro())
			return err
		}))
		w.place(newTrusted(account))
		w.refusedByLimit(t, newTrusted(account)) // and no more than that is forgiven
		w.Advance(20 * time.Minute)
		w.place(newTrusted(account))
	}, withLimits(store.Limits{Orders: perHour(3)}))
}

// An account that was cached is not told as it was when the commit of a new
// binding was made and yet reported as failed, the second time too.
func TestCreateAccountForgetsWhenItFailed(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		a, kid := w.account(), w.eabKey(true)
		warm := func() (bound bool, grants int) {
			account, err := w.Account(ctx, a.ID)
			w.ok(err)
			g, err := w.Grants(ctx, a.ID)
			w.ok(err)
			return account.BoundExternally, len(g)
		}
		warm()
		broken := errors.New("the connection is broken")
		w.Fault(func(committed bool) error {
			if committed {
				return broken
			}
			return nil
		})
		if _, _, err := w.CreateAccount(ctx, store.NewAccount{Key: a.Key, EABKeyID: kid}); !errors.Is(err, broken) {
			t.Fatalf("got %v", err)
		}
		w.Fault(nil)
		if bound, grants := warm(); !bound || grants != 1 {
			t.Errorf("after the commit: bound %v, %d grants", bound, grants)
		}
	})
}

// What is stored of an API key lets nobody try guesses who has the database and
// not the secret key.
func TestAPIKeysAreHashedUnderTheSecretKey(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		const key = "a key that a person chose"
		w.ok(w.CreateAPIKey(ctx, "api:test", "person", key, store.RoleAdmin))
		if k, err := w.APIKeyByKey(ctx, key); err != nil || k.Name != "person" {
			t.Errorf("got %+v, %v", k, err)
		}
		plain := sha256.Sum256([]byte(key))
		stored := w.Rows(t, `SELECT hash FROM api_keys`)[0][0]
		other := open(t, t.TempDir(), func(c *store.Config) { c.SecretKey = bytes.Repeat([]byte{8}, 32) })
		w.ok(other.CreateAPIKey(ctx, "api:test", "person", key, store.RoleAdmin))
		if stored == other.Rows(t, `SELECT hash FROM api_keys`)[0][0] {
			t.Error("the hash does not depend on the secret key")
		}
		if _, err := w.APIKeyByKey(ctx, stored); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the stored hash opens the door: %v", err)
		}
		w.ok(s.Close())
		files := folder(t, s.Dir())
		for _, form := range []string{key, hex.EncodeToString(plain[:]), string(plain[:]), base64.StdEncoding.EncodeToString(plain[:])} {
			if bytes.Contains(files, []byte(form)) {
				t.Errorf("%q stands in the files", form)
			}
		}
	})
}

// A time that no calendar has, of a clock gone wild, is read as one that can be
// written as JSON.
func TestStoredTimesCanBeTold(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		w.eabKey(true)
		for _, at := range []int64{253402300800_000, 1 << 62, -1 << 63, -62135596800_000} {
			w.ok(w.Change(ctx, func(tx *store.Tx) error {
				_, err := tx.Exec(fmt.Sprintf(`UPDATE eab_keys SET expires_at = %d`, at))
				return err
			}))
			keys, err := w.EABKeys(ctx)
			w.ok(err)
			if _, err := keys[0].ExpiresAt.MarshalJSON(); err != nil || keys[0].ExpiresAt.IsZero() {
				t.Errorf("%d: %v, %v", at, keys[0].ExpiresAt, err)
			}
		}
	})
}
