package validate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/certctl/certctl/internal/acme"
)

// A proof is the certificate of a tls-alpn-01 server, and its handshake.
type proof struct {
	template x509.Certificate
	value    []byte // of the acmeIdentifier extension
	critical bool
	without  bool // the extension
	san      []byte
	issuer   *x509.Certificate // instead of itself
	alien    bool              // signed with a key that is not its own
	protocol []string
	version  uint16
}

func goodProof() *proof {
	digest := sha256.Sum256([]byte(testKeyAuth))
	value, _ := asn1.Marshal(digest[:])
	return &proof{
		template: x509.Certificate{
			SerialNumber: big.NewInt(1),
			Subject:      pkix.Name{CommonName: "ACME challenge"},
			NotBefore:    time.Now().Add(-24 * time.Hour),
			NotAfter:     time.Now().Add(-time.Hour), // expiry does not matter
			DNSNames:     []string{"x.test"},
		},
		value:    value,
		critical: true,
		protocol: []string{protocolACMETLS},
	}
}

// serve listens at ip and returns the port and the client hello of the last
// connection.
func (p *proof) serve(t *testing.T, ip string) (port int, hello func() *tls.ClientHelloInfo) {
	t.Helper()
	var mu sync.Mutex
	var last *tls.ClientHelloInfo
	config := &tls.Config{
		NextProtos:   p.protocol,
		MaxVersion:   p.version,
		MinVersion:   tls.VersionTLS10,
		Certificates: []tls.Certificate{p.certificate(t)},
	}
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		mu.Lock()
		defer mu.Unlock()
		last = h
		return nil, nil
	}
	l, err := tls.Listen("tcp", net.JoinHostPort(ip, "0"), config)
	if err != nil {
		t.Fatalf("cannot listen on %s: %v", ip, err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				conn.(*tls.Conn).Handshake()
				conn.Close()
			}()
		}
	}()
	return portOf(t, l.Addr()), func() *tls.ClientHelloInfo {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
}

func (p *proof) certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := p.template
	if !p.without {
		template.ExtraExtensions = append(template.ExtraExtensions,
			pkix.Extension{Id: oidACMEIdentifier, Critical: p.critical, Value: p.value})
	}
	if p.san != nil {
		template.DNSNames = nil
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oidSubjectAltName, Value: p.san})
	}
	issuer, signer := &template, key
	if p.issuer != nil {
		issuer = p.issuer
	}
	if p.alien || p.issuer != nil {
		if signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, issuer, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (p *proof) run(t *testing.T) Outcome {
	t.Helper()
	w := newWorld(t, good)
	w.config.TLSALPN01Port, _ = p.serve(t, "127.0.0.1")
	return w.prober(t).TLSALPN01(t.Context(), target("x.test"))
}

func TestTLSALPN01Valid(t *testing.T) {
	w := newWorld(t, good)
	var hello func() *tls.ClientHelloInfo
	w.config.TLSALPN01Port, hello = goodProof().serve(t, "127.0.0.1")
	o := w.prober(t).TLSALPN01(t.Context(), target("x.test"))
	wantValid(t, o)
	wantTraced(t, o, `protocol "acme-tls/1"`)
	h := hello()
	// RFC 8737, Section 3.
	if h.ServerName != "x.test" || len(h.SupportedProtos) != 1 || h.SupportedProtos[0] != "acme-tls/1" {
		t.Errorf("SNI %q, ALPN %q", h.ServerName, h.SupportedProtos)
	}
	for _, v := range h.SupportedVersions {
		if v < tls.VersionTLS12 {
			t.Errorf("offered %s", tls.VersionName(v))
		}
	}
	p := goodProof()
	p.version = tls.VersionTLS12
	p.template.DNSNames = []string{"X.Test"} // RFC 4343
	wantValid(t, p.run(t))
}

func TestTLSALPN01Addresses(t *testing.T) {
	for addr, sni := range map[string]string{
		"127.0.0.1": "1.0.0.127.in-addr.arpa",
		"::1":       "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
	} {
		p := goodProof()
		p.template.DNSNames = nil
		p.template.IPAddresses = []net.IP{net.ParseIP(addr)}
		w := newWorld(t, good)
		w.config.Allow = append(w.config.Allow, netip.MustParsePrefix("::1/128"))
		var hello func() *tls.ClientHelloInfo
		w.config.TLSALPN01Port, hello = p.serve(t, addr)
		wantValid(t, w.prober(t).TLSALPN01(t.Context(), target(addr)))
		if got := hello().ServerName; got != sni {
			t.Errorf("SNI %q; want %q", got, sni)
		}
		// The reverse name, or the address as a DNS name, is not the address.
		for _, name := range []string{sni, addr} {
			p.template.IPAddresses, p.template.DNSNames = nil, []string{name}
			w.config.TLSALPN01Port, _ = p.serve(t, addr)
			wantProblem(t, w.prober(t).TLSALPN01(t.Context(), target(addr)), acme.ErrIncorrectResponse, "not the identifier")
		}
	}
	pr := &probe{addr: netip.MustParseAddr("2001:db8::1")}
	// RFC 8738, Section 6.
	if got := pr.serverName(); got != "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa" {
		t.Errorf("SNI %q", got)
	}
}

func TestTLSALPN01Wrong(t *testing.T) {
	other := sha256.Sum256([]byte("other"))
	tests := map[string]struct {
		change func(*proof)
		typ    acme.ErrorType
		told   string
	}{
		"no ALPN":       {func(p *proof) { p.protocol = nil }, acme.ErrUnauthorized, "did not negotiate"},
		"other ALPN":    {func(p *proof) { p.protocol = []string{"h2", "http/1.1"} }, acme.ErrTLS, "no application protocol"},
		"TLS 1.1":       {func(p *proof) { p.version = tls.VersionTLS11 }, acme.ErrTLS, ""},
		"no extension":  {func(p *proof) { p.without = true }, acme.ErrIncorrectResponse, "no acmeIdentifier"},
		"not critical":  {func(p *proof) { p.critical = false }, acme.ErrIncorrectResponse, "not critical"},
		"other digest":  {func(p *proof) { p.value, _ = asn1.Marshal(other[:]) }, acme.ErrIncorrectResponse, "not the digest"},
		"bare digest":   {func(p *proof) { p.value = p.value[2:] }, acme.ErrIncorrectResponse, "not an octet string"},
		"long digest":   {func(p *proof) { p.value, _ = asn1.Marshal(make([]byte, 33)) }, acme.ErrIncorrectResponse, "not an octet string"},
		"trailing data": {func(p *proof) { p.value = append(p.value, 0) }, acme.ErrIncorrectResponse, "not an octet string"},
		"empty":         {func(p *proof) { p.value = nil }, acme.ErrIncorrectResponse, "not an octet string"},
		"other name":    {func(p *proof) { p.template.DNSNames = []string{"y.test"} }, acme.ErrIncorrectResponse, "not the identifier"},
		"wildcard":      {func(p *proof) { p.template.DNSNames = []string{"*.test"} }, acme.ErrIncorrectResponse, "not the identifier"},
		"two names":     {func(p *proof) { p.template.DNSNames = []string{"x.test", "y.test"} }, acme.ErrIncorrectResponse, "exactly one"},
		"same twice":    {func(p *proof) { p.template.DNSNames = []string{"x.test", "x.test"} }, acme.ErrIncorrectResponse, "exactly one"},
		"and address":   {func(p *proof) { p.template.IPAddresses = []net.IP{{127, 0, 0, 1}} }, acme.ErrIncorrectResponse, "exactly one"},
		"and e-mail":    {func(p *proof) { p.template.EmailAddresses = []string{"a@x.test"} }, acme.ErrIncorrectResponse, "exactly one"},
		"as e-mail":     {func(p *proof) { p.template.DNSNames = nil; p.template.EmailAddresses = []string{"x.test"} }, acme.ErrIncorrectResponse, "not the identifier"},
		"no name":       {func(p *proof) { p.template.DNSNames = nil }, acme.ErrIncorrectResponse, "no subjectAltName"},
		// A name of a kind that x509 does not report: registeredID 1.2.3.
		"and OID":          {func(p *proof) { p.san = sequence("\x82\x06x.test\x88\x02\x2a\x03") }, acme.ErrIncorrectResponse, "exactly one"},
		"issued by a CA":   {func(p *proof) { p.issuer = &x509.Certificate{Subject: pkix.Name{CommonName: "CA"}} }, acme.ErrIncorrectResponse, "not self-signed"},
		"signed elsewhere": {func(p *proof) { p.alien = true }, acme.ErrIncorrectResponse, "not self-signed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := goodProof()
			test.change(p)
			o := p.run(t)
			wantProblem(t, o, test.typ, test.told, "127.0.0.1:")
			if o.Retry {
				t.Error("retry")
			}
		})
	}
}

func sequence(content string) []byte {
	return append([]byte{0x30, byte(len(content))}, content...)
}

func TestTLSALPN01Unreachable(t *testing.T) {
	w := newWorld(t, good)
	w.config.TLSALPN01Port = portOf(t, w.web.Listener.Addr())
	p := w.prober(t)
	wantProblem(t, p.TLSALPN01(t.Context(), target("x.test")), acme.ErrTLS, "not TLS")
	wantProblem(t, p.TLSALPN01(t.Context(), target("gone.test")), acme.ErrDNS, "NXDOMAIN")

	w.config.Allow = nil
	wantProblem(t, w.prober(t).TLSALPN01(t.Context(), target("x.test")), acme.ErrConnection, "loopback")
	wantProblem(t, w.prober(t).TLSALPN01(t.Context(), target("127.0.0.1")), acme.ErrConnection, "loopback")

	w.web.Close()
	o := p.TLSALPN01(t.Context(), target("x.test"))
	wantProblem(t, o, acme.ErrConnection, "connection refused")
	if !o.Retry {
		t.Error("no retry")
	}
}

func TestTLSALPN01Slow(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t, good)
	w.config.TLSALPN01Port = portOf(t, l.Addr())
	w.config.Timeout = 200 * time.Millisecond
	begin := time.Now()
	wantProblem(t, w.prober(t).TLSALPN01(t.Context(), target("x.test")), acme.ErrConnection, "timed out")
	if d := time.Since(begin); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
}
