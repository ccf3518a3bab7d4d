// Testsummary reads the output of "go test -json" and tells it shortly: a line per package, all that a failed test
// said, and at the end how many tests passed, failed and were skipped. It fails when a test failed or when none ran.
//
//	go test -json ./... | go run ./scripts/testsummary [-counts FILE]
//
// A test with subtests is not counted beside them, unless it failed although they passed.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	counts := flag.String("counts", "", "append the three numbers as a line to `FILE`")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *counts); err != nil {
		fmt.Fprintln(os.Stderr, "testsummary:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer, countsFile string) error {
	s := &summary{out: out, packages: make(map[string]*packageRun)}
	if err := s.read(in); err != nil {
		return err
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", s.total.passed, s.total.failed, s.total.skipped)
	if countsFile != "" {
		if err := s.total.appendTo(countsFile); err != nil {
			return err
		}
	}
	switch {
	case s.total.failed > 0:
		return errors.New("tests failed")
	case s.total.passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

// event is a line of the output; see "go doc test2json".
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output, instead of Package
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

type summary struct {
	out      io.Writer
	packages map[string]*packageRun
	total    counts
}

type counts struct{ passed, failed, skipped int }

func (c counts) appendTo(name string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, c.passed, c.failed, c.skipped)
	return errors.Join(err, f.Close())
}

// packageRun is what is known of a package whose tests are running.
type packageRun struct {
	counts
	output  map[string]*strings.Builder // by test, "" for what no test said
	parents map[string]bool             // tests that have subtests
	broken  map[string]bool             // tests with a failed subtest
}

func (s *summary) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				s.add(e)
			} else {
				fmt.Fprintf(s.out, "%s", line) // what the go command itself said
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) add(e event) {
	if e.Action == "build-output" {
		fmt.Fprint(s.out, e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	p := s.packages[e.Package]
	if p == nil {
		p = &packageRun{
			output:  make(map[string]*strings.Builder),
			parents: make(map[string]bool),
			broken:  make(map[string]bool),
		}
		s.packages[e.Package] = p
	}
	switch e.Action {
	case "run":
		if i := strings.LastIndexByte(e.Test, '/'); i > 0 {
			p.parents[e.Test[:i]] = true
		}
	case "output":
		if p.output[e.Test] == nil {
			p.output[e.Test] = new(strings.Builder)
		}
		p.output[e.Test].WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(p, e)
		} else {
			s.endTest(p, e)
		}
	}
}

func (s *summary) endTest(p *packageRun, e event) {
	parent := p.parents[e.Test]
	switch {
	case e.Action == "pass" && !parent:
		p.passed++
	case e.Action == "skip":
		p.skipped++
		fmt.Fprintf(s.out, "SKIP  %s %s\n", e.Package, e.Test)
	case e.Action == "fail":
		if !parent || !p.broken[e.Test] {
			p.failed++
		}
		for name := e.Test; ; {
			i := strings.LastIndexByte(name, '/')
			if i < 0 {
				break
			}
			name = name[:i]
			p.broken[name] = true
		}
		s.tell(p, e)
	}
	delete(p.output, e.Test)
}

func (s *summary) endPackage(p *packageRun, e event) {
	if e.Action == "fail" && p.failed == 0 { // it did not build, or ended before its tests did
		p.failed = 1
	}
	if e.Action == "fail" {
		for _, output := range p.output { // of tests that never ended, and of none
			fmt.Fprint(s.out, output)
		}
	}
	if p.counts != (counts{}) {
		result := map[string]string{"pass": "ok", "skip": "ok", "fail": "FAIL"}[e.Action]
		elapsed := time.Duration(e.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
		fmt.Fprintf(s.out, "%-5s %s  %d passed", result, e.Package, p.passed)
		if p.failed > 0 {
			fmt.Fprintf(s.out, ", %d failed", p.failed)
		}
		fmt.Fprintf(s.out, "  %s\n", elapsed)
	}
	s.total.passed += p.passed
	s.total.failed += p.failed
	s.total.skipped += p.skipped
	delete(s.packages, e.Package)
}

// tell writes what a failed test said.
func (s *summary) tell(p *packageRun, e event) {
	fmt.Fprintf(s.out, "FAIL  %s %s\n", e.Package, e.Test)
	if output := p.output[e.Test]; output != nil {
		fmt.Fprint(s.out, output)
	}
}
