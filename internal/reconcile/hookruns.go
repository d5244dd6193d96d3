package reconcile

import (
	"slices"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// A run is what the hooks of an application do for one desired state. What tells
// that a hook has run is its object, which names the run; so an object that is to
// be deleted on success stays until the run is over. What has no object any more
// is remembered by Runs. This file says for which state hooks have run. How far a
// run is and what carries it on stands in hooks.go; which hook is due is decided by
// plan.NextHooks.

// Runs remembers runs of hooks beyond the life of the process.
type Runs interface {
	// Known is what is remembered of an application in a cluster.
	Known(cluster, application string) (belay.HookRecord, bool)
	// All are all records.
	All() []belay.HookRecord
	// Remember replaces a record; it is safe from a crash when it returns. With an
	// error it holds until the process ends.
	Remember(belay.HookRecord) error
	// Note is Remember without waiting for the disk.
	Note(belay.HookRecord) error
	// Forget drops a record. That there is none is no error.
	Forget(cluster, application string) error
}

// hookKey is one hook in one of its phases.
type hookKey struct {
	id    belay.ObjectID
	phase belay.HookPhase
}

func (k hookKey) String() string { return string(k.phase) + " " + belay.FormatID("", k.id) }

// hookMemory is what is known of an application's run.
type hookMemory struct {
	rec   belay.HookRecord
	known bool            // rec tells of a run
	begun bool            // something was done for it in this life
	done  map[string]bool // hooks that succeeded, by hookKey
	// failed are the objects whose failure was counted, by uid.
	failed map[hookKey]string
}

// load makes the memory that of a cluster, id being its identity. What was in
// another one is forgotten: should the application come back to it, it begins anew
// there.
func (m *hookMemory) load(runs Runs, cluster, id, application string) {
	if m.rec.Cluster == cluster && !differentCluster(m.rec.ClusterID, id) {
		return
	}
	if m.rec.Cluster != "" && m.rec.Cluster != cluster && runs != nil {
		_ = runs.Forget(m.rec.Cluster, application) // at worst a hook is taken to have run
	}
	*m = hookMemory{rec: belay.HookRecord{Cluster: cluster, ClusterID: id, Application: application}}
	if rec, ok := knownRun(runs, cluster, id, application); ok {
		m.rec, m.known = rec, true
		if rec.ClusterID == "" && id != "" {
			m.rec.ClusterID = id
			_ = runs.Note(m.rec) // at worst it is not told from a cluster that takes its place
		}
		for _, d := range rec.Done {
			m.succeeded(d)
		}
	}
}

func (m *hookMemory) succeeded(hook string) {
	if m.done == nil {
		m.done = map[string]bool{}
	}
	m.done[hook] = true
}

// reached says whether the memory is that all hooks have run for a run.
func (m *hookMemory) reached(run string) bool {
	return m.known && m.rec.Over && !m.rec.Leaving && belay.SameHookRun(m.rec.Run, run)
}

// start turns the memory to another run.
func (m *hookMemory) start(run string, over bool) {
	m.rec.Run, m.rec.Over, m.rec.Done, m.rec.Leaving = run, over, nil, false
	m.known, m.begun = true, false
	clear(m.done)
	clear(m.failed)
}

// learnRun finds out whether the hooks have run for the desired state.
func (e *Engine) learnRun(t *target, p *belay.Plan) {
	a, d, m := t.app, t.desired, &t.app.hooks
	m.load(e.Runs, t.cluster, t.conn.Facts().ID, t.def.Name)
	switch {
	case m.known && !m.rec.Leaving && belay.SameHookRun(m.rec.Run, d.run):
		return
	case !d.hooked():
		e.noHooks(t)
		return
	}
	over := !m.known && e.ranUnseen(t, p)
	m.start(d.run, over)
	m.rec.AtEnd = d.runsAtEnd()
	for _, h := range d.hooks {
		delete(a.fails, h.id) // a new commit starts anew
	}
	if over {
		e.remember(a)
	}
}

// noHooks notes a state without hooks, so that the next one with hooks is known to
// be another, whenever it comes.
func (e *Engine) noHooks(t *target) {
	m := &t.app.hooks
	m.start(t.desired.run, true)
	m.rec.AtEnd = false
	if e.Runs == nil || e.DryRun {
		return
	}
	if err := e.Runs.Note(m.rec); err != nil {
		e.Logger.Warn("run not remembered", "application", t.app.name, "cluster", t.cluster, "error", err)
	}
}

// ranUnseen decides with nothing remembered whether the hooks have run for the
// desired state, from what the cluster shows. An application that is right in
// every respect was brought there with its hooks by an earlier life, or by
// somebody who needed none; unless a hook's object says otherwise.
func (e *Engine) ranUnseen(t *target, p *belay.Plan) bool {
	if t.app.synced != "" {
		return t.app.synced == t.desired.digest
	}
	for i := range p.Actions {
		act := &p.Actions[i]
		secret := act.Verb == belay.VerbUpdate && act.Desired != nil && act.Desired.Sensitive() // its digest is new with a new key
		if act.Verb != belay.VerbHeal && !secret {
			return false
		}
	}
	begun, absent, runs := false, false, false
	for _, h := range t.desired.hooks {
		main := mainPhases(h.hook)
		if len(main) == 0 {
			continue
		}
		runs = true
		l, ok := t.conn.Lookup(h.id)
		if !ok || l.Hook == nil || l.Application != t.def.Name {
			absent = absent || !h.hook.Deletes(belay.HookOnSuccess)
			continue
		}
		if !belay.SameHookRun(l.Hook.Run, t.desired.run) || l.Hook.Phase != main[len(main)-1] ||
			plan.HookState(&l) != belay.HookSucceeded || h.hook.Deletes(belay.HookOnSuccess) {
			return false
		}
		begun = true
	}
	if begun && absent {
		return false
	}
	return begun || len(t.desired.objects) > 0 || !runs
}

// mainPhases are those that a sync goes through when nothing fails.
func mainPhases(h *belay.Hook) []belay.HookPhase {
	return slices.DeleteFunc(slices.Clone(h.Phases), func(p belay.HookPhase) bool { return !isMain(p) })
}

func isMain(p belay.HookPhase) bool {
	return p == belay.PreSync || p == belay.SyncPhase || p == belay.PostSync
}

// runBegins remembers a run before the first thing is done for it.
func (e *Engine) runBegins(a *app) {
	if a.hooks.begun {
		return
	}
	a.hooks.begun = true
	e.remember(a)
}

// remember writes the record of an application. A disk that is full must not stop
// a sync: what is lost is the knowledge that hooks have run.
func (e *Engine) remember(a *app) {
	if e.Runs == nil || e.DryRun {
		return
	}
	if err := e.Runs.Remember(a.hooks.rec); err != nil {
		e.Logger.Warn("run not remembered", "application", a.name, "cluster", a.hooks.rec.Cluster, "error", err)
	}
}
