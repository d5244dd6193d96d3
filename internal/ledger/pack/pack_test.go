package pack_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay/internal/ledger/pack"
)

// tester is what both kinds of tests are.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// repo is a repository that git itself judges.
type repo struct{ dir string }

func newRepo(t tester, dir string) repo {
	t.Helper()
	r := repo{dir}
	r.git(t, "", "init", "--quiet", "--bare", dir)
	return r
}

func (r repo) packs() string { return filepath.Join(r.dir, "objects", "pack") }

func (r repo) git(t tester, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_DIR="+r.dir, "GIT_INDEX_FILE="+filepath.Join(r.dir, "test-index"), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_NOSYSTEM=1")
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v: %s", args, err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// tree is the ID that git gives to a tree of these files.
func (r repo) tree(t tester, files map[string]pack.ID) string {
	t.Helper()
	var b strings.Builder
	for path, id := range files {
		fmt.Fprintf(&b, "100644 %s\t%s\n", id, path)
	}
	_ = os.Remove(filepath.Join(r.dir, "test-index")) // there is none at first
	r.git(t, b.String(), "update-index", "--add", "--index-info")
	return r.git(t, "", "write-tree", "--missing-ok")
}

// read reads a tree as the writer of a ledger does.
func (r repo) read(t tester) func(pack.ID) ([]byte, error) {
	return func(id pack.ID) ([]byte, error) {
		cmd := exec.Command("git", "cat-file", "tree", id.String())
		cmd.Dir = r.dir
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("tree %s: %w", id, err)
		}
		return out, nil
	}
}

func put(t tester, p *pack.Pack, kind pack.Kind, data string) pack.ID {
	t.Helper()
	id, err := pack.Sum(kind, []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	p.Put(id, kind, []byte(data))
	return id
}

func commit(t tester, p *pack.Pack, tree, parent pack.ID) pack.ID {
	t.Helper()
	text := "tree " + tree.String() + "\n"
	if parent != (pack.ID{}) {
		text += "parent " + parent.String() + "\n"
	}
	return put(t, p, pack.Commit, text+"author A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\n")
}

// Whatever is set and removed, in however many packs, and read again or not: git
// finds nothing wrong, and makes the same tree of the same files.
func TestTreesAreThoseOfGit(t *testing.T) {
	names := []string{"a", "a.b", "a0", "b", "a-", "é", "long name"}
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "pack")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		r := newRepo(t, dir)
		files := map[string]pack.ID{}
		trees := pack.NewTrees(pack.ID{}, r.read(t))
		var tip, tree pack.ID
		for range rapid.IntRange(1, 4).Draw(t, "packs") {
			var p pack.Pack
			for range rapid.IntRange(1, 5).Draw(t, "commits") {
				for range rapid.IntRange(1, 4).Draw(t, "changes") {
					path := strings.Join(rapid.SliceOfN(rapid.SampledFrom(names), 1, 4).Draw(t, "path"), "/")
					if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
						if err := trees.Remove(path); err != nil {
							t.Fatal(err)
						}
						maps.DeleteFunc(files, func(f string, _ pack.ID) bool { return f == path || strings.HasPrefix(f, path+"/") })
						continue
					}
					id := put(t, &p, pack.Blob, rapid.SampledFrom([]string{"", "x", strings.Repeat("long ", 5000)}).Draw(t, "content"))
					changed, err := trees.Set(path, id)
					if err != nil || changed == (files[path] == id) {
						t.Fatalf("setting %s to %s where it is %s: %v, %v", path, id, files[path], changed, err)
					}
					// A file gives way to a directory, and a directory to a file.
					maps.DeleteFunc(files, func(f string, _ pack.ID) bool {
						return strings.HasPrefix(f, path+"/") || strings.HasPrefix(path, f+"/")
					})
					files[path] = id
				}
				if tree, err = trees.Write(&p); err != nil {
					t.Fatal(err)
				}
				tip = commit(t, &p, tree, tip)
				if again, err := trees.Write(&p); again != tree || err != nil {
					t.Fatalf("written again it is %s, not %s: %v", again, tree, err)
				}
			}
			if err := p.Store(r.packs()); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "forget") {
				trees = pack.NewTrees(tree, r.read(t))
			}
			if want := r.tree(t, files); want != tree.String() {
				t.Fatalf("the tree is %s, git makes %s of\n%s", tree, want, strings.Join(slices.Sorted(maps.Keys(files)), "\n"))
			}
		}
		r.git(t, "", "update-ref", "refs/heads/main", tip.String())
		r.git(t, "", "fsck", "--full", "--strict")
	})
}

var chain = regexp.MustCompile(`(?m)^chain length = (\d+): `)

// A directory of which one entry changes again and again is told by its changes: of
// any size, and not so deep that reading it takes long.
func TestChangedDirectoriesAreSmall(t *testing.T) {
	r := newRepo(t, t.TempDir())
	trees := pack.NewTrees(pack.ID{}, nil)
	var p pack.Pack
	var tip pack.ID
	const entries, changes = 3000, 200
	for i := range entries + changes {
		id := put(t, &p, pack.Blob, strconv.Itoa(i))
		if _, err := trees.Set(fmt.Sprintf("dir/%d/file", i*7919%entries), id); err != nil {
			t.Fatal(err)
		}
		if i < entries-1 {
			continue
		}
		tree, err := trees.Write(&p)
		if err != nil {
			t.Fatal(err)
		}
		tip = commit(t, &p, tree, tip)
	}
	if n := trees.Kept(); n != entries+2 {
		t.Errorf("%d directories are kept", n)
	}
	if err := p.Store(r.packs()); err != nil {
		t.Fatal(err)
	}
	packs, _ := filepath.Glob(filepath.Join(r.packs(), "*.pack"))
	if len(packs) != 1 {
		t.Fatalf("packs are %v", packs)
	}
	st, err := os.Stat(packs[0])
	if err != nil {
		t.Fatal(err)
	}
	if size := st.Size(); size > 1_500_000 { // whole, each change were about 100 kB
		t.Errorf("the pack has %d bytes", size)
	}
	deepest := 0
	for _, m := range chain.FindAllStringSubmatch(r.git(t, "", "verify-pack", "-v", packs[0]), -1) {
		n, _ := strconv.Atoi(m[1])
		deepest = max(deepest, n)
	}
	if deepest == 0 || deepest > 50 {
		t.Errorf("the longest chain has %d deltas", deepest)
	}
	r.git(t, "", "update-ref", "refs/heads/main", tip.String())
	r.git(t, "", "fsck", "--full", "--strict")
}

// Two directories that are the same may be told apart later, although only one of
// them was written here.
func TestTheSameDirectoryTwice(t *testing.T) {
	r := newRepo(t, t.TempDir())
	one := pack.NewTrees(pack.ID{}, nil)
	var p pack.Pack
	a, b := put(t, &p, pack.Blob, "a"), put(t, &p, pack.Blob, "b")
	set := func(trees *pack.Trees, path string, id pack.ID) {
		t.Helper()
		if _, err := trees.Set(path, id); err != nil {
			t.Fatal(err)
		}
	}
	write := func(trees *pack.Trees, p *pack.Pack, parent pack.ID) (tree, id pack.ID) {
		t.Helper()
		tree, err := trees.Write(p)
		if err != nil {
			t.Fatal(err)
		}
		return tree, commit(t, p, tree, parent)
	}
	set(one, "x/f", a)
	set(one, "x/g", a)
	set(one, "y/f", a)
	set(one, "y/g", a)
	tree, tip := write(one, &p, pack.ID{})
	if err := p.Store(r.packs()); err != nil {
		t.Fatal(err)
	}
	two := pack.NewTrees(tree, r.read(t))
	var q pack.Pack
	set(two, "z/f", a) // the same as the others, and written here
	set(two, "z/g", a)
	_, tip = write(two, &q, tip)
	set(two, "x/f", b) // and this one was only read
	_, tip = write(two, &q, tip)
	if err := q.Store(r.packs()); err != nil {
		t.Fatal(err)
	}
	r.git(t, "", "update-ref", "refs/heads/main", tip.String())
	r.git(t, "", "fsck", "--full", "--strict")
	if got := r.git(t, "", "show", "main:x/f", "main:z/f"); got != "ba" {
		t.Errorf("the files are %q", got)
	}
}

// What cannot be written leaves nothing behind.
func TestStoreFails(t *testing.T) {
	var p pack.Pack
	put(t, &p, pack.Blob, "x")
	dir := t.TempDir()
	if err := p.Store(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is missing: %v", err)
	}
	if err := p.Store(dir); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(found) != 2 {
		t.Fatalf("it wrote %v, %v", found, err)
	}
	index := found[slices.IndexFunc(found, func(f string) bool { return filepath.Ext(f) == ".idx" })]
	for _, f := range found {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(index, "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := p.Store(dir); err == nil {
		t.Error("a directory in the place of the index is no error")
	}
	if found, _ = filepath.Glob(filepath.Join(dir, "*")); len(found) != 1 {
		t.Errorf("it left %v", found)
	}
}

func TestPathsThatGitRefuses(t *testing.T) {
	trees := pack.NewTrees(pack.ID{}, nil)
	for _, path := range []string{"", "/a", "a/", "a//b", "../a", "a/./b", ".git", "a/.GIT/config", "a\x00b"} {
		if _, err := trees.Set(path, pack.ID{1}); err == nil {
			t.Errorf("%q can be set", path)
		}
		if err := trees.Remove(path); err == nil {
			t.Errorf("%q can be removed", path)
		}
	}
}

// A tree that is no tree is an error, and no panic.
func FuzzTree(f *testing.F) {
	f.Add([]byte("100644 a\x00aaaaaaaaaaaaaaaaaaaa40000 b\x00bbbbbbbbbbbbbbbbbbbb"), "b/c")
	f.Add([]byte("100644 a\x00aaaa"), "a")
	f.Add([]byte("x\x00 "), "x")
	f.Fuzz(func(_ *testing.T, raw []byte, path string) {
		trees := pack.NewTrees(pack.ID{1}, func(pack.ID) ([]byte, error) { return raw, nil })
		_, err := trees.Set(path, pack.ID{2})
		_, err2 := trees.Write(&pack.Pack{})
		_ = errors.Join(err, trees.Remove(path), err2)
	})
}

func TestIDs(t *testing.T) {
	id, err := pack.Sum(pack.Blob, nil)
	if err != nil || id.String() != "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391" { // as everybody has seen it
		t.Errorf("the empty file is %s, %v", id, err)
	}
	if got, err := pack.ParseID(id.String()); got != id || err != nil {
		t.Errorf("read again it is %s, %v", got, err)
	}
	for _, s := range []string{"", "e69d", "g69de29bb2d1d6434b8b29ae775ad8c2e48c5391", id.String() + "00"} {
		if got, err := pack.ParseID(s); err == nil {
			t.Errorf("%q is %s", s, got)
		}
	}
}
