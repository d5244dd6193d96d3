package git

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// looseTags is how many tags with files of their own are looked up one by one.
const looseTags = 64

// plainRefs reads the branches and tags from the files that gitrepository-layout(5)
// describes. They are asked for before and after each fetch, and a process for it
// costs as much as the rest of a look. It is false where anything is not as plain as
// it is in a mirror: then git reads them, or says what is wrong.
func (m *Mirror) plainRefs(ctx context.Context) (Refs, bool) {
	r := Refs{Heads: map[string]string{}, Tags: map[string]string{}}
	lines, ok := m.refFiles(&r)
	if !ok || len(r.Tags) > looseTags {
		return Refs{}, false
	}
	for tag, id := range r.Tags {
		if id = m.tagged(ctx, id); id == "" {
			return Refs{}, false
		}
		r.Tags[tag] = id
	}
	return r, addPacked(lines, &r)
}

// refFiles reads the refs that have files of their own, and the file of the others. A
// ref is packed by being written there first, and then removed here.
func (m *Mirror) refFiles(r *Refs) (lines []byte, ok bool) {
	m.swap.RLock()
	defer m.swap.RUnlock()
	if !loose(m.dir, "refs/heads/", r.Heads) || !loose(m.dir, "refs/tags/", r.Tags) {
		return nil, false
	}
	lines, err := os.ReadFile(filepath.Join(m.dir, "packed-refs"))
	return lines, err == nil || errors.Is(err, fs.ErrNotExist)
}

// loose reads the refs that have files of their own.
func loose(dir, prefix string, refs map[string]string) bool {
	root := filepath.Join(dir, filepath.FromSlash(prefix))
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // packed at this moment
		}
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, p)
		if err != nil || strings.HasSuffix(name, ".lock") {
			return err
		}
		b, err := os.ReadFile(p)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		id := strings.TrimSuffix(string(b), "\n")
		if err == nil && !validID(id) {
			err = errors.New("no plain ref")
		}
		refs[filepath.ToSlash(name)] = id
		return err
	})
	return err == nil
}

// tagged is the commit that a tag means.
func (m *Mirror) tagged(ctx context.Context, id string) string {
	for range 5 { // tags of tags are rare
		kind, data, err := m.Raw(ctx, id)
		switch {
		case err != nil:
			return ""
		case kind != "tag":
			return id
		}
		object, _, _ := strings.Cut(string(data), "\n")
		var ok bool
		if id, ok = strings.CutPrefix(object, "object "); !ok || !validID(id) {
			return ""
		}
	}
	return ""
}

// addPacked adds the refs that share a file. A line with ^ follows that of an
// annotated tag, and says what it means.
func addPacked(lines []byte, r *Refs) bool {
	var last, of string // the tag of the line before, and what it was before that line
	set := func(refs map[string]string, name, id string) {
		if _, ok := refs[name]; !ok {
			refs[name] = id
		}
	}
	for line := range strings.Lines(string(lines)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			if !strings.Contains(line, " fully-peeled ") {
				return false
			}
			continue
		}
		if id, ok := strings.CutPrefix(line, "^"); ok {
			if last != "" && r.Tags[last] == of {
				r.Tags[last] = id
			}
			continue
		}
		id, name, ok := strings.Cut(line, " ")
		if !ok || !validID(id) {
			return false
		}
		last = ""
		if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			set(r.Heads, branch, id)
		} else if tag, ok := strings.CutPrefix(name, "refs/tags/"); ok {
			if _, is := r.Tags[tag]; !is {
				last, of = tag, id
			}
			set(r.Tags, tag, id)
		}
	}
	return true
}
