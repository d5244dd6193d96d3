package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belaydev/belay"
)

// fakeWorld is an engine with everything around it in memory: one repository,
// clusters whose writes happen at once, and a ledger. Each file of an application
// is an object of its name, with the content as its value.
type fakeWorld struct {
	t       *testing.T
	mu      sync.Mutex
	commits []fakeCommit
	objects map[standing]belay.Live
	raw     map[standing]json.RawMessage // what was written
	byHand  map[standing]bool            // what was deleted by hand, and not made again since
	refuse  map[string]bool              // names of objects that the clusters refuse
	l       *ledger
	e       *Engine
	stop    func()
	last    atomic.Pointer[func(string)] // checkpoint
	slow    *slowness                    // how long clusters take to show things; nil for no time
	// judge is asked of each write before it is done, with mu; no action is a deletion.
	judge     func(at standing, application string, act *belay.Action)
	connector Connector                       // nil for clusters that are there at once
	runs      *fakeRuns                       // outlive a life of the engine; nil for none
	ended     func(at standing, l belay.Live) // is told of each object that came to be well or not, with mu
}

// standing is an object in a cluster.
type standing struct {
	cluster string
	belay.ObjectID
}

type fakeCommit struct {
	id, author, subject string
	files               map[string]string
}

const fakeRepo = "https://git.example.com/fleet"

func newFakeWorld(t *testing.T) *fakeWorld {
	w := &fakeWorld{t: t, objects: map[standing]belay.Live{}, raw: map[standing]json.RawMessage{}, byHand: map[standing]bool{}, refuse: map[string]bool{}, l: &ledger{}}
	t.Cleanup(func() { w.end(); w.l.check(t) })
	return w
}

// commit changes files; an empty one goes away.
func (w *fakeWorld) commit(author, subject string, files map[string]string) string {
	w.mu.Lock()
	all := map[string]string{}
	if n := len(w.commits); n > 0 {
		maps.Copy(all, w.commits[n-1].files)
	}
	for p, c := range files {
		if all[p] = c; c == "" {
			delete(all, p)
		}
	}
	id := fmt.Sprintf("%040d", len(w.commits)+1)
	w.commits = append(w.commits, fakeCommit{id, author, subject, all})
	w.mu.Unlock()
	if w.e != nil {
		w.e.SourceChanged(fakeRepo)
	}
	return id
}

func fakeApp(name string, more ...string) string {
	return "apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: " + name + "}\nspec:\n  source: {path: apps/" + name + "}\n" +
		"  destination: {namespace: x}\n" + strings.Join(more, "")
}

// start begins a life of the engine.
func (w *fakeWorld) start() {
	w.t.Helper()
	w.make()
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = w.e.Run(ctx) })
	w.stop = func() { cancel(); running.Wait() }
}

// make makes an engine that does not run.
func (w *fakeWorld) make() {
	var runs Runs
	if w.runs != nil {
		runs = livingRuns{w.runs, w.l}
	}
	connector := w.connector
	if connector == nil {
		connector = fakeConnector{w}
	}
	w.e = New(Options{Repo: fakeRepo, Ref: "main", Path: "belay", Sources: fakeSources{w: w}, Renderer: fakeRenderer{}, Connector: connector,
		NewIndex: func() Index { return &fakeIndex{reads: map[string][]belay.Read{}} }, Recorder: w.l, Logger: slog.New(slog.DiscardHandler),
		SecretKey: []byte("key"), Committer: fakeCommitter{w: w}, Runs: runs, ManifestFile: func(raw json.RawMessage) ([]byte, string, error) { return raw, belay.Digest(raw), nil },
		Checkpoint: func(name string) {
			if last := w.last.Load(); last != nil {
				(*last)(name)
			}
		}})
}

func (w *fakeWorld) end() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// restart is a death and another life.
func (w *fakeWorld) restart(flushed bool) {
	w.t.Helper()
	next := w.l.crash(flushed)
	w.end()
	w.l = next
	w.start()
}

// restartKept is restart where the first life has ended.
func (w *fakeWorld) restartKept() {
	w.t.Helper()
	w.l = w.l.crash(false)
	w.start()
}

func (w *fakeWorld) await(what string, done func() bool) {
	w.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(3 * time.Minute); ; {
		if done() {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("waited in vain for %s: %+v", what, w.e.Status().Applications)
		}
	}
}

// settled waits until the applications are in sync with the newest commit.
func (w *fakeWorld) settled(names ...string) {
	w.t.Helper()
	w.mu.Lock()
	newest := w.commits[len(w.commits)-1].id
	w.mu.Unlock()
	w.await("Synced: "+strings.Join(names, ", "), func() bool {
		for _, n := range names {
			st, err := w.e.Application(n)
			if err != nil || st.Sync != belay.Synced || st.Revision != newest {
				return false
			}
		}
		return true
	})
}

func (w *fakeWorld) says(name, text string) {
	w.t.Helper()
	w.await(name+" to say "+text, func() bool {
		st, err := w.e.Application(name)
		return err == nil && strings.Contains(st.Message, text)
	})
}

// have are the names of the objects in the cluster.
func (w *fakeWorld) have() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for id := range w.objects {
		out = append(out, id.Name)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// fakeSources is the repository.
type fakeSources struct {
	Sources
	w *fakeWorld
}

func (s fakeSources) Configure([]belay.Repository, map[string][]string) {}
func (s fakeSources) Strangers([]string)                                {}
func (s fakeSources) Looked(string) bool                                { return true }
func (s fakeSources) Poke(string) int                                   { return 1 }
func (s fakeSources) Check(context.Context, string) error               { return nil }
func (s fakeSources) Status() []belay.RepositoryStatus                  { return nil }

func (s fakeSources) Revision(url, ref string) (belay.Revision, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	c := s.w.commits[len(s.w.commits)-1]
	return belay.Revision{Repo: url, Ref: ref, Commit: c.id, Author: c.author, Subject: c.subject}, nil
}

// at is the index of a commit.
func (s fakeSources) at(id string) int {
	return slices.IndexFunc(s.w.commits, func(c fakeCommit) bool { return c.id == id })
}

func (s fakeSources) Open(_ context.Context, _, commit string) (Files, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	i := s.at(commit)
	if i < 0 {
		return nil, errors.New("no such commit")
	}
	return lenientFiles{files(s.w.commits[i].files)}, nil
}

// lenientFiles have a digest for everything.
type lenientFiles struct{ mapFiles }

func (f lenientFiles) Digest(kind belay.ReadKind, p string) (string, error) {
	if d, err := f.mapFiles.Digest(kind, p); err == nil {
		return "file " + d, nil
	}
	return "other", nil
}

func (s fakeSources) diff(from, to int) []belay.PathChange {
	a, b := s.w.commits[from].files, s.w.commits[to].files
	var out []belay.PathChange
	for p := range a {
		if a[p] != b[p] {
			out = append(out, belay.PathChange{Path: p, Old: a[p], New: b[p]})
		}
	}
	for p := range b {
		if _, ok := a[p]; !ok {
			out = append(out, belay.PathChange{Path: p, New: b[p]})
		}
	}
	return out
}

func (s fakeSources) Diff(_ context.Context, _, from, to string) ([]belay.PathChange, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return s.diff(s.at(from), s.at(to)), nil
}

func (s fakeSources) Commits(_ context.Context, _, from, to string, paths []string, most int) (Brought, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	var b Brought
	for i := s.at(to); i >= 0; i-- {
		c := s.w.commits[i]
		if c.id == from || (from == "" && len(b.Commits) == 1) {
			break
		}
		first := ""
		if i > 0 {
			first = s.w.commits[i-1].id
		}
		below := func(pc belay.PathChange) bool {
			return slices.ContainsFunc(paths, func(p string) bool { return pc.Path == p || strings.HasPrefix(pc.Path, p+"/") })
		}
		if len(paths) > 0 && i > 0 && !slices.ContainsFunc(s.diff(i-1, i), below) {
			continue
		}
		if len(b.Commits) == most {
			b.More++
			continue
		}
		b.Commits, b.Firsts = append(b.Commits, belay.Commit{ID: c.id, Author: c.author, Subject: c.subject}), append(b.Firsts, first)
	}
	return b, nil
}

func (s fakeSources) LastChange(_ context.Context, _, commit, _, expr string) (belay.Commit, bool, error) {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	for i := 1; i <= s.at(commit); i++ {
		for _, pc := range s.diff(i-1, i) {
			if strings.Contains(pc.New, expr) {
				c := s.w.commits[i]
				return belay.Commit{ID: c.id, Author: c.author, Subject: c.subject}, true, nil
			}
		}
	}
	return belay.Commit{}, false, nil
}

func (s fakeSources) History(_ context.Context, _, commit string, paths []string, most int) ([]string, error) {
	if slices.Equal(paths, []string{"."}) {
		paths = nil
	}
	b, err := s.Commits(context.Background(), "", "none", commit, paths, most)
	var out []string
	for _, c := range b.Commits {
		out = append(out, c.ID)
	}
	return out, err
}

func (s fakeSources) Removal(context.Context, string, string, string, string) (string, bool, error) {
	return "", false, nil
}

// fakeIndex knows who read what.
type fakeIndex struct {
	mu    sync.Mutex
	reads map[string][]belay.Read
}

func (x *fakeIndex) Set(app string, reads []belay.Read) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reads[app] = reads
}

func (x *fakeIndex) Remove(app string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.reads, app)
}

func (x *fakeIndex) Paths(app string) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []string
	for _, r := range x.reads[app] {
		out = append(out, r.Path)
	}
	return out
}

func (x *fakeIndex) Affected(changes []belay.PathChange) []string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var out []string
	for app, reads := range x.reads {
		if slices.ContainsFunc(reads, func(r belay.Read) bool {
			return slices.ContainsFunc(changes, func(c belay.PathChange) bool { return strings.HasPrefix(c.Path, r.Path+"/") || c.Path == r.Path })
		}) {
			out = append(out, app)
		}
	}
	return out
}

// fakeRenderer makes an object of each file: a Secret of those called secret…, and
// a Job that is a hook of those called …-presync or …-postsync.
type fakeRenderer struct{}

func (fakeRenderer) Render(_ context.Context, f Files, req RenderRequest) (Rendered, error) {
	out := Rendered{Reads: []belay.Read{{Path: req.Source.Path}}}
	entries, err := f.ReadDir(req.Source.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return out, err
	}
	for _, en := range entries {
		content, err := f.ReadFile(path.Join(req.Source.Path, en.Name()))
		if err != nil {
			return out, err
		}
		if strings.Contains(string(content), "broken") {
			return out, &belay.Error{Code: belay.CodeInvalid, Message: "it does not render"}
		}
		kind, field := "ConfigMap", "data"
		if strings.HasPrefix(en.Name(), "secret") {
			kind, field = "Secret", "stringData"
		}
		manifest := fmt.Appendf(nil, `{"apiVersion":"v1","kind":%q,"metadata":{"name":%q},%q:{"value":%q}}`, kind, en.Name(), field, content)
		if v := req.Variables; strings.HasSuffix(en.Name(), "-anchor") && v != nil && v.Values["edition"] != string(content) {
			manifest = fmt.Appendf(nil, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"value":%q,"mixed":"with definition %s"}}`, en.Name(), content, v.Values["edition"])
		}
		if phase := hookIn(en.Name()); phase != "" {
			manifest = fmt.Appendf(nil, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":%q,"annotations":{%q:%q}},"data":{"value":%q}}`,
				en.Name(), belay.AnnotationHook, phase, content)
		}
		o, err := belay.NewObject(manifest, belay.Origin{})
		if err != nil {
			return out, err
		}
		if o.Sensitive() {
			o.Digest = belay.KeyedDigest([]byte("key"), o.Raw)
		}
		out.Objects = append(out.Objects, o)
	}
	return out, nil
}

// hookIn is the phase of the hook that a file of a name holds; "" for none.
func hookIn(name string) belay.HookPhase {
	for _, p := range []belay.HookPhase{belay.PreSync, belay.PostSync} {
		if strings.HasSuffix(name, "-"+strings.ToLower(string(p))) {
			return p
		}
	}
	return ""
}
