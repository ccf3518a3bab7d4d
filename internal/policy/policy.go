// Package policy decides who may have what: which names and addresses under which profile, with which key, for how
// long, and how often. It is pure: it keeps nothing, asks nobody and is told the time.
//
// A Profile is what an administrator writes. Compile turns it into Rules once, so that a request only looks things
// up; Authorize answers for all names of an order at once. Refusals are *acme.Problem, made for the client to read.
package policy

import (
	"errors"
	"fmt"

	"github.com/certctl/certctl/internal/acme"
)

// Rules is a compiled profile. It is immutable and safe for concurrent use.
type Rules struct {
	profile Profile
	names   *NameRules
	// keysMustName is set where trust would otherwise reach every name: an EAB key counts only for the names that it
	// lists itself.
	keysMustName bool
}

// Compile prepares a profile for requests. It refuses one that would issue to everybody by accident, even if it was
// stored.
//
// A server that requires EAB whatever the profile says sets EABRequired in the profile that it compiles.
func Compile(p Profile) (*Rules, error) {
	names, err := p.compileNames()
	if err == nil {
		err = errors.Join(p.checkMode(), p.checkTTL(), p.checkReach())
	}
	if err != nil {
		return nil, fmt.Errorf("profile %s: %w", p.ID, err)
	}
	delegates := p.namesNothing()
	return &Rules{
		profile:      p.clone(),
		names:        names,
		keysMustName: p.AuthMode == TrustAuthenticated && p.EABRequired && (delegates || p.openToNames() && !p.AllowOpen),
	}, nil
}

// compileNames compiles the profile's name rules. A profile that trusts its accounts, requires EAB and names nothing
// itself leaves it to the keys to name the domains.
func (p *Profile) compileNames() (*NameRules, error) {
	allowed := p.AllowedDomains
	if p.namesNothing() && p.AuthMode == TrustAuthenticated && p.EABRequired {
		allowed = []string{everyNameRule}
	}
	return CompileNames(allowed, p.DeniedDomains, p.AllowedIPRanges, p.AllowWildcards)
}

// Profile returns the profile that was compiled. It must not be changed.
func (r *Rules) Profile() *Profile { return &r.profile }

// EABGrant is an external account key bound to an account (RFC 8555, Section 7.3.4), as far as it says what the
// account may have. The zero value gives nothing.
type EABGrant struct {
	KeyID string
	Live  bool // neither disabled nor expired; decided by the caller, who knows the time

	profileIDs map[string]struct{}
	names      *NameRules // nil: all names of the profile
}

// NewEABGrant compiles what a key gives: names under the profiles listed, and under no other. Without domain rules
// of its own it gives what the profile gives, except where the profile leaves the naming to the keys.
func NewEABGrant(keyID string, live bool, profileIDs, allowedDomains []string) (EABGrant, error) {
	g := EABGrant{KeyID: keyID, Live: live, profileIDs: make(map[string]struct{}, len(profileIDs))}
	for _, id := range profileIDs {
		g.profileIDs[id] = struct{}{}
	}
	if len(allowedDomains) > 0 {
		// Whether wildcards are allowed is the profile's decision.
		names, err := CompileNames(allowedDomains, nil, nil, true)
		if err != nil {
			return EABGrant{}, fmt.Errorf("EAB key %s: %w", keyID, err)
		}
		g.names = names
	}
	return g, nil
}

// counts reports whether the key says anything under the profile.
func (g *EABGrant) counts(profileID string) bool {
	_, ok := g.profileIDs[profileID]
	return ok && g.Live
}

// gives reports whether the key adds its consent for an identifier that the profile allows.
func (g *EABGrant) gives(r *Rules, id acme.Identifier) bool {
	if g.names == nil {
		return !r.keysMustName || id.Type != acme.DNS
	}
	ok, _ := g.names.Allows(id)
	return ok
}

// Authorize reports whether an account that is bound to the keys may have all the identifiers under the profile.
// The error is an *acme.Problem whose subproblems name every identifier refused (RFC 8555, Section 6.7.1).
//
// The keys matter only when the profile requires EAB. Then the profile must allow an identifier, and so must one live
// key that is for this profile: the names of one key never count with the profiles of another.
func Authorize(r *Rules, ids []acme.Identifier, keys []EABGrant) error {
	if len(ids) == 0 {
		return acme.Malformed("no identifiers")
	}
	if r.profile.EABRequired && !anyCounts(keys, r.profile.ID) {
		return acme.Unauthorized("profile %q requires external account binding, and this account is bound to no live EAB key "+
			"for it; send newAccount again with an externalAccountBinding made with such a key", r.profile.ID)
	}
	var problems []*acme.Problem
	for _, id := range ids {
		reason, refused := r.refuses(id, keys)
		if !refused {
			continue
		}
		problem := acme.RejectedIdentifier("profile %q does not allow %s: %s", r.profile.ID, id.Value, reason)
		problems = append(problems, problem.For(id))
	}
	if len(problems) > 0 {
		return acme.Compound(problems)
	}
	return nil
}

func anyCounts(keys []EABGrant, profileID string) bool {
	for i := range keys {
		if keys[i].counts(profileID) {
			return true
		}
	}
	return false
}

func (r *Rules) refuses(id acme.Identifier, keys []EABGrant) (reason string, refused bool) {
	if ok, reason := r.names.Allows(id); !ok {
		return reason, true
	}
	if !r.profile.EABRequired {
		return "", false
	}
	for i := range keys {
		if keys[i].counts(r.profile.ID) && keys[i].gives(r, id) {
			return "", false
		}
	}
	if r.keysMustName {
		return "no live EAB key of this account lists it, and this profile leaves it to the keys to list their domains", true
	}
	return "no live EAB key of this account allows it", true
}

// Names reports whether the profile itself allows an identifier, whatever keys an account has.
func (r *Rules) Names(id acme.Identifier) bool {
	ok, _ := r.names.Allows(id)
	return ok
}
