// Package validate probes the outside world: it finds out whether whoever holds
// an ACME account controls an identifier (RFC 8555, Section 8), and whether CAA
// records let this CA issue for it (RFC 8659).
//
// A probe is a request that a stranger makes this server send to an address of
// the stranger's choice, so the package is written against server-side request
// forgery (RFC 8555, Section 10.4):
//
//   - A guard looks at every address in the moment it is dialled, after all
//     name resolution. A name that resolves to something else the second time,
//     or a redirect, gains nothing.
//   - Redirects are followed by the rules of redirect.go, each one resolved and
//     guarded anew.
//   - Time, bytes, redirects, addresses and CNAMEs are bounded.
//   - The client is told the address, the step and the status, and at most 64
//     bytes of what the identifier itself answered; nothing that another host
//     answered. Everything else is in the trace, which is for operators.
//
// A Prober keeps no state between probes and limits no concurrency; both are
// the caller's.
package validate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/certctl/certctl/internal/acme"
)

const (
	defaultTimeout   = 10 * time.Second
	defaultUserAgent = "certctl (ACME validation)"
	defaultHTTPPort  = 80
	defaultTLSPort   = 443
)

// Config is what a Prober is made from. The zero value of every field is a
// usable default.
type Config struct {
	// Resolvers are recursive DNS servers as host:port, asked in this order.
	// When empty, the system's are used: /etc/resolv.conf and /etc/hosts.
	Resolvers []string
	// HTTP01Port and TLSALPN01Port are where validation connects, 80 and 443
	// when zero.
	HTTP01Port, TLSALPN01Port int
	// Allow names address ranges that may be dialled although they are refused
	// by default; Deny refuses more. The longer prefix wins, and Deny wins
	// between two of equal length.
	Allow, Deny []netip.Prefix
	// Self returns where certctl and its database listen. These are never
	// dialled, whatever Allow says. An unspecified address stands for every
	// local address with that port.
	Self func() []netip.AddrPort
	// Timeout bounds a whole probe, 10 seconds when zero.
	Timeout time.Duration
	// UserAgent is sent with HTTP requests.
	UserAgent string
	// Now stamps the trace, time.Now when nil.
	Now func() time.Time
}

// A Prober runs challenges and checks CAA records. It is safe for concurrent use.
type Prober struct {
	resolver  *resolver
	guard     *guard
	httpPort  uint16
	tlsPort   uint16
	timeout   time.Duration
	userAgent string
	now       func() time.Time
}

// New checks the configuration and returns a Prober that is ready.
func New(c Config) (*Prober, error) {
	if c.HTTP01Port == 0 {
		c.HTTP01Port = defaultHTTPPort
	}
	if c.TLSALPN01Port == 0 {
		c.TLSALPN01Port = defaultTLSPort
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.UserAgent == "" {
		c.UserAgent = defaultUserAgent
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	res, resErr := newResolver(c.Resolvers)
	g, guardErr := newGuard(c.Allow, c.Deny, c.Self)
	err := errors.Join(
		checkPort("http-01", c.HTTP01Port),
		checkPort("tls-alpn-01", c.TLSALPN01Port),
		resErr,
		guardErr,
	)
	if c.Timeout < 0 {
		err = errors.Join(err, fmt.Errorf("validation timeout %v is negative", c.Timeout))
	}
	if strings.ContainsAny(c.UserAgent, "\r\n") {
		err = errors.Join(err, errors.New("the validation user agent contains a line break"))
	}
	if err != nil {
		return nil, err
	}
	return &Prober{
		resolver:  res,
		guard:     g,
		httpPort:  uint16(c.HTTP01Port),
		tlsPort:   uint16(c.TLSALPN01Port),
		timeout:   c.Timeout,
		userAgent: c.UserAgent,
		now:       c.Now,
	}, nil
}

func checkPort(challenge string, port int) error {
	if port < 1 || port > 65535 {
		return fmt.Errorf("%s port %d is not in 1..65535", challenge, port)
	}
	return nil
}

// A Target is one challenge to be validated.
type Target struct {
	Identifier       acme.Identifier // canonical, never a wildcard
	Token            string
	KeyAuthorization string // RFC 8555, Section 8.1
	// RedirectAllowed reports whether an http-01 redirect may lead to another
	// host than the identifier's: a canonical DNS name or a bare IP address.
	// When nil, none may.
	RedirectAllowed func(host string) bool
}

// An Outcome is what came of a probe.
type Outcome struct {
	// Problem is what the client is told; nil means validated.
	Problem *acme.Problem
	// Retry is set when the failure may pass by itself, such as a refused
	// connection to a web server that is still starting.
	Retry bool
	// Trace is what happened, step by step, for operators only.
	Trace []Step
}

// A failure is why a probe did not validate. Its detail is for the client and
// so holds nothing that only an operator may read.
type failure struct {
	problem acme.ErrorType
	detail  string
	retry   bool
}

func failf(t acme.ErrorType, format string, args ...any) *failure {
	return &failure{problem: t, detail: fmt.Sprintf(format, args...)}
}

// orRetry sets whether another try may succeed.
func (f *failure) orRetry(retry bool) *failure {
	f.retry = retry
	return f
}

// A probe is one validation under way.
type probe struct {
	*Prober
	Target
	name  string     // the identifier, when it is a DNS name
	addr  netip.Addr // the identifier, when it is an IP address
	trace *recorder
}

// run validates t with one method, within the time that a probe has.
func (p *Prober) run(ctx context.Context, t Target, method func(*probe, context.Context) *failure) Outcome {
	pr := &probe{Prober: p, Target: t, trace: &recorder{now: p.now}}
	if f := pr.prepare(); f != nil {
		return Outcome{Problem: acme.NewProblem(f.problem, "%s", f.detail)}
	}
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	f := method(pr, limited)
	out := Outcome{Trace: pr.trace.take()}
	switch {
	case f == nil:
	case ctx.Err() != nil:
		// The caller gave up, not the identifier.
		out.Problem = acme.NewProblem(acme.ErrConnection, "the validation was interrupted")
		out.Retry = true
	default:
		out.Problem = acme.NewProblem(f.problem, "%s", f.detail)
		out.Retry = f.retry
	}
	return out
}

// prepare checks that the target can be probed at all. An empty key
// authorization would be matched by an empty answer.
func (pr *probe) prepare() *failure {
	id := pr.Identifier
	if !wellFormedToken(pr.Token) || len(pr.KeyAuthorization) <= len(pr.Token)+1 ||
		!strings.HasPrefix(pr.KeyAuthorization, pr.Token+".") {
		return failf(acme.ErrServerInternal, "the key authorization of this challenge is not well-formed")
	}
	canonical, err := acme.ParseIdentifier(string(id.Type), id.Value)
	if err != nil || canonical != id || id.Wildcard() {
		return failf(acme.ErrMalformed, "the identifier %q cannot be validated as it stands", id.String())
	}
	switch id.Type {
	case acme.IP:
		pr.addr, err = netip.ParseAddr(id.Value)
		if err != nil {
			return failf(acme.ErrMalformed, "%q is not an IP address", id.Value)
		}
	default:
		pr.name = id.Value
	}
	return nil
}

// wellFormedToken reports whether s is in the base64url alphabet, without
// padding, as RFC 8555, Section 8.3 asks of a token. It goes into a URL as it
// is.
func wellFormedToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return s != ""
}
