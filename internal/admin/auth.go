package admin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strings"

	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/store"
)

// keyPrefix tells people and secret scanners what they have found.
const keyPrefix = "ck_"

// NewKey returns a fresh API key with 256 bits of entropy.
func NewKey() string {
	var b [32]byte
	rand.Read(b[:])
	return keyPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// HashKey returns what the store keeps of an API key. A plain hash is enough:
// nobody guesses 256 random bits.
func HashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

// authenticate returns the API key that a request carries.
func (a *API) authenticate(r *http.Request) (store.APIKey, error) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || key == "" {
		return store.APIKey{}, problem(http.StatusUnauthorized, "the request carries no API key; send one as \"Authorization: Bearer KEY\"")
	}
	k, err := a.cfg.Store.APIKeyByHash(r.Context(), HashKey(strings.TrimSpace(key)))
	if errors.Is(err, store.ErrNotFound) {
		return k, problem(http.StatusUnauthorized, "the API key is unknown or disabled")
	}
	return k, err
}

type callerKey struct{}

// withCaller hands the API key of a request on to its operation.
func withCaller(ctx context.Context, k store.APIKey) context.Context {
	return context.WithValue(ctx, callerKey{}, k)
}

// caller returns the API key that the request was made with. Operations are
// reached through ServeHTTP only, which has set it.
func caller(ctx context.Context) store.APIKey {
	k, _ := ctx.Value(callerKey{}).(store.APIKey)
	return k
}

// actor names the caller in audit events.
func actor(ctx context.Context) string { return audit.APIKey(caller(ctx).Name) }
