// Package archtest asserts which package may import what, and says why. It holds
// tests alone; the table is in rules_test.go. It must not know what the packages do.
package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/belaydev/belay"

// pkg is what the go command says of a package, and the syntax of its files.
type pkg struct {
	ImportPath, Name, Dir string
	GoFiles, CgoFiles     []string
	IgnoredGoFiles        []string // of other systems
	TestGoFiles           []string
	XTestGoFiles          []string

	path string // within the module; "" is the root
	// files are all but the tests; tests are the tests. By name.
	files, tests map[string]*ast.File
}

var packages = sync.OnceValues(func() ([]*pkg, error) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return nil, err
	}
	if err := touch(root); err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Name,Dir,GoFiles,CgoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var all []*pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &pkg{files: map[string]*ast.File{}, tests: map[string]*ast.File{}}
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("read the answer of go list: %w", err)
		}
		p.path = within(p.ImportPath)
		if err := p.parse(); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

// touch reads the directories. The go command notes what a test opens, and takes
// no earlier result for an answer when a package or a file has been added.
func touch(root string) error {
	if _, err := os.ReadDir(root); err != nil {
		return err
	}
	for _, dir := range []string{"bench", "client", "cmd", "internal"} {
		// One that is missing has no packages.
		err := filepath.WalkDir(filepath.Join(root, dir), func(string, fs.DirEntry, error) error { return nil })
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *pkg) parse() error {
	for _, name := range slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles) {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if strings.HasSuffix(name, "_test.go") {
			p.tests[name] = f
		} else {
			p.files[name] = f
		}
	}
	return nil
}

func load(t *testing.T) []*pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 2 {
		t.Fatalf("go list found %d packages", len(all))
	}
	return all
}

// within is an import path as the rules write it.
func within(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

func ofModule(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// matches tells whether a package is the pattern's, or in its subtree.
func matches(pattern, path string) bool {
	tree, ok := strings.CutSuffix(pattern, "/...")
	return path == pattern || (ok && (path == tree || strings.HasPrefix(path, tree+"/")))
}

// ruleFor is the most specific rule for a package.
func ruleFor(path string) *rule {
	var best *rule
	for i := range rules {
		if r := &rules[i]; matches(r.pkg, path) && (best == nil || len(r.pkg) > len(best.pkg)) {
			best = r
		}
	}
	return best
}

// imported are the paths that a file imports.
func imported(f *ast.File) []string {
	var out []string
	for _, s := range f.Imports {
		if p, err := strconv.Unquote(s.Path.Value); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// kubernetes tells whether a library brings Kubernetes types with it.
// sigs.k8s.io/yaml does not: it is YAML read by the rules of JSON, no more.
func kubernetes(path string) bool {
	for _, p := range []string{"k8s.io/", "sigs.k8s.io/", "helm.sh/", "github.com/fluxcd/"} {
		if strings.HasPrefix(path, p) {
			return path != "sigs.k8s.io/yaml"
		}
	}
	return false
}

// impure are packages of the standard library that reach out of the process, and
// those that tell something new each time.
func impure(path string) bool {
	return slices.Contains([]string{"os", "net", "syscall", "io/ioutil", "math/rand", "math/rand/v2", "crypto/rand", "log", "log/slog", "sync", "database/sql", "plugin"}, path) ||
		strings.HasPrefix(path, "os/") || strings.HasPrefix(path, "net/")
}

func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// violation says why the rule does not allow an import of a file that is no test.
func (r *rule) violation(path string) string {
	switch {
	case path == "os/exec" && !r.processes:
		return "only internal/xec starts processes"
	case r.pure && impure(path):
		return "it has to be pure"
	case standard(path):
		return ""
	case ofModule(path):
		return r.ofModule(within(path))
	case r.standard:
		return "it gets by with the standard library"
	case kubernetes(path) && !r.kubernetes:
		return "Kubernetes types stay inside internal/kube and internal/render"
	}
	return ""
}

func (r *rule) ofModule(path string) string {
	target := ruleFor(path)
	switch {
	case r.pkg == "":
		return "the root package imports nothing of the module"
	case target != nil && target.tests && !r.tests:
		return path + " is for tests"
	case path == "", slices.Contains(helpers, path) && !r.pure, slices.ContainsFunc(r.imports, func(p string) bool { return matches(p, path) }):
		return ""
	case len(r.imports) == 0:
		return "of this module it may import the root and helpers only"
	}
	return "of this module it may import the root, helpers and " + strings.Join(r.imports, ", ") + " only"
}

func TestImports(t *testing.T) {
	for _, p := range load(t) {
		r := ruleFor(p.path)
		if r == nil {
			t.Errorf("no rule knows the package %s: add it to the table in internal/archtest/rules_test.go and say what it may import, and why", p.ImportPath)
			continue
		}
		for _, name := range sorted(p.files) {
			for _, path := range imported(p.files[name]) {
				if v := r.violation(path); v != "" {
					t.Errorf("%s imports %s: %s.\n\t%s", filepath.Join(p.path, name), path, v, r.why)
				}
			}
		}
	}
}

// Tests may import what they need, but the tests of a pure package, too, know no
// adapter: with one at hand they would soon test that instead. What the package
// itself may import they may.
func TestImportsOfTests(t *testing.T) {
	for _, p := range load(t) {
		r := ruleFor(p.path)
		if r == nil || !r.pure {
			continue
		}
		for _, name := range sorted(p.tests) {
			for _, path := range imported(p.tests[name]) {
				if target := within(path); ofModule(path) && target != p.path && target != "" && !slices.Contains(helpers, target) && r.violation(path) != "" {
					t.Errorf("%s imports %s.\n\t%s", filepath.Join(p.path, name), path, r.why)
				}
			}
		}
	}
}

func TestPurePackages(t *testing.T) {
	for _, p := range load(t) {
		r := ruleFor(p.path)
		if r == nil || !r.pure {
			continue
		}
		for _, name := range sorted(p.files) {
			for _, what := range impurities(p.files[name]) {
				t.Errorf("%s %s.\n\t%s", filepath.Join(p.path, name), what, r.why)
			}
		}
	}
}

// impurities are uses of the clock and goroutines.
func impurities(f *ast.File) []string {
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			out = append(out, "starts a goroutine")
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, n.Sel.Name) {
				out = append(out, "uses the clock: time."+n.Sel.Name)
			}
		}
		return true
	})
	return out
}

func TestOnlyGitRunsGit(t *testing.T) {
	for _, p := range load(t) {
		if r := ruleFor(p.path); r != nil && r.git {
			continue
		}
		for _, name := range sorted(p.files) {
			if runsGit(p.files[name]) {
				t.Errorf("%s runs git.\n\tOnly internal/git does: it keeps credentials, hooks, configuration and prompts of the machine away from what git does for us.",
					filepath.Join(p.path, name))
			}
		}
	}
}

// runsGit tells whether a file has git as the path of a command, of xec or os/exec.
func runsGit(f *ast.File) bool {
	found := false
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			if k, ok := n.Key.(*ast.Ident); ok && k.Name == "Path" && isGit(n.Value) {
				found = true
			}
		case *ast.CallExpr:
			if s, ok := n.Fun.(*ast.SelectorExpr); ok && strings.HasPrefix(s.Sel.Name, "Command") && slices.ContainsFunc(n.Args, isGit) {
				found = true
			}
		}
		return !found
	})
	return found
}

func isGit(e ast.Expr) bool {
	lit, ok := e.(*ast.BasicLit)
	return ok && (lit.Value == `"git"` || strings.HasSuffix(lit.Value, `/git"`))
}

func TestPackageComments(t *testing.T) {
	for _, p := range load(t) {
		files := p.files
		if len(files) == 0 {
			files = p.tests
		}
		var with []string
		for _, name := range sorted(files) {
			f := files[name]
			if f.Doc == nil {
				continue
			}
			with = append(with, name)
			if text := f.Doc.Text(); p.Name != "main" && !strings.HasPrefix(text, "Package "+p.Name+" ") {
				t.Errorf("%s: the package comment does not begin with \"Package %s \".", filepath.Join(p.path, name), p.Name)
			}
		}
		if len(with) != 1 {
			t.Errorf("%s has %d package comments %v, want one: what the package is for and what it must not know.", p.ImportPath, len(with), with)
		}
	}
}

// The table itself must not rot.
func TestRules(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules {
		if seen[r.pkg] {
			t.Errorf("two rules for %q", r.pkg)
		}
		seen[r.pkg] = true
		if r.why == "" {
			t.Errorf("the rule for %q does not say why", r.pkg)
		}
	}
	for _, h := range helpers {
		if ruleFor(h) == nil {
			t.Errorf("no rule for the helper %s", h)
		}
	}
}

// What the rules forbid is found: a test of the test.
func TestRulesBite(t *testing.T) {
	for _, tt := range []struct {
		pkg, path string
		ok        bool
	}{
		{"", "strings", true}, {"", "os", false}, {"", "net/http", false}, {"", "gopkg.in/yaml.v3", false}, {"", module + "/internal/xec", false},
		{"internal/plan", module, true}, {"internal/plan", "os", false}, {"internal/plan", module + "/internal/term", false}, {"internal/plan", "k8s.io/api/core/v1", false},
		{"internal/health", module + "/internal/expr", true}, {"internal/expr", "os", false}, {"internal/expr", module + "/internal/health", false},
		{"internal/policy/cel", "github.com/google/cel-go/cel", true}, {"internal/policy/cel", "net", false},
		{"internal/git", module + "/internal/kube", false}, {"internal/git", module + "/internal/xec", true}, {"internal/git", "os/exec", false},
		{"internal/source", module + "/internal/git", true}, {"internal/source", module + "/internal/render", false},
		{"internal/render/helm", module + "/internal/render", true}, {"internal/render/helm", module + "/internal/kube", false}, {"internal/render/helm", "k8s.io/api/core/v1", true},
		{"internal/kube", "k8s.io/client-go/rest", true}, {"internal/kube", module + "/internal/source", false},
		{"internal/reconcile", module + "/internal/plan", true}, {"internal/reconcile", module + "/internal/kube", false}, {"internal/reconcile", "k8s.io/api/core/v1", false},
		{"internal/server", module + "/internal/events", true}, {"internal/server", module + "/internal/reconcile", false},
		{"client", module, true}, {"client", module + "/internal/git", false}, {"client", "sigs.k8s.io/yaml", false}, {"client", "sigs.k8s.io/kustomize/api/types", false},
		{"cmd/belay", module + "/internal/kube", true}, {"cmd/belay", module + "/internal/devtest", false}, {"cmd/belay", "os/exec", false},
		{"internal/xec", "os/exec", true}, {"internal/xec", module + "/internal/git", false},
	} {
		if v := ruleFor(tt.pkg).violation(tt.path); (v == "") != tt.ok {
			t.Errorf("%s importing %s: %q", tt.pkg, tt.path, v)
		}
	}
	if ruleFor("internal/nobody") != nil || ruleFor("internal/gitx") != nil || ruleFor("internal/renderer") != nil {
		t.Error("a package that nobody wrote down has a rule")
	}
	parse := func(body string) *ast.File {
		f, err := parser.ParseFile(token.NewFileSet(), "x.go", "package x\nfunc f() {\n"+body+"\n}", 0)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if len(impurities(parse("go f(); _ = time.Now()"))) != 2 || len(impurities(parse("_ = time.Time{}"))) != 0 {
		t.Error("impurities are not found, or found where there are none")
	}
	if !runsGit(parse(`_ = xec.Command{Path: "git"}`)) || !runsGit(parse(`exec.CommandContext(c, "/usr/bin/git", "log")`)) || runsGit(parse(`x := map[string]string{"git": "9418"}`)) {
		t.Error("running git is not found, or found where it is not")
	}
}

// No rule may be evaded by a replace line: "go install" of the command refuses them.
func TestNoReplaceInGoMod(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`(?m)^\s*replace\b`).Match(b) {
		t.Error("go.mod has a replace line: go install " + module + "/cmd/belay@latest would refuse it")
	}
}

func sorted(files map[string]*ast.File) []string {
	var out []string
	for name := range files {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
