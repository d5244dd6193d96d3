package kustomize_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/kustomize/api/konfig"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/belaydev/belay/internal/render/kustomize"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/wire"
)

// The parent reads them before a worker asks, without having the library.
func TestKustomizationNames(t *testing.T) {
	want := konfig.RecognizedKustomizationFileNames()
	if got := wire.KustomizationNames("."); !slices.Equal(got, want) {
		t.Errorf("Kustomize looks for %q, and Belay for %q", want, got)
	}
}

func TestGolden(t *testing.T) { rendertest.RunGolden(t, kustomize.Render) }

// What Belay adds to track origins must not show in what Kustomize builds.
func TestTrackingOriginsChangesNothing(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, name := range archives {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		files, want := rendertest.Parse(string(data))
		job := wire.Job{Application: "x"}
		job.Source.Path = "app"
		if spec, ok := want["want.job"]; ok {
			if err := json.Unmarshal([]byte(spec), &job); err != nil {
				t.Fatal(err)
			}
		}
		out := kustomize.Render(files.Tree(), job)
		if len(out.Problems) > 0 {
			continue
		}
		if strings.Contains(string(data), "-- .belay/") {
			continue // Kustomize alone would fetch what stands there
		}
		fs := filesys.MakeFsInMemory()
		for path, content := range files {
			if err := fs.WriteFile("/"+path, []byte(content)); err != nil {
				t.Fatal(err)
			}
		}
		opts := krusty.MakeDefaultOptions()
		opts.LoadRestrictions = types.LoadRestrictionsNone
		m, err := krusty.MakeKustomizer(opts).Run(fs, "/"+job.Source.Path)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.Size() != len(out.Docs) {
			t.Errorf("%s: %d objects, want %d", name, len(out.Docs), m.Size())
			continue
		}
		for i, r := range m.Resources() {
			j, err := r.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if string(j) != string(out.Docs[i].Manifest) {
				t.Errorf("%s: object %d is\n%s\nwant\n%s", name, i, out.Docs[i].Manifest, j)
			}
			compared++
		}
	}
	if compared < 8 {
		t.Errorf("only %d objects compared", compared)
	}
}
