package git

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// RefChange is a branch or tag that a fetch moved.
type RefChange struct {
	// Name with refs/heads/ or refs/tags/.
	Name string
	// Old and New commits, empty where there is none.
	Old, New string
	// Rewritten: a branch whose new commit does not follow the old one.
	Rewritten bool
}

// FetchResult is what a fetch brought.
type FetchResult struct {
	// Refs after the fetch.
	Refs    Refs
	Changes []RefChange
	// Healed: the mirror was damaged and was made anew.
	Healed bool
}

// Fetch makes the mirror's branches and tags equal to the remote's: moved
// backwards and removed where the remote's were. Commits that no branch has any
// more stay readable. A damaged mirror is made anew; readers are not disturbed.
// The error is a [belay.Error] that names the repository.
func (m *Mirror) Fetch(ctx context.Context) (FetchResult, error) {
	ctx, cancel := withTimeout(ctx, m.o.FetchTimeout)
	defer cancel()
	if err := m.lock(ctx); err != nil {
		return FetchResult{}, m.explain(err, false)
	}
	defer m.unlock()
	if err := m.recoverSwap(); err != nil {
		return FetchResult{}, m.explain(err, false)
	}
	removeStale(m.dir)
	before, err := m.LocalRefs(ctx)
	if err != nil && ctx.Err() == nil {
		m.damaged("refs", err)
	}
	if !m.broken.Load() {
		err := m.fetchInto(ctx, m.dir, everything...)
		if err == nil {
			return m.fetched(ctx, before, false)
		}
		if !damagedBy(err) {
			return FetchResult{Refs: before}, err
		}
		m.damaged("fetch", err)
	}
	if err := m.rebuild(ctx); err != nil {
		return FetchResult{Refs: before}, err
	}
	return m.fetched(ctx, before, true)
}

var everything = []string{"+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"}

// FetchCommit gets one commit that no branch or tag has, by its full id. Not
// every server gives such a commit away.
func (m *Mirror) FetchCommit(ctx context.Context, id string) error {
	if !validID(id) {
		return fmt.Errorf("%q is not a full commit id", id)
	}
	ctx, cancel := withTimeout(ctx, m.o.FetchTimeout)
	defer cancel()
	if err := m.lock(ctx); err != nil {
		return m.explain(err, false)
	}
	defer m.unlock()
	removeStale(m.dir)
	return m.fetchInto(ctx, m.dir, id+":refs/belay/commits/"+id)
}

func (m *Mirror) fetchInto(ctx context.Context, dir string, refspecs ...string) error {
	r, err := m.credentials(ctx)
	if err != nil {
		return m.explain(err, false)
	}
	defer r.close()
	args := []string{"fetch", "--quiet", "--no-progress", "--force", "--no-tags", "--no-write-fetch-head",
		"--no-auto-maintenance", "--no-show-forced-updates", "--no-recurse-submodules"}
	if len(refspecs) > 1 {
		args = append(args, "--prune")
	}
	c := r.command(m, append(append(args, "--", m.url), refspecs...)...)
	c.Env = append(c.Env, "GIT_DIR="+dir)
	c.Dir = dir
	if err := c.Run(ctx); err != nil {
		return m.explain(err, r.given)
	}
	m.logger.Debug("repository fetched", "repo", m.display)
	return nil
}

// fetched compares the refs before and after.
func (m *Mirror) fetched(ctx context.Context, before Refs, healed bool) (FetchResult, error) {
	after, err := m.LocalRefs(ctx)
	if err != nil {
		m.damaged("refs", err)
		return FetchResult{Refs: before}, m.explain(err, false)
	}
	res := FetchResult{Refs: after, Healed: healed}
	res.Changes = append(changes("refs/heads/", before.Heads, after.Heads), changes("refs/tags/", before.Tags, after.Tags)...)
	for i := range res.Changes {
		c := &res.Changes[i]
		if c.Old == "" || c.New == "" || !strings.HasPrefix(c.Name, "refs/heads/") {
			continue
		}
		// After a rebuild the old commit may be gone for good; that is a rewrite, too.
		follows, err := m.IsAncestor(ctx, c.Old, c.New)
		c.Rewritten = !follows && (err == nil || healed)
	}
	return res, nil
}

func changes(prefix string, before, after map[string]string) []RefChange {
	var out []RefChange
	for name, id := range after {
		if before[name] != id {
			out = append(out, RefChange{Name: prefix + name, Old: before[name], New: id})
		}
	}
	for name, id := range before {
		if after[name] == "" {
			out = append(out, RefChange{Name: prefix + name, Old: id})
		}
	}
	slices.SortFunc(out, func(a, b RefChange) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// SetHead remembers which branch the remote's HEAD points at.
func (m *Mirror) SetHead(ctx context.Context, branch string) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	_, err := m.output(ctx, "symbolic-ref", "HEAD", "refs/heads/"+branch)
	return err
}

// rebuild fetches everything into a new directory and puts that in the place of
// the damaged one, which stays as it is when that fails.
func (m *Mirror) rebuild(ctx context.Context) error {
	head, _ := os.ReadFile(filepath.Join(m.dir, "HEAD"))
	next := m.dir + ".new"
	if err := m.initAt(ctx, next); err != nil {
		return m.explain(err, false)
	}
	if err := m.fetchInto(ctx, next, everything...); err != nil {
		os.RemoveAll(next)
		return err
	}
	if branch, ok := strings.CutPrefix(strings.TrimSpace(string(head)), "ref: refs/heads/"); ok && branch != "" {
		if err := os.WriteFile(filepath.Join(next, "HEAD"), []byte("ref: refs/heads/"+branch+"\n"), 0o600); err != nil {
			return m.explain(err, false)
		}
	}
	if err := m.exchange(next); err != nil {
		return m.explain(err, false)
	}
	m.broken.Store(false)
	m.logger.Info("mirror made anew", "repo", m.display)
	return nil
}

func (m *Mirror) exchange(next string) error {
	m.swap.Lock()
	defer m.swap.Unlock()
	old := m.dir + ".old"
	if err := os.RemoveAll(old); err != nil {
		return err
	}
	if err := os.Rename(m.dir, old); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Rename(next, m.dir); err != nil {
		return err
	}
	m.readers.renew()
	return os.RemoveAll(old)
}

// recoverSwap finishes an exchange that was cut short.
func (m *Mirror) recoverSwap() error {
	next, old := m.dir+".new", m.dir+".old"
	if _, err := os.Stat(m.dir); errors.Is(err, fs.ErrNotExist) {
		// Between the two renames: the new one is complete, or it would not have come so far.
		if _, err := os.Stat(old); err == nil && looksLikeMirror(next) {
			if err := os.Rename(next, m.dir); err != nil {
				return err
			}
		}
	}
	return errors.Join(os.RemoveAll(next), os.RemoveAll(old))
}

// damage are git's words for a repository that lacks or garbles something.
var damage = regexp.MustCompile(`(?i)(bad object|corrupt|unable to read|missing (blob|tree|commit|object)|object file .* is empty|` +
	`did not send all necessary objects|not a git repository|reference broken|unable to resolve reference|` +
	`loose object|packfile .*(cannot|too|short|mismatch)|index file .*(small|version|corrupt|mismatch)|bad (config|index)|` +
	`invalid (sha1|object|multi-pack)|unable to parse|could not parse|unresolved deltas|has invalid|does not point to a valid object|` +
	`File exists|commit-graph|broken link|unable to find)`)

// damagedBy says whether an error of a fetch looks like the mirror's own fault.
// To be wrong costs one fetch of everything and no more.
func damagedBy(err error) bool {
	e, ok := errors.AsType[*xec.ExitError](err)
	if !ok || e.Signal != 0 || e.Err != nil {
		return false
	}
	for line := range strings.Lines(e.Stderr) {
		// The remote says "remote: …", or that there is no repository at its end.
		if strings.HasPrefix(line, "remote:") || strings.Contains(line, "does not appear to be a git repository") ||
			strings.Contains(line, "dubious ownership") {
			return false
		}
	}
	return damage.MatchString(e.Stderr)
}

// removeStale removes what a killed git left behind. Called with the lock, so no
// git of ours is at work there.
func removeStale(dir string) {
	remove := func(d string, match func(string) bool) {
		entries, _ := os.ReadDir(d)
		for _, e := range entries {
			if !e.IsDir() && match(e.Name()) {
				os.Remove(filepath.Join(d, e.Name()))
			}
		}
	}
	lock := func(n string) bool { return strings.HasSuffix(n, ".lock") }
	remove(dir, lock)
	remove(filepath.Join(dir, "objects", "info"), lock)
	remove(filepath.Join(dir, "objects", "info", "commit-graphs"), lock)
	remove(filepath.Join(dir, "objects", "pack"), func(n string) bool {
		return lock(n) || strings.HasPrefix(n, "tmp_") || strings.HasPrefix(n, ".tmp-")
	})
	_ = filepath.WalkDir(filepath.Join(dir, "refs"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && lock(d.Name()) { // no ref may be named so
			os.Remove(p)
		}
		return nil
	})
}

// lock takes the right to change the mirror, from other goroutines and from
// other processes.
func (m *Mirror) lock(ctx context.Context) error {
	select {
	case m.write <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := m.lockFile(ctx); err != nil {
		<-m.write
		return err
	}
	return nil
}

func (m *Mirror) lockFile(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(m.dir), 0o700); err != nil {
		return err
	}
	// Beside the directory, which may be exchanged. The kernel lets go of it when
	// this process ends, however it ends.
	f, err := os.OpenFile(m.dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			m.lockedFile = f
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			f.Close()
			return fmt.Errorf("another process is using %s: %w", m.dir, context.Cause(ctx))
		}
	}
}

func (m *Mirror) unlock() {
	m.lockedFile.Close()
	m.lockedFile = nil
	<-m.write
}

func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf("no answer within %s: %w", d, context.DeadlineExceeded))
}
