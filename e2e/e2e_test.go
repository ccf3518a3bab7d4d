// Package e2e tests bin/certctl from outside, as its users meet it: real ACME
// clients and the load driver of package bench against the built binary, each
// test with servers of its own on free ports of this machine.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// binary is what is tested, as an absolute path.
var binary string

// tools are the programs that the tests run. scripts/test-deps installs them.
var tools = []string{"lego", "certbot", "openssl", "sqlite3"}

func TestMain(m *testing.M) {
	if err := build(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// build makes bin/certctl from the sources as they are.
func build() error {
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w (scripts/test-deps installs it)", err)
		}
	}
	var err error
	if binary, err = filepath.Abs("../bin/certctl"); err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", binary, "./cmd/certctl")
	cmd.Dir = ".."
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, output)
	}
	return buildClients()
}

// programTime is how long a program may run that ends by itself.
const programTime = 90 * time.Second

// result is what a program that ended has left.
type result struct {
	command        string
	code           int
	stdout, stderr string
}

// output is all that a program wrote.
func (r result) output() string { return r.stdout + r.stderr }

// must fails the test unless the program succeeded.
func (r result) must(t *testing.T) result {
	t.Helper()
	if r.code != 0 {
		t.Fatalf("%s: exit code %d\n%s", r.command, r.code, r.output())
	}
	return r
}

// mustFail fails the test unless the program failed and told every one of the
// reasons.
func (r result) mustFail(t *testing.T, reasons ...string) result {
	t.Helper()
	if r.code == 0 {
		t.Fatalf("%s succeeded\n%s", r.command, r.output())
	}
	for _, reason := range reasons {
		if !strings.Contains(r.output(), reason) {
			t.Fatalf("%s does not tell %q\n%s", r.command, reason, r.output())
		}
	}
	return r
}

// run runs a program to its end, in dir, with the environment given and a PATH.
func run(t *testing.T, dir string, env []string, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), programTime)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}, env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", cmd, err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s did not end in %v\n%s%s", cmd, programTime, &stdout, &stderr)
	}
	return result{filepath.Base(name) + " " + strings.Join(args, " "), cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// transcript is what a running program has written so far.
type transcript struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(p)
}

func (w *transcript) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// Ports are taken below those that the kernel gives to outgoing connections, or a
// load of them would be given one that a server is about to listen on.
const firstPort, lastPort = 15000, 32000

var nextPort atomic.Int64

func init() { nextPort.Store(firstPort + rand.Int64N(10_000)) }

// freePort returns a port of this machine that nothing listens on.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		port := int(nextPort.Add(1))
		if port > lastPort {
			t.Fatal("no free port")
		}
		listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err == nil {
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
			return port
		}
	}
}

func readFile(t *testing.T, name ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(name...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeFile(t *testing.T, content string, name ...string) string {
	t.Helper()
	path := filepath.Join(name...)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	r := run(t, t.TempDir(), nil, binary, "version").must(t)
	if !strings.HasPrefix(r.stdout, "certctl ") || r.stderr != "" {
		t.Errorf("%q, %q", r.stdout, r.stderr)
	}
}
