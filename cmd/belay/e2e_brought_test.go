package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
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

// An application that was declared, and changed, before a restart and could not be
// deployed until after it: its first deployment brings all of that, and nothing else.
func TestCommitsBeforeARestartAreBrought(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	definition := func(more string) string { return application("late", "apps/late", "NS-late", more) }
	w.commit("One application", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1")})
	s := w.serve()
	s.awaitSynced("a")
	w.commit("Add late", map[string]string{"belay/late.yaml": definition("  suspend: {reason: a test}\n"), "apps/late/x.yaml": configMap("x", "1")})
	w.commit("Change late", map[string]string{"apps/late/x.yaml": configMap("x", "2")})
	w.commit("Something else", map[string]string{"noise.txt": "1"})
	s.hook()
	devtest.Await(t, "the last commit to be on record", func() error {
		if records := w.recorded(); !slices.ContainsFunc(records, func(r belay.Record) bool {
			return r.Event.Type == belay.EventRevision && r.Event.Revision == w.repo.Resolve("main")
		}) {
			return fmt.Errorf("%d records", len(records))
		}
		return nil
	})
	s.stop()
	s = w.serve()
	devtest.Await(t, "late to be known", func() error {
		if st, ok := s.app("late"); !ok || st.Suspended == "" {
			return fmt.Errorf("it is %+v", st)
		}
		return nil
	})
	w.commit("Resume late", map[string]string{"belay/late.yaml": definition("")})
	s.hook()
	s.awaitSynced("a", "late")
	found, _, err := s.Deployments(t.Context(), belay.RecordQuery{Applications: []string{"late"}})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d deployments: %v", len(found), err)
	}
	subjects := make([]string, 0, len(found[0].Commits))
	for _, c := range found[0].Commits {
		subjects = append(subjects, c.Subject)
	}
	slices.Sort(subjects)
	if !slices.Equal(subjects, []string{"Add late", "Change late", "Resume late"}) {
		t.Errorf("it brings %q", subjects)
	}
	s.stop()
}
