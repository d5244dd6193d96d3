package wire

import (
	"errors"
	"io/fs"
	"path"
)

// Memory is a Tree that asks another one for nothing twice. It lives for one
// render: a source does not change under it.
type Memory struct {
	tree  Tree
	stats map[string]Stat
	lists map[string]Listing
	files map[string]Content
}

// Remember returns a Memory of tree, which is tree itself if it is one.
func Remember(tree Tree) *Memory {
	if m, ok := tree.(*Memory); ok {
		return m
	}
	return &Memory{tree: tree, stats: map[string]Stat{}, lists: map[string]Listing{}, files: map[string]Content{}}
}

// Look implements [Tree].
func (m *Memory) Look(q Question) Seen {
	var missing Question
	var added map[string]bool // within this question
	first := func(kind, p string) bool {
		if added[kind+p] {
			return false
		}
		if added == nil {
			added = map[string]bool{}
		}
		added[kind+p] = true
		return true
	}
	stats, lists, reads := clean(q.Stat), clean(q.List), clean(q.Read)
	// What is read need not be asked about as well.
	for _, p := range reads {
		if _, ok := m.content(p); !ok && first("r", p) {
			missing.Read = append(missing.Read, p)
		}
	}
	for _, p := range stats {
		if _, ok := m.stats[p]; !ok && first("s", p) {
			missing.Stat = append(missing.Stat, p)
		}
	}
	for _, p := range lists {
		if _, ok := m.lists[p]; !ok && first("l", p) {
			missing.List = append(missing.List, p)
		}
	}
	if missing.Len() > 0 {
		m.Learn(missing, m.tree.Look(missing))
	}
	seen := Seen{Stats: make([]Stat, len(stats)), Listings: make([]Listing, len(lists)), Contents: make([]Content, len(reads))}
	for i, p := range stats {
		seen.Stats[i] = m.stats[p]
	}
	for i, p := range lists {
		seen.Listings[i] = m.lists[p]
	}
	for i, p := range reads {
		seen.Contents[i], _ = m.content(p)
	}
	return seen
}

// content is what is known of a file: what cannot be there cannot be read.
func (m *Memory) content(p string) (Content, bool) {
	if c, ok := m.files[p]; ok {
		return c, true
	}
	switch st, ok := m.stats[p]; {
	case !ok:
	case errors.Is(st.Err, fs.ErrNotExist):
		return Content{Err: st.Err}, true
	case st.Err == nil && st.Dir:
		return Content{Dir: true, Err: &PathError{Path: p, Reason: "is a directory"}}, true
	}
	return Content{}, false
}

// Learn takes the answers to a question, whoever asked it. Its paths are clean.
func (m *Memory) Learn(q Question, seen Seen) {
	for i, p := range q.Stat {
		m.stats[p] = seen.Stats[i]
	}
	for i, p := range q.List {
		m.lists[p] = seen.Listings[i]
		if seen.Listings[i].Err == nil {
			m.stats[p] = Stat{Dir: true}
		}
	}
	for i, p := range q.Read {
		c := seen.Contents[i]
		m.files[p] = c
		// Any other error says nothing of what the path is.
		if c.Err == nil || c.Dir || errors.Is(c.Err, fs.ErrNotExist) {
			st := Stat{Dir: c.Dir}
			if !c.Dir {
				st.Err = c.Err
			}
			m.stats[path.Clean(p)] = st
		}
	}
}

// Stat implements [Tree].
func (m *Memory) Stat(paths ...string) []Stat { return m.Look(Question{Stat: paths}).Stats }

// List implements [Tree].
func (m *Memory) List(paths ...string) []Listing { return m.Look(Question{List: paths}).Listings }

// Read implements [Tree].
func (m *Memory) Read(paths ...string) []Content { return m.Look(Question{Read: paths}).Contents }

// Known returns what was read of a file before, and asks for nothing.
func (m *Memory) Known(p string) (Content, bool) {
	c, ok := m.files[path.Clean(p)]
	return c, ok
}

// Contents are all files that were read so far, by path.
func (m *Memory) Contents() map[string]Content { return m.files }
