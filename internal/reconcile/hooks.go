package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// takeHooks parts hooks from the objects of a desired state.
func (d *desired) takeHooks(rendered []belay.Object, namespace string, key []byte) {
	d.run = belay.HookRunOf(rendered, namespace, key)
	d.objects = slices.DeleteFunc(d.objects, func(o declared) bool {
		if o.hook != nil {
			d.hooks = append(d.hooks, o)
		}
		return o.hook != nil
	})
	d.unresolved = slices.DeleteFunc(d.unresolved, func(u plan.Unresolved) bool {
		if u.Object.Hook != nil {
			d.unplaced = append(d.unplaced, u)
		}
		return u.Object.Hook != nil
	})
}

// hooked says whether the application has hooks.
func (d *desired) hooked() bool { return len(d.hooks)+len(d.unplaced) > 0 }

// claimed are all objects that an application lays claim to.
func (d *desired) claimed() []declared {
	if len(d.hooks)+len(d.also) == 0 {
		return d.objects
	}
	return slices.Concat(d.objects, d.hooks, d.also)
}

func has(list []declared, id belay.ObjectID) bool {
	return slices.ContainsFunc(list, func(o declared) bool { return o.id == id })
}

// split parts the application's objects in the cluster into those that are kept
// equal to Git and those of hooks.
func (t *target) split() (kept, hooks []belay.Live) {
	kept = t.conn.Live(t.def.Name)
	kept = slices.DeleteFunc(kept, func(l belay.Live) bool {
		hook := has(t.desired.hooks, l.ID) || l.Hook != nil && !has(t.desired.objects, l.ID)
		if hook {
			hooks = append(hooks, l)
		}
		return hook
	})
	return kept, hooks
}

func (t *target) kept() []belay.Live {
	kept, _ := t.split()
	return kept
}

// defFor is the definition as it is for an action. The pods of a hook's Job go with
// it, whatever is to become of the dependents of other objects: one that was left
// running would go on with a migration that nobody waits for.
func (t *target) defFor(act *belay.Action) *belay.Application {
	if act.Hook == "" || t.def.Spec.Sync.Propagation != belay.PropagationOrphan {
		return t.def
	}
	def := *t.def
	def.Spec.Sync.Propagation = belay.PropagationBackground
	return &def
}

// hooksIdle says whether hooks leave nothing to do, for all that is known without
// a plan. live are the objects of hooks.
func (e *Engine) hooksIdle(t *target, live []belay.Live) bool {
	m := &t.app.hooks
	m.load(e.Runs, t.cluster, t.conn.Facts().ID, t.def.Name)
	if !m.reached(t.desired.run) {
		if t.desired.hooked() {
			return false
		}
		e.noHooks(t)
	}
	return !slices.ContainsFunc(live, func(l belay.Live) bool { return l.Hook != nil && !l.Deleting && !t.rests(&l) })
}

// rests says whether the object of a hook may stay as it is when its run is over.
func (t *target) rests(l *belay.Live) bool {
	k := slices.IndexFunc(t.desired.hooks, func(d declared) bool { return d.id == l.ID })
	if k < 0 {
		return !t.def.Spec.Sync.Prune
	}
	return len(plan.HookLeftovers([]belay.Live{*l}, []belay.Object{{ID: l.ID, Hook: t.desired.hooks[k].hook}},
		func(belay.ObjectID) bool { return false }, true, true)) == 0
}

// frontier is plan.Frontier for an application that may have hooks. Hooks that
// the run still needs are added to the plan, so that they count as left to do.
func (e *Engine) frontier(t *target, p *belay.Plan, hooks []belay.Object, gate plan.Gate) plan.Step {
	m := &t.app.hooks
	e.learnRun(t, p)
	t.hookStates = map[belay.ObjectID]belay.HookState{}
	if !t.desired.hooked() || m.rec.Over {
		e.showOver(t)
		step := plan.Frontier(p, gate)
		if len(step.Run) == 0 {
			step.Run = e.leftovers(t, hooks, gate)
		}
		return step
	}
	gate.Allow = e.undoubted(t, gate.Allow)
	next := plan.NextHooks(plan.HookInput{Plan: p, Gate: gate, Run: t.desired.run, Hooks: e.hookRuns(t, hooks),
		Restores: t.app.undone, Failed: t.app.brokenFor(p, t.retry())})
	if next.Done {
		m.rec.Over, m.rec.Done = true, nil
		e.remember(t.app)
		e.Checkpoint("hooksOver")
		next.Run = e.leftovers(t, hooks, gate)
		return next.Step
	}
	p.Actions = append(p.Actions, next.Left...)
	if slices.ContainsFunc(next.Run, func(a belay.Action) bool { return a.Verb != belay.VerbHeal && !t.app.undone(&a) }) {
		e.runBegins(t.app)
	} else if len(next.Run) == 0 {
		next.Run = e.leftovers(t, hooks, gate)
	}
	return next.Step
}

// hookRuns is how far each hook is in the run. Ends that were not seen before are
// told and remembered.
func (e *Engine) hookRuns(t *target, hooks []belay.Object) []plan.HookRun {
	var out []plan.HookRun
	add := func(o *belay.Object, err *belay.Error) {
		for _, phase := range o.Hook.Phases {
			if isMain(phase) || phase == belay.SyncFail {
				out = append(out, e.hookRun(t, o, phase, t.desired.run, err))
			}
		}
	}
	for i := range hooks {
		add(&hooks[i], e.hookBlocked(t, &hooks[i]))
	}
	for i := range t.desired.unplaced {
		u := &t.desired.unplaced[i]
		add(&u.Object, u.Err)
	}
	for i := range out {
		t.show(&out[i])
	}
	return out
}

// hookRun looks at one hook in one phase.
func (e *Engine) hookRun(t *target, o *belay.Object, phase belay.HookPhase, run string, blocked *belay.Error) plan.HookRun {
	m, k := &t.app.hooks, hookKey{o.ID, phase}
	r := plan.HookRun{Object: o, Phase: phase, State: belay.HookWaiting, Blocked: blocked}
	l, ok := t.conn.Lookup(o.ID)
	if ok {
		r.Live = &l
		if l.Managers != nil {
			t.conn.Verified(l.ID, l.Fingerprint) // nobody compares it
		}
	}
	ours := ok && l.Hook != nil && l.Application == t.def.Name && belay.SameHookRun(l.Hook.Run, run)
	r.Mine = ours && l.Hook.Phase == phase
	switch {
	case m.done[k.String()]:
		r.State = belay.HookSucceeded
	case r.Mine && !l.Deleting:
		r.State = plan.HookState(&l)
		switch {
		case r.State == belay.HookSucceeded:
			e.hookSucceeded(t, k)
		case r.State == belay.HookFailed && m.failed[k] != l.UID:
			if m.failed == nil {
				m.failed = map[hookKey]string{}
			}
			m.failed[k] = l.UID
			e.hookFailed(t, &r)
		}
	case m.failed[k] != "":
		r.State = belay.HookFailed
	case ours && isMain(phase) && isMain(l.Hook.Phase) && slices.Index(belay.HookPhases(), l.Hook.Phase) > slices.Index(belay.HookPhases(), phase):
		r.State = belay.HookSucceeded // a later phase has begun
	default:
		if f := t.app.fails[o.ID]; f != nil && lasting(belay.CodeOf(f.err)) {
			r.State = belay.HookFailed // it could not even be started
		}
	}
	return r
}

// hookBlocked says why a hook cannot run at all.
func (e *Engine) hookBlocked(t *target, o *belay.Object) *belay.Error {
	fail := func(err error) *belay.Error {
		be := asError(err, t.app.name)
		be.Object, be.Origin = o.ID.String(), o.Origin
		return be
	}
	if _, err := t.project.Permit(t.def, t.cluster, o.ID, o.ID.Namespace != ""); err != nil {
		return fail(err)
	}
	name, at, ok, _ := e.claimant(t, o.ID)
	l, there := t.conn.Lookup(o.ID)
	switch {
	case ok && name != t.def.Name:
		return fail(&belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("also declared by application %q in %s, which it belongs to", name, at),
			Hint: "declare it in one application only"})
	case there && l.Application != t.def.Name && l.Application != "":
		return fail(&belay.Error{Code: belay.CodeConflict, Message: fmt.Sprintf("an object of that name is there and belongs to application %q", l.Application),
			Hint: "give the hook another name"})
	case there && l.PruneDisabled:
		return fail(&belay.Error{Code: belay.CodeConflict, Message: fmt.Sprintf("an object of that name is there, and its annotation %s keeps it", belay.AnnotationPrune),
			Hint: "delete it by hand, or give the hook another name"})
	}
	return nil
}

// undoubted lets a hook start only when it is known to whom its object belongs.
func (e *Engine) undoubted(t *target, allow func(*belay.Action) (bool, string)) func(*belay.Action) (bool, string) {
	return func(act *belay.Action) (bool, string) {
		if act.Hook != "" {
			if name, _, _, doubt := e.claimant(t, act.ID); doubt {
				return false, fmt.Sprintf("%s was declared by application %q; whether it still is, is being read", act.ID, name)
			}
		}
		return allow(act)
	}
}

func (e *Engine) hookSucceeded(t *target, k hookKey) {
	m := &t.app.hooks
	m.succeeded(k.String())
	m.rec.Done = append(m.rec.Done, k.String())
	delete(m.failed, k)
	delete(t.app.fails, k.id)
	e.remember(t.app)
	if d := t.app.running[t.cluster]; d != nil {
		d.noteHook(k, nil)
	}
	e.tellHook(t, k, fmt.Sprintf("%s hook succeeded", k.phase), belay.Succeeded)
	e.Checkpoint("hookSucceeded")
}

// hookFailed counts a failed hook as a failed attempt, like a failed write.
func (e *Engine) hookFailed(t *target, r *plan.HookRun) {
	why := r.Live.HealthMessage
	if why == "" {
		why = "it is degraded"
	}
	msg := fmt.Sprintf("%s hook failed: %s", r.Phase, why)
	if r.Phase == belay.PreSync {
		msg += "; nothing of this commit is applied"
	}
	e.note(t, r.Object.ID, true, "HookFailed", msg)
	e.hookAttempt(t, hookKey{r.Object.ID, r.Phase}, r.Object, &belay.Error{Code: belay.CodeHookFailed, Application: t.app.name, Message: msg,
		Hint: fmt.Sprintf("look at what it logged; it runs again with a commit that changes the application, or by: belay sync %s", t.app.name)})
}

// hookAttempt notes an attempt that failed.
func (e *Engine) hookAttempt(t *target, k hookKey, o *belay.Object, err *belay.Error) {
	a := t.app
	err.Object, err.Origin = o.ID.String(), o.Origin
	digest := actionDigest(&belay.Action{Verb: belay.VerbCreate, Desired: o})
	f := a.fails[k.id]
	if f == nil || f.digest != digest {
		f = &attempt{digest: digest}
		a.fails[k.id] = f
	}
	f.note(err, time.Now(), t.retry())
	e.stats.Failures.Add(1)
	e.Logger.Warn("hook failed", "application", a.name, "cluster", t.cluster, "object", k.id.String(), "phase", string(k.phase), "error", err.Error())
	if d := a.running[t.cluster]; d != nil {
		d.noteHook(k, err)
	}
	e.tellHook(t, k, messageOf(err), belay.Failed)
}

func (e *Engine) tellHook(t *target, k hookKey, message string, result belay.Result) {
	e.publish(belay.Event{Type: belay.EventHook, Application: t.app.name, Cluster: t.cluster, Object: k.id.String(), Repo: t.rev.Repo,
		Revision: t.rev.Commit, Actor: t.actor(), Deployment: t.deployment(), Result: result, Message: message})
}

// hookOutcome notes what became of a write or deletion of a hook's object.
func (e *Engine) hookOutcome(t *target, act *belay.Action, err error) {
	k := hookKey{act.ID, act.Hook}
	switch {
	case err != nil && act.Desired == nil: // a leftover
		e.Logger.Warn("object of a hook not deleted", "application", t.app.name, "cluster", t.cluster, "object", act.ID.String(), "error", err)
		f := t.app.fails[act.ID]
		if f == nil {
			e.tellHook(t, k, "object of a hook not deleted: "+asError(err, "").Message, belay.Failed)
		}
		if f == nil || f.digest != actionDigest(act) {
			f = &attempt{digest: actionDigest(act)}
			t.app.fails[act.ID] = f
		}
		f.note(asError(err, t.app.name), time.Now(), t.retry())
	case err != nil:
		be := asError(err, t.app.name)
		be.Message = fmt.Sprintf("%s hook not started: %s", act.Hook, be.Message)
		e.hookAttempt(t, k, act.Desired, be)
	case act.Verb == belay.VerbDelete:
		if f := t.app.fails[act.ID]; f != nil && f.digest == actionDigest(act) {
			delete(t.app.fails, act.ID) // that of the hook itself stays: it waits for its next try
		}
		e.Checkpoint("hookCleared")
	default:
		delete(t.app.hooks.failed, k)
		e.tellHook(t, k, fmt.Sprintf("%s hook started", act.Hook), "")
		e.Checkpoint("hookStarted")
	}
}

// leftovers are the deletions of hooks' objects that may be done now.
func (e *Engine) leftovers(t *target, hooks []belay.Object, gate plan.Gate) []belay.Action {
	over := t.app.hooks.rec.Over || !t.desired.hooked()
	declaredOrClaimed := func(id belay.ObjectID) bool {
		return has(t.desired.objects, id) || e.claimed(t, id)
	}
	all := plan.HookLeftovers(t.conn.Live(t.def.Name), hooks, declaredOrClaimed, over, t.def.Spec.Sync.Prune)
	all = slices.DeleteFunc(all, func(a belay.Action) bool {
		if slices.ContainsFunc(t.desired.unplaced, func(u plan.Unresolved) bool { return u.Object.ID.Name == a.ID.Name }) {
			return true // it may be this one
		}
		if a.Live.Health == belay.Degraded && !over && t.app.hooks.failed[hookKey{a.ID, a.Hook}] != a.Live.UID && has(t.desired.hooks, a.ID) {
			return true // its failure was not counted yet
		}
		return false
	})
	t.uncleared = len(all) > 0
	return slices.DeleteFunc(all, func(a belay.Action) bool {
		ok, _ := gate.Allow(&a)
		return !ok || declaredOrClaimed(a.ID) // by one that was read since, it may be
	})
}

// clears says whether a deletion belongs to a sync that somebody asked for and that
// is through but for it: the object of a hook could not go at once. Called with
// Engine.mu.
func (t *target) clears(act *belay.Action) bool {
	return act.Hook != "" && act.Desired == nil && t.app.granted == t.desired.digest
}

// brokenFor says whether a sync has failed in a way that time does not mend.
func (a *app) brokenFor(p *belay.Plan, retry belay.Retry) bool {
	if a.effort.failed != nil {
		return true
	}
	for i := range p.Actions {
		act := &p.Actions[i]
		if act.Blocked != nil && lasting(act.Blocked.Code) {
			return true
		}
		if f := a.fails[act.ID]; f != nil && f.digest == actionDigest(act) && (lasting(belay.CodeOf(f.err)) || f.exhausted(retry)) {
			return true
		}
	}
	return false
}

// lasting says whether an error stays until somebody changes something.
func lasting(c belay.Code) bool {
	switch c {
	case belay.CodeInvalid, belay.CodeDenied, belay.CodeForbidden, belay.CodeConflict, belay.CodeImmutable:
		return true
	}
	return false
}

// show keeps the state of a hook for people: of several phases that which says
// most.
func (t *target) show(r *plan.HookRun) {
	order := []belay.HookState{"", belay.HookSucceeded, belay.HookWaiting, belay.HookRunning, belay.HookFailed}
	state := r.State
	if r.Phase == belay.SyncFail && state == belay.HookWaiting {
		state = ""
	}
	if slices.Index(order, state) >= slices.Index(order, t.hookStates[r.Object.ID]) {
		t.hookStates[r.Object.ID] = state
	}
}

// showOver is show for a run that is over: what its objects still tell.
func (e *Engine) showOver(t *target) {
	for _, h := range t.desired.hooks {
		l, ok := t.conn.Lookup(h.id)
		if ok && l.Hook != nil && l.Application == t.def.Name && belay.SameHookRun(l.Hook.Run, t.desired.run) {
			t.hookStates[h.id] = plan.HookState(&l)
		} else if slices.ContainsFunc(h.hook.Phases, func(p belay.HookPhase) bool { return t.app.hooks.done[hookKey{h.id, p}.String()] }) {
			t.hookStates[h.id] = belay.HookSucceeded
		}
	}
}

// hookRow is what is shown of a hook among the objects of its application.
func (a *app) hookRow(d *declared, conn Cluster) belay.ObjectStatus {
	state := a.hookStates[d.id]
	o := belay.ObjectStatus{ObjectID: d.id, APIVersion: d.apiVersion, Wave: d.wave, File: d.origin.File, Line: d.origin.Line,
		Sync: belay.Synced, Health: belay.Healthy, Hook: &belay.HookStatus{Phases: d.hook.Phases, State: state}}
	if a.hookStates == nil {
		o.Sync, o.Health = belay.SyncUnknown, belay.Unknown
	}
	if conn == nil {
		return o
	}
	if l, ok := conn.Lookup(d.id); ok && l.Hook != nil {
		o.Message = l.HealthMessage
	}
	switch state {
	case belay.HookRunning:
		o.Health = belay.Progressing
	case belay.HookFailed:
		o.Health = belay.Degraded
	case belay.HookWaiting:
		o.Health, o.Message = belay.Missing, ""
	}
	if msg, ok := a.pending[d.id]; ok {
		o.Sync = belay.OutOfSync
		if state != belay.HookRunning {
			o.Message = msg
		}
	}
	return o
}
