package reconcile

import (
	"maps"
	"slices"
	"testing"

	"github.com/belaydev/belay"
)

// keptRuns are runs in memory, of one cluster.
type keptRuns map[string]belay.HookRecord

func (k keptRuns) Known(_, application string) (belay.HookRecord, bool) {
	r, ok := k[application]
	return r, ok
}
func (k keptRuns) All() []belay.HookRecord { return slices.Collect(maps.Values(k)) }
func (k keptRuns) Remember(r belay.HookRecord) error {
	k[r.Application] = r
	return nil
}
func (k keptRuns) Note(r belay.HookRecord) error { return k.Remember(r) }
func (k keptRuns) Forget(_, application string) error {
	delete(k, application)
	return nil
}

func TestHooksThatRanInALostClusterRunAgain(t *testing.T) {
	runs := keptRuns{}
	var m hookMemory
	m.load(runs, "prod", "", "shop")
	m.start("run-1", true)
	if err := runs.Remember(m.rec); err != nil { // by a server that did not know which cluster it is
		t.Fatal(err)
	}
	for i, step := range []struct {
		id      string
		reached bool
	}{{"uid-1", true}, {"", true}, {"uid-2", false}, {"uid-1", true}} {
		var m hookMemory
		m.load(runs, "prod", step.id, "shop")
		if m.reached("run-1") != step.reached {
			t.Errorf("step %d: in cluster %q the hooks have run: %t", i, step.id, !step.reached)
		}
	}
	m = hookMemory{}
	m.load(runs, "prod", "uid-1", "shop")
	if m.load(runs, "prod", "uid-2", "shop"); m.reached("run-1") {
		t.Error("a process that was there all along takes them for done")
	}
}
