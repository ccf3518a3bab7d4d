package validate

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/internal/acme"
)

const testAccount = "https://acme.ca.test/acme/account/1"

// A caaWorld is a DNS server and what is asked about names in it.
type caaWorld struct {
	dns    *dnsServer
	query  CAAQuery
	config Config
}

func newCAAWorld(t *testing.T) *caaWorld {
	t.Helper()
	s := newDNS(t)
	return &caaWorld{
		dns: s,
		query: CAAQuery{
			Identities:  []string{"ca.test", "ca.example"},
			AccountURLs: []string{testAccount, "https://acme.ca.test/acme/new-account/1"},
			Methods:     []string{"http-01"},
		},
		config: Config{Resolvers: []string{s.addr}, Timeout: 5 * time.Second},
	}
}

// zone is a caaWorld in which the name x.test has these records.
func zone(t *testing.T, records ...string) *caaWorld {
	t.Helper()
	w := newCAAWorld(t)
	w.dns.set("x.test", "CAA", records...)
	return w
}

func (w *caaWorld) prober(t *testing.T) *Prober {
	t.Helper()
	p, err := New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *caaWorld) ask(t *testing.T, value string) Outcome {
	t.Helper()
	q := w.query
	q.Identifier = target(value).Identifier
	return w.prober(t).CAA(t.Context(), q)
}

// verdicts checks which of x.test and *.x.test may be issued for.
func (w *caaWorld) verdicts(t *testing.T, plain, wildcard bool) {
	t.Helper()
	for name, allowed := range map[string]bool{"x.test": plain, "*.x.test": wildcard} {
		o := w.ask(t, name)
		if allowed {
			wantValid(t, o)
			continue
		}
		wantProblem(t, o, acme.ErrCAA, "at x.test", name)
		if o.Retry {
			t.Errorf("%s: a verdict is to be tried again", name)
		}
	}
}

// The examples of RFC 8659, Sections 4.2 to 4.5, and what lies between them. The
// own names of this CA are ca.test and ca.example.
func TestCAAVerdicts(t *testing.T) {
	for name, c := range map[string]struct {
		records         []string
		plain, wildcard bool
	}{
		"own":                           {[]string{`0 issue "ca.test"`}, true, true},
		"own, second name":              {[]string{`0 issue "ca.example"`}, true, true},
		"own, in capitals":              {[]string{`0 issue "CA.Test"`}, true, true},
		"other":                         {[]string{`0 issue "ca1.example.net"`}, false, false},
		"others":                        {[]string{`0 issue "ca1.example.net"`, `0 issue "ca2.example.org"`}, false, false},
		"among others":                  {[]string{`0 issue "ca1.example.net"`, `0 issue "ca.test"`}, true, true},
		"below the own name":            {[]string{`0 issue "sub.ca.test"`}, false, false},
		"above the own name":            {[]string{`0 issue "test"`}, false, false},
		"nobody":                        {[]string{`0 issue ";"`}, false, false},
		"nobody, empty":                 {[]string{`0 issue ""`}, false, false},
		"nobody, with a parameter":      {[]string{`0 issue "; a=b"`}, false, false},
		"nobody and own":                {[]string{`0 issue ";"`, `0 issue "ca.test"`}, true, true},
		"malformed":                     {[]string{`0 issue "%%%%%"`}, false, false},
		"malformed and own":             {[]string{`0 issue "%%%%%"`, `0 issue "ca.test"`}, true, true},
		"own, malformed parameter":      {[]string{`0 issue "ca.test; a"`}, false, false},
		"own, trailing semicolon":       {[]string{`0 issue "ca.test;"`}, true, true},
		"unknown parameter":             {[]string{`0 issue "ca.test; account=230123"`}, true, true},
		"wild: issue and issuewild":     {[]string{`0 issue "ca.test"`, `0 issuewild "ca2.example.org"`}, true, false},
		"wild: other way":               {[]string{`0 issue "ca1.example.net"`, `0 issuewild "ca.test"`}, false, true},
		"wild: any issuewild counts":    {[]string{`0 issuewild "a.example"`, `0 issuewild "ca.test"`, `0 issue ";"`}, false, true},
		"wild: issuewild only, own":     {[]string{`0 issuewild "ca.test"`}, true, true},
		"wild: issuewild only, other":   {[]string{`0 issuewild "ca2.example.org"`}, true, false},
		"wild: issuewild forbids":       {[]string{`0 issue "ca.test"`, `0 issuewild ";"`}, true, false},
		"wild: malformed issuewild":     {[]string{`0 issue "ca.test"`, `0 issuewild "%%%%%"`}, true, false},
		"tags in capitals":              {[]string{`0 ISSUE "ca1.example.net"`, `0 IssueWild "ca.test"`}, false, true},
		"only iodef":                    {[]string{`0 iodef "mailto:security@example.com"`}, true, true},
		"iodef beside issue":            {[]string{`0 issue "ca1.example.net"`, `0 iodef "https://iodef.example.com/"`}, false, false},
		"unknown":                       {[]string{`0 tbs "Unknown"`}, true, true},
		"unknown beside own":            {[]string{`0 issue "ca.test"`, `0 tbs "Unknown"`}, true, true},
		"unknown beside other":          {[]string{`0 tbs "Unknown"`, `0 issue "ca1.example.net"`}, false, false},
		"reserved bits":                 {[]string{`127 tbs "Unknown"`}, true, true},
		"reserved bits on known":        {[]string{`127 issue "ca.test"`}, true, true},
		"critical and known":            {[]string{`128 issue "ca.test"`, `128 issuewild "ca.test"`, `128 iodef "mailto:a@b.example"`}, true, true},
		"critical and known, in upper":  {[]string{`128 ISSUE "ca.test"`}, true, true},
		"critical forbids all the same": {[]string{`128 issue "ca1.example.net"`}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			zone(t, c.records...).verdicts(t, c.plain, c.wildcard)
		})
	}
}

func TestCAACritical(t *testing.T) {
	for _, flag := range []string{"128", "255", "129"} {
		w := zone(t, `0 issue "ca.test"`, flag+` tbs "Unknown"`)
		for _, name := range []string{"x.test", "*.x.test", "sub.x.test"} {
			wantProblem(t, w.ask(t, name), acme.ErrCAA, "at x.test", `critical property "tbs"`)
		}
	}
	// Without any issue property too.
	wantProblem(t, zone(t, `128 tbs "Unknown"`).ask(t, "x.test"), acme.ErrCAA, `"tbs"`)
}

func TestCAAClimbs(t *testing.T) {
	w := newCAAWorld(t)
	w.dns.set("a.b.x.test", "A", "10.0.0.1") // the others do not exist
	wantValid(t, w.ask(t, "a.b.x.test"))
	want := []string{"udp a.b.x.test. CAA", "udp b.x.test. CAA", "udp x.test. CAA", "udp test. CAA"}
	if got := w.dns.questions(); !slices.Equal(got, want) {
		t.Errorf("asked %v; want %v", got, want)
	}

	// The nearest set is the one that counts, even if it restricts nothing.
	w.dns.set("test", "CAA", `0 issue "ca1.example.net"`)
	wantProblem(t, w.ask(t, "a.b.x.test"), acme.ErrCAA, "at test ", "ca1.example.net")
	w.dns.set("x.test", "CAA", `0 issue "ca.test"`)
	wantValid(t, w.ask(t, "a.b.x.test"))
	w.dns.set("b.x.test", "CAA", `0 issue "ca2.example.net"`)
	wantProblem(t, w.ask(t, "a.b.x.test"), acme.ErrCAA, "at b.x.test ", "ca2.example.net")
	w.dns.set("a.b.x.test", "CAA", `0 iodef "mailto:a@b.example"`)
	wantValid(t, w.ask(t, "a.b.x.test"))

	// A wildcard's search begins at the name behind the asterisk.
	w.dns.set("*.b.x.test", "CAA", `0 issue "ca.test"`)
	wantProblem(t, w.ask(t, "*.b.x.test"), acme.ErrCAA, "at b.x.test ", "*.b.x.test")
	if n := w.dns.count("udp *.b.x.test. CAA"); n > 0 {
		t.Error("asked for the asterisk")
	}
}

// RFC 8659, Section 7: CNAMEs are followed, but only the name is climbed.
func TestCAAAliases(t *testing.T) {
	w := newCAAWorld(t)
	w.dns.set("www.x.test", "CNAME", "edge.cdn.example.")
	w.dns.set("edge.cdn.example", "CNAME", "node.cdn.example.")
	w.dns.set("node.cdn.example", "A", "10.0.0.1")
	w.dns.set("cdn.example", "CAA", `0 issue "ca1.example.net"`)
	w.dns.set("x.test", "CAA", `0 issue "ca.test"`)
	wantValid(t, w.ask(t, "www.x.test"))
	if n := w.dns.count("udp cdn.example. CAA"); n > 0 {
		t.Error("climbed from where the CNAME led")
	}
	w.dns.set("cdn.example", "CAA", `0 issue "ca.test"`)
	w.dns.set("x.test", "CAA", `0 issue "ca1.example.net"`)
	wantProblem(t, w.ask(t, "www.x.test"), acme.ErrCAA, "at x.test ")

	// Where the CNAME leads to nothing, as well.
	w.dns.set("edge.cdn.example", "CNAME", "gone.cdn.example.")
	wantProblem(t, w.ask(t, "www.x.test"), acme.ErrCAA, "at x.test ")

	// Records at the end of the chain are those of the name; the client is not
	// told what another name answered.
	w.dns.set("x.test", "CAA", `0 issue "ca.test"`)
	w.dns.set("edge.cdn.example", "CNAME", "node.cdn.example.")
	w.dns.set("node.cdn.example", "CAA", `0 issue "SECRET.example"`)
	o := w.ask(t, "www.x.test")
	wantProblem(t, o, acme.ErrCAA, "at www.x.test ", "other CAs")
	wantUntold(t, o, "secret", "SECRET", "cdn")
	wantTraced(t, o, "SECRET.example")
	w.dns.set("node.cdn.example", "CAA", `128 SECRET "1"`)
	o = w.ask(t, "www.x.test")
	wantProblem(t, o, acme.ErrCAA, "at www.x.test ", "critical property,")
	wantUntold(t, o, "SECRET")

	w.dns.set("loop.x.test", "CNAME", "loop.x.test.")
	o = w.ask(t, "loop.x.test")
	wantProblem(t, o, acme.ErrDNS, "more than 8 CNAMEs")
	if o.Retry {
		t.Error("a loop is to be tried again")
	}
}

func TestCAAIdentifiers(t *testing.T) {
	w := newCAAWorld(t)
	for _, ip := range []string{"10.0.0.1", "2001:db8::1"} {
		o := w.ask(t, ip)
		wantValid(t, o)
		wantTraced(t, o, "not for IP addresses")
	}
	for _, id := range []acme.Identifier{
		{Type: acme.DNS, Value: "X.test"},
		{Type: acme.DNS, Value: "x.test."},
		{Type: acme.DNS, Value: ""},
		{Type: acme.DNS, Value: "*.*.x.test"},
		{Type: acme.IP, Value: "x.test"},
		{Type: "email", Value: "a@x.test"},
		{},
	} {
		wantProblem(t, w.prober(t).CAA(t.Context(), CAAQuery{Identifier: id}), acme.ErrMalformed)
	}
	if n := w.dns.questions(); len(n) > 0 {
		t.Errorf("asked %v", n)
	}
}

// RFC 8659, Section 6: what cannot be looked up is not absent. The set above
// allows issuance and must not be reached.
func TestCAAFailsClosed(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(reply *dns.Msg) bool
		text  string
	}{
		"SERVFAIL": {func(m *dns.Msg) bool { m.Rcode = dns.RcodeServerFailure; return true }, "SERVFAIL looking up CAA for a.x.test"},
		"REFUSED":  {func(m *dns.Msg) bool { m.Rcode = dns.RcodeRefused; return true }, "REFUSED looking up CAA for a.x.test"},
		"NOTIMP":   {func(m *dns.Msg) bool { m.Rcode = dns.RcodeNotImplemented; return true }, "NOTIMP looking up CAA for a.x.test"},
		"FORMERR":  {func(m *dns.Msg) bool { m.Rcode = dns.RcodeFormatError; return true }, "FORMERR looking up CAA for a.x.test"},
		"silence":  {func(*dns.Msg) bool { return false }, "timed out looking up CAA for a.x.test"},
		"no response": {func(m *dns.Msg) bool { m.Rcode, m.Response = dns.RcodeSuccess, false; return true },
			"looking up CAA for a.x.test"},
		"truncated": {func(m *dns.Msg) bool { m.Rcode, m.Truncated = dns.RcodeSuccess, true; return true },
			"looking up CAA for a.x.test"},
		"referral": {func(m *dns.Msg) bool {
			m.Rcode = dns.RcodeSuccess
			m.Ns = []dns.RR{record("test. 0 IN NS ns.test.")}
			return true
		}, "no recursive DNS server looking up CAA for a.x.test"},
		"alias": {func(m *dns.Msg) bool {
			if m.Question[0].Name == "a.x.test." {
				m.Rcode, m.Answer = dns.RcodeSuccess, []dns.RR{record("a.x.test. 0 IN CNAME SECRET.test.")}
			} else {
				m.Rcode = dns.RcodeServerFailure
			}
			return true
		}, "SERVFAIL looking up CAA for a.x.test"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := zone(t, `0 issue "ca.test"`)
			if name == "silence" {
				w.config.Timeout = 300 * time.Millisecond
			}
			w.dns.respond(func(_ string, q dns.Question, reply *dns.Msg) bool {
				if q.Name == "x.test." || q.Name == "test." {
					return true
				}
				return c.spoil(reply)
			})
			o := w.ask(t, "a.x.test")
			wantProblem(t, o, acme.ErrDNS, c.text, "no certificate is issued")
			wantUntold(t, o, "SECRET", "secret")
			if !o.Retry {
				t.Error("not to be tried again")
			}
			if n := w.dns.count("udp x.test. CAA"); n > 0 {
				t.Error("climbed on")
			}
		})
	}
}

func TestCAAFailsClosedAbove(t *testing.T) {
	w := newCAAWorld(t)
	w.dns.set("a.x.test", "A", "10.0.0.1")
	w.dns.respond(func(_ string, q dns.Question, reply *dns.Msg) bool {
		if q.Name == "test." {
			reply.Rcode = dns.RcodeServerFailure
		}
		return true
	})
	wantProblem(t, w.ask(t, "a.x.test"), acme.ErrDNS, "SERVFAIL looking up CAA for test;")
}

// A name without records is told from a referral by any of these.
func TestReferral(t *testing.T) {
	ns, soa := record("test. 0 IN NS ns.test."), record("test. 0 IN SOA ns.test. h.test. 1 2 3 4 5")
	for name, c := range map[string]struct {
		change func(m *dns.Msg)
		want   bool
	}{
		"referral":      {func(*dns.Msg) {}, true},
		"authoritative": {func(m *dns.Msg) { m.Authoritative = true }, false},
		"recursive":     {func(m *dns.Msg) { m.RecursionAvailable = true }, false},
		"SOA":           {func(m *dns.Msg) { m.Ns = append(m.Ns, soa) }, false},
		"nothing":       {func(m *dns.Msg) { m.Ns = nil }, false},
		"answer":        {func(m *dns.Msg) { m.Answer = []dns.RR{ns} }, false},
		"NXDOMAIN":      {func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }, false},
	} {
		m := &dns.Msg{Ns: []dns.RR{ns}}
		c.change(m)
		if got := referral(m); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCAAUnreadableRecords(t *testing.T) {
	header := dns.RR_Header{Name: "x.test.", Rrtype: dns.TypeCAA, Class: dns.ClassINET}
	answer := func(rrs ...dns.RR) Outcome {
		w := newCAAWorld(t)
		w.dns.respond(func(_ string, q dns.Question, reply *dns.Msg) bool {
			reply.Rcode, reply.Answer = dns.RcodeSuccess, rrs
			return true
		})
		return w.ask(t, "x.test")
	}
	own := record(`x.test. 0 IN CAA 0 issue "ca.test"`)
	wantValid(t, answer(own))
	// RFC 8659, Section 4.1: "The tag length MUST be at least 1."
	wantProblem(t, answer(own, &dns.CAA{Hdr: header, Value: "ca.test"}), acme.ErrCAA, "at x.test", "no property tag")
	wantProblem(t, answer(own, &dns.RFC3597{Hdr: header, Rdata: ""}), acme.ErrCAA, "no property tag")
	wantProblem(t, answer(own, &dns.RFC3597{Hdr: header, Rdata: "00"}), acme.ErrCAA, "no property tag")
	// The tag ends behind the record.
	o := answer(own, &dns.RFC3597{Hdr: header, Rdata: "00ff69"})
	wantProblem(t, o, acme.ErrDNS, "looking up CAA for x.test")
	// A record of another class or name is none.
	chaos := record(`x.test. 0 CH CAA 0 issue ";"`)
	wantValid(t, answer(chaos, record(`y.test. 0 IN CAA 0 issue ";"`)))

	// Records that the library knows nothing of.
	w := newCAAWorld(t)
	p := w.prober(t)
	p.resolver.exchange = func(_ context.Context, _, _ string, m *dns.Msg) (*dns.Msg, error) {
		reply := new(dns.Msg).SetReply(m)
		reply.Answer = []dns.RR{&dns.RFC3597{Hdr: header, Rdata: "0001"}}
		return reply, nil
	}
	w.query.Identifier = target("x.test").Identifier
	wantProblem(t, p.CAA(t.Context(), w.query), acme.ErrDNS, "unreadable record")
}

// The value is octets, and not the text of a zone file: a backslash escapes
// nothing.
func TestCAAValueIsOctets(t *testing.T) {
	zone(t, `0 issue "ca.test\\059a=b"`).verdicts(t, false, false)
	zone(t, `0 issue "ca.test\059a=b"`).verdicts(t, true, true)
	zone(t, `0 issue "ca.test; a=\\"`).verdicts(t, true, true)
	zone(t, `0 issue "ca.test\000"`).verdicts(t, false, false)
	zone(t, `0 issue "ca.test\010"`).verdicts(t, false, false)
}

func TestCAAManyRecords(t *testing.T) {
	var records []string
	for i := range 200 {
		records = append(records, fmt.Sprintf(`0 issue "ca-%03d.example.net"`, i))
	}
	w := zone(t, append(records, `0 issue "ca.test"`)...)
	w.dns.respond(func(network string, _ dns.Question, reply *dns.Msg) bool {
		if network == "udp" {
			reply.Truncate(udpSize)
		}
		return true
	})
	w.verdicts(t, true, true)
	if w.dns.count("tcp x.test. CAA") != 2 {
		t.Errorf("asked %v", w.dns.questions())
	}
	w.dns.set("x.test", "CAA", records...)
	o := w.ask(t, "x.test")
	wantProblem(t, o, acme.ErrCAA, "only ca-000.example.net, ca-001.example.net, ca-002.")
	if n := len(o.Problem.Detail); n > 256 {
		t.Errorf("a detail of %d bytes", n)
	}
}

func TestCAADetail(t *testing.T) {
	for _, c := range []struct {
		records []string
		text    string
	}{
		{[]string{`0 issue "b.example"`, `0 issue "A.example"`, `0 issue "a.example"`, `0 issue ";"`},
			"the CAA records at x.test allow only a.example, b.example to issue for sub.x.test (issue); this CA is ca.test or ca.example"},
		{[]string{`0 issue ";"`, `0 issue "%%%%%"`},
			"the CAA records at x.test allow no CA to issue for sub.x.test (issue); this CA is ca.test or ca.example; values without the syntax of RFC 8659, Section 4.2: 1"},
		{[]string{`0 issue "ca.test; accounturi=https://other.test/1"`, `0 issue "a.example"`},
			"the CAA records at x.test allow this CA, but not this request, to issue for sub.x.test: accounturi names another account"},
		{[]string{`0 issue "ca.test; validationmethods=dns-01"`, `0 issue "ca.test; validationmethods=dns-01"`},
			"the CAA records at x.test allow this CA, but not this request, to issue for sub.x.test: validationmethods does not list how control was validated (that was http-01)"},
	} {
		o := zone(t, c.records...).ask(t, "sub.x.test")
		wantProblem(t, o, acme.ErrCAA)
		if o.Problem != nil && o.Problem.Detail != c.text {
			t.Errorf("%v:\n got %s\nwant %s", c.records, o.Problem.Detail, c.text)
		}
	}
	wantProblem(t, zone(t, `0 issuewild ";"`).ask(t, "*.x.test"), acme.ErrCAA, "to issue for *.x.test (issuewild)")
	// What was found is in the trace.
	o := zone(t, `0 issue "a.example; a=SECRET"`).ask(t, "sub.x.test")
	wantUntold(t, o, "SECRET")
	wantTraced(t, o, `found 0 issue "a.example; a=SECRET"`)
	wantTraced(t, o, "sub.x.test  no CAA records")
}

// A CA without a name is nobody in CAA records.
func TestCAAWithoutIdentities(t *testing.T) {
	const setting = "CERTCTL_ACME_SERVER_CAA_IDENTITIES"
	for _, identities := range [][]string{nil, {}, {""}} {
		for _, value := range []string{"ca.test", ";", "", "%%%%%"} {
			w := zone(t, fmt.Sprintf("0 issue %q", value))
			w.query.Identities = identities
			o := w.ask(t, "x.test")
			wantProblem(t, o, acme.ErrCAA, "at x.test ")
			if told := strings.Contains(o.Problem.Detail, setting); told != (len(identities) == 0) {
				t.Errorf("%q, %q: %s", identities, value, o.Problem.Detail)
			}
		}
	}
	// Where nothing restricts, it needs none.
	w := zone(t, `0 issuewild "ca.test"`)
	w.query.Identities = nil
	wantValid(t, w.ask(t, "x.test"))
	wantValid(t, newCAAWorld(t).ask(t, "x.test"))
}

func TestCAAParameters(t *testing.T) {
	for value, want := range map[string]bool{
		"ca.test; accounturi=" + testAccount:                                           true,
		"ca.test; accounturi=https://acme.ca.test/acme/new-account/1":                  true,
		"ca.test; AccountURI=" + testAccount:                                           true,
		"ca.test; accounturi=" + testAccount + "0":                                     false,
		"ca.test; accounturi=" + testAccount[:len(testAccount)-1]:                      false,
		"ca.test; accounturi=HTTPS://acme.ca.test/acme/account/1":                      false,
		"ca.test; AccountURI=https://acme.ca.test/acme/account/2":                      false,
		"ca.test; accounturi=":                                                         false,
		"ca.test; accounturi=" + testAccount + "; accounturi=" + testAccount:           false,
		"ca1.example.net; accounturi=" + testAccount:                                   false,
		"; accounturi=" + testAccount:                                                  false,
		"ca.test; validationmethods=http-01":                                           true,
		"ca.test; validationmethods=dns-01,http-01,xyz-01":                             true,
		"ca.test; validationmethods=dns-01":                                            false,
		"ca.test; ValidationMethods=dns-01":                                            false,
		"ca.test; validationmethods=":                                                  false,
		"ca.test; validationmethods=HTTP-01":                                           false,
		"ca.test; validationmethods=http-01,":                                          false,
		"ca.test; validationmethods=,http-01":                                          false,
		"ca.test; validationmethods=http-01,dns_01":                                    false,
		"ca.test; validationmethods=http-01; validationmethods=http-01":                false,
		"ca1.example.net; validationmethods=http-01":                                   false,
		"ca.test; accounturi=" + testAccount + "; validationmethods=http-01":           true,
		"ca.test; accounturi=" + testAccount + "; validationmethods=dns-01":            false,
		"ca.test; accounturi=https://other.test/account/1; validationmethods=http-01":  false,
		"ca.test; validationmethods=http-01; policy=ev; accounturi=" + testAccount:     true,
		"ca.test; accounturi=" + testAccount + "; policy=ev; validationmethods=dns-01": false,
	} {
		zone(t, fmt.Sprintf("0 issue %q", value)).verdicts(t, want, want)
		// Both properties have the parameters.
		zone(t, fmt.Sprintf("0 issuewild %q", value)).verdicts(t, true, want)
	}
}

// RFC 8657, Appendix A: one record for each account or method, and both tied.
func TestCAAParametersOfSeveralRecords(t *testing.T) {
	w := zone(t,
		`0 issue "ca.test; accounturi=`+testAccount+`; validationmethods=dns-01"`,
		`0 issue "ca.test; accounturi=https://acme.ca.test/acme/account/2; validationmethods=http-01"`)
	w.verdicts(t, false, false)
	w.query.Methods = []string{"dns-01"}
	w.verdicts(t, true, true)
	w.query.AccountURLs = []string{"https://acme.ca.test/acme/account/2"}
	w.verdicts(t, false, false)
	w.query.Methods = []string{"http-01"}
	w.verdicts(t, true, true)
	w.query.Methods = []string{"tls-alpn-01", "http-01"}
	w.verdicts(t, true, true)
	w.query.AccountURLs = nil
	w.verdicts(t, false, false)
}

// RFC 8657, Section 4: a method that is not one of ACME has a label too.
func TestCAATrust(t *testing.T) {
	w := zone(t, `0 issue "ca.test; validationmethods=dns-01,ca-certctl-trust"`)
	w.query.Methods = []string{MethodTrust}
	w.verdicts(t, true, true)
	w.query.Methods = nil
	w.verdicts(t, false, false)
	w.dns.set("x.test", "CAA", `0 issue "ca.test; validationmethods=dns-01,http-01,tls-alpn-01"`)
	w.query.Methods = []string{MethodTrust}
	w.verdicts(t, false, false)
	w.dns.set("x.test", "CAA", `0 issue "ca.test"`)
	w.query.Methods = nil
	w.verdicts(t, true, true)
	w.query.AccountURLs, w.query.Methods = []string{""}, []string{""}
	w.dns.set("x.test", "CAA", `0 issue "ca.test; accounturi="`)
	w.verdicts(t, false, false)
	w.dns.set("x.test", "CAA", `0 issue "ca.test; validationmethods="`)
	w.verdicts(t, false, false)
}

// RFC 8659, Section 5.4: a resolver that validates is not asked to leave it.
func TestCAAQuestion(t *testing.T) {
	w := zone(t, `0 issue "ca.test"`)
	p := w.prober(t)
	var asked []*dns.Msg
	p.resolver.exchange = func(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
		asked = append(asked, m.Copy())
		return exchange(ctx, network, server, m)
	}
	w.query.Identifier = target("x.test").Identifier
	wantValid(t, p.CAA(t.Context(), w.query))
	if len(asked) != 1 || asked[0].CheckingDisabled || !asked[0].RecursionDesired {
		t.Errorf("asked %v", asked)
	}
}

// The longest chain of names costs one question for each label, and no more
// time than a probe has.
func TestCAABounds(t *testing.T) {
	w := newCAAWorld(t)
	name := strings.TrimSuffix(strings.Repeat("a.", 126), ".")
	wantValid(t, w.ask(t, name))
	if n := len(w.dns.questions()); n != 126 {
		t.Errorf("%d questions", n)
	}
	w.config.Timeout = 250 * time.Millisecond
	w.dns.respond(func(string, dns.Question, *dns.Msg) bool {
		time.Sleep(20 * time.Millisecond)
		return true
	})
	begin := time.Now()
	o := w.ask(t, name)
	wantProblem(t, o, acme.ErrDNS, "timed out")
	if d := time.Since(begin); d > time.Second || !o.Retry {
		t.Errorf("after %v, retry %v", d, o.Retry)
	}
	if len(o.Trace) > maxSteps {
		t.Errorf("%d steps", len(o.Trace))
	}
}

func TestCAAInterrupted(t *testing.T) {
	w := newCAAWorld(t)
	w.dns.respond(func(string, dns.Question, *dns.Msg) bool { return false })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	w.query.Identifier = target("x.test").Identifier
	o := w.prober(t).CAA(ctx, w.query)
	wantProblem(t, o, acme.ErrDNS, "interrupted")
	if !o.Retry {
		t.Error("not to be tried again")
	}
}

func TestParseIssueValue(t *testing.T) {
	for in, want := range map[string]string{
		"":                                "{ []}",
		" \t ":                            "{ []}",
		";":                               "{ []}",
		" ; \t":                           "{ []}",
		"ca.test":                         "{ca.test []}",
		"\t CA.Test \t":                   "{ca.test []}",
		"ca":                              "{ca []}",
		"1.2-3.x--y":                      "{1.2-3.x--y []}",
		"ca.test;":                        "{ca.test []}",
		"ca.test ; \t":                    "{ca.test []}",
		"ca.test;a=b":                     "{ca.test [{a b}]}",
		"ca.test \t;\ta\t= b ; c-1=d=e\t": "{ca.test [{a b} {c-1 d=e}]}",
		"ca.test; A=B":                    "{ca.test [{a B}]}",
		"ca.test; a=":                     "{ca.test [{a }]}",
		"ca.test; a=; b=":                 "{ca.test [{a } {b }]}",
		";a=b":                            "{ [{a b}]}",
		"ca.test; a=!:<~\\\"'":            "{ca.test [{a !:<~\\\"'}]}",

		"%%%%%":              "",
		"ca.test.":           "",
		".ca.test":           "",
		"ca..test":           "",
		".":                  "",
		"-ca.test":           "",
		"ca-.test":           "",
		"ca_1.test":          "",
		"*.ca.test":          "",
		"ca.test b":          "",
		"ca .test":           "",
		"ca.test,b.test":     "",
		"ca.test a=b":        "",
		"ca.tést":            "",
		"ca.te\u017ft":       "",
		"ca.test\n":          "",
		"ca.test\x00":        "",
		"\u00a0ca.test":      "",
		"ca.test;;":          "",
		"ca.test; a=b;":      "",
		"ca.test; a=b; ":     "",
		"ca.test; ; a=b":     "",
		"ca.test; a":         "",
		"ca.test; =b":        "",
		"ca.test; a b=c":     "",
		"ca.test; a=b c":     "",
		"ca.test; a=b\tc":    "",
		"ca.test; a_b=c":     "",
		"ca.test; -a=c":      "",
		"ca.test; a-=c":      "",
		"ca.test; a=\x7f":    "",
		"ca.test; a=\x1f":    "",
		"ca.test; a=é":       "",
		"ca.test; a=\xff":    "",
		"ca.test; a.b=c":     "",
		"ca.test; \u00a0a=c": "",
	} {
		v, ok := parseIssueValue(in)
		got := ""
		if ok {
			got = fmt.Sprint(v)
		}
		if got != want {
			t.Errorf("%q: %q; want %q", in, got, want)
		}
	}
}

// RFC 8657, Section 4: "zero or more validation method labels".
func TestParseCAAMethods(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "[]",
		"dns-01":            "[dns-01]",
		"dns-01,xyz-01":     "[dns-01 xyz-01]",
		"A-z9,-,ca-foo":     "[A-z9 - ca-foo]",
		",":                 "",
		"dns-01,":           "",
		",dns-01":           "",
		"dns-01,,xyz-01":    "",
		"dns-01, xyz-01":    "",
		"dns_01":            "",
		"dns.01":            "",
		"dns-01\x00":        "",
		"dns-01\u017f":      "",
		"https://x.test/01": "",
	} {
		labels, ok := parseMethods(in)
		got := ""
		if ok {
			got = fmt.Sprint(labels)
		}
		if got != want {
			t.Errorf("%q: %q; want %q", in, got, want)
		}
	}
}

// The grammar of RFC 8659, Section 4.2, written as it stands there.
var issueValueGrammar = func() *regexp.Regexp {
	const (
		space     = "[ \t]*"
		word      = "[A-Za-z0-9](?:-*[A-Za-z0-9])*"
		domain    = word + `(?:\.` + word + ")*"
		value     = `[\x21-\x3a\x3c-\x7e]*`
		parameter = word + space + "=" + space + value
		list      = "(?:" + parameter + space + ";" + space + ")*" + parameter
	)
	return regexp.MustCompile(`\A` + space + "(?:(" + domain + ")" + space + ")?(?:;" + space + "(?:(" + list + ")" + space + `)?)?\z`)
}()

func FuzzIssueValue(f *testing.F) {
	for _, s := range []string{
		"", ";", "ca.test", "%%%%%", "ca1.example.net; account=230123", " \tca-1.test\t; a = b=c ; d-e= \t", "ca.test; a=b;",
		"example.net; accounturi=https://example.net/account/1234; validationmethods=dns-01,ca-foo",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, ok := parseIssueValue(s)
		match := issueValueGrammar.FindStringSubmatch(s)
		if ok != (match != nil) {
			t.Fatalf("%q: %v; the grammar says %v", s, ok, match != nil)
		}
		if !ok {
			if v.issuer != "" || v.parameters != nil {
				t.Fatalf("%q: refused, and yet %v", s, v)
			}
			return
		}
		if v.issuer != strings.ToLower(match[1]) {
			t.Fatalf("%q: issuer %q; want %q", s, v.issuer, match[1])
		}
		n := 0
		if match[2] != "" {
			n = strings.Count(match[2], ";") + 1
		}
		if len(v.parameters) != n {
			t.Fatalf("%q: %d parameters; want %d", s, len(v.parameters), n)
		}
		// What was parsed, written again, means the same.
		text := v.issuer
		for _, p := range v.parameters {
			text += ";" + p.tag + "=" + p.value
			if labels, ok := parseMethods(p.value); ok && strings.Join(labels, ",") != p.value {
				t.Fatalf("%q: labels %q of %q", s, labels, p.value)
			}
		}
		if again, ok := parseIssueValue(text); !ok || fmt.Sprint(again) != fmt.Sprint(v) {
			t.Fatalf("%q: %v; written as %q: %v", s, v, text, again)
		}
	})
}
