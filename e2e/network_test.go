package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// nowhere is a name below example.com that does not exist.
const nowhere = "nowhere.example.com."

// nameserver answers that every name below example.com is on this machine, but
// nowhere, and what else it was told, by tests or by clients with dynamic updates
// (RFC 2136).
type nameserver struct {
	address string

	mu      sync.Mutex
	records []dns.RR
	broken  map[string]bool // names whose questions fail
	asked   []dns.Question
}

// startDNS starts a server of names.
func startDNS(t *testing.T) *nameserver {
	t.Helper()
	n := &nameserver{address: fmt.Sprintf("127.0.0.1:%d", freePort(t)), broken: make(map[string]bool)}
	packets, err := net.ListenPacket("udp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", n.address)
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{PacketConn: packets}, {Listener: listener}} {
		server.Handler = dns.HandlerFunc(n.answer)
		server.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept } // updates too
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
	return n
}

// add publishes records in the form of a zone file.
func (n *nameserver) add(t *testing.T, lines ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, line := range lines {
		record, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		n.records = append(n.records, record)
	}
}

// fail makes questions about a name fail.
func (n *nameserver) fail(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken[name] = true
}

// count returns how many questions of a type were asked.
func (n *nameserver) count(qtype uint16) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, q := range n.asked {
		if q.Qtype == qtype {
			count++
		}
	}
	return count
}

// published returns how many records of a type there are.
func (n *nameserver) published(rrtype uint16) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, r := range n.records {
		if r.Header().Rrtype == rrtype {
			count++
		}
	}
	return count
}

func (n *nameserver) answer(w dns.ResponseWriter, request *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	answer := new(dns.Msg).SetReply(request)
	if request.Opcode == dns.OpcodeUpdate {
		n.update(request.Ns)
	} else {
		n.asked = append(n.asked, request.Question[0])
		n.resolve(answer, request.Question[0])
	}
	_ = w.WriteMsg(answer) // who asked asks again
}

// update adds records and removes them, one by one (RFC 2136, Section 2.5).
func (n *nameserver) update(changes []dns.RR) {
	for _, change := range changes {
		header := change.Header()
		if header.Class == dns.ClassINET {
			n.records = append(n.records, change)
			continue
		}
		header.Class = dns.ClassINET
		n.records = slices.DeleteFunc(n.records, func(r dns.RR) bool { return dns.IsDuplicate(r, change) })
	}
}

func (n *nameserver) resolve(answer *dns.Msg, q dns.Question) {
	name := strings.ToLower(q.Name)
	known := false
	for range 8 { // CNAMEs
		alias := ""
		for _, r := range n.records {
			if header := r.Header(); strings.EqualFold(header.Name, name) {
				known = true
				if cname, ok := r.(*dns.CNAME); ok && q.Qtype != dns.TypeCNAME {
					alias = strings.ToLower(cname.Target)
				} else if header.Rrtype != q.Qtype {
					continue
				}
				answer.Answer = append(answer.Answer, r)
			}
		}
		if alias == "" {
			break
		}
		name = alias
	}
	switch {
	case n.broken[name]:
		answer.Rcode = dns.RcodeServerFailure
	case known || name == "example.com." || name == "com.":
		// There, without records: what CAA asks the parents for (RFC 8659, Section 3).
	case name == nowhere || !strings.HasSuffix(name, ".example.com."):
		answer.Rcode = dns.RcodeNameError
	}
	if answer.Rcode == dns.RcodeSuccess && q.Qtype == dns.TypeA && strings.HasSuffix(name, ".example.com.") {
		answer.Answer = append(answer.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET},
			A:   net.IPv4(127, 0, 0, 1),
		})
	}
}

// network is what a server that validates on this machine finds there.
type network struct {
	names             *nameserver
	httpPort, tlsPort int // of http-01 and tls-alpn-01
}

func newNetwork(t *testing.T) *network {
	t.Helper()
	return &network{names: startDNS(t), httpPort: freePort(t), tlsPort: freePort(t)}
}

// flags are those of the server.
func (n *network) flags() []string {
	return []string{
		"--acme-server-http01-port", fmt.Sprint(n.httpPort),
		"--acme-server-tlsalpn01-port", fmt.Sprint(n.tlsPort),
		"--acme-server-validation-allow-cidrs", "127.0.0.0/8,::1/128",
		"--acme-server-dns01-resolver", n.names.address,
	}
}

// validating returns the flags of a server that validates http-01 on this
// machine, and the port that it connects to.
func validating(t *testing.T) (flags []string, port int) {
	t.Helper()
	n := newNetwork(t)
	return n.flags(), n.httpPort
}
