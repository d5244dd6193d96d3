package render_test

import (
	"fmt"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/wire"
	"github.com/belaydev/belay/internal/render/worker"
)

// fleet is a source with one application of each kind.
func fleet() rendertest.Files {
	f := rendertest.Files{}
	for i := range 20 {
		f[fmt.Sprintf("plain/%d.yaml", i)] = configMap(fmt.Sprintf("cm-%d", i), "value")
		f[fmt.Sprintf("chart/templates/%d.yaml", i)] = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include \"name\" . }}-" + fmt.Sprint(i) + "\ndata:\n  v: {{ .Values.v | quote }}\n"
	}
	f["base/kustomization.yaml"] = "resources: [deployment.yaml, service.yaml]\nconfigMapGenerator:\n- name: settings\n  literals: [a=b]\n"
	f["base/deployment.yaml"] = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  template:\n    spec:\n      containers:\n      - {name: web, image: nginx}\n"
	f["base/service.yaml"] = "apiVersion: v1\nkind: Service\nmetadata:\n  name: web\nspec:\n  ports: [{port: 80}]\n"
	f["overlay/kustomization.yaml"] = "resources: [../base]\nnamespace: prod\nnamePrefix: p-\nimages: [{name: nginx, newTag: \"1\"}]\nreplicas: [{name: web, count: 2}]\n"
	f["chart/Chart.yaml"] = chartYAML
	f["chart/values.yaml"] = "v: x\n"
	f["chart/templates/_helpers.tpl"] = "{{ define \"name\" }}{{ .Release.Name }}{{ end }}"
	return f
}

func benchPaths() []string { return []string{"plain", "overlay", "chart"} }

func BenchmarkRenderPool(b *testing.B) {
	files := fleet()
	for _, path := range benchPaths() {
		b.Run(path, func(b *testing.B) {
			p := newPool(b, render.Options{Workers: 1})
			mustRender(b, p, files, request(path))
			for b.Loop() {
				mustRender(b, p, files, request(path))
			}
		})
	}
}

func BenchmarkRenderInProcess(b *testing.B) {
	files := fleet()
	for _, path := range benchPaths() {
		b.Run(path, func(b *testing.B) {
			for b.Loop() {
				out := worker.Render(files.Tree(), wire.Job{Application: "app", Source: belay.Source{Path: path}})
				if len(out.Problems) > 0 {
					b.Fatal(out.Problems)
				}
			}
		})
	}
}

func BenchmarkRenderParallel(b *testing.B) {
	files := fleet()
	p := newPool(b, render.Options{})
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			mustRender(b, p, files, request(benchPaths()[i%3]))
		}
	})
}

func BenchmarkRenderCached(b *testing.B) {
	files := fleet()
	p := newPool(b, render.Options{Workers: 1})
	c, err := render.OpenCache(b.TempDir(), 1<<20, testKey)
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range benchPaths() {
		b.Run(path, func(b *testing.B) {
			req := request(path)
			if err := c.Put(req, mustRender(b, p, files, req)); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, ok, err := c.Get(b.Context(), files, req); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// BenchmarkRenderStart is the start of a worker until it is locked down.
func BenchmarkRenderStart(b *testing.B) {
	for b.Loop() {
		p, err := render.NewPool(render.Options{Key: testKey})
		if err != nil {
			b.Fatal(err)
		}
		p.Close()
	}
}
