package kube

import (
	"log/slog"

	"k8s.io/klog/v2"
)

// SetLogger sends what the Kubernetes client libraries log by themselves to a
// logger. It is for the program as a whole and called once, at its start.
func SetLogger(l *slog.Logger) { klog.SetSlogLogger(l) }
