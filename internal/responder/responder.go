// Package responder serves what relying parties fetch over plain HTTP: CRLs
// (RFC 5280, Section 5), OCSP responses (RFC 6960, RFC 5019) and the certificates
// of issuers (RFC 5280, Section 4.2.2.1). All of it is signed, so plain HTTP takes
// nothing from it, and all of it may be cached.
package responder

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

// Config is what a Responder works with.
type Config struct {
	Store   *store.Store
	Issuers map[string]*issuer.Local         // by id
	OCSP    map[string]*lifecycle.OCSPSigner // by the id of the issuer; for all of them
	Log     *slog.Logger
}

// Responder serves what stands under /crl/, /ocsp/ and /aia/.
type Responder struct {
	cfg     Config
	issuers map[string]*served // by id
}

// served is an issuer with what requests are compared with.
type served struct {
	id     string
	local  *issuer.Local
	ocsp   *lifecycle.OCSPSigner
	hashes *pki.OCSPIssuer
}

// New returns a responder for the issuers given.
func New(cfg Config) (*Responder, error) {
	if cfg.Store == nil || cfg.Log == nil {
		return nil, errors.New("responder: a store and a log are needed")
	}
	s := &Responder{cfg: cfg, issuers: make(map[string]*served, len(cfg.Issuers))}
	for id, local := range cfg.Issuers {
		hashes, err := pki.NewOCSPIssuer(local.Chain()[0])
		if err != nil {
			return nil, fmt.Errorf("responder: issuer %s: %w", id, err)
		}
		if cfg.OCSP[id] == nil {
			return nil, fmt.Errorf("responder: issuer %s has no OCSP signer", id)
		}
		s.issuers[id] = &served{id: id, local: local, ocsp: cfg.OCSP[id], hashes: hashes}
	}
	return s, nil
}

const (
	crlPrefix  = "/crl/"
	ocspPrefix = "/ocsp/"
	aiaPrefix  = "/aia/"
)

// CRLPath is where the complete CRL of an issuer is served.
func CRLPath(issuerID string) string { return crlPrefix + issuerID + ".crl" }

// ShardPath is where a shard of the CRL of an issuer is served.
func ShardPath(issuerID string, shard int) string {
	return crlPrefix + issuerID + "/" + strconv.Itoa(shard) + ".crl"
}

// OCSPPath is where OCSP requests about the certificates of an issuer are answered.
func OCSPPath(issuerID string) string { return ocspPrefix + issuerID }

// AIAPath is where the certificate of an issuer is served.
func AIAPath(issuerID string) string { return aiaPrefix + issuerID + ".cer" }

// Serves reports whether a path is the responder's. Such a path must not be
// cleaned or redirected before: "//" in it may belong to an OCSP request in base64.
func Serves(path string) bool {
	return strings.HasPrefix(path, crlPrefix) || strings.HasPrefix(path, ocspPrefix) || strings.HasPrefix(path, aiaPrefix)
}

// ServeHTTP answers what Serves.
func (s *Responder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, ocspPrefix); ok {
		id, request, _ := strings.Cut(rest, "/")
		if of := s.issuers[id]; of != nil {
			s.ocsp(w, r, of, request)
			return
		}
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "use GET", http.StatusMethodNotAllowed)
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, aiaPrefix); ok {
		id, isCert := strings.CutSuffix(name, ".cer")
		if of := s.issuers[id]; of != nil && isCert {
			cached(w, 24*time.Hour)
			serve(w, r, "application/pkix-cert", time.Time{}, of.local.Chain()[0].Raw)
			return
		}
	}
	if name, ok := strings.CutPrefix(r.URL.Path, crlPrefix); ok {
		if of, shard := s.crlNamed(name); of != nil {
			s.crl(w, r, of, shard)
			return
		}
	}
	http.NotFound(w, r)
}

// crlNamed reads {issuer}.crl and {issuer}/{shard}.crl; nil for anything else.
func (s *Responder) crlNamed(name string) (of *served, shard int) {
	name, isCRL := strings.CutSuffix(name, ".crl")
	if !isCRL {
		return nil, 0
	}
	id, number, sharded := strings.Cut(name, "/")
	if of = s.issuers[id]; of == nil || !sharded {
		return of, 0
	}
	shard, err := strconv.Atoi(number)
	if err != nil || shard < 1 || shard > len(of.local.ShardURLs()) || strconv.Itoa(shard) != number {
		return nil, 0
	}
	return of, shard
}

func (s *Responder) crl(w http.ResponseWriter, r *http.Request, of *served, shard int) {
	crl, err := s.cfg.Store.CRL(r.Context(), of.id, shard)
	if errors.Is(err, store.ErrNotFound) {
		w.Header().Set("Retry-After", "2")
		http.Error(w, "the first CRL is being made", http.StatusServiceUnavailable)
		return
	}
	if err != nil {
		s.cfg.Log.Error("CRL cannot be read", "issuer", of.id, "shard", shard, "error", err)
		http.Error(w, "the CRL cannot be read", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("ETag", `"`+strconv.FormatInt(crl.Number, 16)+`"`)
	h.Set("Expires", crl.NextUpdate.UTC().Format(http.TimeFormat))
	// A relying party may keep it for a tenth of its life, so that a revocation
	// reaches it long before the next update.
	cached(w, min(crl.NextUpdate.Sub(s.cfg.Store.Now()), crl.NextUpdate.Sub(crl.ThisUpdate)/10))
	serve(w, r, "application/pkix-crl", crl.ThisUpdate, crl.DER)
}

func cached(w http.ResponseWriter, life time.Duration) {
	w.Header().Set("Cache-Control", "max-age="+seconds(life)+", public, no-transform, must-revalidate")
}

func seconds(life time.Duration) string {
	return strconv.FormatInt(max(0, int64(life/time.Second)), 10)
}

// serve answers GET and HEAD, with 304 to whoever has it already (RFC 9110, Section
// 13), judged by the ETag that is set, or else by when it was last modified.
func serve(w http.ResponseWriter, r *http.Request, contentType string, modified time.Time, body []byte) {
	w.Header().Set("Content-Type", contentType)
	http.ServeContent(w, r, "", modified, bytes.NewReader(body))
}
