package source

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

// repo is one repository that is or was followed.
type repo struct {
	poller // its mu guards what follows, too
	key    string

	opening sync.Mutex // held while the mirror is opened; taken before mu

	url       string // as it is fetched from
	spellings []string
	auth      func(context.Context) (git.Auth, error)
	version   string // of the declaration
	stranger  bool   // nobody declared it

	mirror *git.Mirror
	old    []*git.Mirror // of another spelling; snapshots may still read from them
	local  git.Refs      // of the mirror
	saved  map[string]saved
	found  map[string]*finding
	told   map[string]string // what each ref was when somebody was last told
}

// finding is what became of a ref: the last good commit, and what is wrong now.
type finding struct {
	target
	info git.CommitInfo
	err  error
}

func newRepo(h *Hub, key, url string) *repo {
	r := &repo{key: key, url: url, found: map[string]*finding{}, told: map[string]string{}}
	r.init(h)
	return r
}

func (r *repo) configure(c RepoConfig) {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := (r.auth == nil) != (c.Auth == nil) || r.version != c.Version || r.stranger != c.stranger
	r.stranger = c.stranger
	r.auth, r.version = c.Auth, c.Version
	r.every(c.Interval)
	if c.URL != "" && c.URL != r.url {
		r.url = c.URL
		if r.mirror != nil {
			r.old = append(r.old, r.mirror)
			r.mirror = nil
		}
	}
	if news && r.err != nil {
		r.failures = 0
		r.nudge()
	}
}

func (r *repo) setFollowed(refs map[string]bool, spellings []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ref := range refs {
		if !r.refs[ref] {
			r.nudge()
		}
	}
	r.refs, r.spellings = refs, spellings
	maps.DeleteFunc(r.found, func(ref string, _ *finding) bool { return !refs[ref] })
	maps.DeleteFunc(r.told, func(ref, _ string) bool { return !refs[ref] })
}

func (r *repo) alike(url string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return git.Alike(r.url, url)
}

func (r *repo) start(ctx context.Context) { r.poll(ctx, r.look) }

func (r *repo) close() {
	r.stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range append(r.old, r.mirror) {
		if m != nil {
			m.Close()
		}
	}
	r.old, r.mirror = nil, nil
}

// heal has a damaged mirror made anew at once, unless that has just failed.
func (r *repo) heal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failures == 0 {
		r.nudge()
	}
}

// checkNow returns after a look that began after the call.
func (r *repo) checkNow(ctx context.Context) error {
	r.mu.Lock()
	want := r.begun + 1
	r.mu.Unlock()
	release, err := acquire(ctx, r.turn)
	if err != nil {
		return err
	}
	r.mu.Lock()
	if r.ended >= want { // somebody else's look will do
		defer r.mu.Unlock()
		release()
		return r.trouble()
	}
	r.mu.Unlock()
	_, err = r.lookAtRemote(ctx, "")
	release()
	return err
}

func (r *repo) look(ctx context.Context) error {
	release, err := acquire(ctx, r.turn)
	if err != nil {
		return err
	}
	defer release()
	_, err = r.lookAtRemote(ctx, "")
	return err
}

// lookAtRemote asks the remote for its refs and fetches when something that is
// followed is not here. Only who has the turn may call it. What also means, if it
// is not "", is found too, and not kept.
func (r *repo) lookAtRemote(ctx context.Context, also string) (*finding, error) {
	r.mu.Lock()
	r.begun++
	this := r.begun
	refs := slices.Sorted(maps.Keys(r.refs))
	extra := also != "" && !r.refs[also]
	r.mu.Unlock()
	if extra {
		refs = append(refs, also)
	}

	now, rewrites, healed, err := r.ask(ctx, refs)
	if err != nil && ctx.Err() != nil {
		return nil, err // we are being stopped: that says nothing about the repository
	}
	var results map[string]*finding
	if err == nil {
		results, err = r.resolveAll(ctx, refs, now)
	}
	if errors.Is(err, git.ErrBroken) {
		r.heal()
	}
	asked := results[also]
	if extra {
		delete(results, also)
	}
	notify := r.settle(results, err, this) || healed
	if notify {
		r.tell()
	}
	for _, w := range rewrites {
		if r.h.o.Rewritten != nil {
			r.h.o.Rewritten(w)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return asked, r.trouble()
}

// trouble is the error of the repository, or those of its refs. Called with r.mu.
func (r *repo) trouble() error {
	if r.err != nil {
		return r.err
	}
	var errs []error
	for _, ref := range slices.Sorted(maps.Keys(r.found)) {
		if f := r.found[ref]; f.err != nil && r.refs[ref] {
			errs = append(errs, f.err)
		}
	}
	return errors.Join(errs...)
}

// ask brings the mirror up to date as far as refs need it, and returns the
// remote's refs.
func (r *repo) ask(ctx context.Context, refs []string) (now git.Refs, rewrites []Rewrite, healed bool, err error) {
	m, err := r.open(ctx)
	if err != nil {
		return git.Refs{}, nil, false, err
	}
	r.mu.Lock()
	local, news := r.local, r.news
	r.news = false
	r.mu.Unlock()
	head := slices.ContainsFunc(refs, isHead)
	now.Head = local.Head
	// Who was told that something was pushed need not ask what: a fetch begins with
	// that question. A conversation less is most of the wait where the remote is far.
	if !news || head || len(local.Heads) == 0 {
		var all bool
		if now, all, err = r.list(ctx, m, refs, local, head); err != nil || all {
			return now, nil, false, err
		}
	}
	release, err := acquire(ctx, r.h.fetch)
	if err != nil {
		return git.Refs{}, nil, false, err
	}
	defer release()
	res, err := m.Fetch(ctx)
	if err != nil {
		return git.Refs{}, nil, false, err
	}
	if head && now.Head != "" && now.Head != res.Refs.Head {
		if err := m.SetHead(ctx, now.Head); err != nil {
			return git.Refs{}, nil, false, err
		}
	}
	rewrites = r.rewrites(ctx, m, refs, res)
	// The remote may have moved on since it was asked: what was fetched counts.
	res.Refs.Head, res.Refs.HeadCommit = now.Head, now.HeadCommit
	r.mu.Lock()
	r.local = res.Refs
	r.mu.Unlock()
	r.tidy(m)
	return res.Refs, rewrites, res.Healed, nil
}

// list asks the remote for its refs, and says whether everything that refs mean is
// in the mirror.
func (r *repo) list(ctx context.Context, m *git.Mirror, refs []string, local git.Refs, head bool) (now git.Refs, all bool, err error) {
	release, err := acquire(ctx, r.h.list)
	if err != nil {
		return git.Refs{}, false, err
	}
	now, err = m.LsRemote(ctx, head)
	release()
	if err != nil {
		return git.Refs{}, false, err
	}
	if !head {
		now.Head = local.Head
	}
	return now, !m.Broken() && !r.missing(ctx, m, refs, now, local), nil
}

// missing says whether something that refs mean is not in the mirror. The
// mirror's own refs tell, not its objects: a fetch that was cut short may have
// left some.
func (r *repo) missing(ctx context.Context, m *git.Mirror, refs []string, now, local git.Refs) bool {
	for _, ref := range refs {
		want, err := resolveRef(m.URL(), now, ref, r.commits(ctx, m, ref))
		switch {
		case err != nil && isCommitID(ref):
			return true // may be on a branch that moved
		case err != nil:
			continue
		case strings.HasPrefix(want.full, "refs/heads/"):
			if local.Heads[strings.TrimPrefix(want.full, "refs/heads/")] != want.Commit {
				return true
			}
		case strings.HasPrefix(want.full, "refs/tags/"):
			if local.Tags[strings.TrimPrefix(want.full, "refs/tags/")] != want.Commit {
				return true
			}
		default:
			if has, err := m.HasCommit(ctx, want.Commit); err != nil || !has {
				return true
			}
		}
	}
	return false
}

// rewrites are those of a fetch that concern refs.
func (r *repo) rewrites(ctx context.Context, m *git.Mirror, refs []string, res git.FetchResult) []Rewrite {
	names := map[string]bool{}
	for _, ref := range refs {
		if t, err := resolveRef(m.URL(), res.Refs, ref, r.commits(ctx, m, ref)); err == nil {
			names[t.full] = true
		}
	}
	var out []Rewrite
	for _, c := range res.Changes {
		tag, isTag := strings.CutPrefix(c.Name, "refs/tags/")
		if !names[c.Name] || c.Old == "" || c.New == "" || !c.Rewritten && !isTag {
			continue
		}
		w := Rewrite{Repo: m.URL(), Ref: strings.TrimPrefix(c.Name, "refs/heads/"), Tag: isTag, Old: c.Old, New: c.New}
		if isTag {
			w.Ref = tag
		}
		out = append(out, w)
	}
	return out
}

// resolveAll finds the commits of refs in the mirror. The error is for a mirror
// that cannot be read.
func (r *repo) resolveAll(ctx context.Context, refs []string, now git.Refs) (map[string]*finding, error) {
	m, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*finding, len(refs))
	for _, ref := range refs {
		f := &finding{}
		f.target, f.err = resolveRef(m.URL(), now, ref, r.commits(ctx, m, ref))
		if f.err != nil && len(ref) == 40 && isCommitID(ref) {
			f.err = r.fetchCommit(ctx, m, ref, f)
		}
		if f.err == nil {
			f.info, f.err = r.commit(ctx, m, f.target)
		}
		if errors.Is(f.err, git.ErrBroken) {
			return nil, f.err
		}
		out[ref] = f
	}
	return out, nil
}

// commits finds the commits that a ref may mean. One that was found stays: no
// later commit makes its abbreviation ambiguous.
func (r *repo) commits(ctx context.Context, m *git.Mirror, ref string) func(string) ([]string, error) {
	return func(id string) ([]string, error) {
		r.mu.Lock()
		f := r.found[ref]
		r.mu.Unlock()
		if f != nil && f.full == "" && strings.HasPrefix(f.Commit, id) {
			id = f.Commit
		}
		return commitsIn(ctx, m)(id)
	}
}

// fetchCommit gets a commit that no branch has.
func (r *repo) fetchCommit(ctx context.Context, m *git.Mirror, id string, f *finding) error {
	release, err := acquire(ctx, r.h.fetch)
	if err != nil {
		return err
	}
	defer release()
	id = strings.ToLower(id)
	if err := m.FetchCommit(ctx, id); err != nil {
		if belay.CodeOf(err) == belay.CodeUnavailable {
			return err
		}
		return f.err // no branch has it and the server does not give it away: it is not there
	}
	f.target = target{Name: id, Commit: id}
	return nil
}

func (r *repo) commit(ctx context.Context, m *git.Mirror, t target) (git.CommitInfo, error) {
	r.mu.Lock()
	for _, f := range r.found {
		if f.info.ID == t.Commit && f.err == nil {
			defer r.mu.Unlock()
			return f.info, nil
		}
	}
	r.mu.Unlock()
	c, err := m.Commit(ctx, t.Commit)
	if err != nil && !errors.Is(err, git.ErrBroken) {
		err = &belay.Error{Code: belay.CodeInvalid, Err: err, Origin: belay.Origin{Repo: m.URL()},
			Message: "repository " + m.URL() + ": " + t.Name + " does not name a commit", Hint: "a tag must be one of a commit"}
	}
	return c, err
}

// settle takes the results of a look over, and says whether they are news.
func (r *repo) settle(results map[string]*finding, err error, this uint64) (news bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = this
	r.looked = r.h.o.Clock.Now()
	news = text(r.err) != text(err)
	r.err = err
	if err != nil {
		r.failures++
		return news
	}
	r.failures = 0
	changed := false
	for ref, f := range results {
		before := r.found[ref]
		if before == nil {
			before = &finding{}
		}
		if f.err != nil { // the last good one stays
			f.target, f.info = before.target, before.info
		}
		if s := r.saved[ref]; f.Commit != s.Commit || f.Name != s.Name {
			changed = true
		}
		if !r.refs[ref] {
			continue
		}
		r.found[ref] = f
		// Not compared with before: who recalled that may have told nobody.
		if now := f.Name + " " + f.Commit + " " + text(f.err); r.told[ref] != now {
			r.told[ref], news = now, true
		}
	}
	if changed {
		if err := r.save(); err != nil {
			r.h.o.Logger.Warn("what was found in a repository is not saved", "repo", r.url, "error", err)
		}
	}
	return news
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (r *repo) tell() {
	if r.h.o.Notify == nil {
		return
	}
	r.mu.Lock()
	spellings := r.spellings
	r.mu.Unlock()
	for _, s := range spellings {
		r.h.o.Notify(s)
	}
}

// tidy tidies the mirror in the background when it is of use.
func (r *repo) tidy(m *git.Mirror) {
	if !m.Untidy() {
		return
	}
	r.h.mu.Lock()
	defer r.h.mu.Unlock()
	ctx := r.h.running
	if ctx == nil {
		return // a short-lived process
	}
	r.h.wg.Go(func() {
		if err := m.Tidy(ctx); err != nil && ctx.Err() == nil {
			r.h.o.Logger.Warn("mirror not tidied", "repo", m.URL(), "error", err)
		}
	})
}

// revision is the last good commit of a ref with what is wrong now.
func (r *repo) revision(_, ref string) (belay.Revision, error) {
	// What an earlier life knew is on disk, which does not take long.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	m, openErr := r.open(ctx)
	if openErr == nil {
		r.recall(ctx, m, ref)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	url := r.display()
	rev := belay.Revision{Repo: url, Ref: ref}
	f := r.found[ref]
	f.describe(&rev)
	switch {
	case openErr != nil:
		return rev, openErr
	case r.err != nil:
		return rev, r.err
	case f != nil && f.err != nil:
		return rev, f.err
	case rev.Commit == "":
		return rev, &belay.Error{Code: belay.CodeUnavailable, Origin: belay.Origin{Repo: url},
			Message: "repository " + url + " has not been fetched yet", Hint: "it is being fetched; nothing to do"}
	}
	return rev, nil
}

// describe fills in the commit that was found, if there is one.
func (f *finding) describe(rev *belay.Revision) {
	if f == nil || f.Commit == "" {
		return
	}
	rev.Name, rev.Commit, rev.Subject, rev.Time = f.Name, f.Commit, f.info.Subject, f.info.Time
	rev.Author = f.info.AuthorName
	if f.info.AuthorEmail != "" {
		rev.Author += " <" + f.info.AuthorEmail + ">"
	}
}

// display is the URL without credentials. Called with r.mu.
func (r *repo) display() string {
	url, err := git.CleanURL(r.url)
	if err != nil {
		return r.key
	}
	return url
}

func (r *repo) status() belay.RepositoryStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := belay.RepositoryStatus{URL: r.display(), CheckedAt: r.looked, Refs: map[string]string{}}
	for ref, f := range r.found {
		if f.Commit != "" {
			s.Refs[ref] = f.Commit
		}
		if f.err != nil {
			if s.RefErrors == nil {
				s.RefErrors = map[string]string{}
			}
			s.RefErrors[ref] = f.err.Error()
		}
	}
	s.Message = text(r.err)
	return s
}
