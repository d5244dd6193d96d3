package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// What must hold of every single write, at the moment when it is done. The engine
// acts on what it knew when it planned, so that only what has been so for a while
// counts: a pass is over within much less than late, and the last look before a
// deletion is within lately.
const (
	late   = time.Second
	lately = 300 * time.Millisecond
)

// judged finds fault with a write. Called with mu.
func (h *history) judged(at standing, app string, act *belay.Action) {
	h.noteWell()
	ds := h.recent(app, late)
	fault := func(what string) {
		verb := belay.VerbDelete
		if act != nil {
			verb = act.Verb
		}
		h.t.Errorf("%s: %s of %s in %s: %s", time.Since(bubbleStart), verb, at.Name, at.cluster, what)
	}
	if act != nil && strings.Contains(string(act.Desired.Raw), "mixed") {
		fault("it is of two commits: " + string(act.Desired.Raw))
	}
	hold, recent := h.holdOf(app)
	here := every(ds, func(d *declaration) bool { return d.cluster == at.cluster })
	if every(ds, func(d *declaration) bool { return d.suspended }) {
		fault("the application is suspended")
	}
	if here && !recent && !h.asked[app] {
		clears := act == nil && at.Kind == "Job"
		if every(ds, func(d *declaration) bool { return d.manual && (!clears || d.state() != h.granted[app]) }) {
			fault("nobody asked for it")
		}
	}
	if hold != nil && hold.Cluster == at.cluster {
		h.judgeHeld(at, hold, act, fault)
	}
	switch {
	case at.Kind == "Job" && act != nil:
		if l, err := asApplied(*act); err == nil {
			h.judgeHook(at, app, l, fault)
		}
	case recent || at.Kind != "ConfigMap":
	case act == nil:
		sharp := h.recent(app, lately)
		if every(sharp, func(d *declaration) bool { return d.cluster == at.cluster && !d.broken && d.has(at.Name) }) {
			fault("Git declares it")
		}
		if here && every(sharp, func(d *declaration) bool { return d.keeps }) {
			fault("nothing is to be pruned")
		}
	case act.Verb != belay.VerbHeal && !h.byHand[at]:
		if why := h.awaitsHook(at, app, ds); why != "" {
			fault(why)
		}
		for _, on := range historyNames() {
			if every(ds, func(d *declaration) bool { return d.dependsOn(on) }) && time.Since(h.wellAt[on]) > late {
				fault("it waits for " + on)
			}
		}
	}
}

// judgeHeld finds fault with a write that is not of what the application is held at.
func (h *history) judgeHeld(at standing, hold *belay.Hold, act *belay.Action, fault func(string)) {
	if at.Kind != "ConfigMap" {
		return
	}
	then := h.at(hold.Revision).want[hold.Application]
	switch {
	case act == nil && then.has(at.Name):
		fault("it is held at what has it")
	case act != nil && !then.has(at.Name):
		fault("it is held at what has it not")
	case act != nil && then.objects[at.Name] != valueOf(act.Desired.Raw):
		fault("it is held at " + then.objects[at.Name] + ", not at " + valueOf(act.Desired.Raw))
	}
}

// at is what Git declared at a commit.
func (h *history) at(commit string) *snapshot {
	for i := range h.past {
		if h.past[i].commit == commit {
			return &h.past[i]
		}
	}
	h.t.Fatalf("no commit %s", commit)
	return nil
}

// holdOf is the hold of an application that is in force for a while already; recent
// is true if one is, or was just now.
func (h *history) holdOf(app string) (hold *belay.Hold, recent bool) {
	all := h.all()
	for i := range all {
		if ev := &all[i]; ev.Application == app && ev.Type == belay.EventRelease {
			hold, recent = nil, time.Since(ev.Time) < late
		} else if ev.Application == app && ev.Type == belay.EventHold {
			if hold, recent = nil, true; time.Since(ev.Time) > late {
				hold = ev.Detail.Hold
			}
		}
	}
	return hold, recent
}

// recent is what Git declared of an application, newest first, as far as anybody may
// still act on it; nil for nothing. Called with mu.
func (h *history) recent(app string, span time.Duration) []*declaration {
	var out []*declaration
	for _, then := range slices.Backward(h.past) {
		if d, ok := then.want[app]; ok {
			out = append(out, &d)
		} else {
			out = append(out, nil)
		}
		if time.Since(then.from) > span {
			break
		}
	}
	return out
}

// every says whether it was declared all along, and that way.
func every(ds []*declaration, is func(*declaration) bool) bool {
	for _, d := range ds {
		if d == nil || !is(d) {
			return false
		}
	}
	return len(ds) > 0
}

// noteWell notes which applications are what Git says, and well, before that
// changes. What somebody has just deleted by hand does not count. Called with mu.
func (h *history) noteWell() {
	if len(h.past) == 0 {
		return
	}
	for name, d := range h.past[len(h.past)-1].want {
		if h.stands(&d) {
			h.wellAt[name] = time.Now()
		}
	}
}

// stands says whether a cluster has what is declared, and all of it is well. Called
// with mu.
func (h *history) stands(d *declaration) bool {
	for o, v := range d.objects {
		at := standing{d.cluster, configMapID(o)}
		l, ok := h.objects[at]
		if !h.byHand[at] && (!ok || l.Health != belay.Healthy || l.Deleting || valueOf(h.raw[at]) != v) {
			return false
		}
	}
	return !d.broken
}

func configMapID(name string) belay.ObjectID {
	return belay.ObjectID{Kind: "ConfigMap", Namespace: "x", Name: name}
}
