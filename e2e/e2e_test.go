// Package e2e tests bin/certctl from outside, as its users meet it.
package e2e

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// certctl runs the built binary to its end.
func certctl(t *testing.T, env []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	binary, err := filepath.Abs("../bin/certctl")
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Dir, cmd.Env = t.TempDir(), env
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v (make e2e builds it)", err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := certctl(t, nil, "version")
	if code != 0 || !strings.HasPrefix(stdout, "certctl ") || stderr != "" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

func TestBadSettingIsOneLine(t *testing.T) {
	code, stdout, stderr := certctl(t, []string{"CERTCTL_EXTERNAL_URL=http://ca.test"}, "server")
	want := "certctl: CERTCTL_EXTERNAL_URL: \"http://ca.test\" does not begin with https://\n" +
		"Run \"certctl server --help\" for the usage.\n"
	if code != 2 || stdout != "" || stderr != want {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}
