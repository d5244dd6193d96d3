package reconcile

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

var histories = flag.Int("histories", 60, "random histories that the engine is driven through")

// history is a random one: what Git declares, what becomes of it on the way, and
// who meddles. Its time is that of a bubble: an hour takes no time.
type history struct {
	*fakeWorld
	r    *rand.Rand
	want map[string]*declaration
	log  []string

	dice  sync.Mutex // of what happens in the engine's own goroutines
	inner *rand.Rand
	armed string // the checkpoint where the process dies
	died  *ledger
	since int // how many events there were when it died last
}

// declaration is what Git declares of an application.
type declaration struct {
	cluster   string
	objects   map[string]string
	suspended bool
	broken    bool
}

const historyApps, historyObjects = 4, 5

// unlocked are checkpoints where the engine has nothing locked: in a bubble, time
// stands still while anybody waits for a lock.
var unlocked = []string{"rendered", "begin", "write", "written", "group", "delete", "deleted"}

var historyClusters = []string{"local", "other"}

func newHistory(t *testing.T, seed uint64) *history {
	h := &history{fakeWorld: newFakeWorld(t), r: rand.New(rand.NewPCG(seed, 1)), inner: rand.New(rand.NewPCG(seed, 2)), want: map[string]*declaration{}}
	at := h.checkpoint
	h.last.Store(&at)
	return h
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
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

func (h *history) files(name string) map[string]string {
	out := map[string]string{}
	for i := range historyObjects {
		out[fmt.Sprintf("apps/%s/%s-%d", name, name, i)] = ""
	}
	out["apps/"+name+"/"+name+"-anchor"], out["apps/"+name+"/broken"], out["belay/"+name+".yaml"] = "", "", ""
	w := h.want[name]
	if w == nil {
		return out
	}
	def := strings.Replace(fakeApp(name, "  sync: {pruneLimit: {percent: 100}}\n"), "{namespace: x}", "{namespace: x, cluster: "+w.cluster+"}", 1)
	if w.suspended {
		def += "  suspend: {reason: a test}\n"
	}
	out["belay/"+name+".yaml"] = def
	for o, v := range w.objects {
		out["apps/"+name+"/"+o] = v
	}
	if w.broken {
		out["apps/"+name+"/broken"] = "broken"
	}
	return out
}

func (h *history) name() string { return fmt.Sprintf("app%d", h.r.IntN(historyApps)) }

// mutate commits a change of one or two applications.
func (h *history) mutate() {
	files := map[string]string{}
	for range 1 + h.r.IntN(2) {
		name := h.name()
		w := h.want[name]
		switch kind := h.r.IntN(12); {
		case w == nil:
			h.want[name] = &declaration{cluster: historyClusters[h.r.IntN(2)], objects: map[string]string{name + "-anchor": "a", name + "-0": "0"}}
			h.note("add %s", name)
		case kind < 2:
			delete(h.want, name)
			h.note("remove %s", name)
		case kind == 2:
			w.broken = !w.broken
			h.note("%s broken: %v", name, w.broken)
		case kind == 3:
			w.suspended = !w.suspended
			h.note("%s suspended: %v", name, w.suspended)
		case kind == 4:
			w.cluster = historyClusters[h.r.IntN(2)]
			h.note("%s to %s", name, w.cluster)
		default:
			o := fmt.Sprintf("%s-%d", name, h.r.IntN(historyObjects))
			if _, ok := w.objects[o]; ok && h.r.IntN(2) == 0 {
				delete(w.objects, o)
				h.note("drop %s", o)
			} else {
				w.objects[o] = fmt.Sprint(h.r.IntN(3)) // what was before may come back
				h.note("set %s to %s", o, w.objects[o])
			}
		}
		maps.Copy(files, h.files(name))
	}
	h.commit(ada, "change", files)
}

// object is the name of some object.
func (h *history) object() string { return fmt.Sprintf("%s-%d", h.name(), h.r.IntN(historyObjects)) }

func (h *history) step() {
	switch k := h.r.IntN(20); {
	case k < 10:
		h.mutate()
	case k < 13:
		o := h.object()
		h.note("lose %s", o)
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
	case h.r.IntN(3) == 0:
		h.wait()
	}
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
	points := []string{"loaded", "begin", "ended", "rendered", "arrived", "written", "group", "write", "delete", "deleted"}
	h.dice.Lock()
	h.armed = points[h.r.IntN(len(points))]
	h.note("crash at %s", h.armed)
	h.dice.Unlock()
	h.mutate()
	time.Sleep(time.Duration(h.r.IntN(200)) * time.Millisecond)
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
	h.start()
}

// differences are what the clusters have and must not have, or have not.
func (h *history) differences() []string {
	var out []string
	want := map[standing]string{}
	for name, w := range h.want {
		for o, v := range w.objects {
			want[standing{w.cluster, belay.ObjectID{Kind: "ConfigMap", Namespace: "x", Name: o}}] = v
		}
		st, err := h.e.Application(name)
		if err != nil || st.Sync != belay.Synced {
			out = append(out, fmt.Sprintf("%s is %s %s %v", name, st.Sync, st.Message, err))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for at := range h.objects {
		if v, ok := want[at]; !ok {
			out = append(out, fmt.Sprintf("left over in %s: %s", at.cluster, at.Name))
		} else if got := valueOf(h.raw[at]); got != v {
			out = append(out, fmt.Sprintf("%s in %s is %s, want %s", at.Name, at.cluster, got, v))
		}
		delete(want, at)
	}
	for at := range want {
		out = append(out, fmt.Sprintf("missing in %s: %s", at.cluster, at.Name))
	}
	return out
}

func valueOf(raw json.RawMessage) string {
	var m struct{ Data map[string]string }
	if json.Unmarshal(raw, &m) != nil {
		return "no object"
	}
	return m.Data["value"]
}

// rest takes every obstacle away and waits until the clusters are what Git says.
// From then on nothing happens, and the record says what they have.
func (h *history) rest() {
	h.t.Helper()
	h.room()
	h.mu.Lock()
	clear(h.refuse)
	h.mu.Unlock()
	files := map[string]string{}
	for name, w := range h.want {
		if w.broken || w.suspended {
			w.broken, w.suspended = false, false
			maps.Copy(files, h.files(name))
		}
	}
	newest := h.commit(bob, "mend", files)
	h.note("rest")
	var diffs []string
	for range 3600 {
		synctest.Wait()
		if diffs = h.differences(); len(diffs) == 0 && h.e.Settled() && h.e.known(h.e.configKey()).Commit == newest {
			break
		}
		time.Sleep(time.Second)
	}
	if len(diffs) > 0 {
		h.t.Fatalf("after an hour: %s", strings.Join(diffs, "; "))
	}
	time.Sleep(10 * time.Minute) // what could not be recorded is tried again
	writes, events := h.counts()
	time.Sleep(30 * time.Minute)
	synctest.Wait()
	if w, e := h.counts(); w != writes || e != events {
		h.t.Errorf("at rest there are %d writes and %d events: %+v", w-writes, e-events, h.all()[events:])
	}
	h.l.mu.Lock() // by now all is safe
	h.l.safe, h.l.pending = append(h.l.safe, h.l.pending...), nil
	h.l.mu.Unlock()
	held := checkManifests(h.t, h.all())
	lost, cut := map[owner]int{}, h.interrupted()
	for of := range cut {
		delete(held, of)
	}
	for of, objects := range held {
		w := h.want[of.application]
		for id, raw := range objects {
			if h.byHand[standing{of.cluster, id}] { // there was nothing to delete when Git let go of it
				lost[of]++
				continue
			}
			if w == nil || w.cluster != of.cluster || w.objects[id.Name] != valueOf(raw) {
				h.t.Errorf("the record has %s of %v: %s: %s", id.Name, of, raw, h.told(of.application))
			}
		}
	}
	for name, w := range h.want {
		if of := (owner{w.cluster, name}); !cut[of] && len(held[of])-lost[of] != len(w.objects) {
			h.t.Errorf("the record has %d objects of %s, which has %d: %s", len(held[of]), name, len(w.objects), h.told(name))
		}
	}
	for _, d := range h.l.Running() {
		h.t.Errorf("at rest a deployment is under way: %+v", d)
	}
}

// interrupted are those of whom the record has less than the cluster: a deployment
// of them was superseded, and the process died before anything took its place.
func (h *history) interrupted() map[owner]bool {
	out := map[owner]bool{}
	for _, ev := range h.all()[:h.since] {
		if ev.Deployment != "" || ev.Type == belay.EventSyncStarted {
			out[owner{ev.Cluster, ev.Application}] = ev.Result == belay.Superseded
		}
	}
	for _, ev := range h.all()[h.since:] {
		if ev.Deployment != "" || ev.Type == belay.EventSyncStarted {
			delete(out, owner{ev.Cluster, ev.Application})
		}
	}
	maps.DeleteFunc(out, func(_ owner, superseded bool) bool { return !superseded })
	return out
}

// told is what the record has of the deployments of an application.
func (h *history) told(name string) string {
	var out []string
	for i, ev := range h.all() {
		if ev.Application != name || ev.Deployment == "" && ev.Type != belay.EventSyncStarted {
			continue
		}
		line := fmt.Sprintf("%d %s in %s of %s (%s)", i+1, ev.Type, ev.Cluster, ev.Deployment, ev.Message)
		for _, m := range ev.Detail.Applied() {
			line += fmt.Sprintf(" %s:%t/%t", m.ID.Name, m.Raw != nil, m.SHA256 != "")
		}
		out = append(out, line)
	}
	return "\n" + strings.Join(out, "\n")
}

func (h *history) all() []belay.Event {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	return slices.Concat(h.l.safe, h.l.pending)
}

func (h *history) counts() (writes, events int) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	return len(h.l.wrote), len(h.l.safe) + len(h.l.pending)
}

// meddle deletes one object by hand, at rest: that is told once, by its name, and
// healed without a deployment.
func (h *history) meddle() {
	h.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(h.want)) {
		o := name + "-anchor"
		_, before := h.counts()
		h.note("lose %s at rest", o)
		h.lose(o)
		for range 600 {
			synctest.Wait()
			if len(h.differences()) == 0 && h.e.Settled() {
				break
			}
			time.Sleep(time.Second)
		}
		var types []string
		for _, ev := range h.all()[before:] {
			types = append(types, string(ev.Type)+" "+ev.Object)
		}
		id := belay.ObjectID{Kind: "ConfigMap", Namespace: "x", Name: o}.String()
		if want := []string{"drift " + id, "healed " + id}; !slices.Equal(types, want) {
			h.t.Errorf("the loss of %s is on the record as %q, want %q: %s", o, types, want, h.told(name))
		}
		return
	}
}

// Whatever is committed, deleted by hand, refused and killed, in any order and at
// any pace: the clusters come to be what Git says and stay so, the record says what
// they have, and nothing is told as done by hand that was not.
func TestAnyHistory(t *testing.T) {
	for i := range *histories {
		seed := uint64(i)
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHistory(t, seed)
				defer func() {
					if t.Failed() {
						t.Logf("steps: %s", strings.Join(h.log, "; "))
					}
				}()
				h.commit(ada, "clusters", map[string]string{
					"belay/clusters.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: local}\nspec: {}\n---\n" +
						"apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: other}\nspec: {context: other}\n"})
				h.start()
				for range 4 {
					for range 12 {
						h.step()
					}
					h.rest()
					h.meddle()
				}
			})
		})
	}
}
