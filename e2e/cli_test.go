package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/certctl/certctl/bench"
)

// TestCommandLineTellsWhatHappened follows one certificate from the profile that
// it was issued under to its revocation, by what certctl's commands print.
func TestCommandLineTellsWhatHappened(t *testing.T) {
	t.Parallel()
	flags, port := validating(t)
	s := startServer(t, flags...)
	created := s.certctl(t, "profile", "create", "prof-test", "--issuer", "iss-local", "--auth-mode", "challenge", "--allow-domain", ".example.com").must(t)
	if !strings.Contains(created.stdout, s.directory("prof-test")) {
		t.Errorf("profile create does not tell the directory: %s", created.output())
	}
	l := newLego(t, s, "prof-test", port)
	l.run(t, []string{"hello.example.com"}, "run").must(t)
	serial := serialOf(s.verify(t, l.chain("hello.example.com"), "hello.example.com"))

	orders := s.certctl(t, "order", "list", "--name", "hello.example.com").must(t)
	line := regexp.MustCompile(`(?m)^(\S+) +valid .* prof-test +hello\.example\.com`).FindStringSubmatch(orders.stdout)
	if line == nil {
		t.Fatalf("order list:\n%s", orders.stdout)
	}
	s.mustTell(t, []string{"order", "show", line[1]}, serial, "http-01", "127.0.0.1")
	s.mustTell(t, []string{"cert", "show", serial}, serial, "valid", "hello.example.com", "prof-test", "iss-local", line[1])
	for action, resource := range map[string]string{
		"profile_created":          "prof-test",
		"acme_account_created":     "",
		"acme_order_created":       line[1],
		"acme_challenge_completed": "",
		"acme_order_finalized":     line[1],
		"certificate_issued":       serial,
	} {
		s.mustTell(t, []string{"audit", "list", "--action", action}, action, resource)
	}
	pem := s.certctl(t, "cert", "show", serial, "--pem").must(t)
	if pem.stdout != readFile(t, l.chain("hello.example.com")) {
		t.Errorf("cert show --pem is not what lego was given:\n%s", pem.stdout)
	}

	s.certctl(t, "cert", "revoke", serial, "--reason", "keyCompromise").must(t)
	s.mustTell(t, []string{"cert", "show", serial}, "revoked", "keyCompromise")
	s.mustTell(t, []string{"audit", "list", "--resource", serial}, "certificate_revoked", "api:")
	s.mustBeRevoked(t, l.chain("hello.example.com"), "Key Compromise")
}

// TestFailureIsTold has the operator find out why an order failed.
func TestFailureIsTold(t *testing.T) {
	t.Parallel()
	flags, _ := validating(t)
	s := startServer(t, flags...)
	s.profile(t, "prof-test", "challenge", ".example.com")
	name := strings.TrimSuffix(nowhere, ".")
	newLego(t, s, "prof-test", freePort(t)).run(t, []string{name}, "run").mustFail(t)
	s.mustTell(t, []string{"order", "list"}, "invalid", "validation of "+name, "failed", "NXDOMAIN")
}

// mustTell runs a command and looks for what it must print.
func (s *server) mustTell(t *testing.T, args []string, want ...string) {
	t.Helper()
	r := s.certctl(t, args...).must(t)
	for _, text := range want {
		if !strings.Contains(r.stdout, text) {
			t.Errorf("%s does not tell %q:\n%s", r.command, text, r.output())
		}
	}
}

// TestBenchCommand runs the load driver as users do, in both modes.
func TestBenchCommand(t *testing.T) {
	t.Parallel()
	flags, port := validating(t)
	s := startServer(t, flags...)
	s.profile(t, "prof-test", "challenge", ".example.com")
	common := []string{"bench", "--roots-file", s.rootsFile(), "--clients", "4", "--orders", "20", "--json"}
	for _, args := range [][]string{
		{"--directory", s.directory("default"), "--names", "3"},
		{"--directory", s.directory("default"), "--accounts", "1", "--new-connections"},
		{"--directory", s.directory("prof-test"), "--mode", "http-01", "--domain", "example.com", "--http-listen", "127.0.0.1:" + strconv.Itoa(port)},
	} {
		r := s.certctl(t, append(common, args...)...).must(t)
		var report bench.Report
		if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
			t.Fatalf("%v\n%s", err, r.output())
		}
		if report.Issued != 20 || report.Failed() != 0 || report.Rate <= 0 || report.Latency.P50 <= 0 || report.RequestsPerOrder < 3 {
			t.Errorf("%s: %+v", r.command, report)
		}
	}
	refused := s.certctl(t, append(common, "--directory", s.directory("default"), "--domain", "example.org")...)
	refused.mustFail(t, "certctl: 20 of 20 orders failed; the first: newOrder: rejectedIdentifier: ", `"newOrder rejectedIdentifier": 20`)
	other := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(other, []byte(readFile(t, startServer(t).rootsFile())), 0o600); err != nil {
		t.Fatal(err)
	}
	s.certctl(t, "bench", "--directory", s.directory("default"), "--roots-file", other).mustFail(t, "certificate signed by unknown authority")
}
