package catalog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/belaydev/belay"
)

// A match is a path that globs fit.
type match struct {
	path string
	// link: it is a symbolic link, whose end may change without its directory.
	link bool
}

// A globDir is what globs found in one directory and below, remembered to skip
// it while its tree is the same.
type globDir struct {
	path, digest string
	// states are the places in the globs at which the directory was entered.
	states string
	// volatile: there is a link in it or below.
	volatile bool
	matches  []match // in itself
	children []*globDir
}

// A globber finds the paths in a tree that globs fit. Links to directories match
// as directories and are not entered; names that begin with a dot are passed over.
type globber struct {
	ctx     context.Context
	files   Files
	trees   Trees // nil if files has none
	globs   [][]string
	exclude []string
	// directories: those are wanted, not files.
	directories bool
	left        int // matches until it is too many
}

// Globs beyond these are no work of people.
const (
	maxGlobs        = 100
	maxGlobSegments = 64
)

var errTooMany = fmt.Errorf("yields more than %d elements", maxElements)

func (g *globber) find(before *globDir) (*globDir, error) {
	start := map[place]bool{}
	for i := range g.globs {
		g.enter(start, place{i, 0})
	}
	return g.dir(".", start, before)
}

// place is a place in one of the globs.
type place struct{ glob, at int }

// enter adds a place, and the one behind a ** there, which may stand for nothing.
func (g *globber) enter(states map[place]bool, s place) {
	segs := g.globs[s.glob]
	states[s] = true
	if s.at < len(segs)-1 && segs[s.at] == "**" { // the last one stands for one name at least
		g.enter(states, place{s.glob, s.at + 1})
	}
}

// step is where a name leads; fits says whether the name itself is a match.
func (g *globber) step(states map[place]bool, name string) (next map[place]bool, fits bool) {
	for s := range states {
		segs := g.globs[s.glob]
		if s.at >= len(segs) {
			continue
		}
		if segs[s.at] == "**" {
			fits = fits || s.at == len(segs)-1
			next = g.add(next, s)
			continue
		}
		if ok, err := path.Match(segs[s.at], name); err != nil || !ok {
			continue
		}
		if s.at == len(segs)-1 {
			fits = true
			continue
		}
		next = g.add(next, place{s.glob, s.at + 1})
	}
	return next, fits
}

func (g *globber) add(states map[place]bool, s place) map[place]bool {
	if states == nil {
		states = map[place]bool{}
	}
	g.enter(states, s)
	return states
}

// signature identifies places.
func (g *globber) signature(states map[place]bool) string {
	var b strings.Builder
	for i := range g.globs {
		for at := range len(g.globs[i]) {
			if states[place{i, at}] {
				b.WriteString(strconv.Itoa(i) + ":" + strconv.Itoa(at) + " ")
			}
		}
	}
	return b.String()
}

func (g *globber) dir(p string, states map[place]bool, before *globDir) (*globDir, error) {
	if err := g.ctx.Err(); err != nil {
		return nil, err
	}
	d := &globDir{path: p, states: g.signature(states)}
	if g.trees != nil {
		var err error
		if d.digest, err = g.trees.TreeDigest(p); errors.Is(err, errors.ErrUnsupported) {
			g.trees = nil
		} else if err != nil {
			return nil, fmt.Errorf("read %q: %w", p, err)
		}
		if before != nil && before.digest == d.digest && d.digest != "" && before.states == d.states && !before.volatile {
			if g.left -= before.count(); g.left < 0 {
				return nil, errTooMany
			}
			return before, nil
		}
	}
	entries, err := g.files.ReadDir(p)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", p, err)
	}
	old := map[string]*globDir{}
	if before != nil {
		for _, c := range before.children {
			old[c.path] = c
		}
	}
	for _, e := range entries {
		if err := g.entry(d, path.Join(p, e.Name()), e, states, old); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// entry looks at one entry of a directory.
func (g *globber) entry(d *globDir, p string, e fs.DirEntry, states map[place]bool, old map[string]*globDir) error {
	if strings.HasPrefix(e.Name(), ".") {
		return nil
	}
	next, fits := g.step(states, e.Name())
	link := e.Type()&fs.ModeSymlink != 0
	if link {
		d.volatile = d.volatile || fits
		what, err := g.files.Digest(belay.ReadStat, p)
		if err != nil {
			return fmt.Errorf("read %q: %w", p, err)
		}
		fits = fits && (what == "dir") == g.directories && (what == "dir" || what == "file")
	} else {
		fits = fits && e.IsDir() == g.directories && (e.IsDir() || e.Type().IsRegular())
	}
	if fits && !g.excluded(p) {
		if g.left--; g.left < 0 {
			return errTooMany
		}
		d.matches = append(d.matches, match{p, link})
	}
	if !e.IsDir() || next == nil {
		return nil
	}
	sub, err := g.dir(p, next, old[p])
	if err != nil {
		return err
	}
	d.children = append(d.children, sub)
	d.volatile = d.volatile || sub.volatile
	return nil
}

func (g *globber) excluded(p string) bool {
	return slices.ContainsFunc(g.exclude, func(x string) bool { return belay.MatchGlob(x, p) })
}

func (d *globDir) count() int {
	n := len(d.matches)
	for _, c := range d.children {
		n += c.count()
	}
	return n
}

// unchanged says whether no match can have changed since before.
func (d *globDir) unchanged(before *globDir) bool {
	if d == before {
		return d.digest != "" && !d.volatile
	}
	if len(d.matches)+len(before.matches) > 0 || len(d.children) != len(before.children) {
		return false
	}
	for i, c := range d.children {
		if c.path != before.children[i].path || !c.unchanged(before.children[i]) {
			return false
		}
	}
	return true
}

// all lists the matches in the order of their paths.
func (d *globDir) all() []match {
	var out []match
	var walk func(*globDir)
	walk = func(d *globDir) {
		out = append(out, d.matches...)
		for _, c := range d.children {
			walk(c)
		}
	}
	walk(d)
	slices.SortFunc(out, func(a, b match) int { return strings.Compare(a.path, b.path) })
	return out
}
