package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/belaydev/belay/internal/ledger/pack"
	"github.com/belaydev/belay/internal/ledger/record"
)

const (
	// keptDirs is how many directories of the tree are kept in memory: those of a
	// thousand applications that are being deployed.
	keptDirs = 5000
	// lockPatience is how long somebody's git may hold the lock of our branch.
	lockPatience = time.Second
)

// commits makes commits on top of a branch. One goroutine uses it. After an error it
// is of no use any more.
type commits struct {
	repo  repo
	ref   string
	tip   string // the latest, "" before the first
	trees *pack.Trees
	git   *reader
	sum   func(pack.Kind, []byte) (pack.ID, error) // that of package pack
}

// commit is an entry that is to be written, signed if there is a key.
type commit struct {
	entry *record.Entry
	key   *Key
}

func (l *Ledger) startCommits() *commits {
	return &commits{repo: l.repo, ref: l.ref, tip: l.work.tip.commit, git: &reader{ctx: l.work.ctx, repo: l.repo}, sum: l.sum}
}

// write makes commits of entries, in one pack, and returns the ID of the last once
// all of them are on the disk.
func (c *commits) write(batch []commit) (tip string, err error) {
	if err := c.open(); err != nil {
		return "", err
	}
	var p pack.Pack
	tip = c.tip
	for _, n := range batch {
		if tip, err = c.add(&p, n, tip); err != nil {
			return "", err
		}
	}
	if err := p.Store(filepath.Join(c.repo.dir, "objects", "pack")); err != nil {
		return "", err
	}
	if err := c.repo.move(c.ref, c.tip, tip); err != nil {
		return "", err
	}
	c.tip = tip
	return tip, nil
}

// open has the tree of the tip at hand. It is not let grow without bounds.
func (c *commits) open() error {
	if c.trees != nil && c.trees.Kept() <= keptDirs {
		return nil
	}
	var root pack.ID
	if c.tip != "" {
		b, err := c.git.read(c.tip)
		if err != nil {
			return err
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(string(b), "tree "), "\n")
		if root, err = pack.ParseID(id); err != nil {
			return fmt.Errorf("the tree of commit %s: %w", c.tip, err)
		}
	}
	c.trees = pack.NewTrees(root, func(id pack.ID) ([]byte, error) { return c.git.read(id.String()) })
	return nil
}

// add makes one commit with a parent.
func (c *commits) add(p *pack.Pack, n commit, parent string) (string, error) {
	for _, f := range n.entry.Files {
		if err := c.file(p, f); err != nil {
			return "", err
		}
	}
	tree, err := c.trees.Write(p)
	if err != nil {
		return "", err
	}
	var head strings.Builder
	head.WriteString("tree " + tree.String() + "\n")
	if parent != "" {
		head.WriteString("parent " + parent + "\n")
	}
	when := " " + strconv.FormatInt(n.entry.When.Unix(), 10) + " +0000\n"
	head.WriteString("author " + n.entry.Author + when + "committer " + n.entry.Committer + when)
	if n.key != nil {
		sig, err := n.key.sign([]byte(head.String() + "\n" + n.entry.Message))
		if err != nil {
			return "", err
		}
		head.WriteString("gpgsig " + strings.ReplaceAll(sig, "\n", "\n ") + "\n")
	}
	data := []byte(head.String() + "\n" + n.entry.Message)
	id, err := pack.Sum(pack.Commit, data)
	if err != nil {
		return "", err
	}
	p.Put(id, pack.Commit, data)
	return id.String(), nil
}

func (c *commits) file(p *pack.Pack, f record.File) error {
	if f.Data == nil {
		return c.trees.Remove(strings.TrimSuffix(f.Path, "/"))
	}
	id, err := c.sum(pack.Blob, f.Data)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	changed, err := c.trees.Set(f.Path, id)
	if changed {
		p.Put(id, pack.Blob, f.Data)
	}
	return err
}

// close ends the git that reads, if there is one.
func (c *commits) close() { c.git.close() }

// move has a ref name another commit, one that is on the disk, in a way that
// outlasts a power cut. It keeps to the protocol of gitrepository-layout(5): whoever
// holds the file NAME.lock may exchange the file NAME for it.
func (r repo) move(ref, from, to string) (err error) {
	path := filepath.Join(r.dir, filepath.FromSlash(ref))
	lock, err := r.lock(path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(lock.Name()) // unless it is in place already
		}
	}()
	at, err := r.tip(ref)
	if err == nil && at != from {
		err = fmt.Errorf("%s is at %q, and was at %q: somebody else writes there", ref, at, from)
	}
	if err == nil {
		_, err = lock.WriteString(to + "\n")
	}
	if err == nil {
		err = lock.Sync()
	}
	if err = errors.Join(err, lock.Close()); err != nil {
		return err
	}
	if err := os.Rename(lock.Name(), path); err != nil {
		return err
	}
	return syncPath(filepath.Dir(path))
}

func (r repo) lock(path string) (*os.File, error) {
	for end := time.Now().Add(lockPatience); ; <-time.After(10 * time.Millisecond) {
		f, err := os.OpenFile(path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
				return nil, err
			}
			if err := syncPath(filepath.Dir(filepath.Dir(path))); err != nil {
				return nil, err
			}
		case !errors.Is(err, fs.ErrExist) || time.Now().After(end):
			return f, err
		}
	}
}
