package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/plan"
)

// removalShare is the part of the fleet, in percent, that may leave Git without
// a confirmation once the fleet has removalFrom applications.
const (
	removalShare = 50
	removalFrom  = 10
)

// findOrphans looks for applications that own objects in a cluster ("" for all)
// and that Git does not declare, or declares for another cluster: an earlier life
// of this process left them.
func (e *Engine) findOrphans(clusterName string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.catalog == nil {
		return
	}
	for name, c := range e.clusters {
		if c.conn == nil || (clusterName != "" && name != clusterName) || c.conn.Ready() != nil {
			continue
		}
		e.findLeaving(name)
		for _, owner := range c.conn.Applications() {
			known := e.apps[owner]
			if e.released[owner] || known != nil && (known.def == nil || known.def.Spec.Destination.Cluster == name) || len(prunable(c.conn, owner)) == 0 {
				continue
			}
			if known != nil { // it was moved to another cluster, and left this behind
				e.wake(owner)
				continue
			}
			if _, declared := e.catalog.Applications[owner]; declared && e.OnlyCluster == "" {
				continue
			}
			a := newApp(owner)
			a.read = true
			e.apps[owner] = a
			e.wake(owner)
		}
	}
	e.findUnfinished(clusterName)
	e.findHeld()
}

// prunable are the objects of an application that a teardown would delete.
func prunable(c Cluster, name string) []belay.Live {
	return slices.DeleteFunc(c.Live(name), func(l belay.Live) bool { return l.TeardownDisabled })
}

// teardown deletes what an application that left Git owns. It needs a clean
// catalog, everybody's claims, and the word of Git's history that the
// application was once declared: a Belay pointed at the wrong repository must
// not clear the cluster.
func (e *Engine) teardown(ctx context.Context, a *app) {
	if err := e.inTheWay(ctx, a); err != nil {
		e.settle(&target{app: a, def: e.lastDef(a)}, nil, asError(err, a.name))
		return
	}
	left, refused := 0, error(nil)
	var unseen []string
	e.mu.Lock()
	conns := maps.Clone(e.clusters)
	e.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(conns)) {
		c := conns[name]
		if c.conn == nil {
			unseen = append(unseen, name)
			continue
		}
		if err := c.conn.Ready(); err != nil {
			unseen = append(unseen, name)
			// What else it may have in clusters that do not answer is found when they do.
			if a.last != nil && a.last.Spec.Destination.Cluster == name || a.owing[name] {
				left, refused = left+1, &belay.Error{Code: belay.CodeUnavailable,
					Message: "removed from Git; its objects are deleted when their cluster answers: " + asError(err, a.name).Message}
			}
			continue
		}
		n, err := e.teardownIn(ctx, a, name, c.conn, func(belay.ObjectID) bool { return false })
		n, err = e.nothingOwed(a, name, n, err)
		left += n
		if err != nil {
			refused = err
		}
	}
	if left > 0 {
		t := &target{app: a, def: e.lastDef(a), cluster: ""}
		msg := &belay.Error{Code: belay.CodeUnavailable, Message: "removed from Git; " + count(left, "object") + " left to delete"}
		if refused != nil {
			msg = asError(refused, a.name)
		}
		e.settle(t, nil, msg)
		return
	}
	e.forget(a, unseen)
}

// forget drops an application of which nothing is left, but in clusters that could not
// be looked at: it is found there when they can. One that answers by now, before
// the application is dropped, would not be asked for it again.
func (e *Engine) forget(a *app, unseen []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a.def != nil {
		return // declared again meanwhile
	}
	for _, name := range unseen {
		if c := e.clusters[name]; c != nil && c.conn != nil && c.conn.Ready() == nil {
			e.wake(a.name)
			return
		}
	}
	e.abandon(a)
	delete(e.apps, a.name)
	if e.released[a.name] { // its objects stay, and nobody takes up what was under way
		e.findUnfinished("")
	}
	delete(e.waiting, a.name)
	e.places.forget(a.name)
	e.hot.remove(a.name)
	e.wakeDependencies(a)
	e.forgetRuns(a.name)
}

// unclaim lets go of what an application declared: Git no longer says so. Called
// with e.mu.
func (e *Engine) unclaim(a *app) {
	if a.desired == nil {
		return
	}
	for _, cl := range e.claims {
		for other := range cl.replace(a.name, a.desired.claimed(), nil) {
			e.wake(other)
		}
	}
	a.desired = nil
}

// lastDef is what the application meant, or a bare definition if nobody knows.
func (e *Engine) lastDef(a *app) *belay.Application {
	e.mu.Lock()
	defer e.mu.Unlock()
	if a.last != nil {
		return a.last
	}
	return &belay.Application{Name: a.name, Spec: belay.DefaultApplicationSpec()}
}

// teardownIn deletes an application's objects in one cluster, but those that
// stay, and says how many are left.
func (e *Engine) teardownIn(ctx context.Context, a *app, clusterName string, conn Cluster, stays func(belay.ObjectID) bool) (left int, err error) {
	kept := func(id belay.ObjectID) bool { return e.claimedByOther(clusterName, id, a.name) || stays(id) }
	deletable := func() []belay.Live {
		return slices.DeleteFunc(prunable(conn, a.name), func(l belay.Live) bool { return kept(l.ID) })
	}
	live := deletable()
	owed := e.owed(a, clusterName)
	if len(live)+owed == 0 {
		return e.cleared(ctx, a, clusterName, conn)
	}
	if err := e.mayTeardown(ctx, a, clusterName); err != nil {
		return len(live) + owed, err
	}
	def := e.lastDef(a)
	if held := e.heldTeardown(def); held != nil && !orphaned(def) {
		return len(live) + owed, held
	}
	if orphaned(def) { // its objects were never to be deleted; they stay, unmanaged
		e.leaveBehind(a, clusterName)
		return 0, nil
	}
	project, err := e.lastProject(ctx, a, def)
	if err != nil {
		e.recallLater(a, err)
		return len(live) + owed, err
	}
	e.mu.Lock()
	over := a.override
	e.mu.Unlock()
	t := &target{app: a, def: def, project: &project, cluster: clusterName, conn: conn, desired: &desired{}, ordered: true, override: over,
		confirmed: e.confirmedBy(a, def)}
	lv, err := e.ending(ctx, t)
	if err != nil {
		return len(live) + owed, err
	}
	for {
		t.newPlan()
		p, step := e.teardownStep(t, lv, func(live []belay.Live) belay.Plan {
			return plan.Build(plan.Input{Application: def, Project: &project, Cluster: clusterName, Live: live, Lookup: conn.Lookup,
				Claimant: func(belay.ObjectID) (string, belay.Origin, bool) { return "", belay.Origin{}, false },
				Claimed:  kept, Within: func(id belay.ObjectID) (belay.ObjectID, string, bool) { return e.within(t, id) }, Teardown: true})
		}, plan.Gate{Lookup: conn.Lookup, Served: func(*belay.Object) bool { return true },
			Allow: func(act *belay.Action) (bool, string) { return e.allow(t, act) }})
		if len(step.Run) == 0 || e.runCtx.Err() != nil {
			e.scheduleRetry(t)
			if p.Held != nil {
				return len(deletable()), p.Held
			}
			if step.Waiting != "" {
				return max(len(p.Actions), 1), &belay.Error{Code: belay.CodeUnavailable, Message: "removed from Git, but not deleted: " + step.Waiting}
			}
			// What is being deleted already is no action; its end wakes us.
			if n := len(deletable()); n > 0 {
				return n, nil
			}
			return e.cleared(ctx, a, clusterName, conn)
		}
		if err := e.begin(ctx, t, &p, step.Run); err != nil {
			e.putBack(a)
			return max(len(deletable()), 1), err
		}
		a.unrecorded = attempt{}
		e.execute(ctx, t, step.Run)
	}
}

// leaveBehind lets go of the objects of an application that are to stay in a cluster
// that it left. What was under way there has nothing to reach any more.
func (e *Engine) leaveBehind(a *app, clusterName string) {
	e.mu.Lock()
	if a.def == nil {
		e.released[a.name] = true
	}
	e.mu.Unlock()
	if d := e.underway(a, clusterName); d != nil {
		e.supersedeIn(a, clusterName, d, "it has left, and its objects are to stay")
	}
}

func (e *Engine) claimedByOther(clusterName string, id belay.ObjectID, but string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	cl := e.claims[clusterName]
	return cl != nil && cl.claimed(id, but)
}

// mayTeardown says why an application that left Git must not be torn down (yet).
func (e *Engine) mayTeardown(ctx context.Context, a *app, clusterName string) error {
	if err := e.recallSets(ctx, a); err != nil {
		return err
	}
	e.mu.Lock()
	cat, rev, problem, remembered := e.catalog, e.config, e.problem, a.last != nil
	meant := confirmedBySet(cat, a.name, a.last)
	orphans := []string{}
	declared := len(cat.Applications)
	for name, other := range e.apps {
		if _, ok := cat.Applications[name]; !ok && other.def == nil && !confirmedBySet(cat, name, other.last) {
			orphans = append(orphans, name)
		}
	}
	e.mu.Unlock()
	if problem != nil && problem.Code == belay.CodeNotFound {
		return problem
	}
	if broken := cat.TeardownBlockers(); len(broken) > 0 {
		return &belay.Error{Code: belay.CodeHeld, Origin: belay.Origin{Repo: rev.Repo, Revision: rev.Commit, File: broken[0]},
			Message: "no application is torn down while this file cannot be read: it may declare it", Hint: "mend the file"}
	}
	if why := e.pruneBlocked(clusterName, a.name); why != "" {
		return &belay.Error{Code: belay.CodeUnavailable, Message: why}
	}
	if !meant {
		held, token := tooManyLeave(cat, declared, orphans)
		if a.released = token; held != nil {
			held.Origin = belay.Origin{Repo: rev.Repo, Revision: rev.Commit}
			return held
		}
	}
	if remembered {
		return nil
	}
	return e.recall(ctx, a, rev)
}

// confirmed is the token by which a Project confirms that applications go: these,
// or those of which these are left.
func confirmed(cat *catalog.Catalog, names []string) string {
	for _, name := range slices.Sorted(maps.Keys(cat.Projects)) {
		if token := confirmedIn(cat.Projects[name].Spec.Confirm, names); token != "" {
			return token
		}
	}
	return ""
}

func confirmedIn(tokens, names []string) string {
	i := slices.IndexFunc(tokens, func(token string) bool { return plan.Covers(token, names) })
	if i < 0 {
		return ""
	}
	return tokens[i]
}

var errNeverDeclared = errors.New("never declared")

// recall finds in Git's history what an application meant that left Git before
// this process started.
func (e *Engine) recall(ctx context.Context, a *app, rev belay.Revision) error {
	unknown := &belay.Error{Code: belay.CodeHeld, Application: a.name, Err: errNeverDeclared,
		Message: fmt.Sprintf("objects in the cluster belong to an application %q that this repository never declared; they are left alone", a.name),
		Hint:    "is this Belay pointed at the right repository, --path and --instance? If the objects are to go, declare the application and remove it again"}
	e.mu.Lock()
	elsewhere, declared := e.catalog.Applications[a.name]
	e.mu.Unlock()
	if declared { // for a cluster that is left to another Belay
		return &belay.Error{Code: belay.CodeHeld, Application: a.name, Origin: elsewhere.Origin,
			Message: fmt.Sprintf("application %q is declared for cluster %q, but has objects in this one; they are left alone", a.name, elsewhere.Spec.Destination.Cluster),
			Hint:    "if it was moved and both are not the same cluster, delete them by hand"}
	}
	expr := `name:[[:space:]]*["']?` + regexp.QuoteMeta(a.name) + `["']?([[:space:],}]|$)`
	parent, found, err := e.Sources.Removal(ctx, e.Repo, rev.Commit, e.Path, expr)
	if err != nil {
		e.recallLater(a, err)
		return err
	}
	var def *belay.Application
	if found {
		if def, err = e.declaredAt(ctx, parent, a.name); err != nil {
			e.recallLater(a, err)
			return err
		}
	}
	if def == nil { // lines that only look like its name, such as those of its dependents
		if def, err = e.formerly(ctx, rev.Commit, a.name); err != nil {
			e.recallLater(a, err)
			return err
		}
	}
	if def == nil {
		return unknown
	}
	e.mu.Lock()
	a.last = def
	e.mu.Unlock()
	e.places.set(def)
	return nil
}

// answers says whether a cluster that an application left does. Where the record owes
// something of it, the application is woken when it does.
func (e *Engine) answers(a *app, clusterName string, c *cluster) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.conn != nil && c.conn.Ready() == nil {
		return true
	}
	if a.owing[clusterName] {
		e.debtors[owner{clusterName, a.name}] = true
	}
	return false
}

// strays deletes what an application left behind in a cluster it was moved away
// from, once it stands in the new one. It says how many objects are left there.
func (e *Engine) strays(ctx context.Context, t *target) (left int, err error) {
	e.mu.Lock()
	conns := maps.Clone(e.clusters)
	e.mu.Unlock()
	for name, c := range conns {
		if name == t.cluster || !e.answers(t.app, name, c) {
			continue
		}
		// Two clusters may be one by two names: what stands here is not left there.
		n, e2 := e.teardownIn(ctx, t.app, name, c.conn, func(id belay.ObjectID) bool {
			here, ok := t.conn.Lookup(id)
			there, _ := c.conn.Lookup(id)
			return ok && here.UID == there.UID
		})
		left += n
		if e2 != nil {
			err = e2
		}
	}
	return left, err
}
