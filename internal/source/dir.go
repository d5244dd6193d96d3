package source

import (
	"crypto/sha1" //nolint:gosec // Git's own object ids; nothing relies on it for trust
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/belaydev/belay/internal/git"
)

// Dir is a snapshot of a working directory as it is on disk, uncommitted changes
// included and .git left out. It follows what changes on disk; nothing outside
// the directory can be read, whatever its symlinks say. Close it when done.
func Dir(path string) (*DirSnapshot, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("open the working directory: %w", err)
	}
	return &DirSnapshot{Snapshot{view{store: &dirStore{r: root}}}, root}, nil
}

// DirSnapshot is a [Snapshot] of a directory.
type DirSnapshot struct {
	Snapshot
	root *os.Root
}

// Close lets go of the directory.
func (d *DirSnapshot) Close() error { return d.root.Close() }

// maxDirFile is as for files in a repository.
const maxDirFile = git.DefaultMaxBlob

type dirStore struct{ r *os.Root }

func (d *dirStore) root() node { return node{typ: git.TypeDir, path: "."} }

func (d *dirStore) child(dir node, name string) (node, error) {
	if name == ".git" {
		return node{}, fs.ErrNotExist
	}
	p := join(dir.path, name)
	info, err := d.r.Lstat(p)
	if err != nil {
		return node{}, err
	}
	typ, ok := d.typeOf(p, info.Mode())
	if !ok {
		return node{}, fs.ErrNotExist
	}
	return node{typ: typ, path: p}, nil
}

// typeOf is what Git would make of a file; it takes no sockets and their like, and
// of a repository inside the repository it takes the commit alone.
func (d *dirStore) typeOf(p string, m fs.FileMode) (git.EntryType, bool) {
	switch {
	case m.IsDir():
		if _, err := d.r.Lstat(join(p, ".git")); err == nil {
			return git.TypeSubmodule, true
		}
		return git.TypeDir, true
	case m&fs.ModeSymlink != 0:
		return git.TypeLink, true
	case m.IsRegular() && m&0o100 != 0:
		return git.TypeExec, true
	case m.IsRegular():
		return git.TypeFile, true
	}
	return 0, false
}

func (d *dirStore) children(dir node) ([]git.Entry, error) {
	f, err := d.r.Open(dir.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	out := make([]git.Entry, 0, len(list))
	for _, e := range list {
		if e.Name() == ".git" {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		if typ, ok := d.typeOf(join(dir.path, e.Name()), info.Mode()); ok {
			out = append(out, git.Entry{Name: e.Name(), Type: typ})
		}
	}
	slices.SortFunc(out, func(a, b git.Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (d *dirStore) listDigest(dir node) (string, error) {
	entries, err := d.children(dir)
	if err != nil {
		return "", err
	}
	return git.ListDigest(entries), nil
}

func (d *dirStore) content(n node) ([]byte, error) {
	if n.typ == git.TypeLink {
		target, err := d.r.Readlink(n.path)
		return []byte(target), err
	}
	f, err := d.r.Open(n.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxDirFile+1))
	if err == nil && len(b) > maxDirFile {
		return nil, git.ErrTooBig
	}
	return b, err
}

func (d *dirStore) size(n node) (int64, error) {
	info, err := d.r.Lstat(n.path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d *dirStore) blobID(n node) (string, error) {
	b, err := d.content(n)
	if err != nil {
		return "", err
	}
	h := sha1.New() //nolint:gosec // see above
	fmt.Fprintf(h, "blob %d\x00", len(b))
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil)), nil
}
