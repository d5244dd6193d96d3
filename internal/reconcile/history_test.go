package reconcile

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

var (
	histories = flag.Int("histories", 60, "random histories that the engine is driven through")
	firstSeed = flag.Uint64("history", 0, "the first of them")
)

// history is a random one: what Git declares, what becomes of it on the way, and
// who meddles. Its time is that of a bubble: an hour takes no time.
type history struct {
	*fakeWorld
	r    *rand.Rand
	want map[string]*declaration
	past []snapshot // of want, one a commit; guarded by mu
	log  []string
	// untidy are applications of which something may be left over: they were told once
	// not to prune.
	untidy map[string]bool

	dice  sync.Mutex // of what happens in the engine's own goroutines
	inner *rand.Rand
	armed string // the checkpoint where the process dies
	died  *ledger
	since int // how many events there were when it died last

	// These belong to the judge, and are guarded by mu.
	asked  map[string]bool      // applications that a person asked to sync, and that were not in sync since
	wellAt map[string]time.Time // when each was last what Git says, and well
	ran    map[standing]ran
	// granted is what the applications were made of that came to be in sync because a
	// person asked, where objects of hooks were left that go with that.
	granted map[string]string
}

const historyApps, historyObjects = 4, 5

// unlocked are checkpoints where the engine has nothing locked: in a bubble, time
// stands still while anybody waits for a lock.
var unlocked = []string{"rendered", "begin", "write", "written", "group", "delete", "deleted"}

var historyClusters = []string{"local", "other"}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{fakeWorld: newFakeWorld(t), r: rand.New(rand.NewPCG(seed, 1)), inner: rand.New(rand.NewPCG(seed, 2)), want: map[string]*declaration{},
		untidy: map[string]bool{}, asked: map[string]bool{}, wellAt: map[string]time.Time{}, ran: map[standing]ran{}, granted: map[string]string{}}
	at := h.checkpoint
	h.last.Store(&at)
	h.slow = &slowness{pause: h.pause, chance: h.chance, offline: map[string]bool{}}
	h.judge, h.ended = h.judged, h.hookEnded
	h.runs = &fakeRuns{all: map[owner]belay.HookRecord{}}
	return h
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf("%s %s", time.Since(bubbleStart).Truncate(time.Millisecond), fmt.Sprintf(format, args...)))
}

// bubbleStart is when every bubble begins.
var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (h *history) pause(most time.Duration) time.Duration {
	h.dice.Lock()
	defer h.dice.Unlock()
	if h.inner.IntN(2) == 0 {
		return 0
	}
	return time.Duration(h.inner.Int64N(int64(most)))
}

func (h *history) chance(of int) bool {
	h.dice.Lock()
	defer h.dice.Unlock()
	return h.inner.IntN(of) == 0
}

// checkpoint is where the engine dies, or falls behind for a while.
func (h *history) checkpoint(name string) {
	h.dice.Lock()
	pause := time.Duration(0)
	if h.inner.IntN(3) == 0 && slices.Contains(unlocked, name) {
		pause = time.Duration(h.inner.IntN(30)) * time.Millisecond
	}
	if h.armed == name && h.died == nil {
		h.died = h.l.crash(h.inner.IntN(2) == 0)
	}
	h.dice.Unlock()
	time.Sleep(pause)
}

// Whatever is committed, deleted by hand, asked for, held, refused and killed, in
// any order and at any pace: the clusters come to be what Git says and stay so, the
// record says what they have, nothing is told as done by hand that was not, and
// nothing is ever written that must not be.
func TestAnyHistory(t *testing.T) {
	for i := range *histories {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			// Whoever goes round in circles without a pause keeps the bubble's time from going on.
			defer time.AfterFunc(5*time.Minute, func() { panic(fmt.Sprintf("history %d does not come to an end", seed)) }).Stop()
			synctest.Test(t, func(t *testing.T) {
				h := newHistory(t, seed)
				defer func() {
					if t.Failed() {
						t.Logf("steps:\n%s", strings.Join(h.log, "\n"))
					}
				}()
				h.commitNow(ada, "clusters", map[string]string{
					"belay/clusters.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: local}\nspec: {}\n---\n" +
						"apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: other}\nspec: {context: other}\n"})
				h.start()
				for range 4 {
					for range 12 {
						h.step()
					}
					h.rest()
					h.meddle()
					if h.holdOne() {
						h.rest()
					}
				}
			})
		})
	}
}
