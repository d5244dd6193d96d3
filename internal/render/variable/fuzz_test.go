package variable_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/variable"
	"github.com/belaydev/belay/internal/render/wire"
)

// Variables of any text leave an object that can be read, and what stands for one
// is never looked at again.
func FuzzApply(f *testing.F) {
	f.Add("A: 1\nB: \"${A}${A}\"\n", "${B}")
	f.Add("A: &a x\nB: *a\n", "$${A} ${A} ${C:=d} ${A")
	f.Add("- 1\n", "${")
	f.Add("A: true\n---\nB: 1\n", "${A:-${B}}")
	f.Fuzz(func(t *testing.T, file, text string) {
		manifest, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "a"}, "data": map[string]any{"k": text}})
		if err != nil {
			t.Fatal(err)
		}
		var given struct{ Data map[string]string }
		if err := json.Unmarshal(manifest, &given); err != nil {
			t.Fatal(err)
		}
		text = given.Data["k"] // as JSON has it
		out := &wire.Output{Docs: []wire.Doc{{Manifest: manifest, File: "a.yaml", Line: 1}}}
		job := wire.Job{Variables: &belay.Variables{Files: []string{"v.yaml"}, Values: map[string]string{"AGAIN": "${AGAIN}"}}}
		variable.Apply(rendertest.Files{"v.yaml": file}.Tree(), job, out)
		if len(out.Problems) > 0 {
			return
		}
		var m struct{ Data map[string]string }
		if err := json.Unmarshal(out.Docs[0].Manifest, &m); err != nil {
			t.Fatalf("%q with %q became %q: %v", text, file, out.Docs[0].Manifest, err)
		}
		if text == "${AGAIN}" && m.Data["k"] != text || !strings.Contains(text, "${") && m.Data["k"] != text {
			t.Fatalf("%q became %q", text, m.Data["k"])
		}
	})
}
