package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// reload is the time until definitions are read again that could not be the first time.
const reload = 5 * time.Second

// loadConfig brings the definitions to the newest commit of the config
// repository. Whatever cannot be read keeps its last good meaning. It says whether
// what follows the same ref has to go on now.
func (e *Engine) loadConfig(ctx context.Context) (further bool) {
	e.loading.Lock() // a poll and a wake-up may come at once
	defer e.loading.Unlock()
	rev, considered, srcErr := e.configRevision(ctx)
	if rev.Commit == "" {
		if e.Sources.Looked(e.Repo) {
			e.setProblem(srcErr)
		}
		return false
	}
	e.mu.Lock()
	prev, loaded, before := e.catalog, e.config.Commit, e.considered.Commit
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		further = before != "" && before != e.considered.Commit
	}()
	if prev != nil && loaded == rev.Commit && !e.setsMoved(prev) {
		e.connectClusters(ctx, prev)
		e.setProblem(srcErr)
		e.consider(considered)
		return
	}
	k := e.configKey()
	e.definitions = e.tellRevision(ctx, k, rev)
	e.compare(ctx, k, e.definitions)
	cat, err := e.readCatalog(ctx, rev, prev)
	if err != nil {
		e.setProblem(err)
		if mayPass(err) {
			e.unloaded++
			e.queue.addAfter(key{keyConfig, ""}, pauseAfter(err, e.unloaded, reload))
		} else {
			e.consider(considered)
		}
		return
	}
	e.unloaded = 0
	e.setProblem(srcErr)
	e.tellProblems(prev, cat, rev)
	e.Checkpoint("loaded")
	if cat.SameAs(prev) {
		e.carryOn(ctx, cat, rev, considered)
		return
	}
	e.adopt(ctx, cat, rev, considered)
	return
}

// consider notes what the definitions in force are for, where that is known.
func (e *Engine) consider(head belay.Revision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if head.Commit != "" {
		e.considered = head
	}
}

// force makes definitions those in force. Called with e.mu.
func (e *Engine) force(cat *catalog.Catalog, rev, considered belay.Revision) {
	if considered.Commit == "" {
		considered = rev // as far as can be told
	}
	e.catalog, e.config, e.considered = cat, rev, considered
	e.places.force(rev.Commit)
}

// carryOn takes in a commit that changed no definition.
func (e *Engine) carryOn(ctx context.Context, cat *catalog.Catalog, rev, considered belay.Revision) {
	e.connectClusters(ctx, cat)
	e.mu.Lock()
	e.force(cat, rev, considered)
	for name, a := range e.apps {
		if a.dirty {
			e.wake(name)
		}
	}
	e.mu.Unlock()
	e.wereRead()
}

func (e *Engine) readCatalog(ctx context.Context, rev belay.Revision, prev *catalog.Catalog) (*catalog.Catalog, error) {
	files, err := e.Sources.Open(ctx, e.Repo, rev.Commit)
	if err != nil {
		return nil, err
	}
	if _, err := files.Stat(e.Path); errors.Is(err, fs.ErrNotExist) {
		gone := &belay.Error{Code: belay.CodeNotFound, Origin: belay.Origin{Repo: rev.Repo, Revision: rev.Commit, File: e.Path},
			Message: fmt.Sprintf("the definitions' directory does not exist at %s", rev.Short()), Hint: "check --path"}
		if prev != nil {
			gone.Message += "; what it meant before still holds"
			gone.Hint += "; to remove every application on purpose, leave the directory with a README in it"
		}
		return nil, gone
	} else if err != nil {
		return nil, err
	}
	cat, err := e.load(ctx, files, rev.Commit, prev)
	if err == nil && prev == nil && damaged(cat) {
		if before := e.relive(ctx, rev, cat); before != nil {
			return e.load(ctx, files, rev.Commit, before)
		}
	}
	return cat, err
}

func (e *Engine) load(ctx context.Context, files Files, commit string, prev *catalog.Catalog) (*catalog.Catalog, error) {
	return catalog.Load(ctx, files, catalog.Options{Root: e.Path, Repo: e.Repo, Ref: e.Ref, Revision: commit, OpenTree: e.openTree(prev)}, prev)
}

// relived is how many commits of the definitions relive goes back at most.
const relived = 50

// relive gives a process that starts at broken definitions the memory of one
// that had been there all along: from the last commit at which nothing was
// broken, through every one since. It is nil where there is no such commit.
func (e *Engine) relive(ctx context.Context, rev belay.Revision, now *catalog.Catalog) *catalog.Catalog {
	commits, err := e.Sources.History(ctx, e.Repo, rev.Commit, e.setPaths(now.DamagedPaths()), relived)
	if err != nil {
		e.Logger.Warn("history of the definitions not read", "repo", e.Repo, "error", err)
		return nil
	}
	at := func(i int, prev *catalog.Catalog) *catalog.Catalog {
		files, err := e.Sources.Open(ctx, e.Repo, commits[i])
		if err != nil {
			return prev
		}
		cat, err := e.load(ctx, files, commits[i], prev)
		if err != nil {
			return prev
		}
		return cat
	}
	for i := range commits {
		cat := at(i, nil)
		if cat == nil || damaged(cat) {
			continue
		}
		for j := i - 1; j >= 0; j-- {
			cat = at(j, cat)
		}
		return cat
	}
	return nil
}

func (e *Engine) setProblem(err error) {
	var be *belay.Error
	if err != nil && !errors.As(err, &be) {
		be = &belay.Error{Code: belay.CodeUnavailable, Message: err.Error()}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if be != nil && (e.problem == nil || e.problem.Error() != be.Error()) && e.unreadables[e.Repo] != be.Error() {
		e.publish(belay.Event{Type: belay.EventSource, Repo: e.Repo, Message: be.Error()})
	}
	e.problem = be
}

// tellProblems says what became wrong and what became right.
func (e *Engine) tellProblems(prev, cat *catalog.Catalog, rev belay.Revision) {
	before, now := map[string]bool{}, map[string]bool{}
	if prev != nil {
		for i := range prev.Problems {
			before[prev.Problems[i].Error()] = true
		}
	}
	for i := range cat.Problems {
		msg := cat.Problems[i].Error()
		now[msg] = true
		if !before[msg] {
			e.Logger.Warn("definition is wrong", "repo", rev.Repo, "revision", rev.Commit, "error", msg)
			e.publish(belay.Event{Type: belay.EventDefinition, Repo: rev.Repo, Revision: rev.Commit, Change: rev.Commit, Actor: rev.Author, Message: msg})
		}
	}
	if declaresNothing(cat) && (prev == nil || !declaresNothing(prev)) {
		e.Logger.Warn("no application is declared; if there should be some, check --path and --ref", "repo", rev.Repo, "ref", e.Ref, "path", e.Path, "revision", rev.Commit)
	}
	for msg := range before {
		if !now[msg] {
			e.publish(belay.Event{Type: belay.EventDefinition, Repo: rev.Repo, Revision: rev.Commit, Change: rev.Commit, Actor: rev.Author, Message: "resolved: " + msg})
		}
	}
}

// declaresNothing says whether a catalog has no application, and nothing that would
// make one or is wrong.
func declaresNothing(cat *catalog.Catalog) bool {
	return len(cat.Applications)+len(cat.Sets())+len(cat.Problems) == 0
}

// adopt makes a catalog the one in force and wakes what it changes.
func (e *Engine) adopt(ctx context.Context, cat *catalog.Catalog, rev, considered belay.Revision) {
	e.setHealthRules(cat)
	e.connectClusters(ctx, cat)
	e.enforce(cat, rev, considered)
	e.findOrphans("")
	e.wereRead()
}

func (e *Engine) enforce(cat *catalog.Catalog, rev, considered belay.Revision) {
	e.mu.Lock()
	defer e.mu.Unlock()
	prev, before := e.catalog, e.config.Commit
	e.force(cat, rev, considered)
	e.bind(cat)
	projectsChanged := prev == nil || !reflect.DeepEqual(specs(prev.Projects), specs(cat.Projects))
	if projectsChanged {
		e.compileWindows(cat)
	}
	e.link(cat)
	for _, name := range slices.Sorted(maps.Keys(cat.Applications)) {
		def := cat.Applications[name]
		if e.OnlyCluster != "" && def.Spec.Destination.Cluster != e.OnlyCluster || e.aside(&def) {
			continue
		}
		delete(e.released, name)
		a, known := e.apps[name]
		if !known || a.def == nil {
			if !known {
				a = newApp(name)
				e.apps[name] = a
			}
			a.mark()
			a.added = prev != nil
			if prev != nil { // at a start everything is new, and nothing was added
				e.publish(belay.Event{Type: belay.EventApplication, Application: name, Repo: rev.Repo, Revision: rev.Commit, Actor: rev.Author, Message: "application added"})
			}
		}
		changed := a.def == nil || !reflect.DeepEqual(a.def.Spec, def.Spec)
		if changed && a.def != nil {
			e.publish(belay.Event{Type: belay.EventApplication, Application: name, Repo: rev.Repo, Revision: rev.Commit, Actor: rev.Author, Message: "definition changed"})
		}
		if changed {
			e.tellSuspension(a, &def, rev, prev != nil)
			a.afresh = true
		}
		if prev != nil && changed && e.definitions != nil {
			a.define(e.definitions, def.Origin.File)
		}
		if changed && a.desired != nil && a.desired.def == nil {
			a.desired.def = a.def
		}
		a.def, a.last, a.lived = &def, &def, true
		e.places.set(&def)
		e.follow(a, cat)
		if changed {
			a.mark()
		}
		if a.dirty || projectsChanged || hadError(prev, cat, name) || holdChanged(prev, cat, name) { // another Repository, too, may have made it so
			e.wake(name)
		}
	}
	for name, a := range e.apps {
		def, declared := cat.Applications[name]
		if a.def == nil && !declared && projectsChanged {
			e.wake(name) // it may be confirmed that it goes
		}
		if a.def == nil || (declared && (e.OnlyCluster == "" || def.Spec.Destination.Cluster == e.OnlyCluster)) {
			continue
		}
		a.def = nil
		a.left = &left{desired: a.desired, ref: a.ref, commit: a.commit, parent: before}
		if a.ref == (refKey{}) {
			a.left.ref = refsOf(a.last, cat)[0]
		}
		if e.definitions != nil {
			a.define(e.definitions, a.last.Origin.File)
		}
		a.limits = nil
		if prev != nil {
			if p, ok := prev.Projects[a.last.Spec.Project]; ok {
				a.limits = &p
			}
		}
		e.unfollow(a)
		e.unclaim(a)
		e.publish(belay.Event{Type: belay.EventApplication, Application: name, Repo: rev.Repo, Revision: rev.Commit, Actor: rev.Author, Message: "application removed"})
		e.wake(name)
	}
	e.wakeLeft()
	e.learned()
	e.configure() // before anyone who was woken asks for one of them
}

func specs(ps map[string]belay.Project) map[string]belay.ProjectSpec {
	out := make(map[string]belay.ProjectSpec, len(ps))
	for n, p := range ps {
		out[n] = p.Spec
	}
	return out
}

// projectOf is the project of an application that the catalog has no error for.
func projectOf(cat *catalog.Catalog, def *belay.Application) belay.Project {
	if p, ok := cat.Projects[def.Spec.Project]; ok {
		return p
	}
	if def.Spec.Project != belay.DefaultProject {
		return belay.Project{Name: def.Spec.Project} // which allows nothing
	}
	return belay.OpenProject()
}

// hadError says whether an application's own error came, went or changed.
func hadError(prev, cat *catalog.Catalog, name string) bool {
	var before error
	if prev != nil {
		before = prev.ApplicationErrors[name]
	}
	now := cat.ApplicationErrors[name]
	return (before == nil) != (now == nil) || (now != nil && now.Error() != before.Error())
}

// wanted lists the repositories and refs in use.
func (e *Engine) wanted(cat *catalog.Catalog) ([]belay.Repository, map[string][]string) {
	refs := map[string][]string{e.Repo: {e.Ref}}
	for k := range e.refs {
		if !slices.Contains(refs[k.url], k.ref) {
			refs[k.url] = append(refs[k.url], k.ref)
		}
	}
	for t := range cat.SetTrees() {
		if !slices.Contains(refs[t.URL], t.Ref) {
			refs[t.URL] = append(refs[t.URL], t.Ref)
		}
	}
	return slices.Collect(maps.Values(cat.Repositories)), refs
}
