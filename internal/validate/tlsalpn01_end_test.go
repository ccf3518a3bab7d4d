package validate

import (
	"crypto/tls"
	"errors"
	"os"
	"testing"
	"time"
)

// TestTLSALPN01SaysNothing: "Once the handshake is completed, the client MUST NOT
// exchange any further data with the server and MUST immediately close the
// connection" (RFC 8737, Section 4).
func TestTLSALPN01SaysNothing(t *testing.T) {
	for name, change := range map[string]func(*proof){
		"valid":   func(*proof) {},
		"invalid": func(p *proof) { p.critical = false },
	} {
		t.Run(name, func(t *testing.T) {
			p := goodProof()
			change(p)
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{NextProtos: p.protocol, Certificates: []tls.Certificate{p.certificate(t)}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			w := newWorld(t, good)
			w.config.TLSALPN01Port = portOf(t, l.Addr())
			heard := make(chan error, 1)
			go func() {
				conn, err := l.Accept()
				if err != nil {
					heard <- err
					return
				}
				defer conn.Close()
				if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
					heard <- err
					return
				}
				n, err := conn.Read(make([]byte, 1))
				switch {
				case n > 0:
					heard <- errors.New("was sent data")
				case errors.Is(err, os.ErrDeadlineExceeded):
					heard <- errors.New("the connection was left open")
				default:
					heard <- nil
				}
			}()
			o := w.prober(t).TLSALPN01(t.Context(), target("x.test"))
			if valid := o.Problem == nil; valid != (name == "valid") {
				t.Errorf("outcome %+v", o.Problem)
			}
			if err := <-heard; err != nil {
				t.Error(err)
			}
		})
	}
}
