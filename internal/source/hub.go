package source

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

// The defaults of [Options].
const (
	DefaultInterval   = 30 * time.Second
	DefaultCacheBytes = 64 << 20
	maxBackoff        = 5 * time.Minute
)

// Clock tells and waits for time.
type Clock interface {
	Now() time.Time
	// Timer sends on the channel once after d; stop releases it.
	Timer(d time.Duration) (c <-chan time.Time, stop func())
}

type realClock struct{}

func (realClock) Now() time.Time { return time.Now() }
func (realClock) Timer(d time.Duration) (<-chan time.Time, func()) {
	t := time.NewTimer(d)
	return t.C, func() { t.Stop() }
}

// Options of New. Only Dir is required.
type Options struct {
	// Dir holds a mirror for each repository, and what was found last.
	Dir    string
	Logger *slog.Logger
	// Notify is called with each spelling of a repository's URL that is followed
	// when a ref moved, came or went, or an error came or went. It must not block.
	Notify func(repo string)
	// Rewritten is called when a branch that is followed moved to a commit that
	// does not follow the old one, or such a tag moved at all. It must not block.
	Rewritten func(Rewrite)
	// Interval between two questions to a remote, 30 seconds by default, and the
	// share of it by which it varies, 0.1 by default.
	Interval time.Duration
	Jitter   float64
	// CacheBytes bounds the memory for trees and small files; 64 MiB by default.
	CacheBytes int64
	Clock      Clock
	// Fresh has nothing believed of what an earlier life found: a ref means nothing
	// until the remote was asked. It is for processes that stand by for one another,
	// of which another may have gone on since.
	Fresh bool
	// ListTimeout bounds one question to a remote; 30 seconds by default.
	ListTimeout time.Duration
	// UserAgent is how registries know this program.
	UserAgent string
}

// Rewrite is a ref that moved to a commit that does not follow the old one.
type Rewrite struct {
	Repo string
	// Ref is the name of the branch or tag.
	Ref      string
	Tag      bool
	Old, New string
}

// RepoConfig says how a repository is reached.
type RepoConfig struct {
	URL string
	// Interval between two questions; the hub's own by default.
	Interval time.Duration
	// Auth is asked before each command that talks to the remote. With nil the
	// credentials of the user this process runs as are used.
	Auth func(context.Context) (git.Auth, error)
	// Version is any text that changes with the declaration of the repository. A
	// repository that could not be reached is then tried again at once.
	Version string
	// PlainHTTP speaks HTTP without TLS with an OCI registry.
	PlainHTTP bool

	// stranger is set where nobody declared the repository: see SetStrangers.
	stranger bool
}

// follower is a repository that is or was followed: of Git, of charts, or of a
// registry. Its refs are called as keyOf calls them.
type follower interface {
	configure(RepoConfig)
	setFollowed(refs map[string]bool, spellings []string)
	followed() bool
	unfollow()
	// is says whether a URL means it, alike whether it may well do.
	is(url string) bool
	alike(url string) bool
	start(ctx context.Context)
	stop()
	close()
	forget()
	poke(news bool)
	checkNow(ctx context.Context) error
	hasLooked() bool
	revision(url, ref string) (belay.Revision, error)
	resolve(ctx context.Context, url, ref string) (belay.Revision, error)
	snapshot(ctx context.Context, url, commit string) (*Snapshot, error)
	status() belay.RepositoryStatus
}

// Hub follows refs of repositories. Its methods may be called by several
// goroutines; only CheckNow and Snapshot may take long.
type Hub struct {
	o        Options
	cache    *git.Cache
	contents *contents     // of registries
	trees    *trees        // unpacked
	list     chan struct{} // how many remotes are asked at once
	fetch    chan struct{} // and fetched from

	mu        sync.Mutex
	repos     map[string]follower
	configs   map[string]RepoConfig
	strangers map[string]bool // keys
	running   context.Context // of Run, nil while it does not run
	wg        sync.WaitGroup  // of the loops and of tidying
	closed    bool
}

// New makes a hub that follows nothing yet.
func New(o Options) (*Hub, error) {
	if o.Interval <= 0 {
		o.Interval = DefaultInterval
	}
	if o.Jitter <= 0 {
		o.Jitter = 0.1
	}
	if o.CacheBytes <= 0 {
		o.CacheBytes = DefaultCacheBytes
	}
	if o.Clock == nil {
		o.Clock = realClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("mirrors: %w", err)
	}
	if o.UserAgent == "" {
		o.UserAgent = "belay"
	}
	h := &Hub{o: o, cache: git.NewCache(o.CacheBytes), list: make(chan struct{}, 16), fetch: make(chan struct{}, 4),
		trees: newTrees(maxTrees), repos: map[string]follower{}, configs: map[string]RepoConfig{}}
	h.contents = newContents(filepath.Join(o.Dir, "artifacts", "contents"), maxContents, h.inUse)
	return h, nil
}

// Configure replaces what is known about how repositories are reached.
func (h *Hub) Configure(configs []RepoConfig) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.configs = make(map[string]RepoConfig, len(configs))
	for _, c := range configs {
		key, _, _ := keyOf(c.URL, "")
		h.configs[key] = c
	}
	for key, r := range h.repos {
		r.configure(h.config(key))
	}
}

// SetStrangers names the repositories that nobody declared and that are followed
// because files name them: what they resolve to in the local network is not
// talked to. It replaces what was named before.
func (h *Hub) SetStrangers(urls []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.strangers = make(map[string]bool, len(urls))
	for _, u := range urls {
		key, _, _ := keyOf(u, "")
		h.strangers[key] = true
	}
	for key, r := range h.repos {
		r.configure(h.config(key))
	}
}

// config is how the repository with a key is reached. What is declared of a
// registry, or of a part of it, holds for all repositories below. Called with h.mu.
func (h *Hub) config(key string) RepoConfig {
	c, ok := h.configs[strings.TrimPrefix(key, "helm+")]
	for at := key; !ok && isOCI(key); {
		i := strings.LastIndexByte(at, '/')
		if i <= len("oci://") {
			break
		}
		at = at[:i]
		c, ok = h.configs[at]
	}
	c.stranger = h.strangers[key] && !ok
	return c
}

// SetFollowed replaces what is followed: refs by the URL of their repository, in
// any spelling. What is new is looked for at once.
func (h *Hub) SetFollowed(follow map[string][]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	refs, spellings := map[string]map[string]bool{}, map[string][]string{}
	bases := map[string]string{}
	for url, list := range follow {
		key, base, _ := keyOf(url, "")
		if refs[key] == nil {
			refs[key] = map[string]bool{}
		}
		for _, ref := range list {
			_, _, name := keyOf(url, ref)
			refs[key][name] = true
		}
		spellings[key] = append(spellings[key], url)
		if bases[key] == "" || base < bases[key] {
			bases[key] = base
		}
	}
	for key, r := range h.repos {
		if len(refs[key]) == 0 {
			r.unfollow() // its snapshots can be read until Close
		}
	}
	for key, wanted := range refs {
		if len(wanted) == 0 {
			continue
		}
		slices.Sort(spellings[key])
		r := h.repos[key]
		if r == nil {
			if isOCI(key) || strings.HasPrefix(key, "helm+") {
				r = newArtifacts(h, key, bases[key])
			} else {
				r = newRepo(h, key, bases[key])
			}
			r.configure(h.config(key))
			h.repos[key] = r
		}
		r.setFollowed(wanted, spellings[key])
		if h.running != nil && !h.closed {
			r.start(h.running)
		}
	}
}

// Run asks the remotes until ctx ends, and returns when everything has ended.
func (h *Hub) Run(ctx context.Context) error {
	h.mu.Lock()
	if h.running != nil {
		h.mu.Unlock()
		return errors.New("the hub runs already")
	}
	h.running = ctx
	for _, r := range h.repos {
		if r.followed() {
			r.start(ctx)
		}
	}
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	h.running = nil
	for _, r := range h.repos {
		r.stop()
	}
	h.mu.Unlock()
	h.wg.Wait()
	return nil
}

// Close ends the readers of all mirrors. Snapshots cannot be read afterwards.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, r := range h.repos {
		r.close()
	}
}

// restBytes is how much of trees and files is kept at rest: what the next commit
// is compared with is among what was used last.
const restBytes = 16 << 20

// Rest gives back memory that is of use only while much happens.
func (h *Hub) Rest() { h.cache.Trim(restBytes) }

// Poke has a repository looked at now, or all of them for "", and does not wait.
// It returns how many that are. The URL may be any that a server would call the
// repository: the transport, user, port and .git at the end do not matter.
func (h *Hub) Poke(url string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, r := range h.repos {
		if r.followed() && (url == "" || r.alike(url)) {
			r.poke(url != "")
			n++
		}
	}
	return n
}

// CheckNow looks at a repository and returns when it is up to date, or with the
// error that keeps it from being so. With "" it does so for all of them. It
// works without Run, too.
func (h *Hub) CheckNow(ctx context.Context, url string) error {
	h.mu.Lock()
	var repos []follower
	for _, r := range h.repos {
		if r.followed() && (url == "" || r.is(url)) {
			repos = append(repos, r)
		}
	}
	if len(repos) == 0 && url != "" {
		for _, r := range h.repos {
			if r.followed() && r.alike(url) {
				repos = append(repos, r)
			}
		}
	}
	h.mu.Unlock()
	if len(repos) == 0 && url != "" {
		return h.unknown(url)
	}
	errs := make([]error, len(repos))
	var wg sync.WaitGroup
	for i, r := range repos {
		wg.Go(func() { errs[i] = r.checkNow(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (h *Hub) unknown(url string) error {
	clean := url
	if repo, chart := belay.SplitChartURL(url); !isOCI(url) {
		var err error
		if clean, err = git.CleanURL(repo); err != nil {
			return err
		}
		clean = belay.ChartURL(clean, chart)
	}
	return &belay.Error{Code: belay.CodeNotFound, Origin: belay.Origin{Repo: clean},
		Message: "repository " + clean + " is not followed", Hint: "no application and no Repository names it"}
}

func (h *Hub) repo(url string) (follower, error) {
	key, _, _ := keyOf(url, "")
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.repos[key]; r != nil {
		return r, nil
	}
	return nil, h.unknown(url)
}

// Revision is the last good commit of a ref, without asking the remote. With a
// current problem of the repository or the ref, the error comes with it.
func (h *Hub) Revision(url, ref string) (belay.Revision, error) {
	r, err := h.repo(url)
	if err != nil {
		return belay.Revision{Repo: url, Ref: ref}, err
	}
	return r.revision(url, ref)
}

// Looked says whether a repository was asked since it is followed, with success or not.
func (h *Hub) Looked(url string) bool {
	r, err := h.repo(url)
	if err != nil {
		return false
	}
	return r.hasLooked()
}

// Resolve asks the remote what any ref means now, followed or not.
func (h *Hub) Resolve(ctx context.Context, url, ref string) (belay.Revision, error) {
	r, err := h.repo(url)
	if err != nil {
		return belay.Revision{Repo: url, Ref: ref}, err
	}
	return r.resolve(ctx, url, ref)
}

// Snapshot gives the tree of a commit, or of the digest of a chart or artifact,
// which is looked for at the remote when it is not here.
func (h *Hub) Snapshot(ctx context.Context, url, commit string) (*Snapshot, error) {
	r, err := h.repo(url)
	if err != nil {
		return nil, err
	}
	return r.snapshot(ctx, url, commit)
}

// Diff lists the paths that differ between two commits of a repository.
func (h *Hub) Diff(ctx context.Context, url, from, to string) ([]belay.PathChange, error) {
	a, err := h.Snapshot(ctx, url, from)
	if err != nil {
		return nil, err
	}
	b, err := h.Snapshot(ctx, url, to)
	if err != nil {
		return nil, err
	}
	return Diff(ctx, a, b)
}

// Mirror gives the mirror of a repository, for questions about its history. The
// error is [errors.ErrUnsupported] for what is no Git repository.
func (h *Hub) Mirror(ctx context.Context, url string) (*git.Mirror, error) {
	f, err := h.repo(url)
	if err != nil {
		return nil, err
	}
	r, ok := f.(*repo)
	if !ok { // charts and artifacts have no history
		return nil, errors.ErrUnsupported
	}
	return r.open(ctx)
}

// Earlier lists the digests that the ref of a chart or artifact meant before the
// one at hand, the last first, as far as they are remembered; nil for Git.
func (h *Hub) Earlier(url, digest string) []string {
	r, err := h.repo(url)
	if err != nil {
		return nil
	}
	if a, ok := r.(*artifacts); ok {
		return a.earlier(digest)
	}
	return nil
}

// inUse are the digests of registries' contents that are needed.
func (h *Hub) inUse() map[string]bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := map[string]bool{}
	for _, r := range h.repos {
		if a, ok := r.(*artifacts); ok {
			a.inUse(all)
		}
	}
	return all
}

// Removal finds the commit at or before commit that removed the last line below
// path that matches a POSIX extended regular expression, and returns its parent,
// which still has the line. See [git.Mirror.Removal].
func (h *Hub) Removal(ctx context.Context, url, commit, path, expr string) (parent string, found bool, err error) {
	m, err := h.Mirror(ctx, url)
	if err != nil {
		return "", false, err
	}
	_, parent, found, err = m.Removal(ctx, commit, path, expr)
	return parent, found, err
}

// Status of all repositories that are followed, sorted by URL.
func (h *Hub) Status() []belay.RepositoryStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]belay.RepositoryStatus, 0, len(h.repos))
	for _, r := range h.repos {
		if r.followed() {
			out = append(out, r.status())
		}
	}
	slices.SortFunc(out, func(a, b belay.RepositoryStatus) int { return strings.Compare(a.URL, b.URL) })
	return out
}

// acquire takes one of a bounded number of places.
func acquire(ctx context.Context, slots chan struct{}) (release func(), err error) {
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// delay until the next question: the interval, doubled with each failure in a
// row up to five minutes, give or take the jitter.
func delay(interval time.Duration, failures int, jitter, random float64) time.Duration {
	d := interval
	for range failures {
		if d >= maxBackoff {
			break
		}
		d = min(2*d, maxBackoff)
	}
	return time.Duration(float64(d) * (1 + jitter*(2*random-1)))
}

func (h *Hub) delay(interval time.Duration, failures int) time.Duration {
	return delay(interval, failures, h.o.Jitter, rand.Float64())
}

func (h *Hub) dir(key string) string { return filepath.Join(h.o.Dir, git.DirName(key)) }
