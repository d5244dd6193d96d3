package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// Which commits a ref was seen to bring, and which of them concern an application.
// The first is told once for each ref that moves, over restarts too: the record
// knows where a ref was seen last. The second is found out from what each commit
// changed and what each application reads, for as long as this process saw all of
// them; and from Git's history of its paths after a start.

const (
	// mostCommits is how many commits an event or a deployment lists.
	mostCommits = 100
	// mostCompared is how many commits of one push are compared one by one with what
	// the applications read; of more, Git is asked for each application that is deployed.
	mostCompared = 20
	// mostTouched is how many changes of paths are kept until the ref moves again.
	mostTouched = 10000
	// mostPaths is how many paths Git is asked for at once.
	mostPaths = 200
)

// batch are the commits that a ref brought when it moved last.
type batch struct {
	from, to string
	Brought
	// touched are the paths that each of them changed; nil if that is not known.
	touched [][]belay.PathChange
}

// tellRevision puts on the record that a ref moved, with the commits that it
// brings, unless that is there already. It returns the last move of the ref.
func (e *Engine) tellRevision(ctx context.Context, k refKey, rev belay.Revision) *batch {
	if e.DryRun {
		return &batch{to: rev.Commit}
	}
	if k.project != "" { // where the ref itself is elsewhere, it did not move
		if head, _ := e.Sources.Revision(k.url, k.ref); head.Commit != rev.Commit {
			return &batch{to: rev.Commit}
		}
		k = k.plain()
	}
	e.telling.Lock()
	defer e.telling.Unlock()
	at := refKey{url: rev.Repo, ref: k.ref} // one repository may be spelled in several ways
	last := e.told[at]
	if last == nil {
		last = &batch{}
		if e.Recorder != nil {
			last.to = e.Recorder.Source(rev.Repo, k.ref)
		}
		e.mu.Lock()
		e.seen[at] = last.to
		e.mu.Unlock()
	}
	if last.to != rev.Commit {
		b, err := e.Sources.Commits(ctx, k.url, last.to, rev.Commit, nil, mostCommits)
		if err != nil {
			e.Logger.Warn("commits between two revisions not listed", "repo", rev.Repo, "ref", k.ref, "from", last.to, "to", rev.Commit, "error", err)
			if b, err = e.Sources.Commits(ctx, k.url, "", rev.Commit, nil, 1); err != nil {
				b = Brought{}
			}
		}
		msg := k.ref + " moved: " + rev.Subject
		if last.to == "" {
			msg = k.ref + " is at: " + rev.Subject
		}
		e.publish(belay.Event{Type: belay.EventRevision, Repo: rev.Repo, Ref: k.ref, Revision: rev.Commit, Actor: rev.Author, Message: msg,
			Detail: &belay.Detail{Previous: last.to, Commits: b.Commits, MoreCommits: b.More}})
		last = &batch{from: last.to, to: rev.Commit, Brought: b}
	}
	e.told[at] = last
	return last
}

// compare finds out what each commit of a batch changed, if it has not been yet.
func (e *Engine) compare(ctx context.Context, k refKey, b *batch) {
	e.telling.Lock()
	defer e.telling.Unlock()
	if b.touched != nil || b.from == "" || b.More > 0 || len(b.Commits) < 2 || len(b.Commits) > mostCompared || slices.Contains(b.Firsts, "") {
		return
	}
	touched, paths := make([][]belay.PathChange, len(b.Commits)), 0
	for i := range b.Commits {
		var err error
		if touched[i], err = e.Sources.Diff(ctx, k.url, b.Firsts[i], b.Commits[i].ID); err != nil {
			e.Logger.Warn("commit not compared", "repo", k.url, "commit", b.Commits[i].ID, "error", err)
			return
		}
		if paths += len(touched[i]); paths > mostTouched {
			return
		}
	}
	b.touched = touched
}

// concern are the commits of a batch that an index knows to touch applications,
// newest first. known is false if that cannot be told.
func (b *batch) concern(x Index, names []string) (of map[string][]belay.Commit, known bool) {
	of = map[string][]belay.Commit{}
	switch {
	case len(b.Commits) == 1 && b.More == 0:
		for _, n := range names {
			of[n] = b.Commits
		}
		return of, true
	case b.touched == nil:
		return nil, false
	}
	for i := range b.Commits {
		for _, n := range x.Affected(b.touched[i]) {
			of[n] = append(of[n], b.Commits[i])
		}
	}
	return of, true
}

// changing are the commits of a batch that changed a file; the newest where
// nothing tells.
func (b *batch) changing(file string) []belay.Commit {
	var out []belay.Commit
	if b.touched != nil {
		for i := range b.Commits {
			if slices.ContainsFunc(b.touched[i], func(c belay.PathChange) bool { return c.Path == file }) {
				out = append(out, b.Commits[i])
			}
		}
	}
	if out == nil && len(b.Commits) > 0 {
		out = b.Commits[:1]
	}
	return out
}

// define notes which commits of a batch changed an application's definition. What
// the batch cannot tell Git is asked when the application is deployed. Called with
// Engine.mu.
func (a *app) define(b *batch, file string) {
	if b.touched == nil && b.from != "" && len(b.Commits)+b.More > 1 {
		a.definedFrom = cmp.Or(a.definedFrom, b.from)
		return
	}
	a.bring(b.changing(file))
}

// bring notes commits that concern an application. Called with Engine.mu.
func (a *app) bring(commits []belay.Commit) {
	if len(commits) == 0 {
		return
	}
	all := slices.Concat(commits, a.commits)
	a.commits = nil
	for _, c := range all {
		switch {
		case slices.ContainsFunc(a.commits, func(o belay.Commit) bool { return o.ID == c.ID }):
		case len(a.commits) < mostCommits:
			a.commits = append(a.commits, c)
		default:
			a.moreCommits++
		}
	}
}

// bringing is what a deployment brings.
type bringing struct {
	commits  []belay.Commit
	more     int
	previous string
	// took is how many there were of those that were noted, and lost and left how often
	// it was noted that there may be others, and of how many only the number is known.
	took, lost, left int
	// newest is false where the ref has moved on meanwhile.
	newest bool
	// definedFrom is from where Git was asked for changes of the definition, config up
	// to where.
	definedFrom, config string
}

// brings finds out which commits a deployment that begins brings to its
// application, and what was deployed before.
func (e *Engine) brings(ctx context.Context, t *target) bringing {
	a := t.app
	e.mu.Lock()
	b := bringing{commits: slices.Clone(a.commits), more: a.moreCommits, previous: a.deployed, took: len(a.commits), lost: a.lost, left: a.moreCommits,
		definedFrom: a.definedFrom, config: e.config.Commit}
	if f := e.refs[t.ref]; f != nil {
		b.newest = f.commit == t.rev.Commit
	}
	seen, configSeen := e.seen[refKey{url: t.rev.Repo, ref: t.ref.ref}], e.seen[refKey{url: e.config.Repo, ref: e.Ref}]
	// The first time in the life of a process nobody may have noted yet what came
	// before it.
	neverDeployed, configRepo, added := a.deployed == "", e.config.Repo, a.added
	lost := a.lost > 0 || neverDeployed
	e.mu.Unlock()
	orphan := false // declared by a commit that a process before this one saw, and did not deploy
	if b.previous == "" && e.Recorder != nil {
		if len(t.conn.Live(a.name)) > 0 { // else nothing was
			b.previous = seen
			configSeen = e.missed(ctx, t, &b, configSeen)
		} else {
			orphan = e.before != "" && !added && t.rev.Commit != ""
		}
	}
	// Of those that changed the file of the definition, some concern others in it.
	var older, filed, defined Brought
	var err error
	since := b.definedFrom
	if lost && t.rev.Commit != "" && (since == "" || neverDeployed) {
		since = cmp.Or(configSeen, since)
	}
	switch {
	case t.def.Origin.File == "":
	case orphan:
		defined, err = e.declaration(ctx, t, b.config)
	case since != "" && since != b.config:
		if defined, err = e.Sources.Commits(ctx, e.Repo, since, b.config, []string{t.def.Origin.File}, mostCommits); err == nil {
			filed = defined
			defined = ownChanges(t.def, defined, e.textsOf(ctx, t.def.Origin.File))
		}
	}
	switch {
	case err != nil || t.rev.Commit == "": // it left Git
	case b.previous == "": // nothing is known from before: the commit at hand
		if known := slices.Concat(b.commits, defined.Commits); len(known) == 0 {
			older, err = e.Sources.Commits(ctx, t.ref.url, "", t.rev.Commit, nil, 1)
		} else if first := known[len(known)-1].ID; lost && t.rev.Repo == configRepo && first != t.rev.Commit {
			// It was declared, and changed before it was deployed for the first time.
			older, err = e.Sources.Commits(ctx, t.ref.url, first, t.rev.Commit, e.paths(t), mostCommits)
		}
	case !lost || b.previous == t.rev.Commit:
	default:
		older, err = e.Sources.Commits(ctx, t.ref.url, b.previous, t.rev.Commit, e.paths(t), mostCommits)
	}
	b.add(older)
	b.add(defined)
	if len(b.commits) == 0 {
		b.add(filed) // something led to it
	}
	if err != nil {
		e.Logger.Warn("commits of a deployment not listed", "application", a.name, "repo", t.ref.url, "error", err)
	}
	return b
}

// declaration are the commits to a definition since the one that declared it.
func (e *Engine) declaration(ctx context.Context, t *target, config string) (Brought, error) {
	last, err := e.Recorder.Deployed(ctx, t.cluster, t.app.name)
	if err != nil || last.Revision != "" { // it was deployed, and what had it is gone
		return Brought{}, err
	}
	file := []string{t.def.Origin.File}
	ids, err := e.Sources.History(ctx, e.Repo, config, file, mostCompared)
	if err != nil || len(ids) == 0 {
		return Brought{}, err
	}
	from := ids[len(ids)-1]
	all, err := e.Sources.Commits(ctx, e.Repo, from, config, file, mostCompared)
	if err != nil {
		return Brought{}, err
	}
	oldest, err := e.Sources.Commits(ctx, e.Repo, "", from, nil, 1)
	all.Commits, all.Firsts = append(all.Commits, oldest.Commits...), append(all.Firsts, oldest.Firsts...)
	text := e.textsOf(ctx, t.def.Origin.File)
	return sinceDeclared(t.def, ownChanges(t.def, all, text), text), err
}

// sinceDeclared leaves out those commits that are older than the last one that
// declared the application.
func sinceDeclared(def *belay.Application, own Brought, text textAt) Brought {
	kind, name := declaredAs(def)
	for i, first := range own.Firsts {
		before, err := text(first)
		if err == nil && catalog.SameDefinition(before, nil, kind, name) {
			own.Commits, own.Firsts = own.Commits[:i+1], own.Firsts[:i+1]
			break
		}
	}
	return own
}

// declaredAs is the kind and name of what declares an application.
func declaredAs(def *belay.Application) (kind, name string) {
	if def.Set != "" {
		return "ApplicationSet", def.Set
	}
	return "Application", def.Name
}

// textAt is what a file says at a commit; nil where there is none.
type textAt func(commit string) ([]byte, error)

// textsOf reads a file of definitions once at each commit: one is the parent of the
// next.
func (e *Engine) textsOf(ctx context.Context, file string) textAt {
	texts := map[string][]byte{"": nil}
	return func(commit string) (text []byte, err error) {
		text, ok := texts[commit]
		if !ok {
			if text, err = e.readAt(ctx, commit, file); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			if err == nil {
				texts[commit] = text
			}
		}
		return text, err
	}
}

// ownChanges leaves out those commits of a file that changed none but other
// definitions in it. One that cannot be compared stays.
func ownChanges(def *belay.Application, all Brought, text textAt) Brought {
	kind, name := declaredAs(def)
	out := Brought{More: all.More}
	for i, c := range all.Commits {
		if i < mostCompared {
			before, err := text(all.Firsts[i])
			after, errAfter := text(c.ID)
			if err == nil && errAfter == nil && catalog.SameDefinition(before, after, kind, name) {
				continue
			}
		}
		out.Commits, out.Firsts = append(out.Commits, c), append(out.Firsts, all.Firsts[i])
	}
	return out
}

// missed finds out whether a process before this one ended after it saw a commit,
// and before it deployed it to the application. It returns the commit of the
// definitions since which they are to be looked at.
func (e *Engine) missed(ctx context.Context, t *target, b *bringing, configSeen string) string {
	last, err := e.Recorder.Deployed(ctx, t.cluster, t.app.name)
	if err != nil || last.Revision == "" || last.Repo != t.rev.Repo {
		return configSeen // what is lost is which commits they were
	}
	if last.Revision != b.previous && b.previous != "" && t.rev.Commit != "" {
		between, err := e.Sources.Commits(ctx, t.ref.url, last.Revision, b.previous, e.paths(t), 1)
		if err == nil && len(between.Commits) > 0 {
			b.previous = last.Revision
		}
	}
	return cmp.Or(last.Change, configSeen)
}

// add puts commits behind those that are there.
func (b *bringing) add(older Brought) {
	b.more += older.More
	for _, c := range older.Commits {
		switch {
		case slices.ContainsFunc(b.commits, func(o belay.Commit) bool { return o.ID == c.ID }):
		case len(b.commits) < mostCommits:
			b.commits = append(b.commits, c)
		default:
			b.more++
		}
	}
}

// paths are those of its first source that a target is made of: what this pass read
// to render it, or an earlier one did. Where that is too much to ask Git for, it is
// the path of the source.
func (e *Engine) paths(t *target) []string {
	var out []string
	for _, r := range t.reads[t.ref] {
		if !slices.Contains(out, r.Path) {
			out = append(out, r.Path)
		}
		if len(out) > mostPaths {
			break
		}
	}
	if out == nil {
		e.mu.Lock()
		if f := e.refs[t.ref]; f != nil {
			out = f.index.Paths(t.app.name)
		}
		e.mu.Unlock()
	}
	if len(out) == 0 || len(out) > mostPaths {
		return []string{t.def.Spec.AllSources()[0].Path}
	}
	return out
}

// brought notes that commits are on the record as those of a deployment.
func (e *Engine) brought(a *app, b bringing) {
	e.mu.Lock()
	defer e.mu.Unlock()
	a.commits = slices.Clone(a.commits[:max(len(a.commits)-b.took, 0)]) // those that came meanwhile are in front
	a.moreCommits -= b.left
	if a.lost == b.lost && b.newest { // else there may be others since it was asked, or after what was asked for
		a.lost = 0
	}
	switch {
	case a.definedFrom != b.definedFrom:
	case e.config.Commit == b.config:
		a.definedFrom = ""
	case a.definedFrom != "": // there are newer ones
		a.definedFrom = b.config
	}
}

// HistoryRewritten is to be called when a branch moved to a commit that does not
// follow the old one, or a tag moved. It does not wait.
func (e *Engine) HistoryRewritten(url, ref, old, now string) {
	e.mu.Lock()
	ctx := e.runCtx
	e.mu.Unlock()
	if ctx == nil || ctx.Err() != nil || e.DryRun {
		return // it shows again as long as nobody saw the new commit
	}
	e.running.Go(func() {
		lost, err := e.Sources.Commits(ctx, url, now, old, nil, mostCommits)
		if err != nil {
			e.Logger.Warn("commits that a rewritten history lost not listed", "repo", url, "ref", ref, "error", err)
		}
		msg := fmt.Sprintf("%s was rewritten: %.10s is not a descendant of %.10s", ref, now, old)
		if n := len(lost.Commits) + lost.More; n > 0 {
			msg += "; " + count(n, "commit") + " lost"
		}
		e.publish(belay.Event{Type: belay.EventRewritten, Repo: url, Ref: ref, Revision: now, Message: msg,
			Detail: &belay.Detail{Previous: old, Commits: lost.Commits, MoreCommits: lost.More}})
	})
}

// tellConfirmed says that deletions go on because somebody confirmed them in Git.
func (e *Engine) tellConfirmed(ctx context.Context, t *target, p *belay.Plan, token string) {
	e.mu.Lock()
	config := e.config
	e.mu.Unlock()
	var gone []string
	for i := range p.Actions {
		if deletes(p.Actions[i]) {
			gone = append(gone, p.Actions[i].ID.String())
		}
	}
	ev := belay.Event{Type: belay.EventConfirmed, Application: t.app.name, Cluster: t.cluster, Repo: config.Repo, Revision: config.Commit, Actor: config.Author,
		Deployment: t.deployment(), Message: fmt.Sprintf("confirmed with %q in Git: %s to delete: %s", token, count(len(gone), "object"), some(gone))}
	c, found, err := e.Sources.LastChange(ctx, e.Repo, config.Commit, e.Path, regexp.QuoteMeta(token))
	switch {
	case err != nil:
		e.Logger.Warn("commit of a confirmation not found", "application", t.app.name, "error", err)
	case found:
		ev.Revision, ev.Actor, ev.Detail = c.ID, c.Author, &belay.Detail{Commits: []belay.Commit{c}}
	}
	e.publish(ev)
}
