package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// commands returns the lines of a document's code blocks that begin with one of
// the words, a line that ends in a backslash joined with the next.
func commands(t *testing.T, document string, words ...string) []string {
	t.Helper()
	var list []string
	text := strings.ReplaceAll(readFile(t, "..", document), "\\\n", "")
	for line := range strings.SplitSeq(text, "\n") {
		command, indented := strings.CutPrefix(line, "    ")
		for _, word := range words {
			if indented && strings.HasPrefix(command, word) {
				list = append(list, command)
			}
		}
	}
	return list
}

// TestReadme does what the README says, line by line, as somebody would who
// pastes it.
func TestReadme(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	lines := commands(t, "README.md", "LEGO_CA_CERTIFICATES=", "openssl ", "certctl ")
	if len(lines) < 8 {
		t.Fatalf("the README has %d commands only: %q", len(lines), lines)
	}
	script := "set -eu\n" + strings.ReplaceAll(strings.Join(lines, "\n"), "https://localhost:8443", s.url)
	bin, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	env := append(s.env(), "PATH="+bin+":"+os.Getenv("PATH"), "CERTCTL_SERVER="+s.url)
	out := run(t, s.dir, env, "bash", "-c", script).must(t).output()
	for _, want := range []string{"hello.test.crt: OK", "hello.test", "certificate_issued", "created profile web", "created profile mesh", "hmac"} {
		if !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
			t.Errorf("the README's commands do not print %q:\n%s", want, out)
		}
	}
	for _, target := range commands(t, "README.md", "make ") {
		run(t, "..", nil, "make", "--dry-run", strings.Fields(target)[1]).must(t)
	}
}

// TestDocumentsNameSettings holds every variable that a document names against
// the help of the commands that read it.
func TestDocumentsNameSettings(t *testing.T) {
	t.Parallel()
	help := run(t, ".", nil, "../bin/certctl", "server", "--help").must(t).stdout + run(t, ".", nil, "../bin/certctl", "order", "list", "--help").must(t).stdout
	variable := regexp.MustCompile(`CERTCTL_[A-Z0-9_]+[A-Z0-9]`)
	documents, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, document := range append(documents, "../README.md", "../DESIGN.md", "../CONTRIBUTING.md") {
		for _, name := range variable.FindAllString(readFile(t, document), -1) {
			named++
			if !strings.Contains(help, "$"+name) {
				t.Errorf("%s names %s, which nothing reads", document, name)
			}
		}
	}
	if named < 5 {
		t.Errorf("the documents name %d variables only", named)
	}
}
