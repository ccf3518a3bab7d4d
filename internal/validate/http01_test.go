package validate

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/internal/acme"
)

func TestHTTP01Valid(t *testing.T) {
	w := newWorld(t, good)
	w.config.UserAgent = "probe/1"
	o := w.http01(t)
	wantValid(t, o)
	r := w.requests()[0]
	// RFC 8555, Section 8.3.
	if r.Method != "GET" || r.RequestURI != "/.well-known/acme-challenge/"+testToken || r.Host != "x.test" {
		t.Errorf("%s %s, Host %s", r.Method, r.RequestURI, r.Host)
	}
	if r.Proto != "HTTP/1.1" || !r.Close || r.UserAgent() != "probe/1" {
		t.Errorf("%s, close %v, %s", r.Proto, r.Close, r.UserAgent())
	}
	if len(r.Header["Cookie"])+len(r.Header["Referer"])+len(r.Header["Authorization"])+len(r.Header["Accept-Encoding"]) > 0 {
		t.Errorf("header %v", r.Header)
	}
	var kinds []string
	for _, s := range o.Trace {
		kinds = append(kinds, string(s.Kind))
		if s.At.IsZero() {
			t.Errorf("%+v has no time", s)
		}
	}
	if got := strings.Join(kinds, " "); got != "resolve resolve dial request response body" {
		t.Errorf("trace of %s", got)
	}
}

func TestHTTP01WhiteSpaceAtTheEnd(t *testing.T) {
	for body, valid := range map[string]bool{
		testKeyAuth + "\r\n \t\n":                  true,
		testKeyAuth + strings.Repeat("\n", 3<<10):  true,
		testKeyAuth + strings.Repeat("\n", 10<<10): false,
		" " + testKeyAuth:                          false,
		testKeyAuth + "x":                          false,
		testKeyAuth + "\nx":                        false,
		testKeyAuth[:len(testKeyAuth)-1]:           false,
		strings.ToUpper(testKeyAuth):               false,
		testToken:                                  false,
		"":                                         false,
		"  \n":                                     false,
	} {
		w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, body) })
		o := w.http01(t)
		if valid {
			wantValid(t, o)
			continue
		}
		wantProblem(t, o, acme.ErrIncorrectResponse, "127.0.0.1:", "status 200")
		if o.Retry {
			t.Error("retry")
		}
	}
}

// An empty or foreign key authorization must never be compared with anything.
func TestTargetIsChecked(t *testing.T) {
	w := newWorld(t, func(http.ResponseWriter, *http.Request) {})
	for _, change := range []func(*Target){
		func(to *Target) { to.KeyAuthorization = "" },
		func(to *Target) { to.KeyAuthorization = testToken + "." },
		func(to *Target) { to.KeyAuthorization = "other" + testKeyAuth },
		func(to *Target) { to.Token, to.KeyAuthorization = "", "." },
		func(to *Target) { to.Token, to.KeyAuthorization = "../x", "../x.y" },
		func(to *Target) { to.Identifier.Value = "*.x.test" },
		func(to *Target) { to.Identifier.Value = "X.test" },
		func(to *Target) { to.Identifier.Value = "x.test/" },
		func(to *Target) { to.Identifier.Type = acme.IP },
		func(to *Target) { to.Identifier = acme.Identifier{} },
	} {
		to := target("x.test")
		change(&to)
		p := w.prober(t)
		for _, run := range []func(context.Context, Target) Outcome{p.HTTP01, p.DNS01, p.TLSALPN01} {
			if o := run(t.Context(), to); o.Problem == nil || o.Retry {
				t.Errorf("%+v: %v", to, o.Problem)
			}
		}
	}
	if n := len(w.requests()); n > 0 {
		t.Errorf("%d requests", n)
	}
}

func TestHTTP01WrongBody(t *testing.T) {
	secret := "<html>\x00\x1b[31m" + strings.Repeat("A", 52) + "SECRET"
	w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, secret) })
	o := w.http01(t)
	wantProblem(t, o, acme.ErrIncorrectResponse, `"<html>\x00\x1b[31m`, "127.0.0.1:", "status 200", testKeyAuth)
	wantUntold(t, o, "\x00", "\x1b", "SECRET")
	if o.Problem.Status != 403 {
		t.Errorf("status %d", o.Problem.Status)
	}
}

func TestHTTP01Statuses(t *testing.T) {
	for _, status := range []int{201, 204, 206, 300, 304, 305, 400, 401, 403, 404, 500, 503} {
		w := newWorld(t, func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Location", "/elsewhere")
			rw.WriteHeader(status)
			if status != 204 && status != 304 {
				io.WriteString(rw, testKeyAuth) // even then
			}
		})
		o := w.http01(t)
		wantProblem(t, o, acme.ErrUnauthorized, fmt.Sprintf("status %d", status), "127.0.0.1:")
		if o.Retry || len(w.requests()) != 1 {
			t.Errorf("%d: retry %v after %d requests", status, o.Retry, len(w.requests()))
		}
	}
	w := newWorld(t, http.NotFound)
	wantProblem(t, w.http01(t), acme.ErrUnauthorized, `"404 page not found"`)
}

func TestHTTP01Refused(t *testing.T) {
	w := newWorld(t, good)
	w.web.Close()
	o := w.http01(t)
	wantProblem(t, o, acme.ErrConnection, "127.0.0.1:", "connection refused")
	if !o.Retry {
		t.Error("no retry")
	}
}

func TestHTTP01DNS(t *testing.T) {
	w := newWorld(t, good)
	p := w.prober(t)
	o := p.HTTP01(t.Context(), target("gone.test"))
	wantProblem(t, o, acme.ErrDNS, "NXDOMAIN", "gone.test")
	if o.Retry {
		t.Error("retry after NXDOMAIN")
	}
	w.dns.respond(func(_ string, _ dns.Question, reply *dns.Msg) bool {
		reply.Rcode = dns.RcodeServerFailure
		return true
	})
	o = p.HTTP01(t.Context(), target("x.test"))
	wantProblem(t, o, acme.ErrDNS, "SERVFAIL")
	if !o.Retry {
		t.Error("no retry after SERVFAIL")
	}
	wantUntold(t, o, w.dns.addr)
	wantTraced(t, o, w.dns.addr)
}

// The next address is tried when one does not connect, and IPv6 comes first.
func TestHTTP01Addresses(t *testing.T) {
	w := newWorld(t, good)
	w.dns.set("x.test", "AAAA", "::1")
	w.dns.set("x.test", "A", "127.0.0.9", "127.0.0.1")
	o := w.http01(t)
	wantValid(t, o)
	wantTraced(t, o, "dial  [::1]:"+fmt.Sprint(w.config.HTTP01Port))
	wantTraced(t, o, "connection refused")

	w.config.Allow = append(w.config.Allow, netip.MustParsePrefix("::1/128"))
	w.also(t, "::1", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "six") })
	// A server that answers is believed; only connections fall back.
	wantProblem(t, w.http01(t), acme.ErrIncorrectResponse, "[::1]:", `"six"`)
}

func TestHTTP01AllAddressesAreTold(t *testing.T) {
	w := newWorld(t, good)
	w.dns.set("x.test", "AAAA", "::1")
	w.dns.set("x.test", "A", "127.0.0.9")
	o := w.http01(t)
	wantProblem(t, o, acme.ErrConnection, "[::1]:", "loopback", "127.0.0.9:", "connection refused")
	if !o.Retry {
		t.Error("no retry")
	}
}

func TestHTTP01IPIdentifiers(t *testing.T) {
	w := newWorld(t, good)
	p := w.prober(t)
	wantValid(t, p.HTTP01(t.Context(), target("127.0.0.1")))
	if host := w.requests()[0].Host; host != "127.0.0.1" {
		t.Errorf("Host: %s", host)
	}
	w.config.Allow = append(w.config.Allow, netip.MustParsePrefix("::1/128"))
	var host string
	w.also(t, "::1", func(rw http.ResponseWriter, r *http.Request) {
		host = r.Host
		good(rw, r)
	})
	wantValid(t, w.prober(t).HTTP01(t.Context(), target("::1")))
	if host != "[::1]" {
		t.Errorf("Host: %s", host)
	}
	if len(w.dns.questions()) > 0 {
		t.Errorf("asked %v", w.dns.questions())
	}
}

func TestHTTP01ForbiddenAddresses(t *testing.T) {
	for _, test := range []struct{ kind, addr, told, traced string }{
		{"A", "169.254.169.254", refusedSilently, "metadata"},
		{"A", "169.254.1.1", "link-local", "link-local"},
		{"A", "0.0.0.0", "unspecified", "unspecified"},
		{"A", "255.255.255.255", "broadcast", "broadcast"},
		{"A", "224.0.0.1", "multicast", "multicast"},
		{"AAAA", "::1", "loopback", "loopback"},
		{"AAAA", "::", "unspecified", "unspecified"},
		{"AAAA", "64:ff9b::7f00:1", "loopback", "NAT64"},
		{"AAAA", "2002:7f00:1::", "loopback", "6to4"},
		{"AAAA", "::ffff:169.254.169.254", refusedSilently, "metadata"},
	} {
		w := newWorld(t, good)
		w.dns.set("x.test", "A")
		w.dns.set("x.test", test.kind, test.addr)
		o := w.http01(t)
		wantProblem(t, o, acme.ErrConnection, test.told)
		wantTraced(t, o, test.traced)
		if o.Retry {
			t.Errorf("%s: retry", test.addr)
		}
	}
	// Without an exception, loopback is as forbidden as the rest.
	w := newWorld(t, good)
	w.config.Allow = nil
	wantProblem(t, w.http01(t), acme.ErrConnection, "127.0.0.1:", "VALIDATION_ALLOW_CIDRS")
	wantProblem(t, w.prober(t).HTTP01(t.Context(), target("127.0.0.1")), acme.ErrConnection, "loopback")
	if len(w.requests()) > 0 {
		t.Error("a forbidden address was asked")
	}
}

func TestHTTP01Self(t *testing.T) {
	w := newWorld(t, good)
	port := uint16(w.config.HTTP01Port)
	for _, self := range []string{"127.0.0.1", "0.0.0.0", "::"} {
		w.config.Self = func() []netip.AddrPort {
			return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr(self), port)}
		}
		o := w.http01(t)
		wantProblem(t, o, acme.ErrConnection, refusedSilently)
		wantUntold(t, o, "certctl or its database")
		wantTraced(t, o, "certctl or its database listens there")
	}
	if len(w.requests()) > 0 {
		t.Error("asked itself")
	}
	w.config.Self = func() []netip.AddrPort {
		return []netip.AddrPort{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port+1)}
	}
	wantValid(t, w.http01(t))
}

// A name that turns forbidden between resolving and dialling gains nothing:
// the address that was resolved is the one that is dialled, and the guard sees
// that one.
func TestHTTP01Rebinding(t *testing.T) {
	w := newWorld(t, good)
	var asked atomic.Int32
	w.dns.respond(func(_ string, q dns.Question, reply *dns.Msg) bool {
		if q.Qtype == dns.TypeA && asked.Add(1) > 1 {
			reply.Answer = []dns.RR{record("x.test. 0 IN A 127.6.6.6")}
		}
		return true
	})
	rebound := false
	w.also(t, "127.6.6.6", func(http.ResponseWriter, *http.Request) { rebound = true })
	o := w.http01(t)
	wantValid(t, o)
	if rebound || asked.Load() != 1 {
		t.Errorf("resolved %d times, rebound %v", asked.Load(), rebound)
	}
	// The guard is asked with what the socket connects to, whatever the
	// resolver believed.
	w.config.Allow = prefixes("127.0.0.1/32")
	wantProblem(t, w.http01(t), acme.ErrConnection, "127.6.6.6", "loopback")
	if rebound {
		t.Error("a forbidden address was asked")
	}
}

// raw serves every connection with f, which gets it after the request's header.
func raw(t *testing.T, f func(net.Conn)) *world {
	t.Helper()
	w := newWorld(t, good)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w.config.HTTP01Port = portOf(t, l.Addr())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					f(conn)
				}
			}()
		}
	}()
	return w
}

func TestHTTP01HugeBody(t *testing.T) {
	for name, header := range map[string]string{
		"length": "Content-Length: 10485760\r\n",
		"close":  "",
	} {
		sent := make(chan int, 1)
		w := raw(t, func(conn net.Conn) {
			n, _ := io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+header+"\r\n"+testKeyAuth)
			chunk := []byte(strings.Repeat("A", 64<<10))
			for n < 10<<20 {
				m, err := conn.Write(chunk)
				n += m
				if err != nil {
					break
				}
			}
			sent <- n
		})
		begin := time.Now()
		o := w.http01(t)
		wantProblem(t, o, acme.ErrIncorrectResponse, "too long")
		if d := time.Since(begin); d > 2*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
		// What was sent beyond what was read sat in the buffers of the sockets.
		if n := <-sent; n > 9<<20 {
			t.Errorf("%s: %d bytes were taken", name, n)
		}
	}
}

func TestHTTP01TinyChunks(t *testing.T) {
	w := raw(t, func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 100000 {
			if _, err := io.WriteString(conn, "1\r\nA\r\n"); err != nil {
				return
			}
		}
	})
	wantProblem(t, w.http01(t), acme.ErrConnection, "too long")
	w = raw(t, func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for _, c := range testKeyAuth {
			fmt.Fprintf(conn, "1\r\n%c\r\n", c)
		}
		io.WriteString(conn, "0\r\n\r\n")
	})
	wantValid(t, w.http01(t))
}

func TestHTTP01HugeHeader(t *testing.T) {
	w := raw(t, func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		for range 100000 {
			if _, err := io.WriteString(conn, "X-Fill: "+strings.Repeat("A", 100)+"\r\n"); err != nil {
				return
			}
		}
	})
	wantProblem(t, w.http01(t), acme.ErrConnection, "too long")
	w = raw(t, func(conn net.Conn) {
		for range 100 {
			io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\n\r\n")
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n"+testKeyAuth)
	})
	wantProblem(t, w.http01(t), acme.ErrConnection, "breaks the protocol")
	w = raw(t, func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"+testKeyAuth)
	})
	wantValid(t, w.http01(t))
}

func TestHTTP01Slow(t *testing.T) {
	trickle := func(conn net.Conn) {
		for {
			if _, err := io.WriteString(conn, "a"); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	for name, serve := range map[string]func(net.Conn){
		"silent": func(net.Conn) { time.Sleep(5 * time.Second) },
		"header": func(conn net.Conn) { trickle(conn) },
		"body": func(conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
			trickle(conn)
		},
	} {
		w := raw(t, serve)
		w.config.Timeout = 300 * time.Millisecond
		begin := time.Now()
		o := w.http01(t)
		wantProblem(t, o, acme.ErrConnection, "timed out", "127.0.0.1:")
		if d := time.Since(begin); d < 250*time.Millisecond || d > 2*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
		if o.Retry {
			t.Errorf("%s: retry", name)
		}
	}
}

// An address that never answers leaves time for the next.
func TestHTTP01BlackHole(t *testing.T) {
	full := blackHole(t)
	w := newWorld(t, good)
	w.config.HTTP01Port = int(full.Port())
	w.config.Timeout = 600 * time.Millisecond
	w.dns.set("x.test", "A", "127.0.0.1", "127.0.0.8")
	w.also(t, "127.0.0.8", good)
	o := w.http01(t)
	wantValid(t, o)
	wantTraced(t, o, "timeout")
}

// blackHole listens on 127.0.0.1 with a full backlog.
func blackHole(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*syscall.SockaddrInet4).Port))
	for range 10 {
		conn, err := net.DialTimeout("tcp", addr.String(), 100*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the backlog does not fill")
	return addr
}

func TestHTTP01NotHTTP(t *testing.T) {
	w := raw(t, func(conn net.Conn) { io.WriteString(conn, "-ERR secret banner\r\n") })
	o := w.http01(t)
	wantProblem(t, o, acme.ErrConnection, "breaks the protocol")
	wantUntold(t, o, "secret", "ERR")
	wantTraced(t, o, "secret")

	w = raw(t, func(net.Conn) {})
	wantProblem(t, w.http01(t), acme.ErrConnection, "closed in the middle")
	w = raw(t, func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"+testKeyAuth)
	})
	wantProblem(t, w.http01(t), acme.ErrConnection, "closed in the middle")
	w = raw(t, func(conn net.Conn) {
		conn.(*net.TCPConn).SetLinger(0)
	})
	o = w.http01(t)
	wantProblem(t, o, acme.ErrConnection, "connection reset")
	if !o.Retry {
		t.Error("no retry after a reset")
	}
}

func TestHTTP01Interrupted(t *testing.T) {
	w := raw(t, func(net.Conn) { time.Sleep(5 * time.Second) })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	begin := time.Now()
	o := w.prober(t).HTTP01(ctx, target("x.test"))
	wantProblem(t, o, acme.ErrConnection, "interrupted")
	if !o.Retry || time.Since(begin) > 2*time.Second {
		t.Errorf("retry %v after %v", o.Retry, time.Since(begin))
	}
}

func TestHTTP01NoProxy(t *testing.T) {
	w := newWorld(t, good)
	proxied := false
	proxy := newWorld(t, func(http.ResponseWriter, *http.Request) { proxied = true })
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.web.URL)
	}
	wantValid(t, w.http01(t))
	if proxied {
		t.Error("a proxy was asked")
	}
}

func TestNewChecks(t *testing.T) {
	for name, c := range map[string]Config{
		"http port": {HTTP01Port: 65536},
		"tls port":  {TLSALPN01Port: -1},
		"resolver":  {Resolvers: []string{"nowhere"}},
		"allow":     {Allow: []netip.Prefix{{}}},
		"deny":      {Deny: []netip.Prefix{{}}},
		"timeout":   {Timeout: -time.Second},
		"agent":     {UserAgent: "a\r\nX-B: c"},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	p, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if p.httpPort != 80 || p.tlsPort != 443 || p.timeout != 10*time.Second || p.userAgent == "" {
		t.Errorf("defaults %+v", p)
	}
}
