package main

import (
	"context"
	"io"
	"strconv"
	"strings"

	"github.com/certctl/certctl/internal/admin"
	"github.com/certctl/certctl/internal/pki"
	"github.com/certctl/certctl/internal/policy"
)

type profileCmd struct {
	Connection connection `embed:""`

	Create profileCreateCmd `cmd:"" help:"Create a profile."`
	List   profileListCmd   `cmd:"" help:"List the profiles."`
	Show   profileShowCmd   `cmd:"" help:"Show a profile."`
	Update profileUpdateCmd `cmd:"" help:"Change a profile."`
	Delete profileDeleteCmd `cmd:"" help:"Archive a profile for good."`
}

func (c *profileCmd) Help() string {
	return "A profile says who may have which names, for how long and from which issuer. " +
		"ACME clients use it by its directory, SERVER/acme/profile/ID/directory."
}

// profileFlags are the values of a profile; one that was not given is nil.
type profileFlags struct {
	Name           *string   `placeholder:"TEXT" help:"Name for people."`
	Issuer         *string   `placeholder:"ID" help:"Issuer that signs."`
	AuthMode       *authMode `placeholder:"MODE" help:"trust_authenticated: accounts may have any name that the profile allows. challenge: they prove control of it."`
	AllowDomain    []string  `sep:"none" placeholder:"RULE" help:"Allowed names: example.com (that name), *.example.com (one label below), .example.com (the name and everything below), * (any). Repeatable."`
	DenyDomain     []string  `sep:"none" placeholder:"RULE" help:"Names that are refused although they are allowed. Repeatable."`
	AllowIPRange   []string  `name:"allow-ip-range" sep:"none" placeholder:"CIDR" help:"Allowed addresses. Repeatable."`
	AllowWildcards *bool     `negatable:"" help:"Allow wildcard names."`
	AllowOpen      *bool     `negatable:"" help:"Allow every name to every account; this is meant."`
	MaxTTL         *life     `name:"max-ttl" placeholder:"24h" help:"Longest life of a certificate, such as 24h or 90d."`
	DefaultTTL     *life     `name:"default-ttl" placeholder:"24h" help:"Life of a certificate when the client asks for none; 0s: the longest."`
	ChallengeType  []string  `sep:"none" placeholder:"TYPE" help:"Challenges that are offered, such as http-01. Repeatable."`
	KeyType        []string  `sep:"none" placeholder:"TYPE" help:"Keys that certificates may have, such as ecdsa-p256. Repeatable."`
	ExtKeyUsage    []string  `sep:"none" placeholder:"USAGE" help:"server_auth, client_auth. Repeatable."`
	EABRequired    *bool     `name:"eab-required" negatable:"" help:"Only accounts bound to an external account key may order."`
	AuthzReuse     *life     `name:"authz-reuse" placeholder:"24h" help:"How long after its validation an authorization may serve further orders of its account; 0s: never."`
	SubdomainAuth  *bool     `name:"subdomain-auth" negatable:"" help:"An authorization by dns-01 may cover the names below its own (RFC 9444)."`
	NoRevocation   *life     `name:"no-revocation-below" placeholder:"24h" help:"Certificates that live shorter carry no CRL or OCSP pointers (RFC 9608), at most 7d; 0s: all do."`
	CAA            *string   `name:"caa" placeholder:"MODE" help:"CAA records: off (not asked), report (logged) or enforce."`
	LintSource     []string  `sep:"none" placeholder:"SOURCE" help:"More lints to pass before signing, beside those of the RFCs: rfc5891, community, cabf_br, apple, chrome, mozilla. Repeatable."`
	OfferProfile   []string  `name:"offer-profile" sep:"none" placeholder:"ID" help:"Another profile that an order under this directory may select. Repeatable."`
}

func (f *profileFlags) patch() policy.ProfilePatch {
	p := policy.ProfilePatch{
		Name:            f.Name,
		IssuerID:        f.Issuer,
		AllowedDomains:  list(f.AllowDomain),
		DeniedDomains:   list(f.DenyDomain),
		AllowedIPRanges: list(f.AllowIPRange),
		AllowWildcards:  f.AllowWildcards,
		AllowOpen:       f.AllowOpen,
		ChallengeTypes:  list(f.ChallengeType),
		ExtKeyUsages:    list(f.ExtKeyUsage),
		EABRequired:     f.EABRequired,
	}
	p.AuthMode = (*policy.AuthMode)(f.AuthMode)
	p.AuthzReuseSeconds = (*int64)(f.AuthzReuse)
	p.SubdomainAuth = f.SubdomainAuth
	p.NoRevocationBelowSeconds = (*int64)(f.NoRevocation)
	p.CAA = (*policy.CAAMode)(f.CAA)
	p.OfferedProfiles = list(f.OfferProfile)
	p.MaxTTLSeconds = (*int64)(f.MaxTTL)
	p.DefaultTTLSeconds = (*int64)(f.DefaultTTL)
	if f.LintSource != nil {
		sources := []pki.LintSource{}
		for _, source := range *list(f.LintSource) {
			sources = append(sources, pki.LintSource(source))
		}
		p.LintSources = &sources
	}
	if f.KeyType != nil {
		types := []pki.KeyType{}
		for _, t := range *list(f.KeyType) {
			types = append(types, pki.KeyType(t))
		}
		p.KeyTypes = &types
	}
	return p
}

type profileCreateCmd struct {
	ID string `arg:"" help:"Id of the new profile: lower-case letters, digits and hyphens."`
	profileFlags
}

func (c *profileCreateCmd) Help() string {
	return "What is left out has the server's defaults. Examples:\n\n" +
		"    certctl profile create web --auth-mode challenge --allow-domain .example.com --max-ttl 30d\n\n" +
		"    certctl profile create mesh --allow-domain .svc.internal --ext-key-usage server_auth --ext-key-usage client_auth"
}

// Run creates the profile and tells where its directory is.
func (c *profileCreateCmd) Run(ctx context.Context, s *session) error {
	p, err := s.client.CreateProfile(ctx, admin.NewProfile{ID: c.ID, ProfilePatch: c.patch()})
	if err != nil {
		return err
	}
	s.warn(p)
	return s.print(p, func(io.Writer) error {
		return s.done("created profile %s, directory %s", p.ID, s.directory(p.ID))
	})
}

func (s *session) warn(p *admin.Profile) {
	for _, warning := range p.Warnings {
		s.note("warning: profile %s: %s", p.ID, warning)
	}
}

func (s *session) directory(profileID string) string {
	return strings.TrimRight(s.server, "/") + "/acme/profile/" + profileID + "/directory"
}

type profileListCmd struct {
	Archived bool `help:"List the archived profiles too."`
}

// Run lists the profiles.
func (c *profileListCmd) Run(ctx context.Context, s *session) error {
	profiles, err := s.client.Profiles(ctx, c.Archived)
	if err != nil {
		return err
	}
	return s.print(profiles, func(w io.Writer) error {
		t := newTable("ID", "MODE", "ISSUER", "MAX LIFE", "EAB", "CHANGED", "ALLOWS")
		for _, p := range profiles.Items {
			allows := few(append(append([]string{}, p.AllowedDomains...), p.AllowedIPRanges...))
			if p.ArchivedAt != nil {
				allows = "archived " + relative(*p.ArchivedAt, s.now)
			}
			t.row(p.ID, string(p.AuthMode), p.IssuerID, lifeText(p.MaxTTLSeconds), yesNo(p.EABRequired), relative(p.UpdatedAt, s.now), allows)
		}
		return t.write(w)
	})
}

type profileShowCmd struct {
	ID string `arg:"" help:"Id of the profile."`
}

// Run shows the profile.
func (c *profileShowCmd) Run(ctx context.Context, s *session) error {
	p, err := s.client.Profile(ctx, c.ID)
	if err != nil {
		return err
	}
	return s.print(p, func(w io.Writer) error { return s.profileText(p).write(w) })
}

func (s *session) profileText(p *admin.Profile) *table {
	keyTypes := make([]string, len(p.KeyTypes))
	for i, t := range p.KeyTypes {
		keyTypes[i] = string(t)
	}
	defaultLife := p.DefaultTTLSeconds
	if defaultLife == 0 {
		defaultLife = p.MaxTTLSeconds
	}
	t := new(table)
	t.field("Profile", p.ID)
	t.field("Name", p.Name)
	t.field("Directory", s.directory(p.ID))
	t.field("Issuer", p.IssuerID)
	t.field("Mode", string(p.AuthMode))
	t.field("Max life", lifeText(p.MaxTTLSeconds))
	t.field("Default life", lifeText(defaultLife))
	t.row("Allowed domains", strings.Join(p.AllowedDomains, ", "))
	t.field("Denied domains", strings.Join(p.DeniedDomains, ", "))
	t.field("Allowed addresses", strings.Join(p.AllowedIPRanges, ", "))
	t.field("Wildcards", yesNo(p.AllowWildcards))
	if p.AllowOpen {
		t.field("Open", "yes")
	}
	t.field("Challenges", strings.Join(p.ChallengeTypes, ", "))
	t.field("Key types", strings.Join(keyTypes, ", "))
	t.field("Usages", strings.Join(p.ExtKeyUsages, ", "))
	t.field("EAB required", yesNo(p.EABRequired))
	t.field("Authorizations", reuseText(p))
	if p.NoRevocationBelowSeconds > 0 {
		t.field("No revocation", "below "+lifeText(p.NoRevocationBelowSeconds))
	}
	t.field("CAA", string(p.CAA))
	t.field("Offers", strings.Join(p.OfferedProfiles, ", "))
	t.field("Revision", strconv.FormatInt(p.Revision, 10))
	t.field("Created", moment(&p.CreatedAt, s.now))
	t.field("Changed", moment(&p.UpdatedAt, s.now))
	t.field("Archived", moment(p.ArchivedAt, s.now))
	for _, warning := range p.Warnings {
		t.field("Warning", warning)
	}
	return t
}

// reuseText says what an authorization is good for, "" when for its order alone.
func reuseText(p *admin.Profile) string {
	var text []string
	if p.AuthzReuseSeconds > 0 {
		text = append(text, "used again for "+lifeText(p.AuthzReuseSeconds))
	}
	if p.SubdomainAuth {
		text = append(text, "may cover subdomains")
	}
	return strings.Join(text, ", ")
}

type profileUpdateCmd struct {
	ID string `arg:"" help:"Id of the profile."`
	profileFlags
}

func (c *profileUpdateCmd) Help() string {
	return "What is left out stays as it is. A list is replaced; \"\" empties it. Examples:\n\n" +
		"    certctl profile update web --max-ttl 7d --no-allow-wildcards\n\n" +
		"    certctl profile update web --deny-domain \"\""
}

// Run changes the profile and shows it.
func (c *profileUpdateCmd) Run(ctx context.Context, s *session) error {
	p, err := s.client.UpdateProfile(ctx, c.ID, c.patch())
	if err != nil {
		return err
	}
	s.warn(p)
	return s.print(p, func(io.Writer) error { return s.done("profile %s has revision %d", p.ID, p.Revision) })
}

type profileDeleteCmd struct {
	ID string `arg:"" help:"Id of the profile."`
}

func (c *profileDeleteCmd) Help() string {
	return "Nothing more is ordered under it. What it issued stays known, and its id is not given again."
}

// Run archives the profile.
func (c *profileDeleteCmd) Run(ctx context.Context, s *session) error {
	if err := s.client.ArchiveProfile(ctx, c.ID); err != nil {
		return err
	}
	return s.done("archived profile %s", c.ID)
}
