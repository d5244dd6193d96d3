package reconcile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

// leaves is a tree by the paths of its files and links.
type leaves map[string]belay.TreeEntry

func (t leaves) Entry(p string) (belay.TreeEntry, error) {
	if e, ok := t[p]; ok {
		return e, nil
	}
	for q := range t {
		if p == "." || strings.HasPrefix(q, p+"/") {
			return belay.TreeEntry{Mode: belay.ModeDir, ID: "dir"}, nil
		}
	}
	return belay.TreeEntry{}, nil
}

func (t leaves) Children(p string) (map[string]belay.TreeEntry, error) {
	out := map[string]belay.TreeEntry{}
	for q := range t {
		rest, below := strings.CutPrefix(q, p+"/")
		if p == "." {
			rest, below = q, true
		}
		if !below {
			continue
		}
		name, _, _ := strings.Cut(rest, "/")
		out[name], _ = t.Entry(path.Join(p, name))
	}
	return out, nil
}

// found is what a read learns, as a digest of a source tells it.
func (t leaves) found(r belay.Read) string {
	e, _ := t.Entry(r.Path)
	switch {
	case e == belay.TreeEntry{}:
		return "absent"
	case e.IsDir() && r.Kind == belay.ReadList:
		children, _ := t.Children(r.Path)
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(children)) {
			mode := children[name].Mode
			if mode == belay.ModeExec {
				mode = belay.ModeFile
			}
			b.WriteString(mode + " " + name + "\n")
		}
		return b.String()
	case e.IsDir():
		return "dir"
	case e.Mode == belay.ModeLink, r.Kind == belay.ReadFile:
		return e.ID
	}
	return "file"
}

func (t leaves) apply(edits []belay.TreeEdit) leaves {
	out := maps.Clone(t)
	for _, e := range edits {
		if e.Entry == (belay.TreeEntry{}) {
			delete(out, e.Path)
		}
	}
	for _, e := range edits {
		if e.Entry != (belay.TreeEntry{}) {
			out[e.Path] = e.Entry
		}
	}
	return out
}

// valid says whether no file is a directory, too.
func (t leaves) valid() error {
	for p := range t {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if _, file := t[dir]; file {
				return fmt.Errorf("%s is a file and has %s below it", dir, p)
			}
		}
	}
	return nil
}

func drawTree(t *rapid.T, label string) leaves {
	tree := leaves{}
	for range rapid.IntRange(1, 12).Draw(t, label) {
		depth := rapid.IntRange(1, 4).Draw(t, "depth")
		parts := make([]string, depth)
		for i := range parts {
			parts[i] = rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
		}
		mode := rapid.SampledFrom([]string{belay.ModeFile, belay.ModeFile, belay.ModeExec, belay.ModeLink}).Draw(t, "mode")
		sum := sha256.Sum256([]byte(rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "content")))
		p := path.Join(parts...)
		tree[p] = belay.TreeEntry{Mode: mode, ID: hex.EncodeToString(sum[:20])}
		if tree.valid() != nil {
			delete(tree, p)
		}
	}
	return tree
}

// After a restoration every read finds what it found then, whatever the trees
// are. It changes nothing that is right already, and nothing that no read sees.
func TestRestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		then, now := drawTree(t, "then"), drawTree(t, "now")
		var reads []belay.Read
		for range rapid.IntRange(1, 10).Draw(t, "reads") {
			parts := make([]string, rapid.IntRange(1, 4).Draw(t, "depth"))
			for i := range parts {
				parts[i] = rapid.SampledFrom([]string{"a", "b", "c", "."}).Draw(t, "name")
			}
			r := belay.Read{Path: path.Join(parts...), Kind: rapid.SampledFrom([]belay.ReadKind{belay.ReadFile, belay.ReadList, belay.ReadStat, belay.ReadLink}).Draw(t, "kind")}
			if r.Path == "." && r.Kind != belay.ReadList {
				continue
			}
			// A tracer looks at the directories on the way: one that is missing is what it read.
			for dir := path.Dir(r.Path); dir != "."; dir = path.Dir(dir) {
				if e, _ := then.Entry(dir); !e.IsDir() && e != (belay.TreeEntry{}) {
					r.Path = dir
				}
			}
			reads = append(reads, r)
		}
		edits, err := restore(reads, then, now)
		if err != nil {
			t.Fatal(err)
		}
		got := now.apply(edits)
		if err := got.valid(); err != nil {
			t.Fatalf("no tree: %v", err)
		}
		for _, r := range reads {
			if want := then.found(r); got.found(r) != want {
				t.Fatalf("%s %s finds %q, found %q\nthen %v\nnow %v\nedits %v", r.Kind, r.Path, got.found(r), want, then, now, edits)
			}
		}
		for _, e := range edits {
			if now[e.Path] == e.Entry {
				t.Fatalf("%s is edited to what it is", e.Path)
			}
			if e.Entry != (belay.TreeEntry{}) && then[e.Path] != e.Entry {
				t.Fatalf("%s becomes what it never was", e.Path)
			}
			if !seen(e.Path, reads, now) {
				t.Fatalf("%s is edited, and nobody read it: reads %v\nthen %v\nnow %v", e.Path, reads, then, now)
			}
		}
		again, err := restore(reads, then, got)
		if err != nil || len(again) > 0 {
			t.Fatalf("a second time there are %v, %v", again, err)
		}
	})
}

// seen says whether a read looks at a path, at something on the way to it or at
// something below it, or lists a directory that it lies in.
func seen(p string, reads []belay.Read, now leaves) bool {
	for _, r := range reads {
		// A link that took the place of a directory on the way: it comes back as it was.
		for dir := path.Dir(r.Path); dir != "."; dir = path.Dir(dir) {
			if now[dir].Mode == belay.ModeLink && strings.HasPrefix(p, dir+"/") {
				return true
			}
		}
		if p == r.Path || strings.HasPrefix(p, r.Path+"/") || strings.HasPrefix(r.Path, p+"/") || r.Path == "." {
			return true
		}
	}
	return false
}

// What is read by name comes back, what came into a listed directory goes, and
// neighbours that nobody reads stay as they are.
func TestRestoreLeavesTheRest(t *testing.T) {
	file := func(content string) belay.TreeEntry { return belay.TreeEntry{Mode: belay.ModeFile, ID: content} }
	then := leaves{"apps/web/a.yaml": file("1"), "apps/web/b.yaml": file("1"), "base/x.yaml": file("1"), "other/o": file("1")}
	now := leaves{"apps/web/a.yaml": file("2"), "apps/web/c.yaml": file("2"), "base/x.yaml": file("1"), "other/o": file("2"), "apps/new/n": file("2")}
	edits, err := restore([]belay.Read{
		{Path: "apps/web", Kind: belay.ReadList}, {Path: "apps/web/a.yaml", Kind: belay.ReadFile}, {Path: "apps/web/b.yaml", Kind: belay.ReadFile},
		{Path: "base/x.yaml", Kind: belay.ReadFile}, {Path: "apps/web/kustomization.yaml", Kind: belay.ReadStat},
	}, then, now)
	if err != nil {
		t.Fatal(err)
	}
	want := []belay.TreeEdit{{Path: "apps/web/a.yaml", Entry: file("1")}, {Path: "apps/web/b.yaml", Entry: file("1")}, {Path: "apps/web/c.yaml"}}
	if fmt.Sprint(edits) != fmt.Sprint(want) {
		t.Errorf("edits are %v, want %v", edits, want)
	}
}
