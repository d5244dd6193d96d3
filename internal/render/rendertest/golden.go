package rendertest

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/belaydev/belay/internal/render/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// RunGolden renders every testdata/*.txtar and compares with its section
// "want". A section "want.job" is the job as JSON; its default has the path
// "app" and the name of the file.
func RunGolden(t *testing.T, render func(wire.Tree, wire.Job) *wire.Output) {
	t.Helper()
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range archives {
		app := strings.TrimSuffix(filepath.Base(name), ".txtar")
		t.Run(app, func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files, want := Parse(string(data))
			job := wire.Job{Application: app}
			job.Source.Path = "app"
			if spec, ok := want["want.job"]; ok {
				if err := json.Unmarshal([]byte(spec), &job); err != nil {
					t.Fatal(err)
				}
			}
			first := Golden(render(files.Tree(), job))
			if again := Golden(render(files.Tree(), job)); again != first {
				t.Errorf("the second render differs:\n%s\nfirst:\n%s", again, first)
			}
			if *update {
				rewrite(t, name, data, first)
				return
			}
			if first != want["want"] {
				t.Errorf("got:\n%s\nwant:\n%s", first, want["want"])
			}
		})
	}
}

func rewrite(t *testing.T, name string, data []byte, want string) {
	t.Helper()
	a := txtar.Parse(data)
	a.Files = slices.DeleteFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
	a.Files = append(a.Files, txtar.File{Name: "want", Data: []byte(want)})
	if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
		t.Fatal(err)
	}
}
