package reconcile

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/belaydev/belay"
)

// twoClusters declares local and other.
const twoClusters = "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: local}\nspec: {}\n---\n" +
	"apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: other}\nspec: {context: other}\n"

// webIn is the application web, delivered to a cluster.
func webIn(cluster string, more ...string) string {
	return strings.Replace(fakeApp("web", more...), "{namespace: x}", "{namespace: x, cluster: "+cluster+"}", 1)
}

// refuses has the clusters refuse to write objects, or no more.
func (w *fakeWorld) refuses(on bool, names ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range names {
		w.refuse[name] = on
	}
}

// noneUnderWay makes sure that every deployment on the record has ended.
func (w *fakeWorld) noneUnderWay() {
	w.t.Helper()
	w.await("rest", w.e.Settled)
	if running := w.l.crash(true).Running(); len(running) > 0 {
		w.t.Errorf("under way are %+v", running)
	}
}

// What was under way in a cluster that an application was moved away from ends also
// where its objects turn out to stay there: a deletion, and what an earlier life of
// the process deployed.
func TestWhatStaysAfterAMoveLeavesNoDeploymentOpen(t *testing.T) {
	t.Parallel()
	keeps := "  sync: {prune: false}\n"
	t.Run("a deletion", func(t *testing.T) {
		t.Parallel()
		w := movedWithoutB(t)
		w.commit(ada, "keep", map[string]string{"belay/web.yaml": webIn("other", keeps)})
		w.await("the end of the deletion", func() bool { return len(w.l.events(belay.EventSuperseded)) == 1 })
		if end := w.l.events(belay.EventSuperseded)[0]; end.Cluster != "local" || end.Message != "the deletion was not finished; it has left, and its objects are to stay" {
			t.Errorf("it ends as %q in %s", end.Message, end.Cluster)
		}
		w.settled("web")
		w.noneUnderWay()
	})
	for what, waits := range map[string]bool{"of an earlier life": false, "of an earlier life, before it arrived": true} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newFakeWorld(t)
			w.refuses(true, "b")
			w.commit(ada, "web", map[string]string{"belay/clusters.yaml": twoClusters, "belay/web.yaml": webIn("local", keeps), "apps/web/a": "1", "apps/web/b": "1"})
			w.start()
			w.says("web", "refused")
			w.end()
			w.e = nil
			w.refuses(waits, "b")
			w.commit(ada, "move", map[string]string{"belay/web.yaml": webIn("other", keeps)})
			w.l = w.l.crash(true)
			w.start()
			w.await("the end of the deployment", func() bool { return len(w.l.events(belay.EventSuperseded)) == 1 })
			if end := w.l.events(belay.EventSuperseded)[0]; end.Cluster != "local" || !strings.Contains(end.Message, `it was moved to cluster "other"`) {
				t.Errorf("it ends as %q in %s", end.Message, end.Cluster)
			}
			w.refuses(false, "b")
			if waits {
				w.commit(ada, "try again", map[string]string{"apps/web/b": "2"})
			}
			w.settled("web")
			w.noneUnderWay()
		})
	}
}

// What Git takes back before any of it is gone was not deleted: the deletion ends
// where it stands, and what comes after it is a deployment of its own.
func TestTakenBackBeforeAnythingIsGone(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		w := fleet(t)
		w.start()
		w.settled("web", "api")
		w.refuses(true, "a", "b", "secret")
		w.commit(bob, "away", map[string]string{"belay/web.yaml": ""})
		w.says("web", "not deleted: ConfigMap x/a: refused")
		if restart {
			w.restart(true)
			w.says("web", "not deleted: ConfigMap x/a: refused")
		}
		w.refuses(false, "a", "b", "secret")
		w.commit(bob, "back", map[string]string{"belay/web.yaml": fakeApp("web")})
		w.settled("web")
		if end := w.l.events(belay.EventSuperseded); len(end) != 1 || !strings.Contains(end[0].Message, "the deletion was not finished") {
			t.Errorf("restart %v: superseded are %+v", restart, end)
		}
		starts, ends := of(w.l.events(belay.EventSyncStarted), "web"), of(w.l.events(belay.EventSynced), "web")
		if len(starts) != 3 || results(starts[2].Detail) != "" || len(ends) != 2 || len(ends[1].Detail.Manifests) != 3 {
			t.Errorf("restart %v: %d deployments began, %d reached something; the last with %+v", restart, len(starts), len(ends), ends[len(ends)-1].Detail)
		}
		w.noneUnderWay()
	}
}

// movedWithoutB has web moved away from a cluster that refuses to delete one of its
// objects.
func movedWithoutB(t *testing.T) *fakeWorld {
	t.Helper()
	w := newFakeWorld(t)
	w.commit(ada, "web", map[string]string{"belay/clusters.yaml": twoClusters, "belay/web.yaml": webIn("local"), "apps/web/a": "1", "apps/web/b": "1"})
	w.start()
	w.settled("web")
	w.refuses(true, "b")
	w.commit(ada, "move without b", map[string]string{"belay/web.yaml": webIn("other"), "apps/web/b": ""})
	w.says("web", "not deleted: ConfigMap x/b: refused")
	return w
}

// A deletion in a cluster that is not declared any more has nothing to reach either.
func TestADeletionEndsWithItsCluster(t *testing.T) {
	t.Parallel()
	w := movedWithoutB(t)
	_, other, _ := strings.Cut(twoClusters, "---\n")
	w.commit(ada, "local is gone", map[string]string{"belay/clusters.yaml": other})
	w.await("the end of the deletion", func() bool {
		w.e.wake("web")
		return len(w.l.events(belay.EventSuperseded)) == 1
	})
	if end := w.l.events(belay.EventSuperseded)[0]; end.Cluster != "local" || !strings.Contains(end.Message, `cluster "local" is not declared any more`) {
		t.Errorf("it ends as %q in %s", end.Message, end.Cluster)
	}
	w.settled("web")
	w.noneUnderWay()
}

// What an earlier life began in a cluster that the application was moved away from
// left nothing there. The record has that once the cluster answers, also where the
// application goes meanwhile.
func TestNothingIsOwedOfAClusterThatAnswersLate(t *testing.T) {
	for _, goes := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := slowWorld(t)
			w.slow.chance = func(int) bool { return false }
			w.refuses(true, "a")
			w.commit(ada, "web", map[string]string{"belay/clusters.yaml": twoClusters, "belay/web.yaml": webIn("local"), "apps/web/a": "1"})
			w.start()
			w.says("web", "refused")
			w.refuses(false, "a")
			next := w.l.crash(true)
			w.end()
			w.connect("local", false)
			w.commit(ada, "move", map[string]string{"belay/web.yaml": webIn("other")})
			w.l = next
			w.start()
			w.settled("web")
			if goes {
				w.commit(ada, "away", map[string]string{"belay/web.yaml": ""})
				w.says("web", "its objects are deleted when their cluster answers")
			}
			w.connect("local", true)
			w.await("the end in local", func() bool {
				return slices.ContainsFunc(w.l.events(belay.EventSynced), func(ev belay.Event) bool { return ev.Cluster == "local" && ev.Detail.Cleared })
			})
			w.noneUnderWay()
		})
	}
}
