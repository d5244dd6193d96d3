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
	// probeTime is how long the first waits for a second. Edits healed one after the
	// other are many in a second, too, but none of them gains from a wait.
	probeTime = 25 * time.Millisecond
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

// gather gives others the time to join a batch, if any come.
func (l *Ledger) gather() {
	end := time.NewTimer(gatherTime)
	defer end.Stop()
	probe := time.NewTimer(probeTime)
	defer probe.Stop()
	for {
		select {
		case <-end.C:
			return
		case <-probe.C:
			if l.waiters() < 2 {
				l.mu.Lock()
				l.urgent = rush{}
				l.mu.Unlock()
				return
			}
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
