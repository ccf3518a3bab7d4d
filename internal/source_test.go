package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	maxFileLines        = 800
	maxFunctionLines    = 80
	maxStructFields     = 20
	maxInterfaceMethods = 5
	maxParameters       = 6
)

// exempt lists findings that stand, without their line numbers, each with the reason. It is meant to stay empty.
var exempt = map[string]string{}

// environmentReaders lists the files that may read the environment, beside those of commands.
var environmentReaders = []string{"internal/app/config.go"}

// pureFloors is the number of floors whose packages are given the time instead of asking for it.
const pureFloors = 2

// A source is one parsed Go file.
type source struct {
	name string // relative to the root of the module
	fset *token.FileSet
	file *ast.File
}

func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

func (s source) lines(n ast.Node) int {
	return s.fset.Position(n.End()).Line - s.fset.Position(n.Pos()).Line + 1
}

// finding says what is wrong at a place of a source.
func (s source) finding(n ast.Node, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", s.name, s.fset.Position(n.Pos()).Line, fmt.Sprintf(format, args...))
}

// rules hold for every file; the ones that are for tests, or for all but tests, ask the source.
var rules = []func(source) []string{
	checkSizes,
	checkTypeNames,
	checkCalls,
	checkComments,
	checkPlaceholders,
	checkDocs,
}

func TestSource(t *testing.T) {
	for _, name := range goFiles(t) {
		if name == "internal/source_test.go" { // full of what it refuses
			continue
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, filepath.Join("..", name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, finding := range check(source{name, fset, file}) {
			t.Error(finding)
		}
	}
}

func check(s source) []string {
	var findings []string
	for _, rule := range rules {
		findings = append(findings, rule(s)...)
	}
	return slices.DeleteFunc(findings, func(finding string) bool {
		return exempt[lineNumber.ReplaceAllString(finding, ": ")] != ""
	})
}

var lineNumber = regexp.MustCompile(`:[0-9]+: `)

// checkSizes keeps the tail short: code beyond these sizes wants to be two things.
func checkSizes(s source) []string {
	if s.isTest() {
		return nil
	}
	var findings []string
	limit := func(n ast.Node, what string, size, most int) {
		if size > most {
			findings = append(findings, s.finding(n, "%d %s, at most %d", size, what, most))
		}
	}
	limit(s.file, "lines in a file", s.fset.File(s.file.Pos()).LineCount(), maxFileLines)
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			limit(n, "lines in a function", s.lines(n), maxFunctionLines)
		case *ast.FuncType:
			limit(n, "parameters", n.Params.NumFields(), maxParameters)
		case *ast.StructType:
			limit(n, "fields in a struct", n.Fields.NumFields(), maxStructFields)
		case *ast.InterfaceType:
			limit(n, "methods in an interface", n.Methods.NumFields(), maxInterfaceMethods)
		}
		return true
	})
	return findings
}

var vagueName = regexp.MustCompile(`(Manager|Service|Impl|Util|Helper)s?$`)

// checkTypeNames refuses names that say nothing about what the type is.
func checkTypeNames(s source) []string {
	var findings []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok && vagueName.MatchString(spec.Name.Name) {
			findings = append(findings, s.finding(spec, "type %s: call it what it is", spec.Name.Name))
		}
		return true
	})
	return findings
}

// checkCalls refuses calls that have no place where they stand.
func checkCalls(s source) []string {
	var findings []string
	for _, decl := range s.file.Decls {
		mayPanic := false
		if f, ok := decl.(*ast.FuncDecl); ok {
			mayPanic = f.Name.Name == "init" || strings.HasPrefix(strings.ToLower(f.Name.Name), "must")
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "panic" && !mayPanic && !s.isTest() {
					findings = append(findings, s.finding(n, "panic outside of init and must…"))
				}
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok {
					if why := s.misplaced(x.Name + "." + n.Sel.Name); why != "" {
						findings = append(findings, s.finding(n, "%s.%s: %s", x.Name, n.Sel.Name, why))
					}
				}
			}
			return true
		})
	}
	return findings
}

// misplaced returns why name, a package and its function or a variable and its method, may not stand in the file.
func (s source) misplaced(name string) string {
	dir := path.Dir(s.name)
	switch name {
	case "os.Getenv", "os.LookupEnv", "os.Environ":
		if !s.isTest() && !strings.HasPrefix(s.name, "cmd/") && !slices.Contains(environmentReaders, s.name) {
			return "settings come from one place"
		}
	case "time.Now", "time.Since", "time.Until":
		if floor := floorOf(dir); floor >= 1 && floor <= pureFloors && !s.isTest() {
			return "this package is given the time"
		}
	case "t.Skip", "t.Skipf", "t.SkipNow", "b.Skip", "b.Skipf", "b.SkipNow", "f.Skip", "f.Skipf", "f.SkipNow",
		"tb.Skip", "tb.Skipf", "tb.SkipNow", "testing.Short":
		if s.isTest() {
			return "a test runs or is not there"
		}
	}
	return ""
}

var leftover = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

// checkComments refuses notes to oneself.
func checkComments(s source) []string {
	var findings []string
	for _, group := range s.file.Comments {
		for _, comment := range group.List {
			if word := leftover.FindString(comment.Text); word != "" {
				findings = append(findings, s.finding(comment, "%s: do it or file it", word))
			}
		}
	}
	return findings
}

var (
	sqlVerb     = regexp.MustCompile(`\b(SELECT|INSERT|UPDATE|DELETE)\b`)
	placeholder = regexp.MustCompile(`\$[0-9]+`)
)

// checkPlaceholders holds that in a statement $1, $2, … first appear in this order: SQLite numbers them by first
// appearance, PostgreSQL by name.
func checkPlaceholders(s source) []string {
	var findings []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		expr, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		text, whole := literal(expr)
		if !whole {
			return true
		}
		if sqlVerb.MatchString(text) {
			seen := 0
			for _, p := range placeholder.FindAllString(text, -1) {
				number, err := strconv.Atoi(p[1:])
				if err != nil || number > seen+1 || number == 0 {
					findings = append(findings, s.finding(expr, "placeholder %s comes before $%d", p, seen+1))
					break
				}
				seen = max(seen, number)
			}
		}
		return false
	})
	return findings
}

// literal returns the text of a string literal or of a concatenation, in which what is not literal counts as
// empty; and whether expr is one of these.
func literal(expr ast.Expr) (text string, ok bool) {
	switch e := expr.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, okLeft := literal(e.X)
		right, okRight := literal(e.Y)
		return left + right, okLeft || okRight
	case *ast.ParenExpr:
		return literal(e.X)
	}
	return "", false
}

// customary lists methods whose names say all: they are there for an interface of the standard library.
var customary = []string{"Error", "String", "Unwrap", "Is", "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText"}

// checkDocs holds that what is exported is told in a comment.
func checkDocs(s source) []string {
	if s.isTest() {
		return nil
	}
	var findings []string
	undocumented := func(name *ast.Ident, docs ...*ast.CommentGroup) {
		if name.IsExported() && !slices.ContainsFunc(docs, func(d *ast.CommentGroup) bool { return d != nil }) {
			findings = append(findings, s.finding(name, "%s has no comment", name.Name))
		}
	}
	for _, decl := range s.file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			receiver := receiverType(d)
			if receiver == "" || ast.IsExported(receiver) && !slices.Contains(customary, d.Name.Name) {
				undocumented(d.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					undocumented(spec.Name, d.Doc, spec.Doc, spec.Comment)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						undocumented(name, d.Doc, spec.Doc, spec.Comment)
					}
				}
			}
		}
	}
	return findings
}

// receiverType returns the name of the type that f is a method of, "" for a function.
func receiverType(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	expr := f.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

// TestSourceRefuses shows the rules what they must refuse, and what looks like it.
func TestSourceRefuses(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("\n", n) }
	tests := []struct{ name, file, code, want string }{
		{"long file", "a.go", lines(maxFileLines), "801 lines in a file, at most 800"},
		{"long function", "a.go", "func f() {" + lines(maxFunctionLines) + "}", "81 lines in a function, at most 80"},
		{"long test", "a_test.go", "func f() {" + lines(maxFileLines) + "}", ""},
		{"big struct", "a.go", "type t struct { a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s int; u }", ""},
		{"too big struct", "a.go", "type t struct { a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, v int; u }", "21 fields in a struct, at most 20"},
		{"big interface", "a.go", "type i interface { a(); b(); c(); d(); e(); f() }", "6 methods in an interface, at most 5"},
		{"many parameters", "a.go", "func f(a, b, c int, d, e, g, h string)", "7 parameters, at most 6"},
		{"vague type", "a.go", "type orderManager struct{}", "type orderManager: call it what it is"},
		{"vague test type", "a_test.go", "type testHelpers struct{}", "type testHelpers: call it what it is"},
		{"panic", "a.go", "func f() { panic(1) }", "panic outside of init and must…"},
		{"panic in a variable", "a.go", "var f = func() { panic(1) }", "panic outside of init and must…"},
		{"must panic", "a.go", "func mustF() { panic(1) }\nfunc init() { panic(1) }", ""},
		{"environment", "internal/store/a.go", `var v = os.Getenv("V")`, "os.Getenv: settings come from one place"},
		{"environment as a value", "internal/store/a.go", `var v = os.LookupEnv`, "os.LookupEnv: settings come from one place"},
		{"environment of a command", "cmd/certctl/a.go", `var v = os.Getenv("V")`, ""},
		{"clock", "internal/policy/a.go", "var v = time.Now()", "time.Now: this package is given the time"},
		{"clock above", "internal/store/a.go", "var v = time.Now()", ""},
		{"skip", "a_test.go", "func TestA(t *testing.T) { t.Skip() }", "t.Skip: a test runs or is not there"},
		{"short", "a_test.go", "func TestA(t *testing.T) { if testing.Short() { return } }", "testing.Short: a test runs or is not there"},
		{"leftover", "a.go", "// TODO: more", "TODO: do it or file it"},
		{"placeholders", "a.go", "var q = `SELECT a FROM t WHERE b = $1 AND c = $2 AND d = $1`", ""},
		{"placeholders out of order", "a.go", "var q = `UPDATE t SET a = $2 WHERE b = $1`", "placeholder $2 comes before $1"},
		{"placeholder left out", "a.go", "var q = `DELETE FROM t WHERE b = $1 AND c = $3`", "placeholder $3 comes before $2"},
		{"placeholders in parts", "a.go", "var q = `SELECT ` + columns + ` WHERE a = $2` + (` OR b = $1`)", "placeholder $2 comes before $1"},
		{"placeholders of no statement", "a.go", "var q = `$2 before $1`", ""},
		{"no comment", "a.go", "func F() {}", "F has no comment"},
		{"no comment on a method", "a.go", "func (t *T[K]) F() {}", "F has no comment"},
		{"no comment on a constant", "a.go", "const (\n\tA = 1 // one\n\tB = 2\n)", "B has no comment"},
		{"customary method", "a.go", "func (t T) Error() string", ""},
		{"not exported", "a.go", "type t int\nfunc (t) F() {}", ""},
		{"comments", "a.go", "// F is one.\nfunc F() {}\n\n// Both.\nvar (\n\tA = 1\n\tB = 2\n)", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, tt.file, "package p\n"+tt.code, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			got := check(source{tt.file, fset, file})
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want nothing", got)
			case tt.want != "" && (len(got) != 1 || !strings.HasSuffix(got[0], ": "+tt.want)):
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
