package reconcile

import (
	"context"
	"maps"
	"slices"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

// eve asks for things.
const eve = "eve"

// step is one thing that happens, and some time.
func (h *history) step() {
	h.slow.lossy.Store(true)
	switch k := h.r.IntN(26); {
	case k < 10:
		h.mutate()
	case k < 13:
		o := h.object()
		h.note("lose %s", o)
		h.mu.Lock()
		h.noteWell()
		h.mu.Unlock()
		h.lose(o)
	case k < 15:
		o := h.object()
		h.mu.Lock()
		h.refuse[o] = !h.refuse[o]
		h.note("refuse %s: %v", o, h.refuse[o])
		h.mu.Unlock()
	case k < 16:
		h.l.mu.Lock()
		h.l.err = errFull
		h.l.mu.Unlock()
		h.note("the disk is full")
	case k < 17:
		h.room()
	case k < 18:
		h.crash()
	case k < 21:
		h.ask(h.name())
	case k < 23:
		h.takeHold(h.name())
	case k < 24:
		name := h.name()
		err := h.e.Release(context.Background(), name, belay.ReleaseRequest{}, eve)
		h.note("release %s: %v", name, err)
	case k < 25:
		cluster := historyClusters[h.r.IntN(2)]
		h.mu.Lock()
		on := h.slow.offline[cluster]
		h.mu.Unlock()
		h.note("%s answers: %v", cluster, on)
		h.connect(cluster, on)
	case h.r.IntN(3) == 0:
		h.wait()
	}
	h.time()
	h.forgetAsked()
}

// time lets some go by.
func (h *history) time() {
	switch h.r.IntN(4) {
	case 0: // at once
	case 1:
		time.Sleep(time.Duration(h.r.IntN(40)) * time.Millisecond)
	case 2:
		time.Sleep(time.Duration(h.r.IntN(3000)) * time.Millisecond)
	case 3:
		synctest.Wait()
	}
}

// ask has a person ask for a sync, and says whether that was heard.
func (h *history) ask(name string) bool {
	h.mu.Lock()
	before := h.asked[name]
	h.asked[name] = true // from the moment on when it may be heard
	h.mu.Unlock()
	_, _, err := h.e.Sync(context.Background(), belay.SyncRequest{Applications: []string{name}, Reason: "it is time"}, eve)
	h.note("ask for %s: %v", name, err)
	if err != nil {
		h.mu.Lock()
		h.asked[name] = before
		h.mu.Unlock()
	}
	return err == nil
}

// forgetAsked forgets what was asked for and is done.
func (h *history) forgetAsked() {
	if synctest.Wait(); !h.e.Settled() {
		return
	}
	for _, name := range slices.Collect(maps.Keys(h.want)) {
		if st, err := h.e.Application(name); err == nil && st.Sync == belay.Synced && h.e.known(h.e.configKey()).Commit == h.newest() {
			h.mu.Lock()
			if w := h.want[name]; h.asked[name] && h.hookLeft(name, w) {
				h.granted[name] = w.state()
			}
			delete(h.asked, name)
			h.mu.Unlock()
		}
	}
}

func (h *history) newest() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.commits[len(h.commits)-1].id
}

// takeHold has a person hold an application at what it was at an earlier commit.
func (h *history) takeHold(name string) *belay.Hold {
	then := h.past[h.r.IntN(len(h.past))]
	last := []string{"2m", "1h", "5h"}[h.r.IntN(3)]
	done, err := h.e.Rollback(context.Background(), name, belay.RollbackRequest{To: then.commit, Now: true, HoldOnly: true, Reason: "it was good", For: last}, eve)
	h.note("hold %s at %s for %s: %v %v", name, then.commit[30:], last, done.Hold != nil, err)
	if err != nil {
		return nil
	}
	return done.Hold
}

// wait lets an hour go by, in whatever state things are: who cannot go on must not
// go round in circles.
func (h *history) wait() {
	h.t.Helper()
	h.note("an hour")
	time.Sleep(10 * time.Minute)
	before := h.e.Stats().Passes.Load()
	time.Sleep(time.Hour)
	if n := h.e.Stats().Passes.Load() - before; n > historyApps*60 {
		h.t.Errorf("%d passes in an hour in which nothing happens", n)
	}
}

func (h *history) room() {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	h.l.err = nil
	h.note("there is room")
}

// crash has the engine die, at a checkpoint if it comes by one, and live again.
func (h *history) crash() {
	points := []string{"loaded", "begin", "ended", "rendered", "arrived", "written", "group", "write", "delete", "deleted", "held", "released", "hookStarted", "hookSucceeded", "hooksOver"}
	h.dice.Lock()
	h.armed = points[h.r.IntN(len(points))]
	h.note("crash at %s", h.armed)
	h.dice.Unlock()
	h.mutate()
	time.Sleep(time.Duration(h.r.IntN(200)) * time.Millisecond)
	h.die()
}

// die ends a life of the engine, unless that has happened, and begins another.
func (h *history) die() {
	h.dice.Lock()
	h.armed = ""
	next := h.died
	h.died = nil
	if next == nil {
		next = h.l.crash(h.inner.IntN(2) == 0)
	}
	h.dice.Unlock()
	h.end()
	h.l, h.since = next, len(next.safe)
	h.mu.Lock()
	clear(h.asked) // nobody has heard of it
	clear(h.granted)
	h.mu.Unlock()
	h.start()
}
