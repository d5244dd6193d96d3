package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/belaydev/belay"
)

// With spec.sync.rollback a deployment is watched for a while. When it fails, or
// the application turns Degraded because of it, the application is held at what
// it was when it was well last, and the commit that puts that back into Git is
// made. What went wrong is not tried again before Git wants something else. A
// rollback is never rolled back: there is nobody better to ask than people.

// watch is a deployment that is watched.
type watch struct {
	desired  string // digest of what is deployed
	spec     string // its definition, and where its sources stood
	at       map[refKey]belay.Revision
	revision string
	began    time.Time
	end      time.Time
	// was is the health before it began: what was Degraded already is no reason.
	was belay.Health
	// degraded is since when it is Degraded; zero while it is not.
	degraded time.Time
	// held is true for a deployment of a hold: a rollback is not rolled back.
	held bool
	// tries to go back that could not be recorded, in a row.
	tries int
	// state is what was deployed, once that was reached and well.
	state *well
}

// well is what an application was when it was well last.
type well struct {
	wanted
	desired string
}

// Bounds of how long a Degraded has to last before it counts: some are Degraded
// for a moment while they start.
const (
	graceShare = 20 // of the window
	mostGrace  = 30 * time.Second
	// failures of one object that make a deployment a failed one, where no limit of
	// retries and no timeout says so earlier.
	refusedOften = 3
)

// policy is how the application goes back by itself; nil for never.
func (t *target) policy() *belay.AutomaticRollback { return t.def.Spec.Sync.Rollback }

// watchFrom begins to watch a deployment, right before its first write.
func (e *Engine) watchFrom(t *target) {
	p, a := t.policy(), t.app
	if p == nil || e.DryRun || t.desired == nil || t.ordered {
		a.watch = nil
		return
	}
	e.mu.Lock()
	was := a.health
	e.mu.Unlock()
	// One that was well until the next began was well enough to go back to.
	if a.watch != nil && a.watch.state != nil && was == belay.Healthy {
		a.well = a.watch.state
	}
	now := time.Now()
	a.watch = &watch{desired: t.desired.digest, spec: t.desired.spec, at: t.desired.at, revision: t.rev.Commit, began: now, end: now.Add(duration(p.Window, 10*time.Minute)), was: was, held: t.held != nil}
}

// watched looks at how a watched deployment does, after each pass.
func (e *Engine) watched(ctx context.Context, t *target) {
	a, p := t.app, t.policy()
	if p == nil || e.DryRun || t.ordered {
		a.watch = nil
		return
	}
	e.resumeWatch(ctx, t)
	e.mu.Lock()
	health, message := a.status.Health, a.status.Message
	e.mu.Unlock()
	w, now := a.watch, time.Now()
	if w != nil && w.spec == t.desired.spec && maps.Equal(w.at, t.desired.at) {
		w.desired = t.desired.digest // of a kind that is served by now
	}
	if w != nil && w.desired != t.desired.digest {
		a.watch, w = nil, nil // another took its place before it wrote anything
	}
	arrived := a.synced == t.desired.digest && a.running[t.cluster] == nil
	if arrived && health == belay.Healthy && t.held == nil {
		state := e.wellNow(t)
		if w == nil {
			a.well = state
		} else {
			w.state = state
		}
	}
	if w == nil {
		return
	}
	why := e.goneWrong(t, w, health, message, now)
	switch {
	case why != "":
		a.watch = nil
		e.goBack(ctx, t, w, why)
	case now.Before(w.end):
		next := w.end
		if !w.degraded.IsZero() && w.degraded.Add(w.grace()).Before(next) {
			next = w.degraded.Add(w.grace())
		}
		e.queue.addAfter(key{keyApp, a.name}, max(time.Until(next), 10*time.Millisecond))
	default:
		a.watch = nil
		if w.state != nil && health == belay.Healthy {
			a.well = w.state
		}
	}
}

func (w *watch) grace() time.Duration { return min(w.end.Sub(w.began)/graceShare, mostGrace) }

// goneWrong says why a deployment counts as gone wrong; "" if it does not.
func (e *Engine) goneWrong(t *target, w *watch, health belay.Health, message string, now time.Time) string {
	a := t.app
	if failed := a.effort.failed; failed != nil {
		return "its deployment failed: " + failed.Message
	}
	for id, f := range a.fails {
		if t.failed[id] && (f.exhausted(t.retry()) || f.refused >= refusedOften) {
			return "its deployment failed: " + f.err.Error()
		}
	}
	if health != belay.Degraded || w.was == belay.Degraded {
		w.degraded = time.Time{}
		return ""
	}
	if w.degraded.IsZero() {
		w.degraded = now
	}
	if now.Sub(w.degraded) < w.grace() {
		return ""
	}
	return fmt.Sprintf("it turned Degraded %s after the deployment began: %s", now.Sub(w.began).Round(time.Second), cmp.Or(message, "its objects do not say why"))
}

// wellNow is what an application is made of now, to go back to.
func (e *Engine) wellNow(t *target) *well {
	w := &well{desired: t.desired.digest}
	w.wanted = wanted{name: t.app.name, revision: t.rev.Commit, config: e.configCommit(), time: time.Now(), recorded: true}
	for k, rev := range t.at {
		w.sources = append(w.sources, belay.SourceRevision{Repo: k.url, Ref: k.ref, Name: rev.Name, Revision: rev.Commit})
	}
	return w
}

// resumeWatch takes up, once in the life of the process, the watch of a
// deployment that began before it.
func (e *Engine) resumeWatch(ctx context.Context, t *target) {
	a := t.app
	if a.resumed || e.Deployments == nil || t.held != nil {
		return
	}
	a.resumed = true
	all, err := e.deploymentsOf(ctx, a.name, 1)
	if err != nil {
		e.Logger.Warn("record of deployments not read", "application", a.name, "error", err)
		return
	}
	if len(all) == 0 || a.watch != nil || all[0].Revision != t.rev.Commit {
		return
	}
	end := all[0].Started.Add(duration(t.policy().Window, 10*time.Minute))
	if time.Now().Before(end) {
		a.watch = &watch{desired: t.desired.digest, spec: t.desired.spec, at: t.desired.at, revision: t.rev.Commit, began: all[0].Started, end: end}
	}
}

// wellBefore is what the application goes back to: what it was when it was well
// last, as this process saw it or the record tells.
func (e *Engine) wellBefore(ctx context.Context, t *target, bad string) (*past, error) {
	if w := t.app.well; w != nil && w.desired != t.desired.digest {
		return e.pastOf(ctx, w.wanted)
	}
	all, err := e.deploymentsOf(ctx, t.app.name, mostDeployments)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if d := &all[i]; d.Result == belay.Succeeded && d.Revision != bad {
			p, err := e.pastOf(ctx, ofDeployment(d))
			if err != nil {
				return nil, err
			}
			if p.desired.digest != t.desired.digest {
				return p, nil
			}
		}
	}
	return nil, nil
}

// goBack holds the application at what it was when it was well last, and has the
// commit made that puts it back into Git.
func (e *Engine) goBack(ctx context.Context, t *target, w *watch, why string) {
	a := t.app
	say := func(message string) {
		e.publish(belay.Event{Type: belay.EventRollback, Application: a.name, Project: t.project.Name, Cluster: t.cluster, Repo: t.rev.Repo, Revision: w.revision,
			Actor: belay.FieldManager, Reason: why, Result: belay.Failed, Message: message})
	}
	tell := func(what string) { say("no automatic rollback: " + what) }
	e.mu.Lock()
	insisted := a.insisted == w.desired
	e.mu.Unlock()
	switch {
	case t.held != nil || w.held:
		tell("this is what it was rolled back to, and it does no better: " + why)
		return
	case insisted:
		tell("somebody released it from the hold that kept it from this state; " + why)
		return
	}
	p, err := e.wellBefore(ctx, t, w.revision)
	if err != nil {
		tell(fmt.Sprintf("what it was before cannot be made: %s; %s", asError(err, a.name).Message, why))
		return
	}
	if p == nil {
		tell("nothing is known that was well before; " + why)
		return
	}
	now := time.Now().UTC()
	h, err := e.newHold(p, now, now.Add(min(duration(t.policy().Hold, belay.DefaultHold), belay.MostHold)))
	if err != nil || h == nil {
		if err != nil {
			tell(asError(err, a.name).Message + "; " + why)
		}
		return
	}
	h.Automatic, h.By, h.Reason, h.Bad, h.Digest = true, automaticActor, why, w.revision, w.desired
	if err := e.takeHold(ctx, h, p); err != nil {
		if w.tries++; w.tries == 1 {
			tell(asError(err, a.name).Message + "; " + why)
		}
		a.watch = w // it is tried again
		e.queue.addAfter(key{keyApp, a.name}, pauseAfter(err, w.tries, heldRetry))
		return
	}
	e.running.Go(func() { e.commitByItself(p, why, say) })
}

// automaticActor is who rolls back what nobody asked to be rolled back.
const automaticActor = "belay (automatic)"

// commitByItself makes the commit of an automatic rollback. The hold is in force
// whatever comes of it.
func (e *Engine) commitByItself(p *past, why string, say func(string)) {
	if e.Committer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(e.runCtx, 10*time.Minute)
	defer cancel()
	e.rolling.Lock()
	defer e.rolling.Unlock()
	_, err := e.commitBack(ctx, []*past{p}, &belay.RollbackRequest{To: p.rev.Commit, Reason: why}, automaticActor)
	if err != nil && ctx.Err() == nil {
		be := asError(err, p.name)
		e.Logger.Warn("automatic rollback not committed", "application", p.name, "error", be.Error())
		what := be.Message
		if be.Hint != "" { // nobody is at a terminal to be told how that is mended
			what += " (" + be.Hint + ")"
		}
		say(fmt.Sprintf("held at %s, but no commit was made: %s; \"belay rollback %s --to %s\" makes one", p.rev.Short(), what, p.name, p.rev.Short()))
	}
}
