package index

import (
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/ledgertest"
)

var benchRecords = flag.Int("records", 100_000, "records in the ledger of benchmarks")

// BenchmarkIndex measures making the index of a large ledger, following one more
// record, and questions: half of them answered faster than p50-ms, all but one in a
// hundred faster than p99-ms.
func BenchmarkIndex(b *testing.B) {
	l := ledgertest.New(b)
	l.Stream("main", ledgertest.Many("main", *benchRecords))
	path := filepath.Join(b.TempDir(), "index.sqlite")
	b.Run("rebuild", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			x := open(b, Options{Ledger: l.Dir, Path: fmt.Sprintf("%s-%d", path, i)})
			if err := x.Refresh(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(*benchRecords)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	})
	x := open(b, Options{Ledger: l.Dir, Path: path})
	if err := x.Refresh(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Run("follow", func(b *testing.B) {
		var took []time.Duration
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			l.Append(belay.Event{Time: ledgertest.Begin.AddDate(1, 0, i), Type: belay.EventError, Message: "one more"})
			b.StartTimer()
			start := time.Now()
			if err := x.Refresh(b.Context()); err != nil {
				b.Fatal(err)
			}
			took = append(took, time.Since(start))
		}
		report(b, took)
	})
	middle := ledgertest.Begin.Add(time.Duration(*benchRecords/2) * time.Minute)
	for name, q := range map[string]belay.RecordQuery{
		"latest":      {},
		"application": {Applications: []string{"app-07"}},
		"day":         {From: middle, To: middle.AddDate(0, 0, 1)},
		"person":      {Person: "hopper"},
		"type":        {Types: []belay.EventType{belay.EventDrift}},
		"change":      {Change: ledgertest.Hash(*benchRecords / 200)[:8]},
		"object":      {Object: "deployment/web-07"},
		"rare":        {Applications: []string{"app-07"}, Person: "hopper", Types: []belay.EventType{belay.EventDrift}, To: middle},
		"nothing":     {Person: "nobody"},
	} {
		b.Run("records/"+name, func(b *testing.B) {
			measure(b, func() error { _, _, err := x.Records(b.Context(), q); return err })
		})
		b.Run("deployments/"+name, func(b *testing.B) {
			measure(b, func() error { _, _, err := x.Deployments(b.Context(), q); return err })
		})
	}
	b.Run("record", func(b *testing.B) {
		measure(b, func() error { _, err := x.Record(b.Context(), "main/77"); return err })
	})
	b.Run("changes", func(b *testing.B) {
		d, _, err := x.Deployments(b.Context(), belay.RecordQuery{To: middle, Limit: 50})
		if err != nil {
			b.Fatal(err)
		}
		i := slices.IndexFunc(d, func(d belay.Deployment) bool { return d.Result == belay.Succeeded })
		measure(b, func() error { _, err := x.Changes(b.Context(), d[i].ID); return err })
	})
	b.Run("changed", func(b *testing.B) {
		measure(b, func() error {
			_, _, err := x.Deployments(b.Context(), belay.RecordQuery{Applications: []string{"app-07"}, Changed: "replicas", Limit: 20})
			return err
		})
	})
	b.Run("blame", func(b *testing.B) {
		measure(b, func() error { _, err := x.Blame(b.Context(), "app-07", "", "deployment/web-07"); return err })
	})
}

func measure(b *testing.B, ask func() error) {
	b.Helper()
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if err := ask(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	b.Helper()
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[(len(took)-1)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
	}
}
