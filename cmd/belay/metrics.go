package main

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger"
	"github.com/belaydev/belay/internal/reconcile"
	"github.com/belaydev/belay/internal/version"
)

// metrics reads the engine when it is scraped, so there is no second account of
// anything that could differ from the first.
type metrics struct {
	engine *reconcile.Engine
	// standingBy is nil while the engine works. Before that it knows of no fleet,
	// which must not look as if there were none.
	standingBy func() *belay.Error
}

var (
	descApplications = prometheus.NewDesc("belay_applications", "Applications by sync state and health.", []string{"sync", "health"}, nil)
	descProblems     = prometheus.NewDesc("belay_definition_problems", "Definitions that are wrong.", nil, nil)
	descCluster      = prometheus.NewDesc("belay_cluster_ready", "Whether a cluster is observed.", []string{"cluster"}, nil)
	descRepository   = prometheus.NewDesc("belay_repository_ready", "Whether a repository could be read.", []string{"repo"}, nil)
	descBuild        = prometheus.NewDesc("belay_build_info", "What the binary was made from.", []string{"version", "commit", "go"}, nil)
	descRenders      = counter("renders_total", "Renders that were done.")
	descCacheHits    = counter("render_cache_hits_total", "Renders that a cache saved.")
	descApplies      = counter("applies_total", "Objects sent to a cluster.")
	descDeletes      = counter("deletes_total", "Objects deleted.")
	descHeals        = counter("heals_total", "Objects that drifted and were healed.")
	descFailures     = counter("object_failures_total", "Writes that a cluster refused.")
	descPasses       = counter("passes_total", "Comparisons of an application with its cluster.")
)

func counter(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("belay_"+name, help, nil, nil)
}

// newRegistry makes the registry; standingBy is nil while the engine works.
func newRegistry(engine *reconcile.Engine, standingBy func() *belay.Error, l *ledger.Ledger, data string) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "belay_leading", Help: "Whether this process does the work, and does not stand by."},
		func() float64 { return asFloat(standingBy() == nil) }))
	r.MustRegister(metrics{engine, standingBy}, ledgerMetrics{l}, &diskMetrics{dir: data}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Describe sends nothing: the collector is unchecked, its labels follow the fleet.
func (m metrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m metrics) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	b := version.Get()
	gauge(descBuild, 1, b.Version, b.Commit, b.Go)
	if m.standingBy() != nil {
		return
	}
	st := m.engine.Status()
	type state struct {
		sync   belay.SyncState
		health belay.Health
	}
	count := map[state]int{}
	for i := range st.Applications {
		count[state{st.Applications[i].Sync, st.Applications[i].Health}]++
	}
	for s, n := range count {
		gauge(descApplications, float64(n), string(s.sync), string(s.health))
	}
	gauge(descProblems, float64(len(st.Problems)))
	for _, c := range st.Clusters {
		gauge(descCluster, asFloat(c.Ready), c.Name)
	}
	for _, r := range st.Repositories {
		gauge(descRepository, asFloat(r.Message == ""), r.URL)
	}
	s := m.engine.Stats()
	for d, v := range map[*prometheus.Desc]int64{descRenders: s.Renders.Load(), descCacheHits: s.CacheHits.Load(), descApplies: s.Applies.Load(),
		descDeletes: s.Deletes.Load(), descHeals: s.Heals.Load(), descFailures: s.Failures.Load(), descPasses: s.Passes.Load()} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
}

func asFloat(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// ledgerMetrics reads the ledger when it is scraped.
type ledgerMetrics struct{ ledger *ledger.Ledger }

var (
	descLedgerQueue    = prometheus.NewDesc("belay_ledger_queue", "Events that wait to be written to the ledger.", nil, nil)
	descLedgerFailing  = prometheus.NewDesc("belay_ledger_failing", "Whether the ledger cannot be written, so that no deployment starts.", nil, nil)
	descLedgerRecord   = prometheus.NewDesc("belay_ledger_record", "Number of the latest record, by how far it got: written, signed, pushed.", []string{"state"}, nil)
	descLedgerPush     = prometheus.NewDesc("belay_ledger_last_push_timestamp_seconds", "When the ledger was last pushed.", nil, nil)
	descLedgerBatches  = counter("ledger_batches_total", "Batches of events written to the ledger.")
	descLedgerFailures = counter("ledger_failures_total", "Attempts to write the ledger that failed.")
	descPushFailures   = counter("ledger_push_failures_total", "Attempts to push the ledger that failed.")
)

// Describe implements prometheus.Collector.
func (m ledgerMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descLedgerQueue, descLedgerFailing, descLedgerRecord, descLedgerPush, descLedgerBatches, descLedgerFailures, descPushFailures} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m ledgerMetrics) Collect(ch chan<- prometheus.Metric) {
	s := m.ledger.Stats()
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	send(descLedgerQueue, prometheus.GaugeValue, float64(s.Queue))
	send(descLedgerFailing, prometheus.GaugeValue, asFloat(s.Problem != nil))
	send(descLedgerRecord, prometheus.GaugeValue, float64(s.Seq), "written")
	send(descLedgerRecord, prometheus.GaugeValue, float64(s.Signed), "signed")
	send(descLedgerBatches, prometheus.CounterValue, float64(s.Batches))
	send(descLedgerFailures, prometheus.CounterValue, float64(s.Failures))
	if !s.Shared {
		return
	}
	send(descLedgerRecord, prometheus.GaugeValue, float64(s.Pushed), "pushed")
	send(descPushFailures, prometheus.CounterValue, float64(s.PushFailures))
	if !s.PushedAt.IsZero() {
		send(descLedgerPush, prometheus.GaugeValue, float64(s.PushedAt.Unix()))
	}
}
