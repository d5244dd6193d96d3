package reconcile

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// What the engine does is told to those who watch, and put on the record. Most of
// it is told when it happened, and nobody waits for the record. What must not
// happen unrecorded is recorded first: the start of a deployment, a drift that is
// set back, an override. Where that fails, nothing is written.

// places are what an event says of the application that it is about. They have a
// lock of their own: events are told with and without Engine.mu.
type places struct {
	mu     sync.RWMutex
	change string // commit of the definitions in force
	of     map[string]whereabouts
}

type whereabouts struct{ project, cluster string }

func (p *places) force(commit string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change = commit
}

func (p *places) set(def *belay.Application) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of == nil {
		p.of = map[string]whereabouts{}
	}
	p.of[def.Name] = whereabouts{def.Spec.Project, def.Spec.Destination.Cluster}
}

func (p *places) forget(application string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, application)
}

// fill adds what an event does not say itself.
func (p *places) fill(ev *belay.Event) {
	if ev.Application == "" {
		return
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	at := p.of[ev.Application]
	if ev.Project == "" {
		ev.Project = at.project
	}
	if ev.Cluster == "" {
		ev.Cluster = at.cluster
	}
	if ev.Change == "" {
		ev.Change = p.change
	}
}

// publish tells an event to those who watch and to the record, and to the log
// what an operator looks for there. Failed writes, drift and clusters have lines
// of their own.
func (e *Engine) publish(ev belay.Event) {
	if e.DryRun {
		return
	}
	e.places.fill(&ev)
	if e.Recorder != nil {
		e.Recorder.Publish(ev)
	}
	e.logEvent(&ev)
}

// record is publish for what must not happen unless it is on the record. The
// error is for people.
func (e *Engine) record(ctx context.Context, ev belay.Event) (id string, err error) {
	if e.DryRun {
		return "", nil
	}
	e.places.fill(&ev)
	if e.Recorder != nil {
		if id, err = e.Recorder.Record(ctx, ev); err != nil {
			return "", unrecorded(err, ev.Application)
		}
	}
	e.logEvent(&ev)
	return id, nil
}

// unrecorded says that nothing is written because that could not be recorded.
func unrecorded(err error, application string) *belay.Error {
	be := asError(err, application)
	return &belay.Error{Code: belay.CodeUnavailable, Application: application, Err: err, Hint: be.Hint,
		Message: "nothing is written before it is on the record: " + be.Message}
}

func (e *Engine) logEvent(ev *belay.Event) {
	level := slog.LevelInfo
	switch ev.Type {
	case belay.EventRevision, belay.EventSynced, belay.EventPruned, belay.EventHealed, belay.EventSuspended, belay.EventSuperseded, belay.EventRetried,
		belay.EventConfirmed:
	case belay.EventSource, belay.EventHeld, belay.EventRefused, belay.EventError, belay.EventOverride, belay.EventRewritten:
		level = slog.LevelWarn
	default:
		return
	}
	attrs := []slog.Attr{slog.String("type", string(ev.Type))}
	for _, a := range []slog.Attr{slog.String("application", ev.Application), slog.String("cluster", ev.Cluster),
		slog.String("object", ev.Object), slog.String("repo", ev.Repo), slog.String("revision", ev.Revision), slog.String("what", ev.Message)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	e.Logger.LogAttrs(context.Background(), level, "event", attrs...)
}

// postpone shows that a pass writes nothing because that cannot be recorded, and
// tries again. Others of the process fare alike: the pauses grow for each.
func (e *Engine) postpone(ctx context.Context, t *target, p *belay.Plan, why, renderErr error) {
	a := t.app
	pause := e.putBack(a)
	level := slog.LevelWarn
	if before := a.unrecorded.err; before != nil && before.Error() == why.Error() {
		level = slog.LevelDebug // said already: who looks at a full disk has that to read once
	}
	a.unrecorded.err = why
	e.Logger.Log(ctx, level, "not recorded, so not written", "application", a.name, "cluster", t.cluster, "error", why, "again", pause.String())
	t.unrecorded = asError(why, a.name)
	e.finish(ctx, t, p, plan.Step{Waiting: t.unrecorded.Message}, renderErr)
}

// putBack has tried again later what could not be recorded. The pauses grow.
func (e *Engine) putBack(a *app) (pause time.Duration) {
	a.unrecorded.count++
	pause = backoff(a.unrecorded.count)
	e.queue.addAfter(key{keyApp, a.name}, pause)
	return pause
}
