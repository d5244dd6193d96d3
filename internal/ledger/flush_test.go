package ledger_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger"
)

// Who was told of an event and asks the ledger finds it, although nobody waited
// for it to be written.
func TestFlush(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger.git")
	l := open(t, ledger.Options{Dir: dir})
	defer closeLedger(t, l)
	l.Flush(t.Context()) // nothing to wait for
	for _, what := range []string{"one", "two", "three"} {
		l.Publish(belay.Event{Type: belay.EventStarted, Message: what})
		l.Flush(t.Context())
		if log := git(t, dir, "log", "-1", "--format=%s", "ledger/main"); strings.TrimSpace(log) != what {
			t.Fatalf("after the flush of %q the latest record is %q", what, log)
		}
	}
}
