package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// mostTargets is how many revisions are listed to choose from, listedPaths how many
// paths a question about history may name.
const (
	mostTargets = 30
	listedPaths = 400
)

// RollbackTargets lists what an application can go back to, newest first: its
// deployments as far as they are on record, or else the commits that changed what
// it is made of.
func (e *Engine) RollbackTargets(ctx context.Context, name string) ([]belay.RollbackTarget, error) {
	first, err := e.firstRef(name)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	current := e.apps[name].commit
	e.mu.Unlock()
	if all, err := e.deploymentsOf(ctx, name, mostTargets); err != nil || len(all) > 0 {
		return deployed(all), err
	}
	paths, err := e.pathsOf(ctx, name)
	if err != nil {
		return nil, err
	}
	out := []belay.RollbackTarget{}
	for _, k := range []refKey{first.plain(), {url: e.Repo, ref: e.Ref}} {
		if len(paths[k]) == 0 {
			continue
		}
		at := current
		if k != first.plain() || at == "" {
			rev, err := e.Sources.Revision(k.url, k.ref)
			if rev.Commit == "" {
				return nil, err
			}
			at = rev.Commit
		}
		commits, err := e.Sources.History(ctx, k.url, at, paths[k], mostTargets)
		if err != nil {
			return nil, err
		}
		for _, c := range commits {
			t := belay.RollbackTarget{Revision: c}
			about, err := e.Committer.About(ctx, k.url, c)
			if err == nil {
				t.Time, t.Author, t.Subject = about.Time, about.Author, about.Subject
			} else if !errors.Is(err, errors.ErrUnsupported) {
				return nil, err
			}
			out = append(out, t)
		}
		if e.isConfig(k) {
			break // both are one
		}
	}
	slices.SortStableFunc(out, func(a, b belay.RollbackTarget) int { return b.Time.Compare(a.Time) })
	if len(out) > 0 {
		out[0].Current = true
	}
	return out[:min(len(out), mostTargets)], nil
}

func deployed(all []belay.Deployment) []belay.RollbackTarget {
	out := make([]belay.RollbackTarget, 0, len(all))
	for i := range all {
		d := &all[i]
		t := belay.RollbackTarget{Revision: d.Revision, Deployment: d.ID, Time: d.Started, Author: d.Actor, Subject: d.Message, Result: d.Result, Current: i == 0}
		if len(d.Commits) > 0 {
			t.Author, t.Subject = d.Commits[0].Author, d.Commits[0].Subject
		}
		out = append(out, t)
	}
	return out
}

// pathsOf are the paths that an application is made of now, by ref, its own
// definition among them.
func (e *Engine) pathsOf(ctx context.Context, name string) (map[refKey][]string, error) {
	e.mu.Lock()
	def, cat := e.apps[name].def, e.catalog
	e.mu.Unlock()
	if def == nil {
		return nil, e.notThere(name)
	}
	project := projectOf(cat, def)
	t := &target{app: newApp(name), def: def, project: &project, cluster: def.Spec.Destination.Cluster, ref: refsOf(def, cat)[0]}
	if err := e.connection(t); err != nil {
		return nil, err
	}
	if _, err := e.newest(ctx, t); t.rev.Commit == "" {
		return nil, err
	}
	facts := t.conn.Facts()
	// What does not render now was read all the same, and is why people ask.
	_, _, _, _ = e.render(ctx, t, &facts, false)
	out := map[refKey][]string{}
	for k, reads := range t.reads {
		k = k.plain()
		paths := map[string]bool{}
		for _, r := range reads {
			if r.Kind == belay.ReadFile || r.Kind == belay.ReadList {
				paths[r.Path] = true
			}
		}
		out[k] = slices.Sorted(maps.Keys(paths))
		if len(out[k]) > listedPaths {
			out[k] = []string{def.Spec.AllSources()[0].Path}
		}
	}
	for _, s := range def.Spec.AllSources()[:1] { // of one that failed at once
		if first := t.ref.plain(); len(out[first]) == 0 {
			out[first] = []string{s.Path}
		}
	}
	own := refKey{url: e.Repo, ref: e.Ref}
	out[own] = append(out[own], def.Origin.File)
	return out, nil
}

// wantsOfChange are what the applications that a commit changed had before it: as
// the record of deployments says, or else as the commit before it.
func (e *Engine) wantsOfChange(ctx context.Context, change string) ([]wanted, error) {
	commit, err := e.spelling().commitAt(ctx, e.configKey(), change)
	if err == nil && commit == "" || belay.CodeOf(err) == belay.CodeNotFound {
		return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no commit %s in %s", change, e.Repo),
			Hint: "name a commit of the repository with the definitions, or HEAD for the newest; \"belay history -o wide\" shows them as CHANGE"}
	}
	if err != nil {
		return nil, err
	}
	if e.Deployments != nil {
		all, _, err := e.Deployments.Deployments(ctx, belay.RecordQuery{Change: commit, Limit: belay.MaxPage})
		if err != nil {
			return nil, err
		}
		var out []wanted
		seen := map[string]bool{}
		for _, d := range slices.Backward(all) { // a hold may have brought it back since
			if seen[d.Application] {
				continue
			}
			seen[d.Application] = true
			if d.Previous == "" {
				continue // its first deployment: there is nothing before it
			}
			w, err := e.recorded(ctx, wanted{name: d.Application, revision: d.Previous})
			if err != nil {
				return nil, err
			}
			along, err := e.takenAlong(ctx, &d, commit)
			if err != nil {
				return nil, err
			}
			w.notes = append(w.notes, along...)
			out = append(out, w)
		}
		if len(out) > 0 {
			return out, nil
		}
	}
	return e.wantsBefore(ctx, commit)
}

// mostNamed is how many commits a note names.
const mostNamed = 5

// takenAlong tells of the other commits that an application loses when it goes back
// to what it had before a deployment: those that came with the change, and after.
func (e *Engine) takenAlong(ctx context.Context, d *belay.Deployment, change string) ([]string, error) {
	all, err := e.deploymentsOf(ctx, d.Application, mostDeployments)
	if err != nil {
		return nil, err
	}
	// What it goes back to has some of them, and a change that is a merge others.
	kept := []string{d.Previous}
	if slices.ContainsFunc(d.Commits, func(c belay.Commit) bool { return c.ID == change && c.Merge }) {
		kept = append(kept, change)
	}
	seen, named, more := map[string]bool{change: true}, []string{}, 0
	for i := range all {
		for _, c := range all[i].Commits {
			if seen[c.ID] {
				continue
			}
			seen[c.ID] = true
			part := func(head string) bool {
				in, err := e.Committer.Includes(ctx, e.Repo, head, c.ID)
				return err == nil && in // of another repository it is not
			}
			if !slices.ContainsFunc(kept, part) {
				named = append(named, shortCommit(c.ID)+" "+c.Subject)
			}
		}
		more += all[i].MoreCommits
		if all[i].ID == d.ID {
			break
		}
	}
	if len(named) == 0 {
		return nil, nil
	}
	more += max(len(named)-mostNamed, 0)
	note := fmt.Sprintf("%s: commits that came with it or after it are taken back as well: %s", d.Application, strings.Join(named[:min(len(named), mostNamed)], ", "))
	if more > 0 {
		note += fmt.Sprintf(" and %d more", more)
	}
	return []string{note}, nil
}

// wantsBefore finds out from Git alone what a commit of the definitions'
// repository changed, and takes all of it back to its parent.
func (e *Engine) wantsBefore(ctx context.Context, commit string) ([]wanted, error) {
	about, err := e.Committer.About(ctx, e.Repo, commit)
	if err != nil {
		return nil, err
	}
	parent, err := e.Committer.Parent(ctx, e.Repo, commit)
	if err != nil {
		return nil, err
	}
	if parent == "" {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("commit %s is the first one: nothing was before it", about.Short())}
	}
	changes, err := e.Sources.Diff(ctx, e.Repo, parent, commit)
	if err != nil {
		return nil, err
	}
	before, err := e.catalogAt(ctx, parent)
	if err != nil {
		return nil, err
	}
	after, err := e.catalogAt(ctx, commit)
	if err != nil {
		return nil, err
	}
	touched := map[string]bool{}
	for _, name := range after.Diff(before).Changed {
		touched[name] = true
	}
	e.mu.Lock()
	for k, f := range e.refs {
		if k.url == e.Repo {
			for _, name := range f.index.Affected(changes) {
				touched[name] = true
			}
		}
	}
	known := map[string]bool{}
	for name, a := range e.apps {
		known[name] = a.def != nil
	}
	e.mu.Unlock()
	var out []wanted
	for _, name := range slices.Sorted(maps.Keys(touched)) {
		if _, was := before.Applications[name]; !was || !known[name] {
			continue
		}
		w := wanted{name: name, config: parent}
		if first, err := e.firstRef(name); err == nil && e.isConfig(first) {
			w.revision = parent
		}
		out = append(out, w)
	}
	if len(out) == 0 {
		return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("commit %s changed no application that was there before it", about.Short()),
			Hint: "name the application instead: belay rollback APP"}
	}
	return out, nil
}
