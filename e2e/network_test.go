package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// nowhere is a name below example.com that does not exist.
const nowhere = "nowhere.example.com."

// startDNS answers that every name below example.com is on this machine, but
// nowhere, and returns its address.
func startDNS(t *testing.T) string {
	t.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: packets}, {Listener: listener}} {
		server.Handler = dns.HandlerFunc(resolve)
		ended := make(chan error, 1)
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := server.Shutdown(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return address
}

func resolve(w dns.ResponseWriter, request *dns.Msg) {
	answer := new(dns.Msg).SetReply(request)
	name := strings.ToLower(request.Question[0].Name)
	switch {
	case name == "example.com." || name == "com.":
		// There, without records: what CAA asks the parents for (RFC 8659, Section 3).
	case name == nowhere || !strings.HasSuffix(name, ".example.com."):
		answer.Rcode = dns.RcodeNameError
	case request.Question[0].Qtype == dns.TypeA:
		answer.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: request.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
			A:   net.IPv4(127, 0, 0, 1),
		}}
	}
	_ = w.WriteMsg(answer) // who asked asks again
}

// validating returns the flags of a server that validates http-01 on this
// machine, and the port that it connects to.
func validating(t *testing.T) (flags []string, port int) {
	t.Helper()
	port = freePort(t)
	return []string{
		"--acme-server-http01-port", fmt.Sprint(port),
		"--acme-server-validation-allow-cidrs", "127.0.0.0/8,::1/128",
		"--acme-server-dns01-resolver", startDNS(t),
	}, port
}
