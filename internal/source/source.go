// Package source gives the trees of repositories at a commit, without a
// checkout: a [Snapshot] is an io/fs over a commit, or over a working directory,
// whose reads can be recorded, compared and looked up. Its [Hub] follows many
// repositories: one question to each remote an interval, a fetch only when
// something that is followed moved, and the last good state when a remote is down.
//
// It must not know what the files mean or who reads them: no definitions, no
// rendering, no cluster.
package source

import (
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

// Files is the tree of a commit or of a working directory. Paths are those of
// io/fs. Symlinks are followed within the tree. What cannot be read, a symlink
// that leaves the tree, a submodule or a Git LFS pointer, is a [belay.Error]
// that names the path; it can be listed nevertheless.
type Files interface {
	fs.ReadFileFS
	fs.ReadDirFS
	fs.StatFS
	fs.ReadLinkFS
	// Digest is what a read of that kind learns, see [belay.ReadKind]. Where it
	// finds nothing to read, the digest is the word for that: "absent", "dir",
	// "file", "submodule", "outside" for a symlink that leaves the tree, "loop"
	// for one that comes back to itself. The error is for a tree that cannot be read.
	Digest(kind belay.ReadKind, path string) (string, error)
	// Commit is the full id, empty for a working directory.
	Commit() string
	// Repo is the URL without credentials, empty for a working directory.
	Repo() string
}

// The digests of what has no content of that kind.
const (
	isAbsent    = "absent"
	isDir       = "dir"
	isFile      = "file"
	isSubmodule = "submodule"
	isOutside   = "outside"
	isLoop      = "loop"
)

// Key is the identity of a repository; see [git.Key].
func Key(url string) string { return git.Key(url) }

// Holds says whether every read would learn the same from files. What cannot be
// read now does not hold.
func Holds(files interface {
	Digest(kind belay.ReadKind, path string) (string, error)
}, reads []belay.Read) bool {
	for _, r := range reads {
		if d, err := files.Digest(r.Kind, r.Path); err != nil || d != r.Digest {
			return false
		}
	}
	return true
}

// node is one thing in a tree.
type node struct {
	typ  git.EntryType
	id   string // Git object id; empty in a working directory until asked for
	path string // where it really is: no symlink on the way
}

func (n node) isFile() bool { return n.typ == git.TypeFile || n.typ == git.TypeExec }

// store is where a tree comes from. Its errors are those of reading; that there
// is no such child is fs.ErrNotExist. The bytes it returns are shared.
type store interface {
	root() node
	child(dir node, name string) (node, error)
	children(dir node) ([]git.Entry, error)
	listDigest(dir node) (string, error)
	content(n node) ([]byte, error)
	size(n node) (int64, error)
	blobID(n node) (string, error)
}

// found is where a path leads.
type found struct {
	node node
	// why is empty when node is what was looked for, else the digest that says
	// why there is nothing: absent, submodule, outside or loop.
	why string
	// real is the path without symlinks, of node or of what is not there.
	real string
	// blocked: node is a file that a symlink wants to go back from, as from a directory.
	blocked bool
	// links are the symlinks on the way.
	links []node
	// left are the directories that a symlink went back from: were one a symlink
	// itself, that would lead elsewhere.
	left []node
}

// maxLinks is the number of symlinks on the way to a file; Linux has 40, too.
const maxLinks = 40

// walk follows a path. Symlinks on the way are followed, one at the end only
// when follow is true.
func walk(s store, p string, follow bool) (found, error) {
	var f found
	dirs := []node{s.root()} // the way to where we are; the last one is here
	rest := components(p)
	for len(rest) > 0 {
		here := dirs[len(dirs)-1]
		name := rest[0]
		switch {
		case here.typ == git.TypeSubmodule:
			f.why, f.real = isSubmodule, here.path
			return f, nil
		case here.typ != git.TypeDir && name == "..":
			f.why, f.real, f.node, f.blocked = isAbsent, here.path, here, true
			return f, nil
		case here.typ != git.TypeDir:
			f.why, f.real = isAbsent, beneath(here.path, rest)
			return f, nil
		case name == "..":
			if len(dirs) == 1 {
				f.why, f.real = isOutside, here.path
				return f, nil
			}
			f.left = append(f.left, here)
			dirs, rest = dirs[:len(dirs)-1], rest[1:]
			continue
		}
		n, err := s.child(here, name)
		if errors.Is(err, fs.ErrNotExist) {
			f.why, f.real = isAbsent, beneath(here.path, rest)
			return f, nil
		}
		if err != nil {
			return f, err
		}
		rest = rest[1:]
		if n.typ != git.TypeLink || len(rest) == 0 && !follow {
			dirs = append(dirs, n)
			continue
		}
		f.links = append(f.links, n)
		target, err := s.content(n)
		if err != nil {
			return f, err
		}
		if len(f.links) > maxLinks {
			f.why, f.real = isLoop, n.path
			return f, nil
		}
		if strings.HasPrefix(string(target), "/") {
			f.why, f.real = isOutside, n.path
			return f, nil
		}
		rest = append(components(string(target)), rest...)
	}
	f.node = dirs[len(dirs)-1]
	f.real = f.node.path
	return f, nil
}

func components(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(c string) bool { return c == "" || c == "." })
}

// beneath is the path that rest leads to from dir, up to where it turns back.
func beneath(dir string, rest []string) string {
	if i := slices.Index(rest, ".."); i >= 0 {
		rest = rest[:i]
	}
	return join(dir, strings.Join(rest, "/"))
}

func join(dir, name string) string {
	if dir == "." || dir == "" {
		return name
	}
	return dir + "/" + name
}

// digest is what a read of that kind learns from where a path leads.
func digest(s store, f found, kind belay.ReadKind) (string, error) {
	n := f.node
	switch {
	case f.why != "":
		return f.why, nil
	case n.typ == git.TypeDir:
		if kind == belay.ReadList {
			return s.listDigest(n)
		}
		return isDir, nil
	case n.typ == git.TypeSubmodule:
		return isSubmodule, nil
	case n.typ == git.TypeLink: // only when the last one is not followed
		return s.blobID(n)
	case kind == belay.ReadFile:
		return s.blobID(n)
	}
	return isFile, nil
}

// trace lists what a read of that kind depends on: the place that the path
// really leads to, and every symlink on the way.
func trace(s store, f found, kind belay.ReadKind) ([]belay.Read, error) {
	reads := make([]belay.Read, 0, len(f.links)+1)
	for _, l := range f.links {
		id, err := s.blobID(l)
		if err != nil {
			return nil, err
		}
		reads = append(reads, belay.Read{Path: l.path, Kind: belay.ReadLink, Digest: id})
	}
	for _, d := range f.left {
		reads = append(reads, belay.Read{Path: d.path, Kind: belay.ReadLink, Digest: isDir})
	}
	switch f.why {
	case isOutside, isLoop: // follows from the links alone
		return reads, nil
	case isAbsent, isSubmodule:
		if kind != belay.ReadLink {
			kind = belay.ReadStat
		}
	}
	if f.blocked {
		return append(reads, belay.Read{Path: f.real, Kind: belay.ReadStat, Digest: isFile}), nil
	}
	d, err := digest(s, f, kind)
	if err != nil {
		return nil, err
	}
	return append(reads, belay.Read{Path: f.real, Kind: kind, Digest: d}), nil
}
