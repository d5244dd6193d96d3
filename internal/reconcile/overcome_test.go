package reconcile

import (
	"testing"

	"github.com/belaydev/belay"
)

// That an application is where it is to be says nothing of what it left behind in
// another cluster: the pauses between tries there grow.
func TestFailuresElsewhereAreNotOvercome(t *testing.T) {
	_, target := movedEngine(t, onShelf(), onShelf())
	a, id := target.app, belay.ObjectID{Kind: "ConfigMap", Namespace: "x", Name: "left"}
	target.desired = &desired{}
	for cluster, kept := range map[string]bool{"elsewhere": true, target.cluster: false} {
		a.fails[id] = &attempt{digest: string(belay.VerbDelete), cluster: cluster}
		if a.overcome(target); (a.fails[id] != nil) != kept {
			t.Errorf("in %q: kept %v", cluster, !kept)
		}
	}
}
