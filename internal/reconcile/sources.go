package reconcile

import (
	"context"
	"strings"

	"github.com/belaydev/belay"
)

// sourceMoved finds what the new commits of a repository touch.
func (e *Engine) sourceMoved(ctx context.Context, url string) {
	e.tellSources()
	if e.definitionsMoved(ctx) && e.loadConfig(ctx) && url != e.Repo {
		e.SourceChanged(e.Repo)
	}
	e.mu.Lock()
	var keys []refKey
	for k := range e.refs {
		if k.url == url {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 { // the same repository by another spelling
		for k := range e.refs {
			keys = append(keys, k)
		}
	}
	e.mu.Unlock()
	for _, k := range keys {
		e.refMoved(ctx, k)
	}
	e.wereRead()
}

// tellSources says which repositories cannot be read any more, and which can again.
func (e *Engine) tellSources() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, r := range e.Sources.Status() {
		if before := e.unreadables[r.URL]; r.Message == before {
			continue
		}
		msg := r.Message
		if msg == "" {
			msg = "can be read again"
			delete(e.unreadables, r.URL)
		} else {
			e.unreadables[r.URL] = msg
		}
		e.publish(belay.Event{Type: belay.EventSource, Repo: r.URL, Message: strings.TrimPrefix(msg, "repository "+r.URL+": ")})
	}
}

// catchUp looks at a ref that is further than the engine knows: a pass must not
// take the new commit for one that was compared already.
func (e *Engine) catchUp(ctx context.Context, k refKey, commit string) {
	e.mu.Lock()
	f := e.refs[k]
	behind := f != nil && f.commit != "" && f.commit != commit
	e.mu.Unlock()
	if behind {
		e.refMoved(ctx, k)
	}
}

func (e *Engine) configCommit() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.config.Commit
}

// definitionsMoved says whether the definitions have to be looked at again.
func (e *Engine) definitionsMoved(ctx context.Context) bool {
	rev, considered, err := e.configRevision(ctx)
	if err != nil || e.setsMoved(e.catalogInForce()) {
		return true
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.problem != nil || rev.Commit != e.config.Commit || considered.Commit != e.considered.Commit
}

// refMoved compares the commit that was known with the one that is now, and
// wakes the applications whose read set the difference touches. For all others
// the new commit means the same as the old one.
func (e *Engine) refMoved(ctx context.Context, k refKey) {
	rev, err := e.revision(ctx, k)
	e.mu.Lock()
	f := e.refs[k]
	if f == nil {
		e.mu.Unlock()
		return
	}
	from := f.commit
	e.mu.Unlock()
	if rev.Commit != "" {
		e.tellRevision(ctx, k, rev) // it may be known from another place
	}
	if rev.Commit == "" || rev.Commit == from {
		e.mu.Lock()
		defer e.mu.Unlock()
		for name := range f.apps {
			if a := e.apps[name]; a != nil && (err != nil || a.status.Message != "") {
				e.wake(name) // the repository failed, fails otherwise, or is back
			}
		}
		return
	}
	var changes []belay.PathChange
	all := from == ""
	if !all {
		if changes, err = e.Sources.Diff(ctx, k.url, from, rev.Commit); err != nil {
			e.Logger.Warn("commits not compared, every application of the ref is looked at", "repo", k.url, "ref", k.ref, "error", err)
			all = true
		}
	}
	moved := e.tellRevision(ctx, k, rev)
	of, known := e.concerned(ctx, k, f.index, moved, from, changes)
	e.mu.Lock()
	if f.commit != from { // somebody else was faster, and may have seen less
		e.mu.Unlock()
		e.refMoved(ctx, k)
		return
	}
	defer e.mu.Unlock()
	f.commit = rev.Commit
	touched := map[string]bool{}
	if !all {
		for _, name := range f.index.Affected(changes) {
			touched[name] = true
		}
	}
	affected, alone := 0, map[refKey]belay.Revision{k: rev}
	for name := range f.apps {
		a := e.apps[name]
		if a != nil {
			if known {
				a.bring(of[name])
			}
			// What it is being made into may read what the index does not know of yet.
			if unsettled := !a.indexed || a.dirty || a.rendering; unsettled || !known && (all || touched[name]) {
				a.lost++
			}
		}
		switch {
		case a == nil:
		case a.holds(k) == rev.Commit && !a.dirty && !a.cannot:
			// It was faster.
		case all || touched[name] || !a.indexed:
			a.mark()
			e.wake(name)
			affected++
		case a.dirty && a.holds(k) == from:
			// Its definition is another, say: what it was made into is not what the
			// commit means, even though nothing that it was made of changed.
			e.wake(name)
		case a.holds(k) == from:
			a.holdsAt(k, rev, alone)
		default:
			a.mark()
			e.wake(name)
			affected++
		}
	}
	e.Logger.Debug("affected applications found", "repo", k.url, "ref", k.ref, "from", from, "to", rev.Commit, "applications", affected)
}

// concerned are the commits that a ref brought, by the applications that they
// concern; known is false where that cannot be told from here.
func (e *Engine) concerned(ctx context.Context, k refKey, x Index, b *batch, from string, changes []belay.PathChange) (of map[string][]belay.Commit, known bool) {
	if from == "" || b.from != from || len(changes) == 0 {
		return nil, false
	}
	names := x.Affected(changes)
	if len(names) == 0 {
		return nil, true
	}
	e.compare(ctx, k, b)
	return b.concern(x, names)
}
