package ledger

import "time"

const (
	// rushCount events that somebody waits for, within rushTime, are a rush: a fleet
	// is being rolled out.
	rushCount = 8
	rushTime  = time.Second
	// gatherTime is how long a batch then waits for more. A batch costs git a pack
	// with its index, a move of the branch and several fsyncs, whatever its size:
	// of a rush, most of what the ledger cost was that.
	gatherTime = 150 * time.Millisecond
	// gatherItems end the wait: that many may be all that can be under way.
	gatherItems = 48
)

// rush remembers when the latest events came that somebody waits for.
type rush struct {
	at   [rushCount]time.Time
	next int
}

func (r *rush) add(now time.Time) {
	r.at[r.next] = now
	r.next = (r.next + 1) % rushCount
}

// on is true while they come in quick succession. One on its own, and a handful,
// are written at once.
func (r *rush) on(now time.Time) bool {
	oldest := r.at[r.next]
	return !oldest.IsZero() && now.Sub(oldest) < rushTime
}

func (l *Ledger) rushed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.urgent.on(l.now())
}

// gather gives others the time to join a batch.
func (l *Ledger) gather() {
	t := time.NewTimer(gatherTime)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return
		case <-l.closing:
			return
		case <-l.wake:
			if l.waiters() >= gatherItems {
				return
			}
		}
	}
}

// waiters counts those who wait for an event.
func (l *Ledger) waiters() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range l.queue {
		if it.done != nil {
			n++
		}
	}
	return n
}
