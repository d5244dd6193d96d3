package reconcile

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

// slowConnector connects each cluster where its context says, after a while.
type slowConnector struct {
	w     *fakeWorld
	after map[string]time.Duration // by context; an hour is for ever
}

func (c slowConnector) Connect(ctx context.Context, def belay.Cluster, _ []string, notify func([]string, bool)) (Cluster, error) {
	select {
	case <-time.After(c.after[def.Spec.Context]):
	case <-ctx.Done():
		return nil, &belay.Error{Code: belay.CodeUnavailable, Message: "its credentials do not come"}
	}
	return &fakeCluster{shelf: &shelf{}, name: def.Spec.Context, w: c.w, l: c.w.l, notify: notify}, nil
}

func fakeClusterIn(name, kubeContext string) string {
	return "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: " + name + "}\nspec: {context: " + kubeContext + "}\n"
}

func onCluster(name, cluster string) string {
	return strings.Replace(fakeApp(name), "{namespace: x}", "{namespace: x, cluster: "+cluster+"}", 1)
}

// reach waits in fake time until something is so, and says how long that took.
func (w *fakeWorld) reach(what string, done func() bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	for range 1000 {
		synctest.Wait()
		if done() {
			return time.Since(began)
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.t.Fatalf("waited in vain for %s: %+v", what, w.e.Status())
	return 0
}

func (w *fakeWorld) valueIn(cluster, name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return valueOf(w.raw[standing{cluster, configMapID(name)}])
}

// A cluster whose credentials do not come holds up no commit for the others, and says
// so at its own applications.
func TestAClusterThatDoesNotConnectHoldsUpNoCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		w.commit(ada, "Declare", map[string]string{"belay/a.yaml": fakeClusterIn("near", "near"), "belay/b.yaml": fakeClusterIn("far", "far"),
			"belay/web.yaml": onCluster("web", "near"), "belay/api.yaml": onCluster("api", "far"), "apps/web/a": "1", "apps/api/b": "1"})
		w.connector = slowConnector{w, map[string]time.Duration{"far": time.Hour}}
		w.start()
		defer w.end()
		w.reach("the first sync", func() bool { return w.valueIn("near", "a") == "1" })
		w.reach("the reason", func() bool {
			st, err := w.e.Application("api")
			return err == nil && strings.Contains(st.Message, `cluster "far" is being connected`)
		})
		for i, v := range []string{"2", "3", "4"} {
			time.Sleep(7 * time.Second)
			w.commit(ada, "Change", map[string]string{"apps/web/a": v, "belay/web.yaml": onCluster("web", "near") + strings.Repeat("\n", i)})
			if took := w.reach("the sync to "+v, func() bool { return w.valueIn("near", "a") == v }); took > time.Second {
				t.Errorf("%s took %s", v, took)
			}
		}
		w.reach("the reason", func() bool {
			st, err := w.e.Application("api")
			return err == nil && strings.Contains(st.Message, "its credentials do not come")
		})
	})
}

// A commit that says that a cluster is elsewhere by now, and changes manifests: what
// was declared before never comes there, and it gets what is declared when it is
// reached.
func TestAClusterThatMovesGetsNothingOfTheCommitBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		w.commit(ada, "Declare", map[string]string{"belay/a.yaml": fakeClusterIn("near", "one"), "belay/web.yaml": onCluster("web", "near"), "apps/web/a": "1"})
		w.connector = slowConnector{w, map[string]time.Duration{"two": 5 * time.Second}}
		w.start()
		defer w.end()
		w.reach("the first sync", func() bool { return w.valueIn("one", "a") == "1" })
		for range 3 {
			w.commit(ada, "Move", map[string]string{"belay/a.yaml": fakeClusterIn("near", "two"), "apps/web/a": "2"})
			w.e.wake("web")
		}
		w.reach("the sync where it is now", func() bool {
			w.e.wake("web")
			if got := w.valueIn("two", "a"); got != "2" && got != "no object" {
				t.Fatalf("the commit before came to the new place: %s", got)
			}
			return w.valueIn("two", "a") == "2"
		})
		if got := w.valueIn("one", "a"); got != "1" {
			t.Errorf("the new commit came to the old place: %s", got)
		}
		w.reach("rest", w.e.Settled)
	})
}

// A Project that names another tool of people asks for new connections. Where one
// cannot be made now, the one that is there does until it can.
func TestAConnectionThatWorksIsKeptUntilThereIsAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		w.commit(ada, "Declare", map[string]string{"belay/a.yaml": fakeClusterIn("near", "near"), "belay/web.yaml": onCluster("web", "near"), "apps/web/a": "1"})
		after := map[string]time.Duration{}
		w.connector = slowConnector{w, after}
		w.start()
		defer w.end()
		w.reach("the first sync", func() bool { return w.valueIn("near", "a") == "1" })
		after["near"] = time.Hour
		w.commit(ada, "Name a tool", map[string]string{"belay/team.yaml": limits("x") + "  interactiveManagers: [k9s-fork]\n", "apps/web/a": "2"})
		w.reach("the sync over the old connection", func() bool { return w.valueIn("near", "a") == "2" })
		time.Sleep(time.Minute)
		w.commit(ada, "Change", map[string]string{"apps/web/a": "3"})
		w.reach("the sync after failures", func() bool { return w.valueIn("near", "a") == "3" })
		w.e.mu.Lock()
		old := w.e.clusters["near"]
		w.e.mu.Unlock()
		after["near"] = 0
		w.reach("the new connection", func() bool {
			w.e.mu.Lock()
			defer w.e.mu.Unlock()
			return w.e.clusters["near"] != old && w.e.clusters["near"].err == nil
		})
	})
}
