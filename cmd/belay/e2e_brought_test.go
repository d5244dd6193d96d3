package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/belaydev/belay"
)

// A push of many commits at once, one of which adds an application and one of which
// changes a definition: their deployments bring those commits, and not whichever
// was last.
func TestManyCommitsInOnePush(t *testing.T) {
	t.Parallel()
	for _, others := range []int{3, 30} {
		t.Run(fmt.Sprint(others), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			noise := func(n int) {
				for i := range n {
					w.commit("Something else", map[string]string{"noise.txt": fmt.Sprint(n, " ", i)})
				}
			}
			w.commit("One application", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1")})
			s := w.serve()
			s.awaitSynced("a")
			noise(others)
			added := w.commit("Add b", map[string]string{"belay/b.yaml": application("b", "apps/b", "NS-b"), "apps/b/b.yaml": configMap("b", "1")})
			moved := w.commit("Have a elsewhere", map[string]string{"belay/a.yaml": application("a", "apps/other", "NS-a"), "apps/other/a.yaml": configMap("a", "2")})
			noise(others + 1)
			s.hook()
			s.awaitSynced("a", "b")
			for name, want := range map[string]string{"a": moved, "b": added} {
				found, _, err := s.Deployments(t.Context(), belay.RecordQuery{Applications: []string{name}})
				if err != nil || len(found) == 0 {
					t.Fatalf("deployments of %s: %d %v", name, len(found), err)
				}
				subjects := make([]string, 0, len(found[0].Commits))
				for _, c := range found[0].Commits {
					subjects = append(subjects, c.Subject)
				}
				if !slices.ContainsFunc(found[0].Commits, func(c belay.Commit) bool { return c.ID == want }) || len(found[0].Commits) != 1 {
					t.Errorf("the deployment of %s brings %q, want the one commit that changed its definition", name, subjects)
				}
			}
			s.stop()
		})
	}
}
