package reconcile

import (
	"errors"
	"time"

	"github.com/belaydev/belay"
)

const (
	backoffFirst = time.Second
	backoffMost  = 5 * time.Minute
	// calm is how long an object must stay right before a fight over it is forgotten.
	calm = 10 * time.Minute
	// lookAgain is when memory is looked at again for what no watch event announces.
	lookAgain = 5 * time.Second
)

// attempt counts the tries at one object.
type attempt struct {
	count int
	// refused are the tries that somebody answered.
	refused int
	last    time.Time
	cluster string // of an object that a plan has
	digest  string // of the manifest that was tried; another one starts anew
	err     error
}

// retryAt is when a failed object may be tried again: by default 1 s after the
// first failure, twice as long after each further one, 5 minutes at most.
func (a *attempt) retryAt(retry belay.Retry) time.Time {
	first := duration(retry.First, backoffFirst)
	return a.last.Add(doubled(a.count, first, max(first, duration(retry.Most, backoffMost))))
}

// healAt is when a drifted object may be healed: the first time at once, then
// like a failure. Whoever fights over a field loses slowly and visibly.
func (a *attempt) healAt() time.Time {
	if a.count == 0 {
		return time.Time{}
	}
	return a.last.Add(backoff(a.count))
}

// expensive is an error that took a processor long to come by. The same work leads
// to the same end as a rule: to do it again at once would keep the processor busy.
type expensive interface {
	error
	// Spent is how long the processor worked for nothing.
	Spent() time.Duration
}

// mostShare is the part of a processor's time, as one in so many, that goes into
// trying again in the long run what ended in an expensive error.
const mostShare = 120

// pauseAfter is the pause after the n-th failure in a row of what is tried again:
// first after the first, then twice as long each time, 5 minutes at most unless the
// failure was expensive.
func pauseAfter(err error, n int, first time.Duration) time.Duration {
	pause := doubled(n, first, backoffMost)
	if e, ok := errors.AsType[expensive](err); ok {
		pause = max(pause, doubled(n, e.Spent(), mostShare*e.Spent()))
	}
	return pause
}

// tryAgain has an application woken after a failure that is about no object of it.
func (e *Engine) tryAgain(a *app, err error, first time.Duration) {
	a.tries.count++
	e.queue.addAfter(key{keyApp, a.name}, pauseAfter(err, a.tries.count, first))
}

// mayPass says whether an error may go away without a commit: somebody does not
// answer, or a worker died.
func mayPass(err error) bool {
	c := belay.CodeOf(err)
	return c == belay.CodeUnavailable || c == belay.CodeInternal
}

func backoff(n int) time.Duration { return doubled(n, backoffFirst, backoffMost) }

// doubled is the n-th of pauses of which each is twice the one before.
func doubled(n int, first, most time.Duration) time.Duration {
	d := first
	for ; n > 1 && d < most; n-- {
		d *= 2
	}
	return min(d, most)
}
