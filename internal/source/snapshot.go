package source

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

// Snapshot is the tree of one commit, or of a working directory. The tree of a
// commit never changes; reads come from the mirror and a cache that all share.
// It may be used by several goroutines.
type Snapshot struct{ view }

// TreeDigest identifies a directory and everything below it: the id of the Git
// tree. It is an error for anything but a directory, and [errors.ErrUnsupported]
// in a working directory.
func (s *Snapshot) TreeDigest(path string) (string, error) {
	f, err := s.find("tree", path, true)
	if err != nil {
		return "", err
	}
	if f.why != "" || f.node.typ != git.TypeDir {
		return "", &fs.PathError{Op: "tree", Path: path, Err: errors.New("not a directory")}
	}
	if f.node.id == "" {
		return "", errors.ErrUnsupported
	}
	return f.node.id, nil
}

// Trace lists everything that a read depends on, for who keeps a read set of
// their own: the place where the path really leads, with its digest, and the
// symlinks on the way there.
func (s *Snapshot) Trace(kind belay.ReadKind, path string) ([]belay.Read, error) {
	f, err := s.find("read", path, kind != belay.ReadLink)
	if err != nil {
		return nil, err
	}
	reads, err := trace(s.store, f, kind)
	if err != nil {
		return nil, s.unreadable(path, err)
	}
	return reads, nil
}

// Record gives a view of the snapshot that remembers what is read from it.
func (s *Snapshot) Record() *Recorder {
	r := &Recorder{reads: map[readKey]string{}}
	r.view = s.view
	r.note = r.remember
	return r
}

// Recorder is a snapshot that remembers what is read. Sizes and modes are not
// part of what it remembers, and times are always zero.
type Recorder struct {
	view
	mu    sync.Mutex
	reads map[readKey]string
}

type readKey struct {
	path string
	kind belay.ReadKind
}

func (r *Recorder) remember(reads []belay.Read) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, read := range reads {
		r.reads[readKey{read.Path, read.Kind}] = read.Digest
	}
}

// Reads lists what was read so far, sorted and each once: failed reads as well,
// and the symlinks that were followed.
func (r *Recorder) Reads() []belay.Read {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]belay.Read, 0, len(r.reads))
	for k, d := range r.reads {
		out = append(out, belay.Read{Path: k.path, Kind: k.kind, Digest: d})
	}
	slices.SortFunc(out, func(a, b belay.Read) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return strings.Compare(string(a.Kind), string(b.Kind))
	})
	return out
}

// newSnapshot is the tree of a commit. broken is called when the mirror lacks
// something that the commit names.
func newSnapshot(ctx context.Context, m *git.Mirror, commit string, broken func()) (*Snapshot, error) {
	c, err := m.Commit(ctx, commit)
	if err != nil {
		return nil, err
	}
	s := &Snapshot{view{store: &gitStore{m: m, tree: c.Tree, broken: broken}, repo: m.URL(), commit: commit}}
	if _, err := s.store.children(s.store.root()); err != nil {
		return nil, s.unreadable(".", err)
	}
	return s, nil
}

// gitStore reads a commit from a mirror.
type gitStore struct {
	m      *git.Mirror
	tree   string
	broken func()
}

// ctx of reads: they ask a process on this machine, and io/fs has none.
func (g *gitStore) ctx() context.Context { return context.Background() }

func (g *gitStore) noted(err error) error {
	if errors.Is(err, git.ErrBroken) && g.broken != nil {
		g.broken()
	}
	return err
}

func (g *gitStore) root() node { return node{typ: git.TypeDir, id: g.tree, path: "."} }

func (g *gitStore) child(dir node, name string) (node, error) {
	t, err := g.m.Tree(g.ctx(), dir.id)
	if err != nil {
		return node{}, g.noted(err)
	}
	e, ok := t.Lookup(name)
	if !ok {
		return node{}, fs.ErrNotExist
	}
	return node{typ: e.Type, id: e.ID, path: join(dir.path, name)}, nil
}

func (g *gitStore) children(dir node) ([]git.Entry, error) {
	t, err := g.m.Tree(g.ctx(), dir.id)
	if err != nil {
		return nil, g.noted(err)
	}
	return t.Entries, nil
}

func (g *gitStore) listDigest(dir node) (string, error) {
	t, err := g.m.Tree(g.ctx(), dir.id)
	if err != nil {
		return "", g.noted(err)
	}
	return t.ListDigest(), nil
}

func (g *gitStore) content(n node) ([]byte, error) {
	b, err := g.m.Blob(g.ctx(), n.id)
	return b, g.noted(err)
}

func (g *gitStore) size(n node) (int64, error) {
	size, err := g.m.BlobSize(g.ctx(), n.id)
	return size, g.noted(err)
}

func (g *gitStore) blobID(n node) (string, error) { return n.id, nil }

// trouble is the error of a path that leads nowhere it could be read.
func (v *view) trouble(op, path string, f found) error {
	if f.why == isAbsent {
		return &fs.PathError{Op: op, Path: path, Err: fs.ErrNotExist}
	}
	e := v.wrong(path, "", "")
	link := ""
	if n := len(f.links); n > 0 && f.links[n-1].path != path {
		link = fmt.Sprintf(" through the symbolic link %s", f.links[n-1].path)
	}
	switch f.why {
	case isOutside:
		e.Message, e.Hint = "leads out of the repository"+link, "make the link relative and let it stay inside, or put a copy there"
	case isLoop:
		e.Message, e.Hint = "is a symbolic link that comes back to itself, or one of too many"+link, "mend the link"
	case isSubmodule:
		e.Message, e.Hint = "is a submodule, which is not fetched", submoduleHint
		if f.real != path {
			e.Message = fmt.Sprintf("lies in the submodule %s, which is not fetched", f.real)
		}
	}
	return e
}

const submoduleHint = "put the files into the repository, or name the other repository as a source of its own"

// wrong is an error that only a commit mends.
func (v *view) wrong(path, message, hint string) *belay.Error {
	return &belay.Error{Code: belay.CodeInvalid, Message: message, Hint: hint, Err: fs.ErrInvalid,
		Origin: belay.Origin{Repo: v.repo, Revision: v.commit, File: path}}
}

// unreadable is the error of a store.
func (v *view) unreadable(path string, err error) error {
	if errors.Is(err, git.ErrTooBig) {
		return v.wrong(path, "is too big to be read", "keep files under 32 MiB")
	}
	if _, ok := errors.AsType[*belay.Error](err); ok {
		return err
	}
	e := &belay.Error{Code: belay.CodeUnavailable, Message: "cannot be read: " + err.Error(), Err: err,
		Origin: belay.Origin{Repo: v.repo, Revision: v.commit, File: path}}
	if errors.Is(err, git.ErrBroken) {
		e.Message, e.Hint = "cannot be read: the local mirror of the repository is damaged", "it is being fetched anew; nothing to do"
	}
	return e
}

// lfsPointer begins what Git LFS leaves in the place of a file.
const lfsPointer = "version https://git-lfs.github.com/spec/"

func isLFS(b []byte) bool {
	return len(b) < 1024 && strings.HasPrefix(string(b), lfsPointer) && strings.Contains(string(b), "\noid ")
}
