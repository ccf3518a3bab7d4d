package e2e

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestTLS holds that the server shows everybody a chain that leads to its own
// root.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	address := strings.TrimPrefix(s.url, "https://")
	for _, flags := range [][]string{
		{"-servername", "localhost", "-verify_hostname", "localhost"},
		{"-noservername", "-verify_hostname", "localhost"},
		{"-noservername", "-verify_ip", "127.0.0.1"},
		{"-servername", "unknown.example", "-verify_ip", "::1"},
		{"-tls1_2", "-servername", "localhost"},
		{"-tls1_3", "-servername", "localhost"},
	} {
		args := append([]string{"s_client", "-connect", address, "-CAfile", s.rootsFile(), "-x509_strict", "-verify_return_error"}, flags...)
		r := run(t, s.dir, nil, "openssl", args...).must(t)
		if !strings.Contains(r.stdout, "Verify return code: 0 (ok)") {
			t.Errorf("%s\n%s", r.command, r.output())
		}
	}
	run(t, s.dir, nil, "openssl", "s_client", "-connect", address, "-CAfile", s.rootsFile(), "-tls1_1").mustFail(t)

	response, err := s.client(t).Get(s.url + "/roots.pem")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	served, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if string(served) != readFile(t, s.rootsFile()) {
		t.Errorf("%s/roots.pem is not the file:\n%s", s.url, served)
	}
}

// TestNameConstraints confines a CA to one domain and shows that neither the
// server nor openssl goes beyond it.
func TestNameConstraints(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--ca-permitted-domains", "corp.test")
	text := run(t, s.dir, nil, "openssl", "x509", "-noout", "-ext", "nameConstraints", "-in", s.rootsFile()).must(t).stdout
	if !strings.Contains(text, "critical") || !strings.Contains(text, "DNS:corp.test") {
		t.Errorf("the root has not the constraints:\n%s", text)
	}
	for _, rule := range []string{".example.com", "*", ".test"} {
		status, answer := s.api(t, http.MethodPost, "/profiles", map[string]any{
			"id": "outside", "allowed_domains": []string{rule}, "allow_open": true,
		})
		if status/100 != 4 || !strings.Contains(answer, "corp.test") {
			t.Errorf("a profile for %s: status %d\n%s", rule, status, answer)
		}
	}
	s.profile(t, "corp", "trust_authenticated", ".corp.test")
	l := newLego(t, s, "corp", freePort(t))
	l.run(t, []string{"svc.corp.test", "corp.test"}, "run").must(t)
	s.verify(t, l.chain("svc.corp.test"), "svc.corp.test", "corp.test")
	l.run(t, []string{"svc.other.test"}, "run").mustFail(t, "rejectedIdentifier")
	newLego(t, s, "default", freePort(t)).run(t, []string{"hello.test"}, "run").mustFail(t, "rejectedIdentifier")
	if _, err := os.Stat(l.chain("svc.other.test")); err == nil {
		t.Error("there is a certificate for svc.other.test")
	}
}
