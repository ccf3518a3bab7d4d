package validate

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/certctl/certctl/internal/acme"
)

// A dialError is that none of the addresses could be connected to.
type dialError struct {
	tries []try
}

type try struct {
	dst netip.AddrPort
	err error
}

func (e *dialError) Error() string {
	parts := make([]string, len(e.tries))
	for i, t := range e.tries {
		parts[i] = fmt.Sprintf("%v: %s", t.dst, describe(t.err))
	}
	return strings.Join(parts, "; ")
}

// transient reports whether one of the connections may succeed another time.
func (e *dialError) transient() bool {
	for _, t := range e.tries {
		if transient(t.err) {
			return true
		}
	}
	return false
}

// connect dials the addresses in order until one answers. Each gets an equal
// share of the time that is left, and what follows the connection one as well.
// The connection does not outlive ctx.
func (pr *probe) connect(ctx context.Context, addrs []netip.Addr, port uint16) (*connection, *dialError) {
	failed := &dialError{}
	for i, addr := range addrs {
		dst := netip.AddrPortFrom(addr, port)
		conn, err := pr.dial(ctx, dst, len(addrs)-i+1)
		if err == nil {
			pr.trace.add(StepDial, "", dst.String(), "connected")
			return watched(ctx, conn, dst), nil
		}
		pr.trace.add(StepDial, "", dst.String(), "%v", err)
		failed.tries = append(failed.tries, try{dst, err})
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

func (pr *probe) dial(ctx context.Context, dst netip.AddrPort, shares int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(shares))
		defer cancel()
	}
	d := net.Dialer{ControlContext: pr.guard.control, KeepAlive: -1}
	return d.DialContext(ctx, "tcp", dst.String())
}

// A connection is one that the guard let pass.
type connection struct {
	net.Conn
	addr netip.AddrPort
	stop func() bool
}

// watched makes reads and writes on conn fail once ctx is done.
func watched(ctx context.Context, conn net.Conn, addr netip.AddrPort) *connection {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline) // conn is closed by Close all the same
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return &connection{conn, addr, stop}
}

func (c *connection) Close() error {
	c.stop()
	return c.Conn.Close()
}

// handshake turns a connection into one over TLS. Every configuration here
// leaves the certificate to the caller: a host that has no certificate yet
// cannot show a good one.
func (pr *probe) handshake(ctx context.Context, conn *connection, config *tls.Config) (*tls.Conn, error) {
	secured := tls.Client(conn, config)
	err := secured.HandshakeContext(ctx)
	if err != nil {
		pr.trace.add(StepTLS, config.ServerName, conn.addr.String(), "%v", err)
		return nil, err
	}
	state := secured.ConnectionState()
	pr.trace.add(StepTLS, config.ServerName, conn.addr.String(), "%s, protocol %q",
		tls.VersionName(state.Version), state.NegotiatedProtocol)
	return secured, nil
}

// transient reports whether an error of a connection may pass by itself: a
// server that is starting, a route that is not there yet.
func transient(err error) bool {
	for _, e := range []error{
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE,
		syscall.EHOSTUNREACH, syscall.ENETUNREACH,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// describe says for the client what went wrong on a connection. It is made of
// fixed phrases: the texts of errors can quote what the other side sent.
func describe(err error) string {
	var refused *refusal
	var remote *net.OpError
	var notTLS tls.RecordHeaderError
	switch {
	case errors.As(err, &refused):
		return refused.client
	case timedOut(err):
		return "timed out"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to host"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT),
		errors.Is(err, syscall.EADDRNOTAVAIL):
		return "network is unreachable"
	case errors.Is(err, errTooMuch):
		return "the answer is too long"
	case errors.As(err, &notTLS):
		return "the answer is not TLS"
	case errors.As(err, &remote) && remote.Op == "remote error":
		return remote.Err.Error() // the name of a TLS alert
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed in the middle"
	default:
		return "the answer breaks the protocol"
	}
}

func timedOut(err error) bool {
	var netErr net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		// A connection that its context has closed.
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.Canceled) ||
		errors.As(err, &netErr) && netErr.Timeout()
}

// connectionFailure is the failure of a step after dialling, told with its
// place.
func connectionFailure(place string, err error) *failure {
	return failf(acme.ErrConnection, "%s: %s", place, describe(err)).orRetry(transient(err))
}

// tlsFailure is the failure of a handshake. Silence and resets have nothing to
// do with TLS.
func tlsFailure(place string, err error) *failure {
	f := connectionFailure(place, err)
	if !timedOut(err) && !transient(err) {
		f.problem = acme.ErrTLS
	}
	return f
}
