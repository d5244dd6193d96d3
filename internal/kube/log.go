package kube

import (
	"log/slog"
	"sync"

	"k8s.io/klog/v2"
)

var logger sync.Once

// SetLogger sends what the Kubernetes client libraries log by themselves to a
// logger. It is for the program as a whole, and the first call counts: what logs
// already must not have its logger exchanged.
func SetLogger(l *slog.Logger) { logger.Do(func() { klog.SetSlogLogger(l) }) }
