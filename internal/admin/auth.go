package admin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

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

// authenticate returns the API key that a request carries.
func (a *API) authenticate(r *http.Request) (store.APIKey, error) {
	scheme, key, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || key == "" {
		return store.APIKey{}, problem(http.StatusUnauthorized, "the request carries no API key; send one as \"Authorization: Bearer KEY\"")
	}
	k, err := a.cfg.Store.APIKeyByKey(r.Context(), strings.TrimSpace(key))
	if errors.Is(err, store.ErrNotFound) {
		return k, problem(http.StatusUnauthorized, "the API key is unknown or disabled")
	}
	return k, err
}

// refusalsEvery is the least time between two lines about failed authentications.
const refusalsEvery = time.Second

// refusals bounds the log of failed authentications, which anybody can cause.
type refusals struct {
	mu     sync.Mutex
	told   time.Time
	untold int
}

// count counts one and reports whether it is to be told, and how many were not
// since the last that was.
func (f *refusals) count(now time.Time) (untold int, tell bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if since := now.Sub(f.told); since >= 0 && since < refusalsEvery {
		f.untold++
		return 0, false
	}
	untold, f.untold, f.told = f.untold, 0, now
	return untold, true
}

// logRefusal tells who failed to authenticate, never with what.
func (a *API) logRefusal(r *http.Request, err error) {
	var told huma.StatusError
	if !errors.As(err, &told) || told.GetStatus() != http.StatusUnauthorized {
		return
	}
	if untold, tell := a.refusals.count(time.Now()); tell {
		a.cfg.Log.Warn("API authentication failed", "remote", r.RemoteAddr, "method", r.Method, "path", r.URL.Path,
			"reason", err.Error(), "untold_before", untold)
	}
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
