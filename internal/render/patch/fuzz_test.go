package patch_test

import (
	"encoding/json"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/patch"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/wire"
)

// A patch of any text ends, without a crash, in objects that can be read and keep
// their name, or in problems with words.
func FuzzApply(f *testing.F) {
	f.Add("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {k: null, l: x}\n", "", "")
	f.Add("- {op: replace, path: /data/k, value: &a [*a]}\n", "ConfigMap", "a|b")
	f.Add("- {op: move, from: /metadata/name, path: /kind}\n- {op: test, path: /x~2, value: 1}\n", "", "(")
	f.Add("- {op: add, path: /KIND, value: x}\n", "", "")
	f.Add("$patch: delete\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n- 1\n", ".*", "")
	f.Fuzz(func(t *testing.T, text, kind, name string) {
		out := &wire.Output{Docs: []wire.Doc{{Manifest: []byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v"}}`), File: "a.yaml", Line: 1}}}
		p := belay.Patch{File: "p.yaml"}
		if kind+name != "" {
			p.Target = &belay.PatchTarget{Kind: kind, Name: name}
		}
		patch.Apply(rendertest.Files{"p.yaml": text}.Tree(), wire.Job{Application: "x", Patches: []belay.Patch{p}}, out)
		for _, p := range out.Problems {
			if p.Message == "" {
				t.Fatalf("a problem without words: %+v", p)
			}
		}
		if len(out.Problems) > 0 {
			return
		}
		for _, d := range out.Docs {
			var m map[string]any // a struct would take KIND for kind
			err := json.Unmarshal(d.Manifest, &m)
			meta, _ := m["metadata"].(map[string]any)
			if err != nil || m["kind"] != "ConfigMap" || meta["name"] != "a" {
				t.Fatalf("%q made %q: %v", text, d.Manifest, err)
			}
		}
	})
}
