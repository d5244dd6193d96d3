package reconcile

import (
	"fmt"
	"time"

	"github.com/belaydev/belay"
)

// bar keeps something from being written because of a rule, not of a failure.
func (t *target) bar(why string) (bool, string) {
	t.barred = true
	return false, why
}

// untimely says why now is not the time for an action; "" if it is. What only
// brings back what was there before waits for windows alone.
func (e *Engine) untimely(t *target, act *belay.Action) string {
	if why := e.outside(t); why != "" {
		return why
	}
	if act.Verb == belay.VerbHeal || t.app.undone(act) || t.ordered {
		return ""
	}
	if failed := t.app.effort.failed; failed != nil && act.Hook != belay.SyncFail {
		return failed.Message
	}
	if act.Verb == belay.VerbDelete {
		return ""
	}
	if act.Hook == belay.SyncFail || t.held != nil {
		return ""
	}
	return e.unready(t)
}

// note counts a failure, and has the error say so when it was the last.
func (f *attempt) note(err *belay.Error, now time.Time, retry belay.Retry) {
	f.count++
	if err.Code != belay.CodeUnavailable {
		f.refused++
	}
	f.last, f.err = now, err
	if f.exhausted(retry) {
		err.Message += fmt.Sprintf("; tried %d times, and not again before another commit or a request (spec.sync.retry)", f.count)
	}
}

// exhausted says whether an object was tried as often as it may be. That a
// cluster did not answer is no try.
func (f *attempt) exhausted(retry belay.Retry) bool {
	return retry.Limit > 0 && f.refused > retry.Limit
}

// retry is how failed writes of the target are tried again. No commit and no
// request would begin a teardown anew, so that one is never given up.
func (t *target) retry() belay.Retry {
	r := t.def.Spec.Sync.Retry
	if t.ordered {
		r.Limit = 0
	}
	return r
}

// mayRetry says whether a failed action may be tried again now, and sets the
// alarm for when it may.
func (e *Engine) mayRetry(t *target, f *attempt) bool {
	retry := t.retry()
	if f.exhausted(retry) {
		return false
	}
	at := f.retryAt(retry)
	if t.planned.Before(at) {
		t.putOff(at)
		return false
	}
	return true
}

// tellRetries says that failed writes are tried again.
func (e *Engine) tellRetries(t *target, actions []belay.Action) {
	first, more := (*belay.Action)(nil), 0
	for i := range actions {
		f := t.app.fails[actions[i].ID]
		switch {
		case f == nil || f.digest != actionDigest(&actions[i]):
		case first == nil:
			first = &actions[i]
		default:
			more++
		}
	}
	if first == nil {
		return
	}
	f, again := t.app.fails[first.ID], ""
	if limit := t.retry().Limit; limit > 0 {
		again = fmt.Sprintf(" of %d", limit)
	}
	msg := fmt.Sprintf("retry %d%s: %s", f.count, again, f.err)
	if more > 0 {
		msg += fmt.Sprintf(" (and %d more)", more)
	}
	e.publish(belay.Event{Type: belay.EventRetried, Application: t.app.name, Cluster: t.cluster, Object: first.ID.String(), Repo: t.rev.Repo,
		Revision: t.rev.Commit, Actor: t.rev.Author, Deployment: t.deployment(), Message: msg})
}
