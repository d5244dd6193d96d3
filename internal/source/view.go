package source

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

// view is io/fs over a store.
type view struct {
	store  store
	repo   string
	commit string
	// note is told what is read; may be nil.
	note func([]belay.Read)
}

var _ Files = (*view)(nil)

// Repo is the URL without credentials, empty for a working directory.
func (v *view) Repo() string { return v.repo }

// Commit is the full id, empty for a working directory.
func (v *view) Commit() string { return v.commit }

// find follows a path; the error is for one that is not valid or cannot be read.
func (v *view) find(op, p string, follow bool) (found, error) {
	if !fs.ValidPath(p) {
		return found{}, &fs.PathError{Op: op, Path: p, Err: fs.ErrInvalid}
	}
	f, err := walk(v.store, p, follow)
	if err != nil {
		return f, v.unreadable(p, err)
	}
	return f, nil
}

// get is find for a read of a kind, which is noted.
func (v *view) get(op, p string, kind belay.ReadKind) (found, error) {
	f, err := v.find(op, p, kind != belay.ReadLink)
	if err != nil {
		return f, err
	}
	if v.note != nil {
		reads, err := trace(v.store, f, kind)
		if err != nil {
			return f, v.unreadable(p, err)
		}
		v.note(reads)
	}
	if f.why != "" {
		return f, v.trouble(op, p, f)
	}
	return f, nil
}

// Digest implements [Files]. It is noted as a read, too.
func (v *view) Digest(kind belay.ReadKind, p string) (string, error) {
	f, err := v.find("digest", p, kind != belay.ReadLink)
	if err != nil {
		return "", err
	}
	if v.note != nil {
		reads, err := trace(v.store, f, kind)
		if err != nil {
			return "", v.unreadable(p, err)
		}
		v.note(reads)
	}
	d, err := digest(v.store, f, kind)
	if err != nil {
		return "", v.unreadable(p, err)
	}
	return d, nil
}

// ReadFile returns a file's content, which the caller may change.
func (v *view) ReadFile(p string) ([]byte, error) {
	f, err := v.get("open", p, belay.ReadFile)
	if err != nil {
		return nil, err
	}
	b, err := v.read("read", p, f)
	if err != nil {
		return nil, err
	}
	return append(make([]byte, 0, len(b)), b...), nil
}

// read returns the shared content of the file that was found under p.
func (v *view) read(op, p string, f found) ([]byte, error) {
	switch f.node.typ {
	case git.TypeDir:
		return nil, &fs.PathError{Op: op, Path: p, Err: errors.New("is a directory")}
	case git.TypeSubmodule:
		return nil, v.wrong(p, "is a submodule, which is not fetched", submoduleHint)
	}
	b, err := v.store.content(f.node)
	if err != nil {
		return nil, v.unreadable(p, err)
	}
	if isLFS(b) {
		return nil, v.wrong(p, "is a Git LFS pointer, not the file itself",
			"commit the file without LFS: git lfs untrack, then git add --renormalize")
	}
	return b, nil
}

// ReadDir lists a directory by name.
func (v *view) ReadDir(p string) ([]fs.DirEntry, error) {
	f, err := v.get("readdir", p, belay.ReadList)
	if err != nil {
		return nil, err
	}
	return v.list("readdir", p, f)
}

func (v *view) list(op, p string, f found) ([]fs.DirEntry, error) {
	switch {
	case f.node.typ == git.TypeSubmodule:
		return nil, v.wrong(p, "is a submodule, which is not fetched", submoduleHint)
	case f.node.typ != git.TypeDir:
		return nil, &fs.PathError{Op: op, Path: p, Err: errors.New("not a directory")}
	}
	entries, err := v.store.children(f.node)
	if err != nil {
		return nil, v.unreadable(p, err)
	}
	out := make([]fs.DirEntry, len(entries))
	for i, e := range entries {
		out[i] = &dirEntry{v: v, n: node{typ: e.Type, id: e.ID, path: join(f.real, e.Name)}}
	}
	return out, nil
}

// Stat says what a path leads to. A submodule is irregular.
func (v *view) Stat(p string) (fs.FileInfo, error) {
	f, err := v.get("stat", p, belay.ReadStat)
	if err != nil {
		return nil, err
	}
	return v.info(path.Base(p), f.node)
}

// Lstat is Stat that does not follow a symlink at the end.
func (v *view) Lstat(p string) (fs.FileInfo, error) {
	f, err := v.get("lstat", p, belay.ReadLink)
	if err != nil {
		return nil, err
	}
	return v.info(path.Base(p), f.node)
}

// ReadLink returns where a symlink points, as it is written.
func (v *view) ReadLink(p string) (string, error) {
	f, err := v.get("readlink", p, belay.ReadLink)
	if err != nil {
		return "", err
	}
	if f.node.typ != git.TypeLink {
		return "", &fs.PathError{Op: "readlink", Path: p, Err: fs.ErrInvalid}
	}
	b, err := v.store.content(f.node)
	if err != nil {
		return "", v.unreadable(p, err)
	}
	return string(b), nil
}

// Open opens a file or directory. A file is read at once.
func (v *view) Open(p string) (fs.File, error) {
	f, err := v.find("open", p, true)
	if err != nil {
		return nil, err
	}
	if f.node.typ == git.TypeDir && f.why == "" {
		if _, err = v.get("open", p, belay.ReadStat); err != nil {
			return nil, err
		}
		return &openDir{v: v, p: p, info: &fileInfo{name: path.Base(p), typ: git.TypeDir}}, nil
	}
	if f, err = v.get("open", p, belay.ReadFile); err != nil {
		return nil, err
	}
	b, err := v.read("open", p, f)
	if err != nil {
		return nil, err
	}
	return &openFile{Reader: bytes.NewReader(b), p: p,
		info: &fileInfo{name: path.Base(p), typ: f.node.typ, size: int64(len(b))}}, nil
}

func (v *view) info(name string, n node) (*fileInfo, error) {
	i := &fileInfo{name: name, typ: n.typ}
	if n.isFile() || n.typ == git.TypeLink {
		size, err := v.store.size(n)
		if err != nil {
			return nil, v.unreadable(n.path, err)
		}
		i.size = size
	}
	return i, nil
}

// fileInfo has no time: a result that depended on it would hold for no other
// commit.
type fileInfo struct {
	name string
	typ  git.EntryType
	size int64
}

func (i *fileInfo) Name() string       { return i.name }
func (i *fileInfo) Size() int64        { return i.size }
func (i *fileInfo) ModTime() time.Time { return time.Time{} }
func (i *fileInfo) IsDir() bool        { return i.typ == git.TypeDir }
func (i *fileInfo) Sys() any           { return nil }
func (i *fileInfo) String() string     { return fs.FormatFileInfo(i) }

func (i *fileInfo) Mode() fs.FileMode {
	m := modeType(i.typ)
	switch i.typ {
	case git.TypeDir, git.TypeExec:
		return m | 0o555
	case git.TypeLink:
		return m | 0o777
	}
	return m | 0o444
}

func modeType(t git.EntryType) fs.FileMode {
	switch t {
	case git.TypeDir:
		return fs.ModeDir
	case git.TypeLink:
		return fs.ModeSymlink
	case git.TypeSubmodule:
		return fs.ModeIrregular
	}
	return 0
}

type dirEntry struct {
	v *view
	n node
}

func (e *dirEntry) Name() string               { return path.Base(e.n.path) }
func (e *dirEntry) IsDir() bool                { return e.n.typ == git.TypeDir }
func (e *dirEntry) Type() fs.FileMode          { return modeType(e.n.typ) }
func (e *dirEntry) String() string             { return fs.FormatDirEntry(e) }
func (e *dirEntry) Info() (fs.FileInfo, error) { return e.v.info(e.Name(), e.n) }

type openFile struct {
	*bytes.Reader
	p      string
	info   *fileInfo
	closed bool
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f *openFile) Read(b []byte) (int, error) {
	if f.closed {
		return 0, &fs.PathError{Op: "read", Path: f.p, Err: fs.ErrClosed}
	}
	return f.Reader.Read(b)
}

func (f *openFile) Close() error {
	f.closed = true
	return nil
}

type openDir struct {
	v       *view
	p       string
	info    *fileInfo
	entries []fs.DirEntry
	read    bool
}

func (d *openDir) Stat() (fs.FileInfo, error) { return d.info, nil }
func (d *openDir) Close() error               { return nil }
func (d *openDir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.p, Err: errors.New("is a directory")}
}

// ReadDir lists the next n entries, all that are left for n <= 0.
func (d *openDir) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		entries, err := d.v.ReadDir(d.p)
		if err != nil {
			return nil, err
		}
		d.entries, d.read = entries, true
	}
	if n <= 0 || n > len(d.entries) {
		if n > 0 && len(d.entries) == 0 {
			return nil, io.EOF
		}
		n = len(d.entries)
	}
	out := d.entries[:n:n]
	d.entries = d.entries[n:]
	return out, nil
}
