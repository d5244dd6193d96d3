package reconcile

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// parallel bounds the writes of one application that are under way at once.
const parallel = 16

// reconcile takes one application as far as it can get now. It never waits for
// the cluster to become anything: what is missing is state, and its change wakes
// the application again.
func (e *Engine) reconcile(ctx context.Context, name string) {
	e.mu.Lock()
	a := e.apps[name]
	if a == nil || e.catalog == nil {
		e.mu.Unlock()
		return
	}
	def, ref, cat, change, retry, afresh, over, who := a.def, a.ref, e.catalog, e.config.Commit, a.retry, a.afresh, a.override, a.asked
	a.retry, a.afresh = false, false
	e.mu.Unlock()
	if retry {
		clear(a.heals)
		a.notBefore = time.Time{}
	}
	if retry || afresh {
		a.renew()
	}
	if def == nil {
		if !e.holdsOn(ctx, a) {
			e.teardown(ctx, a)
		}
		return
	}
	t := &target{app: a, def: def, ref: ref, cluster: def.Spec.Destination.Cluster, change: change, override: over, asked: who}
	e.mu.Lock()
	a.deliverTo(t.cluster)
	e.mu.Unlock()
	if err := cat.ApplicationErrors[name]; err != nil {
		e.unreadable(a)
		e.settle(t, nil, asError(err, name))
		return
	}
	project := projectOf(cat, def)
	t.project = &project
	if err := e.connection(t); err != nil {
		e.settle(t, nil, asError(err, name))
		return
	}
	id := t.conn.Facts().ID
	e.mu.Lock()
	a.standsIn(id)
	e.mu.Unlock()
	missing, srcErr := e.newest(ctx, t)
	if e.catalogInForce() != cat {
		e.wake(name) // of what commit the definitions are is as good as that of the files
		return
	}
	if t.rev.Commit == "" {
		if e.Sources.Looked(missing) {
			e.unreadable(a)
		} // else its arrival wakes us
		e.settle(t, nil, asError(srcErr, name))
		return
	}
	d, err := e.renderDesired(ctx, t)
	e.wasRead(t.cluster)
	d, handled, err := e.underHold(ctx, t, d, err)
	if handled {
		return
	}
	if d == nil {
		if err != nil {
			e.settle(t, nil, asError(err, name))
			e.renderLater(a, err)
		}
		return
	}
	t.desired = d
	if !t.conn.Observe(d.kinds) {
		e.settle(t, nil, &belay.Error{Code: belay.CodeUnavailable, Message: "looking at what the cluster has"})
		return
	}
	why := err
	if why == nil && srcErr != nil {
		// The last good commit holds. That a newer one may exist is no difference
		// between the cluster and Git, or an outage of Git would alarm the whole fleet.
		outage := asError(srcErr, name)
		outage.Code = belay.CodeUnavailable
		why = outage
	}
	e.converge(ctx, t, why)
	if err != nil {
		e.renderLater(a, err)
	}
}

func (e *Engine) connection(t *target) error {
	e.mu.Lock()
	c := e.clusters[t.cluster]
	e.mu.Unlock()
	if c == nil {
		return &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("cluster %q is not declared", t.cluster), Origin: t.def.Origin}
	}
	if c.err != nil {
		return c.err
	}
	t.conn = c.conn
	return c.conn.Ready()
}

// converge plans and writes until nothing more can be done now. renderErr is the
// reason why the desired state is older than the revision, if it is.
func (e *Engine) converge(ctx context.Context, t *target, renderErr error) {
	a := t.app
	e.supersede(t)
	e.reconsider(t)
	e.bindOverride(t, renderErr != nil)
	e.bindAsked(t, renderErr != nil)
	for {
		e.stats.Passes.Add(1)
		if e.inSync(t) {
			if renderErr == nil {
				a.tries.count = 0
			}
			t.uncleared = false
			e.finish(ctx, t, &belay.Plan{}, plan.Step{}, renderErr)
			return
		}
		objs, err := e.objects(ctx, t, false)
		if err != nil {
			e.settle(t, nil, asError(err, a.name))
			e.tryAgain(a, err, backoffFirst)
			return
		}
		if renderErr == nil {
			a.tries.count = 0
		}
		objs, hooks := plan.SplitHooks(objs)
		p, gate := e.plan(t, objs)
		e.verified(t, objs, &p)
		if err := e.tellDrift(ctx, t, &p); err != nil {
			e.postpone(ctx, t, &p, err, renderErr)
			return
		}
		step := e.frontier(t, &p, hooks, gate)
		if len(step.Run) == 0 || e.runCtx.Err() != nil {
			e.finish(ctx, t, &p, step, renderErr)
			return
		}
		if needsValues(step.Run) {
			if _, err := e.objects(ctx, t, true); err != nil {
				e.settle(t, nil, asError(err, a.name))
				e.tryAgain(a, err, backoffFirst)
				return
			}
			continue
		}
		if err := e.begin(ctx, t, &p, step.Run); err != nil {
			e.postpone(ctx, t, &p, err, renderErr)
			return
		}
		a.unrecorded = attempt{}
		e.tellRetries(t, step.Run)
		e.execute(ctx, t, step.Run)
	}
}

func needsValues(actions []belay.Action) bool {
	for i := range actions {
		if actions[i].Desired != nil && actions[i].Desired.Redacted {
			return true
		}
	}
	return false
}

// inSync is the cheap answer for an application at rest: every object is there
// as it was applied, was compared before, and there is no other.
func (e *Engine) inSync(t *target) bool {
	if len(t.desired.unresolved) > 0 {
		return false
	}
	for i := range t.desired.objects {
		o := &t.desired.objects[i]
		l, ok := t.conn.Lookup(o.id)
		if !ok || l.Digest != o.digest || l.Application != t.def.Name || l.Managers != nil || l.Deleting {
			return false
		}
		if _, err := t.project.Permit(t.def, t.cluster, o.id, o.id.Namespace != ""); err != nil {
			return false
		}
	}
	kept, hooks := t.split()
	return len(kept) == len(t.desired.objects) && e.hooksIdle(t, hooks) && !e.doublyClaimed(t)
}

func (e *Engine) doublyClaimed(t *target) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.claims[t.cluster]
	for i := range t.desired.objects {
		if len(cl.by[t.desired.objects[i].id]) > 1 {
			return true
		}
	}
	return false
}

func (e *Engine) plan(t *target, objs []belay.Object) (belay.Plan, plan.Gate) {
	t.newPlan()
	e.checkTimeout(t)
	facts := t.conn.Facts()
	scopes := plan.NewScopes(&facts, objs)
	disputed := map[belay.ObjectID]string{} // claims that may be out of date
	p := plan.Build(plan.Input{
		Application: t.def, Project: t.project, Cluster: t.cluster, Desired: objs, Unresolved: t.desired.unresolved,
		Namespaced: func(o belay.Object) bool { ns, _ := scopes.Namespaced(&o); return ns },
		Live:       t.kept(), Lookup: t.conn.Lookup,
		Claimant: func(id belay.ObjectID) (string, belay.Origin, bool) {
			name, at, ok, doubt := e.claimant(t, id)
			if doubt {
				disputed[id] = name
			}
			return name, at, ok
		},
		Claimed: func(id belay.ObjectID) bool { return e.claimed(t, id) },
		Within:  func(id belay.ObjectID) (belay.ObjectID, string, bool) { return e.within(t, id) },
	})
	for i := range p.Actions {
		act := &p.Actions[i]
		if act.Blocked != nil && act.Blocked.Code == belay.CodeTerminating && act.Live != nil && act.Live.Application != t.def.Name {
			t.putOff(t.planned.Add(lookAgain)) // its end wakes another application, or none
		}
	}
	return p, plan.Gate{Desired: objs, Lookup: t.conn.Lookup, Served: scopes.Served,
		Allow: func(act *belay.Action) (bool, string) {
			if other := disputed[act.ID]; other != "" {
				return false, fmt.Sprintf("%s was declared by application %q; whether it still is, is being read", act.ID, other)
			}
			return e.allow(t, act)
		}}
}

// claimed says whether another application declares an object.
func (e *Engine) claimed(t *target, id belay.ObjectID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.claimsOn(t, id)
	return cl != nil && cl.claimed(id, t.def.Name)
}

// within finds what another application declares that would go with a namespace or
// a definition. The target is woken when that may have changed.
func (e *Engine) within(t *target, container belay.ObjectID) (o belay.ObjectID, application string, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	other := func(app string) bool { return app != t.def.Name && (t.foreseen == nil || !t.foreseen.apps[app]) }
	if cl := e.claims[t.cluster]; cl != nil {
		o, application, ok = cl.within(container, other)
	}
	if t.foreseen == nil {
		if ok {
			e.doubt(t.cluster, t.def.Name)
		}
		return o, application, ok
	}
	if cl := t.foreseen.claims[t.cluster]; cl != nil && !ok {
		o, application, ok = cl.within(container, func(app string) bool { return app != t.def.Name })
	}
	return o, application, ok
}

// claimsOn has the claims on an object that count for a target. Called with e.mu.
func (e *Engine) claimsOn(t *target, id belay.ObjectID) *claims {
	now := e.claims[t.cluster]
	if t.foreseen != nil {
		return t.foreseen.of(t.cluster, id, now)
	}
	return now
}

// verified tells the observer which managers need not be kept.
func (e *Engine) verified(t *target, objs []belay.Object, p *belay.Plan) {
	touched := make(map[belay.ObjectID]bool, len(p.Actions))
	for i := range p.Actions {
		touched[p.Actions[i].ID] = true
	}
	for i := range objs {
		if l, ok := t.conn.Lookup(objs[i].ID); ok && !touched[objs[i].ID] && l.Managers != nil {
			t.conn.Verified(l.ID, l.Fingerprint)
		}
	}
}

// allow applies what a pure plan cannot know: the clock, the sync policy, a
// person's request, and whether everybody's claims are known.
func (e *Engine) allow(t *target, act *belay.Action) (bool, string) {
	a, sp := t.app, &t.def.Spec.Sync
	if e.DryRun {
		return false, "planned only"
	}
	if why := e.suspended(t); why != "" {
		return t.bar(why)
	}
	e.mu.Lock()
	manual := a.manual || t.ordered || t.held != nil || t.clears(act)
	e.mu.Unlock()
	if !manual && !sp.Automatic {
		return t.bar(fmt.Sprintf("automatic sync is off; run: belay sync %s", t.def.Name))
	}
	if !manual && !sp.SelfHeal {
		if act.Verb == belay.VerbHeal {
			return false, "drifted, and self-heal is off"
		}
		if a.undone(act) {
			return false, "changed or deleted by hand, and self-heal is off"
		}
	}
	if why := e.untimely(t, act); why != "" {
		return t.bar(why)
	}
	if act.Verb == belay.VerbDelete {
		if why := e.pruneBlocked(t.cluster, a.name); why != "" {
			return false, why
		}
		if other := e.keptFor(t.cluster, act.ID, a.name); other != "" {
			return false, fmt.Sprintf("%s is not deleted while application %q cannot be read: it may declare it", act.ID, other)
		}
		if why := e.claimedSince(t, act); why != "" {
			return false, why
		}
	}
	if f := a.fails[act.ID]; f != nil && f.digest == actionDigest(act) && !e.mayRetry(t, f) {
		t.failed[act.ID] = true
		return false, f.err.Error()
	}
	if h := a.heals[act.ID]; h != nil && (act.Verb == belay.VerbHeal || a.undone(act)) && t.planned.Before(h.healAt()) {
		t.putOff(h.healAt())
		return false, fmt.Sprintf("contested%s: healed %d times, again at %s", by(act.Drift), h.count, h.healAt().UTC().Format(time.TimeOnly))
	}
	return true, ""
}

func by(d *belay.Drift) string {
	if d == nil || d.Manager == "" {
		return ""
	}
	return " by " + d.Manager
}

func actionDigest(act *belay.Action) string {
	if act.Desired == nil {
		return string(act.Verb)
	}
	return string(act.Verb) + act.Desired.Digest
}

// undone says whether an action only brings back what had been reached before:
// somebody deleted the object, or took Belay's annotations from it.
func (a *app) undone(act *belay.Action) bool {
	return (act.Verb == belay.VerbCreate || act.Verb == belay.VerbUpdate) && act.Desired != nil && a.syncedIDs[act.ID] == act.Desired.Digest
}

// execute carries out actions of one group in parallel.
func (e *Engine) execute(ctx context.Context, t *target, actions []belay.Action) {
	var wg sync.WaitGroup
	results, took := make([]error, len(actions)), make([]time.Duration, len(actions))
	slots := make(chan struct{}, parallel)
	for i := range actions {
		slots <- struct{}{}
		if e.runCtx.Err() != nil { // what has not begun is left to the next start
			actions = actions[:i]
			<-slots
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			start := time.Now()
			results[i] = e.guarded(ctx, t, &actions[i])
			took[i] = time.Since(start)
			e.Checkpoint("written")
		})
	}
	wg.Wait()
	e.Checkpoint("group")
	for i := range actions {
		if d := t.app.running[t.cluster]; d != nil {
			d.note(&actions[i], results[i], took[i])
		}
		e.outcome(t, &actions[i], results[i])
	}
}

// guarded keeps a defect in one write from taking the process down.
func (e *Engine) guarded(ctx context.Context, t *target, act *belay.Action) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = e.defect(t.app.name, r)
		}
	}()
	return e.write(ctx, t, act)
}

// write carries out one action. The Permit is what lets it through.
func (e *Engine) write(ctx context.Context, t *target, act *belay.Action) error {
	permit, err := t.project.Permit(t.defFor(act), t.cluster, act.ID, act.ID.Namespace != "")
	if err != nil {
		return err
	}
	e.Checkpoint("write")
	if act.Verb == belay.VerbDelete {
		e.Checkpoint("delete")
		e.stats.Deletes.Add(1)
		err := t.conn.Delete(ctx, permit, *act.Live)
		e.Checkpoint("deleted")
		return err
	}
	e.stats.Applies.Add(1)
	live, err := t.conn.Apply(ctx, permit, *act)
	if belay.CodeOf(err) == belay.CodeNoNamespace && t.def.Spec.Sync.CreateNamespace && act.ID.Namespace == t.def.Spec.Destination.Namespace {
		if err := e.makeNamespace(ctx, t); err != nil {
			return err
		}
		live, err = t.conn.Apply(ctx, permit, *act)
	}
	if err != nil {
		if live, err = e.instead(ctx, t, permit, act, err); err != nil || act.Verb == belay.VerbRecreate {
			return err
		}
	}
	// Whatever our entry looks like right after our own apply is right by definition.
	// What somebody added meanwhile is not, and is seen by the next plan.
	if len(plan.Compare(act.Desired, &live, t.project.Spec.InteractiveManagers, act.Manner.Ignore...).TakeOver) == 0 {
		t.conn.Verified(live.ID, live.Fingerprint)
	}
	return nil
}

func (e *Engine) makeNamespace(ctx context.Context, t *target) error {
	ns := belay.ObjectID{Kind: "Namespace", Name: t.def.Spec.Destination.Namespace}
	// The namespace is where the project lets the application put things; that
	// it may list the kind Namespace among its own objects is another matter.
	open := *t.project
	open.Spec.ClusterKinds = []string{"Namespace"}
	permit, err := open.Permit(t.def, t.cluster, ns, false)
	if err != nil {
		return err
	}
	err = t.conn.EnsureNamespace(ctx, permit, t.def.Spec.Sync.NamespaceMetadata)
	e.Checkpoint("namespace")
	return err
}

// outcome notes what became of an action.
func (e *Engine) outcome(t *target, act *belay.Action, err error) {
	if act.Hook != "" {
		e.hookOutcome(t, act, err)
		return
	}
	a, now := t.app, time.Now()
	if err != nil {
		e.stats.Failures.Add(1)
		f := a.fails[act.ID]
		if f == nil || f.digest != actionDigest(act) {
			f = &attempt{digest: actionDigest(act), cluster: t.cluster}
			a.fails[act.ID] = f
		}
		be := asError(err, a.name)
		be.Object, be.Origin = act.ID.String(), act.Origin
		f.note(be, now, t.retry())
		a.noteDoubt(t.cluster, act, err)
		e.Logger.Warn("object not written", "application", a.name, "cluster", t.cluster, "object", act.ID.String(), "verb", string(act.Verb), "error", be.Error())
		if be.Code != belay.CodeUnavailable && be.Code != belay.CodeNoNamespace {
			e.note(t, act.ID, true, "NotApplied", be.Message)
		}
		return
	}
	delete(a.fails, act.ID)
	ev := belay.Event{Application: a.name, Cluster: t.cluster, Object: act.ID.String(), Repo: t.rev.Repo, Revision: t.rev.Commit, Actor: t.actor(),
		Deployment: t.deployment()}
	switch {
	case act.Verb == belay.VerbHeal || a.undone(act):
		e.stats.Heals.Add(1)
		a.noteHeal(act.ID)
		delete(a.drifted, act.ID)
		ev.Type, ev.Message, ev.Actor = belay.EventHealed, "set back to what Git declares", belay.FieldManager
		if act.Verb == belay.VerbCreate {
			ev.Message = "created again"
		}
		if act.Drift != nil {
			e.note(t, act.ID, false, "DriftHealed", fmt.Sprintf("Set back to what Git declares for application %s; %s", a.name, driftMessage(act.Drift)))
		}
	case act.Verb == belay.VerbDelete:
		ev.Type, ev.Message = belay.EventPruned, "deleted, no longer declared"
		if a.cluster == t.cluster { // declared again, it is made again: nobody deleted it by hand
			delete(a.syncedIDs, act.ID)
		}
	case e.tellInstead(t, act, &ev):
	default:
		ev.Type, ev.Message = belay.EventApplied, string(act.Verb)+"d"
		a.noteSynced(act)
	}
	e.publish(ev)
}

// How long a Kubernetes event may take, and how long the end waits for it.
const (
	notePatience = 15 * time.Second
	lastNote     = 3 * time.Second
)

// note leaves a Kubernetes event at an object for who looks at it with other tools.
// Nobody waits for it but the end, and that not for long.
func (e *Engine) note(t *target, id belay.ObjectID, warning bool, reason, message string) {
	e.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), notePatience)
		defer cancel()
		defer context.AfterFunc(e.runCtx, func() { time.AfterFunc(lastNote, cancel) })()
		t.conn.Event(ctx, id, warning, reason, message)
	})
}
