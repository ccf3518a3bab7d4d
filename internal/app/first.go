package app

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/certctl/certctl/internal/admin"
	"github.com/certctl/certctl/internal/audit"
	"github.com/certctl/certctl/internal/issuer"
	"github.com/certctl/certctl/internal/lifecycle"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
	"github.com/certctl/certctl/internal/responder"
	"github.com/certctl/certctl/internal/store"
)

const (
	// localIssuer is the issuer that a first start makes.
	localIssuer = "iss-local"
	// firstProfileID is the profile that a first start makes.
	firstProfileID = "default"
	// defaultMaxTTL is the longest life of certificates under a new profile that does
	// not say otherwise: 90 days, which most clients assume.
	defaultMaxTTL = 90 * 24 * 60 * 60
	// firstMaxTTL is that of the first profile.
	firstMaxTTL = 24 * 60 * 60

	rootKeySecret    = "ca-root-key:" + localIssuer
	issuingKeySecret = "ca-issuing-key:" + localIssuer
)

// harmless are names that nobody runs services on (RFC 6761). The first profile
// trusts every account with them and with nothing else.
var harmless = []string{"localhost", ".localhost", ".test"}

// openCA takes up the CA, or makes it at the first start.
func (s *server) openCA(ctx context.Context) error {
	record, err := s.store.Issuer(ctx, localIssuer)
	if errors.Is(err, store.ErrNotFound) {
		if err = s.createCA(ctx); err == nil {
			record, err = s.store.Issuer(ctx, localIssuer)
		}
	}
	if err != nil {
		return fmt.Errorf("issuer %s: %w", localIssuer, err)
	}
	chain, err := pki.ParseChainPEM([]byte(record.Chain))
	if err != nil || len(chain) != 2 {
		return fmt.Errorf("issuer %s: the stored chain is not an issuing certificate and a root: %w", localIssuer, err)
	}
	if err := s.checkPermitted(chain[0], chain[1]); err != nil {
		return err
	}
	der, err := s.store.Secret(ctx, issuingKeySecret)
	if err != nil {
		return err
	}
	key, err := pki.ParseKey(der)
	if err != nil {
		return fmt.Errorf("issuer %s: %w", localIssuer, err)
	}
	config := issuer.LocalConfig{ID: localIssuer, Issuing: chain[0], Root: chain[1], Key: key}
	config.LintWarnings = func(serial string, warnings []pki.LintFinding) {
		s.log.Warn("a certificate does not follow recommendations", "serial", serial, "lints", warnings)
	}
	if s.cfg.PublicURL != "" {
		public := strings.TrimSuffix(s.cfg.PublicURL, "/")
		config.CRLURL = public + responder.CRLPath(localIssuer)
		config.AIAURL = public + responder.AIAPath(localIssuer)
		config.OCSPURL = public + responder.OCSPPath(localIssuer)
		for shard := range record.CRLShards {
			config.ShardURLs = append(config.ShardURLs, public+responder.ShardPath(localIssuer, shard+1))
		}
	}
	local, err := issuer.NewLocal(config)
	if err != nil {
		return err
	}
	s.issuers = map[string]*issuer.Local{localIssuer: local}
	s.ocsp, err = lifecycle.NewOCSPSigner(ctx, s.store, local)
	return err
}

func (s *server) createCA(ctx context.Context) error {
	spec := pki.CASpec{Name: s.cfg.CAName, Now: s.store.Now()}
	spec.PermittedDomains, spec.PermittedIPs = permitted(s.cfg)
	ca, err := pki.CreateCA(spec, rand.Reader)
	if err != nil {
		return err
	}
	rootKey, err := pki.MarshalKey(ca.RootKey)
	if err != nil {
		return err
	}
	issuingKey, err := pki.MarshalKey(ca.IssuingKey)
	if err != nil {
		return err
	}
	record := store.Issuer{ID: localIssuer, Kind: "local", Name: s.cfg.CAName, CRLShards: pki.CRLShards,
		Chain: string(pki.EncodePEM(ca.Issuing, ca.Root))}
	err = s.store.CreateIssuer(ctx, audit.System("first-start"), record, map[string][]byte{rootKeySecret: rootKey, issuingKeySecret: issuingKey})
	if errors.Is(err, store.ErrExists) {
		return nil // another start was first
	}
	return err
}

// permitted returns the name constraints that the settings ask for: none, or the
// domains given and the server's own names, without which nobody could talk to it.
func permitted(cfg Config) (domains []string, ips []netip.Prefix) {
	if len(cfg.CAPermittedDomains) == 0 {
		return nil, nil
	}
	names, addrs := serverNames(cfg)
	for _, d := range append(slices.Clone(cfg.CAPermittedDomains), names...) {
		domains = append(domains, strings.ToLower(strings.TrimPrefix(d, ".")))
	}
	for _, addr := range addrs {
		ips = append(ips, netip.PrefixFrom(addr, addr.BitLen()))
	}
	slices.Sort(domains)
	return slices.Compact(domains), ips
}

// checkPermitted refuses to start under a setting that the CA does not keep: the
// constraints were written into its certificates when it was made.
func (s *server) checkPermitted(chain ...*x509.Certificate) error {
	if len(s.cfg.CAPermittedDomains) == 0 {
		return nil
	}
	constraints := pki.NameConstraintsOf(chain...)
	var has []string
	if constraints != nil {
		has, _ = constraints.Permitted()
	}
	want, _ := permitted(s.cfg)
	for _, d := range s.cfg.CAPermittedDomains {
		if d = strings.ToLower(strings.TrimPrefix(d, ".")); !slices.Contains(has, d) {
			return fmt.Errorf("CERTCTL_CA_PERMITTED_DOMAINS names %s, but the CA in %s was made without it; name what it was made with, or start in a new data folder",
				d, s.cfg.DataDir)
		}
	}
	for _, d := range has {
		if !slices.Contains(want, d) {
			return fmt.Errorf("the CA in %s was made with the permitted domain %s, which CERTCTL_CA_PERMITTED_DOMAINS and the server's own names lack", s.cfg.DataDir, d)
		}
	}
	return nil
}

// constraints returns what the CA of an issuer may sign.
func (s *server) constraints(issuerID string) (policy.Constraints, bool) {
	local, ok := s.issuers[issuerID]
	if !ok {
		return policy.Constraints{}, false
	}
	var c policy.Constraints
	c.PermittedDomains, c.PermittedIPs = local.Permitted()
	return c, true
}

// serverNames returns the names and addresses of the server's own certificate.
func serverNames(cfg Config) (names []string, ips []netip.Addr) {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	for _, text := range cfg.ExternalURLs {
		if u, err := url.Parse(text); err == nil {
			hosts = append(hosts, u.Hostname())
		}
	}
	for _, host := range append(hosts, cfg.TLSSANs...) {
		if addr, err := netip.ParseAddr(host); err == nil {
			if !slices.Contains(ips, addr) {
				ips = append(ips, addr)
			}
		} else if host = strings.ToLower(host); !slices.Contains(names, host) {
			names = append(names, host)
		}
	}
	return names, ips
}

// firstProfile makes the profile of a first start. It comes back neither after it
// was archived nor when another profile is there.
func (s *server) firstProfile(ctx context.Context) error {
	profiles, err := s.store.Profiles(ctx, true)
	if err != nil || len(profiles) > 0 {
		return err
	}
	constraints, _ := s.constraints(localIssuer)
	p := policy.Profile{
		ID: firstProfileID, Name: "For trying out: names that nobody runs services on", IssuerID: localIssuer,
		AuthMode: policy.TrustAuthenticated, MaxTTLSeconds: firstMaxTTL,
	}
	for _, name := range harmless {
		if constraints.CheckDomains([]string{name}) == nil {
			p.AllowedDomains = append(p.AllowedDomains, name)
		}
	}
	if err := p.Normalize(); err != nil {
		return err
	}
	if err := p.Validate(constraints); err != nil {
		return fmt.Errorf("profile %s: %w", p.ID, err)
	}
	_, err = s.store.CreateProfile(ctx, audit.System("first-start"), p)
	return err
}

// firstAPIKey makes the first admin key. A key that the environment gives is made
// known under a name of its own whenever it is new: who sets the environment of
// the server is its operator, and may have lost every other key.
func (s *server) firstAPIKey(ctx context.Context) error {
	keys, err := s.store.APIKeys(ctx)
	if err != nil {
		return err
	}
	key, name := s.cfg.APIKey, "admin"
	switch {
	case key == "" && len(keys) > 0:
		return nil
	case key == "":
		key = admin.NewKey()
		s.newKey = key
	case len(keys) > 0:
		name = environmentName(keys)
	}
	err = s.store.CreateAPIKey(ctx, audit.System("first-start"), name, key, store.RoleAdmin)
	if errors.Is(err, store.ErrExists) {
		return nil
	}
	return err
}

// environmentName returns the first name for a key of the environment that no key
// has. It tells nothing of the key.
func environmentName(keys []store.APIKey) string {
	for n := 1; ; n++ {
		name := fmt.Sprintf("environment-%d", n)
		if !slices.ContainsFunc(keys, func(k store.APIKey) bool { return k.Name == name }) {
			return name
		}
	}
}

// roots returns the roots that clients must trust to talk to this server and to
// its own certificates. The roots of added chains are not among them: who uses
// such a chain trusts its root already, and to hand out the root of another CA
// would be to vouch for all that it signs.
func (s *server) roots() []byte { return pki.EncodePEM(s.issuers[localIssuer].Root()) }
