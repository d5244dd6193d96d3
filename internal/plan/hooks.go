package plan

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/belaydev/belay"
)

// HookRun is one hook in one of its phases, and how far it is in the run at hand.
type HookRun struct {
	Object *belay.Object
	Phase  belay.HookPhase
	State  belay.HookState
	// Live is what is there by its name, made for this phase or left by another; nil
	// if nothing is.
	Live *belay.Live
	// Mine is true when Live was made for this phase of this run.
	Mine bool
	// Blocked says why it cannot be started, whatever time brings.
	Blocked *belay.Error
}

// HookInput is everything that [NextHooks] depends on.
type HookInput struct {
	// Plan is of the objects alone.
	Plan *belay.Plan
	Gate Gate
	// Run identifies the desired state that the hooks run for.
	Run   string
	Hooks []HookRun
	// Restores says whether an action only brings back what had been reached before:
	// it waits for no hook.
	Restores func(*belay.Action) bool
	// Failed is true when a write failed and time will not mend it.
	Failed bool
}

// HookStep is what may run now, hooks and writes alike.
type HookStep struct {
	Step
	// Left are the hooks that the run still needs.
	Left []belay.Action
	// Done is true when nothing of the run is left.
	Done bool
}

// NextHooks is [Frontier] for a sync with hooks. Before every PreSync hook has
// succeeded it lets through only what brings back an earlier state, and the
// namespace that such a hook lives in. Sync hooks stand among the objects: one
// starts when all before its wave and rank is written and earlier waves are
// healthy, and later waves wait for its end. PostSync hooks come when nothing is
// left to write and everything is healthy. SyncFail hooks run beside the rest
// once something has failed.
func NextHooks(in HookInput) HookStep {
	in.sort()
	var out HookStep
	pre, sync, post := in.advance(belay.PreSync), in.advance(belay.SyncPhase), in.advance(belay.PostSync)
	at := pre
	switch {
	case !pre.done:
		out.Step = in.beforeSync(&pre)
	case !sync.done:
		at = sync
		out.Step = in.amongObjects(&sync)
	default:
		at = post
		out.Step = in.afterSync(&post)
		out.Done = post.done && len(in.Plan.Actions) == 0 && in.Plan.Held == nil
	}
	for i := range in.Hooks {
		if r := &in.Hooks[i]; r.Phase != belay.SyncFail && r.State != belay.HookSucceeded {
			out.Left = append(out.Left, r.probe())
		}
	}
	if at.failed || in.Failed {
		for _, a := range in.advance(belay.SyncFail).due {
			// One object is at most in one phase at a time.
			if !slices.ContainsFunc(out.Run, func(o belay.Action) bool { return o.ID == a.ID }) {
				out.Run = append(out.Run, a)
			}
		}
	}
	return out
}

// NextTeardown is NextHooks for an application that left Git: PreDelete hooks
// before the first deletion, PostDelete hooks after the last.
func NextTeardown(in HookInput) HookStep {
	in.sort()
	var out HookStep
	pre, post := in.advance(belay.PreDelete), in.advance(belay.PostDelete)
	switch {
	case !pre.done:
		out.Step = pre.step()
	case len(in.Plan.Actions) > 0:
		out.Step = Frontier(in.Plan, in.Gate)
	default:
		out.Step = post.step()
		out.Done = post.done
	}
	return out
}

func (in *HookInput) sort() {
	in.Hooks = slices.Clone(in.Hooks)
	slices.SortFunc(in.Hooks, func(a, b HookRun) int {
		return cmp.Or(cmp.Compare(a.Object.Wave, b.Object.Wave), cmp.Compare(rank(a.Object.ID), rank(b.Object.ID)), a.Object.ID.Compare(b.Object.ID))
	})
}

// progress is how far the hooks of one phase are.
type progress struct {
	done, failed bool
	wave         int // the first that is not done
	// rank is that of the first hook of the wave that is not started; -1 if all are.
	rank    int
	due     []belay.Action
	waiting string
	on      belay.ObjectID
}

func (p *progress) step() Step { return Step{Run: p.due, Waiting: p.waiting, On: p.on} }

// advance looks at the hooks of a phase: a wave begins when the one before it is
// done, and within a wave a rank when the one before it is started.
func (in *HookInput) advance(phase belay.HookPhase) progress {
	p := progress{done: true, rank: -1}
	for i := range in.Hooks {
		r := &in.Hooks[i]
		if r.Phase != phase || r.over() {
			continue
		}
		if p.done {
			p.done, p.wave = false, r.Object.Wave
		}
		if r.Object.Wave != p.wave {
			break
		}
		p.failed = p.failed || r.State == belay.HookFailed || r.Blocked != nil
		if r.State == belay.HookRunning {
			p.wait(r, r.running())
			continue
		}
		k := rank(r.Object.ID)
		if p.rank >= 0 && k > p.rank {
			break
		}
		p.rank = k
		if a, why := in.start(r); why == "" {
			p.due = append(p.due, a)
		} else {
			p.wait(r, why)
		}
	}
	return p
}

func (p *progress) wait(r *HookRun, why string) {
	if p.waiting == "" {
		p.waiting, p.on = why, r.Object.ID
	}
}

// over says whether nobody waits for the hook any more. That a SyncFail hook
// failed is told, and that is all.
func (r *HookRun) over() bool {
	return r.State == belay.HookSucceeded || (r.Phase == belay.SyncFail && r.State == belay.HookFailed)
}

func (r *HookRun) running() string {
	s := fmt.Sprintf("%s hook %s (%s) is running", r.Phase, r.Object.ID, r.Object.Origin)
	if r.Live == nil {
		return s
	}
	if h := r.Live.Hook; h != nil && !h.Since.IsZero() {
		s += " since " + h.Since.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return s + because(r.Live.HealthMessage)
}

// probe stands for the hook where it is asked whether it may start.
func (r *HookRun) probe() belay.Action {
	return belay.Action{Verb: belay.VerbCreate, ID: r.Object.ID, Wave: r.Object.Wave, Rank: rank(r.Object.ID), Desired: r.Object,
		Hook: r.Phase, Origin: r.Object.Origin, Blocked: r.Blocked}
}

// start is the action that brings the hook nearer to running, or why it must not
// be taken now. What is there of the same name gives way first: it was made by an
// earlier run, or has failed.
func (in *HookInput) start(r *HookRun) (a belay.Action, why string) {
	a = r.probe()
	if r.Blocked != nil {
		return a, r.Blocked.Error()
	}
	if !in.Gate.Served(r.Object) {
		return a, fmt.Sprintf("the cluster does not serve %s %s, of which the %s hook %s is", r.Object.APIVersion, r.Object.ID.Kind, r.Phase, r.Object.ID)
	}
	if in.busy(r) {
		return a, fmt.Sprintf("%s is still running in another phase", r.Object.ID)
	}
	if ok, why := in.Gate.Allow(&a); !ok {
		return a, why
	}
	a.Live = r.Live
	switch {
	case r.Live == nil:
	case r.Live.Deleting:
		return a, fmt.Sprintf("%s hook %s waits until the earlier object of that name is deleted", r.Phase, r.Object.ID)
	case inPlace(r.Object):
		a.Verb = belay.VerbUpdate
	default:
		a.Verb = belay.VerbDelete
		return a, ""
	}
	stamped, err := stampRun(*r.Object, in.Run, r.Phase)
	if err != nil {
		return a, err.Error()
	}
	a.Desired = &stamped
	return a, ""
}

// busy says whether the object is at work in another phase.
func (in *HookInput) busy(r *HookRun) bool {
	return slices.ContainsFunc(in.Hooks, func(o HookRun) bool {
		return o.Object.ID == r.Object.ID && o.Phase != r.Phase && o.State == belay.HookRunning
	})
}

// inPlace says whether a hook is applied over what an earlier run left. What only
// has to be there (a ServiceAccount, a claim) would lose more by being deleted
// than it gains; what runs has to be made anew to run again.
func inPlace(o *belay.Object) bool {
	if o.Hook.Deletes(belay.HookBeforeCreation) {
		return false
	}
	return rank(o.ID) < rankWorkload || rank(o.ID) == rankAdmission || holdsData(o.ID.GroupKind())
}

// beforeSync is the step while PreSync hooks are not done.
func (in *HookInput) beforeSync(pre *progress) Step {
	homes := map[string]bool{}
	for i := range pre.due {
		homes[pre.due[i].ID.Namespace] = true
	}
	home := func(a *belay.Action) bool {
		return a.Verb == belay.VerbCreate && a.ID.GroupKind() == belay.Kind{Kind: "Namespace"} && homes[a.ID.Name]
	}
	missing := map[string]bool{}
	part := in.part(func(a *belay.Action) bool {
		if home(a) {
			missing[a.ID.Name] = true
			return true
		}
		return false
	})
	s := Frontier(part, in.Gate)
	pre.due = slices.DeleteFunc(pre.due, func(a belay.Action) bool { return missing[a.ID.Namespace] })
	return s.join(pre)
}

// amongObjects is the step while Sync hooks are not done.
func (in *HookInput) amongObjects(sync *progress) Step {
	open := true // nothing is left to write before the hooks at hand
	part := in.part(func(a *belay.Action) bool {
		if a.Verb == belay.VerbDelete {
			return false
		}
		before := a.Wave < sync.wave || (a.Wave == sync.wave && a.Rank < sync.rank)
		open = open && !before
		return before || (a.Wave == sync.wave && (sync.rank < 0 || a.Rank == sync.rank))
	})
	s := Frontier(part, in.Gate)
	if sync.rank >= 0 {
		why, on := closed(&belay.Action{Verb: belay.VerbCreate, Wave: sync.wave, Rank: sync.rank}, in.Gate)
		if !open || why != "" {
			sync.due = nil
			if why != "" && s.Waiting == "" {
				s.Waiting, s.On = why, on
			}
		}
	}
	return s.join(sync)
}

// afterSync is the step when only PostSync hooks, and what they wait for, are left.
func (in *HookInput) afterSync(post *progress) Step {
	s := Frontier(in.Plan, in.Gate)
	if post.done || len(in.Plan.Actions) > 0 || in.Plan.Held != nil {
		return s
	}
	for i := range in.Gate.Desired {
		d := &in.Gate.Desired[i]
		live, ok := in.Gate.Lookup(d.ID)
		if !ok || !settled(d.ID, live.Health) {
			h := belay.Missing
			if ok {
				h = cmp.Or(live.Health, belay.Unknown)
			}
			return Step{Waiting: fmt.Sprintf("PostSync hooks wait for %s, which is %s%s", d.ID, h, because(live.HealthMessage)), On: d.ID}
		}
	}
	return post.step()
}

// part is the plan without the writes that the hooks hold back.
func (in *HookInput) part(keep func(*belay.Action) bool) *belay.Plan {
	p := *in.Plan
	p.Actions = nil
	for i := range in.Plan.Actions {
		a := &in.Plan.Actions[i]
		if a.Verb == belay.VerbHeal || in.Restores(a) || keep(a) {
			p.Actions = append(p.Actions, *a)
		}
	}
	return &p
}

// join adds hooks to a step. What the hooks wait for comes first: it is why the
// rest waits.
func (s Step) join(p *progress) Step {
	s.Run = append(s.Run, p.due...)
	if p.waiting != "" {
		s.Waiting, s.On = p.waiting, p.on
	}
	return s
}

// HookLeftovers are the objects of hooks that are to go: those that Git no longer
// declares, those that failed and say so, and, when the run is over, those that
// succeeded and say so. Until then these are what tells that they have run.
func HookLeftovers(live []belay.Live, hooks []belay.Object, declared func(belay.ObjectID) bool, over, prune bool) []belay.Action {
	var out []belay.Action
	for i := range live {
		l := &live[i]
		if l.Hook == nil || l.Deleting || declared(l.ID) {
			continue
		}
		k := slices.IndexFunc(hooks, func(o belay.Object) bool { return o.ID == l.ID })
		gone := k < 0 && prune
		if k >= 0 {
			h := hooks[k].Hook
			gone = (over && l.Health == belay.Healthy && h.Deletes(belay.HookOnSuccess)) || (l.Health == belay.Degraded && h.Deletes(belay.HookOnFailure))
		}
		if gone {
			out = append(out, belay.Action{Verb: belay.VerbDelete, ID: l.ID, Rank: rank(l.ID), Live: l, Hook: l.Hook.Phase})
		}
	}
	return out
}

// stampRun marks the object of a hook with the run and phase it is made for. It
// is deleted by its own rules, whatever else it says of that.
func stampRun(o belay.Object, run string, phase belay.HookPhase) (belay.Object, error) {
	var m map[string]any
	if err := unmarshal(o.Raw, &m); err != nil {
		return o, fmt.Errorf("read the manifest of %s: %w", o.ID, err)
	}
	meta, ok := m["metadata"].(map[string]any)
	if !ok {
		return o, fmt.Errorf("metadata of %s is not a mapping", o.ID)
	}
	annotations, err := stringMap(meta, "annotations", o.ID)
	if err != nil {
		return o, err
	}
	delete(annotations, belay.AnnotationPrune)
	annotations[belay.AnnotationHookRun] = belay.FormatHookRun(run, phase)
	o.Raw, err = json.Marshal(m)
	return o, err
}

// SplitHooks parts hooks from the objects that are kept equal to Git.
func SplitHooks(objects []belay.Object) (kept, hooks []belay.Object) {
	if !slices.ContainsFunc(objects, func(o belay.Object) bool { return o.Hook != nil }) {
		return objects, nil
	}
	for _, o := range objects {
		if o.Hook != nil {
			hooks = append(hooks, o)
		} else {
			kept = append(kept, o)
		}
	}
	return kept, hooks
}

// HookState says how far the object of a hook is that is there as it was made.
func HookState(l *belay.Live) belay.HookState {
	switch {
	case l.Health == belay.Degraded:
		return belay.HookFailed
	case l.Health != belay.Suspended && settled(l.ID, l.Health):
		return belay.HookSucceeded
	}
	return belay.HookRunning
}
