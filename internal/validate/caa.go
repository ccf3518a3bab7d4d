package validate

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/internal/acme"
)

// MethodTrust stands among the methods of a CAAQuery for a name that the
// operator vouches for and that no challenge has validated. A CA that knows the
// parameter "validationmethods" must have a label for every method that is not
// one of ACME, "beginning with the string 'ca-'" (RFC 8657, Section 4).
const MethodTrust = "ca-certctl-trust"

// The property tags that this CA knows (RFC 8659, Sections 4.2 to 4.4), and the
// parameters (RFC 8657, Sections 3 and 4).
const (
	tagIssue     = "issue"
	tagIssueWild = "issuewild"
	tagIodef     = "iodef"

	paramAccount = "accounturi"
	paramMethods = "validationmethods"
)

// issuerCritical is bit 0 of the flags in the counting of RFC 1035, the most
// significant. "Applications that interpret CAA records MUST ignore the value
// of all reserved flag bits" (RFC 8659, Section 4.1).
const issuerCritical = 0x80

// A CAAQuery asks whether CAA records allow a certificate to be issued.
type CAAQuery struct {
	// Identifier is canonical and may be a wildcard name.
	Identifier acme.Identifier
	// Identities are the issuer domain names that stand for this CA. Without
	// any, every record set that restricts issuance forbids it.
	Identities []string
	// AccountURLs are all URLs that name the account which asks. One of them
	// must be the "accounturi" of a record that has one, byte for byte.
	AccountURLs []string
	// Methods are how control over the identifier was validated, such as
	// "http-01", or MethodTrust. A record that has "validationmethods" must
	// list one of them; when there are none, no such record matches.
	Methods []string
}

// CAA checks the CAA records of an identifier (RFC 8659, RFC 8657). The problem
// of type caa is a verdict. One of type dns means that there is none: the
// records are not known, and a certificate must not be issued either.
func (p *Prober) CAA(ctx context.Context, q CAAQuery) Outcome {
	trace := &recorder{now: p.now}
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	f := p.caa(limited, trace, q)
	out := Outcome{Trace: trace.take()}
	switch {
	case f == nil:
	case f.problem == acme.ErrDNS && ctx.Err() != nil:
		// The caller gave up, not the servers.
		out.Problem = acme.NewProblem(acme.ErrDNS, "the CAA check was interrupted")
		out.Retry = true
	default:
		out.Problem = acme.NewProblem(f.problem, "%s", f.detail)
		out.Retry = f.retry
	}
	return out
}

func (p *Prober) caa(ctx context.Context, trace *recorder, q CAAQuery) *failure {
	id := q.Identifier
	canonical, err := acme.ParseIdentifier(string(id.Type), id.Value)
	if err != nil || canonical != id {
		return failf(acme.ErrMalformed, "the identifier %q cannot be checked as it stands", id.String())
	}
	if id.Type == acme.IP {
		trace.add(StepCAA, id.Value, "", "CAA records are not for IP addresses")
		return nil
	}
	set, lookupErr := p.relevantSet(ctx, trace, id.Base().Value)
	if lookupErr != nil {
		f := lookupErr.failure()
		f.detail += "; while its CAA records are not known, no certificate is issued (RFC 8659, Section 6)"
		return f
	}
	if set == nil {
		return nil
	}
	return set.judge(trace, q)
}

// A caaSet is a Relevant Resource Record Set (RFC 8659, Section 3).
type caaSet struct {
	domain  string // where the search found it
	aliased bool   // the records stand at another name, where CNAMEs led
	records []*dns.CAA
}

// relevantSet finds the records that are about name, nil when there are none.
// It climbs from name "up to, but not including, the DNS root". CNAMEs lead
// from a name to its records, but only the name itself is climbed (RFC 8659,
// Sections 3 and 7). A name that does not exist has no records; any other
// failure ends the search, as what could not be read may forbid. The number of
// questions is bounded by the labels of a name, each with maxCNAMEs.
func (p *Prober) relevantSet(ctx context.Context, trace *recorder, name string) (*caaSet, *lookupError) {
	for domain, more := name, true; more; _, domain, more = strings.Cut(domain, ".") {
		records, canonical, err := p.resolver.lookup(ctx, trace, domain, dns.TypeCAA)
		if err != nil && err.rcode != dns.RcodeNameError {
			told := *err
			told.name = domain // not the one that a CNAME led to
			return nil, &told
		}
		if len(records) == 0 {
			trace.add(StepCAA, domain, "", "no CAA records")
			continue
		}
		set := &caaSet{domain: domain, aliased: canonical != dns.CanonicalName(domain)}
		for _, rr := range records {
			caa, ok := rr.(*dns.CAA)
			if !ok {
				return nil, &lookupError{name: domain, qtype: dns.TypeCAA, reason: "an unreadable record"}
			}
			set.records = append(set.records, caa)
			trace.add(StepCAA, domain, "", "found %d %s %q", caa.Flag, caa.Tag, caa.Value)
		}
		return set, nil
	}
	return nil, nil
}

// judge says why the records do not allow what q asks, nil when they do.
func (s *caaSet) judge(trace *recorder, q CAAQuery) *failure {
	tag, f := s.restricting(q.Identifier.Wildcard())
	if f != nil {
		return f
	}
	var no objections
	for _, rr := range s.records {
		if !strings.EqualFold(rr.Tag, tag) {
			continue
		}
		if no.add(q, rr.Value) {
			// "CAA authorizations are additive" (RFC 8659, Section 4.2).
			trace.add(StepCAA, s.domain, "", "allowed by %s %q", tag, rr.Value)
			return nil
		}
	}
	if no.records == 0 {
		// "CAA does not restrict issuance" (RFC 8659, Section 3).
		trace.add(StepCAA, s.domain, "", "no %s property, so issuance is not restricted", tag)
		return nil
	}
	return failf(acme.ErrCAA, "the CAA records at %s %s", clip(s.domain, maxNameInText), no.text(q, tag, s.aliased))
}

// restricting returns the tag of the properties that count for the request, or
// what forbids it whatever they say.
func (s *caaSet) restricting(wildcard bool) (string, *failure) {
	tag := tagIssue
	for _, rr := range s.records {
		switch strings.ToLower(rr.Tag) {
		case tagIssue, tagIodef:
		case tagIssueWild:
			if wildcard {
				// "Each issue Property MUST be ignored" (RFC 8659, Section 4.3).
				tag = tagIssueWild
			}
		case "":
			// "The tag length MUST be at least 1" (RFC 8659, Section 4.1): such a
			// record may have been any.
			return "", failf(acme.ErrCAA, "a CAA record at %s has no property tag, so that nobody can tell what it forbids",
				clip(s.domain, maxNameInText))
		default:
			if rr.Flag&issuerCritical == 0 {
				continue
			}
			which := ""
			if !s.aliased {
				which = " " + quote([]byte(rr.Tag))
			}
			return "", failf(acme.ErrCAA, "the CAA records at %s have the critical property%s, which this CA does not know",
				clip(s.domain, maxNameInText), which)
		}
	}
	return tag, nil
}

// Objections are why each of several properties does not authorize.
type objections struct {
	records   int
	malformed int
	issuers   []string // other CAs that may issue
	ours      []string // why those that name this CA do not authorize
}

// add looks at one property value and reports whether it authorizes.
func (o *objections) add(q CAAQuery, value string) bool {
	o.records++
	v, ok := parseIssueValue(value)
	switch {
	case !ok:
		// It "MUST be treated the same as one specifying an empty
		// issuer-domain-name" (RFC 8659, Section 4.2).
		o.malformed++
	case v.issuer == "":
	case !slices.ContainsFunc(q.Identities, func(own string) bool { return strings.EqualFold(own, v.issuer) }):
		o.issuers = append(o.issuers, v.issuer)
	default:
		why := q.unsatisfied(v)
		if why == "" {
			return true
		}
		if !slices.Contains(o.ours, why) {
			o.ours = append(o.ours, why)
		}
	}
	return false
}

// text says what the records allow, for the client: no more of them than it may
// read, and nothing of what another name answered.
func (o *objections) text(q CAAQuery, tag string, aliased bool) string {
	slices.Sort(o.issuers)
	others := clip(strings.Join(slices.Compact(o.issuers), ", "), maxQuoted)
	if aliased {
		others = "other CAs"
	}
	name := strings.TrimPrefix(q.Identifier.String(), "dns:")
	var b strings.Builder
	switch {
	case len(o.ours) > 0:
		fmt.Fprintf(&b, "allow this CA, but not this request, to issue for %s: %s", name, strings.Join(o.ours, "; "))
	case len(o.issuers) > 0:
		fmt.Fprintf(&b, "allow only %s to issue for %s (%s)", others, name, tag)
	default:
		fmt.Fprintf(&b, "allow no CA to issue for %s (%s)", name, tag)
	}
	switch {
	case len(q.Identities) == 0:
		b.WriteString("; this CA has no name of its own in CAA records: its operator sets CERTCTL_ACME_SERVER_CAA_IDENTITIES")
	case len(o.ours) == 0:
		fmt.Fprintf(&b, "; this CA is %s", clip(strings.Join(q.Identities, " or "), maxNameInText))
	}
	if o.malformed > 0 {
		fmt.Fprintf(&b, "; values without the syntax of RFC 8659, Section 4.2: %d", o.malformed)
	}
	return b.String()
}

// unsatisfied says which parameter keeps a property that names this CA from
// authorizing the request, "" when none does. What a parameter means is "determined
// by the Issuer alone" (RFC 8659, Section 4.2): to this one, those that it does
// not know mean nothing.
func (q CAAQuery) unsatisfied(v issueValue) string {
	// "A Property with an invalid or unrecognized 'accounturi' parameter is
	// unsatisfiable. A Property with multiple 'accounturi' parameters is
	// unsatisfiable" (RFC 8657, Section 3).
	uris := v.values(paramAccount)
	if len(uris) > 1 {
		return "a record has several accounturi parameters"
	}
	if len(uris) == 1 && (uris[0] == "" || !slices.Contains(q.AccountURLs, uris[0])) {
		return "accounturi names another account"
	}
	// RFC 8657, Section 4. It does not say what two lists mean, so they are as
	// unsatisfiable as two accounts.
	lists := v.values(paramMethods)
	if len(lists) > 1 {
		return "a record has several validationmethods parameters"
	}
	if len(lists) == 0 {
		return ""
	}
	labels, ok := parseMethods(lists[0])
	if !ok {
		return "validationmethods is not a list of methods"
	}
	if !slices.ContainsFunc(labels, func(label string) bool { return slices.Contains(q.Methods, label) }) {
		used := "there was none"
		if len(q.Methods) > 0 {
			used = "that was " + clip(strings.Join(q.Methods, ", "), maxQuoted)
		}
		return "validationmethods does not list how control was validated (" + used + ")"
	}
	return ""
}

// An issueValue is the value of an issue or issuewild property.
type issueValue struct {
	issuer     string // lower-case, empty for nobody
	parameters []parameter
}

// A parameter is a tag, lower-case, and its value.
type parameter struct{ tag, value string }

// values returns those of all parameters with the tag.
func (v issueValue) values(tag string) []string {
	var values []string
	for _, p := range v.parameters {
		if p.tag == tag {
			values = append(values, p.value)
		}
	}
	return values
}

// wsp is WSP of RFC 5234.
const wsp = " \t"

// parseIssueValue parses the sub-syntax of RFC 8659, Section 4.2:
//
//	issue-value = *WSP [issuer-domain-name *WSP]
//	   [";" *WSP [parameters *WSP]]
//	issuer-domain-name = label *("." label)
//	label = (ALPHA / DIGIT) *( *("-") (ALPHA / DIGIT))
//	parameters = (parameter *WSP ";" *WSP parameters) / parameter
//	parameter = tag *WSP "=" *WSP value
//	tag = (ALPHA / DIGIT) *( *("-") (ALPHA / DIGIT))
//	value = *(%x21-3A / %x3C-7E)
//
// No part of it contains a semicolon. There is none behind the last parameter.
func parseIssueValue(s string) (v issueValue, ok bool) {
	issuer, rest, found := strings.Cut(s, ";")
	issuer = strings.Trim(issuer, wsp)
	if issuer != "" && !every(strings.Split(issuer, "."), isLabel) {
		return issueValue{}, false
	}
	v.issuer = strings.ToLower(issuer)
	if !found || strings.Trim(rest, wsp) == "" {
		return v, true
	}
	for part := range strings.SplitSeq(rest, ";") {
		tag, value, found := strings.Cut(part, "=")
		tag, value = strings.Trim(tag, wsp), strings.Trim(value, wsp)
		if !found || !isLabel(tag) || !isParameterValue(value) {
			return issueValue{}, false
		}
		v.parameters = append(v.parameters, parameter{strings.ToLower(tag), value})
	}
	return v, true
}

// parseMethods parses the value of "validationmethods" (RFC 8657, Section 4):
//
//	value = [*(label ",") label]
//	label = 1*(ALPHA / DIGIT / "-")
func parseMethods(s string) (labels []string, ok bool) {
	if s == "" {
		return nil, true
	}
	labels = strings.Split(s, ",")
	return labels, every(labels, func(label string) bool {
		return label != "" && every([]byte(label), func(c byte) bool { return isAlphanumeric(c) || c == '-' })
	})
}

// isLabel reports whether s is of letters and digits, with hyphens inside only.
func isLabel(s string) bool {
	return s != "" && s[0] != '-' && s[len(s)-1] != '-' &&
		every([]byte(s), func(c byte) bool { return isAlphanumeric(c) || c == '-' })
}

func isParameterValue(s string) bool {
	return every([]byte(s), func(c byte) bool { return '!' <= c && c <= '~' && c != ';' })
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func every[T any](list []T, ok func(T) bool) bool {
	return !slices.ContainsFunc(list, func(v T) bool { return !ok(v) })
}
