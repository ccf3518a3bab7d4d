package e2e

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// lego is one lego with an account.
type lego struct {
	s         *server
	directory string
	dir       string
	port      int // that it answers challenges on
}

func newLego(t *testing.T, s *server, profile string, port int) *lego {
	t.Helper()
	return &lego{s: s, directory: s.directory(profile), dir: t.TempDir(), port: port}
}

func (l *lego) run(t *testing.T, names []string, command ...string) result {
	t.Helper()
	args := []string{"--server", l.directory, "--email", "you@example.com", "--accept-tos", "--path", l.dir,
		"--http", "--http.port", fmt.Sprintf("127.0.0.1:%d", l.port)}
	for _, name := range names {
		args = append(args, "--domains", name)
	}
	return run(t, l.dir, []string{"LEGO_CA_CERTIFICATES=" + l.s.rootsFile()}, "lego", append(args, command...)...)
}

func (l *lego) chain(name string) string {
	return filepath.Join(l.dir, "certificates", name+".crt")
}

func TestLego(t *testing.T) {
	t.Parallel()
	flags, port := validating(t)
	s := startServer(t, flags...)
	s.profile(t, "prof-test", "challenge", ".example.com")
	for _, tt := range []struct {
		mode, profile string
		names         []string
		log           string // that tells how it was authorized
	}{
		{"trust", "default", []string{"hello.test", "www.hello.test"}, "authorization already valid"},
		{"challenge", "prof-test", []string{"hello.example.com", "www.hello.example.com"}, "The server validated our request"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			l := newLego(t, s, tt.profile, port)
			ran := l.run(t, tt.names, "run").must(t)
			if n := strings.Count(ran.output(), tt.log); n != len(tt.names) {
				t.Errorf("%d of %d names: %s\n%s", n, len(tt.names), tt.log, ran.output())
			}
			first := s.verify(t, l.chain(tt.names[0]), tt.names...)

			l.run(t, tt.names, "renew", "--days", "1000", "--no-random-sleep").must(t)
			second := s.verify(t, l.chain(tt.names[0]), tt.names...)
			if first.SerialNumber.Cmp(second.SerialNumber) == 0 {
				t.Error("renew has left the old certificate")
			}
			s.mustNotBeRevoked(t, l.chain(tt.names[0]))
			l.run(t, tt.names, "revoke", "--keep", "--reason", "4").must(t)
			s.mustBeRevoked(t, l.chain(tt.names[0]), "Superseded")
			l.run(t, tt.names, "revoke", "--keep").mustFail(t, "acme:error:alreadyRevoked")
		})
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	flags, port := validating(t)
	s := startServer(t, flags...)
	s.profile(t, "prof-test", "challenge", ".example.com")
	at := fmt.Sprintf("127.0.0.1:%d", port)
	elsewhere := freePort(t)

	t.Run("name outside the profile", func(t *testing.T) {
		newLego(t, s, "prof-test", elsewhere).run(t, []string{"hello.example.org"}, "run").
			mustFail(t, "rejectedIdentifier", "hello.example.org", "prof-test")
		newLego(t, s, "default", elsewhere).run(t, []string{"hello.test", "hello.example.org"}, "run").
			mustFail(t, "rejectedIdentifier", "hello.example.org")
	})
	t.Run("nothing listens", func(t *testing.T) {
		newLego(t, s, "prof-test", elsewhere).run(t, []string{"closed.example.com"}, "run").
			mustFail(t, "acme:error:connection", "connecting for http://closed.example.com", at, "refused")
	})
	t.Run("name without address", func(t *testing.T) {
		name := strings.TrimSuffix(nowhere, ".")
		newLego(t, s, "prof-test", elsewhere).run(t, []string{name}, "run").mustFail(t, "acme:error:dns", name)
	})
	t.Run("another web server", func(t *testing.T) {
		listener, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		other := &http.Server{Handler: http.NotFoundHandler()}
		go func() { _ = other.Serve(listener) }() // ends with Close
		defer other.Close()
		newLego(t, s, "prof-test", elsewhere).run(t, []string{"other.example.com"}, "run").
			mustFail(t, "acme:error:unauthorized", "http://other.example.com", at, "status 404")
	})
}
