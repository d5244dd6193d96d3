package reconcile

import (
	"sync/atomic"
	"testing"

	"github.com/belaydev/belay"
)

// limits is a Project that allows one namespace.
func limits(ns string) string {
	return "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: team}\nspec:\n  sources: [{repo: \"**\"}]\n" +
		"  destinations: [{namespaces: [" + ns + "]}]\n"
}

// A commit that allows less and changes manifests does not get the manifests applied
// under the limits of the commit before, whoever sees it first.
func TestDefinitionsAndManifestsOfOneCommit(t *testing.T) {
	t.Parallel()
	w := newFakeWorld(t)
	w.commit(ada, "Declare", map[string]string{"belay/web.yaml": fakeApp("web", "  project: team\n"), "belay/team.yaml": limits("x"), "apps/web/a": "1"})
	w.start()
	w.settled("web")
	// The definitions are slow to be read; meanwhile the application is woken.
	reading, goOn := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	hook := func(name string) {
		if name == "loaded" && once.CompareAndSwap(false, true) {
			close(reading)
			<-goOn
		}
	}
	w.last.Store(&hook)
	w.commit(ada, "Allow less, change much", map[string]string{"belay/team.yaml": limits("y"), "apps/web/a": "2"})
	<-reading
	passes := w.e.Stats().Passes.Load()
	for range 3 {
		w.e.wake("web")
		w.await("a pass", func() bool { return w.e.Stats().Passes.Load() > passes })
		passes = w.e.Stats().Passes.Load()
	}
	close(goOn)
	w.says("web", "does not allow the namespace")
	w.await("rest", w.e.Settled)
	w.mu.Lock()
	defer w.mu.Unlock()
	for at, raw := range w.raw {
		if valueOf(raw) != "1" {
			t.Errorf("%s was written: %s", at.Name, raw)
		}
	}
}

// What a project allows no longer is told, though there is nothing to be written; and
// it is well again when it is allowed.
func TestWhatIsNotAllowedAnyLongerIsTold(t *testing.T) {
	t.Parallel()
	w := newFakeWorld(t)
	w.commit(ada, "Declare", map[string]string{"belay/web.yaml": fakeApp("web", "  project: team\n"), "belay/team.yaml": limits("x"), "apps/web/a": "1"})
	w.start()
	w.settled("web")
	w.commit(ada, "Allow less", map[string]string{"belay/team.yaml": limits("y")})
	w.says("web", "does not allow the namespace")
	w.await("rest", w.e.Settled)
	st, err := w.e.Application("web")
	if err != nil || st.Sync != belay.OutOfSync || len(st.Tree) != 1 || st.Tree[0].Sync != belay.OutOfSync {
		t.Errorf("%+v, %v", st, err)
	}
	w.commit(ada, "Allow it again", map[string]string{"belay/team.yaml": limits("x")})
	w.settled("web")
	if got := w.have(); got != "a" {
		t.Errorf("there are %s", got)
	}
}
