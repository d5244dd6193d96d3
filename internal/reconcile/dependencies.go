package reconcile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/expr"
)

// An application is written only once those that it depends on are ready, and
// goes before they do. This file says who waits for whom and wakes who waited.
//
// A commit may change both at once. So nobody is ready who was not compared with
// the newest commit yet; whom that commit does not concern has been compared by
// being told so.

// link notes who depends on whom, and compiles what they ask. Called with e.mu.
func (e *Engine) link(cat *catalog.Catalog) {
	known := e.ready
	e.dependents, e.ready = map[string][]string{}, map[string]*expr.Program{}
	for name := range cat.Applications {
		def := cat.Applications[name]
		for _, d := range def.Spec.DependsOn {
			e.dependents[d.Name] = append(e.dependents[d.Name], name)
			if d.Ready == "" || e.ready[d.Ready] != nil {
				continue
			}
			p := known[d.Ready]
			if p == nil {
				var err error
				if p, err = catalog.CompileReady(d.Ready); err != nil { // it compiled when it was read
					e.Logger.Error("expression of a dependency not compiled", "application", name, "dependency", d.Name, "error", err)
					continue
				}
			}
			e.ready[d.Ready] = p
		}
	}
}

// unready says which dependency the creations and updates of the target wait
// for, and why; "" if for none. It is found out once for each plan.
func (e *Engine) unready(t *target) string {
	if t.unready != nil {
		return *t.unready
	}
	var first string
	awaits := map[string]bool{}
	for _, d := range t.def.Spec.DependsOn {
		if why := e.waitsFor(d); why != "" {
			if first == "" {
				first, t.lacks = why, d.Name
			}
			awaits[d.Name] = true
		}
	}
	if n := len(awaits); n > 1 {
		first += fmt.Sprintf(" (and for %d more)", n-1)
	}
	t.unready = &first
	e.awaitDependencies(t.app, awaits)
	return first
}

// tooEarly says what an application waits for whose object is of a kind that the
// cluster does not serve; "" if for nothing. A dependency may well be what brings
// the kind, so that this is a failure only when it is time to write.
func (e *Engine) tooEarly(t *target, act *belay.Action) string {
	if act.Blocked.Code != belay.CodeUnknownKind {
		return ""
	}
	why := e.untimely(t, act)
	t.barred = t.barred || why != ""
	if why == "" && (t.conn.Coming(act.ID.Group) || t.conn.Facts().Digest != t.desired.facts) {
		why = fmt.Sprintf("the cluster does not serve %s yet; definitions of kinds have just changed", act.ID.GroupKind())
	}
	return why
}

// aside says whether an application is none of this engine's business.
func (e *Engine) aside(def *belay.Application) bool { return e.Aside != nil && e.Aside(def) }

// waitsFor says why a dependency is not ready; "" if it is.
func (e *Engine) waitsFor(d belay.Dependency) string {
	e.mu.Lock()
	if def, ok := e.catalog.Applications[d.Name]; ok && e.aside(&def) {
		e.mu.Unlock()
		return ""
	}
	why := e.uncompared(d.Name)
	var status belay.ApplicationStatus
	var ready *expr.Program
	if why == "" {
		b := e.apps[d.Name]
		status, ready = b.shown(), e.ready[d.Ready]
		if d.Ready != "" {
			status.Tree = tree(b, e.connOf(status.Cluster))
		}
	}
	e.mu.Unlock()
	state := stateOf(&status)
	switch {
	case why != "":
		return fmt.Sprintf("waits for %s, which %s", d.Name, why)
	case d.Ready == "":
		if status.Sync == belay.Synced && status.Health == belay.Healthy {
			return ""
		}
		return fmt.Sprintf("waits for %s, which is %s", d.Name, state)
	case ready == nil:
		return fmt.Sprintf("waits for %s: %q is no expression", d.Name, d.Ready)
	}
	ok, err := evaluate(ready, &status)
	switch {
	case err != nil:
		return fmt.Sprintf("waits for %s: %q fails: %v; it is %s", d.Name, d.Ready, err, state)
	case !ok:
		return fmt.Sprintf("waits for %s until %s; it is %s", d.Name, d.Ready, state)
	}
	return ""
}

// evaluate asks an expression about an application as its status is shown.
func evaluate(ready *expr.Program, status *belay.ApplicationStatus) (bool, error) {
	raw, err := json.Marshal(status)
	if err != nil {
		return false, err
	}
	var app map[string]any
	if err := json.Unmarshal(raw, &app); err != nil {
		return false, err
	}
	return ready.Bool(map[string]any{"app": app})
}

// mostOfState bounds what a message repeats of another one.
const mostOfState = 240

// stateOf is the state of an application in a message of another one.
func stateOf(s *belay.ApplicationStatus) string {
	state := string(s.Sync)
	if s.Sync == belay.Synced {
		state = string(s.Health)
	}
	if s.Message != "" {
		state += ": " + s.Message
	}
	return cut(state)
}

func cut(s string) string {
	if r := []rune(s); len(r) > mostOfState {
		return string(r[:mostOfState]) + "…"
	}
	return s
}

// uncompared says why it is not known how an application stands at the newest
// commit; "" if it is. Called with e.mu.
func (e *Engine) uncompared(name string) string {
	if e.known(e.configKey()).Commit != e.config.Commit {
		if e.problem != nil {
			return "may have changed: the newest definitions cannot be read"
		}
		return "may have changed: the newest definitions are being read"
	}
	b := e.apps[name]
	if b == nil || b.def == nil {
		if def, ok := e.catalog.Applications[name]; ok && e.OnlyCluster != "" {
			return fmt.Sprintf("is delivered to cluster %q by another server", def.Spec.Destination.Cluster)
		}
		return "is not there"
	}
	for _, k := range b.refs() {
		if f := e.refs[k]; f != nil {
			if newest := e.known(k); newest.Commit != "" && newest.Commit != f.commit {
				return "may have changed: a new commit is being read"
			}
		}
	}
	if err := e.catalog.ApplicationErrors[name]; err != nil {
		return "has an error: " + cut(err.Error())
	}
	if b.cannot {
		return "cannot be read: " + cut(b.status.Message)
	}
	if !b.read || b.dirty || b.rendering || b.judged != b.desired && b.status.Sync != belay.SyncUnknown && e.holds[name] == nil {
		return "is being compared with the newest commit"
	}
	return ""
}

func (e *Engine) connOf(cluster string) Cluster {
	if c := e.clusters[cluster]; c != nil && c.conn != nil {
		return c.conn
	}
	return nil
}

// awaitDependencies has an application woken when one of its dependencies changes, none for nil.
func (e *Engine) awaitDependencies(a *app, names map[string]bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a.awaits = names; len(names) > 0 {
		e.waiting[a.name] = true
	} else {
		delete(e.waiting, a.name)
	}
}

// waitNoMore has an application woken by no dependency: it is where it is to be, or
// cannot look at them. Called with e.mu.
func (e *Engine) waitNoMore(a *app) {
	a.awaits = nil
	delete(e.waiting, a.name)
}

// wakeDependents wakes those who wait for an application, after it was compared.
// Where its state is the same as before, only those who look at its objects may
// find it ready now. Called with e.mu.
func (e *Engine) wakeDependents(name string, same bool) {
	for _, d := range e.dependents[name] {
		if a := e.apps[d]; a != nil && a.awaits[name] && (!same || a.def == nil || looksAt(a.def, name)) {
			e.wake(d)
		}
	}
}

// looksAt says whether an application has an expression about a dependency.
func looksAt(def *belay.Application, dependency string) bool {
	return slices.ContainsFunc(def.Spec.DependsOn, func(d belay.Dependency) bool { return d.Name == dependency && d.Ready != "" })
}

// wakeWaiting wakes all who wait for a dependency, after more commits were read.
func (e *Engine) wakeWaiting() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name := range e.waiting {
		e.wake(name)
	}
}

// inTheWay says which application has to go before one that left Git; nil if none.
func (e *Engine) inTheWay(ctx context.Context, a *app) error {
	e.recallOthers(ctx, a)
	e.mu.Lock()
	defer e.mu.Unlock()
	if names := e.dependents[a.name]; len(names) > 0 {
		name := slices.Min(names)
		return &belay.Error{Code: belay.CodeHeld, Application: a.name, Origin: e.catalog.Applications[name].Origin,
			Message: fmt.Sprintf("removed from Git, but not deleted: application %q still depends on it", name),
			Hint:    fmt.Sprintf("take %s out of spec.dependsOn of %s, or remove that application too", a.name, name)}
	}
	first := ""
	for name, other := range e.apps {
		if other != a && other.gone() && (first == "" || name < first) && e.dependedOn(other, a.name, map[string]bool{}) && !e.dependedOn(a, name, map[string]bool{}) {
			first = name
		}
	}
	if first != "" {
		return &belay.Error{Code: belay.CodeUnavailable, Application: a.name,
			Message: fmt.Sprintf("removed from Git; waits for %s, which depends on it and is deleted first", first)}
	}
	if !a.lived { // after a restart: a cluster that was not seen yet may hold one of them
		for _, name := range slices.Sorted(maps.Keys(e.clusters)) {
			if c := e.clusters[name]; c.pending || c.conn != nil && !c.conn.Tried() {
				return &belay.Error{Code: belay.CodeUnavailable, Application: a.name,
					Message: fmt.Sprintf("removed from Git; waits for a look at cluster %q: what depends on it is deleted first", name)}
			}
		}
	}
	return nil
}

// gone says whether Git does not declare the application any more.
func (a *app) gone() bool { return a.def == nil }

// dependedOn says whether an application that left Git depended on another, be it
// by way of others that left. Called with e.mu.
func (e *Engine) dependedOn(a *app, name string, seen map[string]bool) bool {
	if a.last == nil || seen[a.name] {
		return false
	}
	seen[a.name] = true
	for _, d := range a.last.Spec.DependsOn {
		if d.Name == name {
			return true
		}
		if next := e.apps[d.Name]; next != nil && next.gone() && e.dependedOn(next, name, seen) {
			return true
		}
	}
	return false
}

// recallOthers finds in Git's history what those meant that left Git before this
// process started.
func (e *Engine) recallOthers(ctx context.Context, but *app) {
	e.mu.Lock()
	rev := e.config
	var forgotten []*app
	for _, other := range e.apps {
		if other != but && other.gone() && other.last == nil && !other.unknown {
			forgotten = append(forgotten, other)
		}
	}
	e.mu.Unlock()
	for _, other := range forgotten {
		e.mu.Lock()
		known := other.last != nil || other.unknown // by now: several may be at it
		e.mu.Unlock()
		if known {
			continue
		}
		if err := e.recall(ctx, other, rev); belay.CodeOf(err) == belay.CodeHeld && err != nil {
			e.mu.Lock()
			other.unknown = true
			e.mu.Unlock()
		}
	}
}

// wakeDependencies wakes those who waited for an application to go before them.
// Called with e.mu.
func (e *Engine) wakeDependencies(went *app) {
	if went.last == nil {
		return
	}
	for _, d := range went.last.Spec.DependsOn {
		if a := e.apps[d.Name]; a != nil && a.gone() {
			e.wake(d.Name)
		}
	}
}

// wakeLeft wakes the applications that left Git: what was in their way may not be
// any more. Called with e.mu.
func (e *Engine) wakeLeft() {
	for name, a := range e.apps {
		if a.gone() {
			e.wake(name)
		}
	}
}
