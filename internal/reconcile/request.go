package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/belaydev/belay"
)

// Sync looks at the sources of the applications of a request and takes them
// through a sync, automatic or not; backoffs end. The definitions are looked at
// first: an application may be as new as the commit that is to be synced. It
// returns the names of those that were asked for. One that is suspended or
// outside of its windows refuses the whole request, unless that is for all: then
// it is left out, with the reason.
func (e *Engine) Sync(ctx context.Context, req belay.SyncRequest, actor string) (names []string, refused []belay.Error, err error) {
	e.check(ctx, e.Repo)
	names, refs, err := e.asked(req.Applications)
	if err != nil {
		return nil, nil, err
	}
	urls := map[string]bool{}
	for k := range refs {
		urls[k.url] = k.url != e.Repo
	}
	var checks sync.WaitGroup
	for url, other := range urls {
		if other {
			checks.Go(func() { e.check(ctx, url) })
		}
	}
	checks.Wait()
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	e.askNow(e.configKey())
	for k := range refs {
		e.askNow(k)
	}
	// What is wrong with the refs of others is not an error of these.
	var failed []error
	for _, k := range slices.SortedFunc(maps.Keys(refs), func(a, b refKey) int { return strings.Compare(a.url+" "+a.ref, b.url+" "+b.ref) }) {
		if _, err := e.Sources.Revision(k.url, k.ref); err != nil {
			failed = append(failed, err)
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var taken []string
	for _, n := range names {
		a := e.apps[n]
		if a == nil {
			continue // it left meanwhile
		}
		if why := e.refusal(a, req.OverrideWindow); why != nil {
			refused = append(refused, *why)
			continue
		}
		if a.def == nil && len(req.Applications) == 0 {
			e.order(a, req, actor) // it is being deleted, and will be no more
			continue
		}
		taken = append(taken, n)
	}
	if len(refused) > 0 && len(req.Applications) > 0 {
		first := refused[0]
		if n := len(refused); n > 1 {
			first.Message += fmt.Sprintf(" (and %d more)", n-1)
		}
		return nil, nil, &first
	}
	if req.OverrideWindow {
		// On the record before anything is done because of it.
		e.mu.Unlock()
		err := e.recordOverride(ctx, taken, req, actor)
		e.mu.Lock()
		if err != nil {
			return nil, nil, err
		}
	}
	for _, n := range taken {
		if a := e.apps[n]; a != nil {
			e.order(a, req, actor)
		}
	}
	return taken, refused, errors.Join(failed...)
}

// asked is who asked for a sync, and why; desired is the state that it was for, once
// that is known.
type asked struct{ actor, reason, desired string }

// bindAsked ties what somebody asked for to the desired state that the pass meets
// first. Where commits are applied without being asked, what comes after it is the
// doing of its author.
func (e *Engine) bindAsked(t *target, unread bool) {
	if t.asked == nil || unread || t.held != nil {
		return
	}
	if t.asked.desired == "" {
		t.asked.desired = t.desired.digest
	}
	if t.asked.desired == t.desired.digest || !t.def.Spec.Sync.Automatic {
		return
	}
	e.mu.Lock()
	if t.app.asked == t.asked {
		t.app.asked = nil
	}
	e.mu.Unlock()
}

// recordOverride has on the record that windows are overridden.
func (e *Engine) recordOverride(ctx context.Context, names []string, req belay.SyncRequest, actor string) error {
	for _, n := range names {
		if _, err := e.record(ctx, belay.Event{Type: belay.EventOverride, Application: n, Actor: actor, Reason: req.Reason,
			Message: "windows overridden for one sync: " + req.Reason}); err != nil {
			return err
		}
	}
	return nil
}

// order notes that somebody asked for a sync. Called with e.mu.
func (e *Engine) order(a *app, req belay.SyncRequest, actor string) {
	a.status.Refused = "" // until it was looked at again
	a.manual, a.retry, a.asked = true, true, &asked{actor: actor, reason: req.Reason}
	if req.OverrideWindow {
		a.override = &override{}
	}
	msg := "sync requested"
	if req.Reason != "" {
		msg += ": " + req.Reason
	}
	e.publish(belay.Event{Type: belay.EventApplication, Application: a.name, Actor: actor, Reason: req.Reason, Message: msg})
	e.wake(a.name)
}
