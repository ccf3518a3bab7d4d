// Package admin is the JSON API under /api/v1, by which operators and the
// certctl command line say who may have what and see what happened, and the Go
// client of that API.
//
// Every request carries an API key as "Authorization: Bearer KEY". A key has a
// role: an admin may do everything, an auditor may read everything. Errors are
// problem documents (RFC 9457). Lists are {"items": […]}, the newest first where
// they grow, with a "next" when there is more: the "before" of the next page.
//
// What a request changes is written by package store together with its audit
// event, whose actor is "api:" and the name of the key.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/store"
)

// Prefix is the path below which the API lives.
const Prefix = "/api/v1"

// OpenAPIPath is where the API describes itself, to everybody.
const OpenAPIPath = Prefix + "/openapi.json"

// Config is what the API works on.
type Config struct {
	Store *store.Store
	// Constraints returns the name constraints of an issuer's CA; known is false
	// when there is no issuer of that id.
	Constraints func(issuerID string) (c policy.Constraints, known bool)
	// Issuers are asked for requests, by id.
	Issuers map[string]*issuer.Local
	// Defaults returns what a new profile has where its request says nothing.
	Defaults func() policy.Profile
	// Revoked is told the issuer of a certificate that was just revoked, so that a
	// CRL is published. It must not wait for that. Nil: nobody is told.
	Revoked func(issuerID string)
	// Log is told what goes wrong on our side. Nil means slog.Default().
	Log *slog.Logger
}

// API answers the requests below Prefix.
type API struct {
	cfg     Config
	mux     *http.ServeMux
	huma    huma.API
	openAPI []byte

	refusals refusals
}

// New returns the API as an http.Handler.
func New(cfg Config) (*API, error) {
	switch {
	case cfg.Store == nil:
		return nil, errors.New("admin: Config.Store is not set")
	case cfg.Constraints == nil:
		return nil, errors.New("admin: Config.Constraints is not set")
	case cfg.Defaults == nil:
		return nil, errors.New("admin: Config.Defaults is not set")
	}
	if cfg.Revoked == nil {
		cfg.Revoked = func(string) {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	a := &API{cfg: cfg, mux: http.NewServeMux()}
	a.huma = humago.New(a.mux, humaConfig())

	a.registerProfiles()
	a.registerEABKeys()
	a.registerAccounts()
	a.registerOrders()
	a.registerCertificates()
	a.registerRenewals()
	a.registerAuditEvents()
	a.registerIssuers()
	a.registerChains()
	a.registerAPIKeys()

	var err error
	if a.openAPI, err = a.huma.OpenAPI().MarshalJSON(); err != nil {
		return nil, fmt.Errorf("admin: OpenAPI document: %w", err)
	}
	a.mux.HandleFunc("GET "+OpenAPIPath, a.serveOpenAPI)
	return a, nil
}

func (a *API) serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/openapi+json")
	if _, err := w.Write(a.openAPI); err != nil {
		a.cfg.Log.Debug("the OpenAPI document was not sent", "error", err)
	}
}

// ServeHTTP answers a request. What is checked before an operation is chosen
// stands here; operations see requests of known callers who may make them, with
// a body that has been read.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if r.URL.Path != OpenAPIPath {
		var err error
		if r, err = a.admit(w, r); err != nil {
			a.writeProblem(w, r, err)
			return
		}
	}
	a.mux.ServeHTTP(w, r)
}

// admit returns the request as operations may see it, or a problem.
func (a *API) admit(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	key, err := a.authenticate(r)
	if err != nil {
		a.logRefusal(r, err)
		return r, err
	}
	if key.Role != store.RoleAdmin && r.Method != http.MethodGet && r.Method != http.MethodHead {
		return r, problem(http.StatusForbidden, "the API key %q has the role %s, which may read but not change anything", key.Name, key.Role)
	}
	if err := a.route(w, r); err != nil {
		return r, err
	}
	r = r.WithContext(withCaller(r.Context(), key))
	return r, readBody(w, r)
}

// route refuses what no operation answers. The mux would do so in plain text.
func (a *API) route(w http.ResponseWriter, r *http.Request) error {
	handler, pattern := a.mux.Handler(r)
	if pattern != "" {
		return nil
	}
	refusal := headerOnly{header: make(http.Header)}
	handler.ServeHTTP(&refusal, r)
	if refusal.status != http.StatusMethodNotAllowed {
		return problem(http.StatusNotFound, "the API has nothing at this path; %s lists what it has", OpenAPIPath)
	}
	allowed := refusal.header.Get("Allow")
	w.Header().Set("Allow", allowed)
	return problem(http.StatusMethodNotAllowed, "the method %s is not allowed here, only %s", r.Method, allowed)
}

// headerOnly is an http.ResponseWriter that drops the body.
type headerOnly struct {
	header http.Header
	status int
}

func (h *headerOnly) Header() http.Header         { return h.header }
func (h *headerOnly) WriteHeader(status int)      { h.status = status }
func (h *headerOnly) Write(b []byte) (int, error) { return len(b), nil }

// register adds an operation. Its handler returns an error; here it becomes a
// problem, or, when the client is not to blame, a line in the log.
func register[I, O any](a *API, op huma.Operation, handle func(context.Context, *I) (*O, error)) {
	op.Path = Prefix + op.Path
	op.MaxBodyBytes = maxBody + 1 // readBody has already refused more
	op.Security = []map[string][]string{{"apiKey": {}}}
	op.Errors = append(op.Errors, http.StatusUnauthorized)
	if op.Method != http.MethodGet {
		op.Errors = append(op.Errors, http.StatusForbidden)
	}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err != nil {
			return nil, a.answerable(ctx, op.OperationID, err)
		}
		return out, nil
	})
}

// Page is the part of a list that is asked for.
type Page struct {
	Before string `query:"before" doc:"Only what is older than this: the \"next\" of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"The most items to return."`
}

// List is one page of items.
type List[T any] struct {
	Items []T    `json:"items" nullable:"false"`
	Next  string `json:"next,omitempty" doc:"The \"before\" of the next page; absent on the last."`
}

type listOutput[T any] struct{ Body List[T] }

// wholeList answers a list that has no pages.
func wholeList[T any](items []T) *listOutput[T] {
	if items == nil {
		items = []T{}
	}
	return &listOutput[T]{List[T]{Items: items}}
}

// pageOf answers a page of rows, of which one more than the limit was asked for.
func pageOf[R, T any](rows []R, limit int, id func(R) string, view func(R) T) *listOutput[T] {
	list := List[T]{Items: make([]T, 0, len(rows))}
	if len(rows) > limit {
		rows = rows[:limit]
		list.Next = id(rows[limit-1])
	}
	for _, row := range rows {
		list.Items = append(list.Items, view(row))
	}
	return &listOutput[T]{list}
}
