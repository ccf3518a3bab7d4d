package e2e

import (
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// oneLine is what a start that fails prints: what is wrong, and after a wrong
// setting where to read on.
var oneLine = regexp.MustCompile(`^certctl: [^\n]+\n(Run "certctl server --help" for the usage\.\n)?$`)

// refuses starts certctl, which must end by itself and tell why in one line.
func refuses(t *testing.T, dir string, args []string, reasons ...string) {
	t.Helper()
	name := binary
	if args[0] != "server" {
		name, args = args[0], args[1:]
	}
	r := run(t, dir, []string{"CERTCTL_API_KEY=" + apiKey}, name, args...)
	r.mustFail(t, reasons...)
	if r.code != 1 && r.code != 2 || r.stdout != "" || !oneLine.MatchString(r.stderr) {
		t.Errorf("%s: exit code %d\nstandard output: %s\nstandard error: %s", r.command, r.code, r.stdout, r.stderr)
	}
}

func TestBadStarts(t *testing.T) {
	t.Parallel()
	// places returns the flags of a server that would start.
	places := func(data string, flags ...string) []string {
		return append([]string{"server", "--data-dir", data,
			"--listen", "127.0.0.1:" + strconv.Itoa(freePort(t)), "--public-listen", "127.0.0.1:" + strconv.Itoa(freePort(t))}, flags...)
	}
	data := filepath.Join(t.TempDir(), "data")
	t.Run("bad setting", func(t *testing.T) {
		refuses(t, t.TempDir(), places(data, "--external-url", "http://ca.test"), `CERTCTL_EXTERNAL_URL: "http://ca.test" does not begin with https://`)
	})
	t.Run("folder not writable", func(t *testing.T) {
		dir := publicDir(t)
		readOnly := filepath.Join(dir, "read-only")
		if err := os.Mkdir(readOnly, 0o555); err != nil {
			t.Fatal(err)
		}
		for _, folder := range []string{readOnly, filepath.Join(readOnly, "data")} {
			refuses(t, dir, asNobody(t, places(folder)), folder, "permission denied")
		}
	})
	t.Run("folder is a file", func(t *testing.T) {
		dir := t.TempDir()
		refuses(t, dir, places(writeFile(t, "", dir, "data")), filepath.Join(dir, "data"), "not a directory")
	})
	for _, flag := range []string{"--listen", "--public-listen"} {
		t.Run("port taken: "+flag, func(t *testing.T) {
			taken, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer taken.Close()
			refuses(t, t.TempDir(), places(data, flag, taken.Addr().String()), "another program listens on "+taken.Addr().String())
		})
	}

	s := startServer(t, "--ca-permitted-domains", "corp.test")
	data = filepath.Join(s.dir, "data")
	t.Run("second server", func(t *testing.T) {
		refuses(t, s.dir, places(data, "--ca-permitted-domains", "corp.test"), data)
	})
	s.interrupt(t)
	t.Run("wrong secret key", func(t *testing.T) {
		key := base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef")) + "\n"
		other := writeFile(t, key, t.TempDir(), "other.key")
		refuses(t, s.dir, places(data, "--ca-permitted-domains", "corp.test", "--secret-key-file", other), other)
	})
	t.Run("no secret key", func(t *testing.T) {
		refuses(t, s.dir, places(data, "--secret-key-file", filepath.Join(s.dir, "none.key")), "none.key")
		refuses(t, s.dir, places(data, "--secret-key-file", writeFile(t, "short", t.TempDir(), "bad.key")), "bad.key")
	})
	t.Run("permitted domains changed", func(t *testing.T) {
		refuses(t, s.dir, places(data, "--ca-permitted-domains", "corp.test,other.test"), "CERTCTL_CA_PERMITTED_DOMAINS", "other.test")
		refuses(t, s.dir, places(data, "--ca-permitted-domains", "other.test"), "CERTCTL_CA_PERMITTED_DOMAINS", "other.test")
	})
	// All of that has done the data no harm.
	s.start(t)
	s.interrupt(t)
}

// asNobody puts in front of a command what takes root's rights from it, without
// which nothing is read-only.
func asNobody(t *testing.T, args []string) []string {
	t.Helper()
	if os.Getuid() != 0 {
		return args
	}
	// The build may lie where nobody looks.
	copied := filepath.Join(publicDir(t), "certctl")
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", copied}, args...)
}

// publicDir is a temporary folder that every user can read.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "certctl-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", dir, err))
	}
	return dir
}

// TestStartTellsWhatToDo pastes the command of the banner.
func TestStartTellsWhatToDo(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	_, rest, _ := strings.Cut(s.out.String(), "Get a first certificate from another terminal:")
	command, _, _ := strings.Cut(strings.TrimSpace(rest), "\n\n")
	if !strings.Contains(command, "lego") {
		t.Fatalf("the banner has no command:\n%s", s.out)
	}
	dir := t.TempDir()
	run(t, dir, nil, "sh", "-c", command).must(t)
	name := regexp.MustCompile(`--domains (\S+)`).FindStringSubmatch(command)
	if name == nil {
		t.Fatalf("the command names no domain: %s", command)
	}
	s.verify(t, filepath.Join(dir, "lego", "certificates", name[1]+".crt"), name[1])
}
