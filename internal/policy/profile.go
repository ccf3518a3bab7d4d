package policy

import (
	"slices"
	"time"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/pki"
)

// AuthMode says how an account proves that it may have a name.
type AuthMode string

const (
	// TrustAuthenticated gives an authenticated account any name that the profile and its EAB keys allow.
	// Authorizations are born valid and no challenge is run.
	TrustAuthenticated AuthMode = "trust_authenticated"
	// Challenge validates every name with one of the profile's challenge types.
	Challenge AuthMode = "challenge"
)

// offeredChallenges holds the challenge types that a profile may offer, in the order in which clients see them.
// Only what is really validated belongs here.
var offeredChallenges = []string{string(acme.HTTP01), string(acme.DNS01), string(acme.TLSALPN01)}

// OfferedChallenges returns the challenge types that a profile may offer; a new profile offers all of them.
func OfferedChallenges() []string { return slices.Clone(offeredChallenges) }

// Bounds of MaxTTLSeconds and DefaultTTLSeconds.
const (
	MinTTL = time.Minute
	MaxTTL = 10 * 365 * 24 * time.Hour
)

// Profile says who may have which names, for how long and from which issuer.
// Its JSON is both what the API speaks and what the store keeps.
//
// A Profile that came from outside is first brought into its canonical form by Normalize and then judged by
// Validate. Compile turns it into the Rules that requests are decided by.
type Profile struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	IssuerID string `json:"issuer_id"`
	Revision int64  `json:"revision"` // counts changes; written by the store

	AuthMode          AuthMode `json:"acme_auth_mode"`
	MaxTTLSeconds     int64    `json:"max_ttl_seconds"`
	DefaultTTLSeconds int64    `json:"default_ttl_seconds"` // 0: MaxTTLSeconds

	AllowedDomains  []string `json:"allowed_domains"`   // domain rules, see NameRules
	DeniedDomains   []string `json:"denied_domains"`    // domain rules that win over AllowedDomains
	AllowedIPRanges []string `json:"allowed_ip_ranges"` // CIDR ranges; none: no addresses
	AllowWildcards  bool     `json:"allow_wildcards"`
	AllowOpen       bool     `json:"allow_open"` // every name to every account is meant, not an accident

	ChallengeTypes []string      `json:"challenge_types"` // in the order of OfferedChallenges
	KeyTypes       []pki.KeyType `json:"key_types"`
	ExtKeyUsages   []string      `json:"ext_key_usages"`
	EABRequired    bool          `json:"eab_required"`

	// LintSources lists what certificates are held against before they are signed. Those of pki.DefaultLintSources
	// cannot be left out.
	LintSources []pki.LintSource `json:"lint_sources"`

	AuthorizationRules
	IssuanceRules
	ProfileTimes
}

// AuthorizationRules says what an authorization is good for beyond the order that it was made for.
type AuthorizationRules struct {
	// AuthzReuseSeconds is how long after its validation an authorization may serve further orders of its account
	// under this profile; 0: never.
	AuthzReuseSeconds int64 `json:"authz_reuse_seconds"`
	// SubdomainAuth lets an authorization that dns-01 validated cover the names below its own, for clients that ask for
	// that (RFC 9444).
	SubdomainAuth bool `json:"subdomain_auth"`
	// CAA says whether the names' CAA records are asked and obeyed.
	CAA CAAMode `json:"caa"`
	// OfferedProfiles lists other profiles that an order under this profile's directory may select
	// (draft-ietf-acme-profiles). What may be issued is decided by the profile selected.
	OfferedProfiles []string `json:"offered_profiles"`
}

// CAAMode says what becomes of CAA records (RFC 8659).
type CAAMode string

// The modes.
const (
	CAAOff     CAAMode = "off"     // nobody is asked: the default, and right where there is no public DNS
	CAAReport  CAAMode = "report"  // what would forbid issuance is logged
	CAAEnforce CAAMode = "enforce" // issuance is refused where the records, or their lookup, forbid it
)

// ProfileTimes says when a profile was made, changed and archived. The store writes it.
type ProfileTimes struct {
	CreatedAt  time.Time  `json:"created_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
	ArchivedAt *time.Time `json:"archived_at,omitempty"`
}

// ProfilePatch is a partial update: a nil field leaves the profile's value as it is, a pointer to an empty list
// empties the list (which Normalize then fills with the default where the field has one).
type ProfilePatch struct {
	Name     *string `json:"name,omitempty"`
	IssuerID *string `json:"issuer_id,omitempty"`

	AuthMode          *AuthMode `json:"acme_auth_mode,omitempty"`
	MaxTTLSeconds     *int64    `json:"max_ttl_seconds,omitempty"`
	DefaultTTLSeconds *int64    `json:"default_ttl_seconds,omitempty"`

	AllowedDomains  *[]string `json:"allowed_domains,omitempty"`
	DeniedDomains   *[]string `json:"denied_domains,omitempty"`
	AllowedIPRanges *[]string `json:"allowed_ip_ranges,omitempty"`
	AllowWildcards  *bool     `json:"allow_wildcards,omitempty"`
	AllowOpen       *bool     `json:"allow_open,omitempty"`

	ChallengeTypes *[]string      `json:"challenge_types,omitempty"`
	KeyTypes       *[]pki.KeyType `json:"key_types,omitempty"`
	ExtKeyUsages   *[]string      `json:"ext_key_usages,omitempty"`
	EABRequired    *bool          `json:"eab_required,omitempty"`

	LintSources *[]pki.LintSource `json:"lint_sources,omitempty"`

	AuthzReuseSeconds *int64    `json:"authz_reuse_seconds,omitempty"`
	SubdomainAuth     *bool     `json:"subdomain_auth,omitempty"`
	CAA               *CAAMode  `json:"caa,omitempty"`
	OfferedProfiles   *[]string `json:"offered_profiles,omitempty"`

	NoRevocationBelowSeconds *int64 `json:"no_revocation_below_seconds,omitempty"`
}

// Apply returns the profile with the patch's values. The result shares no list with p or with the patch and is
// neither normalized nor validated.
func (p Profile) Apply(patch ProfilePatch) Profile {
	set(&p.Name, patch.Name)
	set(&p.IssuerID, patch.IssuerID)

	set(&p.AuthMode, patch.AuthMode)
	set(&p.MaxTTLSeconds, patch.MaxTTLSeconds)
	set(&p.DefaultTTLSeconds, patch.DefaultTTLSeconds)

	set(&p.AllowedDomains, patch.AllowedDomains)
	set(&p.DeniedDomains, patch.DeniedDomains)
	set(&p.AllowedIPRanges, patch.AllowedIPRanges)
	set(&p.AllowWildcards, patch.AllowWildcards)
	set(&p.AllowOpen, patch.AllowOpen)

	set(&p.ChallengeTypes, patch.ChallengeTypes)
	set(&p.KeyTypes, patch.KeyTypes)
	set(&p.ExtKeyUsages, patch.ExtKeyUsages)
	set(&p.EABRequired, patch.EABRequired)

	set(&p.LintSources, patch.LintSources)

	set(&p.AuthzReuseSeconds, patch.AuthzReuseSeconds)
	set(&p.SubdomainAuth, patch.SubdomainAuth)
	set(&p.CAA, patch.CAA)
	set(&p.OfferedProfiles, patch.OfferedProfiles)

	set(&p.NoRevocationBelowSeconds, patch.NoRevocationBelowSeconds)
	return p.clone()
}

func set[T any](field, value *T) {
	if value != nil {
		*field = *value
	}
}

// clone returns a copy that shares no list and no time with p.
func (p Profile) clone() Profile {
	p.AllowedDomains = slices.Clone(p.AllowedDomains)
	p.DeniedDomains = slices.Clone(p.DeniedDomains)
	p.AllowedIPRanges = slices.Clone(p.AllowedIPRanges)
	p.ChallengeTypes = slices.Clone(p.ChallengeTypes)
	p.KeyTypes = slices.Clone(p.KeyTypes)
	p.ExtKeyUsages = slices.Clone(p.ExtKeyUsages)
	p.LintSources = slices.Clone(p.LintSources)
	p.OfferedProfiles = slices.Clone(p.OfferedProfiles)
	if p.ArchivedAt != nil {
		at := *p.ArchivedAt
		p.ArchivedAt = &at
	}
	return p
}
