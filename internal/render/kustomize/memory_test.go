package kustomize_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/belaydev/belay/internal/render/kustomize"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/wire"
)

// A worker renders thousands of applications, and must not hold something of each.
func TestRendersLeaveNothingBehind(t *testing.T) {
	render := func(from, to int) {
		for i := from; i < to; i++ {
			name := fmt.Sprintf("app-%05d", i)
			files := rendertest.Files{
				name + "/kustomization.yaml": "resources: [../base]\nnamePrefix: " + name + "-\nconfigMapGenerator: [{name: c, literals: [value=" + name + "]}]\n",
				"base/kustomization.yaml":    "resources: [a.yaml]\n",
				"base/a.yaml":                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {template: {spec: {containers: [{name: web, image: web}]}}}\n",
			}
			job := wire.Job{Application: name}
			job.Source.Path = name
			if out := kustomize.Render(files.Tree(), job); len(out.Problems) > 0 {
				t.Fatal(out.Problems)
			}
		}
	}
	held := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	render(0, 200)
	before := held()
	render(200, 1200)
	after := held()
	t.Logf("%d KiB, then %d KiB", before>>10, after>>10)
	if after > before+before/10+256<<10 {
		t.Errorf("a thousand renders left %d KiB", (after-before)>>10)
	}
}
