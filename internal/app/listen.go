package app

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Time and size limits of every request: a client that stalls is let go.
const (
	readHeaderTime = 10 * time.Second
	readTime       = 30 * time.Second
	writeTime      = 60 * time.Second
	idleTime       = 3 * time.Minute
	maxHeaderBytes = 16 << 10
)

// listener is one address that is served.
type listener struct {
	net.Listener
	handler http.Handler
	server  *http.Server
}

// listeners are the two addresses: private serves ACME and the API over TLS,
// public serves CRLs and CA certificates over plain HTTP.
type listeners struct {
	private, public listener
}

func (l *listeners) open(cfg Config) error {
	for _, o := range []struct {
		to            *listener
		address, name string
	}{
		{&l.private, cfg.Listen, "CERTCTL_LISTEN"},
		{&l.public, cfg.PublicListen, "CERTCTL_PUBLIC_LISTEN"},
	} {
		listening, err := net.Listen("tcp", o.address)
		if errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("another program listens on %s; stop it, or set %s", o.address, o.name)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		o.to.Listener = listening
	}
	return nil
}

// addresses returns where the server listens, which validation never dials.
func (l *listeners) addresses() []netip.AddrPort {
	var all []netip.AddrPort
	for _, one := range []listener{l.private, l.public} {
		if addr, ok := one.Addr().(*net.TCPAddr); ok {
			all = append(all, addr.AddrPort())
		}
	}
	return all
}

// serve starts both servers. The channel tells when one of them fails.
func (l *listeners) serve(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), log *slog.Logger) <-chan error {
	failed := make(chan error, 2)
	errorLog := stdlog.New(httpErrors{log}, "", 0)
	for _, one := range []*listener{&l.private, &l.public} {
		one.server = &http.Server{
			Handler:           one.handler,
			ReadHeaderTimeout: readHeaderTime,
			ReadTimeout:       readTime,
			WriteTimeout:      writeTime,
			IdleTimeout:       idleTime,
			MaxHeaderBytes:    maxHeaderBytes,
			ErrorLog:          errorLog,
		}
	}
	l.private.server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate}
	go func() { failed <- l.private.server.ServeTLS(l.private.Listener, "", "") }()
	go func() { failed <- l.public.server.Serve(l.public.Listener) }()
	return failed
}

// httpErrors is where package http writes to: of clients that break connections,
// which is daily life, and of handlers that panic, which is ours.
type httpErrors struct{ log *slog.Logger }

func (w httpErrors) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.Contains(line, []byte("panic serving")) {
		level = slog.LevelError
	}
	w.log.Log(context.Background(), level, strings.TrimSpace(string(line)))
	return len(line), nil
}

// shutdown stops listening and waits for the requests under way.
func (l *listeners) shutdown(ctx context.Context) error {
	return errors.Join(l.private.server.Shutdown(ctx), l.public.server.Shutdown(ctx))
}

// close ends what shutdown did not, or a start that failed.
func (l *listeners) close() {
	for _, one := range []listener{l.private, l.public} {
		switch {
		case one.server != nil:
			_ = one.server.Close() // nothing is left to be told
		case one.Listener != nil:
			_ = one.Listener.Close()
		}
	}
}
