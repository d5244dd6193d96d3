package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

func names[V any](m map[string]V) string { return strings.Join(slices.Sorted(maps.Keys(m)), " ") }

func wantProblem(t *testing.T, c *catalog.Catalog, want string) {
	t.Helper()
	if !strings.Contains(problems(c), want) {
		t.Errorf("no problem %q in\n%s", want, problems(c))
	}
}

func wantClean(t *testing.T, c *catalog.Catalog) {
	t.Helper()
	if len(c.Problems)+len(c.ApplicationErrors)+len(c.Broken()) > 0 {
		t.Errorf("broken %v, errors %v, problems:\n%s", c.Broken(), c.ApplicationErrors, problems(c))
	}
}

const garbage = "apiVersion: belay.dev/v1alpha1\nkind: Application\n  metadata: {\n"

func TestBrokenFileKeepsItsMeaning(t *testing.T) {
	files := map[string]string{"a.yaml": app("a", ""), "b.yaml": app("b", "")}
	c1 := load(t, nil, "c1", files)
	files["a.yaml"] = garbage
	files["b.yaml"] = app("b", "source: {path: apps/new}")
	c2 := load(t, c1, "c2", files)
	if names(c2.Applications) != "a b" || c2.Applications["b"].Spec.Source.Path != "apps/new" {
		t.Fatalf("applications %v", c2.Applications)
	}
	if a := c2.Applications["a"]; a.Spec.Source.Path != "apps/a" || a.Origin.Revision != "c1" || c2.Applications["b"].Origin.Revision != "c2" {
		t.Errorf("a is %+v", a)
	}
	if len(c2.ApplicationErrors) > 0 || !c2.Stale("belay/a.yaml") || c2.Stale("belay/b.yaml") || len(c2.Forgotten()) > 0 ||
		!slices.Equal(c2.Broken(), []string{"belay/a.yaml"}) || !slices.Equal(c2.TeardownBlockers(), []string{"belay/a.yaml"}) {
		t.Errorf("errors %v, broken %v, forgotten %v, blockers %v", c2.ApplicationErrors, c2.Broken(), c2.Forgotten(), c2.TeardownBlockers())
	}
	if len(c2.Problems) != 1 || c2.Problems[0].Origin.Revision != "c2" || c2.Problems[0].Origin.Line != 3 {
		t.Errorf("problems %+v", c2.Problems)
	}
	// It outlives more commits, and ends with the mending or the removal.
	c3 := load(t, c2, "c3", files)
	if c3.Applications["a"].Origin.Revision != "c1" || !c3.Stale("belay/a.yaml") {
		t.Errorf("a in c3 is %+v", c3.Applications["a"])
	}
	files["a.yaml"] = app("a", "source: {path: apps/mended}")
	c4 := load(t, c3, "c4", files)
	wantClean(t, c4)
	if c4.Applications["a"].Spec.Source.Path != "apps/mended" {
		t.Errorf("a in c4 is %+v", c4.Applications["a"])
	}
	delete(files, "a.yaml")
	for _, prev := range []*catalog.Catalog{c3, c4} {
		c5 := load(t, prev, "c5", files)
		wantClean(t, c5)
		if names(c5.Applications) != "b" {
			t.Errorf("applications %v after the removal", names(c5.Applications))
		}
	}
}

func TestBrokenDocumentLeavesTheOthers(t *testing.T) {
	three := func(b string) map[string]string {
		return map[string]string{"all.yaml": app("a", "source: {path: apps/new}") + "---\n" + b + "---\n" + app("c", "")}
	}
	c1 := load(t, nil, "c1", map[string]string{"all.yaml": app("a", "") + "---\n" + app("b", "") + "---\n" + app("c", "")})
	for name, broken := range map[string]string{
		"field":  app("b", "sorce: {path: apps/b}"),
		"syntax": garbage,
		"kind":   strings.Replace(app("b", ""), "kind: Application", "kind: Appl", 1),
		"name":   app("B_", ""),
		"type":   "- what is this\n",
	} {
		t.Run(name, func(t *testing.T) {
			c2 := load(t, c1, "c2", three(broken))
			if names(c2.Applications) != "a b c" || len(c2.ApplicationErrors) > 0 || !c2.Stale("belay/all.yaml") {
				t.Fatalf("applications %s, errors %v", names(c2.Applications), c2.ApplicationErrors)
			}
			if c2.Applications["a"].Spec.Source.Path != "apps/new" || c2.Applications["b"].Spec.Source.Path != "apps/b" {
				t.Errorf("a %+v\nb %+v", c2.Applications["a"], c2.Applications["b"])
			}
			// Without a memory the other documents are read all the same.
			fresh := load(t, nil, "c2", three(broken))
			for _, n := range []string{"a", "c"} {
				if _, ok := fresh.Applications[n]; !ok || fresh.ApplicationErrors[n] != nil {
					t.Errorf("fresh: %s is %v, %v", n, fresh.Applications[n], fresh.ApplicationErrors[n])
				}
			}
			if fresh.Stale("belay/all.yaml") {
				t.Error("stale without a memory")
			}
		})
	}
}

func TestBrokenFromTheBeginning(t *testing.T) {
	c := load(t, nil, "c1", map[string]string{
		"a.yaml": app("a", "source: {path: apps/a}, sink: 1"),
		"b.yaml": app("b", "project: web"),
		"p.yaml": def("Project", "web", "sauces: []"),
		"z.yaml": garbage,
	})
	// Known by name, so it is declared; wrong, so it is not synced.
	if names(c.Applications) != "a b" || names(c.ApplicationErrors) != "a b" {
		t.Fatalf("applications %s, errors %v", names(c.Applications), c.ApplicationErrors)
	}
	if a := c.Applications["a"]; a.Spec.Source.Path != "apps/a" || a.Spec.Destination.Cluster != belay.LocalCluster {
		t.Errorf("a is %+v", a)
	}
	if err := c.ApplicationErrors["a"]; belay.CodeOf(err) != belay.CodeInvalid || !strings.Contains(err.Error(), `belay/a.yaml:4: unknown field "sink"`) {
		t.Errorf("error of a: %v", err)
	}
	if _, ok := c.Projects["web"]; ok {
		t.Error("a broken project is there")
	}
	if !slices.Equal(c.Forgotten(), []string{"belay/z.yaml"}) || !slices.Equal(c.TeardownBlockers(), []string{"belay/z.yaml"}) {
		t.Errorf("forgotten %v, blockers %v", c.Forgotten(), c.TeardownBlockers())
	}
}

func TestNothingIsGoneWhileAFileIsUnreadable(t *testing.T) {
	c1 := load(t, nil, "c1", map[string]string{"a.yaml": app("a", ""), "b.yaml": app("b", ""), "p.yaml": def("Project", "web", "")})
	// a may have moved to the new file, which nobody can read.
	c2 := load(t, c1, "c2", map[string]string{"b.yaml": app("b", ""), "new.yaml": garbage})
	if names(c2.Applications) != "a b" || names(c2.Projects) != "default web" || len(c2.ApplicationErrors) > 0 {
		t.Fatalf("applications %s, projects %s, errors %v", names(c2.Applications), names(c2.Projects), c2.ApplicationErrors)
	}
	wantProblem(t, c2, `belay/a.yaml:1: Application "a" is gone, but stays as it was until belay/new.yaml can be read`)
	if ch := c2.Diff(c1); !ch.Empty() {
		t.Errorf("changes %+v", ch)
	}
	c3 := load(t, c2, "c3", map[string]string{"b.yaml": app("b", ""), "new.yaml": garbage + "x"})
	if names(c3.Applications) != "a b" {
		t.Errorf("applications %s after another commit", names(c3.Applications))
	}
	c4 := load(t, c3, "c4", map[string]string{"b.yaml": app("b", ""), "new.yaml": app("a", "source: {path: apps/moved}")})
	wantClean(t, c4)
	if ch := c4.Diff(c3); !slices.Equal(ch.Changed, []string{"a"}) || !slices.Equal(ch.Projects, []string{"web"}) || len(ch.Removed) > 0 {
		t.Errorf("changes %+v", ch)
	}
	c5 := load(t, c3, "c5", map[string]string{"b.yaml": app("b", "")})
	wantClean(t, c5)
	if ch := c5.Diff(c3); !slices.Equal(ch.Removed, []string{"a"}) {
		t.Errorf("changes %+v", ch)
	}
}

func TestRemovalInABrokenFileWaits(t *testing.T) {
	c1 := load(t, nil, "c1", map[string]string{"all.yaml": app("a", "") + "---\n" + app("b", "")})
	c2 := load(t, c1, "c2", map[string]string{"all.yaml": app("b", "oops: 1")})
	if names(c2.Applications) != "a b" {
		t.Errorf("applications %s", names(c2.Applications))
	}
	wantProblem(t, c2, `Application "a" is no longer written here, but stays as it was until the rest of the file is mended`)
	// Moved to a good file, it is what it is there.
	c3 := load(t, c2, "c3", map[string]string{"all.yaml": app("b", "oops: 1"), "new.yaml": app("a", "source: {path: apps/moved}")})
	if c3.Applications["a"].Spec.Source.Path != "apps/moved" || strings.Contains(problems(c3), "twice") {
		t.Errorf("a is %+v\n%s", c3.Applications["a"], problems(c3))
	}
}

func TestForeignDocumentsBreakNothing(t *testing.T) {
	c1 := load(t, nil, "c1", map[string]string{"a.yaml": app("a", "") + "---\n" + app("b", "")})
	c2 := load(t, c1, "c2", map[string]string{"a.yaml": app("a", "") + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n---\n" + def("Pipeline", "p", "")})
	if names(c2.Applications) != "a" || len(c2.Broken()) > 0 || len(c2.Problems) != 2 {
		t.Errorf("applications %s, broken %v, problems:\n%s", names(c2.Applications), c2.Broken(), problems(c2))
	}
}

func TestTwice(t *testing.T) {
	c1 := load(t, nil, "c1", map[string]string{"b.yaml": app("x", "source: {path: b}")})
	files := map[string]string{"a.yaml": app("x", "source: {path: a}"), "b.yaml": app("x", "source: {path: b}"),
		"c.yaml": def("Cluster", "x", "")} // another kind
	c2 := load(t, c1, "c2", files)
	if c2.Applications["x"].Spec.Source.Path != "b" || len(c2.ApplicationErrors) > 0 {
		t.Errorf("x is %+v, %v", c2.Applications["x"], c2.ApplicationErrors)
	}
	wantProblem(t, c2, `belay/a.yaml:1: Application "x" is declared twice, here and at belay/b.yaml:1, which stays in force`)
	if c2.Problems[0].Application != "x" || len(c2.Problems) != 1 {
		t.Errorf("problems %+v", c2.Problems)
	}
	if c := load(t, nil, "c2", files); c.Applications["x"].Spec.Source.Path != "a" {
		t.Errorf("without a memory x is %+v", c.Applications["x"])
	}
	// The one known before is broken: it still stays.
	files["b.yaml"] = app("x", "sauce: {}")
	if c := load(t, c2, "c3", files); c.Applications["x"].Spec.Source.Path != "b" {
		t.Errorf("with the known one broken x is %+v", c.Applications["x"])
	}
	// One that never was right gives way.
	if c := load(t, nil, "c3", map[string]string{"a.yaml": app("x", "sauce: {}"), "b.yaml": app("x", "")}); c.ApplicationErrors["x"] != nil {
		t.Errorf("x is %+v, %v", c.Applications["x"], c.ApplicationErrors["x"])
	}
	files = map[string]string{"r.yaml": def("Repository", "a", "url: 'https://h/x'") + "---\n" + def("Repository", "b", "url: 'https://H/x.git/'")}
	wantProblem(t, load(t, nil, "c1", files), `belay/r.yaml:9: Repository "b" has the same URL as Repository "a" (belay/r.yaml:1)`)
}

func TestReferencesToOtherDefinitions(t *testing.T) {
	base := map[string]string{
		"p.yaml": def("Project", "web", "sources: [{repo: charts}, {repo: 'https://git.example.com/*', paths: ['apps/web/**']}]"),
		"r.yaml": def("Repository", "charts", "url: 'https://github.com/example/charts'"),
	}
	for _, tt := range []struct {
		name, spec string
		extra      string
		code       belay.Code
		want       string
	}{
		{"ok", "project: web, source: {path: apps/web/x}", "", "", ""},
		{"ok by name", "project: web, source: {repo: charts}", "", "", ""},
		{"ok by URL", "project: web, source: {repo: 'https://github.com/example/charts.git'}", "", "", ""},
		{"project", "project: wbe, source: {path: x}", "", belay.CodeNotFound, `belay/x.yaml:4: Project "wbe" is not declared, did you mean "web"?`},
		{"repository", "source: {repo: chart}", "", belay.CodeNotFound, `Repository "chart" is not declared, did you mean "charts"?`},
		{"chart of no repository", "source: {chart: web, ref: ^2}", "", belay.CodeInvalid, "belay/x.yaml:4: a chart is in a Helm repository or a registry, and none is named"},
		{"path", "project: web, source: {path: apps/other}", "", belay.CodeDenied, `project "web" does not allow the source https://git.example.com/fleet, path "apps/other"`},
		{"url", "project: web, source: {repo: 'https://elsewhere.example.com/x'}", "", belay.CodeDenied, `project "web" does not allow the source https://elsewhere.example.com/x`},
		{"cluster", "source: {path: x}, destination: {cluster: prod}", "", belay.CodeNotFound, `Cluster "prod" is not declared (no Cluster is declared; without one there is only "local")`},
		{"local", "source: {path: x}, destination: {cluster: local}", "", "", ""},
		{"not local", "source: {path: x}, destination: {cluster: local}", def("Cluster", "prod", ""), belay.CodeNotFound, `declare a Cluster named "local" with an empty spec`},
		{"only one", "source: {path: x}", def("Cluster", "prod", ""), "", ""},
		{"several", "source: {path: x}", def("Cluster", "prod", "") + "---\n" + def("Cluster", "dev", ""), belay.CodeInvalid,
			"belay/x.yaml:4: spec.destination.cluster is missing: there are several clusters, dev, prod"},
		{"broken cluster", "source: {path: x}", def("Cluster", "prod", "contekst: x"), belay.CodeInvalid, `Cluster "prod" is declared, but wrong (belay/c.yaml:1)`},
		{"broken project", "project: bad, source: {path: x}", def("Project", "bad", "x: 1"), belay.CodeInvalid, `Project "bad" is declared, but wrong`},
		{"broken default project", "source: {path: x}", def("Project", "default", "x: 1"), belay.CodeInvalid, `Project "default" is declared, but wrong`},
		{"limited default project", "source: {path: x}", def("Project", "default", ""), belay.CodeDenied, `project "default" does not allow`},
		{"broken repository", "source: {repo: bad}", def("Repository", "bad", "url: x"), belay.CodeInvalid, `Repository "bad" is declared, but wrong`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := maps.Clone(base)
			files["x.yaml"] = app("x", tt.spec)
			if tt.extra != "" {
				files["c.yaml"] = tt.extra
			}
			c := load(t, nil, "c1", files)
			if _, ok := c.Applications["x"]; !ok {
				t.Fatal("x is gone")
			}
			err := c.ApplicationErrors["x"]
			if tt.want == "" {
				if err != nil || c.Applications["x"].Spec.Destination.Cluster == "" {
					t.Fatalf("error %v, application %+v", err, c.Applications["x"])
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || belay.CodeOf(err) != tt.code {
				t.Fatalf("error %v (%s), want %q (%s)", err, belay.CodeOf(err), tt.want, tt.code)
			}
			be, _ := errors.AsType[*belay.Error](err)
			if be.Application != "x" || be.Origin.File != "belay/x.yaml" {
				t.Errorf("error %+v", be)
			}
			if _, wrong, ok := strings.Cut(tt.name, "broken "); ok { // told once, where it is to be mended
				tt.want = "; an application waits for this " + map[string]string{"cluster": "Cluster", "repository": "Repository"}[wrong]
			}
			wantProblem(t, c, tt.want)
			if len(c.Broken()) > 0 && tt.extra == "" {
				t.Errorf("broken %v", c.Broken())
			}
		})
	}
}

// Of a definition that is wrong it is told once how many applications wait for it.
func TestAWrongDefinitionIsToldOnce(t *testing.T) {
	files := map[string]string{
		"clusters.yaml": def("Cluster", "edge", "contekst: x, colour: red") + "---\n" + def("Cluster", "hub", ""),
		"r.yaml":        def("Repository", "code", "url: x"),
	}
	for _, name := range []string{"a", "b", "c"} {
		files[name+".yaml"] = app(name, "source: {path: x}, destination: {cluster: edge}")
	}
	files["d.yaml"] = app("d", "sources: [{repo: code, path: x}, {repo: code, path: y}], destination: {cluster: edge}")
	files["e.yaml"] = app("e", "source: {path: x}, destination: {cluster: hub}")
	// What is wrong itself says so, and counts for nothing else.
	files["f.yaml"] = app("f", "sauce: {path: x}, destination: {cluster: edge}")
	c := load(t, nil, "c1", files)
	wants := []string{`belay/clusters.yaml:4: unknown field "contekst"`, `belay/clusters.yaml:4: unknown field "colour"`, "; 4 applications wait for this Cluster",
		"belay/f.yaml:4: ", "belay/r.yaml:4: ", "; an application waits for this Repository"}
	for _, w := range wants {
		wantProblem(t, c, w)
	}
	if len(c.Problems) != 4 {
		t.Errorf("the problems are\n%s", problems(c))
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		if err := c.ApplicationErrors[name]; err == nil || !strings.Contains(err.Error(), "declared, but wrong") {
			t.Errorf("the error of %s is %v", name, err)
		}
	}
	if err := c.ApplicationErrors["e"]; err != nil {
		t.Errorf("the error of another cluster's application is %v", err)
	}
	// Mended, nothing is left of it.
	delete(files, "f.yaml")
	files["clusters.yaml"], files["r.yaml"] = def("Cluster", "edge", "")+"---\n"+def("Cluster", "hub", ""), def("Repository", "code", "url: 'https://git.example.com/code'")
	if c = load(t, c, "c2", files); len(c.Problems)+len(c.ApplicationErrors) > 0 {
		t.Errorf("once mended there are %v, %v", c.Problems, c.ApplicationErrors)
	}
}

// What nobody can read may say that a cluster or the default project is not what
// its absence means. Nothing is delivered on a guess.
func TestDefaultsAreNotGuessed(t *testing.T) {
	clusters := "apiVersion: belay.dev/v1alpha1\nkind: Cluster\n metadata: {name: prod}\n"
	project := "apiVersion: belay.dev/v1alpha1\nkind: Project\n metadata: {name: default}\n"
	a := app("a", "")
	c := load(t, nil, "c1", map[string]string{"a.yaml": a, "c.yaml": clusters})
	if err := c.ApplicationErrors["a"]; err == nil || !strings.Contains(err.Error(), "the cluster cannot be told") {
		t.Errorf("error %v", err)
	}
	c = load(t, nil, "c1", map[string]string{"a.yaml": a, "c.yaml": project})
	if err := c.ApplicationErrors["a"]; err == nil || !strings.Contains(err.Error(), "what the default project allows cannot be told") {
		t.Errorf("error %v", err)
	}
	if _, ok := c.Projects["default"]; ok {
		t.Error("the default project is open")
	}
	wantProblem(t, load(t, nil, "c1", map[string]string{"a.yaml": app("a", "destination: {cluster: local}, source: {path: a}"), "c.yaml": clusters}), "belay/c.yaml, which cannot be read")
	// A broken application says nothing of either: the rest goes on.
	c = load(t, nil, "c1", map[string]string{"a.yaml": a, "c.yaml": garbage})
	if c.ApplicationErrors["a"] != nil || c.Applications["a"].Spec.Destination.Cluster != belay.LocalCluster {
		t.Errorf("error %v", c.ApplicationErrors["a"])
	}
	// Nor does it shake what was known before.
	c1 := load(t, nil, "c1", map[string]string{"a.yaml": a})
	c2 := load(t, c1, "c2", map[string]string{"a.yaml": a, "c.yaml": clusters, "p.yaml": project})
	if len(c2.ApplicationErrors) > 0 || !c2.Diff(c1).Empty() {
		t.Errorf("errors %v, changes %+v", c2.ApplicationErrors, c2.Diff(c1))
	}
	c3 := load(t, c2, "c3", map[string]string{"a.yaml": a, "c.yaml": def("Cluster", "prod", ""), "p.yaml": def("Project", "default", "sources: [{repo: '**'}]")})
	wantClean(t, c3)
	if c3.Applications["a"].Spec.Destination.Cluster != "prod" {
		t.Errorf("a is %+v", c3.Applications["a"])
	}
	// A second cluster makes the default ambiguous; a stays where it was, unsynced.
	c4 := load(t, c3, "c4", map[string]string{"a.yaml": a, "c.yaml": def("Cluster", "prod", "") + "---\n" + def("Cluster", "dev", ""), "p.yaml": def("Project", "default", "sources: [{repo: '**'}]")})
	if c4.ApplicationErrors["a"] == nil || c4.Applications["a"].Spec.Destination.Cluster != "prod" {
		t.Errorf("a is %+v, %v", c4.Applications["a"], c4.ApplicationErrors["a"])
	}
}

func TestRefDefaults(t *testing.T) {
	c := load(t, nil, "c1", map[string]string{
		"r.yaml": def("Repository", "self", "url: '"+configRepo+".git'") + "---\n" + def("Repository", "other", "url: /srv/git/other"),
		"a.yaml": app("own", "") + "---\n" + app("self", "source: {repo: self}") + "---\n" + app("other", "source: {repo: other}") +
			"---\n" + app("url", "source: {repo: 'git@github.com:example/x.git'}") + "---\n" + app("pinned", "source: {repo: self, ref: v1}"),
	})
	wantClean(t, c)
	for name, want := range map[string]string{"own": "main", "self": "main", "other": "HEAD", "url": "HEAD", "pinned": "v1"} {
		if got := c.Applications[name].Spec.Source.Ref; got != want {
			t.Errorf("ref of %s is %q, want %q", name, got, want)
		}
	}
	// A working directory has no URL; a project's paths still count.
	opts := catalog.Options{Root: "belay"}
	files := below(map[string]string{"p.yaml": def("Project", "default", "sources: [{repo: '**', paths: ['apps/*']}]"), "a.yaml": app("a", "") + "---\n" + app("b", "source: {path: x}")})
	c, err := catalog.Load(t.Context(), newTree(files), opts, nil)
	if err != nil || c.ApplicationErrors["a"] != nil || c.ApplicationErrors["b"] == nil {
		t.Errorf("%v, %v", err, c.ApplicationErrors)
	}
}

func TestUnreadableFiles(t *testing.T) {
	tr := newTree(below(map[string]string{
		"a.yaml": app("a", ""), "big.yaml": strings.Repeat("# long\n", 200_000), "latin.yaml": "a: \xff\n", "bom.yaml": "\xef\xbb\xbf" + app("bom", ""),
		"lfs.yaml": "x", "c.yaml": def("Cluster", "local", "") + "---\n" + def("Project", "default", "sources: [{repo: '**'}]"), ".hidden/x.yaml": garbage, ".x.yaml": garbage, "notes.txt": garbage, "crlf.yaml": strings.ReplaceAll(app("crlf", "")+"---\n"+app("crlf2", ""), "\n", "\r\n"),
	}))
	tr.errs["belay/lfs.yaml"] = &belay.Error{Code: belay.CodeInvalid, Message: "it is a Git LFS pointer", Hint: "commit the file itself"}
	tr.link("belay/gone.yaml", false)
	tr.link("belay/dir", true)
	c := loadFiles(t, nil, "c1", tr)
	if names(c.Applications) != "a bom crlf crlf2" {
		t.Errorf("applications %s", names(c.Applications))
	}
	for _, want := range []string{
		"belay/big.yaml: is larger than 1024 KiB", "belay/latin.yaml: is not UTF-8 text", "belay/lfs.yaml: cannot be read: it is a Git LFS pointer (commit the file itself)",
		"belay/gone.yaml: cannot be read: it leads to nothing", "belay/dir: is a symbolic link to a directory, which is not followed",
	} {
		wantProblem(t, c, want)
	}
	if len(c.Problems) != len(c.TeardownBlockers()) || len(c.ApplicationErrors) > 0 || len(c.TeardownBlockers()) != 5 {
		t.Errorf("blockers %v, problems:\n%s", c.TeardownBlockers(), problems(c))
	}
	// What failed is tried again although nothing changed.
	delete(tr.errs, "belay/lfs.yaml")
	tr.files["belay/gone.yaml"] = app("gone", "")
	c = loadFiles(t, c, "c2", tr)
	if names(c.Applications) != "a bom crlf crlf2 gone" || strings.Contains(problems(c), "LFS") {
		t.Errorf("applications %s, problems:\n%s", names(c.Applications), problems(c))
	}
}

func TestLoadFails(t *testing.T) {
	tr := newTree(below(map[string]string{"a.yaml": app("a", "")}))
	tr.errs["belay/a.yaml"] = &belay.Error{Code: belay.CodeUnavailable, Message: "git is gone"}
	if _, err := catalog.Load(t.Context(), tr, options("c1"), nil); belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), "belay/a.yaml") {
		t.Errorf("error %v", err)
	}
	_, err := catalog.Load(t.Context(), newTree(map[string]string{"x": ""}), options("c1"), nil)
	if belay.CodeOf(err) != belay.CodeNotFound || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := catalog.Load(ctx, newTree(below(nil)), options("c1"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestAliasBombs(t *testing.T) {
	bomb := "a0: &a0 {x: 1}\n"
	for i := range 30 {
		bomb += fmt.Sprintf("a%d: &a%d {l: *a%d, r: *a%d}\n", i+1, i+1, i, i)
	}
	merge := "m0: &m0 {x: 1}\n"
	for i := range 30 {
		merge += fmt.Sprintf("m%d: &m%d {<<: [*m%d, *m%d]}\n", i+1, i+1, i, i)
	}
	values := func(s string) string {
		return app("a", "source: {path: a, helm: {values: {\n"+strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", ",\n")+"\n}}}")
	}
	for name, text := range map[string]string{
		"aliases": values(bomb), "merges": values(merge),
		"cycle": values("a: &a {b: *a}\n"), "merge cycle": values("a: &a {<<: *a, b: 1}\n"), "key cycle": "&a : *a\n",
		"deep": values("a: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "\n"), "spec cycle": "kind: Application\napiVersion: belay.dev/v1alpha1\nspec: &s\n  source: *s\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := load(t, nil, "c1", map[string]string{"a.yaml": text})
			if len(c.Broken()) != 1 {
				t.Error("nothing is wrong")
			}
		})
	}
	many := load(t, nil, "c1", map[string]string{"a.yaml": strings.Repeat(app("a", "source: {path: a, helm: {values: {a: &a [1, 2, 3, 4], b: &b [*a, *a, *a, *a, *a], c: &c [*b, *b, *b, *b], d: [*c, *c, *c, *c]}}}")+"---\n", 1000)})
	if len(many.Broken()) != 1 || len(many.Problems) > 1300 {
		t.Errorf("%d problems", len(many.Problems))
	}
	c := load(t, nil, "c1", map[string]string{"a.yaml": strings.Repeat("a: [\n---\n", 10_000)})
	if len(c.Problems) != 201 {
		t.Errorf("%d problems", len(c.Problems))
	}
	wantProblem(t, c, "belay/a.yaml: has 9800 more problems")
	// Modest use is fine.
	c = load(t, nil, "c1", map[string]string{"a.yaml": values("a: &a {b: 1}\nc: *a\nd: {<<: *a, e: 2}\n")})
	wantClean(t, c)
	want := map[string]any{"a": map[string]any{"b": int64(1)}, "c": map[string]any{"b": int64(1)}, "d": map[string]any{"b": int64(1), "e": int64(2)}}
	if got := c.Applications["a"].Spec.Source.Helm.Values; !reflect.DeepEqual(got, want) {
		t.Errorf("values %v", got)
	}
}

func TestDiff(t *testing.T) {
	files := map[string]string{"a.yaml": app("a", ""), "b.yaml": app("b", "source: {repo: r}"), "c.yaml": app("c", ""), "r.yaml": def("Repository", "r", "url: /srv/a"),
		"p.yaml": def("Project", "p", ""), "k.yaml": def("Cluster", "local", "")}
	c1 := load(t, nil, "c1", files)
	wantClean(t, c1)
	if ch := c1.Diff(nil); !slices.Equal(ch.Added, []string{"a", "b", "c"}) || !slices.Equal(ch.Projects, []string{"default", "p"}) {
		t.Errorf("changes %+v", ch)
	}
	next := func(edits map[string]string) catalog.Changes {
		f := maps.Clone(files)
		for p, s := range edits {
			if f[p] = s; s == "" {
				delete(f, p)
			}
		}
		c2 := load(t, c1, "c2", f)
		ch := c2.Diff(c1)
		if c2.Equal(c1) != ch.Empty() || !c2.Equal(load(t, nil, "c9", f)) {
			t.Errorf("Equal disagrees with %+v", ch)
		}
		return ch
	}
	if ch := next(nil); !ch.Empty() {
		t.Errorf("nothing changed, but %+v", ch)
	}
	if ch := next(map[string]string{"a.yaml": "", "moved.yaml": "# a comment\n" + app("a", "")}); !ch.Empty() {
		t.Errorf("only moved, but %+v", ch)
	}
	if ch := next(map[string]string{"a.yaml": "", "b.yaml": app("b", ""), "d.yaml": app("d", "")}); !reflect.DeepEqual(ch, catalog.Changes{Added: []string{"d"}, Changed: []string{"b"}, Removed: []string{"a"}}) {
		t.Errorf("changes %+v", ch)
	}
	if ch := next(map[string]string{"r.yaml": def("Repository", "r", "url: /srv/b")}); !reflect.DeepEqual(ch, catalog.Changes{Changed: []string{"b"}, Repositories: []string{"r"}}) {
		t.Errorf("changes %+v", ch)
	}
	if ch := next(map[string]string{"p.yaml": "", "k.yaml": def("Cluster", "local", "context: x")}); !reflect.DeepEqual(ch, catalog.Changes{Projects: []string{"p"}, Clusters: []string{"local"}}) {
		t.Errorf("changes %+v", ch)
	}
	if ch := next(map[string]string{"p.yaml": def("Project", "default", "")}); !slices.Equal(ch.Changed, []string{"a", "b", "c"}) {
		t.Errorf("changes %+v", ch)
	}
}

func TestValidateReference(t *testing.T) {
	for _, r := range []belay.Reference{{File: "/x"}, {Env: "X"}, {Secret: &belay.SecretReference{Namespace: "a", Name: "b", Key: "c"}}} {
		if err := catalog.ValidateReference(r); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
	for _, r := range []belay.Reference{{}, {File: "hunter2"}, {Env: "hunter2!"}, {File: "/hunter2", Env: "X"}, {Secret: &belay.SecretReference{Namespace: "a", Name: "b"}},
		{Secret: &belay.SecretReference{Namespace: "Hunter2", Name: "hunter2", Key: "/hunter2"}}} {
		if err := catalog.ValidateReference(r); err == nil || strings.Contains(strings.ToLower(err.Error()), "hunter2") {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func TestSpellingsOfURLs(t *testing.T) {
	c := load(t, nil, "c1", map[string]string{"r.yaml": def("Repository", "a", "url: 'https://git.example.com/a'") + "---\n" + def("Repository", "b", "url: 'git@git.example.com:team/b.git'") +
		"---\n" + def("Repository", "c", "url: /srv/git/c.git")})
	wantClean(t, c)
	for spelling, want := range map[string]string{
		"https://GIT.example.com:443/a.git/": "a", "https://git.example.com/a": "a", "http://git.example.com/a": "", "https://git.example.com:8443/a": "",
		"ssh://git@git.example.com/team/b": "b", "ssh://git@git.example.com:22/team/b.git": "b", "git@git.example.com:/team/b": "b", "other@git.example.com:team/b": "",
		"file:///srv/git/c.git": "c", "/srv/git/./c.git/": "c", "/srv/git/c": "",
	} {
		if r, ok := c.Repository(spelling); !ok || r.Name != want {
			t.Errorf("%s is %q, %v, want %q", spelling, r.Name, ok, want)
		}
	}
}
