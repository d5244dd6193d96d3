package reconcile

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestQueueRunsAKeyOnceAtATimeAndNeverForgets(t *testing.T) {
	q := newQueue()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { q.run(ctx) })
	const keys, rounds, workers = 20, 500, 8
	var active, wanted, seen [keys]atomic.Int64
	var overlap atomic.Bool
	for range workers {
		done.Go(func() {
			for {
				k, ok := q.next()
				if !ok {
					return
				}
				var i int
				fmt.Sscan(k.name, &i)
				if active[i].Add(1) != 1 {
					overlap.Store(true)
				}
				seen[i].Store(wanted[i].Load()) // what a pass sees is at least what it was woken for
				active[i].Add(-1)
				q.done(k)
			}
		})
	}
	for r := range rounds {
		for i := range keys {
			wanted[i].Add(1)
			k := key{keyApp, fmt.Sprint(i)}
			if r%3 == 0 {
				q.addAfter(k, time.Millisecond)
			} else {
				q.add(k)
			}
		}
	}
	deadline := time.After(3 * time.Minute)
	for i := range keys {
		for seen[i].Load() != rounds {
			select {
			case <-deadline:
				t.Fatalf("key %d saw %d of %d", i, seen[i].Load(), rounds)
			case <-time.After(time.Millisecond):
			}
		}
	}
	cancel()
	done.Wait()
	if overlap.Load() {
		t.Error("a key ran twice at once")
	}
}

func TestQueueEarlierTimerWins(t *testing.T) {
	q := newQueue()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go q.run(ctx)
	k := key{keyApp, "a"}
	q.addAfter(k, time.Hour)
	q.addAfter(k, time.Millisecond)
	q.addAfter(k, time.Hour)
	got := make(chan key)
	go func() { k, _ := q.next(); got <- k }()
	select {
	case <-got:
	case <-time.After(3 * time.Minute):
		t.Fatal("the later timer won")
	}
	q.done(k)
	if q.mu.Lock(); len(q.timers) != 0 || len(q.due) != 0 {
		t.Errorf("%d timers left", len(q.timers))
	}
	q.mu.Unlock()
}

func TestQueueEndsItsWorkers(t *testing.T) {
	q := newQueue()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan bool)
	go q.run(ctx)
	go func() { _, ok := q.next(); ended <- ok }()
	cancel()
	if ok := <-ended; ok {
		t.Error("a closed queue handed out work")
	}
}

func TestBackoffGrowsToItsBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 1000).Draw(t, "n")
		d, next := backoff(n), backoff(n+1)
		if d < backoffFirst || d > backoffMost || next < d {
			t.Fatalf("backoff(%d) = %v, then %v", n, d, next)
		}
	})
	if !(&attempt{}).healAt().IsZero() {
		t.Error("the first heal waits")
	}
}

// A crowd holds up neither what tells of commits nor who came after it, and nobody
// in it waits for ever.
func TestACrowdHoldsNobodyUp(t *testing.T) {
	q := newQueue()
	const crowd = 1000
	for i := range crowd {
		q.add(key{keyApp, fmt.Sprint(i)})
	}
	q.add(key{keySource, "repo"})
	q.add(key{keyApp, "late"})
	q.add(key{keyConfig, ""})
	taken := map[key]int{}
	for n := range crowd + 3 {
		k, _ := q.next()
		taken[k] = n
		q.done(k)
		if n < crowd/2 {
			again := key{keyApp, "restless"} // comes last again and again
			q.add(again)
			delete(taken, again)
		}
	}
	if taken[key{keySource, "repo"}] != 0 || taken[key{keyConfig, ""}] != 1 {
		t.Errorf("commits wait: %d, %d", taken[key{keySource, "repo"}], taken[key{keyConfig, ""}])
	}
	for i := range crowd / 4 {
		if n, ok := taken[key{keyApp, fmt.Sprint(i)}]; !ok || n > 2*i+3 {
			t.Fatalf("application %d of the crowd was taken as number %d", i, n)
		}
	}
	q = newQueue()
	for i := range crowd {
		q.add(key{keyApp, fmt.Sprint(i)})
	}
	q.add(key{keyApp, "late"})
	for n := range 2 {
		if k, _ := q.next(); k.name == "late" {
			return
		} else if n == 1 {
			t.Errorf("who came last waits behind %v", k)
		}
	}
}
