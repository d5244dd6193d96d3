package reconcile

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// fakeConnector gives the clusters.
type fakeConnector struct{ w *fakeWorld }

func (c fakeConnector) Connect(_ context.Context, def belay.Cluster, _ []string, notify func([]string, bool)) (Cluster, error) {
	fast := &fakeCluster{shelf: &shelf{}, name: def.Name, w: c.w, l: c.w.l, notify: notify}
	if c.w.slow == nil {
		return fast, nil
	}
	return newSlowCluster(fast), nil
}

// fakeCluster does everything at once. It belongs to one life of the engine.
type fakeCluster struct {
	*shelf
	name   string
	w      *fakeWorld
	l      *ledger
	notify func([]string, bool)
}

func (c *fakeCluster) Run(ctx context.Context) error {
	c.notify(nil, true)
	<-ctx.Done()
	return nil
}

func (c *fakeCluster) Status() belay.ClusterStatus                    { return belay.ClusterStatus{Ready: true} }
func (c *fakeCluster) Observe([]belay.VersionKind) bool               { return true }
func (c *fakeCluster) Verified(id belay.ObjectID, fingerprint string) {}
func (c *fakeCluster) Facts() belay.ClusterFacts {
	kinds := map[belay.VersionKind]belay.KindFacts{}
	for _, k := range []string{"ConfigMap", "Secret"} {
		kinds[belay.VersionKind{APIVersion: "v1", Kind: k}] = belay.KindFacts{Resource: strings.ToLower(k) + "s", Namespaced: true}
	}
	kinds[belay.VersionKind{APIVersion: "batch/v1", Kind: "Job"}] = belay.KindFacts{Resource: "jobs", Namespaced: true}
	return belay.ClusterFacts{Version: "v1", Digest: "v1", Kinds: kinds}
}

func (c *fakeCluster) Lookup(id belay.ObjectID) (belay.Live, bool) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	l, ok := c.w.objects[standing{c.name, id}]
	return l, ok
}

func (c *fakeCluster) Live(application string) []belay.Live {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	var out []belay.Live
	for at, l := range c.w.objects {
		if at.cluster == c.name && l.Application == application {
			out = append(out, l)
		}
	}
	return out
}

func (c *fakeCluster) Applications() []string {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	var out []string
	for at, l := range c.w.objects {
		if at.cluster == c.name {
			out = append(out, l.Application)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (c *fakeCluster) Apply(_ context.Context, _ belay.Permit, a belay.Action) (belay.Live, error) {
	if err := c.l.write(a.ID.String()); err != nil {
		return belay.Live{}, err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.w.refuse[a.ID.Name] {
		return belay.Live{}, errRefused
	}
	l, err := asApplied(a)
	if err != nil {
		return l, err
	}
	l.UID = c.name + "/" + a.ID.Name
	c.w.put(standing{c.name, a.ID}, l, a.Desired.Raw)
	return l, nil
}

var errRefused = &belay.Error{Code: belay.CodeInvalid, Message: "refused"}

// asApplied is what an action makes, but for its UID.
func asApplied(a belay.Action) (belay.Live, error) {
	var m struct {
		APIVersion string
		Metadata   struct{ Annotations map[string]string }
	}
	if err := json.Unmarshal(a.Desired.Raw, &m); err != nil {
		return belay.Live{}, err
	}
	app, _, _ := belay.ParseID(m.Metadata.Annotations[belay.AnnotationID])
	l := belay.Live{ID: a.ID, APIVersion: m.APIVersion, Application: app, Digest: a.Desired.Digest, Namespaced: true, Health: belay.Healthy, Established: true}
	if mark, ok := m.Metadata.Annotations[belay.AnnotationHookRun]; ok {
		l.Hook = &belay.LiveHook{Since: time.Now()}
		l.Hook.Run, l.Hook.Phase = belay.ParseHookRun(mark)
	}
	return l, nil
}

// put has an object stand in a cluster. Called with mu.
func (w *fakeWorld) put(at standing, l belay.Live, raw json.RawMessage) {
	w.objects[at], w.raw[at] = l, raw
	delete(w.byHand, at)
}

func (c *fakeCluster) Delete(_ context.Context, _ belay.Permit, l belay.Live) error {
	if err := c.l.write(l.ID.String()); err != nil {
		return err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.w.refuse[l.ID.Name] {
		return errRefused
	}
	at := standing{c.name, l.ID}
	delete(c.w.objects, at)
	delete(c.w.raw, at)
	go c.notify([]string{l.Application}, false)
	return nil
}

// lose takes an object out of the clusters behind the engine's back.
func (w *fakeWorld) lose(name string) {
	w.mu.Lock()
	app := ""
	for at, l := range w.objects {
		if at.Name == name {
			app, w.byHand[at] = l.Application, true
			w.remove(at)
		}
	}
	w.mu.Unlock()
	if w.slow == nil {
		w.e.wake(app)
	}
}

// remove takes an object out of a cluster. Called with mu.
func (w *fakeWorld) remove(at standing) {
	l := w.objects[at]
	delete(w.objects, at)
	delete(w.raw, at)
	w.changed(at.cluster, l, true)
}
