package internal

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/certctl/certctl"

// floors is the house of DESIGN.md: a package imports packages of lower floors only.
var floors = [][]string{
	1: {"internal/acme", "internal/pki", "internal/audit"},
	2: {"internal/policy"},
	3: {"internal/store", "internal/issuer", "internal/validate"},
	4: {"internal/lifecycle"},
	5: {"internal/acmeserver", "internal/responder", "internal/admin"},
	6: {"internal/app", "bench"},
	7: {"cmd/certctl"},
}

// outside lists the packages that import nothing of the house.
var outside = []string{"internal", "e2e", "e2e/clients", "scripts/testsummary"}

// thirdParty lists what the packages of floor 1 import from other modules.
var thirdParty = map[string][]string{
	"internal/acme": {
		"github.com/go-jose/go-jose/v4",
		"github.com/go-jose/go-jose/v4/json",
		"golang.org/x/net/idna",
	},
	"internal/pki": {
		"github.com/zmap/zcrypto/x509",
		"github.com/zmap/zlint/v3/lint",
		"github.com/zmap/zlint/v3/lints/apple",
		"github.com/zmap/zlint/v3/lints/cabf_br",
		"github.com/zmap/zlint/v3/lints/chrome",
		"github.com/zmap/zlint/v3/lints/community",
		"github.com/zmap/zlint/v3/lints/mozilla",
		"github.com/zmap/zlint/v3/lints/rfc",
		"golang.org/x/crypto/cryptobyte",
		"golang.org/x/crypto/cryptobyte/asn1",
	},
}

// never lists the standard packages that a package must do without, because it does not know what they are for.
var never = map[string][]string{
	"internal/acme":       {"database/sql", "os"},
	"internal/pki":        {"database/sql", "net/http", "os"},
	"internal/audit":      {"database/sql", "net/http", "os"},
	"internal/policy":     {"database/sql", "net/http", "os"},
	"internal/store":      {"net/http"},
	"internal/issuer":     {"database/sql"},
	"internal/validate":   {"database/sql"},
	"internal/lifecycle":  {"database/sql", "net/http"},
	"internal/acmeserver": {"database/sql"},
	"internal/responder":  {"database/sql"},
	"internal/admin":      {"database/sql"},
}

func TestFloors(t *testing.T) {
	imports := make(map[string]map[string]bool) // by directory, without those of tests
	for _, file := range goFiles(t) {
		dir := path.Dir(file)
		if imports[dir] == nil {
			imports[dir] = make(map[string]bool)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", file), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			imports[dir][imported] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(imports)) {
		for _, finding := range checkImports(dir, slices.Sorted(maps.Keys(imports[dir]))) {
			t.Error(finding)
		}
	}
}

// TestFloorsRefuse shows the rule what it must refuse.
func TestFloorsRefuse(t *testing.T) {
	tests := []struct{ name, dir, imported, want string }{
		{"lower floor", "internal/store", module + "/internal/policy", ""},
		{"standard library", "internal/acme", "encoding/json", ""},
		{"listed module", "internal/acme", "golang.org/x/net/idna", ""},
		{"other modules above floor 1", "internal/validate", "github.com/miekg/dns", ""},
		{"unknown package", "internal/util", "fmt", "internal/util stands on no floor"},
		{"unknown import", "internal/app", module + "/internal/util", "internal/app (floor 6) imports internal/util (floor 0)"},
		{"neighbour", "internal/store", module + "/internal/issuer", "internal/store (floor 3) imports internal/issuer (floor 3)"},
		{"upper floor", "internal/acme", module + "/internal/store", "internal/acme (floor 1) imports internal/store (floor 3)"},
		{"from outside", "scripts/testsummary", module + "/internal/acme", "scripts/testsummary (floor 0) imports internal/acme (floor 1)"},
		{"other module", "internal/acme", "github.com/miekg/dns", "internal/acme imports github.com/miekg/dns, which is not listed"},
		{"never", "internal/lifecycle", "net/http", "internal/lifecycle must not know net/http"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var want []string
			if tt.want != "" {
				want = []string{tt.want}
			}
			if got := checkImports(tt.dir, []string{tt.imported}); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// checkImports returns what is wrong with the imports of the package in dir.
func checkImports(dir string, imports []string) []string {
	var findings []string
	floor := floorOf(dir)
	if floor == 0 && !slices.Contains(outside, dir) {
		findings = append(findings, dir+" stands on no floor")
	}
	for _, imported := range imports {
		local, ours := strings.CutPrefix(imported, module+"/")
		host, _, _ := strings.Cut(imported, "/")
		switch {
		case ours:
			if lower := floorOf(local); lower == 0 || lower >= floor {
				findings = append(findings, fmt.Sprintf("%s (floor %d) imports %s (floor %d)", dir, floor, local, lower))
			}
		case strings.Contains(host, "."):
			if floor == 1 && !slices.Contains(thirdParty[dir], imported) {
				findings = append(findings, fmt.Sprintf("%s imports %s, which is not listed", dir, imported))
			}
		case slices.Contains(never[dir], imported):
			findings = append(findings, fmt.Sprintf("%s must not know %s", dir, imported))
		}
	}
	return findings
}

// floorOf returns 0 when the package in dir stands on no floor.
func floorOf(dir string) int {
	return max(0, slices.IndexFunc(floors, func(floor []string) bool { return slices.Contains(floor, dir) }))
}

// goFiles returns the Go files of the module, relative to its root.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir("..", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if base := entry.Name(); entry.IsDir() && name != ".." && (base[0] == '.' || base == "testdata") {
			return filepath.SkipDir
		}
		if entry.Type().IsRegular() && strings.HasSuffix(name, ".go") {
			files = append(files, filepath.ToSlash(strings.TrimPrefix(name, ".."+string(filepath.Separator))))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
