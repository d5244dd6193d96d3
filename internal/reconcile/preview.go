package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/plan"
)

// Plan says what would change in the clusters now, application by application,
// and writes nothing. An application that cannot be planned comes back with its
// error in Preview.Errors; the others go on.
func (e *Engine) Plan(ctx context.Context, req belay.PlanRequest) ([]belay.Preview, error) {
	if e.DryRun {
		e.recallLeft(ctx)
	}
	v, err := e.viewOf(ctx, req.Revision)
	if err != nil {
		return nil, err
	}
	subjects, err := e.subjects(v, req)
	if err != nil {
		return nil, err
	}
	var f *foreseen
	if req.Revision != "" || req.Rendered != nil {
		f = e.foreseeClaims(ctx, v, subjects)
	}
	if len(req.Applications) > 0 { // it takes all of them to tell a move from a deletion
		f = nil
	}
	out := make([]belay.Preview, len(subjects))
	leaving, patience := e.foreseeRemovals(v, req), listPatience
	for i, s := range subjects {
		s.held, s.kept = leaving.byFleet[s.def.Name], leaving.bySet[s.def.Name]
		p, err := e.previewOne(ctx, v, s, f, &patience)
		if err != nil {
			p.Errors = append(p.Errors, *asError(err, s.def.Name))
		}
		out[i] = p
	}
	return out, nil
}

// view is what a preview takes for declared: what is followed, or another commit
// of the repository with the definitions.
type view struct {
	catalog *catalog.Catalog
	rev     belay.Revision // of another commit; else zero
	// at says where a ref stands in it that stands somewhere now; nil where now is meant.
	at func(k refKey, now belay.Revision) belay.Revision
}

func (e *Engine) viewOf(ctx context.Context, revision string) (view, error) {
	e.mu.Lock()
	v := view{catalog: e.catalog}
	e.mu.Unlock()
	if v.catalog == nil {
		return v, &belay.Error{Code: belay.CodeUnavailable, Message: "the definitions are not loaded yet", Hint: "try again in a moment"}
	}
	if revision == "" {
		return v, nil
	}
	var err error
	if v.rev, err = RevisionOf(ctx, e.Sources, e.Committer, e.Repo, e.Ref, revision); err != nil {
		return v, err
	}
	v.catalog, err = e.readCatalog(ctx, v.rev, v.catalog)
	return v, err
}

// at is the commit that an application is rendered from in a view.
func (e *Engine) at(ctx context.Context, v view, k refKey) (belay.Revision, error) {
	if v.rev.Commit != "" && e.isConfig(k) {
		return v.rev, nil
	}
	rev, err := e.revision(ctx, k)
	if rev.Commit == "" && v.rev.Commit != "" { // nobody follows it yet
		rev, err = e.Sources.Resolve(ctx, k.url, k.ref)
	}
	if v.at != nil && rev.Commit != "" {
		rev = v.at(k, rev)
	}
	return rev, err
}

// subject is one application to preview.
type subject struct {
	def     *belay.Application
	ref     refKey
	refs    []refKey       // of all sources
	gone    bool           // a view does not declare it
	held    *belay.Error   // and why it stays for now, if it does
	kept    *belay.Error   // why its set declares it all the same, if it does
	given   bool           // objects were rendered elsewhere
	objects []belay.Object // of it, or, if it is gone, of all others
}

// stays says whether its set declares it all the same.
func (s *subject) stays() bool { return s.kept != nil }

func (e *Engine) subjects(v view, req belay.PlanRequest) ([]subject, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []subject
	asked := func(name string) bool { return len(req.Applications) == 0 || slices.Contains(req.Applications, name) }
	found := map[string]bool{}
	add := func(s subject) {
		if asked(s.def.Name) && (e.OnlyCluster == "" || s.def.Spec.Destination.Cluster == e.OnlyCluster) {
			found[s.def.Name] = true
			out = append(out, s)
		}
	}
	for i := range req.Rendered {
		r := &req.Rendered[i]
		add(subject{def: &r.Application, given: true, objects: r.Objects})
	}
	for name, a := range e.apps {
		if def := a.meant(); len(req.Declared) > 0 && def != nil && !slices.Contains(req.Declared, name) {
			add(subject{def: def, gone: true, objects: declaredIn(req.Rendered, def.Spec.Destination.Cluster)})
		}
	}
	if req.Rendered == nil && len(req.Declared) == 0 {
		for _, def := range v.catalog.Applications {
			refs := refsOf(&def, v.catalog)
			add(subject{def: &def, ref: refs[0], refs: refs})
		}
		for name, a := range e.apps {
			if _, ok := v.catalog.Applications[name]; !ok && a.meant() != nil {
				add(subject{def: a.meant(), gone: true})
			}
		}
	}
	for _, name := range req.Applications {
		if !found[name] {
			return nil, belay.NoSuch("application", name, slices.Sorted(maps.Keys(v.catalog.Applications)), "belay status lists them")
		}
	}
	slices.SortFunc(out, func(a, b subject) int { return strings.Compare(a.def.Name, b.def.Name) })
	return out, nil
}

// foreseen is who declares what once the previewed state is there. What an
// application declares now counts for those alone that are not previewed.
type foreseen struct {
	apps   map[string]bool
	claims map[string]*claims // by cluster
}

// foreseeClaims works out what all subjects will declare before the first of them is
// planned: an object that moves from one to another is no deletion, and a kind that
// cannot be listed holds up no other. One that cannot be worked out keeps what it
// declares now, as in a sync.
func (e *Engine) foreseeClaims(ctx context.Context, v view, subjects []subject) *foreseen {
	f := &foreseen{apps: map[string]bool{}, claims: map[string]*claims{}}
	for _, s := range subjects {
		name, cluster := s.def.Name, s.def.Spec.Destination.Cluster
		if s.gone {
			f.apps[name] = true
			continue
		}
		t, _, err := e.previewTarget(ctx, v, s)
		if err != nil || t == nil {
			continue // said when its turn comes
		}
		objs, err := e.previewObjects(ctx, t, s)
		if err != nil {
			continue
		}
		t.conn.Observe(kindsOf(objs)) // see awaitListed
		if f.claims[cluster] == nil {
			f.claims[cluster] = newClaims()
		}
		f.apps[name] = true
		f.claims[cluster].replace(name, nil, t.desired.claimed())
	}
	return f
}

// of are the claims on one object. Called with Engine.mu, for now.
func (f *foreseen) of(cluster string, id belay.ObjectID, now *claims) *claims {
	out := newClaims()
	if c := f.claims[cluster]; c != nil {
		out.by[id] = slices.Clone(c.by[id])
	}
	if now != nil {
		for _, c := range now.by[id] {
			if !f.apps[c.app] {
				out.by[id] = append(out.by[id], c)
			}
		}
	}
	return out
}

// previewTarget is what a subject is planned from, without its objects; nil where
// nobody knows its commit.
func (e *Engine) previewTarget(ctx context.Context, v view, s subject) (*target, belay.Preview, error) {
	def, cat := s.def, v.catalog
	out := belay.Preview{Application: def.Name, Set: def.Set, Cluster: def.Spec.Destination.Cluster, Changes: []belay.PreviewChange{}}
	if err := cat.ApplicationErrors[def.Name]; err != nil && !s.given {
		return nil, out, err
	}
	if _, ok := cat.Projects[def.Spec.Project]; !ok && def.Spec.Project != belay.DefaultProject && !s.gone {
		return nil, out, &belay.Error{Code: belay.CodeNotFound, Origin: def.Origin, Message: fmt.Sprintf("project %q is not declared", def.Spec.Project)}
	}
	project := projectOf(cat, def)
	if s.gone {
		var err error
		if project, err = e.lastProject(ctx, newApp(def.Name), def); err != nil {
			return nil, out, err
		}
	}
	// A worker may be at the same application: this target has an app of its own.
	t := &target{app: newApp(def.Name), def: def, ref: s.ref, project: &project, cluster: def.Spec.Destination.Cluster}
	if err := e.connection(t); err != nil {
		return nil, out, err
	}
	if s.gone || s.given {
		return t, out, nil
	}
	rev, err := e.at(ctx, v, s.ref)
	if rev.Commit == "" {
		return nil, out, err
	}
	t.rev, out.Revision = rev, rev.Commit
	t.at = map[refKey]belay.Revision{s.ref: rev}
	for _, k := range s.refs {
		if t.at[k], err = e.at(ctx, v, k); t.at[k].Commit == "" {
			return nil, out, err
		}
	}
	return t, out, nil
}

func (e *Engine) previewOne(ctx context.Context, v view, s subject, f *foreseen, patience *time.Duration) (belay.Preview, error) {
	def, cat := s.def, v.catalog
	t, out, err := e.previewTarget(ctx, v, s)
	if err != nil || t == nil {
		return out, err
	}
	t.foreseen = f
	if s.stays() {
		out.Held, out.Unchanged = s.kept, len(t.conn.Live(def.Name))
		return out, nil
	}
	if s.gone {
		out.Revision = v.rev.Commit
		p := e.teardownPlan(t)
		p.Actions = slices.DeleteFunc(p.Actions, func(a belay.Action) bool { return declares(s.objects, a.ID) })
		out.Digest, out.Held = p.Digest, p.Held
		if held := cmpErr(s.held, e.heldTeardown(def)); held != nil && len(p.Actions) > 0 {
			out.Held = held
		}
		e.previewChanges(ctx, t, &p, &out)
		e.previewLeaving(t, &out)
		out.Waits = e.previewWaits(t, s, &out, time.Now())
		return out, nil
	}
	objs, err := e.previewObjects(ctx, t, s)
	if held := cat.Holds[def.Name]; held != nil && err != nil && belay.CodeOf(err) == belay.CodeNotFound {
		// What its set no longer makes lost its files with that commit.
		out.Held, out.Unchanged = held, len(t.conn.Live(def.Name))
		return out, nil
	}
	if err != nil {
		return out, err
	}
	if err := awaitListed(ctx, t.conn, objs, patience); err != nil {
		return out, err
	}
	objs, _ = plan.SplitHooks(objs)
	p, _ := e.plan(t, objs)
	out.Digest, out.Unchanged, out.Held = p.Digest, p.Unchanged, p.Held
	if h := cat.Holds[def.Name]; h != nil && out.Held == nil {
		out.Held = h
	}
	e.previewChanges(ctx, t, &p, &out)
	e.previewHooks(t, &p, &out)
	out.Waits = e.previewWaits(t, s, &out, time.Now())
	return out, nil
}

func (e *Engine) previewChanges(ctx context.Context, t *target, p *belay.Plan, out *belay.Preview) {
	for _, act := range slices.Concat(p.Actions, p.HeldActions) {
		c := e.previewChange(ctx, t, act)
		if c.Verb == belay.VerbUpdate && c.Diff == "" && c.Error == "" && act.Live.Application == t.def.Name {
			out.Unchanged++ // only our own digest would be renewed
			continue
		}
		out.Changes = append(out.Changes, c)
	}
}

// declaredIn are the objects of applications on one cluster, by what is known of
// their names before anybody asked which kinds have a namespace.
func declaredIn(apps []belay.RenderedApplication, cluster string) []belay.Object {
	var out []belay.Object
	for i := range apps {
		if apps[i].Application.Spec.Destination.Cluster != cluster {
			continue
		}
		for _, o := range apps[i].Objects {
			o.ID.Namespace = cmp.Or(o.ID.Namespace, apps[i].Application.Spec.Destination.Namespace)
			out = append(out, o)
		}
	}
	return out
}

// declares says whether one of such objects is meant by an id.
func declares(objects []belay.Object, id belay.ObjectID) bool {
	return slices.ContainsFunc(objects, func(o belay.Object) bool {
		return o.ID.GroupKind() == id.GroupKind() && o.ID.Name == id.Name && (o.ID.Namespace == id.Namespace || id.Namespace == "")
	})
}

// teardownPlan is what becomes of an application that leaves Git.
func (e *Engine) teardownPlan(t *target) belay.Plan {
	if orphaned(t.def) {
		return belay.Plan{Application: t.def.Name, Cluster: t.cluster}
	}
	return plan.Build(plan.Input{Application: t.def, Project: t.project, Cluster: t.cluster, Live: t.conn.Live(t.def.Name), Lookup: t.conn.Lookup,
		Claimant: func(belay.ObjectID) (string, belay.Origin, bool) { return "", belay.Origin{}, false },
		Claimed:  func(id belay.ObjectID) bool { return e.claimed(t, id) },
		Within:   func(id belay.ObjectID) (belay.ObjectID, string, bool) { return e.within(t, id) }, Teardown: true})
}

func (e *Engine) previewObjects(ctx context.Context, t *target, s subject) ([]belay.Object, error) {
	facts := t.conn.Facts()
	var objs []belay.Object
	if s.given {
		given := slices.Clone(s.objects)
		for i := range given {
			if o := &given[i]; o.Sensitive() { // keyed by whoever rendered it
				o.Digest = belay.KeyedDigest(e.SecretKey, o.Raw)
			}
		}
		out, unresolved := plan.Resolve(given, plan.NewScopes(&facts, given), t.def.Spec.Destination.Namespace)
		for i := range out {
			var err error
			if out[i], err = plan.Stamp(out[i], t.def.Name, e.Instance, t.def.Spec.Sync.IgnoreDifferences...); err != nil {
				return nil, &belay.Error{Code: belay.CodeInvalid, Message: err.Error(), Origin: out[i].Origin}
			}
		}
		objs, t.desired = out, &desired{unresolved: unresolved}
		for i := range out {
			t.desired.objects = append(t.desired.objects, declared{id: out[i].ID, wave: out[i].Wave, hook: out[i].Hook, origin: out[i].Origin})
		}
		t.desired.takeHooks(given, t.def.Spec.Destination.Namespace, e.SecretKey)
	} else {
		d, rendered, _, err := e.render(ctx, t, &facts, true)
		if err != nil {
			return nil, err
		}
		objs, t.desired = rendered, d
	}
	return objs, nil
}

// listPatience is how long a preview of any number of applications waits for kinds
// that nobody watched before.
const listPatience = 15 * time.Second

// awaitListed has the kinds of objects watched and waits until they are listed: the
// first object of a kind is no reason to have somebody ask twice. What it waited is
// taken from patience, so that a cluster that cannot list a kind holds up a preview
// of a fleet once, and not once for each application.
func awaitListed(ctx context.Context, conn Cluster, objs []belay.Object, patience *time.Duration) error {
	kinds := kindsOf(objs)
	if conn.Observe(kinds) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, *patience)
	defer cancel()
	began := time.Now()
	defer func() { *patience -= time.Since(began) }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if conn.Observe(kinds) {
				return nil
			}
		case <-ctx.Done():
			return &belay.Error{Code: belay.CodeUnavailable, Message: "looking at what the cluster has; try again in a moment"}
		}
	}
}

func (e *Engine) previewChange(ctx context.Context, t *target, act belay.Action) belay.PreviewChange {
	c := belay.PreviewChange{Verb: act.Verb, ID: act.ID, Wave: act.Wave, File: act.Origin.File, Line: act.Origin.Line, Drift: act.Drift}
	if act.Blocked != nil {
		c.Error, c.Hint = act.Blocked.Message, act.Blocked.Hint
		return c
	}
	permit, err := t.project.Permit(t.def, t.cluster, act.ID, act.ID.Namespace != "")
	if err != nil {
		c.Error = asError(err, "").Message
		return c
	}
	out, err := t.conn.Preview(ctx, permit, act)
	before, after := out.Before, out.After
	c.Verb = out.Verb
	if err != nil {
		c.Hint = asError(err, "").Hint
		if belay.CodeOf(err) == belay.CodeImmutable {
			c.Hint = act.Manner.NoRecreate
		}
	}
	switch belay.CodeOf(err) {
	case belay.CodeNoNamespace, belay.CodeUnknownKind:
		if err != nil && act.Desired != nil { // what it needs is made by the same sync
			after, err, c.Hint = act.Desired.Raw, nil, ""
		}
	}
	if err != nil {
		c.Error = asError(err, "").Message
		after = before // nothing would change
	}
	if act.Verb == belay.VerbDelete {
		after = nil
	}
	if act.ID.GroupKind() == (belay.Kind{Kind: "Secret"}) {
		before, after = redact(before, e.SecretKey), redact(after, e.SecretKey)
		after = unknownAsBefore(before, after)
	}
	c.Diff = e.Diff(before, after)
	return c
}

// redact leaves out what it cannot redact.
func redact(manifest json.RawMessage, key []byte) json.RawMessage {
	if manifest == nil {
		return nil
	}
	out, err := belay.RedactSecret(manifest, key)
	if err != nil {
		return nil
	}
	return out
}
