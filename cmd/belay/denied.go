package main

import (
	"fmt"
	"sync"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/server"
)

// Whoever can reach the server can be denied as often as they like. The ledger
// gets so many of that at once, and one more each interval.
const (
	denialsAtOnce  = 10
	denialInterval = 6 * time.Second
	// longestPath bounds what a stranger can write into the ledger.
	longestPath = 200
)

// denials puts denied requests on the record, as far as their number allows.
type denials struct {
	publish func(belay.Event)
	now     func() time.Time

	mu      sync.Mutex
	tokens  float64
	last    time.Time
	skipped int // since the last that was recorded
}

func (d *denials) denied(n server.Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if d.last.IsZero() {
		d.tokens = denialsAtOnce
	} else {
		d.tokens = min(denialsAtOnce, d.tokens+now.Sub(d.last).Seconds()/denialInterval.Seconds())
	}
	d.last = now
	if d.tokens < 1 {
		d.skipped++
		return
	}
	d.tokens--
	ev := belay.Event{Type: belay.EventDenied, Actor: n.From, Message: fmt.Sprintf("denied %s %s: %s", n.Method, shortened(n.Path), n.Why)}
	if d.skipped > 0 {
		ev.Message += fmt.Sprintf("; %d more were denied before", d.skipped)
	}
	d.skipped = 0
	d.publish(ev)
}

// shortened is a text of a stranger that fits into a line.
func shortened(s string) string {
	if len(s) > longestPath {
		s = s[:longestPath] + "…"
	}
	return fmt.Sprintf("%q", s)
}
