package kube

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"k8s.io/klog/v2"
)

var logger sync.Once

// SetLogger sends what the Kubernetes client libraries log by themselves to a
// logger, but for calls that somebody called off: a server that ends, or a
// cluster that is let go, reads no further on purpose. It is for the program as a
// whole, and the first call counts: what logs already must not have its logger
// exchanged.
func SetLogger(l *slog.Logger) {
	logger.Do(func() { klog.SetSlogLogger(slog.New(wanted{l.Handler()})) })
}

// wanted passes on all records but those of errors that say "context canceled".
type wanted struct{ slog.Handler }

func (w wanted) Handle(ctx context.Context, r slog.Record) error {
	calledOff := false
	r.Attrs(func(a slog.Attr) bool {
		err, ok := a.Value.Any().(error)
		calledOff = ok && errors.Is(err, context.Canceled)
		return !calledOff
	})
	if calledOff {
		return nil
	}
	return w.Handler.Handle(ctx, r)
}

func (w wanted) WithAttrs(a []slog.Attr) slog.Handler { return wanted{w.Handler.WithAttrs(a)} }

func (w wanted) WithGroup(name string) slog.Handler { return wanted{w.Handler.WithGroup(name)} }
