package reconcile

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

func create(id belay.ObjectID, digest string) *belay.Action {
	return &belay.Action{Verb: belay.VerbCreate, ID: id, Desired: &belay.Object{ID: id, Digest: digest}}
}

// Somebody deletes an object whenever it is created, while the rest of its
// application is not in sync yet.
func TestCreatingAgainAndAgainSlowsDown(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	target.def.Spec.Sync.Automatic = true
	act := create(belay.ObjectID{Kind: "ConfigMap", Namespace: "x", Name: "a"}, "d1")
	for i := range 3 {
		target.planned = time.Now()
		if ok, why := e.allow(target, act); ok != (i < 2) { // created, and created again at once
			t.Fatalf("write %d: %t, %s", i+1, ok, why)
		} else if ok {
			e.outcome(target, act, nil)
		}
	}
	if target.retryAt.IsZero() {
		t.Error("it is never tried again")
	}
}

func TestAnotherClusterIsANewBeginning(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	target.def.Spec.Sync.Automatic, target.def.Spec.Sync.SelfHeal = true, false
	a := target.app
	a.deliverTo("old")
	act := create(belay.ObjectID{Kind: "ConfigMap", Namespace: "x", Name: "a"}, "d1")
	e.outcome(target, act, nil)
	a.deliverTo("old")
	if !a.undone(act) {
		t.Error("forgot what it did in the same cluster")
	}
	a.deliverTo("new")
	if ok, why := e.allow(target, act); !ok {
		t.Errorf("not delivered to its new cluster: %s", why)
	}
	for _, id := range []string{"", "uid-1", "", "uid-1"} {
		a.standsIn(id)
	}
	e.outcome(target, act, nil)
	a.standsIn("")
	if !a.undone(act) {
		t.Error("forgot what it did in a cluster that does not tell which it is")
	}
	a.standsIn("uid-2")
	if ok, why := e.allow(target, act); !ok || a.undone(act) {
		t.Errorf("not delivered to the cluster that was built anew: %s", why)
	}
}

func TestWhatIsNotDeclaredAnyMoreIsForgotten(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	a := target.app
	stays, goes := belay.ObjectID{Kind: "ConfigMap", Name: "stays"}, belay.ObjectID{Kind: "ConfigMap", Name: "goes"}
	for _, id := range []belay.ObjectID{stays, goes} {
		e.outcome(target, create(id, "d1"), nil)
		e.outcome(target, create(id, "d1"), nil) // a heal
		e.outcome(target, create(id, "d2"), errors.New("refused"))
		a.drifted[id] = "deleted"
	}
	a.forgetUndeclared(&desired{objects: []declared{{id: stays}}})
	if len(a.heals) != 1 || len(a.fails) != 1 || len(a.drifted) != 1 || len(a.syncedIDs) != 1 {
		t.Errorf("%d heals, %d failures, %d drifts and %d objects are remembered, of one that is declared", len(a.heals), len(a.fails), len(a.drifted), len(a.syncedIDs))
	}
	gone := &belay.Action{Verb: belay.VerbDelete, ID: goes}
	e.outcome(target, gone, errors.New("refused"))
	a.forgetUndeclared(&desired{})
	if a.fails[goes] == nil {
		t.Error("the backoff of a deletion is forgotten")
	}
}

// The end of an object that another application is deleting wakes that one alone.
func TestWaitingForTheEndOfAnothersObject(t *testing.T) {
	l := configMap("other", "a", "1")
	l.Deleting = true
	now := onShelf(l)
	e, target := movedEngine(t, onShelf(), now)
	o, err := belay.NewObject([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"x"}}`), belay.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	p, gate := e.plan(target, []belay.Object{o})
	if step := plan.Frontier(&p, gate); len(step.Run) != 0 {
		t.Fatalf("writes %v", step.Run)
	}
	if target.retryAt.IsZero() {
		t.Error("nothing wakes the application when the object is gone")
	}
}

type panicky struct{}

func (panicky) Render(context.Context, Files, RenderRequest) (Rendered, error) { panic("a defect") }

func (still) Open(context.Context, string, string) (Files, error) { return nil, nil }

func (still) Status() []belay.RepositoryStatus { return nil }

// A defect that strikes one application holds nobody else up.
func TestADefectStopsAtItsApplication(t *testing.T) {
	now := onShelf()
	e, target := movedEngine(t, onShelf(), now)
	e.Renderer = panicky{}
	target.app.dirty = true
	e.await("new", "other")
	e.apps["other"] = newApp("other")
	e.one(t.Context(), key{keyApp, "web"})
	e.mu.Lock()
	defer e.mu.Unlock()
	if why := e.unsettled("new"); why != "" {
		t.Errorf("nothing is deleted any more: %s", why)
	}
	if !e.queue.queued[key{keyApp, "other"}] {
		t.Error("who waited is not woken")
	}
	if !target.app.dirty || e.queue.due[key{keyApp, "web"}] == nil {
		t.Error("it is not rendered again")
	}
}

type failing struct{ renders int }

func (f *failing) Render(context.Context, Files, RenderRequest) (Rendered, error) {
	f.renders++
	return Rendered{Reads: []belay.Read{{Path: "chart"}}}, &belay.Error{Code: belay.CodeInvalid, Message: "needs another Kubernetes"}
}

func (still) History(context.Context, string, string, []string, int) ([]string, error) {
	return nil, nil
}

// What fails is rendered again when anything it depends on changed: a commit, the
// definition or the cluster, and not before.
func TestAFailedRenderIsTriedWithAnotherCluster(t *testing.T) {
	now := onShelf()
	e, target := movedEngine(t, onShelf(), now)
	f := &failing{}
	e.Renderer = f
	target.app.dirty, target.rev = true, belay.Revision{Commit: "c1"}
	for i, step := range []struct {
		version, path string
		renders       int
	}{{"v1", "a", 1}, {"v1", "a", 1}, {"v2", "a", 2}, {"v2", "b", 3}, {"v2", "b", 3}} {
		now.version = step.version
		def := *target.def
		def.Spec.Source.Path = step.path
		target.def = &def
		if _, err := e.renderDesired(t.Context(), target); err == nil || f.renders != step.renders {
			t.Fatalf("step %d: %d renders, %v", i, f.renders, err)
		}
	}
}

// A CustomResourceDefinition that one application lets go may have been taken up
// by one that cannot be read, and its objects would go with it.
func TestClusterObjectsAreKeptForWhoCannotBeRead(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	target.app.cannot = true
	crd := belay.ObjectID{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition", Name: "things.example.com"}
	if other := e.keptFor("new", crd, "other"); other != "web" {
		t.Errorf("kept for %q", other)
	}
	limited := belay.OpenProject()
	limited.Spec.ClusterKinds = nil
	e.catalog.Projects = map[string]belay.Project{target.def.Spec.Project: limited}
	if other := e.keptFor("new", crd, "other"); other != "" {
		t.Errorf("kept for %q, which may not have it", other)
	}
}

// shared is a repository of which one application follows a tag that is not there.
type shared struct{ still }

func (shared) Check(context.Context, string) error { return errors.New("has no tag v9") }

func (s shared) Revision(url, ref string) (belay.Revision, error) {
	if ref == "v9" {
		return belay.Revision{}, errors.New("has no tag v9")
	}
	return s.still.Revision(url, ref)
}

func TestTheRefOfAnotherKeepsNobodyFromSyncing(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	e.Repo, e.Ref, e.Sources = "config", "main", shared{}
	target.app.ref = refKey{url: "apps", ref: "main"}
	other := newApp("other")
	other.def, other.ref = target.def, refKey{url: "apps", ref: "v9"}
	e.apps["other"] = other
	if _, _, err := e.Sync(t.Context(), belay.SyncRequest{Applications: []string{"web"}}, "me"); err != nil {
		t.Errorf("sync of one whose ref is there: %v", err)
	}
	if _, _, err := e.Sync(t.Context(), belay.SyncRequest{Applications: []string{"other"}}, "me"); err == nil {
		t.Error("sync of one whose ref is not there: no error")
	}
	if !target.app.manual || !other.manual {
		t.Error("a request was not noted")
	}
}

// An application whose prune waits for another that cannot be read waits in peace,
// and goes on when that one can be read.
func TestAPruneThatIsKeptWaitsInPeace(t *testing.T) {
	t.Parallel()
	w := fleet(t)
	w.start()
	w.settled("web", "api")
	w.commit(ada, "broken", map[string]string{"apps/api/c": "broken"})
	w.says("api", "does not render")
	w.commit(ada, "less", map[string]string{"apps/web/b": ""})
	w.says("web", "api")
	w.await("rest", w.e.Settled)
	w.e.wake("web") // as anything in its namespace does
	w.await("rest, and not round after round", w.e.Settled)
	if got := w.have(); got != "a b c secret" {
		t.Errorf("there are %s", got)
	}
	w.commit(ada, "mended", map[string]string{"apps/api/c": "2"})
	w.await("b to go", func() bool { return w.have() == "a c secret" })
}
