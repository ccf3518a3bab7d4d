package policy

import (
	"errors"
	"slices"
	"strings"

	"github.com/certctl/certctl/internal/pki"
)

// Normalize brings the profile into its canonical form: domain rules in lower-case A-labels, ranges in CIDR form,
// lists sorted and without duplicates, defaults filled in. Doing it again changes nothing.
//
// It judges nothing; that is for Validate. An entry that cannot be read stays as it is, and the error names it.
func (p *Profile) Normalize() error {
	p.Name = strings.TrimSpace(p.Name)
	if p.Name == "" {
		p.Name = p.ID
	}
	var err1, err2, err3 error
	p.AllowedDomains, err1 = normalizeAll("allowed_domains", p.AllowedDomains, parseDomainRule)
	p.DeniedDomains, err2 = normalizeAll("denied_domains", p.DeniedDomains, parseDomainRule)
	p.AllowedIPRanges, err3 = normalizeAll("allowed_ip_ranges", p.AllowedIPRanges, parseRange)
	p.ChallengeTypes = normalizeChoice(p.ChallengeTypes, offeredChallenges, offeredChallenges)
	p.KeyTypes = normalizeChoice(p.KeyTypes, pki.AllKeyTypes, pki.AllKeyTypes)
	p.ExtKeyUsages = normalizeChoice(p.ExtKeyUsages, extKeyUsages, extKeyUsages[:1])
	p.LintSources = normalizeChoice(slices.Concat(pki.DefaultLintSources, p.LintSources), pki.AllLintSources, nil)
	if p.CAA == "" {
		p.CAA = CAAOff
	}
	if p.OfferedProfiles == nil {
		p.OfferedProfiles = []string{}
	}
	slices.Sort(p.OfferedProfiles)
	p.OfferedProfiles = slices.Compact(p.OfferedProfiles)
	return errors.Join(err1, err2, err3)
}

// NormalizeDomains brings the domain rules of an EAB key into the same form as those of a profile.
func NormalizeDomains(rules []string) ([]string, error) {
	return normalizeAll("allowed_domains", rules, parseDomainRule)
}

// normalizeAll returns the entries in the form that they are parsed to. It never returns nil: in JSON a list is a list.
func normalizeAll[T interface{ String() string }](field string, entries []string, parse func(string) (T, error)) ([]string, error) {
	normal := make([]string, 0, len(entries))
	for _, entry := range entries {
		if value, err := parse(entry); err == nil {
			entry = value.String()
		}
		normal = append(normal, entry)
	}
	slices.Sort(normal)
	normal = slices.Compact(normal)
	_, err := parseAll(field, normal, parse)
	return normal, err
}

// normalizeChoice returns the chosen values in the order of the known ones, unknown ones behind them, and the default
// when nothing is chosen.
func normalizeChoice[T ~string](chosen, known, byDefault []T) []T {
	if len(chosen) == 0 {
		return slices.Clone(byDefault)
	}
	rank := func(v T) int {
		if i := slices.Index(known, v); i >= 0 {
			return i
		}
		return len(known)
	}
	normal := make([]T, 0, len(chosen))
	for _, v := range chosen {
		normal = append(normal, T(strings.ToLower(strings.TrimSpace(string(v)))))
	}
	slices.SortFunc(normal, func(a, b T) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		return strings.Compare(string(a), string(b))
	})
	return slices.Compact(normal)
}
