package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/drill"
	"github.com/belaydev/belay/internal/events"
	"github.com/belaydev/belay/internal/reconcile"
	"github.com/belaydev/belay/internal/window"
)

// stage connects every cluster to the control plane that stands in for it.
type stage struct{ r *rehearsal }

// Connect implements reconcile.Connector.
func (s *stage) Connect(ctx context.Context, def belay.Cluster, interactive []string, notify func([]string, bool)) (reconcile.Cluster, error) {
	kubeconfig, ok := s.r.planes[def.Name]
	if !ok {
		return nil, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("cluster %q is not part of this drill", def.Name)}
	}
	c := &connector{kubeconfig: kubeconfig, log: s.r.log}
	conn, err := c.Connect(ctx, belay.Cluster{Name: def.Name}, interactive, notify)
	if err != nil {
		return nil, err
	}
	return &played{conn, s.r.casts[def.Name]}, nil
}

// played is a cluster in which not everything is brought to life.
type played struct {
	reconcile.Cluster
	cast *drill.Cast
}

// Facts implements reconcile.Cluster.
func (p *played) Facts() belay.ClusterFacts {
	f := p.Cluster.Facts()
	p.cast.Serves(&f)
	return f
}

// Lookup implements reconcile.Cluster.
func (p *played) Lookup(id belay.ObjectID) (belay.Live, bool) {
	l, ok := p.Cluster.Lookup(id)
	if !ok {
		return l, false
	}
	return p.cast.Show(l), true
}

// Live implements reconcile.Cluster.
func (p *played) Live(application string) []belay.Live {
	all := p.Cluster.Live(application)
	for i := range all {
		all[i] = p.cast.Show(all[i])
	}
	return all
}

// Apply implements reconcile.Cluster.
func (p *played) Apply(ctx context.Context, permit belay.Permit, a belay.Action) (belay.Live, error) {
	a, err := p.cast.Prepare(a)
	if err != nil {
		return belay.Live{}, err
	}
	l, err := p.Cluster.Apply(ctx, permit, a)
	if err != nil {
		return l, err
	}
	return p.cast.Show(l), nil
}

// pinned has the ref that the server follows stand at one commit.
type pinned struct {
	reconcile.Sources
	repo, ref string
	at        belay.Revision
}

// Configure implements reconcile.Sources.
func (p *pinned) Configure(repos []belay.Repository, refs map[string][]string) {
	refs = maps.Clone(refs)
	refs[p.repo] = slices.Clone(refs[p.repo])
	for i, ref := range refs[p.repo] {
		if ref == p.ref {
			refs[p.repo][i] = p.at.Commit
		}
	}
	p.Sources.Configure(repos, refs)
}

// Revision implements reconcile.Sources.
func (p *pinned) Revision(url, ref string) (belay.Revision, error) {
	if url != p.repo || ref != p.ref {
		return p.Sources.Revision(url, ref)
	}
	rev, err := p.Sources.Revision(url, p.at.Commit)
	rev.Ref = ref
	return rev, err
}

// readingRenderer shows what was rendered to who wants to know what is in it.
type readingRenderer struct {
	reconcile.Renderer
	read func(req *reconcile.RenderRequest, objects []belay.Object)
}

// Render implements reconcile.Renderer.
func (r *readingRenderer) Render(ctx context.Context, files reconcile.Files, req reconcile.RenderRequest) (reconcile.Rendered, error) {
	out, err := r.Renderer.Render(ctx, files, req)
	if err == nil {
		r.read(&req, out.Objects)
	}
	return out, err
}

// drillRecorder tells those who watch, and keeps nothing.
type drillRecorder struct {
	bus  *events.Bus
	last atomic.Uint64
}

// Publish implements reconcile.Recorder.
func (d *drillRecorder) Publish(ev belay.Event) { d.bus.Publish(ev) }

// Record implements reconcile.Recorder.
func (d *drillRecorder) Record(_ context.Context, ev belay.Event) (string, error) {
	d.bus.Publish(ev)
	return belay.RecordID("drill", d.last.Add(1)), nil
}

// Running implements reconcile.Recorder.
func (d *drillRecorder) Running() []belay.Deployment { return nil }

// Holds implements reconcile.Recorder.
func (d *drillRecorder) Holds() []belay.Hold { return nil }

// Deployed implements reconcile.Recorder.
func (d *drillRecorder) Deployed(context.Context, string, string) (belay.Deployment, error) {
	return belay.Deployment{}, nil
}

// Source implements reconcile.Recorder.
func (d *drillRecorder) Source(string, string) string { return "" }

// read takes in what was rendered of one source of an application.
func (r *rehearsal) read(req *reconcile.RenderRequest, objects []belay.Object) {
	c := drill.Read(objects, req.Namespace)
	source := strings.Join([]string{req.Repo, req.Source.Path, req.Source.Chart, req.Source.Name}, "\n")
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.contents[req.Application] == nil {
		r.contents[req.Application] = map[string]drill.Contents{}
	}
	r.contents[req.Application][source] = c
}

// noSecret stands for a cluster that was lost with the Secrets in it.
func (r *rehearsal) noSecret(_ context.Context, ref belay.SecretReference) ([]byte, error) {
	r.mu.Lock()
	r.asked = append(r.asked, ref)
	r.mu.Unlock()
	return nil, &belay.Error{Code: belay.CodeNotFound, Object: fmt.Sprintf("Secret %s/%s", ref.Namespace, ref.Name),
		Message: "Secrets of the server's own cluster are not read in a drill", Hint: "in a lost cluster it is lost, too: keep a copy elsewhere"}
}

// fleet is what is known of what applications bring and need.
func (r *rehearsal) fleet() *drill.Fleet {
	f := &drill.Fleet{Contents: map[string]drill.Contents{}, Cluster: map[string]string{}, Namespace: map[string]string{}, Copied: r.copied,
		BuiltIn: func(cluster string, kind belay.Kind) bool {
			return r.casts[cluster] == nil || r.casts[cluster].BuiltIn(kind)
		}}
	st := r.engine.Status()
	for i := range st.Applications {
		f.Cluster[st.Applications[i].Name], f.Namespace[st.Applications[i].Name] = st.Applications[i].Cluster, st.Applications[i].Namespace
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for app, sources := range r.contents {
		var all drill.Contents
		for _, source := range slices.Sorted(maps.Keys(sources)) {
			all.Merge(sources[source])
		}
		f.Contents[app] = all
	}
	return f
}

// order asks for what waits to be asked for, and lets through what waits for a
// window, as somebody would in a recovery; what that was the report says.
func (r *rehearsal) order(ctx context.Context, st *belay.Status) {
	var names []string
	for i := range st.Applications {
		a := &st.Applications[i]
		if a.Suspended != "" {
			continue
		}
		windows, err := window.Compile(r.catalog.Projects[a.Project].Spec.Windows)
		if err != nil {
			continue // it is a problem of the catalog, and told there
		}
		v := window.Decide(windows, a.Name, a.Cluster, !a.Automatic, time.Now())
		switch {
		case !v.Open:
			r.byHand = append(r.byHand, fmt.Sprintf("%s %s; here it did not wait: belay sync %s --override-window --reason \"...\"", a.Name, v.Reason(), a.Name))
		case !a.Automatic:
			r.byHand = append(r.byHand, fmt.Sprintf("%s waits until a sync is asked for; here it was: belay sync %s", a.Name, a.Name))
		default:
			continue
		}
		names = append(names, a.Name)
	}
	if len(names) > 0 {
		// Who refuses is reported as waiting, with the reason.
		_, _, _ = r.engine.Sync(ctx, belay.SyncRequest{Applications: names, OverrideWindow: true, Reason: "rehearsal of recovery"}, "belay drill")
	}
}

// mostUnfinished bounds the objects that are listed of an application.
const mostUnfinished = 10

// report puts everything together.
func (r *rehearsal) report(t *drill.Tracker, began time.Time, reason string) *drill.Report {
	now, st := time.Now(), r.engine.Status()
	out := &drill.Report{Repo: r.parts.repo, Ref: r.ref, Revision: r.revision.Commit, Started: began.UTC(), Reason: reason,
		FetchSeconds: r.fetched.Round(time.Millisecond).Seconds(), Problems: st.Problems,
		Writes: r.engine.Stats().Applies.Load() + r.engine.Stats().Deletes.Load(), Applications: t.Applications(now, &st)}
	for i := range st.Clusters {
		if c := &st.Clusters[i]; r.planes[c.Name] != "" {
			plane := drill.Cluster{Name: c.Name, Version: c.Version}
			if r.keep {
				plane.Kubeconfig = r.planes[c.Name]
			}
			out.Clusters = append(out.Clusters, plane)
		}
	}
	for i := range out.Applications {
		if a := &out.Applications[i]; a.Result != drill.Passed {
			a.Unfinished = r.unfinished(a.Name)
		}
	}
	fleet := r.fleet()
	out.Missing = fleet.Missing()
	r.mu.Lock()
	out.Missing = append(out.Missing, drill.Keys(r.asked, nil)...)
	r.mu.Unlock()
	out.ByHand, out.NotRehearsed = r.byHand, r.unreadable()
	out.Limits(r.casts, func(cluster string, id belay.ObjectID) string {
		for app, c := range fleet.Contents {
			if fleet.Cluster[app] == cluster && slices.Contains(c.Declares, id) {
				return app
			}
		}
		return ""
	})
	out.Finish()
	return out
}

// unfinished are objects of an application that are not as they should be.
func (r *rehearsal) unfinished(app string) []drill.Object {
	a, err := r.engine.Application(app)
	if err != nil {
		return nil // it has just gone
	}
	var out []drill.Object
	for _, o := range a.Tree {
		only := belay.Verb(o.Message) == belay.VerbCreate || belay.Verb(o.Message) == belay.VerbUpdate // not its turn yet
		if o.Message == "" || only || o.Sync == belay.Synced && o.Health == belay.Healthy {
			continue
		}
		if out = append(out, drill.Object{Name: o.String(), Message: o.Message, File: o.File, Line: o.Line}); len(out) == mostUnfinished {
			break
		}
	}
	return out
}

// unreadable are the keys of Projects that are not on this machine.
func (r *rehearsal) unreadable() []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(r.catalog.Projects)) {
		d := r.catalog.Projects[name].Spec.Decryption
		if d == nil {
			continue
		}
		for _, ref := range slices.Concat(d.Age, d.PGP) {
			where := ""
			switch _, set := os.LookupEnv(ref.Env); {
			case ref.File != "":
				if _, err := os.Stat(ref.File); err != nil {
					where = "file " + ref.File
				}
			case ref.Env != "" && !set:
				where = "environment variable " + ref.Env
			case ref.Secret != nil:
				where = fmt.Sprintf("Secret %s/%s", ref.Secret.Namespace, ref.Secret.Name)
			}
			if where != "" {
				out = append(out, fmt.Sprintf("a key of Project %s is not here (%s): what only it opens was applied with a placeholder; try your copy of the key", name, where))
			}
		}
	}
	return out
}

// freeMemory is what the machine has left, in bytes, where that can be known.
func freeMemory() (uint64, bool) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == "MemAvailable:" {
			kb, err := strconv.ParseUint(f[1], 10, 64)
			return kb << 10, err == nil
		}
	}
	return 0, false
}
