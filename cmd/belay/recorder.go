package main

import (
	"context"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/events"
)

// recorder is what the engine tells its events: they go to those who watch.
type recorder struct{ *events.Bus }

// Record implements reconcile.Recorder.
func (r recorder) Record(_ context.Context, ev belay.Event) (string, error) {
	r.Publish(ev)
	return "", nil
}

// Running implements reconcile.Recorder.
func (r recorder) Running() []belay.Deployment { return nil }

// Holds implements reconcile.Recorder.
func (r recorder) Holds() []belay.Hold { return nil }

// Source implements reconcile.Recorder.
func (r recorder) Source(string, string) string { return "" }
