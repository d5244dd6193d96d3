package main

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// repeatAfter is the time after which a library may say the same again.
const repeatAfter = 10 * time.Minute

// sparing passes on what a library logs, and the same message only now and then: some
// say what is wrong each time they try again, every few seconds for as long as it lasts.
type sparing struct {
	slog.Handler
	said *said
}

// said is what was passed on, and when.
type said struct {
	mu sync.Mutex
	at map[string]time.Time
	// kept counts what was not passed on since.
	kept map[string]int
}

func newSparing(h slog.Handler) sparing {
	return sparing{h, &said{at: map[string]time.Time{}, kept: map[string]int{}}}
}

// Handle implements [slog.Handler]. How often a message was kept back is said with
// the next one.
func (s sparing) Handle(ctx context.Context, r slog.Record) error {
	kept, ok := s.said.pass(r.Message, r.Time)
	if !ok {
		return nil
	}
	if kept > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("repeated", kept))
	}
	return s.Handler.Handle(ctx, r)
}

func (s *said) pass(message string, now time.Time) (kept int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, known := s.at[message]; known && now.Sub(last) < repeatAfter {
		s.kept[message]++
		return 0, false
	}
	for m, last := range s.at { // some messages have a name in them
		if now.Sub(last) >= repeatAfter && s.kept[m] == 0 {
			delete(s.at, m)
		}
	}
	kept = s.kept[message]
	delete(s.kept, message)
	s.at[message] = now
	return kept, true
}

// WithAttrs implements [slog.Handler].
func (s sparing) WithAttrs(attrs []slog.Attr) slog.Handler {
	return sparing{s.Handler.WithAttrs(attrs), s.said}
}

// WithGroup implements [slog.Handler].
func (s sparing) WithGroup(name string) slog.Handler {
	return sparing{s.Handler.WithGroup(name), s.said}
}
