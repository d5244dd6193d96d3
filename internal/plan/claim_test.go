package plan_test

import (
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// TestAClaimHoldsNoWaveUp: a volume claim that is bound by its first consumer
// would wait for the wave that waits for it.
func TestAClaimHoldsNoWaveUp(t *testing.T) {
	claim := belay.Object{ID: belay.ObjectID{Kind: "PersistentVolumeClaim", Namespace: "x", Name: "data"}}
	other := belay.Object{ID: belay.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "x", Name: "other"}}
	pod := belay.Object{ID: belay.ObjectID{Kind: "Pod", Namespace: "x", Name: "consumer"}, Wave: 1}
	p := belay.Plan{Actions: []belay.Action{{Verb: belay.VerbCreate, ID: pod.ID, Desired: &pod, Wave: 1}}}
	for _, tc := range []struct {
		first  belay.Object
		health belay.Health
		runs   bool
	}{
		{claim, belay.Progressing, true}, {claim, belay.Degraded, false}, {other, belay.Progressing, false}, {other, belay.Healthy, true},
	} {
		step := plan.Frontier(&p, plan.Gate{
			Desired: []belay.Object{tc.first, pod},
			Lookup: func(id belay.ObjectID) (belay.Live, bool) {
				return belay.Live{ID: id, Health: tc.health, Established: true}, id == tc.first.ID
			},
			Served: func(*belay.Object) bool { return true },
			Allow:  func(*belay.Action) (bool, string) { return true, "" },
		})
		if got := len(step.Run) == 1; got != tc.runs {
			t.Errorf("after %s which is %s: runs %v, waiting %q", tc.first.ID, tc.health, got, step.Waiting)
		}
	}
}
