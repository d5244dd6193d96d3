package source

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/gittest"
)

// benchFiles is small enough for a test run; the cost of what is measured must
// not grow with it.
const benchFiles = 5000

func benchRepo(b *testing.B) (*gittest.Repo, string, string) {
	b.Helper()
	repo := gittest.NewRepo(b)
	files := make(map[string]string, benchFiles)
	for i := range benchFiles {
		files[fmt.Sprintf("apps/team-%d/app-%d/deployment.yaml", i%50, i)] = "kind: Deployment\nname: app-" + strconv.Itoa(i) + "\n"
	}
	first := repo.Commit("main", "many", files)
	second := repo.Commit("main", "one", map[string]string{"apps/team-7/app-7/deployment.yaml": "kind: Deployment\nname: changed\n"})
	return repo, first, second
}

func BenchmarkDiffOneOfMany(b *testing.B) {
	repo, first, second := benchRepo(b)
	x, y := snapshotOf(b, repo, first), snapshotOf(b, repo, second)
	for b.Loop() {
		if c, err := Diff(b.Context(), x, y); len(c) != 1 || err != nil {
			b.Fatal(c, err)
		}
	}
}

func BenchmarkReadFileCached(b *testing.B) {
	repo, first, _ := benchRepo(b)
	s := snapshotOf(b, repo, first)
	for b.Loop() {
		if _, err := s.ReadFile("apps/team-7/app-7/deployment.yaml"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadFileCold(b *testing.B) {
	repo, first, _ := benchRepo(b)
	s := snapshotOf(b, repo, first)
	i := 0
	for b.Loop() {
		if i++; i == benchFiles {
			b.StopTimer()
			s, i = snapshotOf(b, repo, first), 0
			b.StartTimer()
		}
		if _, err := s.ReadFile(fmt.Sprintf("apps/team-%d/app-%d/deployment.yaml", i%50, i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIndexAffected(b *testing.B) {
	x := NewIndex()
	for i := range 10000 {
		dir := fmt.Sprintf("apps/team-%d/app-%d", i%50, i)
		x.Set("app-"+strconv.Itoa(i), []belay.Read{
			{Path: dir, Kind: belay.ReadList}, {Path: dir + "/deployment.yaml", Kind: belay.ReadFile},
			{Path: dir + "/kustomization.yaml", Kind: belay.ReadStat}, {Path: "base/common.yaml", Kind: belay.ReadFile},
		})
	}
	change := []belay.PathChange{{Path: "apps/team-7/app-7/deployment.yaml", Old: "1", New: "2", Top: "apps/team-7/app-7/deployment.yaml"}}
	for b.Loop() {
		if got := x.Affected(change); len(got) != 1 {
			b.Fatal(got)
		}
	}
}
