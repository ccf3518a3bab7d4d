package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certctl/certctl/internal/store"
)

func TestSecretsAreSealed(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		secrets := map[string][]byte{}
		for _, name := range []string{"issuer key", "ensured", "server key", "HMAC key"} {
			secrets[name] = bytes.Repeat([]byte(strings.ToUpper(name)[:6]), 6)
		}
		w.ok(w.CreateIssuer(ctx, "api:test", store.Issuer{ID: "iss"}, map[string][]byte{"iss/key": secrets["issuer key"]}))
		_, err := w.EnsureSecret(ctx, "ensured", func() ([]byte, error) { return secrets["ensured"], nil })
		w.ok(err)
		w.ok(w.StoreServerCertificate(ctx, &store.Certificate{Serial: newSerial(), DER: []byte("der"), NotBefore: begin, NotAfter: begin}, "server-tls", secrets["server key"]))
		w.ok(w.CreateEABKey(ctx, "api:test", store.EABKey{KeyID: "kid"}, secrets["HMAC key"]))

		checkFiles := func(when string) {
			t.Helper()
			files := folder(t, s.Dir())
			if !bytes.Contains(files, []byte("iss/key")) {
				t.Errorf("%s: the search finds nothing at all", when)
			}
			for name, secret := range secrets {
				for _, form := range [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(base64.RawURLEncoding.EncodeToString(secret)),
					[]byte(base64.StdEncoding.EncodeToString(secret)), secretKey} {
					if bytes.Contains(files, form) {
						t.Errorf("%s: the %s stands in the files as %q", when, name, form)
					}
				}
			}
		}
		checkFiles("running")
		for name, want := range map[string][]byte{"iss/key": secrets["issuer key"], "ensured": secrets["ensured"], "server-tls": secrets["server key"]} {
			if got, err := s.Secret(ctx, name); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
		}
		if got, err := s.EABSecret(ctx, "kid"); err != nil || !bytes.Equal(got, secrets["HMAC key"]) {
			t.Errorf("HMAC key: got %q, %v", got, err)
		}
		w.ok(s.Close())
		checkFiles("stopped")
	})
}

func TestSwappedSecretsDoNotOpen(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		for _, name := range []string{"a", "b"} {
			_, err := s.EnsureSecret(ctx, name, func() ([]byte, error) { return []byte("secret " + name), nil })
			w.ok(err)
			w.ok(s.CreateEABKey(ctx, "api:test", store.EABKey{KeyID: name}, []byte("secret "+name)))
		}
		w.ok(s.Change(ctx, func(tx *store.Tx) error {
			for _, sql := range []string{
				`UPDATE secrets SET name = 'c' WHERE name = 'a'`,
				`UPDATE secrets SET name = 'a' WHERE name = 'b'`,
				`UPDATE secrets SET name = 'b' WHERE name = 'c'`,
				`UPDATE eab_keys SET sealed = (SELECT sealed FROM secrets WHERE name = 'a') WHERE kid = 'a'`,
				`UPDATE eab_keys SET sealed = substr(sealed, 1, length(sealed) - 1) || x'00' WHERE kid = 'b'`,
			} {
				if _, err := tx.Exec(sql); err != nil {
					return err
				}
			}
			return nil
		}))
		for _, name := range []string{"a", "b"} {
			if secret, err := s.Secret(ctx, name); !errors.Is(err, store.ErrSecretKey) {
				t.Errorf("secret %s: %q, %v", name, secret, err)
			}
			if secret, err := s.EABSecret(ctx, name); !errors.Is(err, store.ErrSecretKey) {
				t.Errorf("HMAC key %s: %q, %v", name, secret, err)
			}
		}
	})
}

func TestAWrongSecretKeyIsRefused(t *testing.T) {
	onEach(t, func(t *testing.T, s *store.Store) {
		w := worldOf(t, s)
		w.claim(w.trusted())
		w.ok(s.Close())
		before := folder(t, s.Dir())
		cfg := s.Settings()
		cfg.SecretKey = bytes.Repeat([]byte{8}, 32)
		if _, err := store.Open(ctx, cfg); !errors.Is(err, store.ErrSecretKey) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want ErrSecretKey in one line", err)
		}
		if !bytes.Equal(before, folder(t, s.Dir())) {
			t.Error("the refused start changed the files")
		}
		cfg.SecretKey = cfg.SecretKey[:16]
		if _, err := store.Open(ctx, cfg); err == nil || !strings.Contains(err.Error(), "16 bytes, want 32") {
			t.Errorf("a short key: %v", err)
		}
		reopen(t, s)
	})
}

func TestLoadSecretKey(t *testing.T) {
	onEach(t, func(t *testing.T, _ *store.Store) {
		path := filepath.Join(t.TempDir(), "secret.key")
		if _, err := store.LoadSecretKey(path, false); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("a missing file: %v", err)
		}
		key, err := store.LoadSecretKey(path, true)
		if err != nil || len(key) != 32 || bytes.Equal(key, make([]byte, 32)) {
			t.Fatalf("a new key: %x, %v", key, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the file: %v, %v", info.Mode(), err)
		}
		for _, create := range []bool{true, false} {
			if again, err := store.LoadSecretKey(path, create); err != nil || !bytes.Equal(again, key) {
				t.Errorf("loaded again: %x, %v", again, err)
			}
		}
		for _, text := range []string{"", "\n", "short", base64.StdEncoding.EncodeToString(key[:31]), base64.StdEncoding.EncodeToString(append(key, 1)),
			hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key) + "\nmore"} {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := store.LoadSecretKey(path, true); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: got %v", text, err)
			}
			if after, _ := os.ReadFile(path); string(after) != text {
				t.Errorf("%q was overwritten", text)
			}
		}
	})
}
