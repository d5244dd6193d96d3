package verify

import (
	"bytes"
	"encoding/hex"
	"errors"
)

// change is a file that a commit changes; an empty id stands for none.
type change struct {
	path     string
	mode     string // of the new file
	old, new string
	sum      [32]byte // SHA-256 of the new file
	data     []byte   // of the new file, where it is wanted
	err      error    // why the new file cannot be read
}

// entry is a line of a tree.
type entry struct {
	mode, name []byte
	id         []byte
}

func (e *entry) dir() bool { return string(e.mode) == "40000" }

// next takes the first entry off a raw tree.
func next(tree []byte, idLen int) (e entry, rest []byte, err error) {
	sp := bytes.IndexByte(tree, ' ')
	nul := bytes.IndexByte(tree, 0)
	if sp <= 0 || nul < sp || len(tree) < nul+1+idLen {
		return entry{}, nil, errors.New("the tree is garbled")
	}
	e = entry{mode: tree[:sp], name: tree[sp+1 : nul], id: tree[nul+1 : nul+1+idLen]}
	if len(e.name) == 0 || bytes.IndexByte(e.name, '/') >= 0 || string(e.name) == "." || string(e.name) == ".." {
		return entry{}, nil, errors.New("the tree has a file of the name " + string(e.name))
	}
	return e, tree[nul+1+idLen:], nil
}

// job is two trees to be compared: of which commit of a batch, and where.
type job struct {
	commit   int
	prefix   string
	old, new string
}

// differ compares trees, many commits at once and level by level, so that git is
// asked for all trees of a level together.
type differ struct {
	objects *objects
	idLen   int // in bytes
	// young and old hold trees of this batch and the one before it.
	young, old map[string][]byte
}

// diff fills the changes of a batch of commits, each against the tree before it.
func (d *differ) diff(jobs []job, changed func(commit int, c change), broken func(commit int, path, id string, err error)) error {
	d.old, d.young = d.young, map[string][]byte{}
	for len(jobs) > 0 {
		bad, err := d.load(jobs)
		if err != nil {
			return err
		}
		var below []job
		for _, j := range jobs {
			if err := bad[j.new]; err != nil {
				broken(j.commit, j.prefix, j.new, err)
				continue
			}
			if bad[j.old] != nil { // told with the commit that brought it
				broken(j.commit, j.prefix, "", nil)
				continue
			}
			err := compare(d.young[j.old], d.young[j.new], d.idLen, func(old, now *entry) {
				below = d.differing(j, old, now, below, changed)
			})
			if err != nil {
				broken(j.commit, j.prefix, j.new, err)
			}
		}
		jobs = below
	}
	return nil
}

// load makes the trees of jobs known.
func (d *differ) load(jobs []job) (bad map[string]error, err error) {
	var ids []string
	for _, j := range jobs {
		for _, id := range []string{j.old, j.new} {
			if _, known := d.young[id]; known || id == "" {
				continue
			}
			if tree, ok := d.old[id]; ok {
				d.young[id] = tree
				continue
			}
			d.young[id] = nil
			ids = append(ids, id)
		}
	}
	bad = map[string]error{}
	err = d.objects.get(ids, func(i int, o object) {
		switch {
		case o.err != nil:
			bad[ids[i]] = o.err
		case o.kind != "tree":
			bad[ids[i]] = errors.New("a " + o.kind + " where a directory should be")
		default:
			d.young[ids[i]] = o.data
		}
	})
	for id := range bad {
		delete(d.young, id)
	}
	return bad, err
}

// compare walks two raw trees side by side.
func compare(old, now []byte, idLen int, differs func(old, now *entry)) error {
	var a, b entry
	var err error
	step := func(tree *[]byte, e *entry) {
		if e.name = nil; len(*tree) > 0 && err == nil {
			*e, *tree, err = next(*tree, idLen)
		}
	}
	step(&old, &a)
	step(&now, &b)
	for err == nil && (a.name != nil || b.name != nil) {
		switch order := orderOf(&a, &b); {
		case order < 0:
			differs(&a, nil)
			step(&old, &a)
		case order > 0:
			differs(nil, &b)
			step(&now, &b)
		default:
			if !bytes.Equal(a.id, b.id) || !bytes.Equal(a.mode, b.mode) {
				differs(&a, &b)
			}
			step(&old, &a)
			step(&now, &b)
		}
	}
	return err
}

// orderOf is the order of Git: a directory's name ends in a slash.
func orderOf(a, b *entry) int {
	switch {
	case a.name == nil:
		return 1
	case b.name == nil:
		return -1
	}
	n := min(len(a.name), len(b.name))
	if c := bytes.Compare(a.name[:n], b.name[:n]); c != 0 {
		return c
	}
	return int(after(a, n)) - int(after(b, n))
}

func after(e *entry, n int) byte {
	switch {
	case n < len(e.name):
		return e.name[n]
	case e.dir():
		return '/'
	}
	return 0
}

// differing sorts a difference into files, and directories to look into.
func (d *differ) differing(j job, old, now *entry, below []job, changed func(int, change)) []job {
	sub := job{commit: j.commit}
	file := change{}
	if old != nil {
		path := j.prefix + string(old.name)
		if id := hex.EncodeToString(old.id); old.dir() {
			sub.prefix, sub.old = path+"/", id
		} else {
			file.path, file.old = path, id
		}
	}
	if now != nil {
		path := j.prefix + string(now.name)
		if id := hex.EncodeToString(now.id); now.dir() {
			sub.prefix, sub.new = path+"/", id
		} else {
			file.path, file.new, file.mode = path, id, string(now.mode)
		}
	}
	if sub.prefix != "" {
		below = append(below, sub)
	}
	if file.path != "" {
		changed(j.commit, file)
	}
	return below
}
