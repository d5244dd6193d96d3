package git_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/gittest"
)

func subjects(b git.Brought) string {
	var out []string
	for i := range b.Commits {
		out = append(out, b.Commits[i].Subject)
	}
	return strings.Join(out, " ")
}

func TestBrought(t *testing.T) {
	t.Parallel()
	repo := gittest.NewRepo(t)
	first := repo.Commit("main", "first", map[string]string{"a": "1"})
	var last, third string
	for i := range 30 {
		last = repo.Commit("main", fmt.Sprintf("c%d", i), map[string]string{fmt.Sprintf("dir%d/x", i%2): fmt.Sprint(i)})
		if i == 2 {
			third = last
		}
	}
	repo.Branch("side", first)
	side := repo.Commit("side", "side\n\nReviewed-by: Kim <kim@example.com>", map[string]string{"b": "1"})
	merged := repo.Merge("main", "merge", "side", map[string]gittest.File{"b": gittest.Text("1")})
	m := mirrorOf(t, repo)
	for name, c := range map[string]struct {
		from, to string
		paths    []string
		most     int
		want     string
		more     int
	}{
		"the head alone":       {"", last, nil, 5, "c29", 0},
		"nothing":              {last, last, nil, 5, "", 0},
		"one by one":           {first, third, nil, 5, "c2 c1 c0", 0},
		"many":                 {first, last, nil, 2, "c29 c28", 28},
		"more than are walked": {third, last, nil, 50, "c29 c28 c27 c26 c25 c24 c23 c22 c21 c20 c19 c18 c17 c16 c15 c14 c13 c12 c11 c10 c9 c8 c7 c6 c5 c4 c3", 0},
		"a merge":              {last, merged, nil, 5, "merge side", 0},
		"below a path":         {first, third, []string{"dir1"}, 5, "c1", 0},
		"below paths":          {first, last, []string{"dir1", "b"}, 1, "c29", 14},
		"backwards":            {merged, side, nil, 5, "", 0},
	} {
		got, err := m.Brought(t.Context(), c.from, c.to, c.paths, c.most)
		if err != nil || subjects(got) != c.want || got.More != c.more || len(got.Firsts) != len(got.Commits) {
			t.Errorf("%s: %q and %d more, %v", name, subjects(got), got.More, err)
		}
	}
	got, err := m.Brought(t.Context(), last, merged, nil, 5)
	if err != nil || len(got.Commits) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if c := got.Commits[1]; c.ID != side || c.Author != gittest.Author || c.Time.IsZero() || c.Committer != "" || !slices.Equal(c.Reviewers, []string{"Kim <kim@example.com>"}) || got.Firsts[1] != first {
		t.Errorf("%+v", c)
	}
	if !got.Commits[0].Merge {
		t.Error("the merge is none")
	}
	// Read one by one or all at once, a commit says the same.
	alone, err := m.Brought(t.Context(), "", side, nil, 1)
	if err != nil || fmt.Sprint(alone.Commits[0]) != fmt.Sprint(got.Commits[1]) {
		t.Errorf("%+v, %v", alone, err)
	}
	if _, err := m.Brought(t.Context(), strings.Repeat("7", 40), last, nil, 5); err == nil {
		t.Error("a commit that is not there is no error")
	}
	if _, err := m.Brought(t.Context(), "--all", last, nil, 5); err == nil {
		t.Error("an option is taken for a commit")
	}
	c, found, err := m.LastChange(t.Context(), merged, "dir0", "^28$")
	if err != nil || !found || c.Subject != "c28" {
		t.Errorf("the last change of a line: %+v, %v, %v", c, found, err)
	}
}
