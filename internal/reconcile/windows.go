package reconcile

import (
	"fmt"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/window"
)

// Outside of its windows nothing of an application is written: no commit, no
// heal, no deletion. A sync under way ends with the group at hand. One timer
// wakes the application when it may go on.

// windows are those of a project, or why they cannot be read.
type windows struct {
	list []*window.Window
	err  error
}

// compileWindows reads the windows of all projects. Called with e.mu.
func (e *Engine) compileWindows(cat *catalog.Catalog) {
	e.windows = map[string]windows{}
	for name, p := range cat.Projects {
		if len(p.Spec.Windows) > 0 {
			list, err := window.Compile(p.Spec.Windows)
			e.windows[name] = windows{list, err}
		}
	}
}

// override lets one sync through in spite of windows: that of the desired state
// that it met first, until it is reached or another takes its place.
type override struct{ desired string }

// bindOverride ties the override of a pass to the desired state that it is for.
// unread is true if that could not be made: then there is no such sync.
func (e *Engine) bindOverride(t *target, unread bool) {
	if t.override == nil {
		return
	}
	if t.override.desired == "" && !unread {
		t.override.desired = t.desired.digest
	}
	if t.override.desired != t.desired.digest || unread {
		e.endOverride(t)
	}
}

// endOverride ends the override of a pass, unless somebody ordered another meanwhile.
func (e *Engine) endOverride(t *target) {
	e.mu.Lock()
	if t.app.override == t.override {
		t.app.override = nil
	}
	e.mu.Unlock()
	t.override = nil
}

// outside says why no window is open for the target, and sets the alarm for when
// one is.
func (e *Engine) outside(t *target) string {
	if t.override != nil || t.urgent() {
		return ""
	}
	if t.outside != nil {
		return *t.outside
	}
	e.mu.Lock()
	w, asked := e.windows[t.def.Spec.Project], t.app.manual
	e.mu.Unlock()
	if w.err != nil { // they were read when the catalog was
		return "the windows of project " + t.def.Spec.Project + " cannot be read: " + w.err.Error()
	}
	v := window.Decide(w.list, t.def.Name, t.cluster, asked, t.planned)
	if !v.Open && !v.Opens.IsZero() {
		t.putOff(v.Opens)
	}
	why := v.Reason()
	t.outside = &why
	return why
}

// refusal says why a sync of an application that somebody asks for cannot run
// now; nil if it can. Called with e.mu.
func (e *Engine) refusal(a *app, overrideWindow bool) *belay.Error {
	def := a.def
	if why := suspension(def); why != "" {
		return &belay.Error{Code: belay.CodeHeld, Application: a.name, Origin: def.Origin, Message: fmt.Sprintf("application %q is %s", a.name, why),
			Hint: suspendedHint}
	}
	if h := e.holds[a.name]; h != nil && !e.DryRun {
		return &belay.Error{Code: belay.CodeHeld, Application: a.name, Message: fmt.Sprintf("application %q is %s", a.name, heldAt(&h.Hold)),
			Hint: "end the hold first: belay release " + a.name}
	}
	if def == nil {
		def = a.last
	}
	if def == nil || overrideWindow {
		return nil
	}
	v := window.Decide(e.windows[def.Spec.Project].list, a.name, def.Spec.Destination.Cluster, true, time.Now())
	if v.Open {
		return nil
	}
	return &belay.Error{Code: belay.CodeHeld, Application: a.name, Message: fmt.Sprintf("application %q %s", a.name, v.Reason()),
		Hint: windowHint(a.name)}
}
