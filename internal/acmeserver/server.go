// Package acmeserver is the ACME surface (RFC 8555): every resource of every
// profile below /acme/. One wrapper, post, checks what is common to all
// requests; one place, answer, writes what handlers return, errors included.
package acmeserver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/store"
)

// maxBody bounds a request: room for a CSR with an RSA-4096 key and the most
// names an order may have, in base64 twice.
const maxBody = 256 << 10

// Config is what the ACME surface works with.
type Config struct {
	Store     *store.Store
	Lifecycle *lifecycle.Lifecycle
	Issuers   map[string]*issuer.Local // by id
	// ExternalURLs are the origins (https://host[:port]) under which clients reach
	// this server. A request is answered with the one that its Host names.
	ExternalURLs   []string
	DefaultProfile string // behind the /acme/directory shorthand; "": there is none
	TermsURL       string // must be agreed to, when set
	Website        string
	CAAIdentities  []string
	Blocked        *pki.Blocklist // keys that get no certificate and no account
	EABRequired    bool           // for every new account, whatever its profile says
	// FinalizeWait is how long finalize waits for the certificate before it answers
	// "processing"; 0: two seconds.
	FinalizeWait time.Duration
	OrderTTL     time.Duration
	AuthzTTL     time.Duration
	// ARIPollInterval is how long clients wait before they ask for renewal
	// information again; 0: there is none.
	ARIPollInterval time.Duration
	Log             *slog.Logger
}

// Server answers ACME requests.
type Server struct {
	cfg     Config
	origins map[string]string // by Host, lower-case
}

// New returns a server that is ready.
func New(cfg Config) (*Server, error) {
	if cfg.Store == nil || cfg.Lifecycle == nil || cfg.Log == nil || cfg.OrderTTL <= 0 || cfg.AuthzTTL <= 0 {
		return nil, errors.New("acmeserver: a store, a lifecycle, a log and lifetimes are needed")
	}
	if cfg.FinalizeWait == 0 {
		cfg.FinalizeWait = 2 * time.Second
	}
	s := &Server{cfg: cfg, origins: map[string]string{}}
	for _, text := range cfg.ExternalURLs {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			return nil, fmt.Errorf("external URL %q: want https://HOST[:PORT]", text)
		}
		host := strings.ToLower(u.Host)
		origin := "https://" + host
		s.origins[host] = origin
		if u.Port() == "" {
			s.origins[host+":443"] = origin
		} else if u.Port() == "443" {
			s.origins[strings.TrimSuffix(host, ":443")] = origin
		}
	}
	if len(s.origins) == 0 {
		return nil, errors.New("acmeserver: no external URL")
	}
	return s, nil
}

// request is one request on its way to a handler.
type request struct {
	*http.Request
	origin  string   // the external URL that the Host names
	prefix  string   // path of the directory that was asked: /acme or /acme/profile/{id}
	profile string   // id of the profile
	args    []string // what the path names, after the resource
	url     string   // origin and path: what a JWS must be signed for

	jws     *acme.JWS
	key     *acme.Key     // that signed the JWS
	account *acme.Account // nil when the JWS carries its key
	payload []byte        // empty for POST-as-GET
}

// response is what a handler returns. A zero status is 200.
type response struct {
	status     int
	body       any    // JSON
	pem        []byte // instead of body
	location   string
	links      []acme.Link
	retryAfter time.Duration
	cacheFor   time.Duration // of an answer that is the same for everybody
}

// signer says which form of JWS a resource takes (RFC 8555, Section 6.2).
type signer int

const (
	byAccount signer = iota // kid
	byKey                   // jwk
	byEither
)

// resource is one kind of URL.
type resource struct {
	args   int // path segments after the name
	more   int // and as many that may be left out
	signer signer
	post   func(*Server, *request) (*response, error)
	get    func(*Server, *request) (*response, error) // nil: POST only
}

// The resources, by the path below a directory's prefix.
var resources = map[string]resource{
	"directory":   {get: (*Server).directory, post: (*Server).directory},
	"new-nonce":   {get: (*Server).newNonce, post: (*Server).newNonce},
	"new-account": {post: (*Server).newAccount, signer: byKey},
	"new-order":   {post: (*Server).newOrder},
	"new-authz":   {post: (*Server).newAuthz},
	"order":       {post: (*Server).order, args: 1},
	"finalize":    {post: (*Server).finalize, args: 1},
	"authz":       {post: (*Server).authorization, args: 1},
	"challenge":   {post: (*Server).challenge, args: 2},
	"cert":        {post: (*Server).certificate, args: 1, more: 1},
	"revoke-cert": {post: (*Server).revokeCert, signer: byEither},
	"key-change":  {post: (*Server).keyChange},
	// No POST: renewal information is for everybody (RFC 9773, Section 4.1).
	"renewal-info": {get: (*Server).renewalInfo, args: 1},
}

// Accounts belong to the server: their URLs name no profile.
var serverResources = map[string]resource{
	"account": {post: (*Server).account, args: 1},
	"orders":  {post: (*Server).orders, args: 1},
}

// ServeHTTP answers one request. Whatever comes of it, success or error, the
// headers that every answer has are set before anything is looked at.
func (s *Server) ServeHTTP(w http.ResponseWriter, httpRequest *http.Request) {
	r := &request{Request: httpRequest}
	resp, err := s.serve(w.Header(), r)
	if err != nil {
		resp, err = nil, s.problem(r, err)
		if w.Header().Get("Replay-Nonce") == "" {
			w.Header().Set("Replay-Nonce", s.cfg.Store.NewNonce())
		}
	}
	s.answer(w, r, resp, err)
}

func (s *Server) serve(header http.Header, r *request) (*response, error) {
	header.Set("Cache-Control", "no-store")
	origin, known := s.origins[strings.ToLower(r.Host)]
	if !known {
		p := acme.Malformed("this server is not configured to be reached as %q; add https://%s to CERTCTL_EXTERNAL_URL", r.Host, r.Host)
		p.Status = http.StatusMisdirectedRequest
		return nil, p
	}
	r.origin, r.prefix = origin, "/acme"
	res, name, err := s.route(r)
	if name != "directory" {
		// RFC 8555, Section 7.1: every response but the directory has this link.
		header.Add("Link", link(acme.Link{Rel: "index", URL: origin + r.prefix + "/directory"}))
	}
	if err != nil {
		return nil, err
	}
	r.url = origin + r.URL.Path
	switch {
	case r.Method == http.MethodPost && res.post != nil:
		// "The server MUST include a Replay-Nonce header field in every successful
		// response to a POST request and SHOULD provide it in error responses as
		// well" (RFC 8555, Section 6.5).
		header.Set("Replay-Nonce", s.cfg.Store.NewNonce())
		return s.post(r, res)
	case res.get != nil && (r.Method == http.MethodGet || r.Method == http.MethodHead):
		if name == "new-nonce" {
			header.Set("Replay-Nonce", s.cfg.Store.NewNonce())
		}
		return res.get(s, r)
	default:
		allow := "GET, HEAD, POST"
		switch {
		case res.get == nil:
			allow = "POST"
		case res.post == nil:
			allow = "GET, HEAD"
		}
		header.Set("Allow", allow)
		p := acme.Malformed("%s is not allowed here; use %s", r.Method, allow)
		p.Status = http.StatusMethodNotAllowed
		return nil, p
	}
}

// route finds the resource that the path names and fills in prefix, profile and
// args. A resource has one URL: no other spelling of its path, and no query.
func (s *Server) route(r *request) (resource, string, error) {
	path, ok := strings.CutPrefix(r.URL.Path, "/acme/")
	if !ok || r.URL.EscapedPath() != r.URL.Path || r.URL.RawQuery != "" || r.URL.ForceQuery {
		return resource{}, "", noSuch("resource")
	}
	parts := strings.Split(path, "/")
	r.profile = s.cfg.DefaultProfile
	table := serverResources
	if parts[0] == "profile" && len(parts) > 2 {
		r.prefix, r.profile = "/acme/profile/"+parts[1], parts[1]
		parts = parts[2:]
		table = resources
	}
	res, ok := table[parts[0]]
	if !ok && r.prefix == "/acme" {
		// The shorthand: the same resources for the default profile.
		res, ok = resources[parts[0]]
		if ok && r.profile == "" {
			return resource{}, "", acme.UserActionRequired("this server has no default profile; use /acme/profile/PROFILE/directory")
		}
	}
	r.args = parts[1:]
	if !ok || len(r.args) < res.args || len(r.args) > res.args+res.more {
		return resource{}, "", noSuch("resource")
	}
	return res, parts[0], nil
}

var bodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// post checks what every POST has in common, the cheap refusals first
// (RFC 8555, Section 6), and calls the handler.
func (s *Server) post(r *request, res resource) (*response, error) {
	contentType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || contentType != "application/jose+json" {
		p := acme.Malformed("the Content-Type must be application/jose+json")
		p.Status = http.StatusUnsupportedMediaType
		return nil, p
	}
	body := bodies.Get().(*bytes.Buffer)
	defer bodies.Put(body)
	body.Reset()
	if _, err := body.ReadFrom(io.LimitReader(r.Body, maxBody+1)); err != nil {
		return nil, acme.Malformed("the request could not be read to its end")
	}
	if body.Len() > maxBody {
		p := acme.Malformed("the request has more than %d bytes", maxBody)
		p.Status = http.StatusRequestEntityTooLarge
		return nil, p
	}
	if r.jws, err = acme.ParseJWS(body.Bytes()); err != nil {
		return nil, err
	}
	if err := s.spendNonce(r); err != nil {
		return nil, err
	}
	if err := r.jws.CheckURL(r.url); err != nil {
		return nil, err
	}
	if err := s.findKey(r, res.signer); err != nil {
		return nil, err
	}
	if r.payload, err = r.jws.Verify(r.key); err != nil {
		return nil, err
	}
	if r.account != nil && r.account.Status() != acme.StatusValid {
		return nil, deactivated()
	}
	resp, err := res.post(s, r)
	if errors.Is(err, store.ErrConflict) && r.account != nil {
		// Did the account end meanwhile? Then it leaves the cache in this moment.
		time.Sleep(raceWait)
		if now, gone := s.cfg.Store.Account(r.Context(), r.account.ID); gone == nil && now.Status() != acme.StatusValid {
			return nil, deactivated()
		}
	}
	return resp, err
}

// deactivated is the answer to whoever signs with the key of a deactivated
// account: 401, unlike other refusals (RFC 8555, Section 7.3.6).
func deactivated() *acme.Problem {
	p := acme.Unauthorized("the account is deactivated")
	p.Status = http.StatusUnauthorized
	return p
}

// spendNonce uses the request's nonce up before its payload is looked at; it
// stays spent when the request is refused.
func (s *Server) spendNonce(r *request) error {
	if r.jws.Nonce == "" {
		return acme.BadNonce("the JWS has no nonce")
	}
	if err := s.cfg.Store.SpendNonce(r.jws.Nonce); err != nil {
		return acme.BadNonce("the nonce was not issued by this server, has expired or was used before")
	}
	return nil
}

// findKey finds the key that must have signed the request.
func (s *Server) findKey(r *request, want signer) error {
	if r.jws.Key != nil {
		if want == byAccount {
			return acme.Malformed("this request must name its account with kid, not carry a jwk")
		}
		r.key = r.jws.Key
		return nil
	}
	if want == byKey {
		return acme.Malformed("this request must carry its key as jwk, not a kid")
	}
	id, ok := s.accountID(r.jws.KeyID)
	if !ok {
		return acme.AccountDoesNotExist("the kid %.200q is not the URL of an account of this server", r.jws.KeyID)
	}
	account, err := s.cfg.Store.Account(r.Context(), id)
	if errors.Is(err, store.ErrNotFound) {
		return acme.AccountDoesNotExist("there is no account %.200q", r.jws.KeyID)
	}
	if err != nil {
		return err
	}
	r.account, r.key = account, account.Key
	return nil
}

// accountID takes the account out of its URL, which any of the external URLs may
// have made.
func (s *Server) accountID(kid string) (string, bool) {
	origin, id, ok := strings.Cut(kid, "/acme/account/")
	if !ok || id == "" || strings.Contains(id, "/") {
		return "", false
	}
	host, ok := strings.CutPrefix(origin, "https://")
	_, known := s.origins[strings.ToLower(host)]
	return id, ok && known
}

func (r *request) accountURL(id string) string { return r.origin + "/acme/account/" + id }

// resourceURL returns the URL of an object of a profile. It names the profile even
// when the request came by the shorthand, whose profile may change.
func (r *request) resourceURL(name string, args ...string) string {
	return r.origin + "/acme/profile/" + r.profile + "/" + name + "/" + strings.Join(args, "/")
}

func link(l acme.Link) string { return "<" + l.URL + `>;rel="` + l.Rel + `"` }

// noSuch is the answer for what is not there, and for what is another's.
func noSuch(what string) *acme.Problem {
	p := acme.Malformed("there is no such %s", what)
	p.Status = http.StatusNotFound
	return p
}

// problem turns a handler's error into the problem that the client gets. What is
// not a problem is our fault: the client learns only that, the log the rest.
func (s *Server) problem(r *request, err error) *acme.Problem {
	var p *acme.Problem
	if errors.As(err, &p) {
		return p
	}
	p = acme.ServerInternal("the server could not do this; it is not your fault, try again later")
	switch {
	case errors.Is(err, store.ErrNotFound):
		return noSuch("object")
	case errors.Is(err, context.Canceled):
		p.Status = 499 // nobody reads it
		return p
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, store.ErrClosed):
		p.Status, p.RetryAfter = http.StatusServiceUnavailable, 5*time.Second
	case errors.Is(err, store.ErrConflict): // lost every race that it was in
		p.Status, p.RetryAfter = http.StatusServiceUnavailable, time.Second
	}
	s.cfg.Log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	return p
}

// answer writes the response, or the problem, of a request.
func (s *Server) answer(w http.ResponseWriter, r *request, resp *response, err error) {
	header := w.Header()
	contentType := "application/json"
	var p *acme.Problem
	if errors.As(err, &p) {
		contentType = "application/problem+json"
		resp = &response{status: p.Status, body: p, location: p.Location, links: p.Links, retryAfter: p.RetryAfter}
	}
	if resp.location != "" {
		header.Set("Location", resp.location)
	}
	for _, l := range resp.links {
		header.Add("Link", link(l))
	}
	if resp.cacheFor > 0 {
		header.Set("Cache-Control", "public, max-age="+strconv.FormatInt(int64(resp.cacheFor/time.Second), 10))
	}
	if resp.retryAfter > 0 {
		seconds := int64((resp.retryAfter + time.Second - 1) / time.Second)
		header.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	body := resp.pem
	if body != nil {
		contentType = "application/pem-certificate-chain"
	} else if resp.body != nil {
		if body, err = json.Marshal(resp.body); err != nil {
			s.cfg.Log.Error("answer cannot be encoded", "path", r.URL.Path, "error", err)
			resp.status, body = http.StatusInternalServerError, []byte(`{"type":"`+acme.ErrServerInternal+`"}`)
			contentType = "application/problem+json"
		}
	}
	if body != nil {
		header.Set("Content-Type", contentType)
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	if resp.status == 0 {
		resp.status = http.StatusOK
	}
	w.WriteHeader(resp.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // a client that is gone is no error of ours
	}
}
