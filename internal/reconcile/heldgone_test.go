package reconcile

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

// A hold ends also where nothing is left of its application: it has left Git, its
// objects were deleted by hand, and another process goes on.
func TestAHoldOfWhatIsGoneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWorld(t)
		one := w.commit(ada, "one", map[string]string{"belay/web.yaml": fakeApp("web"), "apps/web/a": "1", "belay/api.yaml": fakeApp("api"), "apps/api/c": "1"})
		w.start()
		w.settled("web", "api")
		w.commit(ada, "two", map[string]string{"apps/web/a": "2"})
		w.settled("web")
		if _, err := w.e.Rollback(context.Background(), "web", belay.RollbackRequest{To: one, Now: true, HoldOnly: true, Reason: "it was good", For: "1h"}, "eve"); err != nil {
			t.Fatal(err)
		}
		w.says("web", "held at")
		w.commit(ada, "three", map[string]string{"belay/web.yaml": ""})
		w.says("web", "it has left Git")
		w.end()
		w.lose("a")
		w.l = w.l.crash(true)
		w.start()
		w.settled("api")
		w.says("web", "it has left Git")
		time.Sleep(2 * time.Hour)
		if held := w.l.Holds(); len(held) > 0 {
			t.Errorf("in force are %+v", held)
		}
		if _, err := w.e.Application("web"); belay.CodeOf(err) != belay.CodeNotFound {
			t.Errorf("it is still there: %v", err)
		}
	})
}
