package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/expr"
)

// Options are what an Engine needs. Fields without a default are required.
type Options struct {
	// Repo, Ref and Path say where the definitions stand.
	Repo, Ref, Path string
	// Instance separates several Belays on one cluster; "" is the unnamed one.
	Instance string
	// OnlyCluster limits the engine to the applications of one cluster; "" is all.
	OnlyCluster string
	// Aside are applications that are not delivered, and taken for ready by those
	// that depend on them: a rehearsal of a part of the fleet. nil for none.
	Aside func(*belay.Application) bool
	// DryRun plans and previews, and writes nothing.
	DryRun bool

	Sources   Sources
	Renderer  Renderer
	Connector Connector
	NewIndex  func() Index
	Recorder  Recorder
	// Committer makes commits; nil where none are made. Deployments are what the
	// record has of them; nil where there is no record.
	Committer   Committer
	Deployments Deployments
	Logger      *slog.Logger
	// Diff shows the difference of two manifests to people; either may be nil.
	Diff func(before, after json.RawMessage) string
	// SecretKey keys the digests that stand for secret values.
	SecretKey []byte
	// Provenance checks signatures where a Project wants them; without it nothing
	// counts as signed. ConfigSignatures are wanted of the definitions themselves.
	Provenance       Provenance
	ConfigSignatures *belay.Signatures
	// Runs remembers the runs of hooks; nil forgets them with the process.
	Runs Runs
	// ManifestFile makes the file that holds a manifest on the record, and its digest;
	// with nil every manifest of an application is recorded with each of its deployments.
	ManifestFile func(json.RawMessage) (file []byte, sum string, err error)

	// Workers that reconcile at the same time. Default 32 per processor: most of
	// their time is spent waiting for the cluster and the record, and what is written
	// on record together costs less than one by one. What they use is bounded where
	// it is used: renders by the pool, requests by each cluster.
	Workers int
	// HotBytes bounds the manifests kept in memory. Default 64 MiB.
	HotBytes int
	// Checkpoint is called at named points of a sync; tests crash there. They are,
	// in the order of a sync: loaded, rendered, begin, write, delete, deleted,
	// namespace, written, group, hookCleared, hookStarted, hookSucceeded, hooksOver,
	// ended, arrived; and of rollbacks: held, released, pushed.
	Checkpoint func(name string)
}

// Engine is the orchestrator. Make it with [New], start it with Run.
type Engine struct {
	Options
	queue *queue
	hot   *hot
	stats Stats

	rolling sync.Mutex // held while a rollback is worked out and pushed

	loading sync.Mutex // held while definitions are loaded
	// unloaded is how often in a row they could not be read; it belongs to loading.
	unloaded int

	checking sync.Mutex // held while clusters are told how to tell health; guards checks
	checks   belay.HealthChecks

	// before is the commit of the definitions that the record had when this process
	// began; "" if it knew of none.
	before string

	remembering sync.Mutex // guards former
	former      former

	// places is what events say of applications.
	places places
	// sharedAt is what desired states are of.
	sharedAt sharedAt

	telling sync.Mutex // held while it is found out what refs brought; guards told
	told    map[refKey]*batch
	// definitions is what the config repository brought last; it belongs to loading.
	definitions *batch

	mu      sync.Mutex
	catalog *catalog.Catalog
	config  belay.Revision // the commit the catalog was loaded from
	// considered is the commit that config is for: itself, unless what is newer cannot
	// be read or may not be deployed. What follows the same ref goes no further.
	considered belay.Revision
	apps       map[string]*app
	clusters   map[string]*cluster
	// connecting are the newest connections that are no cluster's yet.
	connecting map[string]*dial
	refs       map[refKey]*followed
	claims     map[string]*claims // by cluster
	released   map[string]bool    // applications that left Git and whose objects are to stay
	recalled   map[string]bool    // applications that were looked for in the history of sets
	problem    *belay.Error       // why the definitions cannot be loaded
	windows    map[string]windows // by project
	// dependents are the applications that depend on one; waiting those that wait
	// for a dependency; ready the expressions of dependencies, by source.
	dependents map[string][]string
	waiting    map[string]bool
	ready      map[string]*expr.Program
	holds      map[string]*hold // in force, by application
	verdicts   verdicts
	// hadStrangers is true when the sources were told of repositories that nobody declared.
	hadStrangers bool
	// seen is where a ref stood when an earlier life saw it last; "" for never.
	seen map[refKey]string
	// unfinished are deployments of an earlier life that nobody took up yet.
	unfinished map[owner]*deployment
	// debtors are applications to wake when a cluster that they left answers: the record
	// has not what it has of them.
	debtors map[owner]bool
	// unreadables are the repositories that cannot be read, and why.
	unreadables map[string]string

	runCtx  context.Context
	running sync.WaitGroup
}

// Stats counts work, for metrics and tests.
type Stats struct {
	Renders, CacheHits, Applies, Deletes, Heals, Failures, Passes atomic.Int64
}

// refKey is a ref of a repository; of a project that wants signatures it is one of
// its own, see provenance.go.
type refKey struct{ url, ref, project string }

// followed is one ref of one repository and the applications rendered from it.
type followed struct {
	commit string
	index  Index
	apps   map[string]bool
}

// cluster is a connection and how to end it.
type cluster struct {
	def    belay.Cluster
	conn   Cluster
	err    error
	cancel context.CancelFunc
	// interactive are the managers it was connected with.
	interactive []string
	// pending is true while it is connected for the first time, or where it is now; again
	// is when a connection that could not be made is tried again.
	pending bool
	again   time.Time
	// known is true from the first time it could be observed; trouble is why it
	// cannot be now, as it was told.
	known   bool
	trouble string
	// waiters are applications to wake when all of the cluster's were read, and
	// doubters those to wake when something else is known of one of them.
	waiters, doubters map[string]bool
}

// New makes an engine.
func New(o Options) *Engine {
	if o.Workers == 0 {
		o.Workers = 32 * runtime.GOMAXPROCS(0)
	}
	if o.HotBytes == 0 {
		o.HotBytes = 64 << 20
	}
	if o.Checkpoint == nil {
		o.Checkpoint = func(string) {}
	}
	return &Engine{
		Options: o, queue: newQueue(), hot: newHot(o.HotBytes),
		apps: map[string]*app{}, clusters: map[string]*cluster{}, connecting: map[string]*dial{}, refs: map[refKey]*followed{}, claims: map[string]*claims{},
		released: map[string]bool{}, waiting: map[string]bool{},
		recalled:    map[string]bool{},
		told:        map[refKey]*batch{},
		seen:        map[refKey]string{},
		holds:       map[string]*hold{},
		unfinished:  map[owner]*deployment{},
		debtors:     map[owner]bool{},
		unreadables: map[string]string{},
	}
}

// Stats are the engine's counters.
func (e *Engine) Stats() *Stats { return &e.stats }

// Run works until ctx ends, then finishes what is in flight: an object that is
// being written is waited for, the rest is left to the next start.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	e.runCtx = ctx
	if e.Recorder != nil {
		e.before = e.Recorder.Source(e.Repo, e.Ref)
	}
	e.mu.Unlock()
	e.recallDeployments()
	e.recallHolds()
	e.Sources.Configure(nil, map[string][]string{e.Repo: {e.Ref}})
	e.running.Go(func() { e.queue.run(ctx) })
	// Writes outlive the signal to stop for a moment, so that their outcome is known.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(10*time.Second, cancel) })
	defer stop()
	for range e.Workers {
		e.running.Go(func() { e.work(work) })
	}
	e.queue.add(key{keyConfig, ""})
	<-ctx.Done()
	e.running.Wait()
	return nil
}

// work takes keys until the queue closes. One lane is shared by all kinds of
// keys: loading definitions is short, and rendering is bounded by its workers.
func (e *Engine) work(ctx context.Context) {
	for {
		k, ok := e.queue.next()
		if !ok {
			return
		}
		e.one(ctx, k)
		e.queue.done(k)
	}
}

// one keeps a defect in one application from taking the others down.
func (e *Engine) one(ctx context.Context, k key) {
	defer func() {
		if r := recover(); r != nil {
			if k.kind == keyApp {
				e.fail(k.name, e.defect(k.name, r))
			} else {
				e.setProblem(e.defect(k.name, r))
			}
			e.queue.addAfter(k, time.Minute)
		}
	}()
	switch k.kind {
	case keyConfig:
		if e.loadConfig(ctx) {
			e.SourceChanged(e.Repo)
		}
	case keySource:
		e.sourceMoved(ctx, k.name)
	case keyApp:
		e.reconcile(ctx, k.name)
	}
}

// defect logs a panic and makes an error of it.
func (e *Engine) defect(application string, panicked any) *belay.Error {
	buf := make([]byte, 16<<10)
	buf = buf[:runtime.Stack(buf, false)]
	e.Logger.Error("reconcile panicked", "application", application, "panic", fmt.Sprint(panicked), "stack", string(buf))
	return &belay.Error{Code: belay.CodeInternal, Application: application, Message: "internal error: " + fmt.Sprint(panicked),
		Hint: "this is a defect of Belay; its log has the details"}
}

// SourceChanged is to be called when a ref of a repository moved or its state changed.
func (e *Engine) SourceChanged(url string) { e.queue.add(key{keySource, url}) }

func (e *Engine) wake(name string) { e.queue.add(key{keyApp, name}) }
