package reconcile

import (
	"slices"
	"testing"

	"github.com/belaydev/belay"
)

// A process without a memory finds what a set holds, also where it has looked up
// before what all meant that left Git together.
func TestHoldOfASetIsRecalledWhateverIsKnown(t *testing.T) {
	w := newFakeWorld(t)
	files := map[string]string{"belay/web.yaml": fakeApp("web"), "apps/web/a": "1", "belay/set.yaml": `apiVersion: belay.dev/v1alpha1
kind: ApplicationSet
metadata: {name: areas}
spec:
  generators: [{directories: {paths: ["areas/*"]}}]
  template:
    metadata: {name: "area-{{ .path.basename }}"}
    spec: {source: {path: "{{ .path.path }}"}, destination: {namespace: x}}
`}
	for _, area := range []string{"a", "b", "c", "d"} {
		files["areas/"+area+"/a"] = "1"
	}
	w.commit("ada", "Declare", files)
	newest := w.commit("ada", "Remove", map[string]string{"belay/web.yaml": "", "areas/a/a": "", "areas/b/a": "", "areas/c/a": ""})
	w.make()
	e, ctx := w.e, t.Context()
	rev := belay.Revision{Repo: fakeRepo, Ref: "main", Commit: newest}
	cat, err := e.readCatalog(ctx, rev, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.catalog, e.config, e.considered, e.runCtx = cat, rev, rev, ctx
	for _, name := range []string{"area-a", "area-b", "area-c", "web"} {
		e.apps[name] = newApp(name)
	}
	e.recallOthers(ctx, e.apps["web"])
	e.recallOthers(ctx, e.apps["area-a"])
	for name, a := range e.apps {
		if a.last == nil {
			t.Fatalf("what %s meant was not looked up", name)
		}
	}
	if err := e.recallSets(ctx, e.apps["web"]); err != nil {
		t.Errorf("web: %v", err)
	}
	for _, name := range []string{"area-a", "area-b", "area-c"} {
		if err := e.recallSets(ctx, e.apps[name]); err != nil && belay.CodeOf(err) != belay.CodeHeld {
			t.Errorf("%s: %v", name, err)
		}
		if e.apps[name].def == nil || e.catalog.Holds[name] == nil {
			t.Errorf("%s is not held by its set", name)
		}
	}
	if held := e.catalog.Sets()["areas"].Held; !slices.Equal(held, []string{"area-a", "area-b", "area-c"}) {
		t.Errorf("held are %v", held)
	}
}
