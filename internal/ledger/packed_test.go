package ledger_test

import (
	"path/filepath"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger"
)

// A ledger goes on after somebody ran "git gc" on it, and where a clone of it was put
// back: their refs have no files of their own.
func TestPackedRefs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger.git")
	l := open(t, ledger.Options{Dir: dir})
	record(t, l, belay.Event{Type: belay.EventSyncStarted, Application: "web", Cluster: "prod", Message: "deploying"})
	closeLedger(t, l)
	clone := filepath.Join(t.TempDir(), "clone.git")
	git(t, dir, "clone", "-q", "--mirror", dir, clone)
	git(t, dir, "gc", "-q")
	for _, dir := range []string{dir, clone} {
		l := open(t, ledger.Options{Dir: dir})
		if r := l.Running(); len(r) != 1 {
			t.Errorf("running are %+v", r)
		}
		if id := record(t, l, belay.Event{Type: belay.EventDrift, Application: "web", Cluster: "prod", Message: "changed by hand"}); id != "main/2" {
			t.Errorf("the record is %s", id)
		}
		closeLedger(t, l)
		git(t, dir, "gc", "-q") // with a file of its own and a line in the other, too
		l = open(t, ledger.Options{Dir: dir})
		if id := record(t, l, belay.Event{Type: belay.EventDrift, Application: "web", Cluster: "prod", Message: "again"}); id != "main/3" {
			t.Errorf("the record is %s", id)
		}
		closeLedger(t, l)
	}
}
