package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/health"
	"github.com/belaydev/belay/internal/plan"
)

// finish publishes the outcome of a pass that can do no more now, and sets the
// alarm for what only time brings.
func (e *Engine) finish(ctx context.Context, t *target, p *belay.Plan, step plan.Step, renderErr error) {
	a := t.app
	pending := map[belay.ObjectID]string{}
	failing, failures, early := (*belay.Error)(nil), 0, ""
	for i := range p.Actions {
		act := &p.Actions[i]
		msg := string(act.Verb)
		if act.Hook != "" {
			msg = "to run as " + string(act.Hook) + " hook"
		}
		if act.Blocked != nil {
			msg = act.Blocked.Error()
			// What is being deleted takes its time, and a hold is told by itself.
			if why := e.tooEarly(t, act); why != "" {
				msg, early = why, cmp.Or(early, why)
			} else if c := act.Blocked.Code; c != belay.CodeTerminating && c != belay.CodeHeld {
				failing, failures = cmpErr(failing, act.Blocked), failures+1
			}
		} else if f := a.fails[act.ID]; f != nil && t.failed[act.ID] {
			msg = f.err.Error()
			failing, failures = cmpErr(failing, asError(f.err, a.name)), failures+1
		} else if act.Drift != nil {
			msg = driftMessage(act.Drift)
			if act.Verb != belay.VerbHeal {
				msg = string(act.Verb) + "; " + msg
			}
		}
		pending[act.ID] = msg
	}
	for i := range p.HeldActions {
		pending[p.HeldActions[i].ID] = "would be deleted, but held"
	}
	e.keepNamespace(ctx, t)
	var shown *belay.Error
	switch {
	case t.unrecorded != nil:
		shown = t.unrecorded
	case renderErr != nil:
		shown = asError(renderErr, a.name)
	case failing != nil:
		shown = failing
		if failures > 1 {
			first := *failing
			first.Message += fmt.Sprintf(" (and %d more)", failures-1)
			shown = &first
		}
	case p.Held != nil:
		shown = p.Held
	case t.beside != nil:
		shown = t.beside
	case early != "":
		shown = &belay.Error{Code: belay.CodeUnavailable, Message: early}
	case step.Waiting != "":
		shown = &belay.Error{Code: belay.CodeUnavailable, Message: step.Waiting}
	case t.unkept != "" && suspension(t.def) == "": // a suspension is told by itself
		shown = &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("namespace %s is not given its labels and annotations: %s", t.def.Spec.Destination.Namespace, t.unkept)}
	}
	if a.effort.failed != nil && len(pending) > 0 && renderErr == nil {
		failing, shown = a.effort.failed, a.effort.failed
	}
	e.observe(t, p, step, shown)
	inSync := len(pending) == 0 && renderErr == nil
	if inSync && !e.DryRun {
		if left, err := e.strays(ctx, t); left > 0 {
			shown = &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("moved here; %s left to delete in its former cluster", count(left, "object"))}
			if err != nil {
				shown = asError(err, a.name)
			}
		}
		e.arrived(ctx, t)
		e.Checkpoint("arrived")
	}
	e.scheduleRetry(t)
	e.tellTrouble(t, p, renderErr, failing, shown)
	e.settle(t, pending, shown)
	e.watched(ctx, t)
}

// tellTrouble reports what a pass ended with, if that is no success.
func (e *Engine) tellTrouble(t *target, p *belay.Plan, renderErr error, failing, shown *belay.Error) {
	switch {
	case renderErr != nil && e.heldWithoutFiles(t.app.name, renderErr):
	case renderErr != nil && belay.CodeOf(renderErr) != belay.CodeUnavailable:
		e.tell(t, belay.EventError, shown)
	case failing != nil:
		e.tell(t, belay.EventSyncFailed, failing)
	case t.beside != nil && t.unrecorded == nil:
		e.tell(t, belay.EventSyncFailed, t.beside)
	case p.Held != nil:
		e.tell(t, belay.EventHeld, p.Held)
	}
}

func cmpErr(have, next *belay.Error) *belay.Error {
	if have != nil {
		return have
	}
	return next
}

// arrived notes that the cluster equals Git.
func (e *Engine) arrived(ctx context.Context, t *target) {
	a := t.app
	d := e.underway(a, t.cluster)
	if d == nil {
		d = e.takePlace(ctx, t)
	}
	kept := t.unkept == ""
	if kept && !t.uncleared {
		t.retryAt = time.Time{} // nothing is left to try
	}
	a.allSynced(t.desired)
	a.overcome(t)
	e.mu.Lock()
	first := a.synced == ""
	moved := a.synced != t.desired.digest
	requested := kept && a.manual && (a.asked == nil || a.asked == t.asked) // else it came meanwhile, and may be for more
	switch {
	case !t.uncleared || moved && !requested:
		a.granted = ""
	case requested:
		a.granted = t.desired.digest
	}
	if requested {
		a.manual, a.asked = false, nil
	}
	a.synced = t.desired.digest
	a.deployed = t.rev.Commit
	if kept {
		if a.override == t.override {
			a.override = nil
		}
		e.waitNoMore(a)
	}
	if first || moved || d != nil {
		a.syncedAt = time.Now()
	}
	e.mu.Unlock()
	if t.beside == nil {
		a.told = ""
	}
	a.effort = a.effort.anew()
	a.effort.desired = t.desired.digest
	clear(a.drifted)
	switch {
	case d != nil && t.beside == nil:
		e.succeeded(ctx, t, d)
	case d == nil && requested:
		e.publish(belay.Event{Type: belay.EventSynced, Application: a.name, Cluster: t.cluster, Repo: t.rev.Repo, Revision: t.rev.Commit,
			Actor: t.rev.Author, Message: fmt.Sprintf("synced to %s: %s", t.rev.Short(), count(len(t.desired.objects), "object"))})
	}
}

// tell reports what keeps an application from being what Git says, once until
// something else does, it is overcome, or somebody asks for a sync.
func (e *Engine) tell(t *target, typ belay.EventType, err *belay.Error) {
	a := t.app
	if a.told == err.Error() {
		return
	}
	a.told = err.Error()
	ev := belay.Event{Type: typ, Application: a.name, Cluster: t.cluster, Object: err.Object, Repo: t.rev.Repo, Revision: t.rev.Commit,
		Actor: t.rev.Author, Deployment: t.deployment(), Message: err.Error()}
	if typ == belay.EventSyncFailed {
		ev.Result = belay.Failed
		if d := a.running[t.cluster]; d != nil {
			ev.Seconds, ev.Detail = time.Since(d.began).Seconds(), &belay.Detail{Objects: slices.Clone(d.objects)}
		}
	}
	e.publish(ev)
}

// scheduleRetry wakes the application when the first of its backoffs ends.
func (e *Engine) scheduleRetry(t *target) {
	if !t.retryAt.IsZero() {
		e.queue.addAfter(key{keyApp, t.app.name}, time.Until(t.retryAt))
	}
}

// putOff notes that something may run later.
func (t *target) putOff(until time.Time) {
	if t.retryAt.IsZero() || until.Before(t.retryAt) {
		t.retryAt = until
	}
}

// settle publishes an application's status. pending nil means that the cluster
// could not be compared.
func (e *Engine) settle(t *target, pending map[belay.ObjectID]string, shown *belay.Error) {
	a, def := t.app, t.def
	s := belay.ApplicationStatus{
		Name: a.name, Project: def.Spec.Project, Cluster: def.Spec.Destination.Cluster, Namespace: def.Spec.Destination.Namespace,
		Path: def.Spec.AllSources()[0].Path, Ref: def.Spec.AllSources()[0].Ref, Automatic: def.Spec.Sync.Automatic,
		Sync: belay.SyncUnknown, Health: belay.Unknown,
	}
	if t.desired != nil {
		s.Objects = len(t.desired.objects) + len(t.desired.unresolved)
	}
	works := "" // or why not
	if pending != nil && t.desired != nil {
		s.Sync = belay.Synced
		if len(pending) > 0 || (shown != nil && belay.CodeOf(shown) != belay.CodeUnavailable) {
			s.Sync = belay.OutOfSync
		}
		s.Health, works = e.health(t)
		s.Message = works
	}
	if shown != nil {
		s.Message, s.Hint = messageOf(shown), shown.Hint
		if pending == nil && shown.Code != belay.CodeUnavailable && t.desired != nil {
			s.Sync = belay.OutOfSync
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	showSuspension(&s, a.def)
	if s.Repo = a.ref.url; s.Repo == "" && a.def != nil && e.catalog != nil { // it follows none
		s.Repo = refsOf(a.def, e.catalog)[0].url
	}
	e.showSet(&s, def, shown)
	was := a.status
	s.Refused = t.denied
	s.Revision, s.Revisions = a.commit, a.revisions()
	s.SyncedRevision, s.SyncedAt = was.SyncedRevision, a.syncedAt
	if s.Sync == belay.Synced && a.renderErr == nil {
		s.SyncedRevision = s.Revision
	}
	if a.renderErr != nil && t.rev.Commit != "" {
		s.Revision = t.rev.Commit
		if s.Sync == belay.Synced || t.desired == nil {
			s.Sync = belay.OutOfSync // Git says something that could not even be rendered
		}
	}
	hintWait(&s, t)
	e.showHold(&s)
	same := a.judged == t.desired && was.Sync == s.Sync && was.Health == s.Health && was.Message == s.Message
	a.status, a.pending, a.judged = s, pending, t.desired
	if t.hookStates != nil {
		a.hookStates = t.hookStates
	}
	e.wakeDependents(a.name, same)
	if s.Health != belay.Unknown { // what cannot be seen has not changed
		if a.health != "" && a.health != s.Health {
			e.publish(belay.Event{Type: belay.EventHealth, Application: a.name, Cluster: s.Cluster, Revision: s.Revision,
				Message: strings.TrimSuffix(fmt.Sprintf("%s, was %s: %s", s.Health, a.health, works), ": ")})
		}
		a.health = s.Health
	}
	if pending == nil && shown != nil && shown.Code != belay.CodeUnavailable {
		e.tell(t, belay.EventError, shown)
	}
}

func messageOf(err *belay.Error) string {
	c := *err
	c.Hint = ""
	return c.Error()
}

// fail shows an error that no pass could report itself. Nobody waits for the
// application until its next pass, which begins anew.
func (e *Engine) fail(name string, err *belay.Error) {
	e.mu.Lock()
	if a := e.apps[name]; a != nil {
		a.status.Message, a.status.Hint, a.status.Sync = err.Message, err.Hint, belay.SyncUnknown
		e.wakeDependents(name, false)
		a.read, a.rendering, a.dirty, a.cannot = true, false, true, true
		e.waitNoMore(a) // or what is told here would wake it at once
	}
	e.mu.Unlock()
	e.wereRead()
}

// Status is the state of the fleet.
func (e *Engine) Status() belay.Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := belay.Status{Applications: []belay.ApplicationStatus{}}
	for _, name := range slices.Sorted(maps.Keys(e.apps)) {
		s.Applications = append(s.Applications, e.apps[name].shown())
	}
	for _, name := range slices.Sorted(maps.Keys(e.clusters)) {
		c := e.clusters[name]
		if c.conn == nil {
			s.Clusters = append(s.Clusters, belay.ClusterStatus{Name: name, Message: asError(c.err, "").Error()})
			continue
		}
		s.Clusters = append(s.Clusters, c.conn.Status())
	}
	s.Repositories = e.Sources.Status()
	s.Sets = e.setStatus()
	if e.problem != nil {
		s.Problems = append(s.Problems, *e.problem)
	} else if e.catalog == nil {
		s.Problems = append(s.Problems, *unread()) // an empty list would look like an empty fleet
	}
	if e.catalog != nil {
		s.Problems = append(s.Problems, e.catalog.Problems...)
		if err := e.noCluster(); err != nil {
			s.Problems = append(s.Problems, *err)
		}
	}
	return s
}

// noCluster says that the only cluster to deliver to is none. Called with e.mu.
func (e *Engine) noCluster() *belay.Error {
	if e.OnlyCluster == "" || e.clusters[e.OnlyCluster] != nil {
		return nil
	}
	declared := slices.Sorted(maps.Keys(e.catalog.Clusters))
	if slices.Contains(declared, e.OnlyCluster) || len(declared) == 0 && e.OnlyCluster == belay.LocalCluster {
		return nil // not connected yet
	}
	if len(declared) == 0 {
		declared = []string{belay.LocalCluster}
	}
	return belay.NoSuch("Cluster", e.OnlyCluster, declared, "nothing is delivered: correct --only-cluster; there is "+strings.Join(declared, ", "))
}

// unread is the answer before the definitions were read.
func unread() *belay.Error {
	return &belay.Error{Code: belay.CodeUnavailable, Message: "the definitions were not read yet", Hint: "try again in a moment"}
}

// notThere is the error for an application that there is none of, as far as is
// known. Called with e.mu.
func (e *Engine) notThere(name string) *belay.Error {
	if e.catalog != nil {
		return belay.NoSuch("application", name, slices.Sorted(maps.Keys(e.apps)), "belay status lists them")
	}
	if e.problem != nil {
		return e.problem
	}
	return unread()
}

// shown is the status with what the definition says, even before the first pass.
func (a *app) shown() belay.ApplicationStatus {
	s := a.status
	if s.Project == "" && a.def != nil {
		s.Project, s.Cluster, s.Namespace = a.def.Spec.Project, a.def.Spec.Destination.Cluster, a.def.Spec.Destination.Namespace
		first := a.def.Spec.AllSources()[0]
		s.Path, s.Ref, s.Repo, s.Automatic = first.Path, first.Ref, cmp.Or(a.ref.url, first.Repo), a.def.Spec.Sync.Automatic
		s.Set = a.def.Set
	}
	return s
}

// Application is the state of one application with its objects.
func (e *Engine) Application(name string) (belay.ApplicationStatus, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	if a == nil {
		return belay.ApplicationStatus{}, e.notThere(name)
	}
	s := a.shown()
	var conn Cluster
	if c := e.clusters[s.Cluster]; c != nil {
		conn = c.conn
	}
	s.Tree = tree(a, conn)
	return s, nil
}

func tree(a *app, conn Cluster) []belay.ObjectStatus {
	out := []belay.ObjectStatus{}
	seen := map[belay.ObjectID]bool{}
	add := func(id belay.ObjectID, apiVersion string, wave int, origin belay.Origin) {
		seen[id] = true
		o := belay.ObjectStatus{ObjectID: id, APIVersion: apiVersion, Wave: wave, File: origin.File, Line: origin.Line,
			Sync: belay.SyncUnknown, Health: belay.Unknown}
		if conn != nil && conn.Ready() == nil && a.pending != nil {
			o.Sync, o.Health = belay.Synced, belay.Missing
			if l, ok := conn.Lookup(id); ok {
				o.Health, o.Message = l.Health, l.HealthMessage
			}
		}
		if msg, ok := a.pending[id]; ok {
			o.Sync, o.Message = belay.OutOfSync, msg
		}
		out = append(out, o)
	}
	if a.desired != nil {
		for _, d := range a.desired.objects {
			add(d.id, d.apiVersion, d.wave, d.origin)
		}
		for _, u := range slices.Concat(a.desired.unresolved, a.desired.unplaced) {
			add(u.Object.ID, u.Object.APIVersion, u.Object.Wave, u.Object.Origin)
		}
		for i := range a.desired.hooks {
			seen[a.desired.hooks[i].id] = true
			out = append(out, a.hookRow(&a.desired.hooks[i], conn))
		}
	}
	for id := range a.pending {
		if !seen[id] {
			add(id, "", 0, belay.Origin{})
		}
	}
	slices.SortFunc(out, func(x, y belay.ObjectStatus) int {
		if x.Wave != y.Wave {
			return x.Wave - y.Wave
		}
		return x.Compare(y.ObjectID)
	})
	return out
}

// check looks at a repository. What is wrong with it comes with its revisions.
func (e *Engine) check(ctx context.Context, url string) {
	if err := e.Sources.Check(ctx, url); err != nil && ctx.Err() != nil {
		return
	}
	e.mu.Lock()
	running := e.runCtx != nil
	e.mu.Unlock()
	if running { // else it is looked at when the engine begins
		e.sourceMoved(ctx, url)
	}
}

// asked are the applications of a request, all for none, and the refs that they
// and the definitions are read from.
func (e *Engine) asked(names []string) ([]string, map[refKey]bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(names) == 0 {
		if e.catalog == nil && e.problem == nil {
			return nil, nil, unread() // all of a fleet that nobody knows yet would be none
		}
		names = slices.Sorted(maps.Keys(e.apps))
	}
	refs := map[refKey]bool{{url: e.Repo, ref: e.Ref}: true}
	for _, n := range names {
		a := e.apps[n]
		if a == nil {
			return nil, nil, e.notThere(n)
		}
		for _, k := range a.refs() {
			refs[k] = true
		}
	}
	return names, refs, nil
}

// Poke looks at a repository, given by URL or name (all for ""), at once and
// returns how many that is, without waiting. Before the definitions were read it is
// not known which repositories are in use: any is taken for one, since the first
// look at each is still to come and sees what was pushed.
func (e *Engine) Poke(repo string) (int, error) {
	e.mu.Lock()
	known := e.catalog != nil
	if known && repo != "" {
		if r, ok := e.catalog.Repository(repo); ok {
			repo = r.Spec.URL
		}
	}
	e.mu.Unlock()
	n := e.Sources.Poke(repo)
	if !known && repo != "" {
		n = max(n, 1)
	}
	return n, nil
}

// Facts are what a cluster serves.
func (e *Engine) Facts(_ context.Context, name string) (belay.ClusterFacts, error) {
	e.mu.Lock()
	c := e.clusters[name]
	e.mu.Unlock()
	if c == nil {
		return belay.ClusterFacts{}, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("cluster %q is not declared", name)}
	}
	if c.conn == nil {
		return belay.ClusterFacts{}, c.err
	}
	if err := c.conn.Ready(); err != nil {
		return belay.ClusterFacts{}, err
	}
	return c.conn.Facts(), nil
}

// Ready is nil when the definitions were read, every cluster was tried, and one
// at least is known; else it joins an error for each that is not.
func (e *Engine) Ready() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.catalog == nil {
		if e.problem != nil {
			return e.problem
		}
		return unread()
	}
	if err := e.setsReady(); err != nil {
		return err
	}
	var missing []error
	tried := true
	for _, name := range slices.Sorted(maps.Keys(e.clusters)) {
		err := e.clusters[name].err
		tried = tried && !e.clusters[name].pending
		if conn := e.clusters[name].conn; conn != nil {
			err = conn.Ready()
			tried = tried && conn.Tried()
		}
		if err != nil {
			missing = append(missing, err)
		}
	}
	if tried && len(missing) < len(e.clusters) {
		return nil // one that does not answer is no reason to call the others unattended
	}
	return errors.Join(missing...)
}

// Settled reports whether nothing is queued or running. Timers do not count.
func (e *Engine) Settled() bool { return e.queue.idle() }

// health is the worst of what the declared objects show.
func (e *Engine) health(t *target) (belay.Health, string) {
	objs := make([]belay.ObjectStatus, 0, len(t.desired.objects)+len(t.desired.unresolved))
	for i := range t.desired.objects {
		id := t.desired.objects[i].id
		o := belay.ObjectStatus{ObjectID: id, Health: belay.Missing}
		if l, ok := t.conn.Lookup(id); ok {
			o.Health, o.Message = l.Health, l.HealthMessage
		}
		objs = append(objs, o)
	}
	for i := range t.desired.unresolved {
		objs = append(objs, belay.ObjectStatus{ObjectID: t.desired.unresolved[i].Object.ID, Health: belay.Missing})
	}
	return health.Aggregate(objs)
}
