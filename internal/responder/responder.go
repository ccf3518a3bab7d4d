// Package responder serves what relying parties fetch over plain HTTP: CRLs
// (RFC 5280, Section 5) and the certificates of issuers (RFC 5280, Section
// 4.2.2.1). Both are signed, so plain HTTP takes nothing from them; both may be
// cached.
package responder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/store"
)

// Responder serves /crl/{issuer}.crl and /aia/{issuer}.cer.
type Responder struct {
	store   *store.Store
	issuers map[string]*issuer.Local
	log     *slog.Logger

	mu   sync.Mutex
	crls map[string]cachedCRL
}

type cachedCRL struct {
	store.CRL
	read time.Time
}

// crlAge is how old the CRL that is served may be against the store's.
const crlAge = time.Second

// New returns a responder for the issuers given, by id.
func New(s *store.Store, issuers map[string]*issuer.Local, log *slog.Logger) *Responder {
	return &Responder{store: s, issuers: issuers, log: log, crls: map[string]cachedCRL{}}
}

// CRLPath is where the CRL of an issuer is served.
func CRLPath(issuerID string) string { return "/crl/" + issuerID + ".crl" }

// AIAPath is where the certificate of an issuer is served.
func AIAPath(issuerID string) string { return "/aia/" + issuerID + ".cer" }

// ServeHTTP answers GET and HEAD.
func (s *Responder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	for id, signer := range s.issuers {
		switch r.URL.Path {
		case AIAPath(id):
			w.Header().Set("Content-Type", "application/pkix-cert")
			cached(w, 24*time.Hour)
			write(w, r, signer.Chain()[0].Raw)
			return
		case CRLPath(id):
			s.crl(w, r, id)
			return
		}
	}
	http.NotFound(w, r)
}

func (s *Responder) crl(w http.ResponseWriter, r *http.Request, id string) {
	crl, err := s.newest(r.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		w.Header().Set("Retry-After", "2")
		http.Error(w, "the first CRL is being made", http.StatusServiceUnavailable)
		return
	}
	if err != nil {
		s.log.Error("CRL cannot be read", "issuer", id, "error", err)
		http.Error(w, "the CRL cannot be read", http.StatusInternalServerError)
		return
	}
	etag := fmt.Sprintf(`"%d"`, crl.Number)
	w.Header().Set("Content-Type", "application/pkix-crl")
	w.Header().Set("ETag", etag)
	w.Header().Set("Last-Modified", crl.ThisUpdate.UTC().Format(http.TimeFormat))
	// A relying party may keep it for a tenth of its life, so that a revocation
	// reaches it long before the next update.
	cached(w, min(time.Until(crl.NextUpdate), crl.NextUpdate.Sub(crl.ThisUpdate)/10))
	if strings.Contains(r.Header.Get("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	write(w, r, crl.DER)
}

// newest returns the stored CRL, at most crlAge old.
func (s *Responder) newest(ctx context.Context, id string) (store.CRL, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.crls[id]; ok && time.Since(c.read) < crlAge {
		return c.CRL, nil
	}
	crl, err := s.store.CRL(ctx, id)
	if err != nil {
		return crl, err
	}
	s.crls[id] = cachedCRL{crl, time.Now()}
	return crl, nil
}

func cached(w http.ResponseWriter, life time.Duration) {
	seconds := max(0, int64(life/time.Second))
	w.Header().Set("Cache-Control", "public, max-age="+strconv.FormatInt(seconds, 10))
}

func write(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // a client that is gone is no error of ours
	}
}
