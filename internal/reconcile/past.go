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
	"github.com/belaydev/belay/internal/catalog"
)

// past is an application as it was at an earlier revision.
type past struct {
	name       string
	deployment string // that it goes back to, where that is known
	def        *belay.Application
	config     string // commit of the definitions that def is from
	project    *belay.Project
	// rev is where its first source stood, at where everything stood, and reads is
	// what was read of each.
	rev     belay.Revision
	at      map[refKey]belay.Revision
	reads   map[refKey][]belay.Read
	desired *desired
	// from is the revision that it leaves.
	from string
	// held is true once it is held there, or would be.
	held bool
	// notes are what people should know of how this was found out.
	notes []string
}

// wanted is what somebody, or the record, says of an earlier state.
type wanted struct {
	name       string
	deployment string
	revision   string // of the first source; "" where only config is known
	config     string // commit of the definitions; "" where it has to be found out
	sources    []belay.SourceRevision
	time       time.Time
	recorded   bool // all of this is from the record
	notes      []string
}

// ofDeployment is what a deployment deployed, or was to.
func ofDeployment(d *belay.Deployment) wanted {
	w := wanted{name: d.Application, deployment: d.ID, revision: d.Revision, config: d.Change, sources: d.Sources, time: d.Started, recorded: true}
	if d.Result == belay.Failed || d.Result == belay.Superseded {
		w.notes = []string{fmt.Sprintf("%s: deployment %s, which this goes back to, did not succeed (%s)", d.Application, d.ID, d.Result)}
	}
	return w
}

// ofHold is what a hold holds.
func ofHold(h *belay.Hold) wanted {
	return wanted{name: h.Application, revision: h.Revision, config: h.Config, sources: h.Sources, time: h.Since, recorded: true}
}

// want finds out what "to" means for an application: a deployment, or a revision
// of its own repository or of the definitions.
func (e *Engine) want(ctx context.Context, name, to string) (wanted, error) {
	first, err := e.firstRef(name)
	if err != nil {
		return wanted{}, err
	}
	if _, _, ok := belay.ParseRecordID(to); ok && e.Deployments != nil {
		d, err := e.Deployments.Deployment(ctx, to)
		found := err == nil
		if err != nil && belay.CodeOf(err) != belay.CodeNotFound {
			return wanted{}, err
		}
		if found && d.Application != name {
			return wanted{}, &belay.Error{Code: belay.CodeInvalid, Application: name, Message: fmt.Sprintf("deployment %s is one of %s, not of %s", to, d.Application, name)}
		}
		if found {
			return ofDeployment(&d), nil
		}
	}
	w := wanted{name: name}
	if w.revision, err = e.spelling().commitAt(ctx, first, to); err == nil && w.revision == "" && first.url != e.Repo {
		w.config, err = e.spelling().commitAt(ctx, e.configKey(), to)
	}
	if err == nil && w.revision == "" && w.config == "" {
		var rev belay.Revision
		rev, err = e.Sources.Resolve(ctx, first.url, to)
		w.revision = rev.Commit
	}
	if belay.CodeOf(err) == belay.CodeNotFound {
		return wanted{}, &belay.Error{Code: belay.CodeNotFound, Application: name, Err: err,
			Message: fmt.Sprintf("application %q has no deployment %q, and %s has no such commit, tag or branch", name, to, first.url),
			Hint:    fmt.Sprintf("belay rollback %s lists what it can go back to; a revision is a commit, a tag, or HEAD~1 for the commit before the newest", name)}
	}
	if err != nil {
		return wanted{}, err
	}
	if w, err = e.recorded(ctx, w); err != nil || w.recorded {
		return w, err
	}
	if w.revision == "" {
		return w, e.inHistory(ctx, e.configKey(), w.config)
	}
	return w, e.inHistory(ctx, first, w.revision)
}

// recorded adds what the record has of the newest deployment of a revision.
func (e *Engine) recorded(ctx context.Context, w wanted) (wanted, error) {
	all, err := e.deploymentsOf(ctx, w.name, mostDeployments)
	if err != nil {
		return w, err
	}
	for i := range all {
		if d := &all[i]; w.revision != "" && d.Revision == w.revision || w.revision == "" && d.Change == w.config {
			return ofDeployment(d), nil
		}
	}
	return w, nil
}

// mostDeployments is how far back the record of an application is searched.
const mostDeployments = 200

// firstRef is what the first source of an application follows.
func (e *Engine) firstRef(name string) (refKey, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.apps[name]
	switch {
	case a == nil && e.catalog != nil: // nobody knows any more whether there was one
		return refKey{}, &belay.Error{Code: belay.CodeNotFound, Application: name,
			Message: fmt.Sprintf("there is no application %q", name) + belay.DidYouMean(name, slices.Sorted(maps.Keys(e.apps))),
			Hint:    "belay status lists them; one that left Git comes back with its definition: git revert COMMIT, or git checkout COMMIT -- FILE, then commit"}
	case a == nil:
		return refKey{}, e.notThere(name)
	case a.def == nil:
		return refKey{}, &belay.Error{Code: belay.CodeNotFound, Application: name, Message: fmt.Sprintf("application %q is no longer in Git", name),
			Hint: "put its definition back: git checkout COMMIT -- FILE, then commit"}
	case e.Committer == nil:
		return refKey{}, &belay.Error{Code: belay.CodeInternal, Message: "this process makes no commits"}
	}
	return refsOf(a.def, e.catalog)[0], nil
}

// pastOf renders an application as it was.
func (e *Engine) pastOf(ctx context.Context, w wanted) (*past, error) {
	p := &past{name: w.name, deployment: w.deployment, notes: w.notes}
	e.mu.Lock()
	a, cat := e.apps[w.name], e.catalog
	var now *belay.Application
	if a != nil {
		now, p.from = a.def, a.commit
	}
	e.mu.Unlock()
	if now == nil {
		_, err := e.firstRef(w.name)
		return nil, err
	}
	if err := e.dateOf(ctx, &w, refsOf(now, cat)[0]); err != nil {
		return nil, err
	}
	if err := e.configOf(ctx, &w, refsOf(now, cat)[0]); err != nil {
		return nil, err
	}
	def, err := e.definedAt(ctx, w.config, w.name)
	if err != nil {
		return nil, err
	}
	// What a Project allows, and wants signed, is as it is today.
	was := *def
	was.Spec.Project = now.Spec.Project
	def = &was
	p.def, p.config = def, w.config
	project := projectOf(cat, def)
	p.project = &project
	if def.Spec.Destination.Cluster != now.Spec.Destination.Cluster {
		return nil, &belay.Error{Code: belay.CodeInvalid, Application: w.name, Origin: def.Origin,
			Message: fmt.Sprintf("application %q was delivered to cluster %q then, and is to %q now", w.name, def.Spec.Destination.Cluster, now.Spec.Destination.Cluster),
			Hint:    "a rollback does not move an application to another cluster; move it back in Git first"}
	}
	t := &target{app: newApp(w.name), def: def, project: &project, cluster: def.Spec.Destination.Cluster, ref: refsOf(def, cat)[0]}
	t.asOf = func(k refKey) (belay.Revision, error) { return e.stoodAt(ctx, p, &w, k) }
	if err := e.connection(t); err != nil {
		return nil, err
	}
	if t.rev, err = e.stoodAt(ctx, p, &w, t.ref); err != nil {
		return nil, err
	}
	if w.revision != "" && (w.recorded || t.ref.url == refsOf(now, cat)[0].url) && t.rev.Commit != w.revision {
		t.rev.Commit, t.rev.Name = w.revision, ""
	}
	t.at = map[refKey]belay.Revision{t.ref: t.rev}
	facts := t.conn.Facts()
	if p.desired, _, _, err = e.render(ctx, t, &facts, false); err != nil {
		return nil, e.notRendered(w.name, t.rev, err)
	}
	p.rev, p.at, p.reads = t.rev, t.at, t.reads
	return p, e.vouchFor(ctx, p)
}

// notRendered says that an earlier state cannot be made any more.
func (e *Engine) notRendered(name string, rev belay.Revision, err error) error {
	be := *asError(placedAt(err), name)
	be.Message = fmt.Sprintf("application %q cannot be rendered as it was at %s: %s", name, rev.Short(), be.Message)
	if be.Code == belay.CodeNotFound && be.Hint == "" {
		be.Hint = "what it was made of then is not followed any more; name it in a Repository, or put it back by hand"
	}
	return &be
}

// placedAt takes the first of several errors: one is enough to know why not.
func placedAt(err error) error {
	if all := problemsOf(err); len(all) > 0 {
		return all[0]
	}
	return err
}

// dateOf finds out when a revision came into being, where nobody said.
func (e *Engine) dateOf(ctx context.Context, w *wanted, first refKey) error {
	if !w.time.IsZero() {
		return nil
	}
	url, commit := first.url, w.revision
	if commit == "" {
		url, commit = e.Repo, w.config
	}
	about, err := e.Committer.About(ctx, url, commit)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil // of a chart nobody knows
	}
	w.time = about.Time
	return err
}

// configOf finds out at which commit the definitions stood.
func (e *Engine) configOf(ctx context.Context, w *wanted, first refKey) error {
	head := e.configCommit()
	switch {
	case w.config != "":
		return nil
	case e.isConfig(first):
		w.config = w.revision
		return nil
	case w.time.IsZero():
		w.config = head // nothing better is known
		return nil
	}
	commit, err := e.Committer.Before(ctx, e.Repo, head, w.time)
	w.config = cmp.Or(commit, head)
	return err
}

// standsAt is where a ref stands, followed or not.
func (e *Engine) standsAt(ctx context.Context, k refKey) (belay.Revision, error) {
	return standsAt(ctx, e.Sources, k)
}

func standsAt(ctx context.Context, sources Sources, k refKey) (belay.Revision, error) {
	if rev, _ := sources.Revision(k.url, k.ref); rev.Commit != "" { // that a newer one may exist does not matter
		return rev, nil
	}
	return sources.Resolve(ctx, k.url, k.ref)
}

// stoodAt is where a ref stood then: as the record says, or else as its history
// tells of that time.
func (e *Engine) stoodAt(ctx context.Context, p *past, w *wanted, k refKey) (belay.Revision, error) {
	for _, s := range w.sources {
		if s.Repo == k.url && s.Ref == k.ref {
			return belay.Revision{Repo: s.Repo, Ref: s.Ref, Name: s.Name, Commit: s.Revision}, nil
		}
	}
	rev, err := e.standsAt(ctx, k)
	if err != nil {
		return rev, err
	}
	if e.isConfig(k) && w.config != "" {
		rev.Commit = w.config
		return rev, nil
	}
	if isExact(k.ref, rev) {
		return rev, nil
	}
	if w.time.IsZero() {
		p.note("where %s stood at %s then is not on record; it is taken as it is now", k.ref, k.url)
		return rev, nil
	}
	commit, err := e.Committer.Before(ctx, k.url, rev.Commit, w.time)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		p.note("which version %q meant at %s then is not on record; it is taken as it is now (%s)", k.ref, k.url, rev.Short())
	case err != nil:
		return rev, err
	case commit == "":
		p.note("%s of %s did not exist then; it is taken as it is now", k.ref, k.url)
	case commit != rev.Commit:
		p.note("%s of %s is taken as it was at %s", k.ref, k.url, w.time.UTC().Format(time.RFC3339))
		rev.Commit, rev.Name = commit, ""
	}
	return rev, nil
}

// isExact says whether a ref can mean nothing else than it means now.
func isExact(ref string, rev belay.Revision) bool {
	return ref == rev.Commit || len(ref) >= 7 && strings.HasPrefix(rev.Commit, strings.ToLower(ref))
}

func (p *past) note(format string, args ...any) {
	p.notes = append(p.notes, p.name+": "+fmt.Sprintf(format, args...))
}

// definedAt is the definition of an application at a commit.
func (e *Engine) definedAt(ctx context.Context, commit, name string) (*belay.Application, error) {
	cat, err := e.catalogAt(ctx, commit)
	if err != nil {
		return nil, err
	}
	def, ok := cat.Applications[name]
	if !ok {
		return nil, &belay.Error{Code: belay.CodeNotFound, Application: name, Origin: belay.Origin{Repo: e.Repo, Revision: commit},
			Message: fmt.Sprintf("application %q is not declared at %s", name, shortCommit(commit)), Hint: "choose a later revision; belay rollback " + name + " lists them"}
	}
	if err := cat.ApplicationErrors[name]; err != nil {
		be := *asError(err, name)
		be.Message = fmt.Sprintf("the definition of %q at %s is wrong: %s", name, shortCommit(commit), be.Message)
		return nil, &be
	}
	return &def, nil
}

func (e *Engine) catalogAt(ctx context.Context, commit string) (*catalog.Catalog, error) {
	files, err := e.Sources.Open(ctx, e.Repo, commit)
	if err != nil {
		return nil, err
	}
	return e.load(ctx, files, commit, nil)
}

// isConfig says whether a ref is the one that the definitions are read from.
func (e *Engine) isConfig(k refKey) bool { return k.url == e.Repo && k.ref == e.Ref }

// vouchFor refuses an earlier state that a Project would not let in today: neither
// a rollback nor a hold is a way around signatures.
func (e *Engine) vouchFor(ctx context.Context, p *past) error {
	for k, rev := range p.at {
		if !e.mayDeploy(ctx, k, rev.Commit) {
			return &belay.Error{Code: belay.CodeDenied, Application: p.name, Origin: belay.Origin{Repo: k.url, Revision: rev.Commit},
				Message: fmt.Sprintf("%s of %s is not signed as project %q wants it", rev.Short(), k.url, p.project.Name), Hint: "choose a revision that is"}
		}
	}
	if k := e.configKey(); !e.mayDeploy(ctx, k, p.config) {
		return &belay.Error{Code: belay.CodeDenied, Application: p.name, Origin: belay.Origin{Repo: k.url, Revision: p.config},
			Message: fmt.Sprintf("the definitions at %s are not signed as this server wants it", shortCommit(p.config)), Hint: "choose a revision whose definitions are"}
	}
	return nil
}

// inHistory refuses a revision that is not one of the history that the application
// follows: what was never merged is nothing to go back to.
func (e *Engine) inHistory(ctx context.Context, k refKey, commit string) error {
	head, err := e.Sources.Revision(k.url, k.ref)
	if head.Commit == "" {
		return err
	}
	ok, err := e.Committer.Includes(ctx, k.url, head.Commit, commit)
	if ok || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	return &belay.Error{Code: belay.CodeInvalid, Origin: belay.Origin{Repo: k.url, Revision: commit},
		Message: fmt.Sprintf("%s is not in the history of %q at %s, and no deployment of it is on record", shortCommit(commit), k.ref, k.url),
		Hint:    "a rollback goes back to what was; merge what is new"}
}
