package worker

import (
	"bytes"
	"errors"
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

// comes has a memory learn what comes with a job.
func comes(t *testing.T, memory *wire.Memory, job *wire.Job, tree wire.Tree) {
	t.Helper()
	answers, data, err := wire.Ahead(job, func(q wire.Question) (a wire.Answers, data [][]byte, _ error) {
		seen := tree.Look(q)
		item := func(dir bool, err error) wire.Item {
			it := wire.Item{Dir: dir}
			if pe, ok := errors.AsType[*wire.PathError](err); ok {
				it.Error = pe
			}
			return it
		}
		for _, s := range seen.Stats {
			a.Items = append(a.Items, item(s.Dir, s.Err))
		}
		for _, l := range seen.Listings {
			it := item(false, l.Err)
			it.Entries = l.Entries
			a.Items = append(a.Items, it)
		}
		for _, c := range seen.Contents {
			it := item(c.Dir, c.Err)
			it.Size = int64(len(c.Data))
			a.Items, data = append(a.Items, it), append(data, c.Data)
		}
		return a, data, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if err := wire.WriteJob(&buf, job, &answers, data...); err != nil {
		t.Fatal(err)
	}
	f, err := wire.Read(&buf, 1<<20)
	if err == nil {
		_, err = f.Job(memory)
	}
	if err != nil {
		t.Fatal(err)
	}
}

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
		{belay.Source{Path: "plain"}, 1, 3},        // read its files, which came listed with the job
		{belay.Source{Path: "plain/a.yaml"}, 0, 1}, // it came with the job
		{belay.Source{Path: "base"}, 1, 2},         // read what it names
		{belay.Source{Path: "overlay"}, 2, 3},      // read what it names; and what the base names
		{belay.Source{Path: "chart"}, 2, 2},        // list templates and read the rest; read templates
		{belay.Source{Path: "chart", Helm: &belay.HelmSource{ValuesFiles: []string{"/values.yaml"}}}, 2, 2}, // it is known to be a chart
	} {
		tree := &counted{Tree: files.Tree()}
		job := wire.Job{Application: "app", Source: c.source}
		memory := wire.Remember(tree)
		comes(t, memory, &job, files.Tree())
		out := Render(memory, job)
		if len(out.Problems) > 0 || len(out.Docs) != c.files {
			t.Errorf("%s: %d objects, problems %v", c.source.Path, len(out.Docs), out.Problems)
		}
		if tree.n != c.questions {
			t.Errorf("%s takes %d questions, want %d", c.source.Path, tree.n, c.questions)
		}
	}
}
