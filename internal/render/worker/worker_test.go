package worker

import (
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/wire"
)

// counted counts the questions that reach the parent.
type counted struct {
	wire.Tree
	n int
}

func (c *counted) Look(q wire.Question) wire.Seen { c.n++; return c.Tree.Look(q) }

// How often a worker asks is most of what it costs beyond the library: three
// questions too many were a tenth of a small render.
func TestQuestionsOfARender(t *testing.T) {
	const cm = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: "
	files := rendertest.Files{
		"plain/a.yaml": cm + "a\n", "plain/b.yaml": cm + "b\n", "plain/c.yaml": cm + "c\n",
		"base/kustomization.yaml": "resources: [a.yaml, b.yaml]\n", "base/a.yaml": cm + "a\n", "base/b.yaml": cm + "b\n",
		"overlay/kustomization.yaml": "resources: [../base, own.yaml]\npatches: [{path: patch.yaml}]\n",
		"overlay/own.yaml":           cm + "own\n", "overlay/patch.yaml": cm + "a\ndata: {x: y}\n",
		"chart/Chart.yaml": "apiVersion: v2\nname: web\nversion: 1.0.0\n", "chart/values.yaml": "v: x\n",
		"chart/templates/a.yaml": cm + "a\n", "chart/templates/b.yaml": cm + "{{ .Values.v }}\n", "values.yaml": "v: z\n",
	}
	for _, c := range []struct {
		source           belay.Source
		questions, files int
	}{
		{belay.Source{Path: "plain"}, 2, 3},        // list it; read its files
		{belay.Source{Path: "plain/a.yaml"}, 1, 1}, // read it
		{belay.Source{Path: "base"}, 1, 2},         // read what it names
		{belay.Source{Path: "overlay"}, 2, 3},      // read what it names; and what the base names
		{belay.Source{Path: "chart"}, 3, 2},        // list it; list templates and read the rest; read templates
		{belay.Source{Path: "chart", Helm: &belay.HelmSource{ValuesFiles: []string{"/values.yaml"}}}, 2, 2}, // it is known to be a chart
	} {
		tree := &counted{Tree: files.Tree()}
		job := wire.Job{Application: "app", Source: c.source}
		memory := wire.Remember(tree)
		first := wire.First(&job)
		memory.Learn(first, files.Tree().Look(first)) // comes with the job
		out := Render(memory, job)
		if len(out.Problems) > 0 || len(out.Docs) != c.files {
			t.Errorf("%s: %d objects, problems %v", c.source.Path, len(out.Docs), out.Problems)
		}
		if tree.n != c.questions {
			t.Errorf("%s takes %d questions, want %d", c.source.Path, tree.n, c.questions)
		}
	}
}
