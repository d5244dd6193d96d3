package reconcile

import (
	"strings"

	"github.com/belaydev/belay"
)

// While an application is suspended it is read, compared and shown as ever, and
// nothing of it is written. An application that leaves Git is torn down even so:
// its suspension left with its definition.

// suspension says in words that an application is suspended; "" if it is not.
func suspension(def *belay.Application) string {
	if def == nil || def.Spec.Suspend == nil {
		return ""
	}
	return "suspended: " + def.Spec.Suspend.Reason
}

// suspended says why nothing of the target is written. What an application left
// in another cluster counts as its own.
func (e *Engine) suspended(t *target) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return suspension(t.app.def)
}

// tellSuspension says when an application is suspended and when it goes on.
// What was so when the process started is no news. Called with e.mu, before the
// new definition takes effect.
func (e *Engine) tellSuspension(a *app, def *belay.Application, rev belay.Revision, running bool) {
	before, now := suspension(a.def), suspension(def)
	if (before == "") == (now == "") || !running {
		return
	}
	if now != "" {
		a.manual, a.asked, a.override, a.granted = false, nil, nil, "" // what was asked for before is not meant for afterwards
	} else {
		now = "not suspended any more"
	}
	e.publish(belay.Event{Type: belay.EventSuspended, Application: def.Name, Cluster: def.Spec.Destination.Cluster, Repo: rev.Repo, Revision: rev.Commit, Actor: rev.Author, Message: now})
}

// showSuspension puts the suspension in front of whatever else there is to say.
func showSuspension(s *belay.ApplicationStatus, def *belay.Application) {
	why := suspension(def)
	if why == "" {
		return
	}
	s.Suspended = def.Spec.Suspend.Reason
	switch {
	case s.Message == "":
		s.Message = why
	case !strings.HasPrefix(s.Message, why):
		s.Message = why + "; " + s.Message
	}
}
