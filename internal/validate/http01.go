package validate

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"

	"github.com/certctl/certctl/internal/acme"
)

const (
	wellKnown      = "/.well-known/acme-challenge/" // RFC 8555, Section 8.3
	maxRedirects   = 10
	maxHeaderBytes = 16 << 10 // status line and header fields, of all responses of one request
	maxBodyBytes   = 1 << 10  // that can be a key authorization
	maxBodyRead    = 4 << 10  // with the white space at its end
	maxInterim     = 5        // 1xx responses
)

// errTooMuch is the error of reading more than a bound.
var errTooMuch = errors.New("more bytes than are read")

// HTTP01 runs the http-01 challenge (RFC 8555, Section 8.3; RFC 8738,
// Section 5 for IP addresses).
func (p *Prober) HTTP01(ctx context.Context, t Target) Outcome {
	return p.run(ctx, t, (*probe).http01)
}

func (pr *probe) http01(ctx context.Context) *failure {
	h := pr.firstHop()
	for redirects := 0; ; redirects++ {
		answer, f := pr.get(ctx, h)
		if f != nil {
			return pr.told(h, f)
		}
		if !answer.redirects() {
			return pr.told(h, pr.judge(h, answer))
		}
		next, f := pr.follow(h, answer, redirects+1)
		if f != nil {
			return pr.told(h, f)
		}
		h = next
	}
}

// An answer is the bounded part of an HTTP response that matters.
type answer struct {
	addr     netip.AddrPort
	status   int
	location string // of a redirect
	body     []byte // of anything else
	tooLong  bool   // the body goes on after maxBodyRead
}

func (a *answer) redirects() bool {
	switch a.status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// get makes one request to one of the addresses of the hop's host.
func (pr *probe) get(ctx context.Context, h *hop) (*answer, *failure) {
	addrs := []netip.Addr{h.addr}
	if !h.addr.IsValid() {
		var err *lookupError
		if addrs, err = pr.resolver.addresses(ctx, pr.trace, h.name); err != nil {
			return nil, err.failure()
		}
	}
	conn, dialErr := pr.connect(ctx, addrs, h.port)
	if dialErr != nil {
		return nil, failf(acme.ErrConnection, "connecting for %s: %v", h, dialErr).orRetry(dialErr.transient())
	}
	defer conn.Close()
	var stream io.ReadWriter = conn
	if h.url.Scheme == "https" {
		// The certificate may be the very one that is to be replaced.
		secured, err := pr.handshake(ctx, conn, &tls.Config{
			ServerName:         h.name,
			InsecureSkipVerify: true,
			NextProtos:         []string{"http/1.1"},
		})
		if err != nil {
			return nil, tlsFailure(fmt.Sprintf("TLS with %v for %s", conn.addr, h), err)
		}
		stream = secured
	}
	a, err := pr.exchange(ctx, stream, conn.addr, h)
	if err != nil {
		pr.trace.add(StepResponse, h.url.String(), conn.addr.String(), "%v", err)
		return nil, connectionFailure(fmt.Sprintf("reading %s from %v", h, conn.addr), err)
	}
	return a, nil
}

// exchange sends the request and reads the response. It speaks HTTP/1.1 on a
// connection that is closed afterwards, so there are no proxies, no cookies and
// no connections kept to be switched off.
func (pr *probe) exchange(ctx context.Context, stream io.ReadWriter, addr netip.AddrPort, h *hop) (*answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url.String(), nil)
	if err != nil {
		return nil, err
	}
	request.Close = true
	request.Header.Set("User-Agent", pr.userAgent)
	request.Header.Set("Accept", "*/*")
	if err := request.Write(stream); err != nil {
		return nil, err
	}
	pr.trace.add(StepRequest, h.url.String(), addr.String(), "GET, Host: %s", request.URL.Host)

	bounded := &boundedReader{r: stream, left: maxHeaderBytes}
	response, err := readResponse(bufio.NewReader(bounded), request)
	if err != nil {
		return nil, bounded.cause(err)
	}
	defer response.Body.Close()
	a := &answer{addr: addr, status: response.StatusCode, location: response.Header.Get("Location")}
	pr.trace.add(StepResponse, h.url.String(), addr.String(), "%s", response.Status)
	if a.redirects() {
		return a, nil
	}
	// Chunks cost more bytes than they carry.
	bounded.left = 4 * maxBodyRead
	a.body, err = io.ReadAll(io.LimitReader(response.Body, maxBodyRead+1))
	if err != nil {
		return nil, fmt.Errorf("body: %w", bounded.cause(err))
	}
	a.tooLong = len(a.body) > maxBodyRead
	a.body = bytes.TrimRight(a.body, " \t\r\n\v\f")
	pr.trace.add(StepBody, h.url.String(), addr.String(), "%s", quote(a.body))
	return a, nil
}

// readResponse reads up to the final response.
func readResponse(r *bufio.Reader, request *http.Request) (*http.Response, error) {
	for range maxInterim {
		response, err := http.ReadResponse(r, request)
		if err != nil {
			return nil, err
		}
		if response.StatusCode >= 200 || response.StatusCode == http.StatusSwitchingProtocols {
			return response, nil
		}
	}
	return nil, errors.New("too many interim responses")
}

// A boundedReader fails, instead of ending, when more than its bound is read:
// an answer that was cut off must not look complete.
type boundedReader struct {
	r    io.Reader
	left int
	err  error
}

func (b *boundedReader) Read(p []byte) (n int, err error) {
	if b.left == 0 {
		err = errTooMuch
	} else {
		n, err = b.r.Read(p[:min(len(p), b.left)])
		b.left -= n
	}
	b.err = err
	return n, err
}

// cause is the error of reading where there was one. A parser may have
// complained of the torn line in front of it instead.
func (b *boundedReader) cause(err error) error {
	if b.err != nil && b.err != io.EOF {
		return b.err
	}
	return err
}

// judge compares the final answer with the key authorization. "The server
// SHOULD ignore whitespace characters at the end of the body" (RFC 8555,
// Section 8.3).
func (pr *probe) judge(h *hop, a *answer) *failure {
	said := ""
	if !h.redirected() {
		said = "; the body begins " + quote(a.body)
		if len(a.body) == 0 {
			said = "; the body is empty"
		}
	}
	switch {
	case a.status != http.StatusOK:
		return failf(acme.ErrUnauthorized, "%s at %v: status %d instead of 200%s", h, a.addr, a.status, said)
	case a.tooLong || len(a.body) > maxBodyBytes:
		return failf(acme.ErrIncorrectResponse, "%s at %v: status 200, but the body is too long for a key authorization%s", h, a.addr, said)
	case string(a.body) != pr.KeyAuthorization:
		return failf(acme.ErrIncorrectResponse, "%s at %v: status 200, but the body is not the key authorization %q%s",
			h, a.addr, pr.KeyAuthorization, said)
	default:
		return nil
	}
}
