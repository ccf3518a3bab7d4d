package validate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/internal/acme"
)

const (
	maxAddresses   = 4 // of one name that are dialled
	maxCNAMEs      = 8 // followed from one name
	maxRounds      = 2 // in which every server is asked
	maxTXTRecords  = 100
	udpSize        = 1232 // an answer that fits into an unfragmented packet
	answerTimeout  = 2 * time.Second
	maxNameLength  = 253
	defaultDNSPort = "53"
)

// A resolver asks recursive DNS servers.
type resolver struct {
	// servers returns those to ask as host:port, in order.
	servers func() ([]string, error)
	// hosts returns the addresses that this machine gives a name without
	// asking; nil when it has no say.
	hosts func(name string) []netip.Addr
	// exchange asks one server over "udp" or "tcp".
	exchange func(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error)
}

// newResolver makes a resolver that asks these servers, or those of the system
// when there are none.
func newResolver(servers []string) (*resolver, error) {
	if len(servers) == 0 {
		return systemResolver(resolvConf, hostsFile), nil
	}
	list := make([]string, len(servers))
	var errs []error
	for i, s := range servers {
		var err error
		list[i], err = serverAddress(s)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &resolver{
		servers:  func() ([]string, error) { return list, nil },
		exchange: exchange,
	}, nil
}

// serverAddress checks a configured host:port. An address without a port has
// that of DNS.
func serverAddress(s string) (string, error) {
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return net.JoinHostPort(addr.String(), defaultDNSPort), nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("resolver %q is not host:port: %w", s, err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
		return "", fmt.Errorf("resolver %q is not host:port", s)
	}
	return s, nil
}

// exchange sends m and waits for the answer to it, no longer than ctx.
func exchange(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
	client := &dns.Client{Net: network, Timeout: answerTimeout}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// The client knows the deadline of ctx, but not its cancellation.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	answer, _, err := client.ExchangeWithConnContext(ctx, m, conn)
	return answer, err
}

// A lookupError is a question that has no usable answer.
type lookupError struct {
	name   string
	qtype  uint16
	rcode  int    // what the servers said, when they said something
	reason string // what happened, when they did not
	retry  bool   // another time there may be an answer
}

func (e *lookupError) Error() string {
	what := dns.TypeToString[e.qtype]
	if e.reason != "" {
		return fmt.Sprintf("%s looking up %s for %s", e.reason, what, clip(e.name, maxNameInText))
	}
	return fmt.Sprintf("%s looking up %s for %s", dns.RcodeToString[e.rcode], what, clip(e.name, maxNameInText))
}

func (e *lookupError) failure() *failure {
	return failf(acme.ErrDNS, "DNS problem: %v", e).orRetry(e.retry)
}

// addresses resolves name to the addresses that are to be dialled: IPv6 first,
// not more than maxAddresses, and not only of one family when there are both.
func (r *resolver) addresses(ctx context.Context, trace *recorder, name string) ([]netip.Addr, *lookupError) {
	if r.hosts != nil {
		if addrs := r.hosts(name); len(addrs) > 0 {
			trace.add(StepResolve, name, "", "from this machine: %v", addrs)
			return pick(addrs), nil
		}
	}
	type result struct {
		addrs []netip.Addr
		err   *lookupError
	}
	results := make(chan result, 1)
	go func() {
		addrs, err := r.family(ctx, trace, name, dns.TypeAAAA)
		results <- result{addrs, err}
	}()
	addrs, err := r.family(ctx, trace, name, dns.TypeA)
	v6 := <-results
	all := pick(append(v6.addrs, addrs...))
	switch {
	case len(all) > 0:
		return all, nil
	case err != nil:
		return nil, err
	case v6.err != nil:
		return nil, v6.err
	default:
		return nil, &lookupError{name: name, qtype: dns.TypeA, reason: "no A or AAAA record found"}
	}
}

func (r *resolver) family(ctx context.Context, trace *recorder, name string, qtype uint16) ([]netip.Addr, *lookupError) {
	records, _, err := r.lookup(ctx, trace, name, qtype)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, rr := range records {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A.To4()
		case *dns.AAAA:
			ip = rr.AAAA.To16()
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	trace.add(StepResolve, name, "", "%s: %v", dns.TypeToString[qtype], addrs)
	return addrs, nil
}

// pick orders addresses by family and bounds them.
func pick(addrs []netip.Addr) []netip.Addr {
	var v6, v4 []netip.Addr
	for _, a := range addrs {
		switch {
		case slices.Contains(v6, a) || slices.Contains(v4, a):
		case a.Is4():
			v4 = append(v4, a)
		default:
			v6 = append(v6, a)
		}
	}
	six := min(len(v6), max(maxAddresses/2, maxAddresses-len(v4)))
	four := min(len(v4), maxAddresses-six)
	return append(v6[:six:six], v4[:four]...)
}

// texts returns the TXT records of name, each with its strings joined, and
// whether they were found under another name.
func (r *resolver) texts(ctx context.Context, trace *recorder, name string) (texts []string, aliased bool, _ *lookupError) {
	records, canonical, err := r.lookup(ctx, trace, name, dns.TypeTXT)
	if err != nil {
		return nil, false, err
	}
	for _, rr := range records {
		if txt, ok := rr.(*dns.TXT); ok && len(texts) < maxTXTRecords {
			texts = append(texts, unescape(strings.Join(txt.Txt, "")))
		}
	}
	trace.add(StepResolve, name, "", "TXT: %q", texts)
	return texts, canonical != dns.CanonicalName(name), nil
}

// unescape undoes the escapes of presentation format, in which the DNS library
// gives text.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		if i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	return b.String()
}

// lookup returns the records of the type at the end of the name's chain of
// CNAMEs, and the name there. Servers usually answer with the whole chain;
// where it ends early they are asked again. No records and no error means that
// the name exists and has none.
func (r *resolver) lookup(ctx context.Context, trace *recorder, name string, qtype uint16) ([]dns.RR, string, *lookupError) {
	current := dns.CanonicalName(name)
	followed := 0
	for {
		answer, err := r.ask(ctx, trace, current, qtype)
		if err != nil {
			return nil, "", err
		}
		asked := current
		for {
			records, next := at(answer, current, qtype)
			if len(records) > 0 {
				return records, current, nil
			}
			if next == "" {
				break
			}
			if followed++; followed > maxCNAMEs {
				return nil, "", &lookupError{name: name, qtype: qtype, reason: fmt.Sprintf("more than %d CNAMEs", maxCNAMEs)}
			}
			trace.add(StepResolve, current, "", "CNAME %s", next)
			current = next
		}
		if current == asked {
			return nil, current, nil
		}
	}
}

// at finds in an answer what stands at name: records of the type, or else the
// target of a CNAME.
func at(answer *dns.Msg, name string, qtype uint16) (records []dns.RR, alias string) {
	for _, rr := range answer.Answer {
		h := rr.Header()
		if h.Class != dns.ClassINET || dns.CanonicalName(h.Name) != name {
			continue
		}
		if h.Rrtype == qtype {
			records = append(records, rr)
		} else if c, ok := rr.(*dns.CNAME); ok {
			alias = dns.CanonicalName(c.Target)
		}
	}
	return records, alias
}

// ask puts one question to the servers, in rounds, until one gives a usable
// answer. That a name does not exist is an answer, and an error here.
func (r *resolver) ask(ctx context.Context, trace *recorder, name string, qtype uint16) (*dns.Msg, *lookupError) {
	fail := func(reason string, retry bool) *lookupError {
		return &lookupError{name: strings.TrimSuffix(name, "."), qtype: qtype, reason: reason, retry: retry}
	}
	if _, ok := dns.IsDomainName(name); !ok || len(name) > maxNameLength+1 {
		return nil, fail("a name that is too long", false)
	}
	servers, err := r.servers()
	if err != nil {
		trace.add(StepResolve, name, "", "no DNS servers: %v", err)
		return nil, fail("no DNS server known", true)
	}
	last := fail("no DNS server known", true)
	for range maxRounds {
		for _, server := range servers {
			answer, err := r.askServer(ctx, server, name, qtype)
			what := dns.TypeToString[qtype]
			switch {
			case err != nil:
				trace.add(StepResolve, name, server, "%s: %v", what, err)
				last = fail(unanswered(err), true)
			case referral(answer):
				trace.add(StepResolve, name, server, "%s: a referral; the server is not recursive", what)
				last = fail("no recursive DNS server", true)
			case answer.Rcode == dns.RcodeSuccess:
				return answer, nil
			default:
				trace.add(StepResolve, name, server, "%s: %s", what, dns.RcodeToString[answer.Rcode])
				last = fail("", answer.Rcode != dns.RcodeNameError)
				last.rcode = answer.Rcode
				if answer.Rcode == dns.RcodeNameError {
					return nil, last
				}
			}
			if ctx.Err() != nil {
				return nil, fail("timed out", true)
			}
		}
	}
	return nil, last
}

// referral reports whether an answer says no more than who else to ask
// (RFC 2308, Section 2.1). It looks like that of a name without records.
func referral(answer *dns.Msg) bool {
	if answer.Rcode != dns.RcodeSuccess || answer.Authoritative || answer.RecursionAvailable || len(answer.Answer) > 0 {
		return false
	}
	others := false
	for _, rr := range answer.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			return false
		case dns.TypeNS:
			others = true
		}
	}
	return others
}

// unanswered says in one word for the client why no answer came.
func unanswered(err error) string {
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "timed out"
	}
	return "no DNS server reachable"
}

// askServer asks one server over UDP, and over TCP when the answer did not fit.
func (r *resolver) askServer(ctx context.Context, server, name string, qtype uint16) (*dns.Msg, error) {
	question := new(dns.Msg).SetQuestion(name, qtype)
	question.SetEdns0(udpSize, false)
	var answer *dns.Msg
	for _, network := range []string{"udp", "tcp"} {
		var err error
		answer, err = r.exchange(ctx, network, server, question)
		if err == nil && answer.Rcode == dns.RcodeFormatError && question.IsEdns0() != nil {
			// A server from before RFC 6891.
			question.Extra = nil
			answer, err = r.exchange(ctx, network, server, question)
		}
		if err != nil {
			return nil, fmt.Errorf("over %s: %w", network, err)
		}
		if !answers(answer, question) {
			return nil, fmt.Errorf("over %s: the answer is to another question", network)
		}
		if !answer.Truncated {
			return answer, nil
		}
	}
	return nil, errors.New("the answer is truncated even over tcp")
}

func answers(answer, question *dns.Msg) bool {
	if !answer.Response || answer.Id != question.Id || len(answer.Question) != 1 {
		return false
	}
	got, want := answer.Question[0], question.Question[0]
	return strings.EqualFold(got.Name, want.Name) && got.Qtype == want.Qtype && got.Qclass == want.Qclass
}
