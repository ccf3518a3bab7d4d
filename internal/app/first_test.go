package app

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/store"
)

// The keys of the environment are named in the order in which they came, which
// tells nothing of them; one that is known is not made again.
func TestEnvironmentKeys(t *testing.T) {
	ctx := context.Background()
	db, err := store.Open(ctx, store.Config{Dir: t.TempDir(), SecretKey: make([]byte, 32), NonceTTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := &server{store: db, log: slog.New(slog.DiscardHandler)}
	start := func(key string) {
		t.Helper()
		s.cfg.APIKey = key
		if err := s.firstAPIKey(ctx); err != nil {
			t.Fatal(err)
		}
	}
	start("first-key-of-the-environment")
	start("second-key-of-the-environment")
	if err := db.CreateAPIKey(ctx, audit.System("test"), "environment-2", "somebody-else-took-the-name", store.RoleAuditor); err != nil {
		t.Fatal(err)
	}
	start("third-key-of-the-environment")
	start("second-key-of-the-environment")
	start("first-key-of-the-environment")
	start("")

	keys, err := db.APIKeys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, k := range keys {
		names = append(names, k.Name)
	}
	if want := []string{"admin", "environment-1", "environment-2", "environment-3"}; !slices.Equal(names, want) {
		t.Errorf("the keys are named %q, want %q", names, want)
	}
	for key, want := range map[string]string{"second-key-of-the-environment": "environment-1", "third-key-of-the-environment": "environment-3"} {
		if k, err := db.APIKeyByKey(ctx, key); err != nil || k.Name != want || k.Role != store.RoleAdmin {
			t.Errorf("%s is %+v (%v), want an admin key named %s", key, k, err, want)
		}
	}
	if err := db.DisableAPIKey(ctx, audit.System("test"), "environment-1"); err != nil {
		t.Fatal(err)
	}
	start("second-key-of-the-environment")
	if k, err := db.APIKeyByKey(ctx, "second-key-of-the-environment"); err == nil {
		t.Errorf("a disabled key came back as %s", k.Name)
	}
}

// The limits of accounts are those of the settings, each its own.
func TestAccountLimitsAreSet(t *testing.T) {
	ctx := context.Background()
	cfg, err := parse(t, "--data-dir", t.TempDir(), "--acme-server-rate-limit-new-accounts-per-hour", "3",
		"--acme-server-rate-limit-account-changes-per-hour", "2", "--acme-server-rate-limit-key-change-per-hour", "1")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{cfg: *cfg, log: slog.New(slog.DiscardHandler)}
	defer s.close()
	if err := s.openStore(ctx); err != nil {
		t.Fatal(err)
	}
	newKey := func() *acme.Key {
		private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, err := acme.NewKey(private.Public())
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	// most counts how often a change can be made at once.
	most := func(change func() error) (n int) {
		t.Helper()
		for ; n < 10; n++ {
			err := change()
			var p *acme.Problem
			if errors.As(err, &p) && p.Type == acme.ErrRateLimited {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	var last *acme.Account
	accounts := most(func() error {
		a, _, err := s.store.CreateAccount(ctx, store.NewAccount{Key: newKey()})
		if err == nil {
			last = a
		}
		return err
	})
	changes := most(func() error { return s.store.UpdateContacts(ctx, last.ID, nil) })
	key := last.Key
	keys := most(func() error {
		to := newKey()
		err := s.store.ChangeKey(ctx, last.ID, key, to)
		if err == nil {
			key = to
		}
		return err
	})
	if accounts != 3 || changes != 2 || keys != 1 {
		t.Errorf("%d accounts, %d changes and %d keys, want 3, 2 and 1", accounts, changes, keys)
	}
}
