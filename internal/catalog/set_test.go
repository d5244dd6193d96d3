package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// set is an ApplicationSet: generators in flow style, more is below spec.
func set(name, generators, app, spec string, more ...string) string {
	return fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: ApplicationSet\nmetadata: {name: %s}\nspec:\n  generators: [%s]\n  template:\n    metadata: {name: %q}\n    spec: {%s}\n%s",
		name, generators, app, spec, strings.Join(more, ""))
}

const (
	envs    = `files: {paths: ["envs/*.yaml"]}`
	perEnv  = `source: {path: "apps/{{ .dir }}"}`
	perDir  = `source: {path: "{{ .path.path }}"}, destination: {namespace: "{{ .path.basename }}"}`
	appDirs = `directories: {paths: ["apps/*"]}`
)

func withDirs(files map[string]string, dirs ...string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, files)
	for _, d := range dirs {
		out["apps/"+d+"/x.yaml"] = ""
	}
	return out
}

// at loads a whole tree.
func at(t testing.TB, prev *catalog.Catalog, revision string, files map[string]string) *catalog.Catalog {
	t.Helper()
	return loadFiles(t, prev, revision, newMerkle(files))
}

func TestParameterFileThatBreaksKeepsItsMeaning(t *testing.T) {
	files := map[string]string{"belay/set.yaml": set("envs", envs, "{{ .name }}", perEnv), "envs/a.yaml": "name: a\ndir: one\n", "envs/b.yaml": "name: b\ndir: one\n"}
	c1 := at(t, nil, "c1", files)
	wantClean(t, c1)
	files["envs/a.yaml"] = "name: [\n"
	files["envs/b.yaml"] = "name: b\ndir: two\n"
	files["envs/c.yaml"] = "name: c\ndir: three\n"
	c2 := at(t, c1, "c2", files)
	if names(c2.Applications) != "a b c" || len(c2.ApplicationErrors) > 0 {
		t.Fatalf("applications %s, errors %v", names(c2.Applications), c2.ApplicationErrors)
	}
	if c2.Applications["a"].Spec.Source.Path != "apps/one" || c2.Applications["b"].Spec.Source.Path != "apps/two" {
		t.Errorf("a %+v, b %+v", c2.Applications["a"].Spec.Source, c2.Applications["b"].Spec.Source)
	}
	wantProblem(t, c2, `envs/a.yaml:1: is not valid YAML: did not find expected node content, so that ApplicationSet "envs" keeps what it made of it before`)
	if !slices.Equal(c2.FailingSets(), []string{"envs"}) || len(c2.TeardownBlockers()) > 0 {
		t.Errorf("failing %v, blockers %v", c2.FailingSets(), c2.TeardownBlockers())
	}
	// While it is broken nothing goes: who was removed may be what the file speaks of.
	delete(files, "envs/b.yaml")
	c3 := at(t, c2, "c3", files)
	if names(c3.Applications) != "a b c" {
		t.Errorf("applications %s", names(c3.Applications))
	}
	files["envs/a.yaml"] = "name: a\ndir: mended\n"
	c4 := at(t, c3, "c4", files)
	wantClean(t, c4)
	if names(c4.Applications) != "a c" || c4.Applications["a"].Spec.Source.Path != "apps/mended" {
		t.Errorf("applications %s, a %+v", names(c4.Applications), c4.Applications["a"])
	}
	// From nothing, nobody knows what the broken file declares.
	files["envs/a.yaml"] = "name: [\n"
	fresh := at(t, nil, "c5", files)
	if names(fresh.Applications) != "c" || !slices.Equal(fresh.TeardownBlockers(), []string{"belay/set.yaml"}) {
		t.Errorf("applications %s, blockers %v", names(fresh.Applications), fresh.TeardownBlockers())
	}
}

func TestTemplateThatBreaksKeepsItsMeaning(t *testing.T) {
	files := withDirs(map[string]string{"belay/set.yaml": set("s", appDirs, "{{ .path.basename }}", perDir)}, "a", "b", "c")
	c1 := at(t, nil, "c1", files)
	wantClean(t, c1)
	for name, text := range map[string]string{
		"syntax":      garbage,
		"field":       set("s", appDirs, "{{ .path.basename }}", "sauce: {}"),
		"expression":  set("s", appDirs, "{{ .path.basename ", perDir),
		"parameter":   set("s", appDirs, "{{ .path.basename }}", `source: {path: "{{ .nothing }}"}`),
		"name":        set("s", appDirs, "{{ .nothing }}", perDir),
		"format":      set("s", appDirs, "{{ .path.basename }}", `source: {path: "../{{ .path.path }}"}`),
		"bad name":    set("s", appDirs, "{{ .path.basename }}_", perDir),
		"one name":    set("s", appDirs, "same", perDir),
		"glob":        set("s", `directories: {paths: ["["]}`, "{{ .path.basename }}", perDir),
		"repository":  set("s", `directories: {repo: nowhere, paths: ["*"]}`, "{{ .path.basename }}", perDir),
		"matrix":      set("s", `matrix: {generators: [`+appDirs+`]}`, "{{ .path.basename }}", perDir),
		"clash":       set("s", `matrix: {generators: [{`+appDirs+`}, {directories: {paths: [belay, apps]}}]}`, "{{ .path.basename }}", perDir),
		"merge":       set("s", `merge: {keys: [nothing], generators: [{`+appDirs+`}, {list: {elements: []}}]}`, "{{ .path.basename }}", perDir),
		"when":        set("s", appDirs, "{{ .path.basename }}", perDir, "  when: '{{ .path.basename }}'\n"),
		"requirement": set("s", `clusters: {matchExpressions: [{key: a, operator: In}]}`, "{{ .path.basename }}", perDir),
	} {
		t.Run(name, func(t *testing.T) {
			broken := withDirs(files)
			broken["belay/set.yaml"] = text
			c2 := at(t, c1, "c2", broken)
			if ch := c2.Diff(c1); len(ch.Removed)+len(ch.Changed) > 0 || len(c2.Problems) == 0 {
				t.Errorf("changes %+v, problems:\n%s", ch, problems(c2))
			}
			for i := range c2.Problems {
				if p := &c2.Problems[i]; p.Origin.Line == 0 || p.Origin.File != "belay/set.yaml" {
					t.Errorf("without a place: %s", p)
				}
			}
			if c3 := at(t, c2, "c3", broken); !c3.Equal(c2) {
				t.Errorf("another commit makes a difference:\n%s\n---\n%s", problems(c3), problems(c2))
			}
			if c4 := at(t, c2, "c4", files); !c4.Equal(c1) {
				t.Errorf("after mending:\n%s", problems(c4))
			}
		})
	}
}

func TestManyRemovalsWaitForAConfirmation(t *testing.T) {
	text := set("s", appDirs, "{{ .path.basename }}", perDir)
	files := withDirs(map[string]string{"belay/set.yaml": text}, "a", "b", "c", "d")
	c1 := at(t, nil, "c1", files)
	// Half of four may go.
	if c := at(t, c1, "c2", withDirs(map[string]string{"belay/set.yaml": text}, "a", "b")); names(c.Applications) != "a b" {
		t.Fatalf("applications %s:\n%s", names(c.Applications), problems(c))
	}
	left := withDirs(map[string]string{"belay/set.yaml": text}, "a")
	c2 := at(t, c1, "c2", left)
	if names(c2.Applications) != "a b c d" || names(c2.Holds) != "b c d" || c2.Applications["b"].Origin.Revision != "c1" {
		t.Fatalf("applications %s, held %s", names(c2.Applications), names(c2.Holds))
	}
	token := belay.TokenOf([]string{"b", "c", "d"})
	wantProblem(t, c2, `belay/set.yaml:1: ApplicationSet "s" would no longer make 3 applications that it made before (b, c, d); until that is confirmed nothing is deleted (if that is meant, set spec.confirm: "`+token+`"`)
	if s := c2.Sets()["s"]; !slices.Equal(s.Held, []string{"b", "c", "d"}) || s.Hold == nil || len(s.Applications) != 4 || s.Failing {
		t.Errorf("set %+v", s)
	}
	c3 := at(t, c2, "c3", left)
	if !c3.Equal(c2) {
		t.Errorf("another commit makes a difference:\n%s", problems(c3))
	}
	// A token of others confirms nothing.
	left["belay/set.yaml"] = text + "  confirm: " + belay.TokenOf([]string{"b", "c"}) + "\n"
	if c := at(t, c3, "c4", left); names(c.Applications) != "a b c d" {
		t.Errorf("applications %s", names(c.Applications))
	}
	left["belay/set.yaml"] = text + "  confirm: " + token + "\n"
	c4 := at(t, c3, "c4", left)
	wantClean(t, c4)
	if names(c4.Applications) != "a" {
		t.Errorf("applications %s", names(c4.Applications))
	}
	def := c3.Applications["b"]
	if !c4.RemovalConfirmed(&def) || c4.RemovalConfirmed(&belay.Application{Name: "b"}) {
		t.Error("what is confirmed is not known")
	}
	// All of one; a new name for each is a removal, too; what comes back is not held.
	if c := at(t, c4, "c5", map[string]string{"belay/set.yaml": text}); names(c.Holds) != "a" {
		t.Errorf("held %s", names(c.Holds))
	}
	files["belay/set.yaml"] = set("s", appDirs, "new-{{ .path.basename }}", perDir)
	if c := at(t, c1, "c2", files); names(c.Holds) != "a b c d" || len(c.Applications) != 8 {
		t.Errorf("held %s of %s", names(c.Holds), names(c.Applications))
	}
	back := withDirs(map[string]string{"belay/set.yaml": text}, "a", "b", "c", "d")
	wantClean(t, at(t, c3, "c5", back))
	// Whoever leaves the objects in the cluster loses nothing.
	left["belay/set.yaml"] = text + "  deletion: orphan\n"
	if c := at(t, c3, "c6", left); names(c.Applications) != "a" || c.Applications["a"].Annotations[belay.AnnotationDeletion] != "orphan" {
		t.Errorf("applications %+v", c.Applications)
	}
	// With the set itself, all of its applications are gone: the fleet's limit is for that.
	if c := at(t, c3, "c7", map[string]string{"belay/README.md": ""}); len(c.Applications) > 0 {
		t.Errorf("applications %s", names(c.Applications))
	}
	// But not where it can only not be read.
	if c := at(t, c3, "c8", map[string]string{"belay/new.yaml": garbage}); names(c.Applications) != "a b c d" {
		t.Errorf("applications %s", names(c.Applications))
	}
}

func TestNamesThatAreTaken(t *testing.T) {
	files := withDirs(map[string]string{"belay/set.yaml": set("s", appDirs, "{{ .path.basename }}", perDir), "belay/t.yaml": set("t", appDirs, "{{ .path.basename }}", perDir)}, "a", "b")
	files["belay/app.yaml"] = app("a", "source: {path: by/hand}")
	c := at(t, nil, "c1", files)
	if a, b := c.Applications["a"], c.Applications["b"]; a.Set != "" || a.Spec.Source.Path != "by/hand" || b.Set != "s" || b.Annotations[belay.AnnotationSet] != "s" {
		t.Errorf("a %+v, b %+v", a, b)
	}
	wantProblem(t, c, `ApplicationSet "s" makes an application "a" (for directory apps/a), but one of that name is written at belay/app.yaml:1, which stays in force`)
	wantProblem(t, c, `ApplicationSet "t" makes an application "b" (for directory apps/b), but ApplicationSet "s" makes it, too, which stays in force`)
	// From hand to set and back nothing is removed, and the set that had it keeps it.
	delete(files, "belay/app.yaml")
	delete(files, "belay/set.yaml")
	c2 := at(t, c, "c2", files)
	wantClean(t, c2)
	files["belay/set.yaml"] = set("s", appDirs, "{{ .path.basename }}", perDir)
	if c3 := at(t, c2, "c3", files); c3.Applications["a"].Set != "t" || len(c3.Diff(c2).Removed)+len(c3.Diff(c2).Changed) > 0 {
		t.Errorf("changes %+v", c3.Diff(c2))
	}
	files["belay/app.yaml"] = app("a", "source: {path: by/hand}")
	if c4 := at(t, c2, "c4", files); c4.Applications["a"].Set != "" || len(c4.Holds) > 0 {
		t.Errorf("a is %+v, held %v", c4.Applications["a"], c4.Holds)
	}
}

// A set is no way around a Project.
func TestSetsKeepToProjects(t *testing.T) {
	files := withDirs(map[string]string{
		"belay/p.yaml": def("Project", "web", "sources: [{repo: '**', paths: ['apps/a']}], destinations: [{namespaces: [web]}]"),
		"belay/s.yaml": set("s", appDirs, "{{ .path.basename }}", `project: "{{ if true }}web{{ end }}", source: {path: "{{ .path.path }}"}`),
		"belay/t.yaml": set("t", appDirs, "t-{{ .path.basename }}", `project: "no-{{ .path.basename }}", source: {path: "{{ .path.path }}"}`),
		"belay/u.yaml": set("u", `directories: {repo: "https://git.example.com/other", paths: ["x/*"]}`, "u-{{ .path.basename }}", `project: web, source: {path: apps/a}`),
	}, "a", "b")
	o := options("c1")
	o.OpenTree = func(context.Context, string, string) (catalog.Tree, bool, error) {
		return catalog.Tree{Files: newMerkle(map[string]string{"x/y/z": ""}), Commit: "o1"}, true, nil
	}
	c, err := catalog.Load(t.Context(), newMerkle(files), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if names(c.ApplicationErrors) != "b t-a t-b u-y" || belay.CodeOf(c.ApplicationErrors["b"]) != belay.CodeDenied || belay.CodeOf(c.ApplicationErrors["u-y"]) != belay.CodeDenied {
		t.Errorf("errors %v", c.ApplicationErrors)
	}
	wantProblem(t, c, `project "web" does not allow the source https://git.example.com/fleet, path "apps/b" (for application "b" of ApplicationSet "s")`)
	wantProblem(t, c, `path "x", which a generator reads (for application "u-y"`)
	if c.Applications["a"].Spec.Project != "web" {
		t.Errorf("a is %+v", c.Applications["a"])
	}
}

func TestTreesOfOtherRepositories(t *testing.T) {
	trees := map[string]catalog.Tree{}
	var failure error
	asked := 0
	do := func(prev *catalog.Catalog, revision string, files map[string]string) *catalog.Catalog {
		t.Helper()
		o := options(revision)
		o.OpenTree = func(_ context.Context, url, ref string) (catalog.Tree, bool, error) {
			asked++
			tr, ok := trees[url+" "+ref]
			return tr, ok, failure
		}
		c, err := catalog.Load(t.Context(), newMerkle(files), o, prev)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	files := map[string]string{
		"belay/r.yaml": def("Repository", "apps", "url: https://git.example.com/apps"),
		"belay/s.yaml": set("s", `directories: {repo: apps, ref: v1, paths: ["*"]}`, "{{ .path.basename }}", `source: {repo: apps, path: "{{ .path.path }}"}`),
		"belay/o.yaml": set("o", `directories: {repo: "`+configRepo+`", ref: main, paths: ["belay"]}`, "own", `source: {path: "{{ .path.path }}"}`),
	}
	c1 := do(nil, "c1", files)
	if names(c1.Applications) != "own" || len(c1.Problems) > 0 || !slices.Equal(c1.TeardownBlockers(), []string{"belay/s.yaml"}) || len(c1.SetTrees()) != 1 {
		t.Fatalf("applications %s, blockers %v, trees %v, problems:\n%s", names(c1.Applications), c1.TeardownBlockers(), c1.SetTrees(), problems(c1))
	}
	ref := catalog.TreeRef{URL: "https://git.example.com/apps", Ref: "v1"}
	if s := c1.Sets()["s"]; !slices.Equal(s.Elsewhere, []catalog.TreeRef{ref}) {
		t.Errorf("set %+v", s)
	}
	trees[ref.URL+" "+ref.Ref] = catalog.Tree{Files: newMerkle(map[string]string{"a/x": "", "b/x": ""}), Commit: "a1"}
	c2 := do(c1, "c1", files)
	wantClean(t, c2)
	if names(c2.Applications) != "a b own" || c2.SetTrees()[ref] != "a1" || len(c2.TeardownBlockers()) > 0 {
		t.Fatalf("applications %s, trees %v", names(c2.Applications), c2.SetTrees())
	}
	failure = &belay.Error{Code: belay.CodeUnavailable, Message: "connection refused"}
	c3 := do(c2, "c3", files)
	if names(c3.Applications) != "a b own" || len(c3.Problems) != 1 || c3.Problems[0].Code != belay.CodeUnavailable || len(c3.SetTrees()) != 1 {
		t.Errorf("applications %s, problems:\n%s", names(c3.Applications), problems(c3))
	}
	failure = nil
	trees[ref.URL+" "+ref.Ref] = catalog.Tree{Files: newMerkle(map[string]string{"a/x": "", "b/x": "", "c/x": ""}), Commit: "a2"}
	if c4 := do(c3, "c3", files); names(c4.Applications) != "a b c own" || c4.SetTrees()[ref] != "a2" {
		t.Errorf("applications %s, problems:\n%s", names(c4.Applications), problems(c4))
	}
}

// Something that is expanded to too much keeps what it has, and is alone with that.
func TestSetsThatExplode(t *testing.T) {
	var many strings.Builder
	for i := range 101 {
		fmt.Fprintf(&many, "{n%d: 1}, ", i)
	}
	list := func(as string) string { return `{as: ` + as + `, list: {elements: [` + many.String() + `]}}` }
	files := withDirs(map[string]string{
		"belay/good.yaml": set("good", appDirs, "{{ .path.basename }}", perDir),
		"belay/s.yaml":    set("s", appDirs, "s-{{ .path.basename }}", perDir),
	}, "a", "b")
	c1 := at(t, nil, "c1", files)
	wantClean(t, c1)
	deep := appDirs
	for range 6 {
		deep = `matrix: {generators: [{` + deep + `}, {list: {elements: [{}]}}]}`
	}
	for name, tt := range map[string]struct{ text, want string }{
		"product": {set("s", `matrix: {generators: [`+list("a")+`, `+list("b")+`, `+list("c")+`]}`, "s-x", perDir), "the matrix has 10201 elements or more; the limit is 10000"},
		"depth":   {set("s", deep, "s-x", perDir), "generators are nested more than 4 levels deep"},
		"output": {set("s", appDirs, "s-{{ .path.basename }}", `source: {path: x, helm: {values: {a: "{{ .path.basename | replace \"\" \"`+strings.Repeat("x", 7000)+`\" `+strings.Repeat(`| replace \"\" \"xxxxxxxxx\" `, 3)+`}}"}}}`),
			"replace: gives more than 64 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			broken := withDirs(files, "c")
			broken["belay/s.yaml"] = tt.text
			c2 := at(t, c1, "c2", broken)
			wantProblem(t, c2, tt.want)
			if names(c2.Applications) != "a b c s-a s-b" && names(c2.Applications) != "a b c s-a s-b s-c" {
				t.Errorf("applications %s", names(c2.Applications))
			}
		})
	}
	t.Run("size", func(t *testing.T) {
		broken := withDirs(files)
		for i := range 2000 {
			broken[fmt.Sprintf("apps/d%d/x", i)] = ""
		}
		broken["belay/s.yaml"] = set("s", appDirs, "s-{{ .path.basename }}", `source: {path: x, helm: {values: {a: [`+strings.Repeat("x, ", 2000)+`]}}}`)
		broken["belay/good.yaml"] = set("good", `directories: {paths: [apps/d1]}`, "{{ .path.basename }}", perDir)
		start := time.Now()
		c2 := at(t, c1, "c2", broken)
		wantProblem(t, c2, "belay/s.yaml:6: its applications are larger than 64 MiB together")
		if d := time.Since(start); d > 2*time.Minute || c2.Applications["d1"].Set != "good" {
			t.Errorf("took %s, applications %s", d, names(c2.Applications))
		}
	})
	t.Run("globs", func(t *testing.T) {
		broken := withDirs(files)
		broken["belay/s.yaml"] = set("s", `directories: {paths: ["`+strings.Repeat("**/", 70)+`a"]}`, "s-{{ .path.basename }}", perDir)
		wantProblem(t, at(t, c1, "c2", broken), "belay/s.yaml:5: has more than 100 globs, or one with more than 64 names")
	})
	t.Run("all sets", func(t *testing.T) {
		defer catalog.SetMaxGenerated(5)()
		more := withDirs(files)
		more["belay/z.yaml"] = set("z", appDirs, "z-{{ .path.basename }}", perDir)
		c2 := at(t, c1, "c2", more)
		wantProblem(t, c2, "belay/z.yaml:1: all ApplicationSets together make more than 5 applications")
		if names(c2.Applications) != "a b s-a s-b" {
			t.Errorf("applications %s", names(c2.Applications))
		}
	})
	t.Run("directories", func(t *testing.T) {
		broken := withDirs(files)
		for i := range 10_001 {
			broken[fmt.Sprintf("apps/d%d/x", i)] = ""
		}
		c2 := at(t, c1, "c2", broken)
		wantProblem(t, c2, "belay/s.yaml:5: yields more than 10000 elements")
		if names(c2.Applications) != "a b s-a s-b" {
			t.Errorf("%d applications", len(c2.Applications))
		}
	})
}

// A commit costs what it changed: an unrelated one a look at the digest of the
// tree, one more directory the documents of that.
func TestCostOfSetsFollowsTheChange(t *testing.T) {
	files := map[string]string{"belay/s.yaml": set("s", appDirs, "{{ .path.basename }}", perDir), "belay/t.yaml": set("t", envs, "{{ .name }}", perEnv), "other/x": ""}
	for i := range 1000 {
		files[fmt.Sprintf("apps/a%d/x.yaml", i)] = ""
		files[fmt.Sprintf("envs/e%d.yaml", i)] = fmt.Sprintf("name: e%d\ndir: x\n", i)
	}
	c1 := at(t, nil, "c1", files)
	wantClean(t, c1)
	if len(c1.Applications) != 2000 {
		t.Fatalf("%d applications", len(c1.Applications))
	}
	cost := func(prev *catalog.Catalog, path, text string) (*catalog.Catalog, *merkle) {
		files[path] = text
		m := newMerkle(files)
		return loadFiles(t, prev, "c", m), m
	}
	c2, m := cost(c1, "other/x", "changed")
	if m.reads > 0 || m.lists > 3 || m.digests > 5 {
		t.Errorf("an unrelated commit: %d reads, %d lists, %d digests", m.reads, m.lists, m.digests)
	}
	if !c2.Diff(c1).Empty() {
		t.Errorf("changes %+v", c2.Diff(c1))
	}
	c3, m := cost(c2, "envs/e7.yaml", "name: e7\ndir: z\n")
	if m.reads != 1 || !slices.Equal(c3.Diff(c2).Changed, []string{"e7"}) || len(c3.Diff(c2).Added) > 0 {
		t.Errorf("one file: %d reads, changes %+v", m.reads, c3.Diff(c2))
	}
	c4, m := cost(c3, "apps/new/x.yaml", "")
	if m.reads > 0 || m.lists > 4 || !slices.Equal(c4.Diff(c3).Added, []string{"new"}) || len(c4.Diff(c3).Changed) > 0 {
		t.Errorf("one directory: %d reads, %d lists, changes %+v", m.reads, m.lists, c4.Diff(c3))
	}
}

// What the own tree cannot give now is no reason to take anything for gone.
func TestOwnTreeThatCannotBeRead(t *testing.T) {
	files := map[string]string{"belay/set.yaml": set("envs", envs, "{{ .name }}", perEnv), "envs/a.yaml": "name: a\ndir: one\n"}
	c1 := at(t, nil, "c1", files)
	m := newTree(files)
	files["envs/a.yaml"] += "x: 1\n"
	m.errs["envs/a.yaml"] = &belay.Error{Code: belay.CodeUnavailable, Message: "mirror is damaged"}
	if _, err := catalog.Load(t.Context(), m, options("c2"), c1); err == nil || !strings.Contains(err.Error(), "mirror is damaged") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := catalog.Load(ctx, newTree(files), options("c2"), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
