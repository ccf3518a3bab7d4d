package store

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const secretKeySize = 32

// LoadSecretKey reads the key that seals all secrets: 32 bytes in base64 on one
// line. With create, a missing file is made from fresh random bytes, readable by
// its owner only.
func LoadSecretKey(path string, create bool) ([]byte, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		return createSecretKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("secret key: %w", err)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != secretKeySize {
		return nil, fmt.Errorf("secret key %s: want 32 bytes in base64 on one line (openssl rand -base64 32)", path)
	}
	return key, nil
}

func createSecretKey(path string) ([]byte, error) {
	key := make([]byte, secretKeySize)
	rand.Read(key)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("secret key: %w", err)
	}
	_, err = f.WriteString(base64.StdEncoding.EncodeToString(key) + "\n")
	// The key, and its name in the folder, must be on disk before anything that it
	// seals is.
	if err = errors.Join(err, f.Sync(), f.Close(), syncDir(filepath.Dir(path))); err != nil {
		return nil, fmt.Errorf("secret key %s: %w", path, err)
	}
	return key, nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// sealer encrypts secrets with AES-256-GCM. The secret's name is authenticated
// with it, so that rows cannot be exchanged.
type sealer struct {
	aead    cipher.AEAD
	hashKey []byte // derived; for secrets that need not be opened again
}

func newSealer(key []byte) (*sealer, error) {
	if len(key) != secretKeySize {
		return nil, fmt.Errorf("secret key has %d bytes, want %d", len(key), secretKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	hashKey, err := hkdf.Key(sha256.New, key, nil, "certctl API keys", sha256.Size)
	if err != nil {
		return nil, err
	}
	return &sealer{aead, hashKey}, nil
}

// hash returns what is stored of a secret that is only to be recognized:
// HMAC-SHA256 in hexadecimal. Who has a copy of the database and not the secret
// key cannot try guesses.
func (s *sealer) hash(secret string) string {
	mac := hmac.New(sha256.New, s.hashKey)
	mac.Write([]byte(secret))
	return hex.EncodeToString(mac.Sum(nil))
}

func (s *sealer) seal(name string, secret []byte) []byte {
	return s.aead.Seal(nil, nil, secret, []byte(name))
}

func (s *sealer) open(name string, sealed []byte) ([]byte, error) {
	secret, err := s.aead.Open(nil, nil, sealed, []byte(name))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, ErrSecretKey)
	}
	return secret, nil
}

// checkSecretKey refuses a key that does not open what an earlier start sealed,
// before anything is sealed with the wrong one.
func (s *Store) checkSecretKey(ctx context.Context) error {
	_, err := s.EnsureSecret(ctx, "secret-key-check", func() ([]byte, error) { return []byte("certctl"), nil })
	return err
}

// Secret opens a sealed secret; ErrNotFound when there is none of that name.
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error) {
	var sealed []byte
	err := s.read(ctx, func(c *conn) error {
		return c.one(`SELECT sealed FROM secrets WHERE name = $1`, []any{name}, func(r row) error {
			sealed = r.bytes(0)
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", name, err)
	}
	return s.secrets.open(name, sealed)
}

// EnsureSecret returns the secret of that name, made once by create: of several
// callers that find none, one stores its own and all get that one.
func (s *Store) EnsureSecret(ctx context.Context, name string, create func() ([]byte, error)) ([]byte, error) {
	secret, err := s.Secret(ctx, name)
	if !errors.Is(err, ErrNotFound) {
		return secret, err
	}
	if secret, err = create(); err != nil {
		return nil, err
	}
	if err := s.writer.do(ctx, func(t *tx) error { return t.putSecret(s.secrets, name, secret) }); err != nil && !errors.Is(err, ErrExists) {
		return nil, err
	}
	return s.Secret(ctx, name)
}

func (t *tx) putSecret(s *sealer, name string, secret []byte) error {
	return t.must(ErrExists, `INSERT INTO secrets (name, sealed, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`,
		name, s.seal(name, secret), t.now)
}
