package reconcile

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// declaration is what Git declares of an application.
type declaration struct {
	cluster   string
	objects   map[string]string
	hooks     map[string]string // and what becomes of them
	depends   []string
	suspended bool
	broken    bool
	manual    bool // nothing is written before somebody asks
	noHeal    bool // what is lost by hand stays lost until somebody asks
	keeps     bool // what Git lets go stays
	limited   bool // no more than a third may go at once
	confirm   string
	edition   int // changed in the definition and in the anchor by the same commit
}

// snapshot is what Git declares from a time on.
type snapshot struct {
	from   time.Time
	commit string
	want   map[string]declaration
}

// files are those of an application, and "" for those that it has not.
func (h *history) files(name string) map[string]string {
	out := map[string]string{}
	for i := range historyObjects {
		out[fmt.Sprintf("apps/%s/%s-%d", name, name, i)] = ""
	}
	for _, o := range []string{name + "-anchor", "broken", name + "-presync", name + "-postsync"} {
		out["apps/"+name+"/"+o] = ""
	}
	out["belay/"+name+".yaml"] = ""
	w := h.want[name]
	if w == nil {
		return out
	}
	out["belay/"+name+".yaml"] = w.definition(name)
	for o, v := range w.objects {
		out["apps/"+name+"/"+o] = v
	}
	for o, v := range w.hooks {
		out["apps/"+name+"/"+o] = v
	}
	if w.broken {
		out["apps/"+name+"/broken"] = "broken"
	}
	return out
}

// state is what an application is made of.
func (d *declaration) state() string { return fmt.Sprint(d.objects, d.hooks) }

func (d *declaration) definition(name string) string {
	limit := "{percent: 100}"
	if d.limited {
		limit = "{percent: 34, from: 2}"
	}
	if d.confirm != "" {
		limit += fmt.Sprintf(", confirm: %q", d.confirm)
	}
	more := fmt.Sprintf("  sync: {automatic: %t, selfHeal: %t, prune: %t, pruneLimit: %s}\n", !d.manual, !d.noHeal, !d.keeps, limit)
	if len(d.depends) > 0 {
		more += "  dependsOn:\n"
		for _, on := range d.depends {
			more += "  - {name: " + on + "}\n"
		}
	}
	if d.edition > 0 {
		more += fmt.Sprintf("  variables: {values: {edition: \"%d\"}}\n", d.edition)
	}
	if d.suspended {
		more += "  suspend: {reason: a test}\n"
	}
	return strings.Replace(fakeApp(name, more), "{namespace: x}", "{namespace: x, cluster: "+d.cluster+"}", 1)
}

// commitNow commits, and keeps what Git declares from now on.
func (h *history) commitNow(author, subject string, files map[string]string) string {
	s := snapshot{from: time.Now(), want: map[string]declaration{}}
	for name, w := range h.want {
		d := *w
		d.objects, d.hooks, d.depends = maps.Clone(w.objects), maps.Clone(w.hooks), slices.Clone(w.depends)
		s.want[name] = d
	}
	h.mu.Lock()
	h.noteWell()
	s.commit = fmt.Sprintf("%040d", len(h.commits)+1)
	h.past = append(h.past, s)
	h.mu.Unlock()
	return h.commit(author, subject, files)
}

func (h *history) name() string { return fmt.Sprintf("app%d", h.r.IntN(historyApps)) }

// object is the name of some object.
func (h *history) object() string { return fmt.Sprintf("%s-%d", h.name(), h.r.IntN(historyObjects)) }

// mutate commits a change of one or two applications.
func (h *history) mutate() {
	files := map[string]string{}
	for range 1 + h.r.IntN(2) {
		name := h.name()
		w := h.want[name]
		switch kind := h.r.IntN(19); {
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
			h.mu.Lock()
			delete(h.granted, name)
			h.mu.Unlock()
			h.note("%s suspended: %v", name, w.suspended)
		case kind == 4:
			w.cluster = historyClusters[h.r.IntN(2)]
			h.note("%s to %s", name, w.cluster)
		case kind == 5:
			h.changeHook(name, w)
		case kind < 9:
			h.redefine(name, w)
		default:
			h.change(name, w)
		}
		maps.Copy(files, h.files(name))
	}
	h.commitNow(ada, "change", files)
}

// change sets or drops one object; what was before may come back.
func (h *history) change(name string, w *declaration) {
	o := fmt.Sprintf("%s-%d", name, h.r.IntN(historyObjects))
	if _, ok := w.objects[o]; ok && h.r.IntN(2) == 0 {
		delete(w.objects, o)
		h.note("drop %s", o)
		return
	}
	w.objects[o] = fmt.Sprint(h.r.IntN(3))
	h.note("set %s to %s", o, w.objects[o])
}

// redefine changes how an application is delivered.
func (h *history) redefine(name string, w *declaration) {
	switch h.r.IntN(7) {
	case 0:
		w.manual = !w.manual
		h.note("%s manual: %v", name, w.manual)
	case 1:
		w.noHeal = !w.noHeal
		h.note("%s without self-heal: %v", name, w.noHeal)
	case 2:
		w.keeps = !w.keeps
		h.untidy[name] = true
		h.note("%s without pruning: %v", name, w.keeps)
	case 3:
		w.limited = !w.limited
		h.note("%s with a limit: %v", name, w.limited)
	case 4:
		w.edition++
		w.objects[name+"-anchor"] = fmt.Sprint(w.edition)
		h.note("%s in edition %d", name, w.edition)
	default:
		if on := h.name(); on == name || slices.Contains(w.depends, on) {
			w.depends = nil
		} else {
			w.depends = append(w.depends, on)
		}
		h.note("%s depends on %v", name, w.depends)
	}
}
