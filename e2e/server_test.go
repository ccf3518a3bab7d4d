package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const apiKey = "e2e-admin-key-of-tests"

// startTime is how long a server may take to answer after its start, on a machine
// that is busy with other tests.
const startTime = 20 * time.Second

// server is a certctl of a test. It can be started again on the same folder and
// ports.
type server struct {
	dir    string // where it runs; its data is in dir/data
	url    string // of ACME and the API
	public string // of CRLs
	args   []string

	cmd      *exec.Cmd     // nil when it does not run
	ended    chan struct{} // closed when it has ended
	out, log *transcript
}

// newServer makes a server ready to be started, with flags beside those of its
// place.
func newServer(t *testing.T, flags ...string) *server {
	t.Helper()
	port, public := freePort(t), freePort(t)
	s := &server{
		dir:    t.TempDir(),
		url:    fmt.Sprintf("https://localhost:%d", port),
		public: fmt.Sprintf("http://localhost:%d", public),
	}
	s.args = append([]string{"server",
		"--listen", fmt.Sprintf(":%d", port), "--public-listen", fmt.Sprintf(":%d", public),
		"--external-url", s.url, "--public-url", s.public}, flags...)
	t.Cleanup(func() {
		if s.cmd != nil {
			s.kill(t)
		}
		if t.Failed() && s.log != nil {
			t.Logf("log of %s:\n%s", s.url, tail(s.log.String()))
		}
	})
	return s
}

func tail(text string) string {
	const most = 8 << 10
	if len(text) > most {
		return "...\n" + text[len(text)-most:]
	}
	return text
}

// startServer returns a server that answers.
func startServer(t *testing.T, flags ...string) *server {
	t.Helper()
	s := newServer(t, flags...)
	s.start(t)
	return s
}

func (s *server) env() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "CERTCTL_API_KEY=" + apiKey}
}

// launch starts the server and does not wait.
func (s *server) launch(t *testing.T) {
	t.Helper()
	s.out, s.log = new(transcript), new(transcript)
	cmd := exec.Command(binary, s.args...)
	cmd.Dir, cmd.Env = s.dir, s.env()
	cmd.Stdout, cmd.Stderr = s.out, s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the exit code is in cmd.ProcessState
	}()
	s.cmd, s.ended = cmd, ended
}

// start starts the server and waits until it answers.
func (s *server) start(t *testing.T) {
	t.Helper()
	s.launch(t)
	eventually(t, "the server is ready", startTime, func() bool {
		if !s.alive() {
			t.Fatalf("the server ended:\n%s%s", s.out, s.log)
		}
		if !strings.Contains(s.out.String(), "certctl is ready") {
			return false
		}
		response, err := s.client(t).Get(s.url + "/readyz")
		if err != nil {
			return false
		}
		return response.Body.Close() == nil && response.StatusCode == http.StatusOK
	})
}

// alive tells whether the process has not ended.
func (s *server) alive() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// interrupt ends the server as Ctrl-C does.
func (s *server) interrupt(t *testing.T) {
	t.Helper()
	began := time.Now()
	code := s.end(t, syscall.SIGINT)
	if code != 0 {
		t.Errorf("the server ended with exit code %d after SIGINT\n%s", code, s.log)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the server took %v to end after SIGINT", took)
	}
}

// kill ends the server as a crash does.
func (s *server) kill(t *testing.T) {
	t.Helper()
	s.end(t, syscall.SIGKILL)
}

func (s *server) end(t *testing.T, sig syscall.Signal) (code int) {
	t.Helper()
	cmd := s.cmd
	s.cmd = nil
	if err := cmd.Process.Signal(sig); err != nil && s.alive() {
		t.Errorf("%v: %v", sig, err)
	}
	select {
	case <-s.ended:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill() // the exit code tells it
		<-s.ended
	}
	return cmd.ProcessState.ExitCode()
}

func (s *server) rootsFile() string { return filepath.Join(s.dir, "data", "roots.pem") }

func (s *server) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(readFile(t, s.rootsFile()))) {
		t.Fatalf("%s: no certificate", s.rootsFile())
	}
	return pool
}

// directory is the URL of a profile's directory.
func (s *server) directory(profile string) string {
	return s.url + "/acme/profile/" + profile + "/directory"
}

// client trusts the server's root and nothing else.
func (s *server) client(t *testing.T) *http.Client {
	t.Helper()
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots(t)}, DisableKeepAlives: true},
	}
}

// api makes a request to the API and returns its answer.
func (s *server) api(t *testing.T, method, path string, in any) (status int, answer string) {
	t.Helper()
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, s.url+"/api/v1"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+apiKey)
	request.Header.Set("Content-Type", "application/json")
	response, err := s.client(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// events returns the audit events that a query selects.
func (s *server) events(t *testing.T, query string) []event {
	t.Helper()
	status, answer := s.api(t, http.MethodGet, "/audit-events?"+query, nil)
	var list struct{ Items []event }
	if err := json.Unmarshal([]byte(answer), &list); err != nil || status != http.StatusOK {
		t.Fatalf("audit events: status %d, %v\n%s", status, err, answer)
	}
	return list.Items
}

// event is an audit event as the API shows it.
type event struct {
	Actor      string
	Action     string
	ResourceID string `json:"resource_id"`
}

// profile makes a profile.
func (s *server) profile(t *testing.T, id, mode string, domains ...string) {
	t.Helper()
	status, answer := s.api(t, http.MethodPost, "/profiles", map[string]any{
		"id": id, "acme_auth_mode": mode, "allowed_domains": domains,
	})
	if status != http.StatusCreated {
		t.Fatalf("profile %s: status %d\n%s", id, status, answer)
	}
}

// certctl runs a command that speaks to the server.
func (s *server) certctl(t *testing.T, args ...string) result {
	t.Helper()
	return run(t, s.dir, []string{"CERTCTL_SERVER=" + s.url, "CERTCTL_API_KEY=" + apiKey}, binary, args...)
}

// crl returns a file of the newest CRL that a certificate points to, in PEM.
func (s *server) crl(t *testing.T, cert *x509.Certificate) string {
	t.Helper()
	if len(cert.CRLDistributionPoints) != 1 || !strings.HasPrefix(cert.CRLDistributionPoints[0], s.public+"/crl/") {
		t.Fatalf("the certificate points to %q for a CRL", cert.CRLDistributionPoints)
	}
	response, err := s.client(t).Get(cert.CRLDistributionPoints[0])
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	der, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: status %d, %v", cert.CRLDistributionPoints[0], response.StatusCode, err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "crl.pem")
	run(t, dir, nil, "openssl", "crl", "-inform", "DER", "-in", writeFile(t, string(der), dir, "crl.der"), "-out", name).must(t)
	return name
}
