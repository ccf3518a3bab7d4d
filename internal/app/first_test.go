package app

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

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
