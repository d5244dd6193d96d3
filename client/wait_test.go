package client

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/server/servertest"
)

// A sync ends when its application is right at the newest commit.
func TestWaitForASync(t *testing.T) {
	c, e, bus := start(t)
	states := make(chan belay.ApplicationStatus, 100)
	set := func(f func(a *belay.ApplicationStatus, r *belay.RepositoryStatus)) {
		e.Set(func(s *servertest.State) {
			apps := append([]belay.ApplicationStatus{}, s.Fleet.Applications...)
			repos := append([]belay.RepositoryStatus{}, s.Fleet.Repositories...)
			f(&apps[0], &repos[0])
			s.Fleet.Applications, s.Fleet.Repositories = apps, repos
		})
		bus.Publish(belay.Event{Type: belay.EventHealth, Application: "guestbook"})
	}
	accepted, err := c.Sync(t.Context(), belay.SyncRequest{Applications: []string{"guestbook"}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Wait(t.Context(), WaitRequest{Applications: []string{"guestbook"}, After: &accepted,
			Progress: func(apps []belay.ApplicationStatus) { states <- apps[0] }})
		done <- err
	}()
	await := func(what string, f func(belay.ApplicationStatus) bool) {
		t.Helper()
		for {
			select {
			case a := <-states:
				if f(a) {
					return
				}
			case err := <-done:
				t.Fatalf("ended before %s: %v", what, err)
			}
		}
	}
	// It is Synced and Healthy already, but nobody has looked at the repository since.
	await("the first look", func(a belay.ApplicationStatus) bool { return a.Sync == belay.Synced })
	// There is a new commit.
	set(func(a *belay.ApplicationStatus, r *belay.RepositoryStatus) {
		r.CheckedAt, r.Refs, a.Message = time.Now().UTC(), map[string]string{"main": "bbbb"}, "look 2"
	})
	await("the new commit", func(a belay.ApplicationStatus) bool { return a.Message == "look 2" })
	set(func(a *belay.ApplicationStatus, _ *belay.RepositoryStatus) {
		a.Revision, a.Sync, a.Message = "bbbb", belay.OutOfSync, "look 3"
	})
	// A failure at an older commit does not count.
	bus.Publish(belay.Event{Type: belay.EventSyncFailed, Application: "guestbook", Revision: "aaaa", Message: "old"})
	await("the sync", func(a belay.ApplicationStatus) bool { return a.Message == "look 3" })
	set(func(a *belay.ApplicationStatus, _ *belay.RepositoryStatus) {
		a.Sync, a.Health, a.Message = belay.Synced, belay.Progressing, "look 4"
	})
	await("health", func(a belay.ApplicationStatus) bool { return a.Message == "look 4" })
	set(func(a *belay.ApplicationStatus, _ *belay.RepositoryStatus) { a.Health, a.Message = belay.Healthy, "" })
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// On a busy server something happens all the time. Who waits looks all the same.
func TestWaitingAmongEventsWithoutEnd(t *testing.T) {
	c, e, bus := start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	e.Set(func(s *servertest.State) { s.Fleet.Applications[0].Health = belay.Progressing })
	var busy sync.WaitGroup
	defer busy.Wait()
	ended, end := context.WithCancel(ctx)
	defer end()
	looks := 0
	_, err := c.Wait(ctx, WaitRequest{Applications: []string{"guestbook"}, Progress: func([]belay.ApplicationStatus) {
		if looks++; looks > 1 {
			return
		}
		e.Set(func(s *servertest.State) { s.Fleet.Applications[0].Health = belay.Healthy })
		busy.Go(func() {
			tick := time.NewTicker(settle / 20)
			defer tick.Stop()
			for {
				bus.Publish(belay.Event{Type: belay.EventHealth, Application: "guestbook"})
				select {
				case <-tick.C:
				case <-ended.Done():
					return
				}
			}
		})
	}})
	if err != nil || looks < 2 {
		t.Errorf("after %d looks: %v", looks, err)
	}
}

func TestASyncThatFailsEndsTheWait(t *testing.T) {
	for _, c := range []struct {
		name  string
		event belay.Event
		state func(a *belay.ApplicationStatus, r *belay.RepositoryStatus)
		code  belay.Code
		want  string
	}{
		{name: "a failed object", event: belay.Event{Type: belay.EventSyncFailed, Object: "Service web/web", Revision: "aaaa", Message: "the port is taken"},
			code: belay.CodeInvalid, want: "Service web/web: web: the port is taken"},
		{name: "a held prune", event: belay.Event{Type: belay.EventHeld, Message: "held"}, code: belay.CodeHeld, want: "web: would delete all (set spec.sync.confirm)",
			state: func(a *belay.ApplicationStatus, _ *belay.RepositoryStatus) {
				a.Message, a.Hint = "would delete all", "set spec.sync.confirm"
			}},
		{name: "a broken file", event: belay.Event{Type: belay.EventError, Message: "x.yaml:1: no"}, code: belay.CodeInvalid, want: "web: x.yaml:1: no"},
		{name: "a repository that is down", code: belay.CodeUnavailable,
			want:  "guestbook: its repository " + repo + " cannot be read: timeout\nweb: its repository " + repo + " cannot be read: timeout",
			state: func(_ *belay.ApplicationStatus, r *belay.RepositoryStatus) { r.Message = "timeout" }},
		{name: "a ref that is not there", code: belay.CodeNotFound, want: "web: has no tag v9",
			state: func(a *belay.ApplicationStatus, r *belay.RepositoryStatus) {
				a.Ref, r.RefErrors = "v9", map[string]string{"v9": "has no tag v9"}
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cl, e, bus := start(t)
			e.Set(func(s *servertest.State) {
				s.OnSync = func([]string) {
					e.Set(func(s *servertest.State) {
						a, r := &s.Fleet.Applications[1], &s.Fleet.Repositories[0]
						r.CheckedAt, a.Sync = time.Now().UTC().Add(time.Second), belay.OutOfSync
						if c.state != nil {
							c.state(a, r)
						}
					})
					if c.event.Type != "" {
						c.event.Application = "web"
						bus.Publish(c.event)
					}
				}
			})
			accepted, err := cl.Sync(t.Context(), belay.SyncRequest{All: true})
			if err != nil {
				t.Fatal(err)
			}
			apps, err := cl.Wait(t.Context(), WaitRequest{Applications: accepted.Applications, After: &accepted})
			if belay.CodeOf(err) != c.code || err.Error() != c.want {
				t.Errorf("got %q with code %s, want %q with %s", err, belay.CodeOf(err), c.want, c.code)
			}
			if len(apps) != 2 {
				t.Errorf("states with the error: %+v", apps)
			}
		})
	}
}

func TestWaitForConditions(t *testing.T) {
	c, e, _ := start(t)
	e.Set(func(s *servertest.State) { s.Fleet.Applications[1].Health = belay.Degraded })
	for _, w := range []WaitRequest{
		{Applications: []string{"guestbook"}},
		{Applications: []string{"web"}, For: []Condition{UntilDegraded, UntilSynced}},
		{Applications: []string{"web", "guestbook"}, For: []Condition{UntilSynced}},
		{Applications: []string{"gone"}, For: []Condition{UntilDeleted}},
	} {
		if _, err := c.Wait(t.Context(), w); err != nil {
			t.Errorf("%+v: %v", w, err)
		}
	}
	if _, err := c.Wait(t.Context(), WaitRequest{Applications: []string{"gone"}}); belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("an unknown application: %v", err)
	}
	// The time is over once there was a look.
	late := &overdue{Context: t.Context(), done: make(chan struct{})}
	_, err := c.Wait(late, WaitRequest{Applications: []string{"web", "guestbook"}, Progress: func([]belay.ApplicationStatus) { late.end() }})
	if belay.CodeOf(err) != belay.CodeUnavailable || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "web is Synced and Degraded") || strings.Contains(err.Error(), "guestbook") {
		t.Errorf("a wait too long: %v", err)
	}
}

// overdue is a context whose time is over when a test says so.
type overdue struct {
	context.Context
	once sync.Once
	done chan struct{}
}

func (o *overdue) end() { o.once.Do(func() { close(o.done) }) }

func (o *overdue) Done() <-chan struct{} { return o.done }

func (o *overdue) Err() error {
	select {
	case <-o.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestEveryConditionIsOfSomeState(t *testing.T) {
	for _, c := range Conditions() {
		met := 0
		for _, sync := range []belay.SyncState{belay.Synced, belay.OutOfSync, belay.SyncUnknown} {
			for _, h := range []belay.Health{belay.Healthy, belay.Progressing, belay.Degraded, belay.Suspended, belay.Missing, belay.Unknown} {
				if c.holds(&belay.ApplicationStatus{Sync: sync, Health: h}) {
					met++
				}
			}
		}
		if c.holds(nil) != (c == UntilDeleted) || (met > 0) == (c == UntilDeleted) || met == 18 {
			t.Errorf("%s holds in %d of 18 states, without an application: %t", c, met, c.holds(nil))
		}
	}
}

// After a fix the health stays what it was until the controllers have acted;
// only a Degraded that stays is a failure.
func TestDegradedIsGivenTime(t *testing.T) {
	now := time.Unix(1000, 0)
	w := &waiter{req: WaitRequest{Applications: []string{"a"}, For: []Condition{UntilSynced, UntilHealthy}, After: &belay.SyncAccepted{}}, degradedSince: map[string]time.Time{}}
	st := belay.Status{
		Applications: []belay.ApplicationStatus{{Name: "a", Repo: "r", Ref: "m", Revision: "1", Sync: belay.Synced, Health: belay.Degraded, Message: "crash loop"}},
		Repositories: []belay.RepositoryStatus{{URL: "r", Refs: map[string]string{"m": "1"}}},
	}
	for _, after := range []time.Duration{0, time.Second, degradedGrace - 1} {
		if done, err := w.judge(st, now.Add(after)); done || err != nil {
			t.Fatalf("after %s: %t, %v", after, done, err)
		}
	}
	if done, err := w.judge(st, now.Add(degradedGrace)); !done || err == nil || err.Error() != "a: crash loop" {
		t.Errorf("at the end: %t, %v", done, err)
	}
	st.Applications[0].Health = belay.Progressing
	if done, _ := w.judge(st, now.Add(degradedGrace)); done {
		t.Error("done while Progressing")
	}
	st.Applications[0].Health = belay.Degraded
	if done, _ := w.judge(st, now.Add(degradedGrace+1)); done {
		t.Error("the time of an earlier Degraded counted")
	}
}

// A definition that is wrong keeps its last good meaning; a sync must not pass for done then.
// A commit that may not be deployed is never going to be: that ends the wait. What a
// Project wants signed may have changed a moment ago.
func TestARefusedCommitEndsTheWait(t *testing.T) {
	now := time.Unix(1000, 0)
	w := &waiter{req: WaitRequest{Applications: []string{"a"}, For: []Condition{UntilSynced, UntilHealthy}, After: &belay.SyncAccepted{}}, refusedSince: map[string]time.Time{}}
	st := belay.Status{
		Applications: []belay.ApplicationStatus{{Name: "a", Repo: "r", Ref: "m", Revision: "1", Refused: "2", Sync: belay.Synced, Health: belay.Healthy, Message: "commit 2 is refused"}},
		Repositories: []belay.RepositoryStatus{{URL: "r", Refs: map[string]string{"m": "2"}}},
	}
	for _, after := range []time.Duration{0, refusedGrace - 1} {
		if done, err := w.judge(st, now.Add(after)); done || err != nil {
			t.Fatalf("after %s: %t, %v", after, done, err)
		}
	}
	if done, err := w.judge(st, now.Add(refusedGrace)); !done || belay.CodeOf(err) != belay.CodeDenied || err.Error() != "a: commit 2 is refused" {
		t.Errorf("at the end: %t, %v", done, err)
	}
	// There is a newer one, of which nothing is known yet.
	st.Repositories[0].Refs["m"] = "3"
	if done, err := w.judge(st, now.Add(refusedGrace)); done || err != nil {
		t.Errorf("with a newer commit: %t, %v", done, err)
	}
	st.Repositories[0].Refs["m"] = "2"
	if done, _ := w.judge(st, now.Add(refusedGrace+1)); done {
		t.Error("the time of an earlier refusal counted")
	}
	// It was accepted after all.
	st.Applications[0].Refused, st.Applications[0].Revision = "", "2"
	if done, err := w.judge(st, now.Add(refusedGrace+2)); !done || err != nil {
		t.Errorf("accepted: %t, %v", done, err)
	}
}

func TestABrokenDefinitionFailsTheSync(t *testing.T) {
	w := &waiter{req: WaitRequest{Applications: []string{"a"}, For: []Condition{UntilSynced, UntilHealthy}, After: &belay.SyncAccepted{}}, degradedSince: map[string]time.Time{}}
	st := belay.Status{
		Applications: []belay.ApplicationStatus{{Name: "a", Repo: "r", Ref: "m", Revision: "2", Sync: belay.Synced, Health: belay.Healthy}},
		Repositories: []belay.RepositoryStatus{{URL: "r", Refs: map[string]string{"m": "2"}}},
		Problems: []belay.Error{{Code: belay.CodeInvalid, Message: "other", Application: "b"},
			{Code: belay.CodeInvalid, Message: "unknown field", Application: "a", Origin: belay.Origin{Repo: "r", Revision: "1", File: "a.yaml", Line: 3}}},
	}
	if done, err := w.judge(st, time.Now()); done || err != nil {
		t.Errorf("with a problem of an older commit: %t, %v", done, err)
	}
	st.Problems[1].Origin.Revision = "2"
	if done, err := w.judge(st, time.Now()); !done || err == nil || err.Error() != "a.yaml:3: unknown field" {
		t.Errorf("with a problem of the newest commit: %t, %v", done, err)
	}
	st.Problems = st.Problems[:1]
	if done, err := w.judge(st, time.Now()); !done || err != nil {
		t.Errorf("without a problem: %t, %v", done, err)
	}
}
