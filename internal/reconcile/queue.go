package reconcile

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// key names a piece of work. Work of one key never runs twice at once.
type key struct {
	kind keyKind
	name string
}

type keyKind byte

const (
	keyConfig keyKind = iota // load the definitions
	keySource                // refs of a repository moved
	keyApp                   // an application
)

// queue hands out keys: each at most once at a time, again if it was added while
// it ran, and later if asked so. Waiting in it costs no goroutine.
//
// What tells of commits comes before applications: while thousands of them wait, a
// commit that is not seen changes none. Of applications the one that has waited
// longest and the one that came last take turns: a commit to one, or an edit by hand,
// is not to wait for the end of a rollout of all, and a crowd has no order anyway.
type queue struct {
	mu     sync.Mutex
	ready  *sync.Cond
	first  []key // definitions and sources
	order  []key // applications
	newest bool  // whose turn it is
	queued map[key]bool
	active map[key]bool
	again  map[key]bool
	timers timerHeap
	due    map[key]*timer
	kick   chan struct{}
	closed bool
}

func newQueue() *queue {
	q := &queue{queued: map[key]bool{}, active: map[key]bool{}, again: map[key]bool{}, due: map[key]*timer{}, kick: make(chan struct{}, 1)}
	q.ready = sync.NewCond(&q.mu)
	return q
}

// add queues a key now; an earlier timer of it is dropped.
func (q *queue) add(k key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drop(k)
	q.push(k)
}

func (q *queue) push(k key) {
	switch {
	case q.closed || q.queued[k]:
	case q.active[k]:
		q.again[k] = true
	default:
		q.queued[k] = true
		if k.kind == keyApp {
			q.order = append(q.order, k)
		} else {
			q.first = append(q.first, k)
		}
		q.ready.Signal()
	}
}

// addAfter queues a key in d, unless it is due earlier anyway.
func (q *queue) addAfter(k key, d time.Duration) {
	if d <= 0 {
		q.add(k)
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	at := time.Now().Add(d)
	if t, ok := q.due[k]; ok {
		if t.at.After(at) {
			t.at = at
			heap.Fix(&q.timers, t.index)
		}
	} else {
		t := &timer{key: k, at: at}
		q.due[k] = t
		heap.Push(&q.timers, t)
	}
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

func (q *queue) drop(k key) {
	if t, ok := q.due[k]; ok {
		heap.Remove(&q.timers, t.index)
		delete(q.due, k)
	}
}

// next blocks until there is work; ok is false when the queue is closed.
func (q *queue) next() (k key, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.first)+len(q.order) == 0 && !q.closed {
		q.ready.Wait()
	}
	if q.closed {
		return key{}, false
	}
	k = q.take()
	delete(q.queued, k)
	q.active[k] = true
	return k, true
}

// take removes the key whose turn it is. The caller holds q.mu.
func (q *queue) take() key {
	if len(q.first) > 0 {
		k := q.first[0]
		q.first = q.first[1:]
		return k
	}
	at := 0
	if q.newest {
		at = len(q.order) - 1
	}
	q.newest = !q.newest
	k := q.order[at]
	if at == 0 {
		q.order = q.order[1:]
	} else {
		q.order = q.order[:at]
	}
	return k
}

// done gives a key back.
func (q *queue) done(k key) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.active, k)
	if q.again[k] {
		delete(q.again, k)
		q.push(k)
	}
}

// idle reports whether nothing is queued or running; timers do not count.
func (q *queue) idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.first)+len(q.order) == 0 && len(q.active) == 0
}

// run moves keys whose time has come, until ctx ends; then it closes the queue.
func (q *queue) run(ctx context.Context) {
	clock := time.NewTimer(time.Hour)
	defer clock.Stop()
	for {
		q.mu.Lock()
		now := time.Now()
		wait := time.Hour
		for len(q.timers) > 0 {
			t := q.timers[0]
			if d := t.at.Sub(now); d > 0 {
				wait = d
				break
			}
			heap.Pop(&q.timers)
			delete(q.due, t.key)
			q.push(t.key)
		}
		q.mu.Unlock()
		clock.Reset(wait)
		select {
		case <-clock.C:
		case <-q.kick:
		case <-ctx.Done():
			q.mu.Lock()
			q.closed = true
			q.ready.Broadcast()
			q.mu.Unlock()
			return
		}
	}
}

type timer struct {
	key   key
	at    time.Time
	index int
}

type timerHeap []*timer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index = i; h[j].index = j }
func (h *timerHeap) Push(x any)        { t := x.(*timer); t.index = len(*h); *h = append(*h, t) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}
