package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/certctl/certctl/internal/acme"
	"github.com/certctl/certctl/internal/pki"
)

const (
	maxIDLength   = 63
	maxNameLength = 200
	maxEntries    = 10_000 // of each list
)

// extKeyUsages lists what a profile may put into its certificates, the default first.
var extKeyUsages = []string{string(pki.ServerAuth), string(pki.ClientAuth)}

// Constraints are the name constraints of a CA certificate (RFC 5280, Section 4.2.1.10). The zero value constrains
// nothing.
type Constraints struct {
	PermittedDomains []string       // each name with everything below it, with or without a leading dot; none: any
	PermittedIPs     []netip.Prefix // none: any, but no address at all once PermittedDomains is set
}

// Validate judges a profile under the constraints of its issuer's CA. The error names every field that is wrong and
// what to do about it, one per line.
func (p *Profile) Validate(c Constraints) error {
	errs := []error{p.checkNames(), p.checkMode(), p.checkTTL(), p.checkChoices(), p.checkLengths(), p.checkAuthorizations(), p.IssuanceRules.check()}
	if _, err := p.compileNames(); err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, p.checkReach(), c.check(p.AllowedDomains, p.AllowedIPRanges))
	}
	return errors.Join(errs...)
}

// ValidID reports whether id may name a profile: it is part of URLs.
func ValidID(id string) bool {
	if id == "" || len(id) > maxIDLength || id[0] == '-' {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

const idGrammar = "lower-case letters, digits and hyphens, no hyphen first, at most 63"

func (p *Profile) checkNames() error {
	var errs []error
	if !ValidID(p.ID) {
		errs = append(errs, fmt.Errorf("id: %q is not an id (%s)", p.ID, idGrammar))
	}
	if !ValidID(p.IssuerID) {
		errs = append(errs, fmt.Errorf("issuer_id: %q is not the id of an issuer", p.IssuerID))
	}
	if len(p.Name) > maxNameLength || !utf8.ValidString(p.Name) || strings.ContainsFunc(p.Name, unicode.IsControl) {
		errs = append(errs, fmt.Errorf("name: at most %d bytes of text on one line", maxNameLength))
	}
	return errors.Join(errs...)
}

func (p *Profile) checkMode() error {
	if p.AuthMode != TrustAuthenticated && p.AuthMode != Challenge {
		return fmt.Errorf("acme_auth_mode: %q is neither %q nor %q", p.AuthMode, TrustAuthenticated, Challenge)
	}
	return nil
}

func (p *Profile) checkTTL() error {
	const least, most = int64(MinTTL / time.Second), int64(MaxTTL / time.Second)
	if p.MaxTTLSeconds < least || p.MaxTTLSeconds > most {
		return fmt.Errorf("max_ttl_seconds: %d is not between %d (one minute) and %d (ten years)", p.MaxTTLSeconds, least, most)
	}
	if p.DefaultTTLSeconds != 0 && (p.DefaultTTLSeconds < least || p.DefaultTTLSeconds > p.MaxTTLSeconds) {
		return fmt.Errorf("default_ttl_seconds: %d is neither 0 (as max_ttl_seconds) nor between %d and max_ttl_seconds, %d",
			p.DefaultTTLSeconds, least, p.MaxTTLSeconds)
	}
	return nil
}

func (p *Profile) checkChoices() error {
	errs := []error{
		checkChoice("challenge_types", p.ChallengeTypes, offeredChallenges),
		checkChoice("key_types", p.KeyTypes, pki.AllKeyTypes),
		checkChoice("ext_key_usages", p.ExtKeyUsages, extKeyUsages),
		checkChoice("lint_sources", p.LintSources, pki.AllLintSources),
	}
	if p.AuthMode == Challenge && p.AllowWildcards && !slices.ContainsFunc(p.ChallengeTypes, provesWildcards) {
		errs = append(errs, fmt.Errorf("allow_wildcards: none of the challenge_types (%s) can prove control of a wildcard name",
			strings.Join(p.ChallengeTypes, ", ")))
	}
	return errors.Join(errs...)
}

// provesWildcards reports whether a challenge of that type can prove control of every name below one: a record in the
// zone does (RFC 8555, Section 8.4), an answer from one host does not.
func provesWildcards(challengeType string) bool {
	return acme.ChallengeType(challengeType).Proves(acme.Identifier{Type: acme.DNS, Value: "*.test"})
}

// maxAuthzReuse is the longest time that an authorization may serve further orders.
const maxAuthzReuse = 398 * 24 * time.Hour

func (p *Profile) checkAuthorizations() error {
	var errs []error
	if p.AuthzReuseSeconds < 0 || p.AuthzReuseSeconds > int64(maxAuthzReuse/time.Second) {
		errs = append(errs, fmt.Errorf("authz_reuse_seconds: %d is not between 0 (never) and %d (398 days)",
			p.AuthzReuseSeconds, int64(maxAuthzReuse/time.Second)))
	}
	if p.SubdomainAuth && !slices.Contains(p.ChallengeTypes, string(acme.DNS01)) {
		errs = append(errs, errors.New("subdomain_auth: only dns-01 proves control of the names below one, and it is not among the challenge_types"))
	}
	if p.CAA != CAAOff && p.CAA != CAAReport && p.CAA != CAAEnforce {
		errs = append(errs, fmt.Errorf("caa: %q is none of %q, %q and %q", p.CAA, CAAOff, CAAReport, CAAEnforce))
	}
	for _, id := range p.OfferedProfiles {
		if !ValidID(id) || id == p.ID {
			errs = append(errs, fmt.Errorf("offered_profiles: %q is not the id of another profile", id))
		}
	}
	return errors.Join(errs...)
}

func checkChoice[T ~string](field string, chosen, known []T) error {
	if len(chosen) == 0 {
		return fmt.Errorf("%s: at least one of %s", field, listed(known))
	}
	var errs []error
	for i, v := range chosen {
		switch {
		case !slices.Contains(known, v):
			errs = append(errs, fmt.Errorf("%s: %q is none of %s", field, v, listed(known)))
		case slices.Contains(chosen[:i], v):
			errs = append(errs, fmt.Errorf("%s: %q is there twice", field, v))
		}
	}
	return errors.Join(errs...)
}

func listed[T ~string](values []T) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = fmt.Sprintf("%q", v)
	}
	return strings.Join(quoted, ", ")
}

func (p *Profile) checkLengths() error {
	var errs []error
	check := func(field string, list []string) {
		if len(list) > maxEntries {
			errs = append(errs, fmt.Errorf("%s: %d entries are more than %d", field, len(list), maxEntries))
		}
	}
	check("allowed_domains", p.AllowedDomains)
	check("denied_domains", p.DeniedDomains)
	check("allowed_ip_ranges", p.AllowedIPRanges)
	check("offered_profiles", p.OfferedProfiles)
	return errors.Join(errs...)
}

// checkReach keeps a profile from issuing to everybody by accident, and from issuing nothing at all.
func (p *Profile) checkReach() error {
	if p.namesNothing() {
		switch {
		case p.AuthMode != TrustAuthenticated:
			return errors.New(`allowed_domains: the profile could issue nothing; name its domains, ` +
				`or write "*" (with eab_required or allow_open) for every name whose control is proved`)
		case !p.EABRequired:
			return errors.New(`allowed_domains: a profile that trusts its accounts must name its domains or allowed_ip_ranges, ` +
				`or set eab_required so that EAB keys name them`)
		}
		return nil
	}
	if p.open() && !p.EABRequired && !p.AllowOpen {
		return errors.New(`allowed_domains: the profile would be open: any account could have any name or address; ` +
			`name what it may issue for, set eab_required, or set allow_open if this is meant`)
	}
	return nil
}

// namesNothing reports whether the profile itself allows no identifier.
func (p *Profile) namesNothing() bool {
	return len(p.AllowedDomains) == 0 && len(p.AllowedIPRanges) == 0
}

// open reports whether the profile itself leaves out no name, or no address of one family.
func (p *Profile) open() bool {
	return p.openToNames() || p.openToAddresses()
}

func (p *Profile) openToAddresses() bool {
	return slices.ContainsFunc(p.AllowedIPRanges, everyAddress)
}

func (p *Profile) openToNames() bool {
	return slices.ContainsFunc(p.AllowedDomains, func(entry string) bool {
		rule, err := parseDomainRule(entry)
		return err == nil && rule.kind == everyName
	})
}

func everyAddress(entry string) bool {
	prefix, err := parseRange(entry)
	return err == nil && prefix.Bits() == 0
}

// CheckDomains reports the domain rules that reach beyond what the CA may sign; for the rules of an EAB key.
func (c Constraints) CheckDomains(rules []string) error { return c.check(rules, nil) }

func (c Constraints) check(domains, ranges []string) error {
	return errors.Join(c.checkDomains(domains), c.checkRanges(ranges))
}

func (c Constraints) checkDomains(domains []string) error {
	if len(c.PermittedDomains) == 0 {
		return nil
	}
	rules, err := parseAll("allowed_domains", domains, parseDomainRule)
	errs := []error{err}
	permitted := make([]domainRule, 0, len(c.PermittedDomains))
	for _, entry := range c.PermittedDomains {
		name, err := parseDomainName(strings.TrimPrefix(strings.TrimSpace(entry), "."))
		if err != nil {
			return fmt.Errorf("permitted domain %q of the CA: %w", entry, err)
		}
		permitted = append(permitted, domainRule{subtree, name})
	}
	set := newDomainSet(permitted)
	for _, rule := range rules {
		if _, inside := set.matchSubtree(rule.name); !inside {
			errs = append(errs, fmt.Errorf("allowed_domains: %q reaches beyond the names that the CA certificate permits: %s",
				rule, strings.Join(c.PermittedDomains, ", ")))
		}
	}
	return errors.Join(errs...)
}

func (c Constraints) checkRanges(ranges []string) error {
	if len(c.PermittedDomains) == 0 && len(c.PermittedIPs) == 0 {
		return nil
	}
	prefixes, err := parseAll("allowed_ip_ranges", ranges, parseRange)
	errs := []error{err}
	for _, prefix := range prefixes {
		inside := slices.ContainsFunc(c.PermittedIPs, func(permitted netip.Prefix) bool {
			return permitted.Bits() <= prefix.Bits() && permitted.Contains(prefix.Addr())
		})
		if !inside {
			errs = append(errs, fmt.Errorf("allowed_ip_ranges: %s reaches beyond the addresses that the CA certificate permits", prefix))
		}
	}
	return errors.Join(errs...)
}

// longestTrustedTTL is the longest life of a server certificate that Apple's platforms accept from a private CA.
const longestTrustedTTL = 825 * 24 * time.Hour

// Warnings tells what is allowed in a valid profile but worth a second look.
func (p *Profile) Warnings() []string {
	var warnings []string
	byKeys := p.EABRequired && p.AuthMode == TrustAuthenticated
	if byKeys && p.openToNames() && p.AllowOpen {
		warnings = append(warnings, "open to every account bound with an EAB key: a key without domains of its own gives any name")
	}
	if byKeys && p.openToAddresses() {
		warnings = append(warnings, "allowed_ip_ranges: open to every account bound with an EAB key: a key without domains of its own gives any address")
	}
	switch {
	case p.open() && !p.EABRequired && p.AuthMode == TrustAuthenticated:
		warnings = append(warnings, "open: any account may have any name without proving anything")
	case p.open() && !p.EABRequired:
		warnings = append(warnings, "open: any account may have any name that it proves control of")
	}
	for _, entry := range p.deadEntries() {
		warnings = append(warnings, fmt.Sprintf("allowed_domains: %q has no effect: denied_domains covers all of it", entry))
	}
	if p.maxTTL() > longestTrustedTTL && slices.Contains(p.ExtKeyUsages, string(pki.ServerAuth)) {
		warnings = append(warnings, "max_ttl_seconds: Apple's platforms refuse server certificates that live longer than 825 days")
	}
	return warnings
}

// deadEntries returns the allowed rules of which denied rules leave nothing.
func (p *Profile) deadEntries() []string {
	denied, err := parseAll("denied_domains", p.DeniedDomains, parseDomainRule)
	if err != nil {
		return nil
	}
	set := newDomainSet(denied)
	var dead []string
	for _, entry := range p.AllowedDomains {
		rule, err := parseDomainRule(entry)
		if err != nil {
			continue
		}
		var covered bool
		switch rule.kind {
		case exactName:
			_, covered = set.match(rule.name)
		case children:
			_, covered = set.matchEveryChild(rule.name)
		default:
			_, covered = set.matchSubtree(rule.name)
		}
		if covered {
			dead = append(dead, entry)
		}
	}
	return dead
}
