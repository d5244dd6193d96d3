package source

import (
	"slices"
	"strings"
	"sync"

	"github.com/belaydev/belay"
)

// Index finds whose reads a change of paths may touch. What it finds is never
// too little: whoever is left out would read the same again. With the changes
// of [Diff] it is rarely too much. It may be used by several goroutines.
type Index struct {
	mu   sync.Mutex
	root place
	ids  map[string]int32
	keys []string
	read map[int32][]string // the paths of each key, for Remove
	free []int32
}

// place is one path of the tree of all that was read.
type place struct {
	below   map[string]*place
	readers []reader
}

type reader struct {
	key   int32
	kinds kinds
}

// kinds is a set of read kinds.
type kinds uint8

const (
	kindFile kinds = 1 << iota
	kindList
	kindStat
	kindLink
	kindAny = kindFile | kindList | kindStat | kindLink
)

func kindOf(k belay.ReadKind) kinds {
	switch k {
	case belay.ReadFile:
		return kindFile
	case belay.ReadList:
		return kindList
	case belay.ReadStat:
		return kindStat
	case belay.ReadLink:
		return kindLink
	}
	return kindAny
}

// NewIndex makes an empty index.
func NewIndex() *Index {
	return &Index{ids: map[string]int32{}, read: map[int32][]string{}}
}

// Set replaces what a key reads.
func (x *Index) Set(key string, reads []belay.Read) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(key)
	id := int32(len(x.keys))
	if n := len(x.free); n > 0 {
		id, x.free = x.free[n-1], x.free[:n-1]
		x.keys[id] = key
	} else {
		x.keys = append(x.keys, key)
	}
	x.ids[key] = id
	byPath := make(map[string]kinds, len(reads))
	for _, r := range reads {
		byPath[r.Path] |= kindOf(r.Kind)
	}
	paths := make([]string, 0, len(byPath))
	for p, k := range byPath {
		at := &x.root
		for _, c := range components(p) {
			next := at.below[c]
			if next == nil {
				next = &place{}
				if at.below == nil {
					at.below = map[string]*place{}
				}
				at.below[c] = next
			}
			at = next
		}
		at.readers = append(at.readers, reader{id, k})
		paths = append(paths, p)
	}
	x.read[id] = paths
}

// Remove forgets a key.
func (x *Index) Remove(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(key)
}

func (x *Index) remove(key string) {
	id, ok := x.ids[key]
	if !ok {
		return
	}
	for _, p := range x.read[id] {
		x.root.forget(components(p), id)
	}
	delete(x.ids, key)
	delete(x.read, id)
	x.keys[id] = ""
	x.free = append(x.free, id)
}

// forget removes a reader, and says whether nothing is left here.
func (p *place) forget(path []string, id int32) bool {
	if len(path) == 0 {
		p.readers = slices.DeleteFunc(p.readers, func(r reader) bool { return r.key == id })
	} else if next := p.below[path[0]]; next != nil && next.forget(path[1:], id) {
		delete(p.below, path[0])
	}
	return len(p.readers) == 0 && len(p.below) == 0
}

// Paths are those that a key reads, sorted.
func (x *Index) Paths(key string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	id, ok := x.ids[key]
	if !ok {
		return nil
	}
	return slices.Sorted(slices.Values(x.read[id]))
}

// Affected lists the keys whose reads the changes may touch, sorted.
func (x *Index) Affected(changes []belay.PathChange) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	hit := map[int32]bool{}
	for _, c := range changes {
		x.touch(c, hit)
	}
	out := make([]string, 0, len(hit))
	for id := range hit {
		out = append(out, x.keys[id])
	}
	slices.Sort(out)
	return out
}

func (x *Index) touch(c belay.PathChange, hit map[int32]bool) {
	path := components(c.Path)
	moved := c.Old == "" || c.New == "" // it came or went, and did not just change
	top := len(components(c.Top))
	if top > len(path) || c.Top != "" && c.Path != c.Top && !strings.HasPrefix(c.Path, c.Top+"/") {
		top = 0
	}
	at := &x.root
	for depth := range path {
		if moved {
			switch {
			case top == 0: // not known how high up it shows
				at.hit(kindAny, hit)
			case depth == top-1: // the listing that has it or its directory
				at.hit(kindList, hit)
			case depth >= top: // a directory that came or went with it
				at.hit(kindAny, hit)
			}
		}
		if at = at.below[path[depth]]; at == nil {
			return
		}
	}
	if moved {
		at.hit(kindAny, hit)
	} else {
		at.hit(kindFile|kindLink, hit)
	}
	// A symlink or submodule decides what is found below it.
	for _, b := range at.below {
		b.hitAll(hit)
	}
}

func (p *place) hit(k kinds, hit map[int32]bool) {
	for _, r := range p.readers {
		if r.kinds&k != 0 {
			hit[r.key] = true
		}
	}
}

func (p *place) hitAll(hit map[int32]bool) {
	p.hit(kindAny, hit)
	for _, b := range p.below {
		b.hitAll(hit)
	}
}
