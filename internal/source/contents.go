package source

import (
	"cmp"
	"container/list"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belaydev/belay/internal/registry"
)

// The bounds of what is kept of registries, on disk and in memory.
const (
	maxContents = 2 << 30
	maxTrees    = 96 << 20
)

// contents keeps what was fetched from registries as it was sent, each under its
// SHA-256. What is there is checked again when it is read: a damaged file is as
// good as none. What was used longest ago goes when there is too much.
type contents struct {
	dir string
	max int64
	// inUse are the digests that stay, however much there is.
	inUse func() map[string]bool

	mu   sync.Mutex
	size int64 // -1 is not known
}

func newContents(dir string, limit int64, inUse func() map[string]bool) *contents {
	return &contents{dir: dir, max: limit, inUse: inUse, size: -1}
}

func (c *contents) file(digest string) string {
	return filepath.Join(c.dir, strings.TrimPrefix(digest, "sha256:"))
}

// get reads what has a digest; nil if it is not there.
func (c *contents) get(digest string) []byte {
	if !registry.IsDigest(digest) {
		return nil
	}
	name := c.file(digest)
	b, err := os.ReadFile(name)
	if err != nil || registry.Digest(b) != digest {
		return nil
	}
	now := time.Now()
	_ = os.Chtimes(name, now, now) // the order in which things go is no more than a guess
	return b
}

// put keeps content. It appears whole or not at all.
func (c *contents) put(b []byte) error {
	name := c.file(registry.Digest(b))
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("keep an artifact: %w", err)
	}
	f, err := os.CreateTemp(c.dir, ".new-*")
	if err != nil {
		return fmt.Errorf("keep an artifact: %w", err)
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the first error is the one to report
		return fmt.Errorf("keep an artifact: %w", err)
	}
	c.tidy(int64(len(b)))
	return nil
}

// tidy removes what was used longest ago while there is too much. One that is
// needed after all is fetched again.
func (c *contents) tidy(added int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size >= 0 {
		if c.size += added; c.size <= c.max {
			return
		}
	}
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	var files []fs.FileInfo
	c.size = 0
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if strings.HasPrefix(e.Name(), ".new-") && time.Since(info.ModTime()) > time.Hour {
			_ = os.Remove(filepath.Join(c.dir, e.Name())) // a write that was cut short
			continue
		}
		files = append(files, info)
		c.size += info.Size()
	}
	if c.size <= c.max {
		return
	}
	keep := c.inUse()
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return cmp.Compare(a.ModTime().UnixNano(), b.ModTime().UnixNano()) })
	for _, f := range files {
		if c.size <= c.max-c.max/10 {
			return
		}
		if keep["sha256:"+f.Name()] {
			continue
		}
		if os.Remove(filepath.Join(c.dir, f.Name())) == nil {
			c.size -= f.Size()
		}
	}
}

// trees keeps unpacked artifacts that were used last, bounded in bytes.
type trees struct {
	mu       sync.Mutex
	max      int64
	size     int64
	order    *list.List // of *treeEntry, the last used first
	byDigest map[string]*list.Element
}

type treeEntry struct {
	digest string
	tree   *archive
}

func newTrees(limit int64) *trees {
	return &trees{max: limit, order: list.New(), byDigest: map[string]*list.Element{}}
}

func (t *trees) get(digest string) *archive {
	t.mu.Lock()
	defer t.mu.Unlock()
	el := t.byDigest[digest]
	if el == nil {
		return nil
	}
	t.order.MoveToFront(el)
	return el.Value.(*treeEntry).tree
}

func (t *trees) put(digest string, a *archive) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byDigest[digest] != nil {
		return
	}
	t.byDigest[digest] = t.order.PushFront(&treeEntry{digest, a})
	t.size += a.cost()
	for t.size > t.max && t.order.Len() > 1 {
		last := t.order.Back()
		e := t.order.Remove(last).(*treeEntry)
		delete(t.byDigest, e.digest)
		t.size -= e.tree.cost()
	}
}

// cost is about the memory that a tree takes.
func (a *archive) cost() int64 { return a.bytes + int64(a.n)*256 }
