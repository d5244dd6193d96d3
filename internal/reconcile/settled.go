package reconcile

import (
	"fmt"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// An object that one application no longer declares may be another's by now.
// Whether it is shows only when all applications of the cluster have been read at
// the newest commits. This file says when that is so, and wakes those who waited.

// unsettled says why it is not known what the applications of a cluster
// declare at the newest commits; "" if it is. What cannot be read counts as it
// was read last. Called with e.mu.
func (e *Engine) unsettled(clusterName string) string {
	if e.catalog == nil {
		return "the definitions were not read yet"
	}
	if e.known(e.configKey()).Commit != e.config.Commit {
		if e.problem != nil {
			return "the newest definitions cannot be read"
		}
		return "the newest definitions are being read"
	}
	looked := map[refKey]bool{}
	for name, a := range e.apps {
		if a.def == nil || a.def.Spec.Destination.Cluster != clusterName || a.cannot {
			continue
		}
		if !a.read || a.dirty || a.rendering {
			return fmt.Sprintf("application %q is being read", name)
		}
		for _, k := range a.refs() {
			if f := e.refs[k]; f != nil && !looked[k] {
				looked[k] = true
				if newest := e.known(k); newest.Commit != "" && newest.Commit != f.commit {
					return fmt.Sprintf("the newest commit of %s is being read", newest.Repo)
				}
			}
		}
	}
	return ""
}

// pruneBlocked says why nothing of a cluster may be deleted now; "" if it may.
// If not, the application is woken when that may have changed.
func (e *Engine) pruneBlocked(clusterName, application string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	why := e.unsettled(clusterName)
	if why != "" {
		e.await(clusterName, application)
		return "nothing is deleted before all that may declare it was read: " + why
	}
	return ""
}

// keptFor names an application that may declare an object, for all that is
// known: it cannot be read, and delivers to the namespace or may, by its project,
// have such a cluster-scoped object. Called without e.mu.
func (e *Engine) keptFor(clusterName string, id belay.ObjectID, but string) string {
	ns := id.Namespace
	if id.GroupKind() == (belay.Kind{Kind: "Namespace"}) {
		ns = id.Name
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	first := ""
	for name, a := range e.apps {
		if name == but || a.def == nil || a.def.Spec.Destination.Cluster != clusterName || (!a.cannot && a.renderErr == nil) ||
			(first != "" && first < name) {
			continue
		}
		if e.catalog.Holds[name] != nil && a.desired != nil {
			continue // held by its set, it declares what it did, whatever became of its files
		}
		switch {
		case ns == "":
			project, declared := e.catalog.Projects[a.def.Spec.Project]
			if !declared { // it is not known what it may have
				project = belay.OpenProject()
			}
			if _, err := project.Permit(a.def, clusterName, id, false); err == nil {
				first = name
			}
		case a.def.Spec.Destination.Namespace == ns || (a.desired != nil && a.desired.reaches(ns)):
			first = name
		}
	}
	if first != "" {
		e.apps[first].doubted = true
		e.doubt(clusterName, but)
	}
	return first
}

// claimedSince says why an object is not deleted that nobody else declared when the
// plan was made: the last of those that may declare it may have been read since, and
// only then is what the others declare all that there is. The plan is made anew.
func (e *Engine) claimedSince(t *target, act *belay.Action) string {
	if act.Hook != "" { // whose it is was asked when it was planned
		return ""
	}
	what := ""
	if e.claimed(t, act.ID) {
		what = fmt.Sprintf("%s is declared by another application by now", act.ID)
	} else if plan.IsContainer(act.ID) {
		if o, other, ok := e.within(t, act.ID); ok {
			what = fmt.Sprintf("%s would go with %s, and application %q declares it by now", o, act.ID, other)
		}
	}
	if what != "" {
		e.wake(t.def.Name)
	}
	return what
}

func (d *desired) reaches(ns string) bool {
	for i := range d.objects {
		if d.objects[i].id.Namespace == ns {
			return true
		}
	}
	return false
}

// await has an application woken when all the others were read. Called with e.mu.
func (e *Engine) await(clusterName, application string) {
	if c := e.clusters[clusterName]; c != nil {
		if c.waiters == nil {
			c.waiters = map[string]bool{}
		}
		c.waiters[application] = true
	}
}

// doubt has an application woken when something else is known of the others of a
// cluster than what keeps it now. That may never be: a pass that learned nothing
// must not wake it, or it would go round without end. Called with e.mu.
func (e *Engine) doubt(clusterName, application string) {
	if c := e.clusters[clusterName]; c != nil {
		if c.doubters == nil {
			c.doubters = map[string]bool{}
		}
		c.doubters[application] = true
	}
}

// readable notes that an application can be read: whoever was kept by it may go on.
// Called with e.mu.
func (e *Engine) readable(a *app) {
	if a.doubted {
		a.doubted = false
		e.learned()
	}
}

// learned wakes those who doubt: the applications do not declare what they did, or
// one that could not be read can be. Called with e.mu.
func (e *Engine) learned() {
	for _, c := range e.clusters {
		for name := range c.doubters {
			e.wake(name)
		}
		c.doubters = nil
	}
}

// wasRead wakes those who waited for more to be known of a cluster's
// applications, after one was read.
func (e *Engine) wasRead(clusterName string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.clusters[clusterName]
	if c == nil || len(c.waiters) == 0 || e.unsettled(clusterName) != "" {
		return
	}
	for name := range c.waiters {
		e.wake(name)
	}
	c.waiters = nil
}

// wereRead is wasRead for all clusters.
func (e *Engine) wereRead() {
	e.mu.Lock()
	names := make([]string, 0, len(e.clusters))
	for name := range e.clusters {
		names = append(names, name)
	}
	e.mu.Unlock()
	for _, name := range names {
		e.wasRead(name)
	}
	e.wakeWaiting()
}

// unreadable notes that an application cannot be read now: nobody waits for it, and
// it waits for nobody. It is woken when it can be read again.
func (e *Engine) unreadable(a *app) {
	e.mu.Lock()
	a.read, a.cannot = true, true
	e.waitNoMore(a)
	e.mu.Unlock()
	e.wereRead()
}

// mark notes that what an application was rendered from may have changed.
// Called with e.mu.
func (a *app) mark() { a.dirty, a.cannot = true, false }

// claimant names the application that an object belongs to, if that may be
// another than the target's. doubt means that nobody can say before the others
// were read.
func (e *Engine) claimant(t *target, id belay.ObjectID) (name string, at belay.Origin, ok, doubt bool) {
	owner := ""
	if l, found := t.conn.Lookup(id); found {
		owner = l.Application
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	name, at, ok = e.claimsOn(t, id).claimant(id, owner)
	other := e.apps[owner]
	if owner == t.def.Name || other == nil || other.def == nil || t.foreseen != nil && t.foreseen.apps[owner] {
		other = nil // nobody has it whom Git knows
	}
	contested := ok && name != t.def.Name
	if (contested || other != nil) && e.unsettled(t.cluster) != "" {
		e.await(t.cluster, t.def.Name)
		if !contested {
			name = owner
		}
		return name, belay.Origin{}, false, true
	}
	if !ok && other != nil && other.desired == nil && (other.cannot || other.renderErr != nil) {
		return owner, other.def.Origin, true, false // nobody knows that it lets go
	}
	return name, at, ok, false
}
