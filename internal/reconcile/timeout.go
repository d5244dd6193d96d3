package reconcile

import (
	"cmp"
	"fmt"
	"maps"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// effort is what is known of the sync that is under way or failed. It is
// forgotten with the process: after a restart the clock of a timeout and the
// count of retries begin anew.
type effort struct {
	desired  string // digest of what it is to reach
	revision string // the commit of that
	spec     string // its definition, and where its sources stood
	at       map[refKey]belay.Revision
	began    time.Time    // its first write; zero before it
	stuck    string       // what it waited for last
	failed   *belay.Error // why it is given up
}

// anew is the same sync at its beginning.
func (ef *effort) anew() effort {
	return effort{desired: ef.desired, revision: ef.revision, spec: ef.spec, at: ef.at}
}

// start begins the time of the sync, if it has not begun.
func (ef *effort) start(now time.Time) {
	if ef.began.IsZero() {
		ef.began = now
	}
}

// supersede begins anew where a newer commit wants something else than the sync
// that is under way or failed: neither its failures nor its time count any more.
// A commit that changes nothing of the application is not newer for it.
func (e *Engine) supersede(t *target) {
	a := t.app
	if a.effort.desired == t.desired.digest {
		return
	}
	if a.effort.desired != "" {
		// The same, but of a kind that is served by now, is no other sync.
		same := a.effort.spec == t.desired.spec && maps.Equal(a.effort.at, t.desired.at)
		d := a.running[t.cluster]
		if d != nil && !same {
			e.supersedeBy(t, d)
		} else if d == nil && !a.effort.began.IsZero() && a.effort.failed == nil && !same {
			successor := t.rev.Short()
			if a.effort.revision == t.rev.Commit {
				successor = "what its definition or another source says now"
			}
			e.publish(belay.Event{Type: belay.EventSuperseded, Application: a.name, Cluster: t.cluster, Repo: t.rev.Repo, Revision: t.rev.Commit, Actor: t.rev.Author,
				Message: fmt.Sprintf("the sync to %s was not finished; %s takes its place", shortCommit(a.effort.revision), successor)})
		}
		a.renew()
	}
	a.effort = effort{desired: t.desired.digest, revision: t.rev.Commit, spec: t.desired.spec, at: t.desired.at}
}

func shortCommit(commit string) string { return belay.Revision{Commit: commit}.Short() }

// renew forgets what failed, so that it is tried at once.
func (a *app) renew() {
	clear(a.fails)
	a.told = ""
	a.effort = a.effort.anew()
}

// checkTimeout gives a sync up that takes longer than it may, and sets the alarm for
// the end of its time.
func (e *Engine) checkTimeout(t *target) {
	ef, limit := &t.app.effort, duration(t.def.Spec.Sync.Timeout, 0)
	if limit == 0 || ef.began.IsZero() || ef.failed != nil {
		return
	}
	end := ef.began.Add(limit)
	if t.planned.Before(end) {
		t.putOff(end)
		return
	}
	ef.failed = &belay.Error{Code: belay.CodeTimeout, Application: t.app.name,
		Message: fmt.Sprintf("the sync to %s was not finished within %s (spec.sync.timeout): %s", shortCommit(ef.revision), limit, cmp.Or(ef.stuck, "its writes took that long")),
		Hint:    "mend it in Git, or try again: belay sync " + t.app.name}
}

// observe notes what the sync at hand waits for. One of an earlier life of the
// process is under way, too, where later objects wait for earlier ones.
func (e *Engine) observe(t *target, p *belay.Plan, step plan.Step, shown *belay.Error) {
	ef := &t.app.effort
	switch {
	case e.DryRun:
		return
	case t.barred:
		ef.began = time.Time{} // what waits for a rule takes no time
	case ef.began.IsZero() && waitsInOrder(p, step):
		ef.start(t.planned)
		if limit := duration(t.def.Spec.Sync.Timeout, 0); limit > 0 {
			t.putOff(ef.began.Add(limit))
		}
	}
	if shown != nil {
		ef.stuck = messageOf(shown)
	}
}

// waitsInOrder says whether writes wait for a hook, or for an object that has no
// action itself.
func waitsInOrder(p *belay.Plan, step plan.Step) bool {
	if step.Waiting == "" || step.On.Kind == "" {
		return false
	}
	for i := range p.Actions {
		if p.Actions[i].ID == step.On {
			return p.Actions[i].Hook != ""
		}
	}
	return true
}

// duration is a Go duration that was checked when it was read.
func duration(s string, otherwise time.Duration) time.Duration {
	if d, err := time.ParseDuration(s); err == nil && d > 0 {
		return d
	}
	return otherwise
}
