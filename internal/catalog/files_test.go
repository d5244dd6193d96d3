package catalog_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// tree is a commit in memory that counts what is asked of it.
type tree struct {
	files    map[string]string
	links    map[string]bool  // symbolic links, whose ends are in files; true for one to a directory
	errs     map[string]error // what reading a path fails with
	children map[string][]fs.DirEntry

	reads, lists, digests int
}

func newTree(files map[string]string) *tree {
	t := &tree{files: files, links: map[string]bool{}, errs: map[string]error{}, children: map[string][]fs.DirEntry{}}
	seen := map[string]bool{}
	for p := range files {
		for ; p != "." && !seen[p]; p = path.Dir(p) {
			seen[p] = true
			_, isFile := files[p]
			t.children[path.Dir(p)] = append(t.children[path.Dir(p)], entry{t, p, !isFile})
		}
	}
	for _, c := range t.children {
		slices.SortFunc(c, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return t
}

func (t *tree) link(p string, toDir bool) {
	t.links[p] = toDir
	if _, ok := t.files[p]; !ok {
		t.children[path.Dir(p)] = append(t.children[path.Dir(p)], entry{t, p, false})
	}
}

func (t *tree) kind(p string) string {
	switch _, isFile := t.files[p]; {
	case isFile:
		return "file"
	case t.links[p] || t.children[p] != nil:
		return "dir"
	}
	return "absent"
}

func (t *tree) ReadFile(p string) ([]byte, error) {
	t.reads++
	if err := t.errs[p]; err != nil {
		return nil, err
	}
	s, ok := t.files[p]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return []byte(s), nil
}

func (t *tree) ReadDir(p string) ([]fs.DirEntry, error) {
	t.lists++
	c, ok := t.children[p]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return c, nil
}

func (t *tree) Digest(kind belay.ReadKind, p string) (string, error) {
	t.digests++
	if kind == belay.ReadStat {
		return t.kind(p), nil
	}
	s, ok := t.files[p]
	if !ok {
		return "", &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return digest(s), nil
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:8])
}

type entry struct {
	t   *tree
	p   string
	dir bool
}

func (e entry) Name() string               { return path.Base(e.p) }
func (e entry) IsDir() bool                { return e.dir }
func (e entry) Info() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }
func (e entry) Type() fs.FileMode {
	if e.dir {
		return fs.ModeDir
	}
	if _, ok := e.t.links[e.p]; ok {
		return fs.ModeSymlink
	}
	return 0
}

// merkle is a tree that knows digests of directories, like Git.
type merkle struct {
	*tree
	dirs map[string]string
}

func newMerkle(files map[string]string) *merkle {
	m := &merkle{newTree(files), map[string]string{}}
	var sum func(dir string) string
	sum = func(dir string) string {
		var b strings.Builder
		for _, e := range m.children[dir] {
			p := path.Join(dir, e.Name())
			d := digest(m.files[p])
			if e.IsDir() {
				d = sum(p)
			}
			fmt.Fprintf(&b, "%s %s\n", e.Name(), d)
		}
		m.dirs[dir] = digest(b.String())
		return m.dirs[dir]
	}
	sum(".")
	return m
}

func (m *merkle) TreeDigest(p string) (string, error) {
	m.digests++
	d, ok := m.dirs[p]
	if !ok {
		return "", &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return d, nil
}

const configRepo = "https://git.example.com/fleet"

func options(revision string) catalog.Options {
	return catalog.Options{Root: "belay/", Repo: configRepo, Ref: "main", Revision: revision}
}

// load reads files below belay/.
func load(t testing.TB, prev *catalog.Catalog, revision string, files map[string]string) *catalog.Catalog {
	t.Helper()
	return loadFiles(t, prev, revision, newTree(below(files)))
}

func loadFiles(t testing.TB, prev *catalog.Catalog, revision string, files catalog.Files) *catalog.Catalog {
	t.Helper()
	start := time.Now()
	c, err := catalog.Load(t.Context(), files, options(revision), prev)
	if err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 2*time.Minute {
		t.Fatalf("took %s", d)
	}
	return c
}

func below(files map[string]string) map[string]string {
	out := map[string]string{"belay/README.md": "Definitions."}
	for p, s := range files {
		out["belay/"+p] = s
	}
	return out
}

func readAll(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, p))
		out[p] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// app is an Application with a spec in flow style; empty means its source is its name.
func app(name, spec string) string {
	if spec == "" {
		spec = "source: {path: apps/" + name + "}"
	}
	return fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: %s}\nspec: {%s}\n", name, spec)
}

func def(kind, name, spec string) string {
	return fmt.Sprintf("apiVersion: belay.dev/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: {%s}\n", kind, name, spec)
}

func problems(c *catalog.Catalog) string {
	var out []string
	for i := range c.Problems {
		out = append(out, c.Problems[i].Error())
	}
	return strings.Join(out, "\n")
}

func sameOrigin(a, b belay.Application) bool { return a.Origin == b.Origin }

// samePlace is sameOrigin for two commits between which no definition changed: the
// origin may name either.
func samePlace(a, b belay.Application) bool {
	a.Origin.Revision, b.Origin.Revision = "", ""
	return sameOrigin(a, b)
}
