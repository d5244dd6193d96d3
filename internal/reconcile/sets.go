package reconcile

import (
	"context"
	"maps"
	"slices"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// ApplicationSets: the catalog expands them. What is left to do here is to give it
// the trees of other repositories, to load it again when one of those moved, and
// to have it remember, after a restart, what it made before.

// openTree gives a set the tree of a repository as it is followed. Before prev
// named it nobody followed it, so that nothing is known of it yet.
func (e *Engine) openTree(prev *catalog.Catalog) catalog.OpenTree {
	return func(ctx context.Context, url, ref string) (catalog.Tree, bool, error) {
		rev, err := e.Sources.Revision(url, ref)
		if rev.Commit == "" {
			asked := false
			if prev != nil {
				_, asked = prev.SetTrees()[catalog.TreeRef{URL: url, Ref: ref}]
			}
			if !asked || !e.Sources.Looked(url) {
				return catalog.Tree{}, false, nil
			}
			return catalog.Tree{}, false, err
		}
		files, err := e.Sources.Open(ctx, url, rev.Commit)
		if err != nil {
			return catalog.Tree{}, false, err
		}
		return catalog.Tree{Files: files, Commit: rev.Commit}, true, nil
	}
}

// setsMoved says whether a tree that a set reads is another one than it read.
func (e *Engine) setsMoved(cat *catalog.Catalog) bool {
	if cat == nil {
		return false
	}
	for t, commit := range cat.SetTrees() {
		rev, _ := e.Sources.Revision(t.URL, t.Ref)
		if rev.Commit != "" && rev.Commit != commit {
			return true
		}
	}
	for _, t := range cat.SetsElsewhere() {
		if e.Sources.Looked(t.URL) {
			return true // what is wrong with it can be told now
		}
	}
	return false
}

// setsReady says which tree that a set reads was not looked at yet. Called with e.mu.
func (e *Engine) setsReady() error {
	for _, t := range e.catalog.SetsElsewhere() {
		if !e.Sources.Looked(t.URL) {
			return &belay.Error{Code: belay.CodeUnavailable, Origin: belay.Origin{Repo: t.URL},
				Message: "an ApplicationSet waits for the repository " + t.URL, Hint: "it is being fetched; nothing to do"}
		}
	}
	return nil
}

func (e *Engine) catalogInForce() *catalog.Catalog {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.catalog
}

// setPaths are the directory of the definitions and what sets look into.
func (e *Engine) setPaths(roots []string) []string {
	paths := append([]string{e.Path}, roots...)
	slices.Sort(paths)
	return slices.Compact(paths)
}

// damaged says whether a catalog lacks what it meant before.
func damaged(cat *catalog.Catalog) bool { return len(cat.Broken())+len(cat.FailingSets()) > 0 }

// holdChanged says whether an application came under a hold of its set, or out of it.
func holdChanged(prev, cat *catalog.Catalog, name string) bool {
	var before *belay.Error
	if prev != nil {
		before = prev.Holds[name]
	}
	now := cat.Holds[name]
	return (before == nil) != (now == nil) || now != nil && now.Hint != before.Hint
}

// mostHint is the length up to which a hint is repeated for each application.
const mostHint = 400

// showSet says on an application which set makes it, or would not any longer: that
// the files of such a one are gone is no news beside that.
// Called with e.mu.
func (e *Engine) showSet(s *belay.ApplicationStatus, def *belay.Application, shown *belay.Error) {
	s.Set = def.Set
	if e.catalog == nil {
		return
	}
	if h := e.catalog.Holds[s.Name]; h != nil && (shown == nil || shown.Code == belay.CodeNotFound) {
		s.Message, s.Hint = h.Message, h.Hint
		if len(h.Hint) > mostHint {
			s.Hint = "belay get sets " + def.Set + " has the token that confirms it"
		}
	}
}

// heldWithoutFiles says whether an error is only that the files of an application
// are gone that its set holds: that it is held says more.
func (e *Engine) heldWithoutFiles(name string, err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return belay.CodeOf(err) == belay.CodeNotFound && e.catalog != nil && e.catalog.Holds[name] != nil
}

// setStatus is the state of all sets. Called with e.mu.
func (e *Engine) setStatus() []belay.SetStatus {
	var out []belay.SetStatus
	if e.catalog == nil {
		return nil
	}
	sets := e.catalog.Sets()
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		set := sets[name]
		s := belay.SetStatus{Name: name, File: set.Origin.File, Line: set.Origin.Line, Applications: set.Applications, Held: set.Held, Failing: set.Failing}
		if s.Applications == nil {
			s.Applications = []string{}
		}
		switch {
		case set.Hold != nil:
			s.Message, s.Hint = set.Hold.Message, set.Hold.Hint
		case set.Failing:
			s.Message = "something in it is wrong, so that it removes nothing; see the problems"
		case len(set.Elsewhere) > 0:
			s.Message = "waits for " + set.Elsewhere[0].URL + " at " + set.Elsewhere[0].Ref
		}
		out = append(out, s)
	}
	return out
}

// orphaned says whether the objects of an application stay when it goes.
func orphaned(def *belay.Application) bool {
	return !def.Spec.Sync.Prune || def.Annotations[belay.AnnotationDeletion] == belay.DeletionOrphan
}

// confirmedBySet leaves out the applications whose own set confirmed that they go.
func confirmedBySet(cat *catalog.Catalog, name string, last *belay.Application) bool {
	return last != nil && last.Name == name && cat.RemovalConfirmed(last)
}

// recallSets is for a process that finds objects of applications that it does not
// know: sets may have made them, and no line of Git's history has their names. It
// relives the history of the definitions and of all that sets look into. What a
// set then still holds comes into force, as if this process had been there all
// along; what was let go is remembered, so that it can be torn down.
func (e *Engine) recallSets(ctx context.Context, a *app) error {
	e.mu.Lock()
	_, declared := e.catalog.Applications[a.name]
	// That somebody looked up what it meant says nothing of whether its set lets it go.
	done := a.lived || declared || e.recalled[a.name]
	e.mu.Unlock()
	if done {
		return nil
	}
	e.loading.Lock()
	defer e.loading.Unlock()
	lived, err := e.recallOrphans(ctx)
	if err != nil {
		e.recallLater(a, err)
		return err
	}
	if held := lived.Holds[a.name]; held != nil {
		return held
	}
	return nil
}

// recallOrphans recalls for all applications that are not known, and gives the
// catalog as it would be had this process been there. Called with e.loading.
func (e *Engine) recallOrphans(ctx context.Context) (lived *catalog.Catalog, err error) {
	e.mu.Lock()
	cat, rev, considered := e.catalog, e.config, e.considered
	e.mu.Unlock()
	had, err := e.hadSets(ctx, cat, rev)
	if err != nil {
		return nil, err
	}
	var made map[string]belay.Application
	if had {
		if lived, made, err = e.reliveSets(ctx, rev, cat); err != nil {
			return nil, err
		}
	}
	if lived == nil {
		lived = cat
	}
	if knowsMore(lived, cat) {
		e.tellProblems(cat, lived, rev)
		e.adopt(ctx, lived, rev, considered)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for name, a := range e.apps {
		if a.def != nil || a.lived {
			continue
		}
		e.recalled[name] = lived.Holds[name] == nil
		if def, ok := made[name]; ok && e.recalled[name] {
			a.last = &def
		}
	}
	return lived, nil
}

// knowsMore says whether a catalog declares all that another one does, and more.
func knowsMore(lived, cat *catalog.Catalog) bool {
	for name := range cat.Applications {
		if _, ok := lived.Applications[name]; !ok {
			return false
		}
	}
	return len(lived.Applications) > len(cat.Applications)
}

// hadSets says whether there is or was any set.
func (e *Engine) hadSets(ctx context.Context, cat *catalog.Catalog, rev belay.Revision) (bool, error) {
	if len(cat.Sets()) > 0 {
		return true, nil
	}
	_, found, err := e.Sources.Removal(ctx, e.Repo, rev.Commit, e.Path, `kind:[[:space:]]*["']?ApplicationSet`)
	return found, err
}

// recalledCommits is how far reliveSets goes back at most. An application that went
// before that is left alone: nobody knows it.
const recalledCommits = 500

// reliveSets loads the definitions at every commit of their recent history, each
// after the one before, and gives the last one and all that sets ever made.
func (e *Engine) reliveSets(ctx context.Context, rev belay.Revision, now *catalog.Catalog) (*catalog.Catalog, map[string]belay.Application, error) {
	paths := e.setPaths(now.SetRoots())
	for {
		commits, err := e.Sources.History(ctx, e.Repo, rev.Commit, paths, recalledCommits)
		if err != nil {
			return nil, nil, err
		}
		var cat *catalog.Catalog
		seen := slices.Clone(paths)
		made := map[string]belay.Application{}
		if !slices.Contains(commits, rev.Commit) { // it changed nothing below them
			commits = slices.Insert(commits, 0, rev.Commit)
		}
		for _, commit := range slices.Backward(commits) {
			files, err := e.Sources.Open(ctx, e.Repo, commit)
			if err != nil {
				return nil, nil, err
			}
			next, err := e.load(ctx, files, commit, cat)
			if err != nil {
				if belay.CodeOf(err) == belay.CodeUnavailable {
					return nil, nil, err
				}
				continue // there were no definitions yet
			}
			cat = next
			seen = append(seen, cat.SetRoots()...)
			for name, def := range cat.Applications {
				if def.Set != "" && cat.ApplicationErrors[name] == nil {
					made[name] = def
				}
			}
		}
		slices.Sort(seen)
		if seen = slices.Compact(seen); slices.Equal(seen, paths) {
			return cat, made, nil
		}
		paths = seen // a set that is gone looked elsewhere
	}
}
