package source

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/registry"
)

// artifacts follows the charts of one Helm repository, or one repository of an
// OCI registry. What a ref means is a digest, and the digest is its commit.
type artifacts struct {
	poller // its mu guards what follows, too
	key    string
	url    string // without a chart

	config    RepoConfig
	spellings []string
	saved     map[string]savedRelease
	found     map[string]*release
	told      map[string]string

	// index is the last one read, of a Helm repository; digests are those of
	// archives for which it has none. Both belong to who has the turn.
	index   *registry.Index
	digests map[string]string
}

// release is what a ref means: the last good digest, and what is wrong now.
type release struct {
	name, digest string
	err          error
}

type savedRelease struct {
	Name   string    `json:"name"`
	Digest string    `json:"digest"`
	Used   time.Time `json:"used"`
	// Before are the digests that the ref meant before, the last one first.
	Before []string `json:"before,omitempty"`
}

// keptBefore is how many earlier digests of a ref are remembered.
const keptBefore = 5

// isOCI tells a repository of a registry by its URL.
func isOCI(url string) bool { return strings.HasPrefix(url, "oci://") }

// keyOf is the identity of what a URL means, and how a ref of it is called there.
func keyOf(url, ref string) (key, base, name string) {
	repo, chart := belay.SplitChartURL(url)
	switch {
	case isOCI(url):
		return strings.TrimRight(url, "/"), url, ref
	case chart != "":
		return "helm+" + git.Key(repo), repo, chart + "@" + ref
	}
	return git.Key(url), url, ref
}

func newArtifacts(h *Hub, key, base string) *artifacts {
	a := &artifacts{key: key, url: base, found: map[string]*release{}, told: map[string]string{}, digests: map[string]string{}}
	a.init(h)
	a.load()
	return a
}

func (a *artifacts) stateFile() string {
	return filepath.Join(a.h.o.Dir, "artifacts", "state", strings.TrimSuffix(git.DirName(a.key), ".git")+".json")
}

// load takes up what was known when it was last used.
func (a *artifacts) load() {
	b, err := os.ReadFile(a.stateFile())
	if err != nil {
		return
	}
	if err := json.Unmarshal(b, &a.saved); err != nil {
		a.h.o.Logger.Warn("what was found in a registry is not legible", "repo", a.url, "error", err)
	}
}

// save writes what is known. Called with a.mu.
func (a *artifacts) save() {
	now := a.h.o.Clock.Now()
	saved := map[string]savedRelease{}
	for ref, s := range a.saved {
		if now.Sub(s.Used) < keepUnused {
			saved[ref] = s
		}
	}
	for ref, f := range a.found {
		if f.digest != "" {
			old := a.saved[ref]
			before := old.Before
			if old.Digest != "" && old.Digest != f.digest {
				before = append([]string{old.Digest}, before...)
				before = before[:min(len(before), keptBefore)]
			}
			saved[ref] = savedRelease{Name: f.name, Digest: f.digest, Used: now, Before: before}
		}
	}
	a.saved = saved
	b, err := json.Marshal(saved)
	if err == nil {
		err = writeWhole(a.stateFile(), b)
	}
	if err != nil {
		a.h.o.Logger.Warn("what was found in a registry is not saved", "repo", a.url, "error", err)
	}
}

func writeWhole(name string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".state-*")
	if err != nil {
		return err
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
	}
	return err
}

func (a *artifacts) configure(c RepoConfig) {
	a.mu.Lock()
	defer a.mu.Unlock()
	news := a.config.Version != c.Version || a.config.stranger != c.stranger
	a.config = c
	a.every(c.Interval)
	if news && (a.err != nil || a.failures > 0) {
		a.failures = 0
		a.nudge()
	}
}

func (a *artifacts) setFollowed(refs map[string]bool, spellings []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for ref := range refs {
		if a.refs[ref] {
			continue
		}
		a.nudge()
		if s, ok := a.saved[ref]; ok && a.found[ref] == nil && !a.h.o.Fresh {
			a.found[ref] = &release{name: s.Name, digest: s.Digest}
		}
	}
	a.refs, a.spellings = refs, spellings
	maps.DeleteFunc(a.found, func(ref string, _ *release) bool { return !refs[ref] })
	maps.DeleteFunc(a.told, func(ref, _ string) bool { return !refs[ref] })
}

func (a *artifacts) is(url string) bool {
	key, _, _ := keyOf(url, "")
	return key == a.key || "helm+"+key == a.key
}

// alike takes the URL of the repository, with a chart or without, and for a
// registry that of anything above it.
func (a *artifacts) alike(url string) bool {
	if isOCI(a.url) { // who tells may call it by another scheme, or by none
		_, own, _ := strings.Cut(a.url, "://")
		if _, rest, ok := strings.Cut(url, "://"); ok {
			url = rest
		}
		url = strings.TrimRight(url, "/")
		return url == own || strings.HasPrefix(own, url+"/")
	}
	repo, _ := belay.SplitChartURL(url)
	return git.Alike(a.url, repo)
}

func (a *artifacts) start(ctx context.Context) {
	a.poll(ctx, func(ctx context.Context) error { return a.look(ctx, 0) })
}

func (a *artifacts) close() { a.stop() }

func (a *artifacts) checkNow(ctx context.Context) error {
	a.mu.Lock()
	want := a.begun + 1
	a.mu.Unlock()
	return a.look(ctx, want)
}

// look asks what the refs mean now and fetches what is new. want is the number
// of a look that will do as well, once it has ended; 0 is none.
func (a *artifacts) look(ctx context.Context, want uint64) error {
	release, err := acquire(ctx, a.turn)
	if err != nil {
		return err
	}
	defer release()
	a.mu.Lock()
	if want > 0 && a.ended >= want {
		defer a.mu.Unlock()
		return a.trouble()
	}
	a.begun++
	this := a.begun
	refs := slices.Sorted(maps.Keys(a.refs))
	a.mu.Unlock()
	results, err := a.ask(ctx, refs)
	if err != nil && ctx.Err() != nil {
		return nil // we are being stopped: that says nothing about the registry
	}
	if a.settle(results, err, this) {
		a.tell()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.trouble()
}

// ask resolves refs; the error is of the repository as a whole.
func (a *artifacts) ask(ctx context.Context, refs []string) (map[string]*release, error) {
	done, err := acquire(ctx, a.h.list)
	if err != nil {
		return nil, err
	}
	defer done()
	if isOCI(a.url) {
		return a.askOCI(ctx, refs), nil
	}
	return a.askHelm(ctx, refs)
}

// settle takes the results of a look over, and says whether they are news.
func (a *artifacts) settle(results map[string]*release, err error, this uint64) (news bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ended, a.looked = this, a.h.o.Clock.Now()
	news = text(a.err) != text(err)
	a.err = err
	if err != nil {
		a.failures++
		return news
	}
	failed, changed := false, false
	for ref, r := range results {
		if r.err != nil {
			failed = true
			if before := a.found[ref]; before != nil { // the last good one stays
				r.name, r.digest = before.name, before.digest
			}
		}
		if s := a.saved[ref]; s.Digest != r.digest || s.Name != r.name {
			changed = true
		}
		if !a.refs[ref] {
			continue
		}
		a.found[ref] = r
		if now := r.name + " " + r.digest + " " + text(r.err); a.told[ref] != now {
			a.told[ref], news = now, true
		}
	}
	if a.failures++; !failed {
		a.failures = 0
	}
	if changed {
		a.save()
	}
	return news
}

func (a *artifacts) tell() {
	if a.h.o.Notify == nil {
		return
	}
	a.mu.Lock()
	spellings := a.spellings
	a.mu.Unlock()
	for _, s := range spellings {
		a.h.o.Notify(s)
	}
}

// trouble is the error of the repository, or those of its refs. Called with a.mu.
func (a *artifacts) trouble() error {
	if a.err != nil {
		return a.err
	}
	var errs []error
	for _, ref := range slices.Sorted(maps.Keys(a.found)) {
		if f := a.found[ref]; f.err != nil && a.refs[ref] {
			errs = append(errs, f.err)
		}
	}
	return errors.Join(errs...)
}

// describe is the revision of a release.
func (a *artifacts) describe(url, ref string, r *release) belay.Revision {
	rev := belay.Revision{Repo: url, Ref: ref}
	if r != nil && r.digest != "" {
		rev.Name, rev.Commit = r.name, r.digest
		repo, chart := belay.SplitChartURL(url)
		if chart == "" {
			chart = repo[strings.LastIndexByte(repo, '/')+1:]
		}
		rev.Subject = chart + " " + r.name
	}
	return rev
}

func (a *artifacts) revision(url, ref string) (belay.Revision, error) {
	_, _, name := keyOf(url, ref)
	a.mu.Lock()
	defer a.mu.Unlock()
	f := a.found[name]
	rev := a.describe(url, ref, f)
	switch {
	case a.err != nil:
		return rev, a.err
	case f != nil && f.err != nil:
		return rev, f.err
	case rev.Commit == "":
		return rev, &belay.Error{Code: belay.CodeUnavailable, Origin: belay.Origin{Repo: url},
			Message: "repository " + url + " has not been looked at yet", Hint: "it is being looked at; nothing to do"}
	}
	return rev, nil
}

func (a *artifacts) resolve(ctx context.Context, url, ref string) (belay.Revision, error) {
	_, _, name := keyOf(url, ref)
	release, err := acquire(ctx, a.turn)
	if err != nil {
		return belay.Revision{Repo: url, Ref: ref}, err
	}
	defer release()
	results, err := a.ask(ctx, []string{name})
	if err != nil {
		return belay.Revision{Repo: url, Ref: ref}, err
	}
	return a.describe(url, ref, results[name]), results[name].err
}

func (a *artifacts) hasLooked() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ended > 0
}

func (a *artifacts) status() belay.RepositoryStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := belay.RepositoryStatus{URL: a.url, CheckedAt: a.looked, Refs: map[string]string{}, Message: text(a.err)}
	for ref, f := range a.found {
		if f.digest != "" {
			s.Refs[ref] = f.digest
		}
		if f.err != nil {
			if s.RefErrors == nil {
				s.RefErrors = map[string]string{}
			}
			s.RefErrors[ref] = f.err.Error()
		}
	}
	return s
}

// earlier lists the digests that came before one, the last first.
func (a *artifacts) earlier(digest string) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.saved {
		if s.Digest == digest {
			return slices.Clone(s.Before)
		}
	}
	return nil
}

// inUse adds the digests of all content that is needed.
func (a *artifacts) inUse(digests map[string]bool) {
	a.mu.Lock()
	var found []string
	for _, f := range a.found {
		found = append(found, f.digest)
	}
	a.mu.Unlock()
	for _, d := range found {
		digests[d] = true
		b := a.h.contents.get(d)
		if b == nil || !isOCI(a.url) {
			continue
		}
		if m, err := registry.ParseManifest(a.url, b); err == nil {
			for _, l := range m.Layers {
				digests[l.Digest] = true
			}
		}
	}
}

// snapshot gives the tree behind a digest, which is fetched if it is not here.
func (a *artifacts) snapshot(ctx context.Context, url, digest string) (*Snapshot, error) {
	t := a.h.trees.get(digest)
	if t == nil {
		var err error
		if t, err = a.tree(ctx, digest); err != nil {
			return nil, err
		}
	}
	return &Snapshot{view{store: t, repo: url, commit: digest}}, nil
}
