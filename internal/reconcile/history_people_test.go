package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/belaydev/belay"
)

// meddle deletes one object by hand, at rest: that is told once, by its name, and
// healed without a deployment, at once or when somebody asks.
func (h *history) meddle() {
	h.t.Helper()
	names := slices.Sorted(maps.Keys(h.want))
	if len(names) == 0 {
		return
	}
	name := names[h.r.IntN(len(names))]
	w, o := h.want[name], name+"-anchor"
	_, before := h.counts()
	h.note("lose %s at rest", o)
	h.lose(o)
	id := configMapID(o)
	drift, healed := "drift "+id.String(), "healed "+id.String()
	if w.manual || w.noHeal {
		time.Sleep(time.Hour)
		if got := h.toldSince(before); !slices.Equal(got, []string{drift}) {
			h.t.Errorf("the loss of %s, which nobody asked to heal, is on the record as %q: %s", o, got, h.told(name))
		}
		h.ask(name)
	}
	for range 600 {
		synctest.Wait()
		if len(h.differences()) == 0 && h.e.Settled() {
			break
		}
		time.Sleep(time.Second)
	}
	if got, want := h.toldSince(before), []string{drift, healed}; !slices.Equal(got, want) {
		h.t.Errorf("the loss of %s is on the record as %q, want %q: %s", o, got, want, h.told(name))
	}
	h.forgetAsked()
}

// toldSince is what the record has of writes, and of what led to them.
func (h *history) toldSince(event int) []string {
	var out []string
	for _, ev := range h.all()[event:] {
		if ev.Type != belay.EventHealth && ev.Type != belay.EventApplication && (ev.Type != belay.EventSynced || ev.Deployment != "") {
			out = append(out, string(ev.Type)+" "+ev.Object)
		}
	}
	return out
}

// holdOne has somebody hold an application, at rest: it comes to be what it was and
// stays so, whatever is committed, and over the death of the engine.
func (h *history) holdOne() bool {
	h.t.Helper()
	names := slices.Sorted(maps.Keys(h.want))
	if len(names) == 0 {
		return false
	}
	name := names[h.r.IntN(len(names))]
	hold := h.takeHold(name)
	if hold == nil {
		return false
	}
	if h.r.IntN(3) == 0 {
		time.Sleep(time.Duration(h.r.IntN(100)) * time.Millisecond)
		h.note("crash while it is held")
		h.die()
	}
	then := h.at(hold.Revision).want[name]
	if time.Sleep(time.Minute); time.Until(hold.Until) < time.Second {
		return true
	}
	h.mustStand(name, hold, &then)
	for range 2 {
		w := h.want[name]
		before := w.definition(name) + fmt.Sprint(w.objects)
		if h.change(name, w); before != w.definition(name)+fmt.Sprint(w.objects) {
			h.commitNow(ada, "change what is held", h.files(name))
		}
		if h.r.IntN(3) == 0 {
			h.note("crash while it is held")
			h.die()
		}
		time.Sleep(20 * time.Second)
	}
	if _, ok := holdsOf(h.all())[name]; ok { // Git may have come to say the same
		h.mustStand(name, hold, &then)
	}
	return true
}

// mustStand compares the clusters with what an application is held at.
func (h *history) mustStand(name string, hold *belay.Hold, then *declaration) {
	h.t.Helper()
	synctest.Wait()
	if st, err := h.e.Application(name); err == nil && strings.Contains(st.Message, "the limit is") {
		return // it would let go of too much, and nobody confirmed that
	}
	for _, v := range then.hooks {
		if outcomeOf(v) != belay.Healthy {
			return // its hook failed already then
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var diffs []string
	for o, v := range then.objects {
		if got, ok := h.raw[standing{hold.Cluster, configMapID(o)}]; !ok || valueOf(got) != v {
			diffs = append(diffs, fmt.Sprintf("%s is %s, not %s", o, valueOf(got), v))
		}
	}
	for at := range h.objects {
		if at.Kind == "ConfigMap" && strings.HasPrefix(at.Name, name+"-") && at.cluster == hold.Cluster && !then.has(at.Name) && !h.untidy[name] {
			diffs = append(diffs, at.Name+" is left")
		}
	}
	if len(diffs) > 0 {
		h.t.Errorf("%s is held at %s, but %s: %s", name, hold.Revision, strings.Join(diffs, "; "), h.told(name))
	}
}
