package validate

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/internal/acme"
)

func TestRedirectFollowed(t *testing.T) {
	for _, location := range []string{
		"/elsewhere",
		"elsewhere",
		"?again=1&path",
		"//x.test/elsewhere",
		"http://x.test/elsewhere#fragment",
		"http://X.TEST./elsewhere",
		"HTTP://x.test:PORT/elsewhere",
	} {
		w := newWorld(t, nil)
		location := strings.ReplaceAll(location, "PORT", fmt.Sprint(w.config.HTTP01Port))
		w.serve(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == testPath && r.URL.RawQuery == "" {
				http.SetCookie(rw, &http.Cookie{Name: "a", Value: "b"})
				rw.Header().Set("Location", location)
				rw.WriteHeader(http.StatusMovedPermanently)
				return
			}
			io.WriteString(rw, testKeyAuth)
		})
		o := w.http01(t)
		wantValid(t, o)
		wantTraced(t, o, "redirect 1")
		r := w.requests()[1]
		if len(r.Cookies()) > 0 || r.Referer() != "" || strings.Contains(r.RequestURI, "#") {
			t.Errorf("%s: cookies %v, referer %q", location, r.Cookies(), r.Referer())
		}
		if host, _, _ := strings.Cut(r.Host, ":"); host != "x.test" {
			t.Errorf("%s: Host: %s", location, r.Host)
		}
	}
	for _, status := range []int{301, 302, 303, 307, 308} {
		w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == testPath {
				rw.Header().Set("Location", "/elsewhere")
				rw.WriteHeader(status)
				return
			}
			io.WriteString(rw, testKeyAuth)
		})
		wantValid(t, w.http01(t))
	}
}

func TestRedirectRefused(t *testing.T) {
	for _, test := range []struct{ location, told string }{
		{"", "no Location"},
		{"ftp://x.test/a", "scheme"},
		{"file:///etc/passwd", "scheme"},
		{"gopher://x.test/", "scheme"},
		{"javascript:alert(1)", "scheme"},
		{"http://user:secret@x.test/elsewhere", "user"},
		{"http://@x.test/elsewhere", "user"},
		{"http://x.test:6379/elsewhere", "port"},
		{"http://x.test:22/elsewhere", "port"},
		{"http://x.test:0/elsewhere", "port"},
		{"http://x.test:65616/elsewhere", "port"}, // 80 + 65536
		{"http://x.test:/elsewhere", "port"},
		{"http:elsewhere", "names no host"},
		{"http:///elsewhere", "names no host"},
		{"http://[fe80::1%25lo]/", "zone"},
		{"http://x_y.test/", "can be looked up"},
		{"http://*.x.test/", ""},
		{"http://127.1/", "looked up"},
		{"http://2130706433/", "looked up"},
		{"http://0x7f.0.0.1/", "looked up"},
		{"http://0177.0.0.1/", "looked up"},
		{"http://%zz/", "not a URL"},
	} {
		w := newWorld(t, redirectFirst(test.location))
		o := w.redirectAnywhere(t)
		wantProblem(t, o, acme.ErrIncorrectResponse, test.told, "127.0.0.1:", "status 302")
		wantUntold(t, o, "secret", "passwd", "alert")
		if n := len(w.requests()); n != 1 || o.Retry {
			t.Errorf("%q: %d requests, retry %v", test.location, n, o.Retry)
		}
	}
}

func TestRedirectHosts(t *testing.T) {
	w := newWorld(t, redirectFirst("http://other.test/elsewhere"))
	w.dns.set("other.test", "A", "127.0.0.1")
	wantProblem(t, w.http01(t), acme.ErrIncorrectResponse, "other.test", "does not allow")
	if w.dns.count("udp other.test. A") > 0 {
		t.Error("a host that is not allowed was looked up")
	}

	var asked []string
	to := target("x.test")
	to.RedirectAllowed = func(host string) bool {
		asked = append(asked, host)
		return host == "other.test"
	}
	wantValid(t, w.prober(t).HTTP01(t.Context(), to))

	// The host is told apart by its canonical form.
	for location, host := range map[string]string{
		"http://OTHER.Test./elsewhere":          "other.test",
		"http://127.0.0.1/elsewhere":            "127.0.0.1",
		"http://[::ffff:127.0.0.1]/elsewhere":   "127.0.0.1",
		"http://[2001:DB8:0:0::1]/elsewhere":    "2001:db8::1",
		"http://[64:ff9b::127.0.0.1]/elsewhere": "64:ff9b::7f00:1",
	} {
		asked = nil
		w.serve(redirectFirst(location))
		w.prober(t).HTTP01(t.Context(), to)
		if len(asked) != 1 || asked[0] != host {
			t.Errorf("%s: asked for %v; want %s", location, asked, host)
		}
	}

	// The identifier's own name needs no permission, and an address is no name.
	w.serve(redirectFirst("http://127.0.0.1/elsewhere"))
	wantProblem(t, w.http01(t), acme.ErrIncorrectResponse, "does not allow")
	w.serve(redirectFirst("http://127.0.0.1/elsewhere"))
	wantValid(t, w.prober(t).HTTP01(t.Context(), target("127.0.0.1")))
	w.serve(redirectFirst("http://127.0.0.2/elsewhere"))
	wantProblem(t, w.prober(t).HTTP01(t.Context(), target("127.0.0.1")), acme.ErrIncorrectResponse, "does not allow")
}

func TestRedirectToForbiddenAddresses(t *testing.T) {
	for _, test := range []struct{ location, traced string }{
		{"http://127.9.9.9/elsewhere", "127.0.0.0/8 is a loopback"},
		{"http://[::ffff:127.9.9.9]/elsewhere", "127.0.0.0/8 is a loopback"},
		{"http://169.254.169.254/latest/meta-data/", "169.254.169.254/32 is the metadata"},
		{"http://[::ffff:169.254.169.254]/", "169.254.169.254/32 is the metadata"},
		{"http://[64:ff9b::7f00:1]/", "127.0.0.0/8 (as NAT64)"},
		{"http://[64:ff9b::a9fe:a9fe]/", "169.254.169.254/32 (as NAT64)"},
		{"http://[2002:7f00:1::]/", "127.0.0.0/8 (as 6to4)"},
		{"http://[::1]/", "::1/128 is the loopback"},
		{"http://[fd00:ec2::254]/", "metadata"},
		{"http://0.0.0.0/", "unspecified"},
		{"http://inside.test/", "169.254.169.254/32 is the metadata"},
	} {
		w := newWorld(t, redirectFirst(test.location))
		w.config.Allow = prefixes("127.0.0.1/32")
		w.dns.set("inside.test", "A", "169.254.169.254")
		o := w.redirectAnywhere(t)
		wantProblem(t, o, acme.ErrUnauthorized, "redirects to the host")
		wantUntold(t, o, "loopback", "metadata", "refused", "127.0.0.1:", "latest")
		wantTraced(t, o, test.traced)
		if n := len(w.requests()); n != 1 || o.Retry {
			t.Errorf("%s: %d requests, retry %v", test.location, n, o.Retry)
		}
	}
}

// A redirect is resolved anew, and what the name has turned into is guarded.
func TestRedirectRebinding(t *testing.T) {
	w := newWorld(t, redirectFirst("/elsewhere"))
	var asked atomic.Int32
	w.dns.respond(func(_ string, q dns.Question, reply *dns.Msg) bool {
		if q.Qtype == dns.TypeA && asked.Add(1) > 1 {
			reply.Answer = []dns.RR{record("x.test. 0 IN A 169.254.169.254")}
		}
		return true
	})
	o := w.http01(t)
	wantProblem(t, o, acme.ErrConnection, refusedSilently, "redirect 1")
	wantTraced(t, o, "metadata")
	if len(w.requests()) != 1 {
		t.Error("the redirect reached a server")
	}
}

func TestRedirectSelf(t *testing.T) {
	w := newWorld(t, nil)
	own := uint16(portOf(t, newWorld(t, good).web.Listener.Addr()))
	w.config.TLSALPN01Port = int(own)
	w.serve(redirectFirst(fmt.Sprintf("http://x.test:%d/elsewhere", own)))
	w.config.Self = func() []netip.AddrPort { return []netip.AddrPort{netip.AddrPortFrom(netip.IPv6Unspecified(), own)} }
	o := w.http01(t)
	wantProblem(t, o, acme.ErrConnection, refusedSilently)
	wantTraced(t, o, "certctl or its database listens there")
}

func TestRedirectEndless(t *testing.T) {
	var n atomic.Int32
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, fmt.Sprintf("/%d", n.Add(1)), http.StatusFound)
	})
	o := w.http01(t)
	wantProblem(t, o, acme.ErrIncorrectResponse, "more than 10 redirects")
	if len(w.requests()) != 11 {
		t.Errorf("%d requests", len(w.requests()))
	}
	if len(o.Trace) > maxSteps {
		t.Errorf("%d steps", len(o.Trace))
	}
	// Ten are followed.
	n.Store(0)
	w.serve(func(rw http.ResponseWriter, r *http.Request) {
		if i := n.Add(1); i <= 10 {
			http.Redirect(rw, r, fmt.Sprintf("/%d", i), http.StatusFound)
			return
		}
		io.WriteString(rw, testKeyAuth)
	})
	wantValid(t, w.http01(t))
}

// What other hosts do is not told: not their addresses, whether they exist,
// what they answer, nor where they lead.
func TestRedirectTellsNothing(t *testing.T) {
	outcomes := map[string]func(*world){
		"body": func(w *world) {
			w.also(t, "127.0.0.2", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "SECRET") })
		},
		"status": func(w *world) { w.also(t, "127.0.0.3", http.NotFound); w.dns.set("other.test", "A", "127.0.0.3") },
		"closed": func(w *world) { w.dns.set("other.test", "A", "127.0.0.4") },
		"gone":   func(w *world) { w.dns.set("other.test", "A") },
		"onward": func(w *world) {
			w.also(t, "127.0.0.5", redirectAlways("ftp://SECRET.test/"))
			w.dns.set("other.test", "A", "127.0.0.5")
		},
		"onward, host": func(w *world) {
			w.also(t, "127.0.0.6", redirectAlways("http://SECRET.test/"))
			w.dns.set("other.test", "A", "127.0.0.6")
		},
	}
	details := map[string]string{}
	for name, prepare := range outcomes {
		w := newWorld(t, redirectFirst("http://other.test/elsewhere"))
		w.dns.set("other.test", "A", "127.0.0.2")
		prepare(w)
		o := w.redirectAnywhere(t)
		wantProblem(t, o, acme.ErrUnauthorized, "other.test")
		details[o.Problem.Detail] = name
		wantUntold(t, o, "SECRET", "secret", "127.0.0.", "404", "refused", "NXDOMAIN", "A record")
	}
	if len(details) != 1 {
		t.Errorf("the details tell outcomes apart: %v", details)
	}
}

func redirectAlways(location string) http.HandlerFunc {
	return func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Location", location)
		rw.WriteHeader(http.StatusFound)
	}
}

// Nothing of a body is told after a redirect to the same host either, but its
// status is.
func TestRedirectSameHostTellsStatus(t *testing.T) {
	w := newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == testPath {
			http.Redirect(rw, r, "/elsewhere?SECRET", http.StatusFound)
			return
		}
		http.Error(rw, "SECRET", http.StatusTeapot)
	})
	o := w.http01(t)
	wantProblem(t, o, acme.ErrUnauthorized, "status 418", "redirect 1", "127.0.0.1:")
	wantUntold(t, o, "SECRET")
	wantTraced(t, o, "SECRET")

	w = newWorld(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == testPath {
			http.Redirect(rw, r, "/elsewhere", http.StatusFound)
			return
		}
		io.WriteString(rw, "SECRET")
	})
	o = w.http01(t)
	wantProblem(t, o, acme.ErrIncorrectResponse, "redirect 1")
	wantUntold(t, o, "SECRET")
}

// The certificate is not verified, and HTTP/2 is not spoken.
func TestRedirectHTTPS(t *testing.T) {
	var got *http.Request
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		got = r
		io.WriteString(rw, testKeyAuth)
	}))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for _, location := range []string{"https://x.test/elsewhere", "https://x.test:PORT/elsewhere"} {
		w := newWorld(t, nil)
		w.config.TLSALPN01Port = portOf(t, secure.Listener.Addr())
		w.serve(redirectFirst(strings.ReplaceAll(location, "PORT", fmt.Sprint(w.config.TLSALPN01Port))))
		o := w.http01(t)
		wantValid(t, o)
		wantTraced(t, o, "tls x.test")
		if got.ProtoMajor != 1 || got.TLS.ServerName != "x.test" {
			t.Errorf("%s, SNI %q", got.Proto, got.TLS.ServerName)
		}
	}
}

func TestRedirectBrokenTLS(t *testing.T) {
	w := newWorld(t, redirectFirst("https://x.test/elsewhere"))
	w.config.TLSALPN01Port = portOf(t, newWorld(t, good).web.Listener.Addr())
	wantProblem(t, w.http01(t), acme.ErrTLS, "not TLS", "127.0.0.1:")

	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, net.ErrClosed },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	w.config.TLSALPN01Port = portOf(t, l.Addr())
	wantProblem(t, w.http01(t), acme.ErrTLS, "tls: internal error")
}

// Whatever a Location says, what is followed keeps to the rules.
func FuzzRedirect(f *testing.F) {
	for _, seed := range []string{
		"/a", "//y.test:80", "https://[::1]:443/", "http://[::ffff:7f00:1%25lo]", "http://x.test:/",
		"http://u@x.test", "ftp://x.test", "http://*.x.test", "?#", "http://X.test.", "http:\\\\x.test",
	} {
		f.Add(seed)
	}
	p, err := New(Config{HTTP01Port: 8081, TLSALPN01Port: 8443})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, location string) {
		var asked []string
		pr := &probe{Prober: p, Target: target("x.test"), trace: &recorder{now: p.now}, name: "x.test"}
		pr.RedirectAllowed = func(host string) bool {
			asked = append(asked, host)
			return true
		}
		to, reason := pr.redirect(pr.firstHop(), location, 1)
		if reason != "" {
			return
		}
		scheme, port := to.url.Scheme, to.port
		if scheme != "http" && scheme != "https" || port != 80 && port != 443 && port != 8081 && port != 8443 {
			t.Errorf("scheme %s, port %d", scheme, port)
		}
		if to.url.User != nil || to.addr.IsValid() == (to.name != "") || to.addr.Is4In6() || to.addr.Zone() != "" {
			t.Errorf("%+v", to)
		}
		if to.host() != "x.test" && (len(asked) != 1 || asked[0] != to.host() || !to.foreign) {
			t.Errorf("%+v after asking for %q", to, asked)
		}
		again, err := url.Parse(to.url.String())
		if err != nil || again.Hostname() != to.host() {
			t.Errorf("%s is asked for %s: %v", to.host(), to.url, err)
		}
	})
}
