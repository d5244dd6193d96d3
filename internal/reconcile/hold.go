package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/belaydev/belay"
)

// A hold keeps an application at an earlier revision in spite of what Git says
// now. It is on the record before it takes effect, and it ends: when Git says the
// same, when somebody releases it, when its time is over. What it holds is
// rendered from the sources and the definition of then; when and how it is
// written is as the definition of now says.

// hold is one in force, and what it makes of the application.
type hold struct {
	belay.Hold
	// past is what it holds, worked out when it is needed.
	past *past
	made string // what it was worked out with
	// tries that failed in a row, of the worker that holds the application's key.
	tries int
}

// heldRetry is the time until something about a hold is tried again that failed for
// the first time.
const heldRetry = 10 * time.Second

// recallHolds takes up the holds of an earlier life of the process.
func (e *Engine) recallHolds() {
	if e.Recorder == nil || e.DryRun {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.Recorder.Holds() {
		e.holds[h.Application] = &hold{Hold: h}
	}
}

// heldAt says in words what holds an application.
func heldAt(h *belay.Hold) string {
	return fmt.Sprintf("held at %s by %s until %s: %s", shortCommit(h.Revision), h.By, h.Until.UTC().Format("2006-01-02 15:04 MST"), h.Reason)
}

// holdFor makes the holds of a request, unless it is a dry run. It returns the
// first; none where Git says the same already.
func (e *Engine) holdFor(ctx context.Context, pasts []*past, req *belay.RollbackRequest, actor string) (*belay.Hold, error) {
	last, err := holdTime(req)
	if err != nil {
		return nil, err
	}
	var holds []*belay.Hold
	var of []*past
	now := time.Now().UTC()
	for _, p := range pasts { // all can be held before the first one is
		h, err := e.newHold(p, now, now.Add(last))
		if err != nil {
			return nil, err
		}
		if h == nil {
			continue
		}
		h.By, h.Reason = actor, plainLine(req.Reason)
		holds, of = append(holds, h), append(of, p)
	}
	for i, h := range holds {
		if !req.DryRun {
			if err := e.takeHold(ctx, h, of[i]); err != nil {
				return holds[0], err
			}
		}
		of[i].held = true
	}
	if len(holds) == 0 {
		return nil, nil
	}
	return holds[0], nil
}

// holdTime is how long a hold of a request lasts at most.
func holdTime(req *belay.RollbackRequest) (time.Duration, error) {
	invalid := func(message, hint string) (time.Duration, error) {
		return 0, &belay.Error{Code: belay.CodeInvalid, Message: message, Hint: hint}
	}
	if plainLine(req.Reason) == "" {
		return invalid("a hold needs a reason", "say why with --reason \"...\": it is recorded and shown")
	}
	if req.For == "" {
		return belay.DefaultHold, nil
	}
	d, err := time.ParseDuration(req.For)
	if err != nil || d <= 0 || d > belay.MostHold {
		return invalid(fmt.Sprintf("a hold cannot last %q", req.For), "give a time such as 4h, 720h at most")
	}
	return d, nil
}

// newHold is the hold of an application at an earlier state; nil where Git says
// the same. One that is suspended is left alone.
func (e *Engine) newHold(p *past, since, until time.Time) (*belay.Hold, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[p.name]
	if a == nil || a.def == nil {
		return nil, e.notThere(p.name)
	}
	if why := suspension(a.def); why != "" {
		return nil, &belay.Error{Code: belay.CodeHeld, Application: p.name, Origin: a.def.Origin, Message: fmt.Sprintf("application %q is %s", p.name, why),
			Hint: "nothing of a suspended application is written; take spec.suspend out of its definition first"}
	}
	h := &belay.Hold{Application: p.name, Cluster: p.def.Spec.Destination.Cluster, Revision: p.rev.Commit, Config: p.config, Desired: p.desired.digest,
		Bad: a.commit, Since: since, Until: until}
	for _, k := range slices.SortedFunc(keysOf(p.at), compareRefs) {
		h.Sources = append(h.Sources, belay.SourceRevision{Repo: k.url, Ref: k.ref, Name: p.at[k].Name, Revision: p.at[k].Commit})
	}
	if a.desired != nil {
		h.Digest = a.desired.digest
	}
	if a.desired != nil && a.renderErr == nil && !a.dirty && h.Digest == h.Desired {
		return nil, nil
	}
	return h, nil
}

func keysOf(m map[refKey]belay.Revision) func(func(refKey) bool) {
	return func(yield func(refKey) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// takeHold records a hold and puts it into force.
func (e *Engine) takeHold(ctx context.Context, h *belay.Hold, p *past) error {
	ev := belay.Event{Type: belay.EventHold, Application: h.Application, Project: p.project.Name, Cluster: h.Cluster, Repo: p.rev.Repo, Revision: h.Revision,
		Change: h.Config, Actor: h.By, Reason: h.Reason, Message: heldAt(h), Detail: &belay.Detail{Hold: h}}
	if _, err := e.record(ctx, ev); err != nil {
		return err
	}
	e.Checkpoint("held")
	e.mu.Lock()
	defer e.mu.Unlock()
	e.holds[h.Application] = &hold{Hold: *h}
	if a := e.apps[h.Application]; a != nil {
		a.retry = true
		e.claimAlso(a, p.desired)
	}
	e.wake(h.Application)
	return nil
}

// Release ends the hold of an application.
func (e *Engine) Release(ctx context.Context, name string, req belay.ReleaseRequest, actor string) error {
	e.mu.Lock()
	a, h := e.apps[name], e.holds[name]
	err := error(nil)
	switch {
	case a == nil && h == nil:
		err = e.notThere(name)
	case h == nil:
		err = &belay.Error{Code: belay.CodeNotFound, Application: name, Message: fmt.Sprintf("application %q is not held", name), Hint: "belay status shows what is"}
	}
	e.mu.Unlock()
	if err != nil {
		return err
	}
	if err := e.endHold(ctx, name, h, "released by "+actor, actor, plainLine(req.Reason)); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if a != nil {
		a.insisted = h.Digest // somebody wants it all the same
	}
	return nil
}

// endHold records that a hold is over, and lets go.
func (e *Engine) endHold(ctx context.Context, name string, h *hold, why, actor, reason string) error {
	past := h.Hold
	ev := belay.Event{Type: belay.EventRelease, Application: name, Cluster: h.Cluster, Revision: h.Revision, Actor: actor, Reason: reason,
		Message: fmt.Sprintf("no longer held at %s: %s", shortCommit(h.Revision), why), Detail: &belay.Detail{Hold: &past}}
	if _, err := e.record(ctx, ev); err != nil {
		return err
	}
	e.Checkpoint("released")
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.holds[name] == h {
		delete(e.holds, name)
		if a := e.apps[name]; a != nil {
			e.claimAlso(a, nil)
			a.retry = true
		}
		e.wake(name)
	}
	return nil
}

// claimAlso has an application claim what it is held at, beside what Git declares:
// no other takes, and none deletes, what it has. Called with e.mu.
func (e *Engine) claimAlso(a *app, held *desired) {
	a.kept = nil
	if held != nil {
		a.kept = held.claimed()
	}
	if a.desired == nil || a.def == nil {
		return
	}
	d := *a.desired
	d.also = a.kept
	if cl := e.claims[a.def.Spec.Destination.Cluster]; cl != nil {
		for other := range cl.replace(a.name, a.desired.claimed(), d.claimed()) {
			e.wake(other)
		}
	}
	if a.judged == a.desired {
		a.judged = &d
	}
	a.desired = &d
}

// underHold is what a pass of an application that is held works towards: handled
// is true where the pass is over with that. For one that is not held nothing
// changes.
func (e *Engine) underHold(ctx context.Context, t *target, d *desired, renderErr error) (held *desired, handled bool, err error) {
	e.mu.Lock()
	h := e.holds[t.app.name]
	e.mu.Unlock()
	if h == nil || e.DryRun {
		return d, false, renderErr
	}
	over, err := e.settleHold(ctx, t, h, d, renderErr)
	if over {
		return d, false, renderErr
	}
	if err == nil {
		err = e.hold(ctx, t, h)
	}
	if err != nil {
		e.settle(t, nil, asError(err, t.app.name))
		h.tries++
		pause := pauseAfter(err, h.tries, heldRetry)
		if left := time.Until(h.Until); left > 0 {
			pause = min(pause, left)
		}
		e.queue.addAfter(key{keyApp, t.app.name}, pause)
		return nil, true, nil
	}
	h.tries = 0
	e.queue.addAfter(key{keyApp, t.app.name}, max(time.Until(h.Until), time.Second))
	return t.desired, false, nil
}

// settleHold ends a hold whose time has come. One that was made because a
// deployment went wrong goes on as long as Git wants that same state: it is not
// tried again before somebody changes it or asks for it.
func (e *Engine) settleHold(ctx context.Context, t *target, h *hold, d *desired, renderErr error) (over bool, err error) {
	known := d != nil && renderErr == nil
	why := ""
	switch {
	case known && d.digest == h.Desired:
		why = "Git says the same now"
	case known && h.Automatic && d.digest != h.Digest:
		why = "a newer commit wants something else than what was rolled back"
	case time.Now().Before(h.Until):
	case h.Automatic:
		return false, e.renewHold(ctx, t, h)
	default:
		why = "its time is over"
	}
	if why == "" {
		return false, nil
	}
	if err := e.endHold(ctx, t.app.name, h, why, belay.FieldManager, ""); err != nil {
		return false, err
	}
	return true, nil
}

// renewHold gives a hold that Belay made its time again.
func (e *Engine) renewHold(ctx context.Context, t *target, h *hold) error {
	next := h.Hold
	last := h.Until.Sub(h.Since)
	next.Since = time.Now().UTC()
	next.Until = next.Since.Add(last)
	ev := belay.Event{Type: belay.EventHold, Application: t.app.name, Project: t.project.Name, Cluster: h.Cluster, Revision: h.Revision, Change: h.Config, Actor: h.By,
		Reason: h.Reason, Message: "Git still wants what was rolled back; " + heldAt(&next), Detail: &belay.Detail{Hold: &next}}
	if _, err := e.record(ctx, ev); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	h.Hold = next
	return nil
}

// hold turns a pass towards what is held.
func (e *Engine) hold(ctx context.Context, t *target, h *hold) error {
	facts := t.conn.Facts()
	probe := target{def: t.def, project: t.project}
	if made := probe.specDigest() + facts.Digest; h.past == nil || h.made != made {
		p, err := e.pastOf(ctx, ofHold(&h.Hold))
		if err != nil {
			return err
		}
		h.past, h.made = p, made
		e.mu.Lock()
		h.Desired = p.desired.digest // the cluster may have changed since
		e.claimAlso(t.app, p.desired)
		e.mu.Unlock()
	}
	p := h.past
	def := *t.def
	def.Spec.Source, def.Spec.Sources, def.Spec.Destination = p.def.Spec.Source, p.def.Spec.Sources, p.def.Spec.Destination
	def.Spec.Patches, def.Spec.Variables = p.def.Spec.Patches, p.def.Spec.Variables
	def.Spec.Sync.IgnoreDifferences = p.def.Spec.Sync.IgnoreDifferences
	e.mu.Lock()
	t.def, t.ref, t.held = &def, refsOf(&def, e.catalog)[0], h
	e.mu.Unlock()
	t.rev, t.at, t.desired = p.rev, p.at, p.desired
	t.rev.Author = h.By
	return nil
}

// urgent says whether the pass is to bring a hold about: then no window, no
// dependency and no switched-off sync keeps it waiting.
func (t *target) urgent() bool { return t.held != nil && t.app.synced != t.desired.digest }

// holdsOn says whether an application that left Git stays for being held, and
// shows that.
func (e *Engine) holdsOn(ctx context.Context, a *app) bool {
	e.mu.Lock()
	h := e.holds[a.name]
	e.mu.Unlock()
	if h == nil || e.DryRun {
		return false
	}
	if !time.Now().Before(h.Until) {
		if err := e.endHold(ctx, a.name, h, "its time is over", belay.FieldManager, ""); err == nil {
			return false
		}
		e.queue.addAfter(key{keyApp, a.name}, heldRetry)
	} else {
		e.queue.addAfter(key{keyApp, a.name}, time.Until(h.Until))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	shown := h.Hold
	a.status.Held, a.status.Sync = &shown, belay.OutOfSync
	a.status.Message = heldAt(&shown) + "; it has left Git, and is deleted when the hold ends"
	return true
}

// findHeld looks for applications that left Git while they were held, and of which
// an earlier life left nothing but the hold: somebody has to end it. Called with e.mu.
func (e *Engine) findHeld() {
	for name, h := range e.holds {
		if _, declared := e.catalog.Applications[name]; declared || e.apps[name] != nil || e.OnlyCluster != "" && e.OnlyCluster != h.Cluster {
			continue
		}
		a := newApp(name)
		a.read = true
		e.apps[name] = a
		e.wake(name)
	}
}

// showHold puts a hold in front of whatever else there is to say. The cluster
// equals what is held, not what Git says. Called with e.mu.
func (e *Engine) showHold(s *belay.ApplicationStatus) {
	h := e.holds[s.Name]
	if h == nil {
		return
	}
	shown := h.Hold
	s.Held = &shown
	if s.Sync == belay.Synced {
		s.Sync, s.SyncedRevision = belay.OutOfSync, h.Revision
	}
	if s.Message != "" {
		s.Message = "; " + s.Message
	}
	s.Message = heldAt(&shown) + s.Message
	s.Hint = cmpHint(s.Hint, "belay release "+s.Name+" ends the hold")
}

func cmpHint(have, otherwise string) string {
	if have != "" {
		return have
	}
	return otherwise
}

// noteCommit has a hold show the commit that will end it.
func (e *Engine) noteCommit(name string, commits []belay.RollbackCommit) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.holds[name]
	if h == nil {
		return
	}
	for _, c := range commits {
		h.Commit = c.Commit
		if c.Into != "" {
			h.Branch = c.Branch
		}
	}
	e.wake(name) // to show it
}
