package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A library that says every few seconds what is wrong is heard now and then.
func TestALibraryDoesNotFillTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(newSparing(slog.NewTextHandler(&out, nil))).With("component", "library")
		for range 8 * 60 { // an hour
			log.Error("no answer", "try", 1)
			log.With("a", "b").Error("no answer")
			time.Sleep(7500 * time.Millisecond)
		}
		log.Error("something else")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 7 || !strings.Contains(lines[0], "component=library") || strings.Contains(lines[0], "repeated") ||
			!strings.Contains(lines[1], "repeated=159") || !strings.Contains(lines[6], "something else") {
			t.Errorf("%d lines:\n%s", len(lines), out.String())
		}
		// What was said long ago, and by few, is not remembered.
		s := newSparing(slog.NewTextHandler(&out, nil)).said
		for range 100 {
			s.pass(time.Now().String(), time.Now())
			time.Sleep(time.Minute)
		}
		if len(s.at) > 11 {
			t.Errorf("%d messages are remembered", len(s.at))
		}
	})
}
