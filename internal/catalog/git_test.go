package catalog_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/source"
)

// TestRealCommits loads commits of a real repository through real snapshots.
func TestRealCommits(t *testing.T) {
	repo := gittest.NewRepo(t)
	hub, err := source.New(source.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	hub.SetFollowed(map[string][]string{repo.URL(): {"main"}})
	var prev *catalog.Catalog
	commit := func(files map[string]gittest.File) *catalog.Catalog {
		t.Helper()
		id := repo.CommitFiles("main", "edit", files)
		if err := hub.CheckNow(t.Context(), repo.URL()); err != nil {
			t.Fatal(err)
		}
		snap, err := hub.Snapshot(t.Context(), repo.URL(), id)
		if err != nil {
			t.Fatal(err)
		}
		opts := catalog.Options{Root: "belay", Repo: repo.URL(), Ref: "main", Revision: id}
		c, err := catalog.Load(t.Context(), snap, opts, prev)
		if err != nil {
			t.Fatal(err)
		}
		fresh, err := catalog.Load(t.Context(), snap, opts, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Broken()) == 0 && !c.Equal(fresh) {
			t.Errorf("history matters:\n%s\n---\n%s", problems(c), problems(fresh))
		}
		prev = c
		return c
	}

	c := commit(map[string]gittest.File{
		"belay/a.yaml": gittest.Text(app("a", "")), "belay/team/b.yaml": gittest.Text(app("b", "")), "belay/team/link.yaml": gittest.Link("../../shared/c.yaml"),
		"shared/c.yaml": gittest.Text(app("c", "")),
	})
	wantClean(t, c)
	if names(c.Applications) != "a b c" {
		t.Fatalf("applications %s", names(c.Applications))
	}
	// The end of the link changes, the directory it stands in does not.
	c = commit(map[string]gittest.File{"shared/c.yaml": gittest.Text(app("c", "source: {path: apps/new}"))})
	if c.Applications["c"].Spec.Source.Path != "apps/new" || c.Applications["a"].Origin.Revision != c.Applications["c"].Origin.Revision {
		t.Errorf("c is %+v", c.Applications["c"])
	}
	c = commit(map[string]gittest.File{
		"belay/a.yaml": gittest.Text(garbage), "belay/team/b.yaml": gittest.Text("version https://git-lfs.github.com/spec/v1\noid sha256:" + strings.Repeat("0", 64) + "\nsize 1\n"),
		"belay/out.yaml": gittest.Link("../../etc/passwd"), "belay/loop.yaml": gittest.Link("loop.yaml"), "belay/nowhere.yaml": gittest.Link("nothing"), "belay/shared": gittest.Link("../shared"),
		"belay/dir.yaml": gittest.Link("../shared"), "belay/sub": gittest.Submodule(strings.Repeat("1", 40)), "belay/sub.yaml": gittest.Submodule(strings.Repeat("1", 40)), "belay/README": gittest.Link("nothing"),
	})
	if names(c.Applications) != "a b c" || len(c.ApplicationErrors) > 0 {
		t.Errorf("applications %s, errors %v", names(c.Applications), c.ApplicationErrors)
	}
	if len(c.Problems) != 9 {
		t.Errorf("%d problems", len(c.Problems))
	}
	for _, want := range []string{
		"belay/a.yaml:3: is not valid YAML", "belay/team/b.yaml: cannot be read: is a Git LFS pointer", "belay/out.yaml: cannot be read: leads out of the repository",
		"belay/loop.yaml: cannot be read: is a symbolic link that comes back to itself", "belay/nowhere.yaml: cannot be read: it leads to nothing",
		"belay/shared: is a symbolic link to a directory", "belay/dir.yaml: is a symbolic link to a directory", "belay/sub: is a submodule", "belay/sub.yaml: is a submodule",
	} {
		wantProblem(t, c, want)
	}
	if again := commit(map[string]gittest.File{"unrelated": gittest.Text("")}); !again.Equal(c) {
		t.Errorf("an unrelated commit made a difference:\n%s", problems(again))
	}
	gone := gittest.Delete()
	c = commit(map[string]gittest.File{
		"belay/a.yaml": gittest.Text(app("a", "")), "belay/team": gone, "belay/out.yaml": gone, "belay/loop.yaml": gone, "belay/nowhere.yaml": gone, "belay/shared": gone,
		"belay/dir.yaml": gone, "belay/sub": gone, "belay/sub.yaml": gone,
	})
	wantClean(t, c)
	if names(c.Applications) != "a" {
		t.Errorf("applications %s", names(c.Applications))
	}
}

// TestSetsOfRealCommits has links among what sets look into.
func TestSetsOfRealCommits(t *testing.T) {
	repo := gittest.NewRepo(t)
	hub, err := source.New(source.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(hub.Close)
	hub.SetFollowed(map[string][]string{repo.URL(): {"main"}})
	var prev *catalog.Catalog
	commit := func(files map[string]gittest.File, want string) {
		t.Helper()
		id := repo.CommitFiles("main", "edit", files)
		if err := hub.CheckNow(t.Context(), repo.URL()); err != nil {
			t.Fatal(err)
		}
		snap, err := hub.Snapshot(t.Context(), repo.URL(), id)
		if err != nil {
			t.Fatal(err)
		}
		opts := catalog.Options{Root: "belay", Repo: repo.URL(), Ref: "main", Revision: id}
		c, err := catalog.Load(t.Context(), snap, opts, prev)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for name := range strings.FieldsSeq(names(c.Applications)) {
			got = append(got, name+"="+c.Applications[name].Spec.Source.Path)
		}
		if strings.Join(got, " ") != want || len(c.Problems) > 0 {
			t.Errorf("applications %v, want %s, problems:\n%s", got, want, problems(c))
		}
		prev = c
	}
	commit(map[string]gittest.File{
		"belay/set.yaml": gittest.Text(set("s", "{"+envs+"}, {"+appDirs+"}", "{{ .name | default .path.basename }}", `source: {path: '{{ .dir | default .path.path }}'}`)),
		"envs/a.yaml":    gittest.Text("name: a\ndir: x\n"), "envs/link.yaml": gittest.Link("../shared/b.yaml"), "envs/out.yaml": gittest.Link("../../etc/passwd"),
		"shared/b.yaml": gittest.Text("name: b\ndir: x\n"), "shared/app/x": gittest.Text(""), "apps/c/x": gittest.Text(""), "apps/d": gittest.Link("../shared/app"),
		"apps/e": gittest.Link("nowhere"), "apps/f": gittest.Submodule(strings.Repeat("1", 40)), "apps/README": gittest.Text(""),
	}, "a=x b=x c=apps/c d=apps/d")
	// The ends of links change; nothing in the directories that globs look into does.
	commit(map[string]gittest.File{"shared/b.yaml": gittest.Text("name: b\ndir: z\n")}, "a=x b=z c=apps/c d=apps/d")
	commit(map[string]gittest.File{"shared/app": gittest.Delete()}, "a=x b=z c=apps/c")
	commit(map[string]gittest.File{"apps/g/x": gittest.Text("")}, "a=x b=z c=apps/c g=apps/g")
}

func TestWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("belay/team/a.yaml", app("a", ""))
	files, err := source.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	c, err := catalog.Load(t.Context(), files, catalog.Options{Root: "belay"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, c)
	write("belay/team/a.yaml", app("a", "source: {path: edited}"))
	c, err = catalog.Load(t.Context(), files, catalog.Options{Root: "belay"}, c)
	if err != nil || c.Applications["a"].Spec.Source.Path != "edited" {
		t.Errorf("%v, %+v", err, c.Applications["a"])
	}
	if _, err := catalog.Load(t.Context(), files, catalog.Options{Root: "belay/team/a.yaml"}, nil); err == nil || !strings.Contains(err.Error(), "the directory of the definitions cannot be listed") {
		t.Errorf("error %v", err)
	}
}
