package main

import (
	"context"
	"slices"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/events"
	"github.com/belaydev/belay/internal/ledger"
	"github.com/belaydev/belay/internal/xec"
)

// recorder takes events to those who watch and to the ledger.
type recorder struct {
	bus    *events.Bus
	ledger *ledger.Ledger
	grown  func() // is told when there may be more in the ledger
}

// Publish implements reconcile.Recorder.
func (r *recorder) Publish(ev belay.Event) {
	ev = prepared(ev)
	if recorded(ev.Type) {
		r.ledger.Publish(ev)
		r.grown()
	}
	r.show(ev)
}

// Record implements reconcile.Recorder.
func (r *recorder) Record(ctx context.Context, ev belay.Event) (string, error) {
	ev = prepared(ev)
	id, err := r.ledger.Record(ctx, ev)
	if err != nil {
		return "", err
	}
	r.grown()
	if ev.Type == belay.EventSyncStarted {
		ev.Deployment = id // in the ledger the record is that itself
	}
	r.show(ev)
	return id, nil
}

// prepared is an event with its time, and without the token that somebody put
// into the URL of a repository: a record is for ever.
func prepared(ev belay.Event) belay.Event {
	if ev.Time.IsZero() {
		ev.Time = time.Now()
	}
	ev.Repo, ev.Message, ev.Reason = withoutToken(ev.Repo), withoutToken(ev.Message), withoutToken(ev.Reason)
	if ev.Detail == nil {
		return ev
	}
	d := *ev.Detail
	d.Sources, d.Objects = slices.Clone(d.Sources), slices.Clone(d.Objects)
	for i := range d.Sources {
		d.Sources[i].Repo = withoutToken(d.Sources[i].Repo)
	}
	for i := range d.Objects {
		d.Objects[i].Error = withoutToken(d.Objects[i].Error)
	}
	ev.Detail = &d
	return ev
}

func withoutToken(s string) string { return (*xec.Scrubber)(nil).String(s) }

// show tells those who watch. Details are for the record: a stream of them would
// keep every object of every deployment in memory.
func (r *recorder) show(ev belay.Event) {
	ev.Detail = nil
	r.bus.Publish(ev)
}

// recorded says whether events of a type are for the ledger. The end of a
// deployment has every object that was applied.
func recorded(t belay.EventType) bool { return t != belay.EventApplied }

// Running implements reconcile.Recorder.
func (r *recorder) Running() []belay.Deployment { return r.ledger.Running() }

// Holds implements reconcile.Recorder.
func (r *recorder) Holds() []belay.Hold { return r.ledger.Holds() }

// Deployed implements reconcile.Recorder.
func (r *recorder) Deployed(ctx context.Context, cluster, application string) (belay.Deployment, error) {
	return r.ledger.Deployed(ctx, cluster, application)
}

// Source implements reconcile.Recorder.
func (r *recorder) Source(repo, ref string) string { return r.ledger.Source(withoutToken(repo), ref) }
