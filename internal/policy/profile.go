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
	if p.ArchivedAt != nil {
		at := *p.ArchivedAt
		p.ArchivedAt = &at
	}
	return p
}
