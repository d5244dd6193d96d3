package reconcile

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// An application may be rendered from several trees: its sources, and what their
// files name in turn, bases and charts of other repositories. Each of them has a
// ref that is followed. This file says which refs these are and where each stands.

// keyOf is the ref that a source of a project's application follows.
func keyOf(repo, chart, ref, project string, cat *catalog.Catalog) refKey {
	if r, ok := cat.Repository(repo); ok {
		repo = r.Spec.URL
	}
	if p, ok := cat.Projects[project]; !ok || !p.Spec.Signatures.Wanted() {
		project = ""
	}
	return refKey{belay.ChartURL(repo, chart), ref, project}
}

// refsOf are the refs that the sources of an application follow, in their order.
func refsOf(def *belay.Application, cat *catalog.Catalog) []refKey {
	sources := def.Spec.AllSources()
	out := make([]refKey, len(sources))
	for i, s := range sources {
		out[i] = keyOf(s.Repo, s.Chart, s.Ref, def.Spec.Project, cat)
	}
	return out
}

// follow puts an application under the refs of its sources. One with a source that
// its project does not allow follows none: such a repository is not even asked.
// Called with e.mu.
func (e *Engine) follow(a *app, cat *catalog.Catalog) {
	denied := func(p *belay.Error) bool { return p.Code == belay.CodeDenied }
	if slices.ContainsFunc(problemsOf(cat.ApplicationErrors[a.name]), denied) {
		e.unfollow(a)
		return
	}
	refs := refsOf(a.def, cat)
	if slices.Equal(a.sources, refs) && (len(refs) != 1 || a.ref == refs[0]) {
		return
	}
	a.sources = refs
	e.followAll(a, append(slices.Clone(refs), a.found...))
	a.mark()
}

// followAll makes refs those of an application; the first is that of its first
// source. Called with e.mu.
func (e *Engine) followAll(a *app, refs []refKey) (changed bool) {
	before := a.refs()
	for _, k := range before {
		if !slices.Contains(refs, k) {
			e.leave(a, k)
			changed = true
		}
	}
	a.ref, a.also = refs[0], nil
	for _, k := range refs {
		if k != a.ref && !slices.Contains(a.also, k) {
			a.also = append(a.also, k)
		}
		if slices.Contains(before, k) && e.refs[k] != nil {
			continue
		}
		f := e.refs[k]
		if f == nil {
			f = &followed{index: e.NewIndex(), apps: map[string]bool{}}
			e.refs[k] = f
		}
		f.apps[a.name] = true
		changed = true
	}
	return changed
}

// refs are all that an application follows, that of its first source first.
func (a *app) refs() []refKey {
	if a.ref == (refKey{}) {
		return nil
	}
	return append([]refKey{a.ref}, a.also...)
}

func (e *Engine) unfollow(a *app) {
	for _, k := range a.refs() {
		e.leave(a, k)
	}
	a.ref, a.also, a.sources, a.found = refKey{}, nil, nil, nil
}

func (e *Engine) leave(a *app, k refKey) {
	f := e.refs[k]
	if f == nil {
		return
	}
	f.index.Remove(a.name)
	delete(f.apps, a.name)
	if len(f.apps) == 0 {
		delete(e.refs, k)
	}
	if _, ok := a.at[k]; ok {
		a.at = maps.Clone(a.at) // others may have the same
		delete(a.at, k)
	}
}

// newest takes the newest revision of everything that an application follows for
// the target. Where a source has none, the target's revision is empty, and
// missing is its repository. The error is the first one: with a revision it says
// that a newer one may exist.
func (e *Engine) newest(ctx context.Context, t *target) (missing string, err error) {
	t.rev, err = e.revision(ctx, t.ref)
	if err != nil && belay.CodeOf(err) == belay.CodeDenied {
		if rev, _ := e.head(t.ref); rev.Commit != t.rev.Commit { // its error is shown elsewhere
			t.denied = rev.Commit
		}
	}
	if t.rev.Commit == "" {
		return t.ref.url, err
	}
	e.tellRevision(ctx, t.ref, t.rev)
	e.catchUp(ctx, t.ref, t.rev.Commit)
	t.at = map[refKey]belay.Revision{t.ref: t.rev}
	e.mu.Lock()
	also, sources := slices.Clone(t.app.also), slices.Clone(t.app.sources)
	e.mu.Unlock()
	for _, k := range also {
		rev, problem := e.revision(ctx, k)
		if err == nil {
			err = problem
		}
		if rev.Commit == "" {
			if slices.Contains(sources, k) {
				t.rev = belay.Revision{}
				return k.url, problem
			}
			continue // found in files: whoever reads it there has the error
		}
		t.at[k] = rev
		e.tellRevision(ctx, k, rev)
		e.catchUp(ctx, k, rev.Commit)
	}
	return "", err
}

// read splits what a render read of a source into what it read of each ref.
func (t *target) read(source refKey, reads []belay.Read, named map[string]refKey, cat *catalog.Catalog) {
	if t.reads == nil {
		t.reads = map[refKey][]belay.Read{}
	}
	for _, r := range reads {
		m, rest, ok := belay.SplitMount(r.Path)
		k := source
		switch {
		case ok && m.Source != "":
			if k, ok = named[m.Source]; !ok {
				continue
			}
			r.Path = rest
		case ok:
			k = keyOf(m.Repo, m.Chart, m.Ref, t.def.Spec.Project, cat)
			if !t.refused[k] && !slices.Contains(t.found, k) {
				t.found = append(t.found, k)
			}
			r.Path = rest
		}
		t.reads[k] = append(t.reads[k], r)
	}
}

// noteReads puts what a render read into the indexes, and follows what it found
// out about. newest are the commits that refs have by now. Called with e.mu.
func (e *Engine) noteReads(t *target, failed bool, newest map[refKey]string) {
	a := t.app
	found := slices.Clone(t.found)
	for _, k := range a.found {
		if failed && !t.refused[k] && !slices.Contains(found, k) { // it may not have come as far as before
			found = append(found, k)
		}
	}
	a.found = found
	if a.sources != nil && e.followAll(a, append(slices.Clone(a.sources), found...)) {
		e.configure()
	}
	a.at = t.at
	for _, k := range a.refs() {
		f := e.refs[k]
		if f == nil {
			continue
		}
		f.index.Set(a.name, t.reads[k])
		switch at := t.at[k].Commit; {
		case newest[k] != "" && newest[k] != at:
			a.mark() // moved on while this was rendered
			e.wake(a.name)
		case f.commit == "":
			f.commit = at
		}
	}
}

// newestCommits are those of everything that was read. Called without e.mu.
func (e *Engine) newestCommits(t *target) map[refKey]string {
	out := map[refKey]string{}
	for k := range t.at {
		out[k] = e.taken(k).Commit
	}
	return out
}

// holdsAt notes that what was made of an application holds at a newer revision
// of a ref, too: nothing that was read is another. alone is the ref at that revision
// and nothing else, for those that follow no other ref: a commit comes by all
// applications, so each must cost next to nothing. Called with e.mu.
func (a *app) holdsAt(k refKey, rev belay.Revision, alone map[refKey]belay.Revision) {
	was, follows := a.at[k]
	before := was.Commit
	if len(a.at) == 0 || len(a.at) == 1 && follows {
		a.at = alone
	} else {
		a.at = maps.Clone(a.at) // a pass may be reading it
		a.at[k] = rev
	}
	a.status.Revisions = a.revisions()
	if k != a.ref {
		return
	}
	if before == "" {
		before = a.commit
	}
	a.commit = rev.Commit
	a.status.Revision = rev.Commit
	if a.status.SyncedRevision == before {
		a.status.SyncedRevision = rev.Commit
	}
}

// holds is the commit of a ref that the desired state is known to hold for.
func (a *app) holds(k refKey) string {
	if k == a.ref {
		return a.commit
	}
	return a.at[k].Commit
}

// revisions are where everything stands that an application was made from, if
// that is more than one commit of a Git repository. Called with e.mu.
func (a *app) revisions() []belay.SourceRevision {
	if len(a.also) == 0 && !strings.HasPrefix(a.at[a.ref].Commit, "sha256:") {
		return nil
	}
	refs := a.refs()
	var out []belay.SourceRevision
	for _, k := range refs {
		rev := a.at[k]
		if rev.Commit == "" {
			continue
		}
		out = append(out, belay.SourceRevision{Repo: k.url, Ref: k.ref, Name: rev.Name, Revision: rev.Commit})
	}
	return out
}

// configure tells the sources what is followed now. Called with e.mu.
func (e *Engine) configure() {
	if e.catalog == nil {
		return
	}
	if s := e.strangers(e.catalog); len(s) > 0 || e.hadStrangers {
		e.hadStrangers = len(s) > 0
		e.Sources.Strangers(s)
	}
	e.verdicts.forget(func(k refKey) bool { return e.refs[k] != nil })
	repos, refs := e.wanted(e.catalog)
	e.Sources.Configure(repos, refs)
}

// strangers are the repositories that only files name, on hosts that nobody
// declared: they must not lead into the local network.
func (e *Engine) strangers(cat *catalog.Catalog) []string {
	declared := map[string]bool{}
	for _, a := range e.apps {
		for _, k := range a.sources {
			declared[k.url] = true
		}
	}
	var out []string
	for k := range e.refs {
		if !declared[k.url] && !e.trusted(cat, k.url) && !slices.Contains(out, k.url) {
			out = append(out, k.url)
		}
	}
	slices.Sort(out)
	return out
}

// trusted says whether the config repository or a declared Repository is on the
// host of a URL.
func (e *Engine) trusted(cat *catalog.Catalog, at string) bool {
	host := hostOf(at)
	if host == "" {
		return false
	}
	if host == hostOf(e.Repo) {
		return true
	}
	for name := range cat.Repositories {
		if hostOf(cat.Repositories[name].Spec.URL) == host {
			return true
		}
	}
	return false
}

// hostOf is the host of a URL without its port; empty for what is on this machine.
func hostOf(at string) string {
	if strings.HasPrefix(at, "/") {
		return ""
	}
	if !strings.Contains(at, "://") { // user@host:path
		host, _, _ := strings.Cut(at[strings.IndexByte(at, '@')+1:], ":")
		return strings.ToLower(host)
	}
	u, err := url.Parse(at)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

// lastRevisions is for an application that left Git, whose refs nobody follows any
// more: it asks where those of its sources stand that are not known.
func (e *Engine) lastRevisions(ctx context.Context, t *target) error {
	t.final = true
	e.mu.Lock()
	refs := refsOf(t.def, e.catalog)
	e.mu.Unlock()
	for _, k := range refs[1:] {
		if k == t.ref || t.at[k].Commit != "" {
			continue
		}
		rev, err := e.Sources.Resolve(ctx, k.url, k.ref)
		if err == nil && k.project != "" {
			rev, err = e.vouched(ctx, k, rev)
		}
		if rev.Commit == "" {
			return err
		}
		if t.at == nil {
			t.at = map[refKey]belay.Revision{}
		}
		t.at[k] = rev
	}
	return nil
}

// refuse notes that a repository is not to be followed: the project or the URL
// does not allow it.
func (t *target) refuse(k refKey) {
	if t.refused == nil {
		t.refused = map[refKey]bool{}
	}
	t.refused[k] = true
}

// stayAt keeps every ref where the desired state is known to hold. Called with e.mu.
func stayAt(t *target) {
	at := map[refKey]belay.Revision{}
	maps.Copy(at, t.at)
	maps.Copy(at, t.app.at)
	at[t.ref] = t.rev
	t.at = at
}
