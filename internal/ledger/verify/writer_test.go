package verify_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/ledger"
	"github.com/belaydev/belay/internal/ledger/verify"
)

// write writes events with the real writer.
func write(t testing.TB, o ledger.Options, events ...belay.Event) {
	t.Helper()
	o.Writer = "main"
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]string{}
	for _, ev := range events {
		ev.Deployment = last[ev.Application]
		if ev.Type == belay.EventSyncStarted {
			ev.Deployment = ""
		}
		id, err := l.Record(t.Context(), ev)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Type == belay.EventSyncStarted {
			last[ev.Application] = id
		}
	}
	if err := l.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func key(t testing.TB, name string) *ledger.Key {
	t.Helper()
	k, err := ledger.MakeKey(filepath.Join(t.TempDir(), name))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// What the writer writes is right, in every kind of record, over lives and keys.
func TestTheWriterWritesWhatVerifies(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger.git")
	first, second := key(t, "1"), key(t, "2")
	var events []belay.Event
	for _, s := range sample(t, "main", newKey(t)).specs {
		if ev := s.record.Event; ev.Type != belay.EventCheckpoint {
			ev.Time = time.Time{}
			events = append(events, ev)
		}
	}
	write(t, ledger.Options{Dir: dir, Key: first}, events...)
	write(t, ledger.Options{Dir: dir, Key: first}, events[2:]...)
	write(t, ledger.Options{Dir: dir, Key: second, OldKeys: []*ledger.Key{first}}, events...)
	r := run(t, verify.Options{Ledger: dir})
	// One at each end, and one that hands over; more where the writing takes minutes.
	signed := r.Branches[0].Checkpoints
	if r.Total != 0 || r.Records != 3*len(events)-2+signed || r.Branches[0].Unsigned != 0 || signed < 4 {
		t.Fatal(show(r))
	}
	if k := r.Branches[0].Keys; len(k) != 2 || k[0].Fingerprint != first.Fingerprint() || k[0].Signed < 3 || k[1].Signed < 1 || k[0].Signed+k[1].Signed != signed {
		t.Fatal(show(r))
	}
	// A key from nowhere is told, unless somebody vouches for it.
	third := key(t, "3")
	write(t, ledger.Options{Dir: dir, Key: third}, events...)
	if r = run(t, verify.Options{Ledger: dir}); r.ByCheck[verify.CheckSignature] == 0 || r.ByCheck[verify.CheckKeys] == 0 {
		t.Fatal(show(r))
	}
	text := gittest.OpenRepo(t, dir).Git("show", "ledger/main:allowed_signers")
	if r = run(t, verify.Options{Ledger: dir, Signers: keysOf(t, text)}); r.Total != 0 || len(r.Branches[0].Keys) != 3 {
		t.Fatal(show(r))
	}
}

// BenchmarkVerify verifies a ledger of many records of a fleet.
func BenchmarkVerify(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "ledger.git")
	l, err := ledger.Open(b.Context(), ledger.Options{Dir: dir, Writer: "main", Key: key(b, "key")})
	if err != nil {
		b.Fatal(err)
	}
	const records, apps, atOnce = 100_000, 1000, 100
	var wg sync.WaitGroup
	for c := range atOnce {
		wg.Go(func() {
			for i := c; i < records/4; i += atOnce {
				if err := change(b, l, fmt.Sprintf("app-%04d", i%apps), i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := l.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	for b.Loop() {
		r, err := verify.Run(b.Context(), verify.Options{Ledger: dir, MaxUnsigned: -1})
		if err != nil || r.Total != 0 {
			b.Fatal(err, show(r))
		}
		b.ReportMetric(float64(r.Records)/b.Elapsed().Seconds(), "records/s")
	}
}

// change is a deployment and what happens after it, as four records.
func change(b *testing.B, l *ledger.Ledger, app string, i int) error {
	start := belay.Event{Type: belay.EventSyncStarted, Application: app, Cluster: "prod", Repo: fleet, Revision: commitID(i), Actor: "Ada <ada@example.org>", Message: "3 objects to write"}
	id, err := l.Record(b.Context(), start)
	if err != nil {
		return err
	}
	l.Publish(belay.Event{Type: belay.EventSynced, Application: app, Cluster: "prod", Deployment: id, Result: belay.Succeeded, Message: "done",
		Detail: &belay.Detail{Manifests: []belay.Manifest{manifest("a", fmt.Sprint(i)), manifest("b", fmt.Sprint(i)), manifest("c", "same")}}})
	l.Publish(belay.Event{Type: belay.EventDrift, Application: app, Cluster: "prod", Object: "ConfigMap shop/a", Actor: "kubectl-edit", Message: "changed"})
	l.Publish(belay.Event{Type: belay.EventHealth, Application: app, Cluster: "prod", Message: "healthy"})
	return nil
}
