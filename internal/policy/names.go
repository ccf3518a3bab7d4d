package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/certctl/certctl/internal/acme"
	"golang.org/x/net/idna"
)

// NameRules decides which identifiers may be had. It is compiled once and never changes afterwards.
//
// A domain rule is one of
//
//	example.com      that name
//	*.example.com    every name exactly one label below it
//	.example.com     the name and everything below it
//	*                every name
//
// A name needs an allowed rule that matches and no denied rule that does: deny wins. A wildcard name *.x stands for
// all names one label below x, so it needs one allowed rule that covers all of them, and no denied rule that covers
// even one. Addresses need a range that holds them; domain rules, `*` among them, say nothing about addresses.
//
// The zero value and nil allow nothing.
type NameRules struct {
	allowed, denied domainSet
	ranges          []netip.Prefix
	wildcards       bool
}

// CompileNames reads domain rules and address ranges. The error names every entry that cannot be read.
func CompileNames(allowed, denied, ipRanges []string, wildcards bool) (*NameRules, error) {
	allow, err1 := parseAll("allowed_domains", allowed, parseDomainRule)
	deny, err2 := parseAll("denied_domains", denied, parseDomainRule)
	ranges, err3 := parseAll("allowed_ip_ranges", ipRanges, parseRange)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return &NameRules{
		allowed:   newDomainSet(allow),
		denied:    newDomainSet(deny),
		ranges:    ranges,
		wildcards: wildcards,
	}, nil
}

// Allows reports whether the rules allow the identifier, and why not. The identifier is canonical, as
// acme.ParseIdentifier returns it; one that is not is refused, so that no spelling slips past a denied rule.
func (r *NameRules) Allows(id acme.Identifier) (ok bool, reason string) {
	if r == nil {
		return false, "nothing is allowed"
	}
	switch id.Type {
	case acme.DNS:
		return r.allowsName(id.Value)
	case acme.IP:
		return r.allowsAddress(id.Value)
	}
	return false, fmt.Sprintf("identifiers of type %q are not allowed", id.Type)
}

func (r *NameRules) allowsName(name string) (bool, string) {
	base, wildcard := strings.CutPrefix(name, "*.")
	if !canonicalName(base) {
		return false, "the name is not in its canonical form"
	}
	if wildcard {
		return r.allowsWildcard(base)
	}
	if rule, found := r.denied.match(name); found {
		return false, fmt.Sprintf("denied_domains has %q", rule)
	}
	if _, found := r.allowed.match(name); !found {
		return false, "no entry of allowed_domains matches it"
	}
	return true, ""
}

func (r *NameRules) allowsWildcard(base string) (bool, string) {
	if !r.wildcards {
		return false, "wildcard names are not allowed (allow_wildcards)"
	}
	if rule, found := r.denied.matchSomeChild(base); found {
		return false, fmt.Sprintf("denied_domains has %q, which is among the names that the wildcard stands for", rule)
	}
	if _, found := r.allowed.matchEveryChild(base); !found {
		return false, fmt.Sprintf("no entry of allowed_domains covers every name one label below %s", base)
	}
	return true, ""
}

func (r *NameRules) allowsAddress(value string) (bool, string) {
	addr, err := netip.ParseAddr(value)
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return false, "the address is not in its canonical form"
	}
	for _, p := range r.ranges {
		if p.Contains(addr) {
			return true, ""
		}
	}
	return false, "no entry of allowed_ip_ranges holds it"
}

// canonicalName reports whether name consists of non-empty lower-case labels.
func canonicalName(name string) bool {
	label := 0
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-':
			label++
		case c == '.' && label > 0:
			label = 0
		default:
			return false
		}
	}
	return label > 0
}

// everyNameRule is the domain rule that matches every name.
const everyNameRule = "*"

type ruleKind uint8

const (
	exactName ruleKind = iota // example.com
	children                  // *.example.com
	subtree                   // .example.com
	everyName                 // *
)

var rulePrefix = [...]string{exactName: "", children: "*.", subtree: ".", everyName: everyNameRule}

// domainRule is one entry of allowed_domains or denied_domains. The name is in lower-case A-labels.
type domainRule struct {
	kind ruleKind
	name string
}

func (r domainRule) String() string { return rulePrefix[r.kind] + r.name }

func parseDomainRule(entry string) (domainRule, error) {
	rest := strings.TrimSpace(entry)
	if rest == everyNameRule {
		return domainRule{kind: everyName}, nil
	}
	rule := domainRule{kind: exactName}
	if name, ok := strings.CutPrefix(rest, "*."); ok {
		rule.kind, rest = children, name
	} else if name, ok := strings.CutPrefix(rest, "."); ok {
		rule.kind, rest = subtree, name
	}
	name, err := parseDomainName(rest)
	if err != nil {
		return domainRule{}, err
	}
	rule.name = name
	return rule, nil
}

// parseDomainName returns the name in lower-case A-labels. Unlike an identifier in an order, a name in a
// configuration may be written in U-labels.
func parseDomainName(s string) (string, error) {
	if s == "" {
		return "", errors.New("the name is missing")
	}
	if strings.Contains(s, "*") {
		return "", errors.New(`an asterisk stands alone ("*") or is the whole first label ("*.example.com")`)
	}
	if strings.ContainsAny(s, "/:") || isAddress(s) {
		return "", errors.New("this is no domain name; addresses belong into allowed_ip_ranges")
	}
	if !isASCII(s) {
		ascii, err := idna.Lookup.ToASCII(s)
		if err != nil {
			return "", fmt.Errorf("this is no internationalized domain name: %w", err)
		}
		s = ascii
	}
	id, err := acme.ParseIdentifier(string(acme.DNS), strings.ToLower(s))
	if err != nil {
		return "", problemText(err)
	}
	if !canonicalName(id.Value) {
		return "", errors.New("this is no domain name")
	}
	return id.Value, nil
}

// problemText strips the type, which means nothing in a configuration, from a problem.
func problemText(err error) error {
	var problem *acme.Problem
	if errors.As(err, &problem) && problem.Detail != "" {
		return errors.New(problem.Detail)
	}
	return err
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// parseRange reads a CIDR range, or an address as the range that holds only it.
func parseRange(entry string) (netip.Prefix, error) {
	s := strings.TrimSpace(entry)
	prefix, err := netip.ParsePrefix(s)
	if err != nil {
		addr, addrErr := netip.ParseAddr(s)
		if addrErr != nil {
			return netip.Prefix{}, errors.New(`this is neither a range such as "10.1.0.0/16" nor an address`)
		}
		if addr.Zone() != "" {
			return netip.Prefix{}, errors.New("an address with a zone means something on one host only")
		}
		prefix = netip.PrefixFrom(addr, addr.BitLen())
	}
	switch {
	case prefix.Addr().Is4In6():
		return netip.Prefix{}, errors.New("write an IPv4 address in IPv4 form")
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("the range has bits set behind its length; did you mean %s, or the address %s?",
			prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}

// parseAll parses every entry of a field; the error names the field and each entry that cannot be read.
func parseAll[T any](field string, entries []string, parse func(string) (T, error)) ([]T, error) {
	parsed := make([]T, 0, len(entries))
	var errs []error
	for _, entry := range entries {
		value, err := parse(entry)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %q: %w", field, entry, err))
			continue
		}
		parsed = append(parsed, value)
	}
	return parsed, errors.Join(errs...)
}

// domainSet finds the rule that matches a name in time linear in the name's labels, whatever the number of rules.
type domainSet struct {
	every   bool
	rules   map[domainRule]struct{}
	parents map[string]domainRule // x -> a rule for a single name one label below x, or for a subtree that starts there
}

func newDomainSet(rules []domainRule) domainSet {
	s := domainSet{
		rules:   make(map[domainRule]struct{}, len(rules)),
		parents: make(map[string]domainRule),
	}
	for _, r := range rules {
		s.rules[r] = struct{}{}
		switch r.kind {
		case everyName:
			s.every = true
		case exactName, subtree:
			if _, parent, ok := strings.Cut(r.name, "."); ok {
				s.parents[parent] = r
			}
		}
	}
	return s
}

func (s *domainSet) has(kind ruleKind, name string) (domainRule, bool) {
	r := domainRule{kind, name}
	_, ok := s.rules[r]
	return r, ok
}

// match returns a rule that matches the name.
func (s *domainSet) match(name string) (domainRule, bool) {
	if r, ok := s.has(exactName, name); ok {
		return r, true
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		if r, ok := s.has(children, parent); ok {
			return r, true
		}
	}
	return s.matchSubtree(name)
}

// matchEveryChild returns a rule that matches all names one label below base.
func (s *domainSet) matchEveryChild(base string) (domainRule, bool) {
	if r, ok := s.has(children, base); ok {
		return r, true
	}
	return s.matchSubtree(base)
}

// matchSomeChild returns a rule that matches at least one name one label below base.
func (s *domainSet) matchSomeChild(base string) (domainRule, bool) {
	if r, ok := s.parents[base]; ok {
		return r, true
	}
	return s.matchEveryChild(base)
}

// matchSubtree returns a rule that matches the name and everything below it.
func (s *domainSet) matchSubtree(name string) (domainRule, bool) {
	if s.every {
		return domainRule{kind: everyName}, true
	}
	for more := true; more; _, name, more = strings.Cut(name, ".") {
		if r, ok := s.has(subtree, name); ok {
			return r, true
		}
	}
	return domainRule{}, false
}
