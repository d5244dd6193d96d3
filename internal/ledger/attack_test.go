package ledger_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger"
	"github.com/belaydev/belay/internal/ledger/pack"
)

// A repository with a file that attacks SHA-1 can be read by no Git any more. Such
// an event is refused, and everything else is recorded.
func TestAttackOnTheHash(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ledger.git")
	o := ledger.Options{Dir: dir}
	ledger.Attack(&o, "shattered")
	l := open(t, o)
	l.Publish(belay.Event{Type: belay.EventHealth, Message: "one"})
	l.Publish(belay.Event{Type: belay.EventHealth, Message: "shattered"})
	if _, err := l.Record(t.Context(), belay.Event{Type: belay.EventHealed, Application: "a", Cluster: "c", Message: "shattered"}); !errors.Is(err, pack.ErrCollision) {
		t.Errorf("it is answered with %v", err)
	}
	if id := record(t, l, belay.Event{Type: belay.EventHealed, Application: "a", Cluster: "c", Message: "two"}); id != "main/2" {
		t.Errorf("what follows is %s", id)
	}
	if st := l.Stats(); st.Queue != 0 || st.Problem != nil {
		t.Errorf("after that: %+v", st)
	}
	closeLedger(t, l)
	if got := git(t, dir, "log", "--format=%s", "ledger/main"); got != "a@c: two\none" {
		t.Errorf("on the record are\n%s", got)
	}
}
