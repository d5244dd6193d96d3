package helm_test

import (
	"strings"
	"testing"

	"github.com/belaydev/belay/internal/render/helm"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/wire"
)

// A chart of any content ends, without a crash, in objects or in problems.
// Templates that multiply themselves are for the limits of the worker, so the
// means to do so are left out here.
func FuzzRender(f *testing.F) {
	f.Add("apiVersion: v2\nname: c\nversion: 1.0.0\n", "a: 1\n", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Values.a }}}\n")
	f.Add("apiVersion: v1\nname: c\nversion: x\ndependencies: [{name: d}]\n", "[]", "{{ .Files.Get \"../x\" }}")
	f.Add("", "a: &a [*a]", "{{ fail .Values.a.b.c }}")
	f.Fuzz(func(t *testing.T, chart, values, template string) {
		for _, s := range []string{"range", "repeat", "until", "include", "template", "seq", "gen", "derive", "tpl", "define", "block"} {
			if strings.Contains(template, s) {
				return
			}
		}
		job := wire.Job{Application: "x", KubeVersion: "v1.36.0"}
		job.Source.Path = "app"
		out := helm.Render(rendertest.Files{"app/Chart.yaml": chart, "app/values.yaml": values, "app/templates/a.yaml": template}.Tree(), job)
		for _, p := range out.Problems {
			if p.Message == "" {
				t.Fatalf("a problem without words: %+v", p)
			}
		}
	})
}
