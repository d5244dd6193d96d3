package source

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"pgregory.net/rapid"
)

var names = []string{"a", "b", "c"}

func drawPath(t *rapid.T) string {
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(names), 1, 4).Draw(t, "path"), "/")
}

var targets = []string{"a", "b", "c/a", "../a", "../b/c", "a/../b", "b/c/../../a", "..", ".", "../..", "/a", "a/b/c", "missing/../a", "a/missing/../b", ""}

func drawFile(t *rapid.T, links bool) memFile {
	if links {
		switch rapid.IntRange(0, 5).Draw(t, "kind") {
		case 0, 1:
			return memFile{git.TypeLink, rapid.SampledFrom(targets).Draw(t, "target")}
		case 2:
			return memFile{git.TypeSubmodule, rapid.SampledFrom([]string{"m1", "m2"}).Draw(t, "module")}
		}
	}
	return memFile{rapid.SampledFrom([]git.EntryType{git.TypeFile, git.TypeExec}).Draw(t, "exec"), rapid.SampledFrom([]string{"1", "2"}).Draw(t, "content")}
}

// put makes room for a path: what is above it cannot be a file, what is below it goes.
func (m memStore) put(p string, f memFile) {
	for q := range m {
		if strings.HasPrefix(q, p+"/") || strings.HasPrefix(p, q+"/") {
			delete(m, q)
		}
	}
	m[p] = f
}

func drawTree(t *rapid.T, links bool) memStore {
	m := memStore{}
	for range rapid.IntRange(0, 8).Draw(t, "files") {
		m.put(drawPath(t), drawFile(t, links))
	}
	return m
}

func edit(t *rapid.T, m memStore, links bool) memStore {
	m = maps.Clone(m)
	for range rapid.IntRange(1, 4).Draw(t, "edits") {
		if p := drawPath(t); rapid.Bool().Draw(t, "delete") {
			maps.DeleteFunc(m, func(q string, _ memFile) bool { return q == p || strings.HasPrefix(q, p+"/") })
		} else {
			m.put(p, drawFile(t, links))
		}
	}
	return m
}

// operation is one thing that somebody asks of a tree.
type operation struct {
	kind string
	path string
}

// result is everything the asker can see, sizes and modes aside.
func (o operation) result(f Files) string {
	var out string
	var err error
	switch o.kind {
	case "read":
		var b []byte
		b, err = f.ReadFile(o.path)
		out = string(b)
	case "list":
		var entries []fs.DirEntry
		entries, err = f.ReadDir(o.path)
		for _, e := range entries {
			out += e.Name() + ":" + e.Type().String() + " "
		}
	case "stat":
		var i fs.FileInfo
		if i, err = f.Stat(o.path); err == nil {
			out = fmt.Sprint(i.Mode().Type())
		}
	case "lstat":
		var i fs.FileInfo
		if i, err = f.Lstat(o.path); err == nil {
			out = fmt.Sprint(i.Mode().Type())
		}
	case "readlink":
		out, err = f.ReadLink(o.path)
	case "open":
		var file fs.File
		if file, err = f.Open(o.path); err == nil {
			if i, _ := file.Stat(); i.IsDir() {
				var entries []fs.DirEntry
				entries, err = file.(fs.ReadDirFile).ReadDir(-1)
				out = fmt.Sprint(len(entries))
			} else {
				b := make([]byte, 9)
				n, _ := file.Read(b)
				out = string(b[:n])
			}
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "absent"
	case err != nil:
		return "error"
	}
	return "ok " + out
}

func drawOperations(t *rapid.T) []operation {
	ops := make([]operation, rapid.IntRange(1, 6).Draw(t, "operations"))
	for i := range ops {
		ops[i].kind = rapid.SampledFrom([]string{"read", "list", "stat", "lstat", "readlink", "open"}).Draw(t, "operation")
		ops[i].path = drawPath(t)
		if ops[i].kind == "list" && rapid.IntRange(0, 4).Draw(t, "root") == 0 {
			ops[i].path = "."
		}
	}
	return ops
}

// A read set holds as long as every answer stays the same, and when it does not
// hold any more, the index names its owner.
func TestReadSetsAndIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawTree(t, true)
		b := edit(t, a, true)
		sa, sb := memSnapshot(a), memSnapshot(b)
		ops := drawOperations(t)
		rec := sa.Record()
		same := true
		for _, o := range ops {
			before, plain := o.result(rec), o.result(sa)
			if before != plain {
				t.Fatalf("%v answers %q while recorded, %q otherwise", o, before, plain)
			}
			if after := o.result(sb); after != before {
				same = false
			}
		}
		reads := rec.Reads()
		if !Holds(sa, reads) {
			t.Fatalf("%v: reads do not hold where they were made: %v", ops, reads)
		}
		holds := Holds(sb, reads)
		if holds && !same {
			t.Fatalf("%v: the answers differ and the reads hold: %v\n%v\n%v", ops, reads, a, b)
		}
		x := NewIndex()
		x.Set("app", reads)
		changes, err := Diff(t.Context(), sa, sb)
		if err != nil {
			t.Fatal(err)
		}
		if !holds && len(x.Affected(changes)) == 0 {
			t.Fatalf("%v: reads do not hold and are not found: %v\n%v\n%v\n%+v", ops, reads, a, b, changes)
		}
		for i := range changes { // without the knowledge of Diff it is more, never less
			changes[i].Top = ""
		}
		if !holds && len(x.Affected(changes)) == 0 {
			t.Fatalf("%v: reads do not hold and are not found without Top: %v\n%+v", ops, reads, changes)
		}
		if maps.Equal(a, b) && len(changes) != 0 {
			t.Fatalf("equal trees differ: %v", changes)
		}
	})
}

// Without symlinks, and for what is there, the index is exact.
func TestIndexIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawTree(t, false)
		b := edit(t, a, false)
		sa, sb := memSnapshot(a), memSnapshot(b)
		rec := sa.Record()
		for _, o := range drawOperations(t) {
			switch o.kind {
			case "read", "list", "stat":
				if _, err := sa.Stat(o.path); err == nil {
					o.result(rec)
				}
			}
		}
		x := NewIndex()
		x.Set("app", rec.Reads())
		changes, err := Diff(t.Context(), sa, sb)
		if err != nil {
			t.Fatal(err)
		}
		holds := Holds(sb, rec.Reads())
		if got := len(x.Affected(changes)) > 0; got == holds {
			t.Fatalf("affected %v, holds %v: %v\n%v\n%v\n%+v", got, holds, rec.Reads(), a, b, changes)
		}
	})
}

// Diff is right: applied to one tree it gives the other.
func TestDiffIsTheDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawTree(t, true)
		b := edit(t, a, true)
		changes, err := Diff(t.Context(), memSnapshot(a), memSnapshot(b))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for p, f := range a {
			got[p] = hash(f.content)
		}
		for _, c := range changes {
			if c.Old != "" && got[c.Path] != c.Old {
				t.Fatalf("%+v: the old one is %q", c, got[c.Path])
			}
			if c.New == "" {
				delete(got, c.Path)
			} else {
				got[c.Path] = c.New
			}
			if c.Top != c.Path && !strings.HasPrefix(c.Path, c.Top+"/") {
				t.Fatalf("%+v: Top is not above", c)
			}
		}
		want := map[string]string{}
		for p, f := range b {
			want[p] = hash(f.content)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%v\n%v\n%+v\ngot %v\nwant %v", a, b, changes, got, want)
		}
	})
}

// An index that was changed many times is as one made at once.
func TestIndexForgets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, model := NewIndex(), map[string][]belay.Read{}
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			key := rapid.SampledFrom([]string{"k1", "k2", "k3", "k4"}).Draw(t, "key")
			if rapid.Bool().Draw(t, "remove") {
				x.Remove(key)
				delete(model, key)
				continue
			}
			var reads []belay.Read
			for range rapid.IntRange(0, 4).Draw(t, "reads") {
				reads = append(reads, belay.Read{Path: drawPath(t),
					Kind: rapid.SampledFrom([]belay.ReadKind{belay.ReadFile, belay.ReadList, belay.ReadStat, belay.ReadLink}).Draw(t, "kind")})
			}
			x.Set(key, reads)
			model[key] = reads
		}
		fresh := NewIndex()
		for key, reads := range model {
			fresh.Set(key, reads)
		}
		for range 5 {
			c := belay.PathChange{Path: drawPath(t), Old: rapid.SampledFrom([]string{"", "1"}).Draw(t, "old"), New: "2"}
			if got, want := x.Affected([]belay.PathChange{c}), fresh.Affected([]belay.PathChange{c}); !slices.Equal(got, want) {
				t.Fatalf("%+v affects %v, want %v", c, got, want)
			}
		}
		for key := range model {
			x.Remove(key)
		}
		if len(x.root.below) != 0 || len(x.root.readers) != 0 {
			t.Fatal("places are left behind")
		}
	})
}

func TestIndexByHand(t *testing.T) {
	x := NewIndex()
	for key, r := range map[string]belay.Read{
		"file":      {Path: "a/b/c", Kind: belay.ReadFile},
		"list-b":    {Path: "a/b", Kind: belay.ReadList},
		"list-a":    {Path: "a", Kind: belay.ReadList},
		"list-root": {Path: ".", Kind: belay.ReadList},
		"stat":      {Path: "a/b/c", Kind: belay.ReadStat},
		"stat-a":    {Path: "a", Kind: belay.ReadStat},
		"stat-b":    {Path: "a/b", Kind: belay.ReadStat},
		"other":     {Path: "a/bc", Kind: belay.ReadFile},
	} {
		x.Set(key, []belay.Read{r})
	}
	for _, tc := range []struct {
		change belay.PathChange
		want   string
	}{
		{belay.PathChange{Path: "a/b/c", Old: "1", New: "2", Top: "a/b/c"}, "file"},
		{belay.PathChange{Path: "a/b/c", Old: "1", New: "2"}, "file"},
		{belay.PathChange{Path: "a/b/c", New: "2", Top: "a/b/c"}, "file list-b stat"},
		{belay.PathChange{Path: "a/b/c", Old: "2", Top: "a/b"}, "file list-a list-b stat stat-b"},
		{belay.PathChange{Path: "a/b/c", New: "2", Top: "a"}, "file list-a list-b list-root stat stat-a stat-b"},
		{belay.PathChange{Path: "a/b/c", New: "2"}, "file list-a list-b list-root stat stat-a stat-b"},
		{belay.PathChange{Path: "a/b/d", New: "2", Top: "a/b/d"}, "list-b"},
		{belay.PathChange{Path: "z", New: "2", Top: "z"}, "list-root"},
	} {
		if got := strings.Join(x.Affected([]belay.PathChange{tc.change}), " "); got != tc.want {
			t.Errorf("%+v affects %q, want %q", tc.change, got, tc.want)
		}
	}
}

func TestIndexTellsPaths(t *testing.T) {
	x := NewIndex()
	x.Set("a", []belay.Read{{Kind: belay.ReadFile, Path: "values/a.yaml"}, {Kind: belay.ReadList, Path: "chart"}, {Kind: belay.ReadStat, Path: "chart"}})
	x.Set("b", nil)
	if got := x.Paths("a"); !slices.Equal(got, []string{"chart", "values/a.yaml"}) {
		t.Errorf("a reads %v", got)
	}
	x.Remove("a")
	for _, key := range []string{"a", "b", "c"} {
		if got := x.Paths(key); len(got) > 0 {
			t.Errorf("%s reads %v", key, got)
		}
	}
}
