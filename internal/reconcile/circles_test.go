package reconcile

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

// An application that waits for another, and whose definition then turns out to be
// wrong, does not wake itself without end.
func TestWhoWaitsAndCannotBeReadRests(t *testing.T) {
	w := newFakeWorld(t)
	w.commit(ada, "a waits for b", map[string]string{
		"belay/a.yaml": fakeApp("a", "  dependsOn: [{name: b}]\n"), "apps/a/a": "1",
		"belay/b.yaml": fakeApp("b", "  suspend: {reason: a test}\n"), "apps/b/b": "1"})
	w.start()
	w.says("a", "waits for b")
	w.commit(ada, "b waits for a", map[string]string{"belay/b.yaml": fakeApp("b", "  dependsOn: [{name: a}]\n")})
	w.says("a", "goes round in a circle")
	w.await("rest", w.e.queue.idle)
	w.commit(ada, "b waits for nobody", map[string]string{"belay/b.yaml": fakeApp("b")})
	w.settled("a", "b")
}

// A write may be done although its answer gets lost. That failure is over once the
// object is seen to be right: what is written later is no retry of it.
func TestFailureIsOverOnceAllIsRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := slowWorld(t)
		w.slow.lossy.Store(true)
		w.commit(ada, "a", map[string]string{"belay/a.yaml": fakeApp("a"), "apps/a/a": "1"})
		w.start()
		w.settled("a")
		if w.e.Stats().Failures.Load() == 0 {
			t.Fatal("no answer got lost")
		}
		w.slow.lossy.Store(false)
		before := len(w.l.events(belay.EventRetried))
		w.lose("a")
		w.await("the heal", func() bool { return len(w.l.events(belay.EventHealed)) == 1 })
		w.settled("a")
		if again := w.l.events(belay.EventRetried); len(again) > before {
			t.Errorf("told as a retry: %s", again[before].Message)
		}
	})
}

// What an application that leaves Git was about ends with it, also where its objects
// stay and the process has died. The cluster answers when the definitions are read.
func TestWhatStaysLeavesNoDeploymentOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := slowWorld(t)
		w.refuse["a2"] = true
		w.commit(ada, "a", map[string]string{"belay/a.yaml": fakeApp("a", "  sync: {prune: false}\n"), "apps/a/a1": "1", "apps/a/a2": "1", "belay/b.yaml": fakeApp("b")})
		w.start()
		w.says("a", "refused")
		next := w.l.crash(true)
		w.end()
		w.commit(ada, "away", map[string]string{"belay/a.yaml": ""})
		w.l = next
		w.start()
		w.await("the end of the deployment", func() bool { return len(w.l.events(belay.EventSuperseded)) == 1 })
		if have := w.have(); have != "a1" {
			t.Errorf("there is %s", have)
		}
	})
}

// slowWorld has clusters that take as long as they can for everything.
func slowWorld(t *testing.T) *fakeWorld {
	w := newFakeWorld(t)
	w.slow = &slowness{pause: func(most time.Duration) time.Duration { return most }, chance: func(int) bool { return true }, offline: map[string]bool{}}
	w.judge = func(standing, string, *belay.Action) {}
	return w
}
