package rendering

import (
	"os"
	"testing"

	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/worker"
)

// TestMain makes this program a worker when a pool starts it.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == render.WorkerArgument {
		worker.Main()
	}
	os.Exit(m.Run())
}

// Both ways give the same objects: what takes less time by doing less is not
// compared.
func TestMeasure(t *testing.T) {
	for _, kind := range Kinds {
		res, err := Measure(t.Context(), kind, Options{Belay: os.Args[0], Applications: 3, Renders: 4, Rounds: 1, Starts: 1, Below: func() float64 { return 0 }})
		if err != nil {
			t.Fatal(err)
		}
		if res.Objects != 4 || res.Differ != 0 {
			t.Errorf("%s: %d objects, and %d of 3 applications differ", kind, res.Objects, res.Differ)
		}
		if res.Library.PerSecond <= 0 || res.Pool.PerSecond <= 0 || res.Start <= 0 {
			t.Errorf("%s: something was not measured: %+v", kind, res)
		}
	}
}

func TestADifferenceShows(t *testing.T) {
	s, err := newSource("plain", 2)
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.library(0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.library(1)
	if err != nil {
		t.Fatal(err)
	}
	if !same(a, a) || same(a, b) || same(a, a[1:]) {
		t.Error("applications with other values count as the same")
	}
}
