package kustomize

import (
	"os"
	"path/filepath"
	"testing"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/wire"
)

// notes renders with Kustomize's notes of where objects come from.
func notes(t *testing.T, tree wire.Tree, root string) *wire.Output {
	t.Helper()
	out := &wire.Output{Kind: Kind}
	in := &inspector{src: newSource(tree), out: out, seen: map[string]bool{}}
	in.visit(root, nil, wire.Problem{})
	opts := krusty.MakeDefaultOptions()
	opts.LoadRestrictions = types.LoadRestrictionsNone
	in.tracked(opts, root)
	return out
}

// Where objects come from is the same whether Kustomize takes notes or the order
// tells, which of the two it is, and nothing else differs.
func TestPlacesFollowFromTheOrder(t *testing.T) {
	for name, c := range map[string]struct {
		files   rendertest.Files
		ordered bool // by what is written
		fits    bool // by what comes out
	}{
		"two bases with the same names": {rendertest.Files{
			"top/kustomization.yaml":  "resources: [../a, own.yaml, ../b]\ncomponents: [../part]\nconfigMapGenerator: [{name: made, literals: [x=y]}]\n",
			"top/own.yaml":            cm("own") + "---\n# nothing\n---\n" + cm("second"),
			"a/kustomization.yaml":    "namePrefix: a-\nresources: [../base]\n",
			"b/kustomization.yaml":    "namePrefix: b-\nresources: [../base]\nsecretGenerator: [{name: hidden, literals: [x=yyyy]}]\n",
			"base/kustomization.yaml": "resources: [web.yaml]\n",
			"base/web.yaml":           cm("web") + "---\n" + cm("web-more"),
			"part/kustomization.yaml": "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [part.yaml]\npatches: [{patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: own}, data: {more: \"1\"}}'}]\n",
			"part/part.yaml":          cm("part"),
		}, true, true},
		"a patch that deletes": {rendertest.Files{
			"top/kustomization.yaml": "resources: [a.yaml, b.yaml]\npatches: [{patch: '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, $patch: delete}'}]\n",
			"top/a.yaml":             cm("a"), "top/b.yaml": cm("b"),
		}, true, false},
		"an object that stays at home": {rendertest.Files{
			"top/kustomization.yaml": "resources: [a.yaml, b.yaml]\n",
			"top/a.yaml":             "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  annotations: {config.kubernetes.io/local-config: \"true\"}\n",
			"top/b.yaml":             cm("b"),
		}, true, false},
		"sorted": {rendertest.Files{
			"top/kustomization.yaml": "resources: [b.yaml, a.yaml]\nsortOptions: {order: legacy}\n",
			"top/a.yaml":             cm("a"), "top/b.yaml": cm("b"),
		}, false, false},
		"a list": {rendertest.Files{
			"top/kustomization.yaml": "resources: [list.yaml]\n",
			"top/list.yaml":          "apiVersion: v1\nkind: ConfigMapList\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}\n",
		}, false, false},
		"a generator that merges": {rendertest.Files{
			"top/kustomization.yaml":  "resources: [../base]\nconfigMapGenerator: [{name: made, behavior: merge, literals: [x=z]}]\n",
			"base/kustomization.yaml": "configMapGenerator: [{name: made, literals: [x=y]}]\n",
		}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			tree := c.files.Tree()
			in := &inspector{src: newSource(tree), out: &wire.Output{}, seen: map[string]bool{}}
			in.visit("top", nil, wire.Problem{})
			all, ok := in.declarations()
			if ok != c.ordered {
				t.Fatalf("ordered is %v", ok)
			}
			got := Render(tree, wire.Job{Application: "app", Source: belay.Source{Path: "top"}})
			if len(got.Problems) > 0 {
				t.Fatal(got.Problems)
			}
			if ok && (len(all) == len(got.Docs)) != c.fits {
				t.Errorf("%d objects of %d declarations", len(got.Docs), len(all))
			}
			if a, b := rendertest.Golden(got), rendertest.Golden(notes(t, tree, "top")); a != b {
				t.Errorf("by order:\n%s\nwith notes:\n%s", a, b)
			}
		})
	}
}

func cm(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: " + name + "\n"
}

// Of all that is tested elsewhere, too.
func TestPlacesOfGoldenFiles(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	compared := 0
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		files, _ := rendertest.Parse(string(b))
		for name := range files {
			root := filepath.Dir(name)
			if filepath.Base(name) != "kustomization.yaml" {
				continue
			}
			got := Render(files.Tree(), wire.Job{Application: "app", Source: belay.Source{Path: root}})
			if len(got.Problems) > 0 {
				continue // told by the golden file
			}
			compared++
			if a, b := rendertest.Golden(got), rendertest.Golden(notes(t, files.Tree(), root)); a != b {
				t.Errorf("%s %s by order:\n%s\nwith notes:\n%s", p, root, a, b)
			}
		}
	}
	if compared < 5 {
		t.Errorf("only %d kustomizations compared", compared)
	}
}
