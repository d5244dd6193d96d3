package reconcile

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/belaydev/belay"
)

// Mounted is a tree that is seen in another one.
type Mounted struct {
	Files Files
	// Permit says whether a path of it may be read; may be nil.
	Permit func(path string) error
	// Repo and Revision are where its files come from.
	Repo, Revision string
}

// Tree is the tree that a source is rendered from: its own files, and those of
// other sources below the paths of a [belay.Mount]. A mount is opened when
// something in it is asked for. Neither gives what its Permit does not allow,
// under whichever name: where symlinks lead counts too.
type Tree struct {
	root  Mounted
	mount func(belay.Mount) (Mounted, error)

	mu      sync.Mutex
	mounted map[belay.Mount]Mounted
	errs    map[belay.Mount]error
	first   error
}

// NewTree makes a tree of files in which mount finds the others.
func NewTree(root Mounted, mount func(belay.Mount) (Mounted, error)) *Tree {
	return &Tree{root: root, mount: mount, mounted: map[belay.Mount]Mounted{}, errs: map[belay.Mount]error{}}
}

// at is the tree that a path lies in, and what it is called there.
func (t *Tree) at(kind belay.ReadKind, path string) (files Files, rest, prefix string, err error) {
	in, rest, prefix, err := t.find(path)
	if err == nil && in.Permit != nil {
		err = in.permit(kind, rest)
	}
	if err != nil {
		return nil, rest, "", err
	}
	return in.Files, rest, prefix, nil
}

// find opens the tree that a path lies in.
func (t *Tree) find(path string) (in Mounted, rest, prefix string, err error) {
	m, rest, ok := belay.SplitMount(path)
	if !ok {
		return t.root, path, "", nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	in, known := t.mounted[m]
	if !known && t.errs[m] == nil {
		if in, err = t.mount(m); err != nil {
			t.errs[m] = err
		} else {
			t.mounted[m] = in
		}
	}
	return in, rest, m.Path() + "/", t.errs[m]
}

// note remembers why something could not be read.
func (t *Tree) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.first == nil {
		t.first = err
	}
}

// tracer tells where a read really leads.
type tracer interface {
	Trace(kind belay.ReadKind, path string) ([]belay.Read, error)
}

// permit says whether a read is allowed: of the path, and of the place that
// symlinks lead to from there.
func (m *Mounted) permit(kind belay.ReadKind, path string) error {
	if err := m.Permit(path); err != nil {
		return err
	}
	files, ok := m.Files.(tracer)
	if !ok {
		return nil
	}
	reads, err := files.Trace(kind, path)
	if err != nil || len(reads) == 0 {
		return err // what the read itself would say
	}
	last := reads[len(reads)-1].Path
	if last == path || last == "." || strings.HasPrefix(path, last+"/") { // a directory on the way there that is missing
		return nil
	}
	return m.Permit(last)
}

// Err is what kept the first mount that could not be read from being read. A
// render that fails after it fails for this reason.
func (t *Tree) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.first
}

// ReadFile implements [Files].
func (t *Tree) ReadFile(path string) ([]byte, error) {
	f, rest, _, err := t.at(belay.ReadFile, path)
	if err != nil {
		t.note(err)
		return nil, err
	}
	return f.ReadFile(rest)
}

// ReadDir implements [Files].
func (t *Tree) ReadDir(path string) ([]fs.DirEntry, error) {
	f, rest, _, err := t.at(belay.ReadList, path)
	if err != nil {
		t.note(err)
		return nil, err
	}
	return f.ReadDir(rest)
}

// Stat implements [Files].
func (t *Tree) Stat(path string) (fs.FileInfo, error) {
	f, rest, _, err := t.at(belay.ReadStat, path)
	if err != nil {
		t.note(err)
		return nil, err
	}
	return f.Stat(rest)
}

// Digest implements [Files]. What it cannot read is no reason why a render fails:
// it may be asked of what an earlier one read.
func (t *Tree) Digest(kind belay.ReadKind, path string) (string, error) {
	f, rest, _, err := t.at(kind, path)
	if err != nil {
		return "", err
	}
	return f.Digest(kind, rest)
}

// Trace lists what a read depends on, symlinks included, as far as the tree that
// the path lies in knows it.
func (t *Tree) Trace(kind belay.ReadKind, path string) ([]belay.Read, error) {
	f, rest, prefix, err := t.at(kind, path)
	if err != nil {
		return nil, err
	}
	traced, ok := f.(tracer)
	if !ok {
		return nil, nil
	}
	reads, err := traced.Trace(kind, rest)
	if prefix != "" {
		reads = slices.Clone(reads)
		for i := range reads {
			reads[i].Path = prefix + reads[i].Path
		}
	}
	return reads, err
}

// Locate names the repository that a file of the tree comes from, if it is
// another one than that of the tree.
func (t *Tree) Locate(o *belay.Origin) bool {
	m, rest, ok := belay.SplitMount(o.File)
	if !ok {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	in, known := t.mounted[m]
	if known {
		o.Repo, o.Revision, o.File = in.Repo, in.Revision, rest
	}
	return known
}

// Explain puts the places of an error into the repositories that they belong to.
// If a mount could not be read, that is the error, at the place that needed it.
func (t *Tree) Explain(err error) error {
	problems := problemsOf(err)
	for _, p := range problems {
		p.Message = t.named(p.Message)
		if t.Locate(&p.Origin) {
			p.Message += ", in " + p.Origin.Repo
		}
	}
	first := t.Err()
	if err == nil || first == nil {
		return err
	}
	be, ok := errors.AsType[*belay.Error](first)
	if !ok {
		return first
	}
	c := *be
	c.Err = first
	if len(problems) > 0 {
		c.Application = problems[0].Application
		if problems[0].Origin.File != "" {
			c.Origin = problems[0].Origin
		}
	}
	return &c
}

// named puts repositories in the place of the paths where they are seen.
func (t *Tree) named(s string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for m, in := range t.mounted {
		s = strings.ReplaceAll(s, m.Path(), in.Repo)
	}
	return s
}

func problemsOf(err error) []*belay.Error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var out []*belay.Error
		for _, e := range joined.Unwrap() {
			out = append(out, problemsOf(e)...)
		}
		return out
	}
	if e, ok := errors.AsType[*belay.Error](err); ok {
		return []*belay.Error{e}
	}
	return nil
}
