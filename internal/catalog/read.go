package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/belaydev/belay"
)

// A file is what one file says, and what is kept of what it said before. It is
// never changed after it was made.
type file struct {
	// digest of the bytes; empty when they could not be read, so that they are
	// tried again.
	digest string
	content
}

// remembers says whether something of the file is in force that it says no more.
func (f *file) remembers() bool {
	for _, d := range f.docs {
		if d.state == stale {
			return true
		}
	}
	return false
}

// A dir is what is remembered of a directory to skip it while it is unchanged.
type dir struct {
	digest string
	files  []string // paths of definition files in it
	links  []string // paths of symbolic links in it, whose ends may change without it
	subs   []string // paths of submodules in it
	dirs   []string // paths of directories in it
}

type reader struct {
	ctx   context.Context
	files Files
	trees Trees // nil if files has none
	prev  *Catalog
	next  *Catalog
	// sameRoot: messages of prev, which name the root, are good for next.
	sameRoot bool
}

// read fills c.files.
func (c *Catalog) read(ctx context.Context, files Files, prev *Catalog) error {
	r := &reader{ctx: ctx, files: files, prev: prev, next: c, sameRoot: prev.opts.Root == c.opts.Root}
	r.trees, _ = files.(Trees)
	root := rootDir(c.opts.Root)
	entries, err := files.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return &belay.Error{Code: belay.CodeNotFound, Err: err,
			Origin:  belay.Origin{Repo: c.opts.Repo, Revision: c.opts.Revision, File: root},
			Message: "the directory of the definitions does not exist",
			Hint:    "check the path; to remove every definition on purpose, leave the directory with a README in it"}
	}
	if err != nil {
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		if _, ok := errors.AsType[*belay.Error](err); ok {
			return fmt.Errorf("list %q: %w", root, err)
		}
		return &belay.Error{Code: belay.CodeInvalid, Err: err,
			Origin:  belay.Origin{Repo: c.opts.Repo, Revision: c.opts.Revision, File: root},
			Message: "the directory of the definitions cannot be listed: " + err.Error(), Hint: "check the path"}
	}
	return r.dir(root, entries)
}

// definitions says whether a file name is one of definitions.
func definitions(name string) bool {
	switch path.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// dir reads a directory; entries are its list if that is known already.
func (r *reader) dir(p string, entries []fs.DirEntry) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	d := &dir{}
	if r.trees != nil {
		digest, err := r.trees.TreeDigest(p)
		if errors.Is(err, errors.ErrUnsupported) {
			r.trees = nil
			return r.dir(p, entries)
		}
		if err != nil {
			return r.failed(p, err)
		}
		if old := r.prev.dirs[p]; old != nil && old.digest == digest && r.sameRoot {
			return r.again(p, old)
		}
		d.digest = digest
	}
	if entries == nil {
		var err error
		if entries, err = r.files.ReadDir(p); err != nil {
			return r.failed(p, err)
		}
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		sub := path.Join(p, e.Name())
		switch {
		case e.IsDir():
			d.dirs = append(d.dirs, sub)
			if err := r.dir(sub, nil); err != nil {
				return err
			}
		case e.Type()&fs.ModeSymlink != 0:
			d.links = append(d.links, sub)
			if err := r.link(sub); err != nil {
				return err
			}
		case e.Type()&fs.ModeIrregular != 0:
			d.subs = append(d.subs, sub)
			r.submodule(sub)
		case definitions(e.Name()):
			d.files = append(d.files, sub)
			if err := r.file(sub); err != nil {
				return err
			}
		}
	}
	r.next.dirs[p] = d
	return nil
}

// again takes over a directory in which nothing changed.
func (r *reader) again(p string, old *dir) error {
	r.next.dirs[p] = old
	for _, f := range old.files {
		if known := r.prev.files[f]; known != nil && known.digest != "" {
			r.next.files[f] = known
		} else if err := r.file(f); err != nil {
			return err
		}
	}
	for _, l := range old.links {
		if err := r.link(l); err != nil {
			return err
		}
	}
	for _, sub := range old.subs {
		r.submodule(sub)
	}
	for _, sub := range old.dirs {
		if known := r.prev.dirs[sub]; known == nil {
			if err := r.dir(sub, nil); err != nil {
				return err
			}
		} else if err := r.again(sub, known); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) file(p string) error {
	digest, err := r.files.Digest(belay.ReadFile, p)
	if err != nil {
		return r.failed(p, err)
	}
	if known := r.prev.files[p]; known != nil && known.digest == digest && digest != "" && r.sameRoot {
		r.next.files[p] = known
		return nil
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	data, err := r.files.ReadFile(p)
	if err != nil {
		return r.failed(p, err)
	}
	r.keep(p, &file{digest: digest, content: parse(p, r.next.opts.Root, data)})
	return nil
}

// link reads the file that a symbolic link leads to, if it has a name of
// definitions. A link to a directory would be silently left out, so it is a problem.
func (r *reader) link(p string) error {
	what, err := r.files.Digest(belay.ReadStat, p)
	switch {
	case err == nil && what == "dir":
		r.keep(p, &file{content: unread("is a symbolic link to a directory, which is not followed", "move the definitions here, or remove the link")})
		return nil
	case definitions(p):
		return r.file(p)
	}
	return nil // a link to nowhere, or to a file that is none of ours, is nothing to us
}

func (r *reader) submodule(p string) {
	r.keep(p, &file{content: unread("is a submodule, which is not read", "put the definitions into this repository, or remove it")})
}

// failed files a path that cannot be read under its problem, unless it is not
// the path's fault: then the whole load fails.
func (r *reader) failed(p string, err error) error {
	if r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	if be, ok := errors.AsType[*belay.Error](err); ok && be.Code != belay.CodeUnavailable && be.Code != belay.CodeInternal {
		r.keep(p, &file{content: unread("cannot be read: "+be.Message, be.Hint)})
		return nil
	}
	for cause, message := range map[error]string{
		fs.ErrNotExist:   "cannot be read: it leads to nothing",
		fs.ErrPermission: "cannot be read: permission denied",
		fs.ErrInvalid:    "cannot be read: it leaves the repository, or is no regular file",
	} {
		if errors.Is(err, cause) {
			r.keep(p, &file{content: unread(message, "mend or remove it")})
			return nil
		}
	}
	return fmt.Errorf("read %q: %w", p, err)
}

// keep files f under p, with what the file meant before where it is wrong now.
// All that a broken file declared stays: a document that is gone may be the one
// that is broken.
func (r *reader) keep(p string, f *file) {
	r.next.files[p] = f
	before := r.prev.files[p]
	if !f.broken || before == nil {
		return
	}
	right, wrong := map[key]bool{}, map[key]bool{}
	for _, d := range f.docs {
		right[d.key] = right[d.key] || d.state == good
		wrong[d.key] = wrong[d.key] || d.state == partial
	}
	var docs []*document
	for _, d := range before.docs {
		if d.state != partial && !right[d.key] {
			right[d.key] = true
			docs = append(docs, d.asStale(r.prev.opts.Revision, !wrong[d.key]))
		}
	}
	for _, d := range f.docs {
		if d.state == good || !right[d.key] {
			docs = append(docs, d)
		}
	}
	f.docs = docs
}

// asStale is the document as one that is no longer written like this. revision
// is the one in which it was still good; absent says that nothing with its kind
// and name is written any more.
func (doc *document) asStale(revision string, absent bool) *document {
	d := *doc
	d.absent = absent
	if d.state == good {
		d.state, d.revision = stale, revision
	}
	return &d
}
