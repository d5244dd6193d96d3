package reconcile

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// still is a source that stands at one commit.
type still struct{ Sources }

func (still) Revision(url, ref string) (belay.Revision, error) {
	return belay.Revision{Repo: url, Ref: ref, Commit: "c1"}, nil
}

// shelf is a cluster in memory. Its objects may stand on several shelves.
type shelf struct {
	Cluster
	ready   error
	version string
	objects map[belay.ObjectID]belay.Live
	deleted []string
}

func (s *shelf) NamespaceDiffers(string, string, belay.NamespaceMetadata) bool { return false }

func (s *shelf) Ready() error { return s.ready }

func (s *shelf) SetHealthRules(belay.HealthChecks) {}

func (s *shelf) Coming(string) bool { return false }

func (s *shelf) Tried() bool { return true }

func (s *shelf) Event(context.Context, belay.ObjectID, bool, string, string) {}

func (s *shelf) Facts() belay.ClusterFacts {
	return belay.ClusterFacts{Version: s.version, Digest: s.version, Kinds: map[belay.VersionKind]belay.KindFacts{{APIVersion: "v1", Kind: "ConfigMap"}: {Resource: "configmaps", Namespaced: true}}}
}

func (s *shelf) Lookup(id belay.ObjectID) (belay.Live, bool) { l, ok := s.objects[id]; return l, ok }

func (s *shelf) Applications() []string {
	var out []string
	for _, l := range s.objects {
		out = append(out, l.Application)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s *shelf) Live(application string) []belay.Live {
	var out []belay.Live
	for _, l := range s.objects {
		if l.Application == application {
			out = append(out, l)
		}
	}
	return out
}

func (s *shelf) Delete(_ context.Context, _ belay.Permit, l belay.Live) error {
	s.deleted = append(s.deleted, l.ID.Name)
	delete(s.objects, l.ID)
	return nil
}

func configMap(application, name, uid string) belay.Live {
	return belay.Live{ID: belay.ObjectID{Kind: "ConfigMap", Namespace: "x", Name: name}, UID: uid, Application: application, Namespaced: true}
}

func onShelf(objects ...belay.Live) *shelf {
	s := &shelf{objects: map[belay.ObjectID]belay.Live{}}
	for _, l := range objects {
		s.objects[l.ID] = l
	}
	return s
}

// movedEngine knows the application "web", which was moved from cluster "old" to "new".
func movedEngine(t *testing.T, old, now *shelf) (*Engine, *target) {
	t.Helper()
	spec := belay.DefaultApplicationSpec()
	spec.Destination = belay.Destination{Cluster: "new", Namespace: "x"}
	spec.Sync.Automatic = false
	def := belay.Application{Name: "web", Spec: spec}
	e := New(Options{Sources: still{}, Logger: slog.New(slog.DiscardHandler)})
	e.runCtx = t.Context()
	e.config = belay.Revision{Commit: "c1"}
	e.considered = e.config
	e.catalog = &catalog.Catalog{Applications: map[string]belay.Application{"web": def}}
	a := newApp("web")
	a.def, a.last, a.lived, a.read, a.dirty = &def, &def, true, true, false
	e.apps["web"] = a
	e.clusters["old"], e.clusters["new"] = &cluster{conn: old}, &cluster{conn: now}
	e.claims["old"], e.claims["new"] = newClaims(), newClaims()
	project := belay.OpenProject()
	return e, &target{app: a, def: &def, project: &project, cluster: "new", conn: now, desired: &desired{}}
}

func TestStraysAreDeletedWhereTheyWereLeft(t *testing.T) {
	old, now := onShelf(configMap("web", "a", "1"), configMap("other", "b", "2")), onShelf(configMap("web", "a", "3"))
	e, target := movedEngine(t, old, now)
	left, err := e.strays(t.Context(), target)
	if left != 0 || err != nil || !slices.Equal(old.deleted, []string{"a"}) || now.deleted != nil {
		t.Errorf("%d left, %v, deleted %v and %v", left, err, old.deleted, now.deleted)
	}
	if target.app.manual {
		t.Error("the application will sync once without being asked")
	}
}

func TestAClusterByTwoNamesHasNoStrays(t *testing.T) {
	one := onShelf(configMap("web", "a", "1"))
	e, target := movedEngine(t, one, one)
	left, err := e.strays(t.Context(), target)
	if left != 0 || err != nil || one.deleted != nil {
		t.Errorf("%d left, %v, deleted %v", left, err, one.deleted)
	}
}

// A cluster that answers only after the application stands in its new one.
func TestStraysOfALateClusterWakeTheirApplication(t *testing.T) {
	old, now := onShelf(configMap("web", "a", "1")), onShelf(configMap("web", "a", "3"))
	old.ready = &belay.Error{Code: belay.CodeUnavailable, Message: "connecting"}
	e, target := movedEngine(t, old, now)
	if left, err := e.strays(t.Context(), target); left != 0 || err != nil || old.deleted != nil {
		t.Fatalf("%d left, %v, deleted %v", left, err, old.deleted)
	}
	old.ready = nil
	e.clusterChanged("old", nil, true)
	if !e.queue.queued[key{keyApp, "web"}] {
		t.Error("nobody looks at what was left in the former cluster")
	}
}

// One of several Belays leaves alone what is declared for the cluster of another.
func TestOnlyClusterLeavesWhatIsDeclaredElsewhere(t *testing.T) {
	old := onShelf(configMap("web", "a", "1"))
	e, target := movedEngine(t, old, onShelf())
	e.OnlyCluster = "old"
	delete(e.clusters, "new")
	target.app.def, target.app.last, target.app.lived = nil, nil, false
	e.teardown(t.Context(), target.app)
	if old.deleted != nil || !strings.Contains(target.app.status.Message, `declared for cluster "new"`) {
		t.Errorf("deleted %v, and says %q", old.deleted, target.app.status.Message)
	}
}

// Objects that their application was not to delete stay when it goes, and are not
// looked up in Git's history whenever they change.
func TestReleasedObjectsAreNoOrphans(t *testing.T) {
	old := onShelf(configMap("web", "a", "1"))
	e, target := movedEngine(t, old, onShelf())
	target.def.Spec.Sync.Prune = false
	target.app.def = nil
	e.catalog = &catalog.Catalog{}
	e.teardown(t.Context(), target.app)
	if old.deleted != nil || e.apps["web"] != nil {
		t.Fatalf("deleted %v, and known is %v", old.deleted, e.apps["web"])
	}
	e.clusterChanged("old", []string{"web"}, false)
	if e.apps["web"] != nil {
		t.Error("taken for an orphan")
	}
}
