// Package app makes the parts of certctl into one server: it fills the
// configuration, makes what a first start needs, wires the packages below,
// listens, and lets everything end in order.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/acmeserver"
	"github.com/certctl/certctl/internal/admin"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/responder"
	"github.com/certctl/certctl/internal/store"
	"github.com/certctl/certctl/internal/validate"
)

// drainTime is how long requests under way may take to end at shutdown.
const drainTime = 15 * time.Second

// server is one running certctl.
type server struct {
	cfg       Config
	log       *slog.Logger
	store     *store.Store
	issuers   map[string]*issuer.Local
	cert      *lifecycle.ServerCert
	ocsp      *lifecycle.OCSPSigner
	lifecycle *lifecycle.Lifecycle
	listeners listeners
	newKey    string // the API key that this start generated, to be shown once
	rootsFile string
}

// Run serves until the context ends and returns when everything that was
// acknowledged is safe. The banner goes to out, the log to errOut. Errors at the
// start are one line for the operator.
func Run(ctx context.Context, cfg Config, out, errOut io.Writer) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	s := &server{cfg: cfg, log: newLogger(cfg, errOut)}
	if err := s.start(ctx); err != nil {
		return errors.Join(err, s.close())
	}
	if err := s.banner(ctx, out); err != nil {
		return errors.Join(err, s.close())
	}
	return errors.Join(s.serve(ctx), s.close())
}

func newLogger(cfg Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// start opens and makes everything that can fail, before anybody is answered.
func (s *server) start(ctx context.Context) error {
	if err := s.openStore(ctx); err != nil {
		return err
	}
	if err := s.openCA(ctx); err != nil {
		return err
	}
	if err := s.firstProfile(ctx); err != nil {
		return err
	}
	names, ips := serverNames(s.cfg)
	var err error
	if s.cert, err = lifecycle.NewServerCert(ctx, s.store, s.issuers[localIssuer], names, ips); err != nil {
		return err
	}
	if err := s.listeners.open(s.cfg); err != nil {
		return err
	}
	s.rootsFile = filepath.Join(s.cfg.DataDir, "roots.pem")
	if err := writeFile(s.rootsFile, s.roots()); err != nil {
		return err
	}
	if err := s.wire(); err != nil {
		return err
	}
	// Last, since it is shown only once: a start that fails must not use it up.
	return s.firstAPIKey(ctx)
}

func (s *server) openStore(ctx context.Context) error {
	if err := os.MkdirAll(s.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	keyFile := s.cfg.secretKeyFile()
	// A key is made for a new database only: an old one cannot be opened with it.
	_, err := os.Stat(filepath.Join(s.cfg.DataDir, "certctl.db"))
	key, err := store.LoadSecretKey(keyFile, errors.Is(err, os.ErrNotExist))
	if err != nil {
		return err
	}
	a := s.cfg.ACMEServer
	perHour := func(n int) policy.Limit { return policy.Limit{Burst: n, Period: time.Hour} }
	s.store, err = store.Open(ctx, store.Config{
		Dir:         s.cfg.DataDir,
		SecretKey:   key,
		AcceptClock: s.cfg.AcceptClock,
		NonceTTL:    a.NonceTTL,
		EABRequired: a.EABRequired,
		Limits: store.Limits{
			Orders:         perHour(a.RateLimit.OrdersPerHour),
			OpenOrders:     a.RateLimit.ConcurrentOrders,
			Responds:       perHour(a.RateLimit.ChallengeRespondsPerHour),
			NewAccounts:    perHour(a.RateLimit.NewAccountsPerHour),
			AccountChanges: perHour(a.RateLimit.AccountChangesPerHour),
			KeyChanges:     perHour(a.RateLimit.KeyChangePerHour),
		},
	})
	if errors.Is(err, store.ErrClock) {
		return fmt.Errorf("%w; set the clock, or, if it is right now, start once with CERTCTL_ACCEPT_CLOCK=true", err)
	}
	if errors.Is(err, store.ErrSecretKey) {
		return fmt.Errorf("%s: %w", keyFile, err)
	}
	return err
}

// secretKeyFile is where the key is that seals all secrets.
func (c *Config) secretKeyFile() string {
	if c.SecretKeyFile != "" {
		return c.SecretKeyFile
	}
	return filepath.Join(c.DataDir, "secret.key")
}

// wire connects the packages below to the listeners.
func (s *server) wire() error {
	a := s.cfg.ACMEServer
	prober, err := validate.New(validate.Config{
		Resolvers:     a.Challenge.DNS01Resolvers,
		HTTP01Port:    a.Challenge.HTTP01Port,
		TLSALPN01Port: a.Challenge.TLSALPN01Port,
		Allow:         a.Validation.AllowCIDRs,
		Deny:          a.Validation.DenyCIDRs,
		Self:          s.listeners.addresses,
	})
	if err != nil {
		return err
	}
	s.lifecycle, err = lifecycle.New(lifecycle.Config{
		Store:   s.store,
		Issuers: s.issuers,
		Probe:   probe(prober),
		CAA:     lifecycle.CAA{Check: prober.CAA, Identities: a.CAAIdentities, AccountURLs: s.accountURLs},
		Slots: map[acme.ChallengeType]int{
			acme.HTTP01:    a.Challenge.HTTP01Concurrency,
			acme.DNS01:     a.Challenge.DNS01Concurrency,
			acme.TLSALPN01: a.Challenge.TLSALPN01Concurrency,
		},
		AuthzTTL:      a.AuthzTTL,
		SweepInterval: a.GCInterval,
		Log:           s.log,
	})
	if err != nil {
		return err
	}
	blocked, err := blockedKeys(s.cfg.BlockedKeysFile)
	if err != nil {
		return err
	}
	surface, err := acmeserver.New(acmeserver.Config{
		Blocked: blocked,
		Store:   s.store, Lifecycle: s.lifecycle, Issuers: s.issuers,
		ExternalURLs: s.cfg.ExternalURLs, DefaultProfile: a.DefaultProfileID,
		TermsURL: a.TOSURL, Website: a.Website, CAAIdentities: a.CAAIdentities, EABRequired: a.EABRequired,
		OrderTTL: a.OrderTTL, AuthzTTL: a.AuthzTTL, ARIPollInterval: ariPoll(a), Log: s.log,
	})
	if err != nil {
		return err
	}
	api, err := admin.New(admin.Config{
		Store:       s.store,
		Constraints: s.constraints,
		Issuers:     s.issuers,
		Defaults: func() policy.Profile {
			return policy.Profile{IssuerID: localIssuer, AuthMode: a.DefaultAuthMode, MaxTTLSeconds: defaultMaxTTL}
		},
		Revoked: func(string) { s.lifecycle.Revoked() },
		Log:     s.log,
	})
	if err != nil {
		return err
	}
	files, err := responder.New(responder.Config{
		Store: s.store, Issuers: s.issuers, OCSP: map[string]*lifecycle.OCSPSigner{localIssuer: s.ocsp}, Log: s.log,
	})
	if err != nil {
		return err
	}
	s.route(surface, api, files)
	return nil
}

// ariPoll is 0 when renewal information is off.
func ariPoll(a ACMEServerConfig) time.Duration {
	if !a.ARI.Enabled {
		return 0
	}
	return a.ARI.PollInterval
}

// route says what is served where.
func (s *server) route(surface, api, files http.Handler) {
	private := http.NewServeMux()
	if s.cfg.ACMEServer.Enabled {
		private.Handle("/acme/", surface)
	}
	private.Handle("/api/v1/", api)
	private.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	private.HandleFunc("GET /readyz", s.ready)
	private.HandleFunc("GET /roots.pem", s.serveRoots)
	s.listeners.private.handler = private

	public := http.NewServeMux()
	public.HandleFunc("GET /roots.pem", s.serveRoots)
	s.listeners.public.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if responder.Serves(r.URL.Path) {
			files.ServeHTTP(w, r)
			return
		}
		public.ServeHTTP(w, r)
	})
}

// probe picks the probe of a challenge type.
func probe(p *validate.Prober) func(context.Context, acme.ChallengeType, validate.Target) validate.Outcome {
	probes := map[acme.ChallengeType]func(context.Context, validate.Target) validate.Outcome{
		acme.HTTP01:    p.HTTP01,
		acme.DNS01:     p.DNS01,
		acme.TLSALPN01: p.TLSALPN01,
	}
	return func(ctx context.Context, t acme.ChallengeType, target validate.Target) validate.Outcome {
		run, ok := probes[t]
		if !ok {
			return validate.Outcome{Problem: acme.ServerInternal("the challenge type %s is not known", t)}
		}
		return run(ctx, target)
	}
}

// blockedKeys reads the file of keys that are refused.
func blockedKeys(name string) (*pki.Blocklist, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("CERTCTL_BLOCKED_KEYS_FILE: %w", err)
	}
	defer f.Close()
	list, err := pki.ParseBlocklist(f)
	if err != nil {
		return nil, fmt.Errorf("CERTCTL_BLOCKED_KEYS_FILE: %s: %w", name, err)
	}
	return list, nil
}

// accountURLs returns every URL that names an account.
func (s *server) accountURLs(id string) []string {
	urls := make([]string, len(s.cfg.ExternalURLs))
	for i, origin := range s.cfg.ExternalURLs {
		urls[i] = strings.ToLower(origin) + "/acme/account/" + id // as the ACME surface writes it
	}
	return urls
}

// ready answers 200 when requests can be served: the database answers and the
// signer is not at its end.
func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	_, err := s.store.Issuers(r.Context())
	if err == nil && !s.issuers[localIssuer].NotAfter().After(s.store.Now()) {
		err = errors.New("the CA certificate has expired")
	}
	if err != nil {
		s.log.Error("not ready", "error", err)
		http.Error(w, "not ready: see the log", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *server) serveRoots(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/x-pem-file")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(s.roots()) // a client that is gone is no error of ours
}

// serve runs every actor until the context ends or one fails, then lets the
// requests under way end, then the work off the request path.
func (s *server) serve(ctx context.Context) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	var background sync.WaitGroup
	background.Go(func() { _ = s.lifecycle.Run(work) })
	background.Go(func() {
		_ = s.cert.Run(work, func(err error) { s.log.Error("server certificate was not renewed", "error", err) })
	})
	background.Go(func() {
		_ = s.ocsp.Run(work, func(err error) { s.log.Error("OCSP responder's certificate was not renewed", "error", err) })
	})
	failed := s.listeners.serve(s.cert.Get, s.log)
	var err error
	select {
	case <-ctx.Done():
		s.log.Info("shutting down: requests under way may end", "seconds", int(drainTime.Seconds()))
	case err = <-failed:
	}
	drain, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	err = errors.Join(err, s.listeners.shutdown(drain))
	stopWork()
	background.Wait()
	return err
}

func (s *server) close() error {
	s.listeners.close()
	if s.store == nil {
		return nil
	}
	return s.store.Close()
}

// writeFile replaces a public file as a whole.
func writeFile(name string, content []byte) error {
	temporary := name + ".new"
	if err := os.WriteFile(temporary, content, 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, name)
}
