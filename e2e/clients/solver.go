package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

// site listens at an address while challenges are presented there. acmez presents and cleans up one after another.
type site struct {
	address   string
	presented int
	listener  net.Listener

	mu sync.Mutex // guards what the embedding solver shows
}

// open counts a challenge and starts to listen at the first.
func (s *site) open(serve func(net.Listener)) error {
	if s.presented++; s.presented > 1 {
		return nil
	}
	var err error
	if s.listener, err = net.Listen("tcp", s.address); err != nil {
		return err
	}
	go serve(s.listener) // ends with the listener
	return nil
}

// CleanUp forgets a challenge and ends to listen at the last.
func (s *site) CleanUp(context.Context, acme.Challenge) error {
	if s.presented--; s.presented > 0 {
		return nil
	}
	return s.listener.Close()
}

// httpSolver answers http-01.
type httpSolver struct {
	site
	answers map[string]string // by path
}

// Present shows the key authorization.
func (s *httpSolver) Present(_ context.Context, challenge acme.Challenge) error {
	s.mu.Lock()
	s.answers[challenge.HTTP01ResourcePath()] = challenge.KeyAuthorization
	s.mu.Unlock()
	return s.open(func(l net.Listener) { _ = http.Serve(l, s) }) // the error tells that l was closed
}

// ServeHTTP answers the CA.
func (s *httpSolver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprint(w, s.answers[r.URL.Path])
}

// tlsSolver answers tls-alpn-01.
type tlsSolver struct {
	site
	certs []*tls.Certificate
}

// Present shows the certificate of the challenge.
func (s *tlsSolver) Present(_ context.Context, challenge acme.Challenge) error {
	cert, err := acmez.TLSALPN01ChallengeCert(challenge)
	if err != nil {
		return err
	}
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		return err
	}
	s.mu.Lock()
	s.certs = append(s.certs, cert)
	s.mu.Unlock()
	return s.open(s.serve)
}

// serve ends each connection after its handshake.
func (s *tlsSolver) serve(l net.Listener) {
	l = tls.NewListener(l, &tls.Config{GetCertificate: s.choose, NextProtos: []string{acmez.ACMETLS1Protocol}})
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, conn) // makes the handshake; the CA hangs up
		_ = conn.Close()
	}
}

// choose returns the certificate for the name asked for, which for an address is its reverse name (RFC 8738,
// Section 6).
func (s *tlsSolver) choose(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, cert := range s.certs {
		address := len(cert.Leaf.IPAddresses) > 0
		if address && strings.HasSuffix(hello.ServerName, ".arpa") || !address && cert.Leaf.VerifyHostname(hello.ServerName) == nil {
			return cert, nil
		}
	}
	return nil, errors.New("no challenge for " + hello.ServerName)
}
