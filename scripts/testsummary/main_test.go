package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	tests := []struct {
		name, in string
		want     string // last line
		told     string
		fails    bool
	}{
		{"subtests count, their parent does not", `
			{"Action":"run","Package":"p","Test":"A"}
			{"Action":"run","Package":"p","Test":"A/b"}
			{"Action":"run","Package":"p","Test":"A/c"}
			{"Action":"pass","Package":"p","Test":"A/b"}
			{"Action":"pass","Package":"p","Test":"A/c"}
			{"Action":"pass","Package":"p","Test":"A"}
			{"Action":"pass","Package":"p","Elapsed":1.5}`,
			"2 passed, 0 failed, 0 skipped", "ok    p  2 passed  1.5s", false},
		{"a failed subtest is one failure", `
			{"Action":"run","Package":"p","Test":"A"}
			{"Action":"run","Package":"p","Test":"A/b"}
			{"Action":"output","Package":"p","Test":"A/b","Output":"why\n"}
			{"Action":"fail","Package":"p","Test":"A/b"}
			{"Action":"fail","Package":"p","Test":"A"}
			{"Action":"fail","Package":"p"}`,
			"0 passed, 1 failed, 0 skipped", "FAIL  p A/b\nwhy\n", true},
		{"a parent may fail alone", `
			{"Action":"run","Package":"p","Test":"A"}
			{"Action":"run","Package":"p","Test":"A/b"}
			{"Action":"pass","Package":"p","Test":"A/b"}
			{"Action":"fail","Package":"p","Test":"A"}
			{"Action":"fail","Package":"p"}`,
			"1 passed, 1 failed, 0 skipped", "FAIL  p A\n", true},
		{"what does not build fails", `
			{"Action":"build-output","ImportPath":"p","Output":"p.go:1: syntax error\n"}
			{"Action":"build-fail","ImportPath":"p"}
			{"Action":"fail","Package":"p"}`,
			"0 passed, 1 failed, 0 skipped", "syntax error", true},
		{"what a killed test said is told", `
			{"Action":"run","Package":"p","Test":"A"}
			{"Action":"output","Package":"p","Test":"A","Output":"panic: test timed out\n"}
			{"Action":"fail","Package":"p"}`,
			"0 passed, 1 failed, 0 skipped", "panic: test timed out", true},
		{"skipped", `
			{"Action":"pass","Package":"p","Test":"A"}
			{"Action":"skip","Package":"p","Test":"B"}
			{"Action":"pass","Package":"p"}`,
			"1 passed, 0 failed, 1 skipped", "SKIP  p B", false},
		{"a package without tests", `{"Action":"skip","Package":"p"}`, "0 passed, 0 failed, 0 skipped", "", true},
		{"nothing", "", "0 passed, 0 failed, 0 skipped", "", true},
		{"what is not JSON is told", "go: no such package\n", "0 passed, 0 failed, 0 skipped", "go: no such package\n", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			counts := filepath.Join(t.TempDir(), "counts")
			err := run(strings.NewReader(strings.TrimLeft(tt.in, "\n")), &out, counts)
			if (err != nil) != tt.fails {
				t.Errorf("error %v, want one: %v", err, tt.fails)
			}
			if !strings.HasSuffix("\n"+out.String(), "\n"+tt.want+"\n") || !strings.Contains(out.String(), tt.told) {
				t.Errorf("told %q, want %q and at the end %q", out.String(), tt.told, tt.want)
			}
			line, err := os.ReadFile(counts)
			if err != nil {
				t.Fatal(err)
			}
			numbers := strings.NewReplacer(" passed,", "", " failed,", "", " skipped", "").Replace(tt.want)
			if string(line) != numbers+"\n" {
				t.Errorf("counts %q, want %q", line, numbers)
			}
		})
	}
}
