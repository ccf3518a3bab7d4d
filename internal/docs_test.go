package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rfcSections are the numbers that the texts have sections for, as far as the documents cite them.
var rfcSections = map[string]string{
	"RFC 5019": "2 2.1 2.2 3 4 5 6 6.1 6.2",
	"RFC 5280": "4 4.1 4.2 5 5.1 5.2 5.3",
	"RFC 6960": "2 2.1 2.2 2.3 2.4 4 4.1 4.2 4.4",
	"RFC 8555": "5 6 6.1 6.2 6.3 6.4 6.4.1 6.5 6.5.1 6.5.2 6.6 6.7 6.7.1 7 7.1 7.1.1 7.1.2 7.1.2.1 7.1.3 7.1.4 7.1.5 7.1.6 7.2 7.3 7.3.1 7.3.2 " +
		"7.3.3 7.3.4 7.3.5 7.3.6 7.4 7.4.1 7.4.2 7.5 7.5.1 7.5.2 7.6 8 8.1 8.2 8.3 8.4 9.1 10.1 10.2 10.3 10.4 10.5 11.1 11.2 11.3 11.4",
	"RFC 8657":                    "3 3.1 3.2 4 5 5.1 5.2 5.3 5.4 5.5 5.6 5.7 5.8 5.9",
	"RFC 8659":                    "3 4 4.1 4.1.1 4.2 4.3 4.4 4.5 5 5.1 5.2 5.3 5.4 5.5 5.6 6 6.1 6.2 6.3 6.4 7",
	"RFC 8737":                    "3 4 5 6 6.1 6.2 6.3",
	"RFC 8738":                    "3 4 5 6 7 8 9",
	"RFC 9444":                    "3 4 4.1 4.2 4.3 4.4 5 6 7",
	"RFC 9608":                    "2 3 4 5 6 6.1 6.2",
	"RFC 9654":                    "2 2.1 2.2 3",
	"RFC 9773":                    "3 4 4.1 4.2 4.3 4.3.1 4.3.2 4.3.3 5 6 7 7.1 7.2 7.3 7.4",
	"draft-ietf-acme-profiles-02": "3 4 5 6 6.1 6.2 6.3",
}

var (
	levels  = []string{"MUST", "MUST NOT", "REQUIRED", "SHOULD", "SHOULD NOT", "RECOMMENDED"}
	binding = []string{"MUST", "MUST NOT", "REQUIRED"} // what a test has to hold
)

// A repository is what documents may name.
type repository struct {
	code    map[string][]string // what is declared, by file below internal
	tests   map[string][]string // packages that have a test of the name
	scripts []string            // wire scripts
	others  []string            // documents
}

// conformance is the two documents taken apart.
type conformance struct {
	rows       []row
	paragraphs []string // "RFC 8555, Section 7.4: Finalize sent again"
	findings   []string // what cannot be read
}

// A row says where one requirement is kept.
type row struct{ rfc, section, level, requirement, kept, test string }

func (r row) String() string {
	return fmt.Sprintf("%s, Section %s: %s %s", r.rfc, r.section, r.level, r.requirement)
}

// TestConformance holds docs/conformance.md and docs/divergences.md against the code and its tests.
func TestConformance(t *testing.T) {
	var c conformance
	c.readTables(readText(t, "../docs/conformance.md"))
	c.readParagraphs(readText(t, "../docs/divergences.md"))
	if len(c.rows) < 100 || len(c.paragraphs) < 30 {
		t.Fatalf("%d rows and %d paragraphs", len(c.rows), len(c.paragraphs))
	}
	for _, finding := range c.check(thisRepository(t)) {
		t.Error(finding)
	}
}

func readText(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func thisRepository(t *testing.T) *repository {
	t.Helper()
	all := &repository{code: map[string][]string{}, tests: map[string][]string{}}
	for _, name := range goFiles(t) {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		below, _ := strings.CutPrefix(name, "internal/")
		for _, declared := range declarations(file) {
			if strings.HasSuffix(name, "_test.go") {
				all.tests[declared] = append(all.tests[declared], path.Base(path.Dir(name)))
			} else {
				all.code[below] = append(all.code[below], declared)
			}
		}
	}
	for pattern, list := range map[string]*[]string{"acmeserver/testdata/*.txt": &all.scripts, "../docs/*.md": &all.others} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		*list = files
	}
	return all
}

// declarations returns the names of a file's functions, methods, types, constants and variables.
func declarations(file *ast.File) (names []string) {
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			names = append(names, d.Name.Name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, s.Name.Name)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// readTables reads one table below each heading.
func (c *conformance) readTables(text string) {
	rfc := ""
	for line := range strings.SplitSeq(text, "\n") {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			rfc = heading
		}
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| Section |") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != 5 {
			c.findings = append(c.findings, "not five cells: "+line)
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		c.rows = append(c.rows, row{rfc, cells[0], cells[1], cells[2], cells[3], cells[4]})
	}
}

var paragraphHead = regexp.MustCompile(`^\*\*(?:(RFC [0-9]+), )?Section ([0-9.]+): (.+?)\.?\*\*`)

// readParagraphs reads the paragraphs below the headings, each of which begins with its section and its title.
func (c *conformance) readParagraphs(text string) {
	_, text, _ = strings.Cut(text, "\n## ")
	for chapter := range strings.SplitSeq(text, "\n## ") {
		rfc, body, _ := strings.Cut(chapter, "\n")
		for paragraph := range strings.SplitSeq(strings.TrimSpace(body), "\n\n") {
			head := paragraphHead.FindStringSubmatch(strings.ReplaceAll(paragraph, "\n", " "))
			if head == nil {
				c.findings = append(c.findings, "a paragraph without section and title: "+paragraph[:min(60, len(paragraph))])
				continue
			}
			of := rfc
			if head[1] != "" {
				of = head[1]
			}
			c.paragraphs = append(c.paragraphs, fmt.Sprintf("%s, Section %s: %s", of, head[2], head[3]))
		}
	}
}

// check returns what is wrong with the documents.
func (c *conformance) check(in *repository) []string {
	findings := slices.Clone(c.findings)
	seen := map[string]bool{}
	for _, r := range c.rows {
		if seen[r.rfc+r.section+r.requirement] {
			findings = append(findings, r.String()+": is there twice")
		}
		seen[r.rfc+r.section+r.requirement] = true
		for _, finding := range append(r.checkPlace(), c.checkKept(r, in)...) {
			findings = append(findings, r.String()+": "+finding)
		}
		findings = append(findings, r.checkTests(in)...)
	}
	for i, p := range c.paragraphs {
		of, rest, _ := strings.Cut(p, ", Section ")
		section, _, _ := strings.Cut(rest, ": ")
		if !slices.Contains(strings.Fields(rfcSections[of]), section) {
			findings = append(findings, p+": no such section")
		}
		if slices.Contains(c.paragraphs[:i], p) {
			findings = append(findings, p+": is there twice")
		}
	}
	return findings
}

func (r row) checkPlace() (findings []string) {
	if !slices.Contains(strings.Fields(rfcSections[r.rfc]), r.section) {
		findings = append(findings, "no such section")
	}
	if !slices.Contains(levels, r.level) {
		findings = append(findings, "no such level")
	}
	if r.requirement == "" {
		findings = append(findings, "no requirement")
	}
	return findings
}

var notKept = regexp.MustCompile(`^not kept: \*([^*]+)\*$`)

// checkKept finds the code that keeps the requirement, or the paragraph that says why none does.
func (c *conformance) checkKept(r row, in *repository) (findings []string) {
	if title := notKept.FindStringSubmatch(r.kept); title != nil {
		if want := fmt.Sprintf("%s, Section %s: %s", r.rfc, r.section, title[1]); !slices.Contains(c.paragraphs, want) {
			findings = append(findings, fmt.Sprintf("divergences.md has no paragraph %q", want))
		}
		return findings
	}
	names, ok := quotedNames(r.kept)
	if !ok || len(names) == 0 {
		return []string{fmt.Sprintf("cannot read where it is kept: %q", r.kept)}
	}
	for _, name := range names {
		file, declared, isCode := strings.Cut(name, ":")
		switch {
		case !isCode && !slices.Contains(in.others, "../"+name):
			findings = append(findings, "there is no "+name)
		case isCode && !slices.Contains(in.code[file], declared):
			findings = append(findings, "there is no "+name)
		}
	}
	return findings
}

func (r row) checkTests(in *repository) (findings []string) {
	say := func(format string, args ...any) {
		findings = append(findings, r.String()+": "+fmt.Sprintf(format, args...))
	}
	if r.test == "–" {
		if slices.Contains(binding, r.level) && !notKept.MatchString(r.kept) {
			say("has no test")
		}
		return findings
	}
	names, ok := quotedNames(r.test)
	if !ok || len(names) == 0 {
		say("cannot read which test: %q", r.test)
	}
	for _, name := range names {
		isTest := strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz")
		switch packages := in.tests[name]; {
		case strings.HasSuffix(name, ".txt"):
			if !slices.Contains(in.scripts, "acmeserver/testdata/"+name) {
				say("there is no script %s", name)
			}
		case !isTest || len(packages) == 0:
			say("there is no test %s", name)
		case len(packages) > 1:
			say("%s is a test of %v: which is meant?", name, packages)
		}
	}
	return findings
}

// quotedNames takes apart names in backticks, with nothing but spaces between.
func quotedNames(cell string) (names []string, ok bool) {
	parts := strings.Split(cell, "`")
	for i, part := range parts {
		if i%2 == 1 {
			names = append(names, part)
		} else if strings.TrimSpace(part) != "" {
			return nil, false
		}
	}
	return names, len(parts)%2 == 1
}

// TestConformanceRefuses shows the rules what they must refuse.
func TestConformanceRefuses(t *testing.T) {
	in := &repository{
		code:    map[string][]string{"acme/jws.go": {"ParseJWS"}},
		tests:   map[string][]string{"TestA": {"acme"}, "TestB": {"acme", "pki"}, "helper": {"acme"}},
		scripts: []string{"acmeserver/testdata/jws.txt"},
		others:  []string{"../docs/divergences.md"},
	}
	const other = "## RFC 8555\n\n**Section 7.4: Again.** Yes.\n\n**Section 7.6: Not\nthis** one."
	for _, test := range []struct{ name, table, paragraphs, want string }{
		{"good", "| 6.2 | MUST | a | `acme/jws.go:ParseJWS` | `TestA` `jws.txt` |\n| 6.2 | SHOULD | b | `docs/divergences.md` | – |", other, ""},
		{"not kept", "| 7.4 | MUST | a | not kept: *Again* | – |\n| 7.6 | MUST | a | not kept: *Not this* | – |", other, ""},
		{"no test", "| 6.2 | MUST NOT | a | `acme/jws.go:ParseJWS` | – |", other, "has no test"},
		{"no such test", "| 6.2 | SHOULD | a | `acme/jws.go:ParseJWS` | `TestC` |", other, "no test TestC"},
		{"no such script", "| 6.2 | MUST | a | `acme/jws.go:ParseJWS` | `no.txt` |", other, "no script no.txt"},
		{"a helper", "| 6.2 | MUST | a | `acme/jws.go:ParseJWS` | `helper` |", other, "no test helper"},
		{"two tests of a name", "| 6.2 | MUST | a | `acme/jws.go:ParseJWS` | `TestB` |", other, "which is meant"},
		{"prose for a test", "| 6.2 | MUST | a | `acme/jws.go:ParseJWS` | see below |", other, "cannot read which test"},
		{"no such function", "| 6.2 | MUST | a | `acme/jws.go:Parse` | `TestA` |", other, "no acme/jws.go:Parse"},
		{"no such file", "| 6.2 | MUST | a | `acme/no.go:ParseJWS` | `TestA` |", other, "no acme/no.go:ParseJWS"},
		{"no such document", "| 6.2 | MUST | a | `docs/no.md` | `TestA` |", other, "no docs/no.md"},
		{"kept nowhere", "| 6.2 | MUST | a |  | `TestA` |", other, "cannot read where"},
		{"no such section", "| 6.8 | MUST | a | `acme/jws.go:ParseJWS` | `TestA` |", other, "no such section"},
		{"no such level", "| 6.2 | must | a | `acme/jws.go:ParseJWS` | `TestA` |", other, "no such level"},
		{"twice", strings.Repeat("| 6.2 | SHOULD | a | `acme/jws.go:ParseJWS` | – |\n", 2), other, "is there twice"},
		{"another table", "| 6.2 | MUST | a | `acme/jws.go:ParseJWS` |", other, "not five cells"},
		{"no paragraph", "| 7.4 | MUST | a | not kept: *Never* | – |", other, "no paragraph"},
		{"paragraph of another section", "| 7.5 | MUST | a | not kept: *Again* | – |", other, "no paragraph"},
		{"paragraph of another RFC", "| 7.4 | MUST | a | not kept: *Again* | – |", "## RFC 8659\n\n**Section 7: Again.** Yes.", "no paragraph"},
		{"paragraph without a title", "", "## RFC 8555\n\nYes.", "without section and title"},
		{"paragraph of no section", "", "## RFC 8555\n\n**Section 6.8: Again.**", "no such section"},
		{"paragraph twice", "", other + "\n\n**Section 7.4: Again** no.", "is there twice"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c conformance
			c.readTables("## RFC 8555\n\n| Section | Level |\n|---|---|\n" + test.table)
			c.readParagraphs("Head.\n\n" + test.paragraphs)
			findings := c.check(in)
			if test.want == "" && len(findings) > 0 || test.want != "" && (len(findings) != 1 || !strings.Contains(findings[0], test.want)) {
				t.Errorf("got %q, want %q", findings, test.want)
			}
		})
	}
}
