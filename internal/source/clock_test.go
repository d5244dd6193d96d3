package source

import (
	"os"
	"sync"
	"testing"
	"time"

	"github.com/belaydev/belay/internal/gittest"
)

// fakeClock lets a test say when time passes.
type fakeClock struct {
	mu     sync.Mutex
	delays []time.Duration
	timers []chan time.Time
}

func (c *fakeClock) Now() time.Time { return time.Unix(0, 0) }

func (c *fakeClock) Timer(d time.Duration) (<-chan time.Time, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := make(chan time.Time, 1)
	c.delays = append(c.delays, d)
	c.timers = append(c.timers, ch)
	return ch, func() {}
}

func (c *fakeClock) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}

func (c *fakeClock) fire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timers[len(c.timers)-1] <- time.Unix(0, 0)
}

func TestIntervalAndBackoff(t *testing.T) {
	repo := gittest.NewRepo(t)
	repo.Commit("main", "first", map[string]string{"a": "1"})
	clock := &fakeClock{}
	h := newHub(t, t.TempDir(), Options{Clock: clock, Interval: 30 * time.Second, Jitter: 1e-9})
	h.SetFollowed(map[string][]string{repo.URL(): {"main"}})
	run(t, h)
	last := func() time.Duration {
		clock.mu.Lock()
		defer clock.mu.Unlock()
		return clock.delays[len(clock.delays)-1].Round(time.Second)
	}
	// SetFollowed looks once more than the loop.
	await(t, "first look", func() bool { return clock.count() >= 2 })
	if last() != 30*time.Second {
		t.Errorf("interval = %s", last())
	}
	if err := os.Rename(repo.Dir, repo.Dir+".away"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []time.Duration{60, 120, 240, 300, 300} {
		n := clock.count()
		clock.fire()
		await(t, "another look", func() bool { return clock.count() > n })
		if last() != want*time.Second {
			t.Errorf("backoff = %s, want %s", last(), want*time.Second)
		}
	}
	n := clock.count()
	h.Poke("")
	await(t, "look after a poke", func() bool { return clock.count() > n })
	if last() != 60*time.Second {
		t.Errorf("after a poke = %s, want the backoff begun anew", last())
	}
	if err := os.Rename(repo.Dir+".away", repo.Dir); err != nil {
		t.Fatal(err)
	}
	n = clock.count()
	clock.fire()
	await(t, "look when it is back", func() bool { return clock.count() > n })
	if last() != 30*time.Second {
		t.Errorf("when it is back = %s", last())
	}
}

func TestDelayHasJitter(t *testing.T) {
	for _, tc := range []struct {
		failures int
		random   float64
		want     time.Duration
	}{{0, 0, 27 * time.Second}, {0, 1, 33 * time.Second}, {0, 0.5, 30 * time.Second}, {100, 0.5, 5 * time.Minute}} {
		if got := delay(30*time.Second, tc.failures, 0.1, tc.random); got != tc.want {
			t.Errorf("delay(%d, %v) = %s, want %s", tc.failures, tc.random, got, tc.want)
		}
	}
	if got := delay(time.Hour, 3, 0, 0); got != time.Hour {
		t.Errorf("a long interval = %s", got)
	}
}
