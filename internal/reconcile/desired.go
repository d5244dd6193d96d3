package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// target is what one pass works towards: fixed at its start.
type target struct {
	app     *app
	def     *belay.Application
	project *belay.Project
	cluster string
	conn    Cluster
	// ref is what the application followed when the pass began; app.ref may move on.
	ref     refKey
	rev     belay.Revision
	desired *desired
	// change is the commit of the definitions that the pass goes by.
	change string
	// at is where every ref stands in this pass, that of the first source included.
	// A render adds what it finds: reads by ref, the refs that files name, and those
	// that the project does not allow.
	at      map[refKey]belay.Revision
	reads   map[refKey][]belay.Read
	found   []refKey
	refused map[refKey]bool
	// final is true for the last render of an application that left Git: nothing new
	// is followed for it.
	final bool

	// planned is when the plan at hand was made, failed what it puts off because it
	// failed, retryAt when the first of what it puts off may run; zero if time
	// brings nothing.
	planned, retryAt time.Time
	failed           map[belay.ObjectID]bool

	// What may not run, and why, as far as it is known of the plan at hand.
	override *override
	asked    *asked  // who asked for the sync, when the pass began
	barred   bool    // a rule keeps something from being written
	outside  *string // of which window it is; nil before it was asked
	unready  *string // what the dependencies lack; nil before it was asked
	lacks    string  // the first dependency that unready is about

	// foreseen is who declares what in the state that is previewed; nil for a sync.
	foreseen *foreseen

	// uncleared is true where objects of hooks are to go and are still there.
	uncleared bool

	// beside is what went wrong with something that no plan has.
	beside *belay.Error

	// unkept is why the namespace is not what is declared for it; "" where it is.
	unkept string

	// confirmed is the token in Git without which nothing would be deleted.
	confirmed string
	// unrecorded is why nothing is written: it could not be recorded.
	unrecorded *belay.Error

	// denied is the newest commit of ref, where it may not be deployed.
	denied string

	// held is the hold that the pass is about; nil for what Git says.
	held *hold

	// asOf says where a ref stood, for a render of an earlier state; nil for now.
	asOf func(refKey) (belay.Revision, error)

	// ordered is true where leaving Git is the order, automatic sync or not.
	ordered bool

	// hookStates is how far the hooks are; nil where that was not looked at.
	hookStates map[belay.ObjectID]belay.HookState
}

// newPlan forgets what was known of the plan before.
func (t *target) newPlan() {
	t.planned, t.retryAt, t.failed = time.Now(), time.Time{}, map[belay.ObjectID]bool{}
	t.barred, t.outside, t.unready, t.uncleared = false, nil, nil, false
}

// renderDesired brings the desired state of an application to a revision, if
// what it was made from changed. On failure the earlier desired state stays.
func (e *Engine) renderDesired(ctx context.Context, t *target) (*desired, error) {
	a, facts := t.app, t.conn.Facts()
	e.mu.Lock()
	spec := t.specDigest()
	d, dirty, renderErr, commit := a.desired, a.dirty, a.renderErr, a.commit
	stale := d == nil || dirty || d.spec != spec || (d.facts != facts.Digest && (d.usesFacts || len(d.unresolved)+len(d.unplaced) > 0))
	tried := spec + " " + facts.Digest
	same := renderErr != nil && a.tried == tried
	if renderErr != nil && !dirty { // it fails again, unless it is tried with something else
		stale = !same
	}
	if same && a.cannot && time.Now().Before(a.notBefore) { // who is woken meanwhile has nothing new to try
		e.mu.Unlock()
		return d, renderErr
	}
	a.dirty, a.rendering, a.cannot = false, stale, false
	if !stale && renderErr == nil {
		e.readable(a)
	}
	e.mu.Unlock()
	if !stale {
		return d, renderErr
	}
	if !dirty && commit != "" && renderErr == nil {
		t.rev.Commit = commit // only the cluster changed
		stayAt(t)
	}
	nd, objects, reads, err := e.render(ctx, t, &facts, false)
	err = placed(err, t.def)
	e.Checkpoint("rendered")
	var good *goodState
	if again := same && mayPass(err); err != nil && d == nil && belay.CodeOf(err) != belay.CodeUnavailable && !again {
		good = e.lastGood(ctx, t, &facts)
	}
	newest := e.newestCommits(t)
	e.mu.Lock()
	defer e.mu.Unlock()
	a.read, a.rendering = true, false
	if a.def == nil {
		return nil, nil // it left Git meanwhile
	}
	if err == nil {
		e.readable(a)
	}
	a.notBefore = time.Time{}
	if err != nil && mayPass(err) {
		a.dirty, a.cannot = true, true // the same commit may render next time
		if _, costly := errors.AsType[expensive](err); costly || belay.CodeOf(err) == belay.CodeInternal {
			a.tries.count++
			a.notBefore = time.Now().Add(pauseAfter(err, a.tries.count, backoffFirst))
		}
	}
	// What a failed render read says which commit may mend it.
	a.renderErr, a.tried, a.commit, a.indexed = err, tried, t.rev.Commit, len(reads) > 0
	if a.ref == t.ref {
		e.noteReads(t, err != nil, newest)
	}
	spec = t.specDigest()
	a.tried = spec + " " + facts.Digest
	if err != nil && good == nil {
		return d, err
	}
	madeOf := t.def
	if good != nil {
		nd, objects, madeOf = good.desired, good.objects, good.def
	}
	if madeOf != a.def {
		nd.def = madeOf
	}
	nd.spec, nd.also = spec, a.kept
	var old []declared
	if d != nil {
		old = d.claimed()
	}
	if d == nil || !slices.EqualFunc(old, nd.claimed(), func(a, b declared) bool { return a.id == b.id }) {
		e.learned()
	}
	for cluster, cl := range e.claims {
		now := nd.claimed()
		if cluster != t.cluster {
			now = nil // where it was delivered to before
		}
		for other := range cl.replace(a.name, old, now) {
			e.wake(other)
		}
	}
	if d != nil && d.digest == nd.digest && len(d.unresolved) == 0 && len(nd.unresolved) == 0 {
		nd.kinds = d.kinds
	}
	a.desired = nd
	a.forgetUndeclared(nd)
	e.hot.put(a.name, nd.digest, objects)
	return nd, err
}

// renderLater has the application woken to try again what did not render.
func (e *Engine) renderLater(a *app, err error) {
	if !mayPass(err) {
		return // a commit mends it
	}
	pause := time.Until(a.notBefore)
	if pause <= 0 {
		a.tries.count++
		pause = backoff(a.tries.count)
	}
	e.queue.addAfter(key{keyApp, a.name}, pause)
}

// lookedBack is how many commits lastGood tries at most.
const lookedBack = 20

// goodState is what an application meant at an earlier commit, and the definition that
// it is made of.
type goodState struct {
	desired *desired
	objects []belay.Object
	def     *belay.Application
}

// lastGood is for a process that starts at a commit that does not render: what
// the application meant at the last one that did, which is what the process
// before it kept to; nil if there is none.
func (e *Engine) lastGood(ctx context.Context, t *target, facts *belay.ClusterFacts) *goodState {
	commits, err := e.Sources.History(ctx, t.ref.url, t.rev.Commit, []string{"."}, lookedBack)
	if err != nil {
		e.Logger.Warn("history not read", "repo", t.ref.url, "error", err)
		return nil
	}
	at := *t
	for _, c := range commits {
		if c == t.rev.Commit || !e.mayDeploy(ctx, t.ref, c) {
			continue
		}
		if at.def = e.definedBeside(ctx, t, c); at.def == nil {
			continue
		}
		at.rev.Commit, at.at = c, maps.Clone(t.at)
		if d, objects, _, err := e.render(ctx, &at, facts, false); err == nil {
			return &goodState{d, objects, at.def}
		}
	}
	return nil
}

// definedBeside is the definition that goes with the files of an earlier commit: what
// one commit says in both belongs together. It is nil where that commit defines no such
// application, or one for another cluster or of another source. The project is
// the one of today, as its limits are.
func (e *Engine) definedBeside(ctx context.Context, t *target, commit string) *belay.Application {
	if !e.isConfig(t.ref) || e.sameFile(ctx, commit, t.rev.Commit, t.def.Origin.File) {
		return t.def
	}
	was, err := e.definedAt(ctx, commit, t.def.Name)
	if err != nil {
		return nil
	}
	was.Spec.Project = t.def.Spec.Project
	if was.Spec.Destination.Cluster != t.cluster || refsOf(was, e.catalogInForce())[0] != t.ref {
		return nil
	}
	return was
}

// sameFile says whether a file of the definitions is the same at two commits.
func (e *Engine) sameFile(ctx context.Context, one, other, file string) bool {
	var sums [2]string
	for i, c := range []string{one, other} {
		files, err := e.Sources.Open(ctx, e.Repo, c)
		if err != nil {
			return false
		}
		if sums[i], err = files.Digest(belay.ReadFile, file); err != nil {
			return false
		}
	}
	return sums[0] == sums[1]
}

// render makes the desired state anew.
func (e *Engine) render(ctx context.Context, t *target, facts *belay.ClusterFacts, full bool) (*desired, []belay.Object, []belay.Read, error) {
	out, err := e.renderSources(ctx, t, facts, full)
	if err != nil {
		return nil, nil, out.Reads, err
	}
	scopes := plan.NewScopes(facts, out.Objects)
	objects, unresolved := plan.Resolve(out.Objects, scopes, t.def.Spec.Destination.Namespace)
	d := &desired{rendered: t.rev.Commit, at: e.sharedAt.of(t.at), facts: facts.Digest, usesFacts: out.UsesCapabilities, unresolved: unresolved, warnings: out.Warnings}
	var sum strings.Builder
	for i := range objects {
		o := &objects[i]
		// The commit is the application's, not each object's; what is stamped must
		// not change with it.
		if *o, err = plan.Stamp(*o, t.def.Name, e.Instance, t.def.Spec.Sync.IgnoreDifferences...); err != nil {
			return nil, nil, out.Reads, &belay.Error{Code: belay.CodeInvalid, Message: err.Error(), Origin: o.Origin, Application: t.def.Name}
		}
		d.objects = append(d.objects, declared{id: o.ID, apiVersion: o.APIVersion, digest: o.Digest, wave: o.Wave, hook: o.Hook, origin: o.Origin})
		sum.WriteString(o.Digest)
		vk := belay.VersionKind{APIVersion: o.APIVersion, Kind: o.ID.Kind}
		if !slices.Contains(d.kinds, vk) {
			d.kinds = append(d.kinds, vk)
		}
	}
	d.digest = belay.Digest([]byte(sum.String()))
	d.takeHooks(out.Objects, t.def.Spec.Destination.Namespace, e.SecretKey)
	return d, objects, out.Reads, nil
}

// objects are the manifests of the desired state, from memory or made again. full
// asks for secret values too.
func (e *Engine) objects(ctx context.Context, t *target, full bool) ([]belay.Object, error) {
	e.mu.Lock()
	objs, ok := e.hot.get(t.app.name, t.desired.digest)
	e.mu.Unlock()
	if ok && !(full && slices.ContainsFunc(objs, func(o belay.Object) bool { return o.Redacted })) {
		return objs, nil
	}
	facts := t.conn.Facts()
	at := *t
	e.mu.Lock()
	if made := t.desired.def; made != nil {
		at.def, at.ref = made, refsOf(made, e.catalog)[0]
	}
	e.mu.Unlock()
	if rev, ok := t.desired.at[at.ref]; ok {
		at.rev = rev
	}
	at.rev.Commit, at.at = t.desired.rendered, maps.Clone(t.desired.at)
	d, objs, _, err := e.render(ctx, &at, &facts, full)
	if err != nil {
		return nil, err
	}
	if d.digest != t.desired.digest {
		e.mu.Lock()
		t.app.dirty, t.app.cannot = true, true
		e.mu.Unlock()
		return nil, &belay.Error{Code: belay.CodeUnavailable, Application: t.app.name,
			Message: "rendering the same commit again gave other objects", Hint: "look for random values or dates in its templates"}
	}
	e.mu.Lock()
	e.hot.put(t.app.name, d.digest, objs)
	e.mu.Unlock()
	return objs, nil
}

// specDigest identifies what of a definition a render depends on, and what its
// project says of it. Called with e.mu.
func (t *target) specDigest() string {
	def := t.def
	var rules []belay.SourceRule
	var keys *belay.Decryption
	if t.project != nil {
		keys, rules = t.project.Spec.Decryption, t.project.Spec.Sources
	}
	b, err := json.Marshal(struct {
		S []belay.Source
		R []belay.SourceRule `json:",omitempty"`
		N string
		C string
		P []belay.Patch
		V *belay.Variables
		D *belay.Decryption
		I []belay.IgnoreRule `json:",omitempty"`
	}{def.Spec.AllSources(), rules, def.Spec.Destination.Namespace, def.Spec.Destination.Cluster, def.Spec.Patches, def.Spec.Variables, keys,
		def.Spec.Sync.IgnoreDifferences})
	if err != nil {
		return fmt.Sprint(err) // values of YAML always encode
	}
	return belay.Digest(b)
}

// placed gives an error that is of no file the place of the definition: what it
// says is what has to be changed.
func placed(err error, def *belay.Application) error {
	be, ok := errors.AsType[*belay.Error](err)
	if !ok || be.Origin.File != "" || be.Code == belay.CodeUnavailable {
		return err
	}
	c := *be
	c.Origin = def.Origin
	return &c
}

// asError gives any error the shape users see.
func asError(err error, app string) *belay.Error {
	if be, ok := errors.AsType[*belay.Error](err); ok {
		c := *be
		c.Err = err
		if c.Application == "" {
			c.Application = app
		}
		return &c
	}
	return &belay.Error{Code: belay.CodeInternal, Message: err.Error(), Application: app, Err: err}
}
