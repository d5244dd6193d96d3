package kustomize_test

import (
	"strings"
	"testing"

	"github.com/belaydev/belay/internal/render/kustomize"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/wire"
)

// A kustomization of any content ends, without a crash, in objects or in
// problems that have a place.
func FuzzRender(f *testing.F) {
	f.Add("resources: [a.yaml]\n", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
	f.Add("resources: [../..]\npatches: [{path: a.yaml}]\n", "- op: add\n  path: /x\n  value: 1\n")
	f.Add("configMapGenerator: [{name: a, envs: [a.yaml]}]\nreplacements: [{path: a.yaml}]\n", "A=1\n")
	f.Add("components: [.]\n", "")
	f.Fuzz(func(t *testing.T, kustomization, file string) {
		if strings.Contains(kustomization, "openapi") {
			return // makes its process unfit for others; workers that met it are retired
		}
		job := wire.Job{Application: "x"}
		job.Source.Path = "app"
		files := rendertest.Files{"app/kustomization.yaml": kustomization, "app/a.yaml": file, "other/secret.yaml": "kind: Secret\n"}
		out := kustomize.Render(files.Tree(), job)
		for _, p := range out.Problems {
			if p.Message == "" {
				t.Fatalf("a problem without words: %+v", p)
			}
		}
	})
}
