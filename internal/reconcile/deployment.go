package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// A deployment is one sync of one application in one cluster, as the record has
// it: its start is on the record before its first write, and it ends once: when
// the cluster equals Git, or when something else is to be reached. One that failed
// goes on; a retry may bring it home. One that was under way when the process died
// is taken up again where it is found, with the name that it has on the record.
// What only sets objects back to what was reached before is none. A new state that
// the cluster has already is one, too, if without a write: it may have superseded one
// that wrote something, or let go of an object that another application took over or
// somebody had deleted.

// deployment is one that is under way. It belongs to the worker of its application.
type deployment struct {
	id       string // of the record of its start
	began    time.Time
	project  string
	actor    string
	repo     string
	revision string // "" for one that clears a cluster
	objects  []belay.ObjectResult
	at       map[resultKey]int // in objects
	// found is true for one of an earlier life of the process; failure is then how
	// it was told to stand, if it had failed.
	found   bool
	failure string
	// doubtful is true where more may be to write than was recorded at its start.
	doubtful  bool
	confirmed bool // that deletions of it were confirmed was told
}

type resultKey struct {
	id   belay.ObjectID
	hook belay.HookPhase
}

// owner is an application in a cluster.
type owner struct{ cluster, application string }

// clears says whether it only takes away what an application left behind.
func (d *deployment) clears() bool { return d.revision == "" }

func (d *deployment) add(o belay.ObjectResult) *belay.ObjectResult {
	if d.at == nil {
		d.at = map[resultKey]int{}
	}
	k := resultKey{o.ID, o.Hook}
	if i, ok := d.at[k]; ok {
		return &d.objects[i]
	}
	d.at[k] = len(d.objects)
	d.objects = append(d.objects, o)
	return &d.objects[len(d.objects)-1]
}

func resultOf(act *belay.Action) belay.ObjectResult {
	o := belay.ObjectResult{Verb: act.Verb, ID: act.ID, Hook: act.Hook}
	if act.Desired != nil {
		o.Digest = act.Desired.Digest
	}
	return o
}

// note keeps what became of a write. That the object of a hook was written says
// nothing of the hook, and that one was cleared away is no result.
func (d *deployment) note(act *belay.Action, err error, took time.Duration) {
	if act.Hook != "" && act.Desired == nil {
		return
	}
	o := d.add(resultOf(act))
	o.Seconds += took.Seconds()
	if o.Verb != belay.VerbRecreate { // which is a deletion, and a creation after it
		o.Verb = act.Verb
	}
	switch {
	case err != nil:
		o.Result, o.Error = belay.Failed, asError(err, "").Message
	case act.Hook != "" || act.Verb == belay.VerbRecreate:
		o.Result, o.Error = "", ""
	default:
		o.Result, o.Error = belay.Succeeded, ""
	}
}

// noteHook keeps how a hook ended.
func (d *deployment) noteHook(k hookKey, err *belay.Error) {
	o := d.add(belay.ObjectResult{Verb: belay.VerbCreate, ID: k.id, Hook: k.phase})
	if o.Result, o.Error = belay.Succeeded, ""; err != nil {
		o.Result, o.Error = belay.Failed, err.Message
	}
}

// deploymentOf is one of the record.
func deploymentOf(d *belay.Deployment) *deployment {
	out := &deployment{id: d.ID, began: d.Started, project: d.Project, actor: d.Actor, repo: d.Repo, revision: d.Revision, found: true, doubtful: true}
	if d.Result == belay.Failed {
		out.failure = d.Message
	}
	for _, o := range d.Objects {
		out.add(o)
	}
	return out
}

// underway is the deployment of an application in a cluster; nil for none.
func (e *Engine) underway(a *app, clusterName string) *deployment {
	if d := a.running[clusterName]; d != nil {
		return d
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.takeUp(a, clusterName)
}

func (a *app) deploys(clusterName string, d *deployment) {
	if a.running == nil {
		a.running = map[string]*deployment{}
	}
	a.running[clusterName] = d
}

// deployment is the name of the one under way; "" for none.
func (t *target) deployment() string {
	if d := t.app.running[t.cluster]; d != nil {
		return d.id
	}
	return ""
}

// actor is whose commit is carried out, or who had it done.
func (t *target) actor() string {
	if d := t.app.running[t.cluster]; d != nil && t.rev.Author == "" {
		return d.actor
	}
	return t.rev.Author
}

// reconsider ends deployments that have nothing to reach any more: of an earlier
// life for another state than the one desired now, in a cluster that the
// application was moved away from, or a deletion of what Git took back.
func (e *Engine) reconsider(t *target) {
	a := t.app
	e.takeUpElsewhere(a, t.cluster)
	for name, d := range a.running {
		switch {
		case name == t.cluster:
		case !d.clears():
			e.supersedeIn(a, name, d, fmt.Sprintf("it was moved to cluster %q", t.cluster))
		case !e.declares(name):
			e.supersedeIn(a, name, d, undeclared(name))
		}
	}
	first := a.running[t.cluster] == nil
	if d := e.underway(a, t.cluster); d != nil && (d.clears() || first && !d.meant(t)) {
		e.supersedeBy(t, d)
	}
}

// declares says whether Git declares a cluster.
func (e *Engine) declares(clusterName string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clusters[clusterName] != nil
}

// undeclared says that nothing is to be reached in a cluster.
func undeclared(clusterName string) string {
	return fmt.Sprintf("cluster %q is not declared any more", clusterName)
}

// meant says whether everything that a deployment was to write is still desired.
func (d *deployment) meant(t *target) bool {
	if d.clears() {
		return false
	}
	want, home := t.desired, belay.ObjectID{Kind: "Namespace", Name: t.def.Spec.Destination.Namespace}
	digests := make(map[belay.ObjectID]string, len(want.objects)+len(want.hooks))
	for _, list := range [][]declared{want.objects, want.hooks} {
		for i := range list {
			digests[list[i].id] = list[i].digest
		}
	}
	for i := range d.objects {
		o := &d.objects[i]
		digest, ok := digests[o.ID]
		if !ok && o.ID == home && t.def.Spec.Sync.CreateNamespace {
			continue // its labels and annotations; the cluster tells whether they are right
		}
		if !ok && slices.ContainsFunc(want.unresolvedIDs(), func(id belay.ObjectID) bool { return id.Name == o.ID.Name && id.Kind == o.ID.Kind }) {
			continue // how it is spelled shows when it can be placed
		}
		if deletes := o.Digest == ""; deletes == ok || digest != o.Digest {
			return false
		}
	}
	return true
}

func (d *desired) unresolvedIDs() []belay.ObjectID {
	var out []belay.ObjectID
	for i := range d.unresolved {
		out = append(out, d.unresolved[i].Object.ID)
	}
	for i := range d.unplaced {
		out = append(out, d.unplaced[i].Object.ID)
	}
	return out
}

// covers says whether the record of a deployment's start tells of all that is
// about to be written.
func (d *deployment) covers(a *app, run []belay.Action) bool {
	for i := range run {
		act := &run[i]
		if act.Verb == belay.VerbHeal || act.Hook != "" && act.Desired == nil || a.undone(act) {
			continue
		}
		k, ok := d.at[resultKey{act.ID, act.Hook}]
		if !ok || d.objects[k].Digest != resultOf(act).Digest {
			return false
		}
	}
	return true
}

// begin has on the record what is about to be written, before it is: the start of
// a deployment, if none is under way. On an error nothing may be written.
func (e *Engine) begin(ctx context.Context, t *target, p *belay.Plan, run []belay.Action) error {
	a := t.app
	d := e.underway(a, t.cluster)
	switch {
	case d == nil:
	case d.clears() != t.ordered:
		e.supersedeIn(a, t.cluster, d, "what Git declares is something else now")
		d = nil
	case d.doubtful && !d.covers(a, run):
		e.supersedeBy(t, d)
		d = nil
	}
	if d == nil {
		todo := e.todo(t, p)
		if todo == "" {
			return e.beginClearing(ctx, t, run)
		}
		var err error
		if d, err = e.start(ctx, t, p, todo); err != nil {
			return err
		}
		e.watchFrom(t)
		e.Checkpoint("begin")
	}
	a.effort.start(t.planned)
	if token := cmp.Or(p.Confirmed, t.confirmed); token != "" && !d.confirmed && slices.ContainsFunc(run, deletes) {
		d.confirmed = true
		e.tellConfirmed(ctx, t, p, token)
	}
	return nil
}

func deletes(act belay.Action) bool { return act.Verb == belay.VerbDelete && act.Hook == "" }

// todo says in words what a plan is to do; "" if it only sets back what had been
// reached: that is told as drift and healed.
func (e *Engine) todo(t *target, p *belay.Plan) string {
	writes, deletes, hooks, healing := 0, 0, 0, !t.ordered
	for i := range p.Actions {
		switch {
		case p.Actions[i].Hook != "":
			hooks++
			healing = healing && !t.app.hooks.begun
			continue
		case p.Actions[i].Blocked != nil:
		case p.Actions[i].Verb == belay.VerbDelete:
			deletes++
		default:
			writes++
		}
		healing = healing && (p.Actions[i].Verb == belay.VerbHeal || t.app.undone(&p.Actions[i]))
	}
	if healing {
		return ""
	}
	var todo []string
	if writes > 0 {
		todo = append(todo, fmt.Sprintf("%d of %s to write", writes, count(len(t.desired.objects), "object")))
	}
	if deletes > 0 {
		todo = append(todo, count(deletes, "object")+" to delete")
	}
	if hooks > 0 {
		todo = append(todo, count(hooks, "hook")+" to run")
	}
	if len(todo) == 0 {
		todo = append(todo, "hooks to run")
	}
	msg := "removed from Git: "
	if t.rev.Commit != "" {
		msg = fmt.Sprintf("sync to %s: ", t.rev.Short())
	}
	return msg + strings.Join(todo, ", ")
}

// start records that a deployment begins.
func (e *Engine) start(ctx context.Context, t *target, p *belay.Plan, message string) (*deployment, error) {
	a := t.app
	d := &deployment{began: time.Now(), repo: t.rev.Repo, revision: t.rev.Commit}
	for i := range p.Actions {
		if act := &p.Actions[i]; act.Hook == "" || act.Desired != nil {
			d.add(resultOf(act))
		}
	}
	e.mu.Lock()
	who := a.asked
	e.mu.Unlock()
	b := e.brings(ctx, t)
	ev := belay.Event{Type: belay.EventSyncStarted, Time: d.began, Application: a.name, Cluster: t.cluster, Project: t.def.Spec.Project, Repo: t.rev.Repo,
		Revision: t.rev.Commit, Change: t.change, Actor: t.rev.Author, Message: message, Plan: p.Digest,
		Detail: &belay.Detail{Commits: b.commits, MoreCommits: b.more, Previous: b.previous, Sources: e.sourcesOf(t), Objects: slices.Clone(d.objects)}}
	if len(b.commits) > 0 {
		ev.Actor = b.commits[0].Author
	}
	if who != nil {
		ev.Actor, ev.Reason = who.actor, who.reason
	}
	if h := t.held; h != nil {
		ev.Actor, ev.Reason, ev.Change = h.By, h.Reason, h.Config
	}
	var err error
	if d.id, err = e.record(ctx, ev); err != nil {
		return nil, err
	}
	d.project, d.actor = ev.Project, ev.Actor
	a.deploys(t.cluster, d)
	e.brought(a, b)
	return d, nil
}

// sourcesOf are the revisions of everything that a target is made of, that of its
// first source first.
func (e *Engine) sourcesOf(t *target) []belay.SourceRevision {
	if t.rev.Commit == "" {
		return nil
	}
	out := []belay.SourceRevision{{Repo: t.ref.url, Ref: t.ref.ref, Name: t.rev.Name, Revision: t.rev.Commit}}
	for k, rev := range t.at {
		if k != t.ref && rev.Commit != "" {
			out = append(out, belay.SourceRevision{Repo: k.url, Ref: k.ref, Name: rev.Name, Revision: rev.Commit})
		}
	}
	slices.SortFunc(out[1:], func(x, y belay.SourceRevision) int { return strings.Compare(x.Repo+" "+x.Ref, y.Repo+" "+y.Ref) })
	return out
}

// beginClearing records that objects of hooks are deleted where no deployment is
// under way: nothing else tells of that. A drift was recorded where it was seen.
func (e *Engine) beginClearing(ctx context.Context, t *target, run []belay.Action) error {
	var names []string
	for i := range run {
		act := &run[i]
		f := t.app.fails[act.ID] // what is tried again was told
		if act.Hook != "" && act.Desired == nil && (f == nil || f.digest != actionDigest(act)) {
			names = append(names, act.ID.String())
		}
	}
	if len(names) == 0 {
		return nil
	}
	_, err := e.record(ctx, belay.Event{Type: belay.EventHook, Application: t.app.name, Cluster: t.cluster, Repo: t.rev.Repo, Revision: t.rev.Commit,
		Message: "objects of hooks that have run are cleared away: " + some(names)})
	return err
}

// ended tells the end of a deployment.
func (e *Engine) ended(a *app, clusterName string, d *deployment, ev belay.Event) {
	delete(a.running, clusterName)
	if ev.Result == belay.Superseded && (ev.Detail == nil || !ev.Detail.Cleared) {
		a.owes(clusterName)
	} else {
		delete(a.owing, clusterName)
	}
	e.tellEnd(owner{clusterName, a.name}, d, ev)
	e.Checkpoint("ended")
}

func (e *Engine) tellEnd(of owner, d *deployment, ev belay.Event) {
	ev.Application, ev.Cluster, ev.Deployment = of.application, of.cluster, d.id
	ev.Seconds = time.Since(d.began).Seconds()
	ev.Project, ev.Actor = cmp.Or(ev.Project, d.project), cmp.Or(ev.Actor, d.actor)
	if ev.Detail == nil {
		ev.Detail = &belay.Detail{}
	}
	ev.Detail.Objects = slices.Clone(d.objects)
	if d.found {
		ev.Message = "after a restart: " + ev.Message
	}
	e.publish(ev)
}

// takePlace begins a deployment that has nothing to write where the record has
// something else of the application than the cluster; nil where none is called for,
// or where it cannot be recorded now.
func (e *Engine) takePlace(ctx context.Context, t *target) *deployment {
	a := t.app
	if !a.owing[t.cluster] && (a.synced == t.desired.digest || a.recordedAs(t.desired)) {
		return nil
	}
	a.owes(t.cluster)
	d, err := e.start(ctx, t, &belay.Plan{}, fmt.Sprintf("sync to %s: nothing is left to write", t.rev.Short()))
	if err != nil {
		e.Logger.Warn("deployment not recorded", "application", a.name, "cluster", t.cluster, "error", err)
		e.putBack(a)
	}
	return d
}

// takeAway begins a deletion that has nothing to delete: somebody did that, or a
// deployment that was superseded.
func (e *Engine) takeAway(ctx context.Context, a *app, clusterName string, conn Cluster) (*deployment, error) {
	t := &target{app: a, def: e.lastDef(a), cluster: clusterName, conn: conn, desired: &desired{}, ordered: true}
	return e.start(ctx, t, &belay.Plan{}, "removed from Git: nothing is left to delete")
}

// succeeded ends a deployment that has reached what it was for.
func (e *Engine) succeeded(ctx context.Context, t *target, d *deployment) {
	for i := range d.objects {
		if o := &d.objects[i]; o.Result != belay.Succeeded { // it is as it should be, whoever did that
			o.Result, o.Error = belay.Succeeded, ""
		}
	}
	ev := belay.Event{Type: belay.EventSynced, Result: belay.Succeeded, Project: t.def.Spec.Project, Repo: t.rev.Repo, Revision: t.rev.Commit, Actor: t.rev.Author,
		Message: fmt.Sprintf("synced to %s: %s", t.rev.Short(), count(len(t.desired.objects), "object")), Detail: &belay.Detail{}}
	var err error
	if ev.Detail.Manifests, ev.Detail.Complete, err = e.manifests(ctx, t); err != nil {
		e.Logger.Warn("manifests not recorded", "application", t.app.name, "cluster", t.cluster, "error", err)
	}
	e.ended(t.app, t.cluster, d, ev)
}

// supersedeBy ends a deployment whose place the target takes.
func (e *Engine) supersedeBy(t *target, d *deployment) {
	successor := t.rev.Short()
	if d.revision == t.rev.Commit {
		successor = "what its definition or another source says now"
	}
	e.supersedeIn(t.app, t.cluster, d, successor+" takes its place")
}

func (e *Engine) supersedeIn(a *app, clusterName string, d *deployment, why string) {
	e.ended(a, clusterName, d, superseded(d, why))
}

func superseded(d *deployment, why string) belay.Event {
	what := "the sync to " + shortCommit(d.revision)
	if d.clears() {
		what = "the deletion"
	}
	return belay.Event{Type: belay.EventSuperseded, Result: belay.Superseded, Repo: d.repo, Revision: d.revision,
		Message: fmt.Sprintf("%s was not finished; %s", what, why)}
}

// cleared ends what was under way in a cluster where nothing of an application is
// left to delete. The record then has no manifest of it any more, and should Git
// declare it again before it is forgotten, everything begins anew. What cannot be
// recorded counts as one object that is left.
func (e *Engine) cleared(ctx context.Context, a *app, clusterName string, conn Cluster) (left int, err error) {
	d := e.underway(a, clusterName)
	if d == nil && (a.owing[clusterName] || a.cluster == clusterName && !a.recordedAs(&desired{})) {
		if d, err = e.takeAway(ctx, a, clusterName, conn); err != nil {
			e.putBack(a)
			return 1, err
		}
	}
	if a.cluster == clusterName {
		e.mu.Lock()
		a.forgetDone()
		e.mu.Unlock()
	}
	if d == nil {
		return 0, nil
	}
	if !d.clears() {
		ev := superseded(d, "it was removed from Git")
		ev.Detail = &belay.Detail{Cleared: true}
		e.ended(a, clusterName, d, ev)
		return 0, nil
	}
	for i := range d.objects {
		if o := &d.objects[i]; o.Result == "" {
			o.Result = belay.Succeeded
		}
	}
	msg := "all of its objects are deleted"
	if n := len(conn.Live(a.name)); n > 0 {
		msg = fmt.Sprintf("deleted, but for %s that are to stay", count(n, "object"))
	}
	e.ended(a, clusterName, d, belay.Event{Type: belay.EventSynced, Result: belay.Succeeded, Message: msg, Detail: &belay.Detail{Cleared: true}})
	return 0, nil
}
