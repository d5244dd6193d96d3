package reconcile

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

// What hooks leave behind, where it cannot be cleared away at once.

// leaving has an application that is delivered with a hook, which has run.
func leaving(t *testing.T, more string) *fakeWorld {
	t.Helper()
	w := newFakeWorld(t)
	w.commit(ada, "one", map[string]string{"belay/web.yaml": fakeApp("web", more), "belay/api.yaml": fakeApp("api"),
		"apps/web/a": "1", "apps/web/web-postsync": "works", "apps/api/c": "1"})
	w.start()
	w.settled("api")
	return w
}

// ask has somebody ask for a sync of an application.
func (w *fakeWorld) ask(name string) {
	w.t.Helper()
	if _, _, err := w.e.Sync(context.Background(), belay.SyncRequest{Applications: []string{name}}, "eve"); err != nil {
		w.t.Fatal(err)
	}
}

// synced is how often it was told that an application is synced.
func (w *fakeWorld) synced(name string) int { return len(of(w.l.events(belay.EventSynced), name)) }

// Whoever asks for a sync asks for the clearing, too, also where that has to wait
// for others to be read, and for no more than that.
func TestWhoAsksHasTheObjectsOfHooksCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := leaving(t, "  sync: {automatic: false}\n")
		w.says("web", "automatic sync is off")
		w.ask("web")
		w.settled("web")
		w.commit(ada, "two", map[string]string{"apps/web/web-postsync": ""})
		w.settled("web")
		read := func(yes bool) {
			w.e.mu.Lock()
			w.e.apps["api"].read = yes
			w.e.mu.Unlock()
		}
		read(false)
		before := w.synced("web")
		w.ask("web")
		w.await("the end of the sync", func() bool { return w.synced("web") > before })
		if got := w.have(); got != "a c web-postsync" {
			t.Fatalf("before api was read there are %s", got)
		}
		w.lose("a")
		w.says("web", "automatic sync is off")
		read(true)
		w.e.wereRead()
		w.await("the Job to go", func() bool { return w.have() == "c" })
		synctest.Wait()
		if got := w.have(); got != "c" {
			t.Errorf("nobody asked for more, and there are %s", got)
		}
	})
}

// A request that came while an earlier state was reached is not taken for done with it.
func TestARequestIsNotOverBeforeItIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := leaving(t, "  sync: {automatic: false}\n")
		w.says("web", "automatic sync is off")
		heard := make(chan struct{})
		late := func(name string) {
			if name != "group" {
				return
			}
			w.last.Store(nil)
			w.commit(ada, "two", map[string]string{"apps/web/a": "2"})
			w.ask("web")
			close(heard)
		}
		w.last.Store(&late)
		w.ask("web")
		<-heard
		w.settled("web")
	})
}

// What could not be deleted is tried again, as is what waits for a window when it
// opens: nobody else would wake the application.
func TestTheObjectsOfHooksAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := leaving(t, "")
		w.settled("web")
		w.refuse["web-postsync"] = true
		w.commit(ada, "two", map[string]string{"apps/web/web-postsync": ""})
		w.await("a refusal", func() bool {
			events := w.l.events(belay.EventHook)
			return strings.Contains(events[len(events)-1].Message, "not deleted")
		})
		w.settled("web")
		w.mu.Lock()
		w.refuse["web-postsync"] = false
		w.mu.Unlock()
		time.Sleep(10 * time.Second)
		if got := w.have(); got != "a c" {
			t.Errorf("after a refusal there are %s", got)
		}
	})
}

func TestTheObjectsOfHooksWaitForAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := leaving(t, "  project: shop\n")
		w.commit(ada, "two", map[string]string{"belay/shop.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: shop}\nspec:\n" +
			"  sources: [{repo: \"**\"}]\n  destinations: [{}]\n  windows: [{kind: allow, schedule: \"0 * * * *\", duration: 10m}]\n"})
		w.settled("web")
		time.Sleep(15 * time.Minute) // bubbles begin at an hour
		w.commit(ada, "three", map[string]string{"apps/web/web-postsync": ""})
		w.settled("web")
		if got := w.have(); got != "a c web-postsync" {
			t.Errorf("outside of its window there are %s", got)
		}
		time.Sleep(time.Hour)
		if got := w.have(); got != "a c" {
			t.Errorf("after its window there are %s", got)
		}
	})
}
