package reconcile

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// CommitTree is the tree of one commit as it is: links are not followed.
type CommitTree interface {
	// Entry is what stands at a path; the zero value for nothing.
	Entry(path string) (belay.TreeEntry, error)
	// Children are the entries of a directory by name; none where there is none.
	Children(dir string) (map[string]belay.TreeEntry, error)
}

// wish is what has to stand at a path so that a read finds what it found then.
type wish int

const (
	// wishExact: the file, link or submodule that was there then.
	wishExact wish = iota + 1
	// wishFile: some regular file; its content was not read.
	wishFile
	// wishDir: a directory, whatever is in it.
	wishDir
	// wishNothing: nothing at all.
	wishNothing
)

// restoration works out the edits of one tree. It is a function of the two trees
// and of what was read: no more is changed than what some read would see.
type restoration struct {
	then, now CommitTree
	wishes    map[string]wish
	edits     map[string]belay.TreeEntry // the zero value removes
}

// restore gives the edits that make every read of a tree find in now what it
// found in then. What it found already stays, and so does what nobody read.
func restore(reads []belay.Read, then, now CommitTree) ([]belay.TreeEdit, error) {
	r := &restoration{then: then, now: now, wishes: map[string]wish{}, edits: map[string]belay.TreeEntry{}}
	for _, read := range reads {
		if err := r.wishOf(read); err != nil {
			return nil, err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(r.wishes)) {
		if err := r.fulfil(p, r.wishes[p]); err != nil {
			return nil, err
		}
	}
	for _, p := range slices.Sorted(maps.Keys(r.wishes)) {
		if r.wishes[p] == wishDir && p != "." {
			if err := r.inhabit(p); err != nil {
				return nil, err
			}
		}
	}
	out := make([]belay.TreeEdit, 0, len(r.edits))
	for _, p := range slices.Sorted(maps.Keys(r.edits)) {
		out = append(out, belay.TreeEdit{Path: p, Entry: r.edits[p]})
	}
	return out, nil
}

// wishOf notes what a read wishes for: of its own path, and, of a listing, of
// every entry that stands there now or stood there then.
func (r *restoration) wishOf(read belay.Read) error {
	p := path.Clean(read.Path)
	was, err := r.then.Entry(p)
	if err != nil {
		return fmt.Errorf("read %q as it was: %w", p, err)
	}
	r.wish(p, wishFor(read.Kind, was))
	if err := r.wishForWay(p); err != nil {
		return err
	}
	if read.Kind != belay.ReadList || !was.IsDir() {
		return nil
	}
	before, err := r.then.Children(p)
	if err != nil {
		return fmt.Errorf("list %q as it was: %w", p, err)
	}
	after, err := r.now.Children(p)
	if err != nil {
		return fmt.Errorf("list %q as it is: %w", p, err)
	}
	for name, e := range before {
		switch {
		case e.IsDir():
			r.wish(path.Join(p, name), wishDir)
		case e.IsFile():
			r.wish(path.Join(p, name), wishFile)
		default:
			// Only that there is a link counts, but another one may lead elsewhere.
			r.wish(path.Join(p, name), wishExact)
		}
	}
	for name := range after {
		if before[name] == (belay.TreeEntry{}) {
			r.wish(path.Join(p, name), wishNothing)
		}
	}
	return nil
}

// wishForWay takes links off the way to a path that was none then: they would lead
// the read elsewhere.
func (r *restoration) wishForWay(p string) error {
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		is, err := r.now.Entry(dir)
		if err != nil {
			return fmt.Errorf("read %q as it is: %w", dir, err)
		}
		if is.Mode != belay.ModeLink {
			continue
		}
		was, err := r.then.Entry(dir)
		if err != nil {
			return fmt.Errorf("read %q as it was: %w", dir, err)
		}
		r.wish(dir, wishFor(belay.ReadLink, was))
	}
	return nil
}

// wishFor is what a read of a kind learned from an entry.
func wishFor(kind belay.ReadKind, was belay.TreeEntry) wish {
	switch {
	case was == (belay.TreeEntry{}):
		return wishNothing
	case was.IsDir():
		return wishDir
	case was.IsFile() && kind != belay.ReadFile:
		return wishFile
	}
	return wishExact
}

// wish keeps the stronger of two wishes for a path. They never contradict each
// other: all are of one tree.
func (r *restoration) wish(p string, w wish) {
	if have := r.wishes[p]; have == 0 || have == wishFile {
		r.wishes[p] = w
	}
}

func (r *restoration) fulfil(p string, w wish) error {
	is, err := r.now.Entry(p)
	if err != nil {
		return fmt.Errorf("read %q as it is: %w", p, err)
	}
	switch w {
	case wishNothing:
		return r.remove(p, is)
	case wishDir:
		if is.IsDir() {
			return nil
		}
		return r.remove(p, is) // inhabited when all else is known
	case wishFile:
		if is.IsFile() {
			return nil
		}
	}
	was, err := r.then.Entry(p)
	if err != nil {
		return fmt.Errorf("read %q as it was: %w", p, err)
	}
	if is.ID == was.ID && (is.Mode == was.Mode || is.IsFile() && was.IsFile()) {
		return nil
	}
	if is.IsDir() {
		if err := r.remove(p, is); err != nil {
			return err
		}
	}
	return r.put(p, was)
}

// remove takes away what stands at a path now, with everything below it.
func (r *restoration) remove(p string, is belay.TreeEntry) error {
	switch {
	case is == (belay.TreeEntry{}):
		return nil
	case !is.IsDir():
		if _, edited := r.edits[p]; !edited {
			r.edits[p] = belay.TreeEntry{}
		}
		return nil
	}
	children, err := r.now.Children(p)
	if err != nil {
		return fmt.Errorf("list %q as it is: %w", p, err)
	}
	for name, e := range children {
		if err := r.remove(path.Join(p, name), e); err != nil {
			return err
		}
	}
	return nil
}

// put sets a path, and takes away what keeps its directories from being some.
func (r *restoration) put(p string, e belay.TreeEntry) error {
	r.edits[p] = e
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		is, err := r.now.Entry(dir)
		if err != nil {
			return fmt.Errorf("read %q as it is: %w", dir, err)
		}
		if !is.IsDir() && is != (belay.TreeEntry{}) {
			r.edits[dir] = belay.TreeEntry{}
		}
	}
	return nil
}

// inhabit makes sure that a directory exists: Git keeps none that is empty. One
// of which nothing is left gets back what it held then.
func (r *restoration) inhabit(p string) error {
	for q, e := range r.edits {
		if e != (belay.TreeEntry{}) && strings.HasPrefix(q, p+"/") {
			return nil
		}
	}
	is, err := r.now.Entry(p)
	if err != nil {
		return fmt.Errorf("read %q as it is: %w", p, err)
	}
	if is.IsDir() {
		if left, err := r.anyLeft(p); left || err != nil {
			return err
		}
	}
	return r.copyBack(p)
}

// anyLeft says whether something below a directory stays.
func (r *restoration) anyLeft(p string) (bool, error) {
	children, err := r.now.Children(p)
	if err != nil {
		return false, fmt.Errorf("list %q as it is: %w", p, err)
	}
	for name, e := range children {
		q := path.Join(p, name)
		if e.IsDir() {
			if left, err := r.anyLeft(q); left || err != nil {
				return left, err
			}
		} else if edit, edited := r.edits[q]; !edited || edit != (belay.TreeEntry{}) {
			return true, nil
		}
	}
	return false, nil
}

func (r *restoration) copyBack(p string) error {
	children, err := r.then.Children(p)
	if err != nil {
		return fmt.Errorf("list %q as it was: %w", p, err)
	}
	for _, name := range slices.Sorted(maps.Keys(children)) {
		q, e := path.Join(p, name), children[name]
		if e.IsDir() {
			err = r.copyBack(q)
		} else {
			err = r.put(q, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
