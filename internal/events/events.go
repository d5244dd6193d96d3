// Package events keeps the latest events of a process and hands them to any
// number of readers. A reader is only a position in the sequence, so a slow one
// costs nothing and delays nobody: when what it has not read yet was
// overwritten, it is told how many events it missed.
//
// It must not know who publishes or how events are served, and it stores
// nothing beyond the process.
package events

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"time"

	"github.com/belaydev/belay"
)

// batch bounds what one read returns, so that a reader holds little at a time.
const batch = 256

// Bus is a bounded sequence of events. Its methods are safe for concurrent use.
type Bus struct {
	epoch string
	now   func() time.Time

	mu   sync.Mutex
	ring []belay.Event // event with Seq s is at ring[s % len]
	last uint64        // Seq of the newest event; 0 before the first
	wake chan struct{} // closed by the next Publish; nil while nobody waits
}

// New makes a Bus that keeps the latest size events; size is at least 1.
func New(size int) *Bus {
	return &Bus{epoch: strings.ToLower(rand.Text()[:10]), now: time.Now, ring: make([]belay.Event, max(size, 1))}
}

// Epoch identifies this Bus among those of other lives of the process, whose
// sequence numbers mean something else.
func (b *Bus) Epoch() string { return b.epoch }

// Publish appends an event. It sets Seq, and Time where that is zero. It never blocks.
func (b *Bus) Publish(e belay.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	e.Seq = b.last
	if e.Time.IsZero() {
		e.Time = b.now()
	}
	e.Time = e.Time.UTC()
	b.ring[e.Seq%uint64(len(b.ring))] = e
	if b.wake != nil {
		close(b.wake)
		b.wake = nil
	}
}

// Latest is the Seq of the newest event, 0 before the first.
func (b *Bus) Latest() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// After returns the events that follow seq, oldest first and at most a few
// hundred at a time; it waits until there is one. missed counts the events
// after seq that are no longer kept. The error is the context's, and then there
// are no events. A seq that was never given out is of another life of the
// process: reading begins with the oldest event that is kept.
func (b *Bus) After(ctx context.Context, seq uint64) (events []belay.Event, missed uint64, err error) {
	for {
		events, missed, wake := b.read(seq)
		if wake == nil {
			return events, missed, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// read returns what follows seq, or a channel to wait on where nothing does.
func (b *Bus) read(seq uint64) (events []belay.Event, missed uint64, wake <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if seq > b.last {
		seq = 0
	}
	if seq == b.last {
		if b.wake == nil {
			b.wake = make(chan struct{})
		}
		return nil, 0, b.wake
	}
	size := uint64(len(b.ring))
	first := seq + 1
	if b.last >= size && first <= b.last-size {
		oldest := b.last - size + 1
		missed, first = oldest-first, oldest
	}
	end := min(b.last, first+batch-1)
	events = make([]belay.Event, 0, end-first+1)
	for s := first; s <= end; s++ {
		events = append(events, b.ring[s%size])
	}
	return events, missed, nil
}
