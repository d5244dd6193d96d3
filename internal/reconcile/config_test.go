package reconcile

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// connectors connect each cluster in its own way.
type connectors map[string]func(context.Context) (Cluster, error)

func (c connectors) Connect(ctx context.Context, def belay.Cluster, _ []string, _ func([]string, bool)) (Cluster, error) {
	return c[def.Name](ctx)
}

func (s *shelf) Run(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// Clusters are isolated: one whose credentials do not come holds up no other, and
// what cannot be connected says so at its applications.
func TestClustersAreConnectedAtOnce(t *testing.T) {
	e, _ := movedEngine(t, nil, nil)
	clear(e.clusters)
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); e.running.Wait() }()
	e.runCtx = ctx
	met := make(chan bool)
	meet := func(ctx context.Context) (Cluster, error) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case met <- true:
		case <-met:
		}
		return onShelf(), nil
	}
	e.Connector = connectors{"a": meet, "b": meet, "new": func(context.Context) (Cluster, error) {
		var none *shelf
		return none, errors.New("no kubeconfig")
	}}
	cat := &catalog.Catalog{Clusters: map[string]belay.Cluster{"a": {Name: "a"}, "b": {Name: "b"}, "new": {Name: "new"}}}
	e.catalog = cat
	began := time.Now()
	e.connectClusters(t.Context(), cat)
	if e.clusters["a"].err != nil || e.clusters["b"].err != nil {
		t.Errorf("one waited for the other %v: %v, %v", time.Since(began), e.clusters["a"].err, e.clusters["b"].err)
	}
	if e.clusters["new"].conn != nil {
		t.Error("what could not be connected has a connection")
	}
	if !e.queue.queued[key{keyApp, "web"}] {
		t.Error("its application does not say that the cluster cannot be connected")
	}
	if e.queue.due[key{keyConfig, ""}] == nil {
		t.Error("it is not tried again")
	}
	// Trying again in vain is no news.
	e.queue = newQueue()
	e.clusters["new"].again = time.Now()
	e.connectClusters(t.Context(), cat)
	e.mu.Lock()
	again := e.connecting["new"]
	e.mu.Unlock()
	if again != nil {
		<-again.done
	}
	if len(e.queue.order) != 0 {
		t.Errorf("the same failure woke %v", e.queue.order)
	}
}

type noIndex struct{}

func (noIndex) Set(string, []belay.Read)             {}
func (noIndex) Remove(string)                        {}
func (noIndex) Affected([]belay.PathChange) []string { return nil }
func (noIndex) Paths(string) []string                { return nil }

func (still) Configure([]belay.Repository, map[string][]string) {}

// A Repository that gets the URL of one that is followed already: no ref moves.
func TestAnotherURLOfARepositoryWakesItsApplications(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	e.NewIndex = func() Index { return noIndex{} }
	def := *target.def
	def.Spec.Source.Repo = "charts"
	at := func(url string) *catalog.Catalog {
		return &catalog.Catalog{Applications: map[string]belay.Application{"web": def},
			Repositories: map[string]belay.Repository{"charts": {Name: "charts", Spec: belay.RepositorySpec{URL: url}}}}
	}
	e.enforce(at("https://a.example.com/charts"), belay.Revision{Commit: "c1"}, belay.Revision{})
	e.refs[refKey{url: "https://b.example.com/charts", ref: ""}] = &followed{commit: "b1", index: noIndex{}, apps: map[string]bool{}}
	target.app.dirty, e.queue = false, newQueue()
	e.enforce(at("https://b.example.com/charts"), belay.Revision{Commit: "c2"}, belay.Revision{})
	if !e.queue.queued[key{keyApp, "web"}] {
		t.Error("nobody renders it from where it is now")
	}
	target.app.dirty, e.queue = false, newQueue()
	e.enforce(at("https://b.example.com/charts"), belay.Revision{Commit: "c3"}, belay.Revision{})
	if len(e.queue.order) != 0 {
		t.Errorf("a commit that changed nothing woke %v", e.queue.order)
	}
}

// nobodysSources follow nothing yet.
type nobodysSources struct{ fakeSources }

func (nobodysSources) Poke(string) int { return 0 }

// A hook that comes before the definitions were read is no error of the forge's:
// what was pushed is seen by the first look, which is still to come.
func TestHooksBeforeTheDefinitionsAreRead(t *testing.T) {
	e := New(Options{Repo: fakeRepo, Sources: nobodysSources{}})
	if n, err := e.Poke("https://host/other"); n != 1 || err != nil {
		t.Errorf("before the definitions are read: %d, %v", n, err)
	}
	e.catalog = &catalog.Catalog{}
	if n, err := e.Poke("https://host/other"); n != 0 || err != nil {
		t.Errorf("of a repository that nobody declares: %d, %v", n, err)
	}
}
