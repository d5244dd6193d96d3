package catalog_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay/internal/catalog"
)

var update = flag.Bool("update", false, "write what is instead of comparing it")

// TestSets holds what sets make against the file want.txt beside each tree.
func TestSets(t *testing.T) {
	dirs, err := filepath.Glob("testdata/sets/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal(dirs, err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			files := readAll(t, dir)
			want := files["want.txt"]
			delete(files, "want.txt")
			c := loadFiles(t, nil, "c1", newTree(files))
			if m := loadFiles(t, nil, "c1", newMerkle(files)); !c.Equal(m) {
				t.Errorf("directory digests make a difference:\n%s", problems(m))
			}
			got := described(c)
			if *update {
				if err := os.WriteFile(filepath.Join(dir, "want.txt"), []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			if got != want && !*update {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			if again := loadFiles(t, c, "c1", newTree(files)); !again.Equal(c) || described(again) != got {
				t.Errorf("the same files mean something else:\n%s", described(again))
			}
		})
	}
}

// described is what there is to say of a catalog, one fact a line.
func described(c *catalog.Catalog) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.Applications)) {
		a := c.Applications[name]
		s := a.Spec
		fmt.Fprintf(&b, "%s: set %q, path %q, ref %q, cluster %q, namespace %q, prune %t, retry %d, labels %v", name, a.Set, s.Source.Path, s.Source.Ref,
			s.Destination.Cluster, s.Destination.Namespace, s.Sync.Prune, s.Sync.Retry.Limit, a.Labels)
		if s.Source.Helm != nil {
			fmt.Fprintf(&b, ", values %#v", s.Source.Helm.Values)
		}
		if err := c.ApplicationErrors[name]; err != nil {
			b.WriteString(", must not be synced")
		}
		fmt.Fprintf(&b, ", at %s:%d\n", a.Origin.File, a.Origin.Line)
	}
	for i := range c.Problems {
		fmt.Fprintf(&b, "problem: %s\n", &c.Problems[i])
	}
	return b.String()
}

// TestGuideNamesEveryFunction keeps the guide complete.
func TestGuideNamesEveryFunction(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guides/applicationsets.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range catalog.Functions() {
		if !strings.Contains(string(guide), "`"+name+"`") && !strings.Contains(string(guide), "`"+name+" ") {
			t.Errorf("%s is not in the guide", name)
		}
	}
}
