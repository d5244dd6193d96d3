package reconcile

import (
	"errors"
	"testing"

	"github.com/belaydev/belay"
)

// unsure is a cluster that answers again right after it was asked whether it does.
type unsure struct {
	*shelf
	asked int
}

func (u *unsure) Ready() error {
	if u.asked++; u.asked == 1 {
		return errors.New("connection refused")
	}
	return nil
}

// An application that left Git and may have objects in a cluster that does not answer
// is not forgotten in the very moment in which the cluster does: that looks for those
// nobody knows, and would not find this one.
func TestAClusterThatAnswersBeforeAnApplicationIsForgotten(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	e.clusters["old"].conn = &unsure{shelf: onShelf(belay.Live{ID: configMapID("a"), Application: "web", Namespaced: true})}
	target.app.def = nil
	delete(e.catalog.Applications, "web")
	e.teardown(t.Context(), target.app)
	if e.apps["web"] == nil || !e.queue.queued[key{keyApp, "web"}] {
		t.Error("it is forgotten, and what it has stays for ever")
	}
}
