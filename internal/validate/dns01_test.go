package validate

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/certctl/certctl/internal/acme"
)

// SHA-256 of testKeyAuth in base64url, from a tool other than Go.
const testDigest = "LPsIwTo7o8BoG0-vjCyGQGBWSVIPxI-i_X336eUOQZo"

func TestDNS01Valid(t *testing.T) {
	w := newWorld(t, good)
	w.dns.set("_acme-challenge.x.test", "TXT", `"`+testDigest+`"`)
	o := w.prober(t).DNS01(t.Context(), target("x.test"))
	wantValid(t, o)
	if len(w.dns.questions()) != 1 {
		t.Errorf("asked %v", w.dns.questions())
	}
}

// Several orders for one name leave several records.
func TestDNS01ManyRecords(t *testing.T) {
	w := newWorld(t, good)
	var texts []string
	for i := range 60 {
		texts = append(texts, fmt.Sprintf(`"%043d"`, i))
	}
	w.dns.set("_acme-challenge.x.test", "TXT", append(texts, `"`+testDigest+`"`)...)
	w.dns.respond(func(network string, _ dns.Question, reply *dns.Msg) bool {
		if network == "udp" {
			reply.Truncate(udpSize)
		}
		return true
	})
	wantValid(t, w.prober(t).DNS01(t.Context(), target("x.test")))
	if w.dns.count("tcp _acme-challenge.x.test. TXT") != 1 {
		t.Errorf("asked %v", w.dns.questions())
	}
}

func TestDNS01StringsAreJoined(t *testing.T) {
	w := newWorld(t, good)
	w.dns.set("_acme-challenge.x.test", "TXT", `"`+testDigest[:10]+`" "`+testDigest[10:]+`"`)
	wantValid(t, w.prober(t).DNS01(t.Context(), target("x.test")))
	w.dns.set("_acme-challenge.x.test", "TXT", `"`+testDigest[:10]+`"`, `"`+testDigest[10:]+`"`)
	wantProblem(t, w.prober(t).DNS01(t.Context(), target("x.test")), acme.ErrIncorrectResponse)
}

func TestDNS01Alias(t *testing.T) {
	w := newWorld(t, good)
	w.dns.set("_acme-challenge.x.test", "CNAME", "x.acme.corp.test.")
	w.dns.set("x.acme.corp.test", "CNAME", "y.acme.corp.test.")
	w.dns.set("y.acme.corp.test", "TXT", `"`+testDigest+`"`)
	wantValid(t, w.prober(t).DNS01(t.Context(), target("x.test")))

	w.dns.set("y.acme.corp.test", "TXT", `"SECRET"`)
	o := w.prober(t).DNS01(t.Context(), target("x.test"))
	wantProblem(t, o, acme.ErrIncorrectResponse, "_acme-challenge.x.test")
	wantUntold(t, o, "SECRET", "corp")
	wantTraced(t, o, "SECRET")
}

func TestDNS01Wrong(t *testing.T) {
	w := newWorld(t, good)
	p := w.prober(t)
	o := p.DNS01(t.Context(), target("x.test"))
	wantProblem(t, o, acme.ErrDNS, "NXDOMAIN", "TXT for _acme-challenge.x.test")
	w.dns.set("_acme-challenge.x.test", "A", "127.0.0.1")
	o = p.DNS01(t.Context(), target("x.test"))
	wantProblem(t, o, acme.ErrUnauthorized, "no TXT record")
	for _, text := range []string{
		testDigest + "x", testDigest[1:], strings.ToLower(testDigest), testDigest + "=", testKeyAuth, " " + testDigest, "",
	} {
		w.dns.set("_acme-challenge.x.test", "TXT", `"`+text+`"`)
		o := p.DNS01(t.Context(), target("x.test"))
		wantProblem(t, o, acme.ErrIncorrectResponse, testDigest)
		if o.Retry {
			t.Error("retry")
		}
	}
	w.dns.set("_acme-challenge.x.test", "TXT", `"`+strings.Repeat("A", 64)+`SECRET"`)
	o = p.DNS01(t.Context(), target("x.test"))
	wantUntold(t, o, "SECRET")
	wantTraced(t, o, "SECRET")

	// A record elsewhere is no record.
	w.dns.set("_acme-challenge.x.test", "TXT")
	w.dns.respond(func(_ string, q dns.Question, reply *dns.Msg) bool {
		reply.Answer = []dns.RR{record("_acme-challenge.y.test. 0 IN TXT " + testDigest)}
		return true
	})
	wantProblem(t, p.DNS01(t.Context(), target("x.test")), acme.ErrUnauthorized, "no TXT record")
}

func TestDNS01NotForAddresses(t *testing.T) {
	w := newWorld(t, good)
	wantProblem(t, w.prober(t).DNS01(t.Context(), target("127.0.0.1")), acme.ErrMalformed)
	if len(w.dns.questions()) > 0 {
		t.Errorf("asked %v", w.dns.questions())
	}
}

func TestDNS01LongName(t *testing.T) {
	w := newWorld(t, good)
	long := strings.Repeat("a234567.", 30) + "test1234567a"
	o := w.prober(t).DNS01(t.Context(), target(long))
	wantProblem(t, o, acme.ErrDNS, "too long")
}
