package catalog_test

import (
	"fmt"
	"maps"
	"testing"

	"github.com/belaydev/belay/internal/catalog"
)

const fleetSize = 10_000

// fleet is 10,000 applications, each in a file, a hundred to a directory.
func fleet() map[string]string {
	files := map[string]string{
		"belay/clusters.yaml": def("Cluster", "production", "") + "---\n" + def("Cluster", "staging", ""),
		"belay/projects.yaml": def("Project", "web", "sources: [{repo: '**', paths: ['apps/**']}]"),
	}
	for i := range fleetSize {
		name := fmt.Sprintf("app-%05d", i)
		files[fmt.Sprintf("belay/team-%02d/%s.yaml", i%100, name)] = app(name, fmt.Sprintf("project: web, source: {path: apps/%s}, destination: {cluster: production, namespace: %s}", name, name))
	}
	return files
}

func edited(files map[string]string, i int) map[string]string {
	out := maps.Clone(files)
	out["belay/team-07/app-00007.yaml"] = app("app-00007", fmt.Sprintf("project: web, source: {path: apps/moved-%d}, destination: {cluster: production}", i))
	return out
}

func TestCostFollowsTheChange(t *testing.T) {
	files := fleet()
	c1 := loadFiles(t, nil, "c1", newTree(files))
	wantClean(t, c1)
	plain, withDirs := newTree(edited(files, 1)), newMerkle(edited(files, 1))
	m1 := loadFiles(t, nil, "c1", newMerkle(files))
	for name, tt := range map[string]struct {
		tree     *tree
		next     *catalog.Catalog
		digested int
	}{
		"file digests":      {plain, loadFiles(t, c1, "c2", plain), fleetSize + 2},
		"directory digests": {withDirs.tree, loadFiles(t, m1, "c2", withDirs), 1 + 100 + 1 + 100 + 2},
	} {
		if tt.tree.reads != 1 {
			t.Errorf("%s: %d files read for one that changed", name, tt.tree.reads)
		}
		if tt.tree.digests != tt.digested {
			t.Errorf("%s: %d digests asked for, want %d", name, tt.tree.digests, tt.digested)
		}
		if ch := tt.next.Diff(c1); len(ch.Changed) != 1 || ch.Changed[0] != "app-00007" || len(ch.Added)+len(ch.Removed)+len(ch.Projects) > 0 {
			t.Errorf("%s: changes %+v", name, ch)
		}
	}
}

func BenchmarkLoad(b *testing.B) {
	files := fleet()
	b.Run("cold", func(b *testing.B) {
		tr := newTree(files)
		for b.Loop() {
			loadFiles(b, nil, "c1", tr)
		}
	})
	b.Run("one of 10000 changed/file digests", func(b *testing.B) {
		c1 := loadFiles(b, nil, "c1", newTree(files))
		tr := newTree(edited(files, 1))
		for b.Loop() {
			loadFiles(b, c1, "c2", tr).Diff(c1)
		}
	})
	b.Run("one of 10000 changed/directory digests", func(b *testing.B) {
		c1 := loadFiles(b, nil, "c1", newMerkle(files))
		tr := newMerkle(edited(files, 1))
		for b.Loop() {
			loadFiles(b, c1, "c2", tr).Diff(c1)
		}
	})
}

// A commit that changes no definition asks for one digest, however many there are,
// and the catalog says that it is the same one.
func TestACommitWithoutDefinitionsCostsNothing(t *testing.T) {
	files := map[string]string{"belay/README.md": ""}
	for i := range 20 {
		name := fmt.Sprintf("app-%05d", i)
		files[fmt.Sprintf("belay/team-%02d/%s.yaml", i, name)] = app(name, "")
	}
	c1 := loadFiles(t, nil, "c1", newMerkle(files))
	files["apps/web/other.yaml"] = "kind: ConfigMap"
	tr := newMerkle(files)
	c2 := loadFiles(t, c1, "c2", tr)
	if tr.reads != 0 || tr.digests != 1 {
		t.Errorf("%d reads, %d digests, want 0 and 1", tr.reads, tr.digests)
	}
	if !c2.SameAs(c1) || !c2.Equal(c1) {
		t.Error("it is not known to be the same")
	}
	files["belay/team-07/app-00007.yaml"] = app("app-00007", "source: {path: moved}")
	tr = newMerkle(files)
	if c3 := loadFiles(t, c2, "c3", tr); c3.SameAs(c2) || tr.reads != 1 {
		t.Errorf("an edit is not seen after it: %d reads", tr.reads)
	}
	// What is wrong has a memory, so such a catalog is made anew each time.
	files["belay/wrong.yaml"] = "kind: Application"
	c4 := loadFiles(t, c2, "c4", newMerkle(files))
	if c5 := loadFiles(t, c4, "c5", newMerkle(files)); c5.SameAs(c4) || !c5.Equal(c4) {
		t.Error("a catalog with problems is carried on")
	}
}

func BenchmarkLoadWithoutChange(b *testing.B) {
	files := fleet()
	c1 := loadFiles(b, nil, "c1", newMerkle(files))
	files["apps/web/other.yaml"] = "kind: ConfigMap"
	tr := newMerkle(files)
	for b.Loop() {
		loadFiles(b, c1, "c2", tr)
	}
}
