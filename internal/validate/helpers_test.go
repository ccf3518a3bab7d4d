package validate

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/internal/acme"
)

const (
	testToken   = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0"
	testKeyAuth = testToken + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
	testPath    = wellKnown + testToken
)

// A dnsServer answers on 127.0.0.1 over UDP and TCP from a table of records.
type dnsServer struct {
	addr string

	mu      sync.Mutex
	records map[string][]string // "x.test. A" -> record texts
	answer  func(network string, q dns.Question, reply *dns.Msg) bool
	asked   []string // "udp x.test. A"
}

func newDNS(t *testing.T) *dnsServer {
	t.Helper()
	s := &dnsServer{records: map[string][]string{}}
	udp, tcp := listenBoth(t)
	s.addr = udp.LocalAddr().String()
	serve := func(network string, server *dns.Server) {
		server.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) { s.serve(network, w, m) })
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go server.ActivateAndServe()
		<-started
		t.Cleanup(func() { server.Shutdown() })
	}
	serve("udp", &dns.Server{PacketConn: udp})
	serve("tcp", &dns.Server{Listener: tcp})
	return s
}

// listenBoth finds a port that is free for UDP and TCP.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenPacket("udp", tcp.Addr().String())
		if err == nil {
			return udp, tcp
		}
		tcp.Close()
	}
}

func (s *dnsServer) serve(network string, w dns.ResponseWriter, m *dns.Msg) {
	q := m.Question[0]
	key := dns.CanonicalName(q.Name) + " " + dns.TypeToString[q.Qtype]
	s.mu.Lock()
	s.asked = append(s.asked, network+" "+key)
	custom := s.answer
	reply := new(dns.Msg).SetReply(m)
	s.fill(q, reply)
	s.mu.Unlock()
	if custom != nil && !custom(network, q, reply) {
		return // silence
	}
	w.WriteMsg(reply)
}

func (s *dnsServer) fill(q dns.Question, reply *dns.Msg) {
	name := dns.CanonicalName(q.Name)
	exists := false
	for key, texts := range s.records {
		owner, kind, _ := strings.Cut(key, " ")
		if owner != name {
			continue
		}
		exists = true
		if kind == dns.TypeToString[q.Qtype] || kind == "CNAME" {
			for _, text := range texts {
				reply.Answer = append(reply.Answer, record(owner+" 0 IN "+kind+" "+text))
			}
		}
	}
	if !exists {
		reply.Rcode = dns.RcodeNameError
	}
}

func record(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

// set gives a name its records of a type.
func (s *dnsServer) set(name, kind string, texts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[dns.CanonicalName(name)+" "+kind] = texts
}

// respond lets f change each reply; it returns false for no reply at all.
func (s *dnsServer) respond(f func(network string, q dns.Question, reply *dns.Msg) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// questions returns all that was asked.
func (s *dnsServer) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// count returns how often a question was asked, such as "udp x.test. A".
func (s *dnsServer) count(question string) int {
	n := 0
	for _, a := range s.questions() {
		if a == question {
			n++
		}
	}
	return n
}

// A world is a DNS server with the name x.test, a web server for it on
// 127.0.0.1, and a Prober that may go there.
type world struct {
	dns    *dnsServer
	web    *httptest.Server
	config Config

	mu      sync.Mutex
	handler http.HandlerFunc
	seen    []*http.Request
}

func newWorld(t *testing.T, handler http.HandlerFunc) *world {
	t.Helper()
	w := &world{dns: newDNS(t), handler: handler}
	w.dns.set("x.test", "A", "127.0.0.1")
	w.web = httptest.NewServer(w)
	t.Cleanup(w.web.Close)
	w.config = Config{
		Resolvers:  []string{w.dns.addr},
		HTTP01Port: portOf(t, w.web.Listener.Addr()),
		Allow:      []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Timeout:    5 * time.Second,
	}
	return w
}

// ServeHTTP is the web server.
func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.seen = append(w.seen, r)
	handler := w.handler
	w.mu.Unlock()
	handler(rw, r)
}

// serve changes what the web server does.
func (w *world) serve(handler http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.handler = handler
}

// requests returns those that the web server has seen.
func (w *world) requests() []*http.Request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen)
}

// also serves handler at another loopback address, on the port of the web
// server.
func (w *world) also(t *testing.T, ip string, handler http.HandlerFunc) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, fmt.Sprint(w.config.HTTP01Port)))
	if err != nil {
		t.Fatalf("%v (the tests need IPv6 on the loopback interface)", err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	s.Start()
	t.Cleanup(s.Close)
}

func (w *world) prober(t *testing.T) *Prober {
	t.Helper()
	p, err := New(w.config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) http01(t *testing.T) Outcome {
	t.Helper()
	return w.prober(t).HTTP01(context.Background(), target("x.test"))
}

// redirectAnywhere is http01 with every host allowed in redirects.
func (w *world) redirectAnywhere(t *testing.T) Outcome {
	t.Helper()
	to := target("x.test")
	to.RedirectAllowed = func(string) bool { return true }
	return w.prober(t).HTTP01(context.Background(), to)
}

func target(value string) Target {
	id := acme.Identifier{Type: acme.DNS, Value: value}
	if _, err := netip.ParseAddr(value); err == nil {
		id.Type = acme.IP
	}
	return Target{Identifier: id, Token: testToken, KeyAuthorization: testKeyAuth}
}

func portOf(t *testing.T, a net.Addr) int {
	t.Helper()
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	return int(ap.Port())
}

// good answers with the key authorization.
func good(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != testPath {
		http.NotFound(w, r)
		return
	}
	io.WriteString(w, testKeyAuth)
}

// redirectFirst redirects what has the challenge's path and answers anything
// else with the key authorization.
func redirectFirst(location string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == testPath {
			w.Header().Set("Location", location)
			w.WriteHeader(http.StatusFound)
			return
		}
		io.WriteString(w, testKeyAuth)
	}
}

func wantValid(t *testing.T, o Outcome) {
	t.Helper()
	if o.Problem != nil || o.Retry {
		t.Fatalf("problem %v, retry %v; want valid\n%s", o.Problem, o.Retry, traceText(o))
	}
	if len(o.Trace) == 0 {
		t.Error("no trace")
	}
}

// wantProblem checks the type of the problem and that the detail has all of
// these texts.
func wantProblem(t *testing.T, o Outcome, typ acme.ErrorType, texts ...string) {
	t.Helper()
	if o.Problem == nil {
		t.Fatalf("valid; want %s\n%s", typ, traceText(o))
	}
	if o.Problem.Type != typ {
		t.Errorf("problem %v; want type %s\n%s", o.Problem, typ, traceText(o))
	}
	for _, text := range texts {
		if !strings.Contains(o.Problem.Detail, text) {
			t.Errorf("detail %q lacks %q\n%s", o.Problem.Detail, text, traceText(o))
		}
	}
}

func wantUntold(t *testing.T, o Outcome, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(o.Problem.Detail, text) {
			t.Errorf("detail %q tells %q", o.Problem.Detail, text)
		}
	}
}

func wantTraced(t *testing.T, o Outcome, text string) {
	t.Helper()
	if !strings.Contains(traceText(o), text) {
		t.Errorf("trace lacks %q:\n%s", text, traceText(o))
	}
}

func traceText(o Outcome) string {
	var b strings.Builder
	for _, s := range o.Trace {
		fmt.Fprintf(&b, "%s %s %s %s\n", s.Kind, s.Target, s.Address, s.Detail)
	}
	return b.String()
}
