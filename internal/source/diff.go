package source

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

// Diff lists the paths that differ between two snapshots, sorted. Directories
// with the same id are not looked into, so the cost follows what changed. Whether
// a file is executable makes no difference. The error is for a tree that cannot
// be read.
func Diff(ctx context.Context, a, b *Snapshot) ([]belay.PathChange, error) {
	d := &differ{ctx: ctx, a: a.store, b: b.store}
	if err := d.dirs(a.store.root(), b.store.root()); err != nil {
		return nil, a.unreadable(".", err)
	}
	slices.SortFunc(d.out, func(x, y belay.PathChange) int {
		// Of two that are one change of type, the removal comes first.
		return cmp.Or(strings.Compare(x.Path, y.Path), strings.Compare(y.Old, x.Old))
	})
	return d.out, nil
}

type differ struct {
	ctx  context.Context
	a, b store
	out  []belay.PathChange
}

func (d *differ) dirs(a, b node) error {
	if a.id != "" && a.id == b.id {
		return nil
	}
	if err := context.Cause(d.ctx); err != nil {
		return err
	}
	as, err := d.a.children(a)
	if err != nil {
		return err
	}
	bs, err := d.b.children(b)
	if err != nil {
		return err
	}
	for len(as) > 0 || len(bs) > 0 {
		var order int
		switch {
		case len(as) == 0:
			order = 1
		case len(bs) == 0:
			order = -1
		default:
			order = strings.Compare(as[0].Name, bs[0].Name)
		}
		var err error
		switch {
		case order < 0:
			err = d.side(d.a, child(a, as[0]), join(a.path, as[0].Name), true)
			as = as[1:]
		case order > 0:
			err = d.side(d.b, child(b, bs[0]), join(b.path, bs[0].Name), false)
			bs = bs[1:]
		default:
			err = d.both(child(a, as[0]), child(b, bs[0]))
			as, bs = as[1:], bs[1:]
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func child(dir node, e git.Entry) node {
	return node{typ: e.Type, id: e.ID, path: join(dir.path, e.Name)}
}

// both compares what stands under one path on both sides.
func (d *differ) both(a, b node) error {
	switch {
	case a.typ == git.TypeDir && b.typ == git.TypeDir:
		return d.dirs(a, b)
	case a.typ == b.typ, a.isFile() && b.isFile():
		ida, err := idOf(d.a, a)
		if err != nil {
			return err
		}
		idb, err := idOf(d.b, b)
		if err != nil {
			return err
		}
		if ida != idb {
			d.out = append(d.out, belay.PathChange{Path: a.path, Old: ida, New: idb, Top: a.path})
		}
		return nil
	}
	if err := d.side(d.a, a, a.path, true); err != nil {
		return err
	}
	return d.side(d.b, b, b.path, false)
}

// side lists everything at and below a node that is on one side only.
func (d *differ) side(s store, n node, top string, removed bool) error {
	if n.typ == git.TypeDir {
		if err := context.Cause(d.ctx); err != nil {
			return err
		}
		entries, err := s.children(n)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := d.side(s, child(n, e), top, removed); err != nil {
				return err
			}
		}
		if len(entries) > 0 {
			return nil
		}
		// An empty directory is nothing that git commits, but nothing it refuses
		// either, and a listing shows it.
	}
	id, err := idOf(s, n)
	if err != nil {
		return err
	}
	c := belay.PathChange{Path: n.path, New: id, Top: top}
	if removed {
		c.Old, c.New = id, ""
	}
	d.out = append(d.out, c)
	return nil
}

func idOf(s store, n node) (string, error) {
	if n.id != "" {
		return n.id, nil
	}
	if n.typ == git.TypeDir {
		return "4b825dc642cb6eb9a060e54bf8d69288fbee4904", nil // the empty tree
	}
	return s.blobID(n)
}
