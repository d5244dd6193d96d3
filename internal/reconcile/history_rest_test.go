package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

// differences are what the clusters have and must not have, or have not.
func (h *history) differences() []string {
	var out []string
	for name := range holdsOf(h.all()) {
		if h.want[name] == nil { // it goes when the hold ends
			out = append(out, name+" has left Git, and is held")
		}
	}
	want := map[standing]string{}
	for name, w := range h.want {
		for o, v := range w.objects {
			want[standing{w.cluster, configMapID(o)}] = v
		}
		st, err := h.e.Application(name)
		if err != nil || st.Sync != belay.Synced || st.Health != belay.Healthy {
			out = append(out, fmt.Sprintf("%s is %s %s %s %v", name, st.Sync, st.Health, st.Message, err))
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for at, l := range h.objects {
		if at.Kind == "Job" {
			if w := h.want[l.Application]; (w == nil || w.hooks[at.Name] == "") && !h.mayBeLeft(at) {
				out = append(out, fmt.Sprintf("left over in %s: %s", at.cluster, at.Name))
			}
			continue
		}
		if v, ok := want[at]; !ok {
			if !h.mayBeLeft(at) {
				out = append(out, fmt.Sprintf("left over in %s: %s", at.cluster, at.Name))
			}
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

// mayBeLeft says whether an object that Git does not declare may stay: that is so
// where its application does not prune, or did not when it left.
func (h *history) mayBeLeft(at standing) bool {
	app, _, _ := strings.Cut(at.Name, "-")
	w := h.want[app]
	return h.untidy[app] && (w == nil || w.keeps || w.cluster != at.cluster)
}

func valueOf(raw json.RawMessage) string {
	var m struct{ Data map[string]string }
	if json.Unmarshal(raw, &m) != nil {
		return "no object"
	}
	return m.Data["value"]
}

func historyNames() []string {
	var out []string
	for i := range historyApps {
		out = append(out, fmt.Sprintf("app%d", i))
	}
	return out
}

// mend takes every obstacle away.
func (h *history) mend() {
	h.room()
	h.slow.lossy.Store(false)
	h.mu.Lock()
	clear(h.refuse)
	h.mu.Unlock()
	for _, c := range historyClusters {
		h.connect(c, true)
	}
	files := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(h.want)) {
		w := h.want[name]
		w.broken, w.suspended = false, false
		for o, v := range w.hooks {
			if outcomeOf(v) != belay.Healthy {
				w.hooks[o] = "works"
			}
		}
		w.keeps = w.keeps && h.r.IntN(2) == 0
		w.depends = slices.DeleteFunc(w.depends, func(on string) bool { return h.want[on] == nil || on > name })
		maps.Copy(files, h.files(name))
	}
	for _, name := range historyNames() {
		if h.r.IntN(2) == 0 {
			_ = h.e.Release(context.Background(), name, belay.ReleaseRequest{}, eve) // or its time comes
		}
	}
	h.commitNow(bob, "mend", files)
	h.note("rest")
}

// rest takes every obstacle away and waits until the clusters are what Git says.
// From then on nothing happens, and the record says what they have.
func (h *history) rest() {
	h.t.Helper()
	h.mend()
	h.come()
	time.Sleep(10 * time.Minute) // what could not be recorded is tried again
	writes, events := h.counts()
	time.Sleep(30 * time.Minute)
	synctest.Wait()
	if w, e := h.counts(); w != writes || e != events {
		h.t.Errorf("at rest there are %d writes and %d events: %+v", w-writes, e-events, h.all()[events:])
	}
	h.forgetAsked()
	h.l.mu.Lock() // by now all is safe
	h.l.safe, h.l.pending = append(h.l.safe, h.l.pending...), nil
	h.l.mu.Unlock()
	h.checkRecord()
	h.checkLast()
	h.checkAskers()
	for _, d := range h.l.Running() {
		h.t.Errorf("at rest a deployment is under way: %+v", d)
	}
}

// mostRest is longer than any hold.
const mostRest = 8 * time.Hour

// come waits until the clusters are what Git says, with people who do what is
// theirs: ask, once, and confirm.
func (h *history) come() {
	h.t.Helper()
	asked := map[string]bool{}
	var diffs []string
	for begin := time.Now(); time.Since(begin) < mostRest; time.Sleep(time.Second + time.Since(begin)/100) {
		synctest.Wait()
		if !h.e.Settled() || h.e.known(h.e.configKey()).Commit != h.newest() {
			continue
		}
		if diffs = h.differences(); len(diffs) == 0 {
			return
		}
		for _, name := range slices.Sorted(maps.Keys(h.want)) {
			if w := h.want[name]; !asked[name] && (w.manual || w.noHeal) {
				asked[name] = h.ask(name)
			}
		}
		h.confirm()
	}
	h.t.Fatalf("after %s: %s%s", mostRest, strings.Join(diffs, "; "), h.tellAll())
}

var tokenAsked = regexp.MustCompile(`set spec.sync.confirm: "([^"]+)"`)

// confirm commits the tokens that held deletions ask for.
func (h *history) confirm() {
	for _, name := range slices.Sorted(maps.Keys(h.want)) {
		st, err := h.e.Application(name)
		if m := tokenAsked.FindStringSubmatch(st.Hint); err == nil && m != nil && h.want[name].confirm != m[1] {
			h.note("confirm %s of %s: %s", m[1], name, st.Message)
			h.want[name].confirm = m[1]
			h.commitNow(bob, "confirm", h.files(name))
		}
	}
}

// checkRecord compares what the record has with what Git says, and the clusters have.
func (h *history) checkRecord() {
	h.t.Helper()
	held := checkManifests(h.t, h.all())
	lost, cut := map[owner]int{}, h.interrupted()
	for of := range cut {
		delete(held, of)
	}
	for of, objects := range held {
		w := h.want[of.application]
		for id, raw := range objects {
			at := standing{of.cluster, id}
			if id.Kind == "Job" {
				delete(objects, id)
				continue
			}
			if h.byHand[at] { // there was nothing to delete when Git let go of it
				lost[of]++
				continue
			}
			if h.untidy[of.application] && (w == nil || w.cluster != of.cluster || !w.has(id.Name)) {
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
}

// checkLast makes sure that the last deployment of each application reached something:
// what Git says now, or, in a cluster that it left, that nothing is there any more.
func (h *history) checkLast() {
	h.t.Helper()
	last, cut := map[owner]belay.Event{}, h.interrupted()
	for _, ev := range h.all() {
		if ev.Type == belay.EventSyncStarted || ev.Deployment != "" && ev.Result != "" && ev.Type != belay.EventHook {
			last[owner{ev.Cluster, ev.Application}] = ev
		}
	}
	for of, ev := range last {
		w := h.want[of.application]
		stands := w != nil && w.cluster == of.cluster
		if cut[of] || !stands && h.untidy[of.application] {
			continue
		}
		if gone := ev.Detail != nil && ev.Detail.Cleared; gone == stands || stands && ev.Result != belay.Succeeded {
			h.t.Errorf("the last of %v is %s: %s: %s", of, ev.Type, ev.Message, h.told(of.application))
		}
	}
}

// checkAskers makes sure that what was written because somebody asked names them.
func (h *history) checkAskers() {
	h.t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ev := range h.all() {
		if ev.Type != belay.EventSyncStarted || ev.Revision == "" || len(ev.Detail.Objects) == 0 {
			continue
		}
		asked := true
		for i := range h.past {
			s := &h.past[i]
			if until := i+1 == len(h.past) || h.past[i+1].from.After(ev.Time.Add(-late)); until && !s.from.After(ev.Time) {
				d, ok := s.want[ev.Application]
				asked = asked && ok && d.manual && d.cluster == ev.Cluster
			}
		}
		if asked && (ev.Actor != eve || ev.Reason == "") {
			h.t.Errorf("%s: %q of %s, for %q: nobody else than %s asked for it: %s", ev.Time.Sub(bubbleStart), ev.Actor, ev.Application, ev.Reason, eve, h.told(ev.Application))
		}
	}
}

func (d *declaration) has(object string) bool {
	_, ok := d.objects[object]
	return ok
}

func (d *declaration) dependsOn(name string) bool { return slices.Contains(d.depends, name) }

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
		if ev.Application != name {
			continue
		}
		line := fmt.Sprintf("%s %d %s in %s of %s (%s) %s", ev.Time.Sub(bubbleStart), i+1, ev.Type, ev.Cluster, ev.Deployment, ev.Message, ev.Object)
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

// tellAll is what the record has of those that are not what Git says.
func (h *history) tellAll() string {
	out := ""
	for _, name := range slices.Sorted(maps.Keys(h.want)) {
		if st, err := h.e.Application(name); err != nil || st.Sync != belay.Synced {
			out += h.told(name)
		}
	}
	return out
}
