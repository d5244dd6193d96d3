package reconcile

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// branchKey is one branch of one repository.
type branchKey struct{ url, branch string }

// branchEdits are what a rollback changes on a branch.
type branchEdits struct {
	head   string
	edits  map[string]belay.TreeEdit
	by     map[string]string // which application asked for an edit
	commit string            // once it is made
	guards []guard           // who lets in only what is signed
	signer *CommitSigner     // whose signature it has; nil for none
	why    error             // why it has none
}

// work is a rollback on its way to being commits: first edits are gathered from
// all that goes back, then commits are made of them, then it is proven that they
// do what they are for. Nothing of it is seen outside before it is pushed.
type work struct {
	pasts    []*past
	branches map[branchKey]*branchEdits
	pins     map[refKey]belay.Revision // refs that are written into definitions, and what they mean
	notes    []string
	catalog  *catalog.Catalog // as it will be
	config   belay.Revision   // the commit that it is of
	others   []belay.RollbackOther
	affected []string // names of all whose desired state changes
}

// prepare works a rollback out, down to commits that are proven and not pushed.
func (e *Engine) prepare(ctx context.Context, pasts []*past, req *belay.RollbackRequest, actor string) (*work, error) {
	w := &work{pasts: pasts, branches: map[branchKey]*branchEdits{}, pins: map[refKey]belay.Revision{}}
	for _, p := range pasts {
		w.notes = append(w.notes, p.notes...)
		if err := e.restoreDefinition(ctx, w, p); err != nil {
			return nil, err
		}
		for _, k := range slices.SortedFunc(maps.Keys(p.reads), compareRefs) {
			if err := e.restoreFiles(ctx, w, p, k); err != nil {
				return nil, err
			}
		}
	}
	if err := e.makeCommits(ctx, w, req, actor); err != nil {
		return nil, err
	}
	if err := e.foresee(ctx, w); err != nil {
		return nil, err
	}
	for _, p := range pasts {
		if err := e.prove(ctx, w, p); err != nil {
			return nil, err
		}
	}
	return w, e.findOthers(ctx, w)
}

func compareRefs(a, b refKey) int {
	return cmp.Or(strings.Compare(a.url, b.url), strings.Compare(a.ref, b.ref))
}

// on are the edits of the branch that a ref follows; nil where it follows none.
func (e *Engine) on(ctx context.Context, w *work, k refKey) (*branchEdits, error) {
	branch, err := e.Committer.Branch(ctx, k.url, k.ref)
	if errors.Is(err, errors.ErrUnsupported) || err == nil && branch == "" {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	bk := branchKey{k.url, branch}
	if w.branches[bk] == nil {
		rev, err := e.standsAt(ctx, k)
		if err != nil {
			return nil, err
		}
		w.branches[bk] = &branchEdits{head: rev.Commit, edits: map[string]belay.TreeEdit{}, by: map[string]string{}}
	}
	return w.branches[bk], nil
}

// add takes an edit. Two applications that want different things of one path
// cannot go back together.
func (b *branchEdits) add(p *past, ed belay.TreeEdit) error {
	before, ok := b.edits[ed.Path]
	if ok && (before.Entry != ed.Entry || !bytes.Equal(before.Content, ed.Content)) {
		return &belay.Error{Code: belay.CodeInvalid, Application: p.name, Origin: belay.Origin{File: ed.Path},
			Message: fmt.Sprintf("%s and %s cannot go back together: %s was different for each", b.by[ed.Path], p.name, ed.Path),
			Hint:    "roll them back one after the other, and look at what the second does to the first"}
	}
	b.edits[ed.Path], b.by[ed.Path] = ed, p.name
	return nil
}

// restoreFiles gathers the edits of what was read of one ref.
func (e *Engine) restoreFiles(ctx context.Context, w *work, p *past, k refKey) error {
	was := p.at[k].Commit
	b, err := e.on(ctx, w, k)
	if err != nil {
		return err
	}
	if b == nil {
		return e.fixed(w, p, k)
	}
	if was == "" || was == b.head {
		return nil
	}
	then, err := e.Committer.Tree(ctx, k.url, was)
	if err != nil {
		return err
	}
	now, err := e.Committer.Tree(ctx, k.url, b.head)
	if err != nil {
		return err
	}
	edits, err := restore(p.reads[k], then, now)
	if err != nil {
		return err
	}
	for _, ed := range edits {
		if err := b.add(p, ed); err != nil {
			return err
		}
	}
	return nil
}

// fixed makes sure that a ref which is no branch means what it meant: it does so
// still, or its definition names the exact version now.
func (e *Engine) fixed(w *work, p *past, k refKey) error {
	now, err := e.Sources.Revision(k.url, k.ref)
	if now.Commit == p.at[k].Commit {
		return nil
	}
	if _, pinned := w.pins[k.plain()]; pinned || slices.ContainsFunc(slices.Collect(maps.Keys(w.pins)), func(pin refKey) bool { return pin.url == k.url }) {
		return nil
	}
	if now.Commit == "" && err != nil {
		return err
	}
	return &belay.Error{Code: belay.CodeInvalid, Application: p.name, Origin: belay.Origin{Repo: k.url},
		Message: fmt.Sprintf("files of %s name %s at %q, which meant %s then and means %s now", p.name, k.url, k.ref, p.at[k].Short(), now.Short()),
		Hint:    "write the exact version into those files, or hold the application: belay rollback " + p.name + " --now --hold-only"}
}

// restoreDefinition gathers the edit of the file that declares an application:
// what its objects depend on, and exact versions where the definition names
// something that moved.
func (e *Engine) restoreDefinition(ctx context.Context, w *work, p *past) error {
	e.mu.Lock()
	now, cat := e.apps[p.name].def, e.catalog
	e.mu.Unlock()
	if now == nil {
		_, err := e.firstRef(p.name)
		return err
	}
	same := specOf(now) == specOf(p.def)
	pins, err := e.pinsOf(ctx, w, p, cat)
	if err != nil {
		return err
	}
	if same && len(pins) == 0 {
		return nil
	}
	if set := cmp.Or(now.Set, p.def.Set); set != "" {
		return &belay.Error{Code: belay.CodeInvalid, Application: p.name, Origin: now.Origin,
			Message: fmt.Sprintf("the definition of %q is made by ApplicationSet %q and was different at %s", p.name, set, shortCommit(p.config)),
			Hint: fmt.Sprintf("roll back what the set reads (git diff %s -- %s shows its own file), or hold the application: belay rollback %s --to %s --now --hold-only",
				shortCommit(p.config), now.Origin.File, p.name, p.rev.Short())}
	}
	b, err := e.on(ctx, w, e.configKey())
	if err != nil {
		return err
	}
	if b == nil {
		return &belay.Error{Code: belay.CodeInvalid, Application: p.name, Message: fmt.Sprintf("the definitions follow %q, which is no branch: nothing can be committed there", e.Ref),
			Hint: "change it where that ref is made"}
	}
	text, err := e.fileAt(ctx, b, now.Origin.File)
	if err != nil {
		return err
	}
	if !same {
		then, err := e.readAt(ctx, p.config, p.def.Origin.File)
		if err != nil {
			return err
		}
		restored, whole, err := catalog.RestoreDefinition(text, then, p.name)
		if err != nil {
			return &belay.Error{Code: belay.CodeInvalid, Application: p.name, Origin: now.Origin, Message: err.Error(), Hint: "change it by hand, and roll back again"}
		}
		text = restored
		if whole {
			w.notes = append(w.notes, p.name+": its definition in "+now.Origin.File+" comes back as a whole, fields that objects do not depend on included")
		}
	}
	for _, i := range slices.Sorted(maps.Keys(pins)) {
		if text, err = catalog.PinSource(text, p.name, i, pins[i]); err != nil {
			return &belay.Error{Code: belay.CodeInvalid, Application: p.name, Origin: now.Origin, Message: err.Error(), Hint: fmt.Sprintf("write ref: %s by hand", pins[i])}
		}
		w.notes = append(w.notes, fmt.Sprintf("%s: the ref of source %d becomes %s, the version then", p.name, i+1, pins[i]))
	}
	entry, err := e.entryAt(ctx, b.head, now.Origin.File)
	if err != nil {
		return err
	}
	if !entry.IsFile() {
		return &belay.Error{Code: belay.CodeInvalid, Application: p.name, Origin: now.Origin, Message: "the definition is reached through a symbolic link", Hint: "change the file that it leads to by hand"}
	}
	// Several definitions may stand in one file: the last text has them all.
	b.edits[now.Origin.File] = belay.TreeEdit{Path: now.Origin.File, Entry: belay.TreeEntry{Mode: entry.Mode}, Content: text}
	b.by[now.Origin.File] = p.name
	return nil
}

func (e *Engine) entryAt(ctx context.Context, commit, file string) (belay.TreeEntry, error) {
	tree, err := e.Committer.Tree(ctx, e.Repo, commit)
	if err != nil {
		return belay.TreeEntry{}, err
	}
	return tree.Entry(file)
}

// fileAt is a file of the definitions as the work leaves it so far.
func (e *Engine) fileAt(ctx context.Context, b *branchEdits, file string) ([]byte, error) {
	if ed, ok := b.edits[file]; ok && ed.Entry.ID == "" && ed.Content != nil {
		return ed.Content, nil
	}
	return e.readAt(ctx, b.head, file)
}

func (e *Engine) readAt(ctx context.Context, commit, file string) ([]byte, error) {
	files, err := e.Sources.Open(ctx, e.Repo, commit)
	if err != nil {
		return nil, err
	}
	return files.ReadFile(file)
}

// specOf identifies what of a definition its objects depend on.
func specOf(def *belay.Application) string {
	t := target{def: def}
	return t.specDigest()
}

// pinsOf are the exact versions that have to be written into the definition, by
// the number of the source: those of sources whose ref is no branch and means
// something else by now.
func (e *Engine) pinsOf(ctx context.Context, w *work, p *past, cat *catalog.Catalog) (map[int]string, error) {
	pins := map[int]string{}
	for i, k := range refsOf(p.def, cat) {
		branch, err := e.Committer.Branch(ctx, k.url, k.ref)
		if err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return nil, err
		}
		was := p.at[k]
		if k == refsOf(p.def, cat)[0] {
			was = p.rev
		}
		if branch != "" || was.Commit == "" {
			continue
		}
		now, err := e.standsAt(ctx, k)
		if err != nil {
			return nil, err
		}
		if now.Commit == was.Commit {
			continue
		}
		pin, ok := exactly(k, was)
		if !ok {
			return nil, &belay.Error{Code: belay.CodeInvalid, Application: p.name, Origin: belay.Origin{Repo: k.url},
				Message: fmt.Sprintf("which version of %s was deployed then is not on record: its ref is %q", k.url, k.ref), Hint: "roll back to a deployment instead of a revision"}
		}
		pins[i] = pin
		w.pins[refKey{url: k.url, ref: pin}] = belay.Revision{Repo: was.Repo, Ref: pin, Name: was.Name, Commit: was.Commit}
	}
	return pins, nil
}

// exactly is a ref that means one revision and never another.
func exactly(k refKey, rev belay.Revision) (ref string, ok bool) {
	digest := strings.HasPrefix(rev.Commit, "sha256:")
	if digest && strings.Contains(k.url, "#") { // charts of Helm repositories have versions alone
		return rev.Name, rev.Name != "" && rev.Name != rev.Commit
	}
	return rev.Commit, rev.Commit != ""
}
