package reconcile

import (
	"context"
	"fmt"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// declaredAt is what an application meant at a commit; nil if it was not declared
// there, or nothing could be read.
func (e *Engine) declaredAt(ctx context.Context, commit, name string) (*belay.Application, error) {
	files, err := e.Sources.Open(ctx, e.Repo, commit)
	if err != nil {
		return nil, err
	}
	if cat, err := e.load(ctx, files, commit, nil); err == nil {
		if def, ok := cat.Applications[name]; ok {
			return &def, nil
		}
	}
	return nil, nil
}

// recallRetry is the time until Git's history is read again that could not be the
// first time: there is much of it.
const recallRetry = 30 * time.Second

// recallLater has an application that left Git woken to look again what it meant.
func (e *Engine) recallLater(a *app, err error) {
	if !mayPass(err) {
		return // a commit mends it
	}
	e.tryAgain(a, err, recallRetry)
}

// former is what applications meant that are not declared at a commit any more,
// as far as its history was read.
type former struct {
	commit string
	apps   map[string]belay.Application
}

// remembered is how many commits of the definitions formerly goes back at most.
const remembered = 200

// formerly is what an application meant when it was declared last before a
// commit; nil if that is too long ago. The history is read once for each commit.
func (e *Engine) formerly(ctx context.Context, commit, name string) (*belay.Application, error) {
	e.remembering.Lock()
	defer e.remembering.Unlock()
	if e.former.commit != commit {
		f, err := e.readFormer(ctx, commit)
		if err != nil {
			return nil, err
		}
		e.former = f
	}
	if def, ok := e.former.apps[name]; ok {
		return &def, nil
	}
	return nil, nil
}

func (e *Engine) readFormer(ctx context.Context, commit string) (former, error) {
	f := former{commit: commit, apps: map[string]belay.Application{}}
	commits, err := e.Sources.History(ctx, e.Repo, commit, []string{e.Path}, remembered)
	if err != nil {
		return f, err
	}
	var newest, near *catalog.Catalog // of a neighbour, which makes reading cheap
	for _, c := range commits {
		files, err := e.Sources.Open(ctx, e.Repo, c)
		if err != nil {
			return f, err
		}
		cat, err := e.load(ctx, files, c, near)
		if err != nil {
			continue // it says nothing
		}
		near = cat
		if newest == nil {
			newest = cat
		}
		for name, def := range cat.Applications {
			_, known := f.apps[name]
			if _, declared := newest.Applications[name]; !known && !declared {
				f.apps[name] = def
			}
		}
	}
	return f, nil
}

// lastProject is the project that limits what is still done for an application. It
// may have left Git with the application: then it is as it was declared last.
func (e *Engine) lastProject(ctx context.Context, a *app, def *belay.Application) (belay.Project, error) {
	e.mu.Lock()
	name, rev := def.Spec.Project, e.config
	project, declared := e.catalog.Projects[name]
	known := a.limits
	e.mu.Unlock()
	switch {
	case declared:
		return project, nil
	case known != nil && known.Name == name:
		return *known, nil
	case name == belay.DefaultProject:
		return belay.OpenProject(), nil
	}
	found, err := e.formerProject(ctx, rev.Commit, name)
	if err != nil {
		return belay.Project{}, err
	}
	if found == nil {
		return belay.Project{}, &belay.Error{Code: belay.CodeDenied, Application: def.Name, Origin: def.Origin,
			Message: fmt.Sprintf("removed from Git, but not deleted: project %q is not declared, so nothing is allowed", name),
			Hint:    "declare the Project until its applications are gone"}
	}
	e.mu.Lock()
	a.limits = found
	e.mu.Unlock()
	return *found, nil
}

// formerProject is a Project as it was declared last before a commit; nil if that
// is too long ago.
func (e *Engine) formerProject(ctx context.Context, commit, name string) (*belay.Project, error) {
	commits, err := e.Sources.History(ctx, e.Repo, commit, []string{e.Path}, remembered)
	if err != nil {
		return nil, err
	}
	var near *catalog.Catalog // of a neighbour, which makes reading cheap
	for _, c := range commits {
		files, err := e.Sources.Open(ctx, e.Repo, c)
		if err != nil {
			return nil, err
		}
		cat, err := e.load(ctx, files, c, near)
		if err != nil {
			continue // it says nothing
		}
		near = cat
		if p, ok := cat.Projects[name]; ok {
			return &p, nil
		}
	}
	return nil, nil
}
