package kube_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/go-logr/logr"

	"github.com/belaydev/belay/internal/kube"
)

// A call that was called off is no error anybody has to read of; all others are.
func TestClientLibrariesLog(t *testing.T) {
	var log bytes.Buffer
	logger := logr.FromSlogHandler(kube.Wanted(slog.NewTextHandler(&log, nil)).WithAttrs([]slog.Attr{slog.String("component", "client-go")}))
	for _, l := range []logr.Logger{logger, logger.WithName("reader").WithValues("n", 1)} {
		l.Error(fmt.Errorf("reading: %w", context.Canceled), "Unexpected error when reading response body")
		l.Error(errors.New("connection reset"), "Unexpected error when reading response body")
		l.Info("told")
	}
	if got := log.String(); strings.Contains(got, "canceled") || strings.Count(got, "connection reset") != 2 || strings.Count(got, "told") != 2 || !strings.Contains(got, "component=client-go") {
		t.Errorf("the log is\n%s", got)
	}
}
