package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// Condition is a state that can be waited for.
type Condition string

// The conditions.
const (
	UntilSynced      Condition = "synced"
	UntilOutOfSync   Condition = "outofsync"
	UntilHealthy     Condition = "healthy"
	UntilProgressing Condition = "progressing"
	UntilDegraded    Condition = "degraded"
	UntilSuspended   Condition = "suspended"
	UntilMissing     Condition = "missing"
	// UntilDeleted is that there is no such application.
	UntilDeleted Condition = "deleted"
)

// Conditions lists every [Condition].
func Conditions() []Condition {
	return []Condition{UntilSynced, UntilOutOfSync, UntilHealthy, UntilProgressing, UntilDegraded, UntilSuspended, UntilMissing, UntilDeleted}
}

// holds reports whether an application, nil for one that is not there, is in the state.
func (c Condition) holds(a *belay.ApplicationStatus) bool {
	if a == nil {
		return c == UntilDeleted
	}
	switch c {
	case UntilSynced, UntilOutOfSync:
		return strings.EqualFold(string(a.Sync), string(c))
	case UntilDeleted:
		return false
	}
	return strings.EqualFold(string(a.Health), string(c))
}

// WaitRequest says what to wait for.
type WaitRequest struct {
	// Applications by name; at least one.
	Applications []string
	// For are the conditions that must hold at once. Default: synced and healthy.
	For []Condition
	// After is a sync that was asked for. Only what follows it counts: the newest
	// commit must have been taken into account, and a sync that fails ends the wait.
	After *belay.SyncAccepted
	// Progress is told the state whenever it was looked at. May be nil.
	Progress func([]belay.ApplicationStatus)
}

// Times of waiting.
const (
	// lookInterval is the longest time between looks; events make it shorter.
	lookInterval = 2 * time.Second
	// settle gathers events that come together into one look; where a look takes
	// long, it is a part of the time all the same.
	settle = 100 * time.Millisecond
	// degradedGrace is how long an application may be Degraded after its sync:
	// its health is of the moment before until the cluster's controllers have acted.
	degradedGrace = 15 * time.Second
	// refusedGrace is how long a commit may be refused: what its Project wants signed
	// may have changed a moment ago.
	refusedGrace = 5 * time.Second
)

// Wait waits until the conditions hold for every application, and returns their
// states then. It fails at once for an application that is not there, and, with
// After, once each application either meets the conditions or failed. At the end
// of ctx the error has the code CodeUnavailable and says what was still missing.
// States come with an error too.
func (c *Client) Wait(ctx context.Context, req WaitRequest) ([]belay.ApplicationStatus, error) {
	if len(req.For) == 0 {
		req.For = []Condition{UntilSynced, UntilHealthy}
	}
	w := &waiter{req: req, wanted: map[string]bool{}, failed: map[string]belay.Event{}, degradedSince: map[string]time.Time{}, refusedSince: map[string]time.Time{}, synced: map[string]belay.Event{}}
	for _, n := range req.Applications {
		w.wanted[n] = true
	}
	// Events are a help, not a need: without them, looks are just farther apart.
	ectx, stop := context.WithCancel(ctx)
	defer stop()
	happened := make(chan belay.Event)
	go func() {
		q := EventQuery{Since: SinceLatest, Applications: narrow(req.Applications), Follow: true}
		if req.After != nil {
			q.Since = req.After.Since
		}
		for e, err := range c.Events(ectx, q) {
			if err != nil {
				return
			}
			select {
			case happened <- e:
			case <-ectx.Done():
				return
			}
		}
	}()
	look := time.NewTimer(0)
	defer look.Stop()
	soon, took := false, time.Duration(0)
	for {
		select {
		case e := <-happened:
			w.note(e)
			if !soon { // the next one puts it off no further: they may never end
				soon = true
				look.Reset(min(max(settle, 5*took), lookInterval))
			}
			continue
		case <-look.C:
		case <-ctx.Done():
			return w.apps, w.late(ctx.Err())
		}
		began := time.Now()
		st, err := c.Status(ctx, Filter{Applications: narrow(req.Applications)})
		if err != nil {
			if ctx.Err() != nil {
				return w.apps, w.late(ctx.Err())
			}
			return w.apps, err
		}
		w.apps = slices.DeleteFunc(st.Applications, func(a belay.ApplicationStatus) bool { return !w.wanted[a.Name] })
		st.Applications = w.apps
		if req.Progress != nil {
			req.Progress(w.apps)
		}
		if done, err := w.judge(st, time.Now()); done {
			return w.apps, err
		}
		soon, took = false, time.Since(began)
		look.Reset(lookInterval)
	}
}

// narrow is names as a filter for the server. So many that they would not fit
// into a request are filtered here instead.
func narrow(names []string) []string {
	if len(names) > 50 {
		return nil
	}
	return names
}

// waiter judges states and events; it does no I/O.
type waiter struct {
	req    WaitRequest
	wanted map[string]bool
	apps   []belay.ApplicationStatus
	// pending says why an application is not done yet.
	pending map[string]string
	// hints say what to do about those that are pending, where that is known.
	hints map[string]string
	// failed syncs by application, until a later one succeeds.
	failed map[string]belay.Event
	// synced is the last successful sync of an application.
	synced        map[string]belay.Event
	degradedSince map[string]time.Time
	refusedSince  map[string]time.Time
}

// note takes an event that followed the request.
func (w *waiter) note(e belay.Event) {
	if w.req.After == nil || e.Application == "" {
		return
	}
	switch e.Type {
	case belay.EventSyncStarted:
		delete(w.failed, e.Application)
	case belay.EventSynced:
		delete(w.failed, e.Application)
		w.synced[e.Application] = e
	case belay.EventSyncFailed, belay.EventHeld, belay.EventError:
		w.failed[e.Application] = e
	}
}

// judge reports whether waiting is over, and how it ended.
func (w *waiter) judge(st belay.Status, now time.Time) (done bool, err error) {
	w.pending, w.hints = map[string]string{}, map[string]string{}
	apps := make(map[string]*belay.ApplicationStatus, len(st.Applications))
	for i := range st.Applications {
		apps[st.Applications[i].Name] = &st.Applications[i]
	}
	var errs []error
	for _, name := range w.req.Applications {
		app := apps[name]
		ok, err := w.one(name, app, &st, now)
		switch {
		case err != nil:
			errs = append(errs, err)
		case !ok:
			w.pending[name] = explain(app)
			if app != nil && app.Hint != "" {
				w.hints[name] = app.Hint
			}
		}
	}
	return len(w.pending) == 0, errors.Join(errs...)
}

// one judges one application.
func (w *waiter) one(name string, app *belay.ApplicationStatus, st *belay.Status, now time.Time) (ok bool, err error) {
	if app == nil && !slices.Contains(w.req.For, UntilDeleted) {
		return false, belay.NoSuch("application", name, nil, "\"belay get apps\" lists them") // st has those that are waited for alone
	}
	met := !slices.ContainsFunc(w.req.For, func(c Condition) bool { return !c.holds(app) })
	if w.req.After == nil || app == nil {
		return met, nil
	}
	newest, checked, err := w.newest(app, st.Repositories)
	if err != nil || !checked {
		return false, err
	}
	if broken, err := definition(name, st); broken {
		return false, err
	}
	if e, ok := w.failed[name]; ok && (e.Revision == "" || newest == "" || e.Revision == newest) {
		return false, failure(app, e)
	}
	if newest != "" && newest == app.Refused {
		return false, w.refused(app, now)
	}
	delete(w.refusedSince, name)
	switch {
	case newest != "" && newest != app.Revision:
		return false, nil
	case met:
		return true, nil
	}
	return false, w.degraded(app, now)
}

// definition reports whether the application's definition is wrong. What it
// meant last still holds, which is not what the newest commit says. The error
// comes once that is known of the newest commit of the definitions.
func definition(name string, st *belay.Status) (broken bool, err error) {
	for _, p := range st.Problems {
		if p.Application != name {
			continue
		}
		for _, r := range st.Repositories {
			if r.URL == p.Origin.Repo && p.Origin.Revision != "" && !holdsCommit(r.Refs, p.Origin.Revision) {
				return true, nil // it is of an older commit: they are being read again
			}
		}
		return true, &p
	}
	return false, nil
}

func holdsCommit(refs map[string]string, commit string) bool {
	for _, c := range refs {
		if c == commit {
			return true
		}
	}
	return false
}

// failure is the error of a sync that failed.
func failure(app *belay.ApplicationStatus, e belay.Event) error {
	f := &belay.Error{Code: belay.CodeInvalid, Object: e.Object, Message: e.Message}
	if e.Type == belay.EventHeld {
		f.Code = belay.CodeHeld
	}
	if app.Message != "" { // the state says it with a hint
		f.Object, f.Message, f.Hint = "", app.Message, app.Hint
	}
	return prefixed(app.Name, f)
}

// newest is the newest commit of the application's ref; it is "" where nothing
// tells. checked is false until the repository was looked at after the request.
func (w *waiter) newest(app *belay.ApplicationStatus, repos []belay.RepositoryStatus) (commit string, checked bool, err error) {
	i := slices.IndexFunc(repos, func(r belay.RepositoryStatus) bool { return r.URL == app.Repo })
	if i < 0 {
		// Nothing tells about its repository; then the sync itself does.
		_, synced := w.synced[app.Name]
		_, failed := w.failed[app.Name]
		return "", synced || failed || app.SyncedAt.After(w.req.After.RequestedAt), nil
	}
	repo := repos[i]
	if repo.CheckedAt.Before(w.req.After.RequestedAt) {
		return "", false, nil
	}
	if repo.Message != "" {
		return "", true, prefixed(app.Name, &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("its repository %s cannot be read: %s", repo.URL, repo.Message)})
	}
	if why := repo.RefErrors[app.Ref]; why != "" {
		return "", true, prefixed(app.Name, &belay.Error{Code: belay.CodeNotFound, Message: why})
	}
	return repo.Refs[app.Ref], true, nil
}

// degraded is an error once the application stayed Degraded, although synced, for too long.
func (w *waiter) degraded(app *belay.ApplicationStatus, now time.Time) error {
	if app.Sync != belay.Synced || app.Health != belay.Degraded {
		delete(w.degradedSince, app.Name)
		return nil
	}
	if !lasts(w.degradedSince, app.Name, now, degradedGrace) {
		return nil
	}
	return prefixed(app.Name, &belay.Error{Code: belay.CodeInvalid, Message: cmp.Or(app.Message, "it is synced, but Degraded"), Hint: app.Hint})
}

// refused is an error once the newest commit stayed refused for a while.
func (w *waiter) refused(app *belay.ApplicationStatus, now time.Time) error {
	if !lasts(w.refusedSince, app.Name, now, refusedGrace) {
		return nil
	}
	return prefixed(app.Name, &belay.Error{Code: belay.CodeDenied, Message: cmp.Or(app.Message, "its newest commit is refused"), Hint: app.Hint})
}

// lasts says whether something has been so of an application for a while; the first
// time it begins to be.
func lasts(since map[string]time.Time, name string, now time.Time, grace time.Duration) bool {
	began, ok := since[name]
	if !ok {
		since[name] = now
		return false
	}
	return now.Sub(began) >= grace
}

// prefixed names the application in the message.
func prefixed(name string, e *belay.Error) *belay.Error {
	e.Application = name
	e.Message = name + ": " + e.Message
	return e
}

// late is the error for a wait that ended before its time.
func (w *waiter) late(cause error) error {
	if errors.Is(cause, context.Canceled) {
		return cause
	}
	names := make([]string, 0, len(w.pending))
	for n := range w.pending {
		names = append(names, n)
	}
	slices.Sort(names)
	parts := make([]string, 0, len(names))
	hint := ""
	for _, n := range names {
		parts = append(parts, n+" is "+w.pending[n])
		if h := w.hints[n]; h != "" && hint == "" { // one at a time is enough to do
			if hint = h; len(names) > 1 {
				hint = n + ": " + h
			}
		}
	}
	if len(parts) == 0 {
		parts = w.req.Applications
	}
	return &belay.Error{Code: belay.CodeUnavailable, Message: "waited too long: " + strings.Join(parts, "; "), Hint: strings.TrimPrefix(hint+"; or wait longer with --timeout", "; or "), Err: cause}
}

// explain is the state of an application in words.
func explain(a *belay.ApplicationStatus) string {
	if a == nil {
		return "not there"
	}
	s := fmt.Sprintf("%s and %s", a.Sync, a.Health)
	if a.Message != "" {
		s += " (" + a.Message + ")"
	}
	return s
}
