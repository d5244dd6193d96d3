package ledger_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger"
)

// Servers that stand by for one another write branches of their own. The one that
// leads holds what the one before held, and no more.
func TestHoldsAreInherited(t *testing.T) {
	t.Parallel()
	there := hub(t)
	start := func(writer string) *ledger.Ledger {
		dir := filepath.Join(t.TempDir(), "ledger.git")
		o := ledger.Options{Dir: dir, Writer: writer, Key: key(t, "key"), Remote: &remote{dir: dir, url: there}}
		ledger.Hasty(&o)
		return open(t, o)
	}
	const repo, lease = "https://git.example.org/fleet", "belay/belay"
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	lead := func(l *ledger.Ledger, want string) {
		t.Helper()
		from, err := l.Inherit(t.Context(), repo, lease)
		if err != nil || from != want {
			t.Fatalf("inherited from %q, want %q: %v", from, want, err)
		}
		at = at.Add(time.Minute)
		record(t, l, belay.Event{Type: belay.EventLeader, Repo: repo, Object: lease, Time: at, Message: "leads"})
	}
	hold := func(l *ledger.Ledger, app string) {
		t.Helper()
		record(t, l, belay.Event{Type: belay.EventHold, Application: app, Cluster: "c", Message: "held", Detail: &belay.Detail{Hold: &belay.Hold{Application: app, Cluster: "c", Revision: "abc", By: "Ada", Since: at, Until: at.Add(time.Hour)}}})
	}
	held := func(l *ledger.Ledger, want ...string) {
		t.Helper()
		got := l.Holds()
		if len(got) != len(want) {
			t.Fatalf("held are %+v, want %v", got, want)
		}
		for i := range want {
			if got[i].Application != want[i] {
				t.Fatalf("held are %+v, want %v", got, want)
			}
		}
	}
	one, two := start("one"), start("two")
	// One that leads by another lease is nobody's predecessor.
	record(t, one, belay.Event{Type: belay.EventLeader, Repo: repo, Object: "other/belay", Time: at.Add(time.Hour), Message: "leads"})
	lead(one, "")
	hold(one, "a")
	hold(one, "b")
	seq := one.Stats().Seq
	await(t, "the holds to be pushed", func() bool { return one.Stats().Pushed >= seq })
	lead(two, "one")
	held(two, "a", "b")
	record(t, two, belay.Event{Type: belay.EventRelease, Application: "a", Cluster: "c", Message: "released"})
	hold(two, "d")
	seq = two.Stats().Seq
	await(t, "the holds to be pushed", func() bool { return two.Stats().Pushed >= seq })
	lead(one, "two")
	held(one, "b", "d")
	lead(one, "") // it was itself the last one
	held(one, "b", "d")
	closeLedger(t, one)
	closeLedger(t, two)
}
