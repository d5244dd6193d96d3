package reconcile

import (
	"context"
	"testing"

	"github.com/belaydev/belay"
)

// unheard is a cluster whose answers to deletions get lost.
type unheard struct{ *fakeCluster }

func (c unheard) Connect(_ context.Context, def belay.Cluster, _ []string, notify func([]string, bool)) (Cluster, error) {
	c.name, c.notify = def.Name, notify
	return c, nil
}

func (c unheard) Delete(ctx context.Context, p belay.Permit, l belay.Live) error {
	if err := c.fakeCluster.Delete(ctx, p, l); err != nil {
		return err
	}
	return &belay.Error{Code: belay.CodeUnavailable, Message: "the answer got lost"}
}

// What a hold let go of was not deleted by hand, also where nobody heard that it is
// gone. It comes back when the hold ends, with all that a change takes.
func TestADeletionThatNobodyHeardOfIsNoDrift(t *testing.T) {
	t.Parallel()
	w := newFakeWorld(t)
	one := w.commit(ada, "one", map[string]string{"belay/web.yaml": fakeApp("web"), "apps/web/a": "1"})
	w.make()
	w.e.Connector = unheard{&fakeCluster{shelf: &shelf{}, w: w, l: w.l}}
	w.run()
	w.settled("web")
	w.commit(ada, "two", map[string]string{"apps/web/b": "1"})
	w.settled("web")
	if _, err := w.e.Rollback(context.Background(), "web", belay.RollbackRequest{To: one, Now: true, HoldOnly: true, Reason: "it was good"}, "eve"); err != nil {
		t.Fatal(err)
	}
	w.await("b to go", func() bool { return w.have() == "a" && w.synced("web") == 3 })
	if err := w.e.Release(context.Background(), "web", belay.ReleaseRequest{}, "eve"); err != nil {
		t.Fatal(err)
	}
	w.settled("web")
	if got := w.l.events(belay.EventDrift, belay.EventHealed); len(got) > 0 {
		t.Errorf("told are %+v", got)
	}
}

func TestWhatMayBeGoneIsForgotten(t *testing.T) {
	t.Parallel()
	silent, id := &belay.Error{Code: belay.CodeUnavailable}, belay.ObjectID{Kind: "ConfigMap", Name: "a"}
	for _, tt := range []struct {
		what    string
		cluster string
		act     belay.Action
		err     error
		known   bool
	}{
		{"a deletion", "here", belay.Action{Verb: belay.VerbDelete}, silent, false},
		{"a deletion that was refused", "here", belay.Action{Verb: belay.VerbDelete}, errRefused, true},
		{"a deletion in another cluster", "there", belay.Action{Verb: belay.VerbDelete}, silent, true},
		{"an update", "here", belay.Action{Verb: belay.VerbUpdate}, silent, true},
		{"an update that may make it anew", "here", belay.Action{Verb: belay.VerbUpdate, Manner: belay.Manner{Recreate: true}}, silent, false},
	} {
		a := newApp("web")
		a.cluster, a.syncedIDs = "here", map[belay.ObjectID]string{id: "x"}
		tt.act.ID = id
		if a.noteDoubt(tt.cluster, &tt.act, tt.err); (a.syncedIDs[id] != "") != tt.known {
			t.Errorf("%s: known %v", tt.what, !tt.known)
		}
	}
}
