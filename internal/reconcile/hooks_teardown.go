package reconcile

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// left is what is known of an application from before it left Git.
type left struct {
	desired *desired // nil if this process has not rendered it
	ref     refKey
	commit  string // of the ref, the last that it was known for, if any
	parent  string // of the definitions, the last commit that declares it
	ending  *ending
}

// ending are the hooks of an application that left Git, where it has such that
// run for that.
type ending struct {
	hooks []belay.Object
	run   string
	over  bool // nothing is left to run; the rest may go
}

// ending finds out which hooks an application that left Git has to run in a
// cluster; nil for none. They are those of its last meaning. Where that cannot be
// rendered any more the application goes without, and that is told.
func (e *Engine) ending(ctx context.Context, t *target) (*ending, error) {
	a := t.app
	e.mu.Lock()
	gone := a.def == nil
	if gone && a.left == nil { // it left before this process began; its definition is from Git's history
		a.left = &left{ref: refsOf(t.def, e.catalog)[0], parent: t.def.Origin.Revision}
	}
	l := a.left
	e.mu.Unlock()
	if !gone || t.def.Spec.Destination.Cluster != t.cluster {
		return nil, nil
	}
	if l.ending != nil {
		return l.ending, nil
	}
	a.hooks.load(e.Runs, t.cluster, t.conn.Facts().ID, a.name)
	if l.desired != nil && !l.desired.runsAtEnd() || l.desired == nil && a.hooks.known && !a.hooks.rec.AtEnd {
		return nil, nil
	}
	objects, d, err := e.lastMeaning(ctx, t, l)
	switch {
	case err != nil && belay.CodeOf(err) == belay.CodeUnavailable:
		e.tryAgain(a, err, backoffFirst)
		return nil, &belay.Error{Code: belay.CodeUnavailable, Application: a.name, Err: err,
			Message: "removed from Git, but not deleted: whether it has hooks to run first cannot be read: " + asError(err, a.name).Message,
			Hint:    "it goes on when the repository can be read; or declare it again from another source, and remove it then"}
	case err != nil:
		e.Logger.Warn("hooks of a removed application not known", "application", a.name, "error", err)
		e.publish(belay.Event{Type: belay.EventHook, Application: a.name, Cluster: t.cluster,
			Message: "it is deleted without PreDelete and PostDelete hooks, for what it declared last cannot be rendered: " + asError(err, a.name).Error()})
		objects, d = nil, &desired{}
	}
	_, hooks := plan.SplitHooks(objects)
	lv := &ending{run: "delete-" + d.run}
	for _, h := range hooks {
		if runsAtEnd(h.Hook) {
			lv.hooks = append(lv.hooks, h)
		}
	}
	if len(lv.hooks) == 0 {
		lv.over = true
	} else if !t.conn.Observe(kindsOf(lv.hooks)) {
		return nil, &belay.Error{Code: belay.CodeUnavailable, Message: "looking at what the cluster has"}
	}
	e.mu.Lock()
	l.ending = lv
	e.mu.Unlock()
	return lv, nil
}

// runsAtEnd says whether hooks run when the application is deleted.
func (d *desired) runsAtEnd() bool {
	return slices.ContainsFunc(d.hooks, func(o declared) bool { return runsAtEnd(o.hook) }) ||
		slices.ContainsFunc(d.unplaced, func(u plan.Unresolved) bool { return runsAtEnd(u.Object.Hook) })
}

func runsAtEnd(h *belay.Hook) bool { return h.In(belay.PreDelete) || h.In(belay.PostDelete) }

func kindsOf(objects []belay.Object) []belay.VersionKind {
	var out []belay.VersionKind
	for i := range objects {
		out = append(out, belay.VersionKind{APIVersion: objects[i].APIVersion, Kind: objects[i].ID.Kind})
	}
	return out
}

// lastMeaning renders what an application declared last, with its values: a hook
// may be a Secret.
func (e *Engine) lastMeaning(ctx context.Context, t *target, l *left) ([]belay.Object, *desired, error) {
	facts := t.conn.Facts()
	at := *t
	at.ref = l.ref
	at.rev = belay.Revision{Repo: l.ref.url, Ref: l.ref.ref, Commit: l.commit}
	switch {
	case l.desired != nil:
		at.rev.Commit, at.at = l.desired.rendered, maps.Clone(l.desired.at)
	case l.commit == "" && e.isConfig(l.ref):
		at.rev.Commit = l.parent
	case l.commit == "":
		rev, err := e.Sources.Resolve(ctx, l.ref.url, l.ref.ref)
		if err == nil && l.ref.project != "" {
			rev, err = e.vouched(ctx, l.ref, rev)
		}
		if rev.Commit == "" {
			return nil, nil, err
		}
		at.rev = rev
	}
	if err := e.lastRevisions(ctx, &at); err != nil {
		return nil, nil, err
	}
	d, objects, _, err := e.render(ctx, &at, &facts, true)
	if err != nil && belay.CodeOf(err) != belay.CodeUnavailable {
		if good := e.lastGood(ctx, &at, &facts); good != nil {
			return good.objects, good.desired, nil
		}
	}
	return objects, d, err
}

// teardownStep is what may be done now to delete an application. build plans the
// deletion of objects.
func (e *Engine) teardownStep(t *target, lv *ending, build func([]belay.Live) belay.Plan, gate plan.Gate) (belay.Plan, plan.Step) {
	live := t.conn.Live(t.app.name)
	if lv == nil || lv.over {
		p := build(live)
		return p, plan.Frontier(&p, gate)
	}
	m := &t.app.hooks
	m.load(e.Runs, t.cluster, t.conn.Facts().ID, t.app.name)
	if !m.known || !belay.SameHookRun(m.rec.Run, lv.run) {
		m.start(lv.run, false)
		m.rec.AtEnd = true
	}
	facts := t.conn.Facts()
	scopes := plan.NewScopes(&facts, nil)
	gate.Served = scopes.Served
	var runs []plan.HookRun
	for i := range lv.hooks {
		o := &lv.hooks[i]
		for _, phase := range o.Hook.Phases {
			if phase == belay.PreDelete || phase == belay.PostDelete {
				runs = append(runs, e.hookRun(t, o, phase, lv.run, e.hookBlocked(t, o)))
			}
		}
	}
	p := build(slices.DeleteFunc(live, func(l belay.Live) bool { return lv.stays(&l) }))
	next := plan.NextTeardown(plan.HookInput{Plan: &p, Gate: gate, Run: lv.run, Hooks: runs})
	if next.Done {
		lv.over = true
		p = build(t.conn.Live(t.app.name))
		return p, plan.Frontier(&p, gate)
	}
	if len(next.Run) > 0 && !m.rec.Leaving {
		m.rec.Leaving = true
		e.remember(t.app)
	}
	return p, next.Step
}

// stays says whether an object is needed until the last hook has run: the objects
// of hooks, which tell that they have, and the namespaces that PostDelete hooks
// stand in.
func (lv *ending) stays(l *belay.Live) bool {
	return slices.ContainsFunc(lv.hooks, func(o belay.Object) bool {
		return o.ID == l.ID || (o.Hook.In(belay.PostDelete) && l.ID.GroupKind() == belay.Kind{Kind: "Namespace"} && l.ID.Name == o.ID.Namespace)
	})
}

// owed is 1 where an application that left Git may have no object any more, and
// still has PostDelete hooks to run.
func (e *Engine) owed(a *app, clusterName string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.Runs == nil || a.def != nil || (a.left != nil && a.left.ending != nil && a.left.ending.over) {
		return 0
	}
	if r, ok := e.knownRun(clusterName, e.idOf(clusterName), a.name); ok && r.Leaving {
		return 1
	}
	return 0
}

// nothingOwed lets an application go of which nothing is in the cluster and
// nothing in Git's history: what is remembered of it is of no use.
func (e *Engine) nothingOwed(a *app, clusterName string, n int, err error) (int, error) {
	if errors.Is(err, errNeverDeclared) && n == e.owed(a, clusterName) {
		return 0, nil
	}
	return n, err
}

// findLeaving looks for applications of which an earlier life left nothing but
// hooks to run. Called with e.mu.
func (e *Engine) findLeaving(clusterName string) {
	if e.Runs == nil || e.DryRun {
		return
	}
	for _, r := range e.Runs.All() {
		if _, declared := e.catalog.Applications[r.Application]; !r.Leaving || r.Cluster != clusterName || differentCluster(r.ClusterID, e.idOf(clusterName)) || declared || e.apps[r.Application] != nil {
			continue
		}
		a := newApp(r.Application)
		a.read = true
		e.apps[r.Application] = a
		e.wake(r.Application)
	}
}

// forgetRuns drops what is remembered of an application of which nothing is left.
func (e *Engine) forgetRuns(application string) {
	if e.Runs == nil || e.DryRun {
		return
	}
	for _, r := range e.Runs.All() {
		if r.Application != application {
			continue
		}
		if err := e.Runs.Forget(r.Cluster, application); err != nil {
			e.Logger.Warn("run not forgotten", "application", application, "cluster", r.Cluster, "error", err)
		}
	}
}

// previewHooks adds the hooks that a sync would run, before and after its writes.
func (e *Engine) previewHooks(t *target, p *belay.Plan, out *belay.Preview) {
	if !t.desired.hooked() || e.hooksRan(t, p) {
		return
	}
	before, after := []belay.PreviewChange{}, []belay.PreviewChange{}
	for _, h := range t.desired.hooks {
		for _, phase := range mainPhases(h.hook) {
			c := belay.PreviewChange{Verb: belay.VerbCreate, ID: h.id, Wave: h.wave, Hook: phase, File: h.origin.File, Line: h.origin.Line}
			if _, err := t.project.Permit(t.def, t.cluster, h.id, h.id.Namespace != ""); err != nil {
				c.Error = asError(err, t.def.Name).Message
			}
			if phase == belay.PreSync {
				before = append(before, c)
			} else {
				after = append(after, c)
			}
		}
	}
	byOrder := func(a, b belay.PreviewChange) int {
		order := belay.HookPhases()
		if a.Hook != b.Hook {
			return slices.Index(order, a.Hook) - slices.Index(order, b.Hook)
		}
		return a.Wave - b.Wave
	}
	slices.SortStableFunc(before, byOrder)
	slices.SortStableFunc(after, byOrder)
	for i := range t.desired.unplaced {
		u := &t.desired.unplaced[i]
		out.Errors = append(out.Errors, *u.Err)
	}
	out.Changes = slices.Concat(before, out.Changes, after)
}

// hooksRan says whether the hooks have run for the desired state of a preview.
func (e *Engine) hooksRan(t *target, p *belay.Plan) bool {
	if r, ok := e.knownRun(t.cluster, t.conn.Facts().ID, t.def.Name); ok {
		return r.Over && !r.Leaving && belay.SameHookRun(r.Run, t.desired.run)
	}
	e.mu.Lock()
	if a := e.apps[t.def.Name]; a != nil && a.cluster == t.cluster {
		t.app.synced = a.synced
	}
	e.mu.Unlock()
	return e.ranUnseen(t, p)
}

// previewLeaving adds the hooks that the removal of an application would run.
func (e *Engine) previewLeaving(t *target, out *belay.Preview) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[t.def.Name]
	if a == nil || a.desired == nil || !t.def.Spec.Sync.Prune {
		return
	}
	for _, h := range a.desired.hooks {
		c := belay.PreviewChange{Verb: belay.VerbCreate, ID: h.id, Wave: h.wave, File: h.origin.File, Line: h.origin.Line}
		if h.hook.In(belay.PreDelete) {
			c.Hook = belay.PreDelete
			out.Changes = slices.Concat([]belay.PreviewChange{c}, out.Changes)
		}
		if h.hook.In(belay.PostDelete) {
			c.Hook = belay.PostDelete
			out.Changes = append(out.Changes, c)
		}
	}
}
