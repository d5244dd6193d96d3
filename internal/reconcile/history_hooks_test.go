package reconcile

import (
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// changeHook gives an application a hook, another one, or takes it away.
func (h *history) changeHook(name string, w *declaration) {
	hook := name + "-" + []string{"presync", "postsync"}[h.r.IntN(2)]
	if w.hooks == nil {
		w.hooks = map[string]string{}
	}
	if _, ok := w.hooks[hook]; ok && h.r.IntN(2) == 0 {
		delete(w.hooks, hook)
	} else {
		w.hooks[hook] = []string{"works", "works too", "fails", "endless"}[h.r.IntN(4)]
	}
	h.note("hooks of %s: %v", name, w.hooks)
}

// hookEnded notes that a hook has run. Called with mu.
func (h *history) hookEnded(at standing, l belay.Live) {
	if l.Hook != nil && l.Health == belay.Healthy {
		h.ran[at] = ran{l.Hook.Run, time.Now()}
	}
}

// hookLeft says whether an object of a hook is left that Git does not declare. Called
// with mu.
func (h *history) hookLeft(app string, w *declaration) bool {
	for at, l := range h.objects {
		if at.Kind == "Job" && at.cluster == w.cluster && l.Application == app && w.hooks[at.Name] == "" {
			return true
		}
	}
	return false
}

// ran is when a hook has run last, and for which run.
type ran struct {
	run string
	at  time.Time
}

// judgeHook finds fault with a hook that is started. Called with mu.
func (h *history) judgeHook(at standing, app string, l belay.Live, fault func(string)) {
	if was := h.ran[at]; was.run == l.Hook.Run && h.same(app, was.at) {
		fault("it has run for this state")
	}
	_, recent := h.holdOf(app)
	ds := h.recent(app, late)
	renders := every(ds, func(d *declaration) bool { return !d.broken }) // or it is what did last
	// A commit that came just now may not have been seen yet.
	follows := time.Since(h.wellAt[app]) <= late || slices.ContainsFunc(ds, func(d *declaration) bool { return d != nil && h.stands(d) })
	if l.Hook.Phase == belay.PostSync && renders && !recent && !follows {
		fault("what it is to follow is not there, or not well")
	}
}

// same says whether an application was declared all the same since some time
// before, and was not held. Called with mu.
func (h *history) same(app string, since time.Time) bool {
	for _, ev := range h.all() {
		if ev.Application == app && (ev.Type == belay.EventHold || ev.Type == belay.EventRelease) && ev.Time.After(since.Add(-time.Minute)) {
			return false
		}
	}
	ds := h.recent(app, time.Since(since)+time.Minute)
	return every(ds, func(d *declaration) bool { return d.cluster == ds[0].cluster && d.state() == ds[0].state() })
}

// awaitsHook says that a write must wait for the PreSync hook of its application;
// "" if it need not. Called with mu.
func (h *history) awaitsHook(at standing, app string, ds []*declaration) string {
	hook := app + "-presync"
	if !every(ds, func(d *declaration) bool {
		return d.hooks[hook] != "" && !d.broken && d.cluster == at.cluster && d.state() == ds[0].state()
	}) {
		return ""
	}
	l, ok := h.objects[standing{at.cluster, jobID(hook)}]
	switch {
	case !ok:
		return hook + " was not started"
	case l.Health != belay.Healthy || l.Deleting:
		return hook + " is " + strings.ToLower(string(l.Health))
	}
	return ""
}

func jobID(name string) belay.ObjectID {
	return belay.ObjectID{Group: "batch", Kind: "Job", Namespace: "x", Name: name}
}
