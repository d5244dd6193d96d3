package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// makeCommits makes one commit of the edits of each branch.
func (e *Engine) makeCommits(ctx context.Context, w *work, req *belay.RollbackRequest, actor string) error {
	for bk, b := range w.branches {
		if err := e.leaveOut(ctx, bk, b); err != nil {
			return err
		}
		if len(b.edits) == 0 {
			continue
		}
		edits := make([]belay.TreeEdit, 0, len(b.edits))
		for _, p := range slices.Sorted(maps.Keys(b.edits)) {
			edits = append(edits, b.edits[p])
		}
		n := belay.NewCommit{Parent: b.head, Edits: edits, Author: cmp.Or(req.Author, actor), Message: rollbackMessage(w.pasts, req, actor)}
		b.guards = e.guardsOf(ctx, w, bk)
		if b.signer, b.why = e.signerFor(ctx, w, bk); b.signer != nil {
			n.Sign = b.signer.Sign
		}
		id, err := e.Committer.Commit(ctx, bk.url, n)
		if err != nil {
			return err
		}
		b.commit = id
	}
	return nil
}

// leaveOut drops edits that change nothing.
func (e *Engine) leaveOut(ctx context.Context, bk branchKey, b *branchEdits) error {
	tree, err := e.Committer.Tree(ctx, bk.url, b.head)
	if err != nil {
		return err
	}
	for p, ed := range b.edits {
		entry, err := tree.Entry(p)
		if err != nil {
			return err
		}
		if ed.Entry == entry {
			delete(b.edits, p)
		}
	}
	return nil
}

// rollbackMessage is the message of a commit: what goes back, where to, why and
// for whom. People read the first lines, programs the last.
func rollbackMessage(pasts []*past, req *belay.RollbackRequest, actor string) string {
	var b strings.Builder
	first := pasts[0]
	if len(pasts) == 1 {
		fmt.Fprintf(&b, "Roll back %s to %s\n\n", first.name, first.rev.Short())
	} else {
		fmt.Fprintf(&b, "Roll back %s\n\n", count(len(pasts), "application"))
		for _, p := range pasts {
			fmt.Fprintf(&b, "  %s to %s\n", p.name, p.rev.Short())
		}
		b.WriteByte('\n')
	}
	if reason := strings.TrimSpace(req.Reason); reason != "" {
		fmt.Fprintf(&b, "Why: %s\n", plainLine(reason))
	}
	fmt.Fprintf(&b, "Asked for by %s. What the application is made of is as it was then; all else\nof this repository stays as it is.\n\n", plainLine(actor))
	for _, p := range pasts {
		fmt.Fprintf(&b, "Belay-Rollback: %s\nRolls-Back-To: %s\n", p.name, p.rev.Commit)
		if p.deployment != "" {
			fmt.Fprintf(&b, "Deployment: %s\n", p.deployment)
		}
	}
	return b.String()
}

// plainLine keeps text of people on one line, so that it adds no trailers.
func plainLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// foresee reads the definitions as they will be.
func (e *Engine) foresee(ctx context.Context, w *work) error {
	e.mu.Lock()
	w.catalog = e.catalog
	e.mu.Unlock()
	rev, err := e.Sources.Revision(e.Repo, e.Ref)
	if rev.Commit == "" {
		return err
	}
	w.config = e.then(ctx, w, e.configKey(), rev)
	if w.config.Commit == e.configCommit() {
		return nil
	}
	files, err := e.Sources.Open(ctx, e.Repo, w.config.Commit)
	if err != nil {
		return err
	}
	w.catalog, err = e.load(ctx, files, w.config.Commit, w.catalog)
	return err
}

// then is where a ref will stand once the commits are where they belong.
func (e *Engine) then(ctx context.Context, w *work, k refKey, now belay.Revision) belay.Revision {
	if rev, ok := w.pins[k.plain()]; ok {
		return rev
	}
	branch, err := e.Committer.Branch(ctx, k.url, k.ref)
	if err != nil || branch == "" {
		return now
	}
	if b := w.branches[branchKey{k.url, branch}]; b != nil && b.commit != "" {
		now.Commit = b.commit
	}
	return now
}

// afterwards renders an application as it will be.
func (e *Engine) afterwards(ctx context.Context, w *work, name string) (*desired, error) {
	def, ok := w.catalog.Applications[name]
	if !ok {
		return nil, &belay.Error{Code: belay.CodeNotFound, Application: name, Message: fmt.Sprintf("application %q would not be declared any more", name)}
	}
	if err := w.catalog.ApplicationErrors[name]; err != nil {
		return nil, err
	}
	project := projectOf(w.catalog, &def)
	t := &target{app: newApp(name), def: &def, project: &project, cluster: def.Spec.Destination.Cluster, ref: refsOf(&def, w.catalog)[0]}
	t.asOf = func(k refKey) (belay.Revision, error) {
		if rev, ok := w.pins[k.plain()]; ok {
			return rev, nil
		}
		rev, err := e.standsAt(ctx, k)
		if err != nil {
			return rev, err
		}
		return e.then(ctx, w, k, rev), nil
	}
	if err := e.connection(t); err != nil {
		return nil, err
	}
	var err error
	if t.rev, err = t.asOf(t.ref); err != nil {
		return nil, err
	}
	t.at = map[refKey]belay.Revision{t.ref: t.rev}
	facts := t.conn.Facts()
	d, _, _, err := e.render(ctx, t, &facts, false)
	return d, err
}

// prove makes sure that an application will be what it was. A commit that does
// anything else is never pushed.
func (e *Engine) prove(ctx context.Context, w *work, p *past) error {
	d, err := e.afterwards(ctx, w, p.name)
	if err != nil {
		be := *asError(placedAt(err), p.name)
		be.Message = fmt.Sprintf("nothing was pushed: with what it read at %s put back, application %q does not render: %s", p.rev.Short(), p.name, be.Message)
		return &be
	}
	if d.digest == p.desired.digest && d.run == p.desired.run {
		return nil
	}
	return &belay.Error{Code: belay.CodeInvalid, Application: p.name,
		Message: fmt.Sprintf("nothing was pushed: with what it read at %s put back, application %q is still not what it was: %s", p.rev.Short(), p.name, cmp.Or(difference(p.desired, d), "its hooks differ")),
		Hint:    "a moving tag or a random value may be in its files; hold it at that revision instead: belay rollback " + p.name + " --to " + p.rev.Short() + " --now --hold-only"}
}

// difference says in words which objects two desired states differ in.
func difference(was, is *desired) string {
	digests := func(d *desired) map[belay.ObjectID]string {
		out := make(map[belay.ObjectID]string, len(d.objects))
		for i := range d.objects {
			out[d.objects[i].id] = d.objects[i].digest
		}
		return out
	}
	a, b := digests(was), digests(is)
	var out []string
	for id, digest := range a {
		if now, ok := b[id]; !ok {
			out = append(out, id.String()+" is gone")
		} else if now != digest {
			out = append(out, id.String()+" changes")
		}
	}
	for id := range b {
		if _, ok := a[id]; !ok {
			out = append(out, id.String()+" is new")
		}
	}
	slices.Sort(out)
	return some(out)
}

// findOthers finds the applications that nobody asked for and that would change.
func (e *Engine) findOthers(ctx context.Context, w *work) error {
	going := map[string]bool{}
	for _, p := range w.pasts {
		going[p.name] = true
		w.affected = append(w.affected, p.name)
	}
	suspects := map[string]bool{}
	for bk, b := range w.branches {
		if b.commit == "" {
			continue
		}
		changes, err := e.Sources.Diff(ctx, bk.url, b.head, b.commit)
		if err != nil {
			return err
		}
		for _, k := range e.refsOn(ctx, bk) {
			e.mu.Lock()
			if f := e.refs[k]; f != nil {
				for _, name := range f.index.Affected(changes) {
					suspects[name] = true
				}
			}
			e.mu.Unlock()
		}
	}
	e.mu.Lock()
	before := e.catalog
	e.mu.Unlock()
	diff := w.catalog.Diff(before)
	for _, name := range slices.Concat(diff.Added, diff.Changed, diff.Removed) {
		suspects[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(suspects)) {
		if going[name] {
			continue
		}
		if msg := e.otherwise(ctx, w, name); msg != "" {
			w.others = append(w.others, belay.RollbackOther{Application: name, Message: msg})
			w.affected = append(w.affected, name)
		}
	}
	return nil
}

// refsOn are the refs that are followed and mean a branch.
func (e *Engine) refsOn(ctx context.Context, bk branchKey) []refKey {
	e.mu.Lock()
	var keys []refKey
	for k := range e.refs {
		if k.url == bk.url {
			keys = append(keys, k)
		}
	}
	e.mu.Unlock()
	return slices.DeleteFunc(keys, func(k refKey) bool {
		branch, err := e.Committer.Branch(ctx, k.url, k.ref)
		return err != nil || branch != bk.branch
	})
}

// otherwise says what changes of an application that nobody asked for; "" for
// nothing.
func (e *Engine) otherwise(ctx context.Context, w *work, name string) string {
	e.mu.Lock()
	a := e.apps[name]
	var now *desired
	if a != nil {
		now = a.desired
	}
	e.mu.Unlock()
	d, err := e.afterwards(ctx, w, name)
	switch {
	case err != nil && now == nil:
		return ""
	case err != nil:
		return "would not render any more: " + asError(placedAt(err), name).Message
	case now == nil:
		return "is declared anew: " + count(len(d.objects), "object")
	case now.digest == d.digest:
		return ""
	}
	return difference(now, d)
}
