package ledger_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger"
	"github.com/belaydev/belay/internal/ledger/ledgertest"
)

// BenchmarkRecordAlone is what a deployment waits for when it is the only one.
func BenchmarkRecordAlone(b *testing.B) {
	for _, apps := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("apps=%d", apps), func(b *testing.B) {
			l := open(b, ledger.Options{Dir: filepath.Join(b.TempDir(), "ledger.git")})
			for i := range apps {
				l.Publish(belay.Event{Type: belay.EventHealth, Application: fmt.Sprintf("app-%05d", i), Cluster: "cluster-000", Message: "Healthy"})
			}
			record(b, l, belay.Event{Type: belay.EventStarted, Message: "all of them are known"})
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				began := time.Now()
				record(b, l, belay.Event{Type: belay.EventHealed, Application: fmt.Sprintf("app-%05d", i%apps), Cluster: "cluster-000", Message: "healed"})
				took = append(took, time.Since(began))
			}
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			closeLedger(b, l)
		})
	}
}

// BenchmarkFill writes a hundred thousand events of a fleet: the rate of many who
// record at once, and what is left on the disk.
func BenchmarkFill(b *testing.B) {
	events := 100_000
	if n, err := strconv.Atoi(os.Getenv("BELAY_BENCH_EVENTS")); err == nil {
		events = n
	}
	for b.Loop() {
		dir := filepath.Join(b.TempDir(), "ledger.git")
		k, err := ledger.MakeKey(filepath.Join(b.TempDir(), "key"))
		if err != nil {
			b.Fatal(err)
		}
		l := open(b, ledger.Options{Dir: dir, Key: k})
		began, used := time.Now(), cpu()
		if err := ledgertest.Fill(b.Context(), l, ledgertest.Fleet{Applications: 1000, Clusters: 10, Events: events, Callers: 64}); err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		st := l.Stats()
		closeLedger(b, l)
		b.ReportMetric(float64(events)/took.Seconds(), "events/s")
		b.ReportMetric(float64((cpu()-used).Microseconds())/float64(events), "cpu-us/event")
		b.ReportMetric(float64(st.Seq)/float64(st.Batches), "events/batch")
		b.ReportMetric(float64(size(b, dir))/float64(1<<20), "disk-MB")
		b.ReportMetric(float64(size(b, dir))/float64(events), "disk-bytes/event")
		began = time.Now()
		l = open(b, ledger.Options{Dir: dir, Key: k})
		b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "open-ms")
		closeLedger(b, l)
	}
}

// cpu is what this process and those it started and that ended have used.
func cpu() (used time.Duration) {
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) == nil {
			used += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return used
}

func size(b *testing.B, dir string) (total int64) {
	out, err := exec.CommandContext(b.Context(), "du", "-sb", dir).Output()
	if err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(string(out), &total); err != nil {
		b.Fatal(err)
	}
	return total
}
