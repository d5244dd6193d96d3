package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/drill"
	"github.com/belaydev/belay/internal/events"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/kube"
	"github.com/belaydev/belay/internal/manifestdiff"
	"github.com/belaydev/belay/internal/reconcile"
	"github.com/belaydev/belay/internal/term"
)

// rehearsal is a server for the time of one drill, with clusters of its own.
type rehearsal struct {
	*env
	*drillFlags

	dir    string
	data   *dataDir
	parts  *parts
	bus    *events.Bus
	engine *reconcile.Engine
	// planes are the kubeconfigs of the control planes, by cluster.
	planes map[string]string
	stops  []func()
	casts  map[string]*drill.Cast
	log    *slog.Logger

	catalog  *catalog.Catalog
	revision belay.Revision
	fetched  time.Duration
	byHand   []string // what the drill did that somebody has to do

	mu       sync.Mutex
	contents map[string]map[string]drill.Contents // by application and source
	asked    []belay.SecretReference
	copied   map[string][]belay.Object // definitions of kinds, by cluster
}

// planeMemory is what one control plane needs.
const planeMemory = 500 << 20

// quietly says what is being done, to who may wait for minutes.
func (r *rehearsal) quietly(format string, args ...any) {
	_, _ = fmt.Fprintf(r.stderr, format+"\n", args...) // progress; the report is what counts
}

// run rehearses. An error says why it could not.
func (r *rehearsal) run(ctx context.Context) (*drill.Report, error) {
	program, err := findDevcluster(r.program)
	if err != nil {
		return nil, err
	}
	if err := git.CheckInstalled(ctx); err != nil {
		return nil, err
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, r.timeout, errDrillTime)
	defer cancel()
	began := time.Now()
	r.quietly("fetching %s", term.Clean(r.parts.repo))
	if err := r.fetch(bounded); err != nil {
		return nil, err
	}
	r.fetched = time.Since(began)
	clusters, err := r.lost()
	if err != nil {
		return nil, err
	}
	definitions, err := r.definitions(bounded, clusters)
	if err != nil {
		return nil, err
	}
	r.quietly("starting %s", term.Count(len(clusters), "control plane"))
	if err := r.startPlanes(bounded, program, clusters); err != nil {
		return nil, err
	}
	return r.deliver(ctx, bounded, definitions)
}

var errDrillTime = errors.New("the time is over")

// open makes a data directory with nothing in it, and the parts of a server.
func (r *rehearsal) open() (err error) {
	if r.dir, err = os.MkdirTemp(r.getenv("TMPDIR"), "belay-drill-"); err != nil {
		return fmt.Errorf("make a directory for the drill: %w", err)
	}
	if r.data, err = openData(filepath.Join(r.dir, "data")); err != nil {
		return err
	}
	r.log = slog.New(slog.DiscardHandler)
	if r.logLevel == "debug" {
		r.log = r.env.log
	}
	kube.SetLogger(r.log)
	r.bus, r.planes, r.casts, r.contents = events.New(keptEvents), map[string]string{}, map[string]*drill.Cast{}, map[string]map[string]drill.Contents{}
	r.copied = map[string][]belay.Object{}
	r.parts, err = newParts(partsOptions{repo: r.repo, interval: time.Hour, data: r.data, log: r.log, lenient: true, own: r.noSecret,
		sourceChanged: func(url string) {
			if r.engine != nil {
				r.engine.SourceChanged(url)
			}
		}})
	return err
}

// fetch brings the repository, and reads what it declares.
func (r *rehearsal) fetch(ctx context.Context) error {
	r.parts.sources.Configure(nil, map[string][]string{r.parts.repo: {r.ref}})
	var err error
	if r.revision, err = reconcile.RevisionOf(ctx, r.parts.sources, r.parts.committer, r.parts.repo, r.ref, cmp.Or(r.at, r.ref)); err != nil {
		return err
	}
	files, err := r.parts.sources.Open(ctx, r.parts.repo, r.revision.Commit)
	if err != nil {
		return err
	}
	if _, err := files.Stat(cleanPath(r.path)); err != nil {
		return &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("the definitions' directory %s does not exist at %s", r.path, r.revision.Short()),
			Hint: "check --path"}
	}
	r.catalog, err = catalog.Load(ctx, files, catalog.Options{Root: cleanPath(r.path), Repo: r.parts.repo, Ref: r.ref, Revision: r.revision.Commit}, nil)
	return err
}

// lost are the clusters that are rehearsed.
func (r *rehearsal) lost() ([]string, error) {
	declared := slices.Sorted(maps.Keys(r.catalog.Clusters))
	if len(declared) == 0 {
		declared = []string{belay.LocalCluster}
	}
	for _, c := range r.clusters {
		if !slices.Contains(declared, c) {
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no cluster %q at %s", c, r.revision.Short()),
				Hint: "declared are: " + strings.Join(declared, ", ")}
		}
	}
	if r.only != "" {
		if _, ok := r.catalog.Applications[r.only]; !ok && len(r.catalog.SetsElsewhere()) == 0 {
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no application %q at %s", r.only, r.revision.Short()) + belay.DidYouMean(r.only, slices.Sorted(maps.Keys(r.catalog.Applications))),
				Hint: "\"belay lint\" lists what is declared"}
		}
	}
	used := map[string]bool{}
	for name := range r.catalog.Applications {
		if def := r.catalog.Applications[name]; !r.aside()(&def) {
			used[def.Spec.Destination.Cluster] = true
		}
	}
	chosen := slices.DeleteFunc(declared, func(c string) bool {
		return len(r.clusters) > 0 && !slices.Contains(r.clusters, c) || !used[c] && len(r.catalog.SetsElsewhere()) == 0
	})
	if len(chosen) == 0 {
		return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("nothing is declared at %s that could be rehearsed", r.revision.Short()),
			Hint: "check --ref, --path, --cluster and --only; \"belay lint\" says what is wrong with definitions"}
	}
	if free, ok := freeMemory(); ok && free < uint64(len(chosen))*planeMemory {
		return nil, &belay.Error{Code: belay.CodeUnavailable,
			Message: fmt.Sprintf("%s need about %d MB of memory, and %d MB are free", term.Count(len(chosen), "control plane"), len(chosen)*planeMemory>>20, free>>20),
			Hint:    "rehearse fewer at once with --cluster"}
	}
	return chosen, nil
}

// aside says which applications are not rehearsed.
func (r *rehearsal) aside() func(*belay.Application) bool {
	wanted := map[string]bool{}
	var add func(name string)
	add = func(name string) {
		if def, ok := r.catalog.Applications[name]; ok && !wanted[name] {
			wanted[name] = true
			for _, d := range def.Spec.DependsOn {
				add(d.Name)
			}
		}
	}
	if r.only != "" {
		add(r.only)
		wanted[r.only] = true
	}
	return func(def *belay.Application) bool {
		return r.only != "" && !wanted[def.Name] || len(r.clusters) > 0 && !slices.Contains(r.clusters, def.Spec.Destination.Cluster)
	}
}

// startPlanes starts them, two at a time: more only wait for each other.
func (r *rehearsal) startPlanes(ctx context.Context, program string, clusters []string) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	slots := make(chan struct{}, 2)
	for _, name := range clusters {
		r.casts[name] = &drill.Cast{Strict: r.health == "strict"}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			kubeconfig, stop, err := startCluster(ctx, program, filepath.Join(r.dir, "cluster-"+name))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			r.planes[name] = kubeconfig
			r.stops = append(r.stops, stop)
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return errs[0]
	}
	return context.Cause(ctx)
}

// definitions are those of kinds in the real clusters, if there is a way to them.
func (r *rehearsal) definitions(ctx context.Context, clusters []string) (map[string][]belay.Object, error) {
	out := map[string][]belay.Object{}
	if r.kubeconfig == "" {
		return out, nil
	}
	real := &connector{kubeconfig: r.kubeconfig, log: r.log}
	for _, name := range clusters {
		def := r.catalog.Clusters[name]
		if def.Spec.Kubeconfig != nil && def.Spec.Kubeconfig.Secret != nil {
			r.quietly("cluster %s is not looked at: its kubeconfig is in a Secret, which a drill does not read", name)
			continue
		}
		cfg, err := real.credentials(def)(ctx)
		if err != nil {
			return nil, fmt.Errorf("cluster %q: %w", name, err)
		}
		if out[name], err = kube.Definitions(ctx, cfg); err != nil {
			return nil, fmt.Errorf("cluster %q: %w", name, err)
		}
	}
	return out, nil
}

// deliver runs the engine until all is there, or can get no further.
func (r *rehearsal) deliver(ctx, bounded context.Context, definitions map[string][]belay.Object) (*drill.Report, error) {
	recorder := &drillRecorder{bus: r.bus}
	r.engine = reconcile.New(reconcile.Options{
		Repo: r.parts.repo, Ref: r.ref, Path: cleanPath(r.path), Aside: r.aside(),
		Sources:  &pinned{Sources: r.parts.sources, repo: r.parts.repo, ref: r.ref, at: r.revision},
		Renderer: &readingRenderer{r.parts.renderer, r.read}, Connector: &stage{r}, NewIndex: newIndex, Recorder: recorder,
		Logger: r.log, Diff: manifestdiff.Unified, SecretKey: r.data.key,
	})
	running, stop := context.WithCancel(bounded)
	var wg sync.WaitGroup
	wg.Go(func() { _ = r.parts.hub.Run(running) }) // it returns nil
	wg.Go(func() { _ = r.engine.Run(running) })    // so does it
	defer func() { stop(); wg.Wait() }()
	r.quietly("delivering %s at %s", term.Clean(r.ref), r.revision.Short())
	began := time.Now()
	t := drill.NewTracker(began, r.patience)
	progress := term.NewProgress(r.stderr)
	var seq uint64
	defined, reason := false, ""
	for {
		seq = r.events(bounded, t, seq)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		now, st := time.Now(), r.engine.Status()
		idle := r.idle(&st)
		for _, name := range t.Look(now, &st, idle) {
			progress.Set(fmt.Sprintf("%6s  %s (%d of %d)", now.Sub(began).Round(100*time.Millisecond), name, t.Arrived(), len(st.Applications)), "is back")
		}
		if idle && !defined { // everything was rendered
			defined = true
			if err := r.define(bounded, definitions); err != nil {
				return nil, err
			}
			r.order(bounded, &st)
			continue
		}
		if t.Over(now, &st, idle) {
			break
		}
		if bounded.Err() != nil {
			reason = fmt.Sprintf("It was not over after %s, and was given up.", r.timeout)
			break
		}
	}
	return r.report(t, began, reason), nil
}

// events passes on what happened, and waits a moment for more.
func (r *rehearsal) events(ctx context.Context, t *drill.Tracker, seq uint64) uint64 {
	wait, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	evs, _, err := r.bus.After(wait, seq)
	if err != nil {
		return seq // nothing happened meanwhile
	}
	for i := range evs {
		seq = evs[i].Seq
		t.Event(&evs[i])
	}
	return seq
}

// idle says whether everything that can be done now was done.
func (r *rehearsal) idle(st *belay.Status) bool {
	ready := 0
	for i := range st.Clusters {
		if st.Clusters[i].Ready {
			ready++
		}
	}
	return r.engine.Settled() && ready == len(r.planes)
}

// define copies the definitions of kinds that the real cluster has and Git does not.
func (r *rehearsal) define(ctx context.Context, definitions map[string][]belay.Object) error {
	for _, cluster := range slices.Sorted(maps.Keys(definitions)) {
		declared := map[belay.ObjectID]bool{}
		fleet := r.fleet()
		for app, c := range fleet.Contents {
			if fleet.Cluster[app] == cluster {
				for _, id := range c.Declares {
					declared[id] = true
				}
			}
		}
		cfg, err := kube.OwnConfig(r.planes[cluster], "")
		if err != nil {
			return err
		}
		open := belay.OpenProject()
		for _, o := range definitions[cluster] {
			if declared[o.ID] {
				continue
			}
			permit, err := open.Permit(&belay.Application{Name: "drill"}, cluster, o.ID, false)
			if err != nil {
				return err
			}
			if err := kube.Define(ctx, cfg, permit, o); err != nil {
				r.quietly("cluster %s: %s", cluster, term.Clean(err.Error())) // who needs it fails, and says so
				continue
			}
			r.copied[cluster] = append(r.copied[cluster], o)
		}
	}
	return nil
}

// wait keeps everything up until the context ends.
func (r *rehearsal) wait(ctx context.Context) {
	for _, name := range slices.Sorted(maps.Keys(r.planes)) {
		r.quietly("cluster %s: export KUBECONFIG=%s", name, r.planes[name])
	}
	r.quietly("Ctrl-C ends the control planes and removes all of it.")
	<-ctx.Done()
}

// close ends everything and removes it.
func (r *rehearsal) close() {
	var wg sync.WaitGroup
	for _, stop := range r.stops {
		wg.Go(stop)
	}
	wg.Wait()
	if r.parts != nil {
		r.parts.close()
	}
	if r.data != nil {
		_ = r.data.Close() // it is removed next
	}
	if r.dir != "" {
		_ = os.RemoveAll(r.dir) // what is left is in the temporary directory
	}
}
