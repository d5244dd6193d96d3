package ledger_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger"
)

// While many wait at once they share batches; one after the other gets a batch of
// its own at once, however many they are.
func TestARushSharesBatches(t *testing.T) {
	l := open(t, ledger.Options{Dir: filepath.Join(t.TempDir(), "ledger.git")})
	defer closeLedger(t, l)
	ev := func(i int) belay.Event {
		return belay.Event{Type: belay.EventHealed, Application: fmt.Sprint("app-", i), Cluster: "local", Message: "healed"}
	}
	const alone = 20
	for i := range alone {
		record(t, l, ev(i))
	}
	before := l.Stats()
	if before.Batches != alone {
		t.Errorf("%d records one after the other are %d batches", alone, before.Batches)
	}
	const callers, each = 32, 10
	var all sync.WaitGroup
	for c := range callers {
		all.Go(func() {
			for i := range each {
				if _, err := l.Record(t.Context(), ev(c*each+i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	st := l.Stats()
	if got := st.Seq - before.Seq; got != callers*each {
		t.Errorf("%d records of %d", got, callers*each)
	}
	if n := st.Batches - before.Batches; n > callers*each/8 {
		t.Errorf("%d records of %d callers are %d batches", callers*each, callers, n)
	}
}
