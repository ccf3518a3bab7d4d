package validate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func resolve(t *testing.T, name string, servers ...string) ([]netip.Addr, *lookupError, Outcome) {
	t.Helper()
	r, err := newResolver(servers)
	if err != nil {
		t.Fatal(err)
	}
	trace := &recorder{now: time.Now}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	addrs, lookupErr := r.addresses(ctx, trace, name)
	return addrs, lookupErr, Outcome{Trace: trace.take()}
}

func wantAddrs(t *testing.T, got []netip.Addr, err *lookupError, want string) {
	t.Helper()
	if err != nil {
		t.Fatalf("error %v; want %s", err, want)
	}
	if fmt.Sprint(got) != want {
		t.Errorf("got %v; want %s", got, want)
	}
}

func wantLookupError(t *testing.T, err *lookupError, text string, retry bool) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) || err.retry != retry {
		t.Fatalf("error %+v; want %q, retry %v", err, text, retry)
	}
}

func TestResolveIPv6First(t *testing.T) {
	s := newDNS(t)
	s.set("x.test", "A", "10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
	s.set("x.test", "AAAA", "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5")
	s.set("six.test", "AAAA", "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5")
	s.set("mapped.test", "AAAA", "::ffff:127.0.0.1")

	addrs, err, _ := resolve(t, "x.test", s.addr)
	wantAddrs(t, addrs, err, "[2001:db8::1 2001:db8::2 10.0.0.1 10.0.0.2]")
	addrs, err, _ = resolve(t, "six.test", s.addr)
	wantAddrs(t, addrs, err, "[2001:db8::1 2001:db8::2 2001:db8::3 2001:db8::4]")
	// IPv4 in the clothes of IPv6 is IPv4.
	addrs, err, _ = resolve(t, "mapped.test", s.addr)
	wantAddrs(t, addrs, err, "[127.0.0.1]")
}

func TestResolveFailuresAreToldApart(t *testing.T) {
	s := newDNS(t)
	s.set("empty.test", "TXT", "hello")
	s.set("half.test", "A", "10.0.0.1")
	s.respond(func(_ string, q dns.Question, reply *dns.Msg) bool {
		switch {
		case strings.HasPrefix(q.Name, "servfail."):
			reply.Rcode = dns.RcodeServerFailure
		case strings.HasPrefix(q.Name, "refused."):
			reply.Rcode = dns.RcodeRefused
		case strings.HasPrefix(q.Name, "half.") && q.Qtype == dns.TypeAAAA:
			reply.Rcode, reply.Answer = dns.RcodeServerFailure, nil
		}
		return true
	})
	_, err, _ := resolve(t, "gone.test", s.addr)
	wantLookupError(t, err, "NXDOMAIN looking up A for gone.test", false)
	if n := s.count("udp gone.test. A"); n != 1 {
		t.Errorf("asked %d times after NXDOMAIN", n)
	}
	_, err, _ = resolve(t, "empty.test", s.addr)
	wantLookupError(t, err, "no A or AAAA record found looking up A for empty.test", false)
	_, err, _ = resolve(t, "servfail.test", s.addr)
	wantLookupError(t, err, "SERVFAIL looking up A for servfail.test", true)
	_, err, _ = resolve(t, "refused.test", s.addr)
	wantLookupError(t, err, "REFUSED looking up A for refused.test", true)
	// One family is enough.
	addrs, err, _ := resolve(t, "half.test", s.addr)
	wantAddrs(t, addrs, err, "[10.0.0.1]")
}

func TestResolveSilence(t *testing.T) {
	t.Parallel()
	s := newDNS(t)
	s.respond(func(string, dns.Question, *dns.Msg) bool { return false })
	_, err, _ := resolve(t, "silent.test", s.addr)
	wantLookupError(t, err, "timed out looking up A for silent.test", true)
	if n := s.count("udp silent.test. A"); n != maxRounds {
		t.Errorf("asked %d times", n)
	}
}

func TestResolveNextServer(t *testing.T) {
	nobody, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := nobody.LocalAddr().String()
	nobody.Close()
	bad, liar, ok := newDNS(t), newDNS(t), newDNS(t)
	bad.respond(func(_ string, _ dns.Question, reply *dns.Msg) bool {
		reply.Rcode = dns.RcodeServerFailure
		return true
	})
	liar.respond(func(_ string, _ dns.Question, reply *dns.Msg) bool {
		reply.Question[0].Name = "other.test."
		reply.Rcode = dns.RcodeSuccess
		return true
	})
	ok.set("x.test", "A", "10.0.0.1")
	ok.set("x.test", "AAAA")
	addrs, lookupErr, o := resolve(t, "x.test", closed, bad.addr, liar.addr, ok.addr)
	wantAddrs(t, addrs, lookupErr, "[10.0.0.1]")
	wantTraced(t, o, "SERVFAIL")
	wantTraced(t, o, "another question")

	_, lookupErr, _ = resolve(t, "x.test", closed)
	wantLookupError(t, lookupErr, "no DNS server reachable", true)
}

func TestResolveSecondRound(t *testing.T) {
	s := newDNS(t)
	s.set("x.test", "A", "10.0.0.1")
	seen := map[uint16]bool{}
	s.respond(func(_ string, q dns.Question, reply *dns.Msg) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !seen[q.Qtype] {
			seen[q.Qtype] = true
			reply.Rcode = dns.RcodeServerFailure
		}
		return true
	})
	addrs, err, _ := resolve(t, "x.test", s.addr)
	wantAddrs(t, addrs, err, "[10.0.0.1]")
}

func TestResolveOldServer(t *testing.T) {
	s := newDNS(t)
	s.set("x.test", "A", "10.0.0.1")
	r, err := newResolver([]string{s.addr})
	if err != nil {
		t.Fatal(err)
	}
	r.exchange = func(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
		answer, err := exchange(ctx, network, server, m)
		if err == nil && m.IsEdns0() != nil {
			answer.Rcode, answer.Answer = dns.RcodeFormatError, nil
		}
		return answer, err
	}
	addrs, lookupErr := r.addresses(t.Context(), &recorder{now: time.Now}, "x.test")
	wantAddrs(t, addrs, lookupErr, "[10.0.0.1]")
}

func TestResolveTruncated(t *testing.T) {
	s := newDNS(t)
	s.set("x.test", "A", "10.0.0.1")
	s.respond(func(network string, _ dns.Question, reply *dns.Msg) bool {
		if network == "udp" {
			reply.Truncated, reply.Answer = true, nil
		}
		return true
	})
	addrs, err, _ := resolve(t, "x.test", s.addr)
	wantAddrs(t, addrs, err, "[10.0.0.1]")
	if s.count("tcp x.test. A") != 1 {
		t.Error("not asked over TCP")
	}
	s.respond(func(_ string, _ dns.Question, reply *dns.Msg) bool {
		reply.Truncated = true
		return true
	})
	_, err, _ = resolve(t, "x.test", s.addr)
	wantLookupError(t, err, "", true)
}

func TestResolveCNAME(t *testing.T) {
	s := newDNS(t)
	chain := func(from, to int) {
		for i := from; i < to; i++ {
			s.set(fmt.Sprintf("c%d.test", i), "CNAME", fmt.Sprintf("c%d.test.", i+1))
		}
	}
	chain(0, 9)
	s.set("c9.test", "A", "10.0.0.9")
	// The server answers one CNAME at a time, so each is asked for.
	addrs, err, _ := resolve(t, "c1.test", s.addr)
	wantAddrs(t, addrs, err, "[10.0.0.9]")
	_, err, _ = resolve(t, "c0.test", s.addr)
	wantLookupError(t, err, "more than 8 CNAMEs", false)

	s.set("loop.test", "CNAME", "loop.test.")
	_, err, _ = resolve(t, "loop.test", s.addr)
	wantLookupError(t, err, "more than 8 CNAMEs", false)

	s.set("dangling.test", "CNAME", "gone.test.")
	_, err, _ = resolve(t, "dangling.test", s.addr)
	wantLookupError(t, err, "NXDOMAIN", false)

	// A recursive server answers with the whole chain, in any order and case,
	// and records that are not of the chain do not count.
	s.respond(func(_ string, q dns.Question, reply *dns.Msg) bool {
		if q.Name == "whole.test." && q.Qtype == dns.TypeA {
			reply.Rcode = dns.RcodeSuccess
			reply.Answer = []dns.RR{
				record("stray.test. 0 IN A 10.6.6.6"),
				record("END.test. 0 IN A 10.0.0.1"),
				record("mid.test. 0 IN CNAME end.TEST."),
				record("whole.test. 0 IN CNAME mid.test."),
			}
		}
		return true
	})
	addrs, err, _ = resolve(t, "whole.test", s.addr)
	wantAddrs(t, addrs, err, "[10.0.0.1]")
	if s.count("udp end.test. A") != 0 {
		t.Error("asked for what was answered")
	}
}

func TestResolveCancelled(t *testing.T) {
	s := newDNS(t)
	s.respond(func(string, dns.Question, *dns.Msg) bool { return false })
	r, err := newResolver([]string{s.addr})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	begin := time.Now()
	_, lookupErr := r.addresses(ctx, &recorder{now: time.Now}, "x.test")
	wantLookupError(t, lookupErr, "timed out", true)
	if d := time.Since(begin); d > time.Second {
		t.Errorf("gave up after %v", d)
	}
}

func TestSystemResolver(t *testing.T) {
	s := newDNS(t)
	s.set("x.test", "A", "10.0.0.1")
	dir := t.TempDir()
	conf, hosts := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts")
	write(t, conf, "search corp.test\nnameserver 127.0.0.1\n")
	write(t, hosts, "# 10.9.9.9 x.test\n10.0.0.7 Here.test alias.test. # commented.test\nfe80::1%lo zoned.test\n::ffff:10.0.0.8 here.test\n")
	r := systemResolver(conf, hosts)
	servers, err := r.servers()
	if err != nil || fmt.Sprint(servers) != "[127.0.0.1:53]" {
		t.Fatalf("servers %v, %v", servers, err)
	}
	_, port, _ := net.SplitHostPort(s.addr)
	r.servers = func() ([]string, error) { return []string{"127.0.0.1:" + port}, nil }
	for name, want := range map[string]string{
		"here.test":       "[10.0.0.7 10.0.0.8]",
		"alias.test":      "[10.0.0.7]",
		"x.test":          "[10.0.0.1]",
		"localhost":       "[::1 127.0.0.1]",
		"app.localhost":   "[::1 127.0.0.1]",
		"a.b.c.localhost": "[::1 127.0.0.1]",
	} {
		addrs, err := r.addresses(t.Context(), &recorder{now: time.Now}, name)
		wantAddrs(t, addrs, err, want)
	}
	for _, name := range []string{"notlocalhost", "zoned.test", "commented.test"} {
		_, lookupErr := r.addresses(t.Context(), &recorder{now: time.Now}, name)
		wantLookupError(t, lookupErr, "NXDOMAIN", false)
	}
	// Neither file has to be there.
	r = systemResolver(filepath.Join(dir, "none"), filepath.Join(dir, "none"))
	if servers, err := r.servers(); err != nil || fmt.Sprint(servers) != "[127.0.0.1:53]" {
		t.Errorf("servers %v, %v", servers, err)
	}
	// But one that cannot be read is no licence to ask somebody else.
	if _, err := systemServers(dir); err == nil {
		t.Error("a folder was read as resolv.conf")
	}
}

// With servers configured, the system's files have no say.
func TestConfiguredResolverIgnoresHosts(t *testing.T) {
	s := newDNS(t)
	_, err, _ := resolve(t, "localhost", s.addr)
	wantLookupError(t, err, "NXDOMAIN", false)
}

func TestResolveUnreadableConfiguration(t *testing.T) {
	r := systemResolver(t.TempDir(), "/nonexistent")
	_, err := r.addresses(t.Context(), &recorder{now: time.Now}, "x.test")
	wantLookupError(t, err, "no DNS server known", true)
}

func TestServerAddress(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1:5353":   "10.0.0.1:5353",
		"10.0.0.1":        "10.0.0.1:53",
		"[::1]:53":        "[::1]:53",
		"::1":             "[::1]:53",
		"[::1]":           "[::1]:53",
		"dns.corp:53":     "dns.corp:53",
		"dns.corp":        "",
		":53":             "",
		"10.0.0.1:0":      "",
		"10.0.0.1:domain": "",
		"":                "",
	} {
		got, err := serverAddress(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestUnescape(t *testing.T) {
	for in, want := range map[string]string{
		`plain`:     `plain`,
		`a\"b\\c`:   `a"b\c`,
		`\000\255x`: "\x00\xffx",
		`\`:         `\`,
		`\12`:       `12`,
	} {
		if got := unescape(in); got != want {
			t.Errorf("%q: %q; want %q", in, got, want)
		}
	}
}

func TestLongName(t *testing.T) {
	s := newDNS(t)
	r, err := newResolver([]string{s.addr})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("a234567.", 31) + "test12"
	_, _, lookupErr := r.texts(t.Context(), &recorder{now: time.Now}, long)
	wantLookupError(t, lookupErr, "too long", false)
}

func TestUnanswered(t *testing.T) {
	if got := unanswered(errors.New("boom")); got != "no DNS server reachable" {
		t.Error(got)
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
