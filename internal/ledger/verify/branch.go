package verify

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/belaydev/belay/internal/ledger/record"
)

// batch is how many commits are read together.
const batch = 128

// verifier goes through a ledger.
type verifier struct {
	ctx    context.Context
	o      *Options
	repo   *repo
	report *Report

	objects *objects
	// starts are the deployments that began, on any branch.
	starts map[string]bool
	// elsewhere are deployments that a record names and that began on another branch.
	elsewhere []Finding
	elseID    []string
	// sources are the commits that records name, by repository.
	sources map[string]*named
}

func (v *verifier) close() {
	if v.objects != nil {
		_ = v.objects.close() // it was only read from
	}
}

// entryOf is a commit with what it changes.
type entryOf struct {
	commit
	err     error // the commit cannot be read
	changes []change
	// partial is true when not all of its tree could be read.
	partial bool
	broken  []Finding
}

// branch verifies one branch.
func (v *verifier) branch(b branch) error {
	v.objects = &objects{ctx: v.ctx, repo: v.repo}
	defer v.close()
	ids, problem, err := v.repo.chain(v.ctx, v.objects, b.head)
	if err != nil {
		return err
	}
	c := newChecker(v, b)
	if problem != nil {
		c.headless, c.lost = true, problem
	}
	d := &differ{objects: v.objects, idLen: len(b.head) / 2}
	for r := range v.reading(d, ids, c.headless) {
		if r.err != nil {
			return r.err
		}
		for i := range r.entries {
			c.record(&r.entries[i])
		}
	}
	c.end()
	v.report.Records += c.b.Records
	v.report.Branches = append(v.report.Branches, c.b)
	return nil
}

// chunk is some commits in a row, or why they could not be read.
type chunk struct {
	entries []entryOf
	err     error
}

// reading reads commits while those before them are checked. It ends after the
// last one, or an error, which has to be taken.
func (v *verifier) reading(d *differ, ids []string, headless bool) <-chan chunk {
	out := make(chan chunk, 1)
	go func() {
		defer close(out)
		previous := ""
		for some := range slices.Chunk(ids, batch) {
			entries, err := v.read(d, some, previous, headless && previous == "")
			out <- chunk{entries, err}
			if err != nil {
				return
			}
			previous = entries[len(entries)-1].tree
		}
	}()
	return out
}

// read reads commits, and all that they bring.
func (v *verifier) read(d *differ, ids []string, previous string, unknown bool) ([]entryOf, error) {
	entries := make([]entryOf, len(ids))
	v.objects.keep = nil
	err := v.objects.get(ids, func(i int, o object) {
		switch {
		case o.err != nil:
			entries[i].id, entries[i].err = ids[i], o.err
		default:
			entries[i].commit = parseCommit(ids[i], o.data)
		}
	})
	if err != nil {
		return nil, err
	}
	var jobs []job
	for i := range entries {
		e := &entries[i]
		// After one whose parent is missing, nobody knows what it changes.
		e.partial = i == 0 && unknown || e.err != nil || len(e.tree) != len(ids[0])
		if len(e.tree) != len(ids[0]) {
			e.tree = ""
		}
		if e.tree != previous {
			jobs = append(jobs, job{commit: i, old: previous, new: e.tree})
		}
		previous = e.tree
	}
	err = d.diff(jobs, func(i int, c change) {
		entries[i].changes = append(entries[i].changes, c)
	}, func(i int, path, id string, err error) {
		entries[i].partial = true
		if err != nil {
			entries[i].broken = append(entries[i].broken, Finding{Check: CheckObjects, Path: strings.TrimSuffix(path, "/"), Message: "a directory cannot be read: " + err.Error(), Want: "tree " + id})
		}
	})
	if err != nil {
		return nil, err
	}
	return entries, v.readFiles(entries)
}

// readFiles reads the new files of commits: all are hashed, few are kept.
func (v *verifier) readFiles(entries []entryOf) error {
	var ids []string
	var to []*change
	for i := range entries {
		for k := range entries[i].changes {
			if c := &entries[i].changes[k]; c.new != "" {
				ids, to = append(ids, c.new), append(to, c)
			}
		}
	}
	v.objects.keep = func(i int) bool {
		name := path.Base(to[i].path)
		return name == record.EventFile || name == record.DeploymentFile || to[i].path == record.SignersFile
	}
	defer func() { v.objects.keep = nil }()
	return v.objects.get(ids, func(i int, o object) {
		to[i].sum, to[i].data, to[i].err = o.sum, o.data, o.err
	})
}

// foreign looks up deployments that began on other branches, once all are read.
func (v *verifier) foreign() {
	for i, id := range v.elseID {
		if !v.starts[id] {
			v.report.add(v.elsewhere[i])
		}
	}
}
