package catalog_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"weak"

	"github.com/belaydev/belay/internal/catalog"
)

// A catalog holds none of those before it, however it is told of them: each is as
// large as the fleet, and there is one for each commit.
func TestEarlierCatalogsAreFreed(t *testing.T) {
	var now *catalog.Catalog
	var before []weak.Pointer[catalog.Catalog]
	for n := range 5 {
		prev := now
		if prev != nil {
			before = append(before, weak.Make(prev))
		}
		o := options(fmt.Sprint("c", n))
		// As the engine does: what is open depends on what was followed before.
		o.OpenTree = func(context.Context, string, string) (catalog.Tree, bool, error) {
			return catalog.Tree{}, prev != nil && len(prev.SetTrees()) > 0, nil
		}
		files := map[string]string{
			"app.yaml":   fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: app}\nspec:\n  source: {path: apps/%d}\n  destination: {namespace: ns}\n", n),
			"stays.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: stays}\nspec:\n  source: {path: apps/stays}\n  destination: {namespace: ns}\n",
		}
		if n == 2 { // what it meant before is remembered, and nothing else of before
			files["app.yaml"] = "kind: {a: [\n"
		}
		var err error
		if now, err = catalog.Load(t.Context(), newTree(below(files)), o, prev); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	for n, p := range before {
		if p.Value() != nil {
			t.Errorf("the catalog of commit c%d is still held", n)
		}
	}
	if len(now.Applications) != 2 {
		t.Errorf("%d applications, want 2", len(now.Applications))
	}
	runtime.KeepAlive(now)
}
