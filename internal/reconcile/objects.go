package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// instead is what takes the place of a write that the cluster refused, if the
// object's manner allows it; the action then says what was done. Whether it comes
// to that only the cluster knows, so no plan has it.
func (e *Engine) instead(ctx context.Context, t *target, permit belay.Permit, act *belay.Action, refused error) (belay.Live, error) {
	switch code := belay.CodeOf(refused); {
	case code == belay.CodeConflict && act.Verb == belay.VerbCreate && act.Manner.Adopt:
		adopt := *act
		adopt.Verb = belay.VerbAdopt
		live, err := t.conn.Apply(ctx, permit, adopt)
		e.Checkpoint("adopted")
		if err == nil {
			act.Verb = belay.VerbAdopt
		}
		return live, err
	case code == belay.CodeImmutable && !act.Manner.Recreate:
		be := asError(refused, t.app.name)
		if act.Manner.NoRecreate != "" {
			be.Hint = act.Manner.NoRecreate
		}
		return belay.Live{}, be
	case code == belay.CodeImmutable && act.Live != nil:
		e.Logger.Info("recreate", "application", t.app.name, "cluster", t.cluster, "object", act.ID.String(), "why", asError(refused, "").Message)
		e.Checkpoint("delete")
		e.stats.Deletes.Add(1)
		err := t.conn.Delete(ctx, permit, *act.Live)
		e.Checkpoint("recreate")
		if err == nil {
			act.Verb = belay.VerbRecreate
		}
		// It is missing now, or will be: that is what makes it again, in this pass or
		// in any other.
		return belay.Live{}, err
	}
	return belay.Live{}, refused
}

// tellInstead reports an adoption or a deletion to make anew; false for any other action.
func (e *Engine) tellInstead(t *target, act *belay.Action, ev *belay.Event) bool {
	a := t.app
	switch act.Verb {
	case belay.VerbAdopt:
		ev.Message = "adopted: it was there already, and is Belay's from now on"
		a.noteSynced(act)
		e.note(t, act.ID, false, "Adopted", fmt.Sprintf("Taken over for application %s, which declares it", a.name))
	case belay.VerbRecreate:
		ev.Message = "deleted, to be made anew: Git changes a field that cannot be changed in place"
		if act.Drift != nil { // somebody else did; if they do it again, that is a fight
			a.noteHeal(act.ID)
		}
		// What comes is no undoing of somebody's deletion, and waits for no heal.
		delete(a.syncedIDs, act.ID)
		e.note(t, act.ID, false, "Recreated", fmt.Sprintf("Deleted, to be made anew for application %s: a field changed that cannot be changed in place", a.name))
	default:
		return false
	}
	ev.Type = belay.EventApplied
	return true
}

// noteHeal counts the heals of an object.
func (a *app) noteHeal(id belay.ObjectID) {
	now, h := time.Now(), a.heals[id]
	if h == nil || now.Sub(h.last) > calm {
		h = &attempt{}
		a.heals[id] = h
	}
	h.count++
	h.last = now
}

// noteSynced remembers an object as written, so that whoever takes it away again
// is fought like any drift, also before all is in sync.
func (a *app) noteSynced(act *belay.Action) {
	if a.syncedIDs == nil {
		a.syncedIDs = map[belay.ObjectID]string{}
	}
	a.syncedIDs[act.ID] = act.Desired.Digest
}

// noteDoubt forgets an object that may be deleted although the answer got lost: should
// it be missing, nobody deleted it by hand.
func (a *app) noteDoubt(cluster string, act *belay.Action, err error) {
	if a.cluster == cluster && mayPass(err) && (act.Verb == belay.VerbDelete || act.Manner.Recreate) {
		delete(a.syncedIDs, act.ID)
	}
}

// allSynced remembers all objects of a desired state as found right. Some may have
// been forgotten since it was reached last: a commit let them go, and another one
// took them back before they were deleted.
func (a *app) allSynced(d *desired) {
	if a.syncedIDs == nil {
		a.syncedIDs = make(map[belay.ObjectID]string, len(d.objects))
	}
	for i := range d.objects {
		a.syncedIDs[d.objects[i].id] = d.objects[i].digest
	}
}

// overcome forgets the failures of objects that are right by now: a write may have
// been done although its answer got lost, and what comes next is tried afresh.
func (a *app) overcome(t *target) {
	if len(a.fails) == 0 {
		return // as a rule
	}
	declared := make(map[belay.ObjectID]bool, len(t.desired.objects))
	for i := range t.desired.objects {
		declared[t.desired.objects[i].id] = true
	}
	maps.DeleteFunc(a.fails, func(id belay.ObjectID, f *attempt) bool {
		if f.cluster != "" && f.cluster != t.cluster {
			return false // what was left behind there is not right
		}
		if declared[id] {
			return true
		}
		_, there := t.conn.Lookup(id)
		return !there && f.digest == string(belay.VerbDelete)
	})
}

// keepNamespace gives a namespace that was made for the application the labels and
// annotations that Git declares for it. The cluster answers from memory whether
// there is anything to do.
func (e *Engine) keepNamespace(ctx context.Context, t *target) {
	a, sp := t.app, &t.def.Spec.Sync
	ns := belay.ObjectID{Kind: "Namespace", Name: t.def.Spec.Destination.Namespace}
	if e.DryRun || !sp.CreateNamespace || !t.conn.NamespaceDiffers(a.name, ns.Name, sp.NamespaceMetadata) {
		return
	}
	meta, err := json.Marshal(sp.NamespaceMetadata)
	if err != nil {
		return // maps of strings always encode
	}
	if t.failed == nil { // nothing was planned
		t.planned, t.failed = time.Now(), map[belay.ObjectID]bool{}
	}
	act := belay.Action{Verb: belay.VerbUpdate, ID: ns, Origin: t.def.Origin, Desired: &belay.Object{ID: ns, Digest: belay.Digest(meta)}, Live: &belay.Live{Application: a.name}}
	ok, why := e.allow(t, &act)
	t.unkept = cmp.Or(why, "not recorded")
	if ok && t.unrecorded == nil {
		if t.beside, t.unrecorded = e.beginNamespace(ctx, t, &act); t.beside != nil {
			return
		}
		e.stats.Applies.Add(1)
		start := time.Now()
		err := e.makeNamespace(ctx, t)
		if d := a.running[t.cluster]; d != nil {
			d.note(&act, err, time.Since(start))
		}
		if err != nil {
			e.outcome(t, &act, err)
			e.allow(t, &act) // which says when it is tried again
		} else {
			e.outcome(t, &act, nil)
			t.unkept = ""
		}
	}
	if f := a.fails[ns]; f != nil {
		t.beside = asError(f.err, a.name)
	}
}

// heldTeardown says why an application that left Git waits for a confirmation; nil
// if it does not.
func (e *Engine) heldTeardown(def *belay.Application) *belay.Error {
	if !def.Spec.Sync.ConfirmDeletion || e.deletionConfirmed(def) != "" {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	names, where := []string{def.Name}, "a Project"
	if p, declared := e.catalog.Projects[def.Spec.Project]; declared {
		where = fmt.Sprintf("the Project %q", p.Name)
	}
	return &belay.Error{Code: belay.CodeHeld, Application: def.Name, Origin: def.Origin,
		Message: "removed from Git; its objects stay until that is confirmed (spec.sync.confirmDeletion)",
		Hint:    fmt.Sprintf("if they are to go, add %q to spec.confirm of %s and commit", plan.TokenOf(names), where)}
}

// deletionConfirmed is the token that confirms the deletion of an application; "" if
// there is none.
func (e *Engine) deletionConfirmed(def *belay.Application) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if p, declared := e.catalog.Projects[def.Spec.Project]; declared {
		return confirmedIn(p.Spec.Confirm, []string{def.Name})
	}
	return confirmed(e.catalog, []string{def.Name})
}

// confirmedBy is the token in Git without which an application would not go.
func (e *Engine) confirmedBy(a *app, def *belay.Application) string {
	if def.Spec.Sync.ConfirmDeletion {
		return e.deletionConfirmed(def)
	}
	return a.released
}

// beginNamespace has on the record that the labels and annotations of a namespace
// are written. The errors are the same, if there is one.
func (e *Engine) beginNamespace(ctx context.Context, t *target, act *belay.Action) (_, err *belay.Error) {
	var failed error
	if t.app.undone(act) {
		_, failed = e.record(ctx, belay.Event{Type: belay.EventDrift, Application: t.app.name, Cluster: t.cluster, Object: act.ID.String(), Repo: t.rev.Repo,
			Revision: t.rev.Commit, Message: "changed by hand: labels and annotations that Git declares for the namespace"})
	} else {
		p := &belay.Plan{Actions: []belay.Action{*act}, Digest: belay.Digest([]byte(act.ID.String() + act.Desired.Digest))}
		failed = e.begin(ctx, t, p, p.Actions)
	}
	if failed == nil {
		return nil, nil
	}
	t.app.unrecorded.count++
	t.putOff(time.Now().Add(backoff(t.app.unrecorded.count)))
	err = asError(failed, t.app.name)
	return err, err
}
