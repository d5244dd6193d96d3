package pack

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Modes of the entries of a directory.
const (
	modeFile = "100644"
	modeDir  = "40000"
)

// Trees is the tree of a commit that changes: what was looked at or changed of it
// is kept, the rest is read when it is needed. One goroutine uses it.
type Trees struct {
	read func(ID) ([]byte, error)
	root node
	kept int
}

// node is a directory.
type node struct {
	// id is what it is written as, raw what it holds now, as Git writes it: mode,
	// blank, name, zero byte, ID; in the order of names, as if those of directories
	// ended in a slash. raw is nil before it is read.
	id  ID
	raw []byte
	// written is raw as of id, if that was written here: what a change is told from.
	written []byte
	dirs    map[string]*node // as far as they were looked at
	changed bool
}

// NewTrees begins with a tree; the zero ID is the empty one. read returns what a
// tree holds.
func NewTrees(root ID, read func(ID) ([]byte, error)) *Trees {
	return &Trees{read: read, root: node{id: root}, kept: 1}
}

// Kept is the number of directories in memory.
func (t *Trees) Kept() int { return t.kept }

// Set gives a file its content, by ID. It is false if the file had it before.
func (t *Trees) Set(path string, blob ID) (bool, error) {
	dirs, name, err := split(path)
	if err != nil {
		return false, err
	}
	way, err := t.walk(dirs, true)
	if err != nil {
		return false, err
	}
	dir := way[len(way)-1]
	if e, ok := find(dir.raw, name); ok && !e.dir && e.id == blob {
		return false, nil
	}
	dir.set(name, false, blob)
	touch(way)
	return true, nil
}

// Remove takes a file out, or a directory with everything in it. What is not there
// is no error. A directory that has nothing left goes too.
func (t *Trees) Remove(path string) error {
	dirs, name, err := split(path)
	if err != nil {
		return err
	}
	way, err := t.walk(dirs, false)
	if err != nil || way == nil {
		return err
	}
	dir := way[len(way)-1]
	e, ok := find(dir.raw, name)
	if _, made := dir.dirs[name]; !ok && !made {
		return nil
	}
	if ok {
		dir.cut(e)
	}
	delete(dir.dirs, name)
	touch(way)
	return nil
}

// Write adds what changed to a pack and returns the ID of the whole.
func (t *Trees) Write(p *Pack) (ID, error) {
	if err := t.load(&t.root); err != nil {
		return ID{}, err
	}
	if !t.root.changed && t.root.id != (ID{}) {
		return t.root.id, nil
	}
	return t.root.id, t.root.write(p)
}

// split tells the directories of a path from its name. No entry of a tree may be
// named as those that Git refuses.
func split(path string) (dirs []string, name string, err error) {
	dirs = strings.Split(path, "/")
	for _, s := range dirs {
		if s == "" || s == "." || s == ".." || strings.EqualFold(s, ".git") || strings.ContainsRune(s, 0) {
			return nil, "", fmt.Errorf("%q is no path in a repository", path)
		}
	}
	last := len(dirs) - 1
	return dirs[:last], dirs[last], nil
}

// walk goes down to a directory and returns all on the way, the root first. Where one
// is missing it is made, or there is no way.
func (t *Trees) walk(dirs []string, create bool) ([]*node, error) {
	n := &t.root
	way := []*node{n}
	for _, name := range dirs {
		if err := t.load(n); err != nil {
			return nil, err
		}
		next, ok := n.dirs[name]
		if !ok {
			e, found := find(n.raw, name)
			switch {
			case found && e.dir:
				next = &node{id: e.id}
			case !create:
				return nil, nil
			default:
				if found { // a file gives way
					n.cut(e)
				}
				next = &node{} // the empty one
			}
			n.keep(name, next)
			t.kept++
		}
		n = next
		way = append(way, n)
	}
	return way, t.load(n)
}

func (n *node) keep(name string, dir *node) {
	if n.dirs == nil {
		n.dirs = map[string]*node{}
	}
	n.dirs[name] = dir
}

func (t *Trees) load(n *node) error {
	if n.raw != nil {
		return nil
	}
	if n.id == (ID{}) {
		n.raw = []byte{}
		return nil
	}
	raw, err := t.read(n.id)
	if err != nil {
		return fmt.Errorf("read the tree %s: %w", n.id, err)
	}
	if err := check(raw); err != nil {
		return fmt.Errorf("read the tree %s: %w", n.id, err)
	}
	n.raw = append([]byte{}, raw...)
	return nil
}

func touch(way []*node) {
	for _, n := range way {
		n.changed = true
	}
}

// write adds a directory and those in it, as far as they changed.
func (n *node) write(p *Pack) error {
	for name, dir := range n.dirs {
		if !dir.changed {
			continue
		}
		if err := dir.write(p); err != nil {
			return err
		}
		if len(dir.raw) > 0 {
			n.set(name, true, dir.id)
			continue
		}
		delete(n.dirs, name)
		if e, ok := find(n.raw, name); ok && e.dir {
			n.cut(e)
		}
	}
	id, err := Sum(Tree, n.raw)
	if err != nil {
		return err
	}
	p.PutChanged(id, Tree, n.raw, n.id, n.written)
	n.id, n.written, n.changed = id, append(n.written[:0], n.raw...), false
	return nil
}

// set puts an entry at its place; one of that name is replaced, whatever it is.
func (n *node) set(name string, dir bool, id ID) {
	if !dir {
		delete(n.dirs, name)
	}
	if e, ok := find(n.raw, name); ok {
		if e.dir == dir {
			copy(n.raw[e.end-len(id):e.end], id[:])
			return
		}
		n.cut(e)
	}
	mode := modeFile
	if dir {
		mode = modeDir
	}
	entry := append([]byte(mode+" "+name+"\x00"), id[:]...)
	at := 0
	for at < len(n.raw) {
		e := entryAt(n.raw, at)
		if before(name, dir, e.name, e.dir) {
			break
		}
		at = e.end
	}
	n.raw = slices.Insert(n.raw, at, entry...)
}

func (n *node) cut(e entry) { n.raw = slices.Delete(n.raw, e.start, e.end) }

// before is Git's order of entries: by bytes, directories as if they ended in a slash.
func before(a string, aDir bool, b string, bDir bool) bool {
	if aDir {
		a += "/"
	}
	if bDir {
		b += "/"
	}
	return a < b
}

type entry struct {
	name       string
	dir        bool
	id         ID
	start, end int
}

// entryAt reads an entry of a tree that was checked.
func entryAt(raw []byte, start int) entry {
	blank := start + bytes.IndexByte(raw[start:], ' ')
	zero := blank + bytes.IndexByte(raw[blank:], 0)
	end := zero + 1 + len(ID{})
	return entry{name: string(raw[blank+1 : zero]), dir: string(raw[start:blank]) == modeDir, id: ID(raw[zero+1 : end]), start: start, end: end}
}

// find looks for an entry by name. It must not stop at what merely looks like it: an
// ID may hold any bytes.
func find(raw []byte, name string) (entry, bool) {
	for at := 0; at < len(raw); {
		blank := at + bytes.IndexByte(raw[at:], ' ')
		zero := blank + bytes.IndexByte(raw[blank:], 0)
		if string(raw[blank+1:zero]) == name {
			return entryAt(raw, at), true
		}
		at = zero + 1 + len(ID{})
	}
	return entry{}, false
}

var errTree = errors.New("it is damaged")

// check wants a whole number of entries.
func check(raw []byte) error {
	for len(raw) > 0 {
		blank := bytes.IndexByte(raw, ' ')
		if blank < 0 {
			return errTree
		}
		zero := bytes.IndexByte(raw[blank:], 0)
		if zero < 0 || len(raw) < blank+zero+1+len(ID{}) {
			return errTree
		}
		raw = raw[blank+zero+1+len(ID{}):]
	}
	return nil
}
