package reconcile

import "testing"

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
