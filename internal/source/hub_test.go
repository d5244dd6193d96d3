package source

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/gittest"
)

const password = "correct-horse-battery-staple"

// await waits until ok; it looks again soon and gives up late.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(3 * time.Minute)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("gave up waiting: %s", what)
		}
	}
}

// notes collects what a hub tells.
type notes struct {
	mu       sync.Mutex
	notified []string
	rewrites []Rewrite
}

func (n *notes) notify(repo string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.notified = append(n.notified, repo)
}

func (n *notes) rewritten(w Rewrite) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rewrites = append(n.rewrites, w)
}

func (n *notes) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.notified)
}

func (n *notes) seenRewrites() []Rewrite {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.rewrites)
}

// syncBuffer is a log that may be written and read at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(b)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newHub(t testing.TB, dir string, o Options) *Hub {
	t.Helper()
	o.Dir = dir
	if o.Interval == 0 {
		o.Interval = time.Hour // only pokes count
	}
	if o.ListTimeout == 0 {
		o.ListTimeout = 3 * time.Minute
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return h
}

// run runs a hub until the returned function is called, or the test ends.
func run(t testing.TB, h *Hub) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// at says whether a ref is at a commit, without a problem.
func at(h *Hub, url, ref, commit string) func() bool {
	return func() bool {
		rev, err := h.Revision(url, ref)
		return err == nil && rev.Commit == commit
	}
}

type transport struct {
	name     string
	url      string
	auth     git.Auth
	repo     *gittest.Repo
	down, up func()
}

func transports(t *testing.T) []transport {
	t.Helper()
	serve := func() (string, *gittest.Repo) {
		root := t.TempDir()
		return root, gittest.InitRepo(t, filepath.Join(root, "team", "repo.git"))
	}
	root, repo := serve()
	move := func(from, to string) func() {
		return func() {
			if err := os.Rename(filepath.Join(root, from), filepath.Join(root, to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := []transport{{name: "file", url: "file://" + root + "/team/repo.git", repo: repo, down: move("team", "away"), up: move("away", "team")}}

	root2, repo2 := serve()
	h := gittest.ServeHTTP(t, root2, gittest.HTTPOptions{User: "robot", Password: password})
	all = append(all, transport{name: "http", url: h.URL + "/team/repo.git", repo: repo2, down: h.Stop, up: h.Start,
		auth: git.Auth{Username: "robot", Password: []byte(password)}})

	root3, repo3 := serve()
	s := gittest.ServeHTTP(t, root3, gittest.HTTPOptions{User: "robot", Password: password, TLS: true})
	all = append(all, transport{name: "https", url: s.URL + "/team/repo.git", repo: repo3, down: s.Stop, up: s.Start,
		auth: git.Auth{Username: "robot", Password: []byte(password), CA: s.CA}})

	root4, repo4 := serve()
	x := gittest.ServeSSH(t, root4)
	all = append(all, transport{name: "ssh", url: x.URL + "/team/repo.git", repo: repo4, down: x.Stop, up: x.Start,
		auth: git.Auth{SSHKey: x.Key, KnownHosts: x.KnownHosts}})
	return all
}

// One life of a repository, over each transport.
func TestHub(t *testing.T) {
	for _, tr := range transports(t) {
		t.Run(tr.name, func(t *testing.T) {
			var n notes
			var log syncBuffer
			dir := t.TempDir()
			h := newHub(t, dir, Options{Notify: n.notify, Rewritten: n.rewritten, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			first := tr.repo.Commit("main", "first commit", map[string]string{"app/a.yaml": "a: 1\n"})
			tr.repo.Tag("v1.0.0", first)
			auth := tr.auth
			h.Configure([]RepoConfig{{URL: tr.url, Auth: func(context.Context) (git.Auth, error) { return auth, nil }}})
			h.SetFollowed(map[string][]string{tr.url: {"main", "HEAD", "v1.0.0", "^1.0.0", first[:8], "later"}})
			run(t, h)
			for _, ref := range []string{"main", "HEAD", "v1.0.0", "^1.0.0", first[:8]} {
				await(t, ref, at(h, tr.url, ref, first))
			}
			rev, _ := h.Revision(tr.url, "^1.0.0")
			if rev.Name != "v1.0.0" || rev.Subject != "first commit" || rev.Author != gittest.Author || rev.Repo != tr.url || rev.Time.IsZero() {
				t.Errorf("Revision = %+v", rev)
			}
			await(t, "an error for a branch that is not there", func() bool {
				_, err := h.Revision(tr.url, "later")
				return belay.CodeOf(err) == belay.CodeNotFound && strings.Contains(err.Error(), tr.url)
			})

			// A push is seen after a poke.
			second := tr.repo.Commit("main", "second", map[string]string{"app/a.yaml": "a: 2\n"})
			tr.repo.Branch("later", second)
			tr.repo.AnnotatedTag("v1.1.0", second)
			if got := h.Poke(strings.TrimSuffix(tr.url, ".git") + "/"); got != 1 {
				t.Errorf("Poke = %d", got)
			}
			for _, ref := range []string{"main", "later", "^1.0.0"} {
				await(t, ref+" moved", at(h, tr.url, ref, second))
			}
			changes, err := h.Diff(t.Context(), tr.url, first, second)
			if err != nil || len(changes) != 1 || changes[0].Path != "app/a.yaml" {
				t.Errorf("Diff = %+v, %v", changes, err)
			}

			// A rewritten branch and a moved tag are told.
			third := tr.repo.Rewrite("main", "rewritten", map[string]string{"app/a.yaml": "a: 3\n"})
			tr.repo.Tag("v1.0.0", third)
			h.Poke("")
			await(t, "rewritten", at(h, tr.url, "main", third))
			await(t, "two rewrites", func() bool { return len(n.seenRewrites()) == 2 })
			want := []Rewrite{{Repo: tr.url, Ref: "main", Old: second, New: third}, {Repo: tr.url, Ref: "v1.0.0", Tag: true, Old: first, New: third}}
			if got := n.seenRewrites(); !slices.Equal(got, want) {
				t.Errorf("rewrites = %+v, want %+v", got, want)
			}
			if s, err := h.Snapshot(t.Context(), tr.url, second); err != nil {
				t.Errorf("a commit that no branch has any more: %v", err)
			} else if b, err := s.ReadFile("app/a.yaml"); string(b) != "a: 2\n" {
				t.Errorf("read %q, %v", b, err)
			}

			// Down: the last good state stays, with the error.
			told := n.count()
			tr.down()
			err = h.CheckNow(t.Context(), tr.url)
			if err == nil || !strings.Contains(err.Error(), tr.url) {
				t.Errorf("CheckNow while down = %v", err)
			}
			rev, err = h.Revision(tr.url, "main")
			if rev.Commit != third || err == nil {
				t.Errorf("Revision while down = %+v, %v", rev, err)
			}
			if n.count() == told {
				t.Error("nobody was told that it is down")
			}
			if s := h.Status(); len(s) != 1 || s[0].Message == "" || s[0].Refs["main"] != third || s[0].CheckedAt.IsZero() {
				t.Errorf("Status while down = %+v", s)
			}

			// A new life while it is down serves the same.
			again := newHub(t, dir, Options{})
			again.SetFollowed(map[string][]string{tr.url: {"main", "^1.0.0"}})
			await(t, "main after a restart", at(again, tr.url, "main", third))
			await(t, "a tag after a restart", at(again, tr.url, "^1.0.0", second))
			if s, err := again.Snapshot(t.Context(), tr.url, third); err != nil {
				t.Errorf("after a restart: %v", err)
			} else if b, err := s.ReadFile("app/a.yaml"); string(b) != "a: 3\n" {
				t.Errorf("after a restart: %q, %v", b, err)
			}

			tr.up()
			fourth := tr.repo.Commit("main", "fourth", map[string]string{"app/a.yaml": "a: 4\n"})
			h.Poke(tr.url)
			await(t, "up again", at(h, tr.url, "main", fourth))

			// Wrong credentials: told, nothing lost, and nothing repeated.
			if tr.name != "file" {
				other, _ := gittest.NewSSHKey(t)
				auth = git.Auth{Username: "robot", Password: []byte("wrong-" + password), CA: tr.auth.CA, SSHKey: other, KnownHosts: tr.auth.KnownHosts}
				err := h.CheckNow(t.Context(), tr.url)
				if belay.CodeOf(err) != belay.CodeForbidden {
					t.Errorf("with wrong credentials: %v", err)
				}
				noSecret(t, dir, err.Error()+log.String(), tr.auth, auth)
				auth = tr.auth
				if err := h.CheckNow(t.Context(), tr.url); err != nil {
					t.Errorf("with the right credentials again: %v", err)
				}
			}
			noSecret(t, dir, log.String(), tr.auth)
		})
	}
}

func noSecret(t *testing.T, dir, text string, auths ...git.Auth) {
	t.Helper()
	for _, a := range auths {
		secrets := []string{string(a.Password)}
		for line := range strings.Lines(string(a.SSHKey)) {
			if !strings.HasPrefix(line, "-") {
				secrets = append(secrets, strings.TrimSpace(line))
			}
		}
		for _, s := range secrets {
			if s == "" {
				continue
			}
			if strings.Contains(text, s) {
				t.Errorf("a credential is repeated in %q", text)
			}
			err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				b, err := os.ReadFile(p)
				if bytes.Contains(b, []byte(s)) {
					t.Errorf("%s holds a credential", p)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		}
	}
}

// One question to the remote for a look, and a fetch only when what is followed
// moved.
func TestRequests(t *testing.T) {
	root := t.TempDir()
	repo := gittest.InitRepo(t, filepath.Join(root, "repo.git"))
	first := repo.Commit("main", "first", map[string]string{"a": "1"})
	s := gittest.ServeHTTP(t, root, gittest.HTTPOptions{})
	url := s.URL + "/repo.git"
	h := newHub(t, t.TempDir(), Options{})
	h.SetFollowed(map[string][]string{url: {"main", "release"}, s.URL + "/repo": {"main"}})
	check := func(what string, want int) {
		t.Helper()
		before := len(s.Requests())
		_ = h.CheckNow(t.Context(), url)
		if got := len(s.Requests()) - before; got != want {
			t.Errorf("%s: %d requests, want %d: %v", what, got, want, s.Requests()[before:])
		}
	}
	// A question is two requests, the capabilities and the refs. A fetch is these
	// again and one or two for the objects, if there are any to get. Where somebody told
	// that there are, the fetch does without the question.
	check("first", 5)
	check("nothing moved", 2)
	repo.Branch("unrelated", repo.Commit("work", "unrelated", map[string]string{"b": "1"}))
	check("what nobody follows moved", 2)
	repo.Commit("main", "second", map[string]string{"a": "2"})
	check("main moved", 6)
	check("nothing moved again", 2)
	h.Poke(url)
	repo.Commit("main", "third", map[string]string{"a": "3"})
	check("main moved, as somebody told", 3)
	h.Poke(url)
	check("nothing moved, whatever somebody told", 2)
	h.Poke("")
	second := repo.Commit("main", "fourth", map[string]string{"a": "4"})
	check("main moved, and somebody told of no repository", 5)
	repo.Branch("release", first)
	check("a branch came", 4)
	repo.DeleteBranch("release")
	check("a branch went", 2)
	if rev, err := h.Revision(url, "release"); rev.Commit != first || belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("a branch that went = %+v, %v, want the last good one with an error", rev, err)
	}
	if !at(h, url, "main", second)() {
		t.Error("main is not where it should be")
	}
	if got := len(h.Status()); got != 1 {
		t.Errorf("two spellings are %d repositories", got)
	}
}

// Many who ask at once cost two looks: the one that is under way may have begun
// before their change.
func TestChecksAreCoalesced(t *testing.T) {
	root := t.TempDir()
	repo := gittest.InitRepo(t, filepath.Join(root, "repo.git"))
	repo.Commit("main", "first", map[string]string{"a": "1"})
	s := gittest.ServeHTTP(t, root, gittest.HTTPOptions{})
	url := s.URL + "/repo.git"
	h := newHub(t, t.TempDir(), Options{})
	h.SetFollowed(map[string][]string{url: {"main"}})
	if err := h.CheckNow(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	before := len(s.Requests())
	s.Hang()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := h.CheckNow(t.Context(), url); err != nil {
				t.Error(err)
			}
		})
	}
	f, _ := h.repo(url)
	r := asGit(f)
	await(t, "a look under way", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.begun == 2
	})
	await(t, "all others to wait for it", func() bool {
		var stacks bytes.Buffer
		if err := pprof.Lookup("goroutine").WriteTo(&stacks, 2); err != nil {
			t.Fatal(err)
		}
		return strings.Count(stacks.String(), "source.acquire(") == 19
	})
	s.Resume()
	wg.Wait()
	if got := len(s.Requests()) - before; got > 4 {
		t.Errorf("%d requests, want 4 at most", got)
	}
}

func TestAServerThatHangsHoldsUpNobodyElse(t *testing.T) {
	root := t.TempDir()
	gittest.InitRepo(t, filepath.Join(root, "slow.git")).Commit("main", "first", map[string]string{"a": "1"})
	s := gittest.ServeHTTP(t, root, gittest.HTTPOptions{})
	s.Hang()
	repo := gittest.NewRepo(t)
	first := repo.Commit("main", "first", map[string]string{"a": "1"})
	h := newHub(t, t.TempDir(), Options{ListTimeout: time.Hour})
	h.SetFollowed(map[string][]string{s.URL + "/slow.git": {"main"}, repo.URL(): {"main"}})
	stop := run(t, h)
	await(t, "the quick one", at(h, repo.URL(), "main", first))
	if _, err := h.Revision(s.URL+"/slow.git", "main"); belay.CodeOf(err) != belay.CodeUnavailable {
		t.Errorf("the slow one: %v", err)
	}
	h.Status()
	h.Poke("")
	stop() // does not wait for the server
}

// A damaged mirror is noticed by who reads it, made anew, and told about.
func TestDamagedMirrorHeals(t *testing.T) {
	repo := gittest.NewRepo(t)
	first := repo.Commit("main", "first", map[string]string{"a/b": "1", "c": "2"})
	var n notes
	h := newHub(t, t.TempDir(), Options{Notify: n.notify})
	url := repo.URL()
	h.SetFollowed(map[string][]string{url: {"main"}})
	run(t, h)
	await(t, "first", at(h, url, "main", first))
	s, err := h.Snapshot(t.Context(), url, first)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := h.Mirror(t.Context(), url)
	packs, _ := filepath.Glob(filepath.Join(m.Dir(), "objects", "pack", "*"))
	for _, p := range packs {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	killReaders(t, m.Dir())
	told := n.count()
	if _, err := s.ReadFile("a/b"); belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), "damaged") {
		t.Fatalf("read from a damaged mirror: %v", err)
	}
	await(t, "healed", func() bool {
		b, err := s.ReadFile("a/b")
		return err == nil && string(b) == "1"
	})
	await(t, "told", func() bool { return n.count() > told })
}

func killReaders(t *testing.T, dir string) {
	t.Helper()
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		environ, _ := os.ReadFile(p + "/environ")
		cmdline, _ := os.ReadFile(p + "/cmdline")
		if strings.Contains(string(cmdline), "cat-file") && strings.Contains(string(environ), "GIT_DIR="+dir+"\x00") {
			pid, err := strconv.Atoi(filepath.Base(p))
			if err != nil {
				continue
			}
			proc, err := os.FindProcess(pid)
			if err == nil {
				_ = proc.Kill()
			}
		}
	}
}

// A branch that went away while nobody looked, and a remote that is down: the
// last good commit is still known after a restart.
func TestRestartKeepsWhatWentAway(t *testing.T) {
	repo := gittest.NewRepo(t)
	repo.Commit("main", "main", map[string]string{"a": "1"})
	gone := repo.Commit("feature", "feature", map[string]string{"a": "2"})
	dir, url := t.TempDir(), repo.URL()
	h := newHub(t, dir, Options{})
	h.SetFollowed(map[string][]string{url: {"feature", "main"}})
	if err := h.CheckNow(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	repo.DeleteBranch("feature")
	repo.Commit("main", "main moves on", map[string]string{"a": "3"})
	if err := h.CheckNow(t.Context(), url); belay.CodeOf(err) != belay.CodeNotFound {
		t.Fatalf("CheckNow = %v", err)
	}
	h.Close()

	again := newHub(t, dir, Options{})
	again.SetFollowed(map[string][]string{url: {"main"}}) // the rest is followed later
	if err := again.CheckNow(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	repo.Commit("main", "and on", map[string]string{"a": "4"})
	if err := again.CheckNow(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	again.SetFollowed(map[string][]string{url: {"main", "feature"}})
	await(t, "what went away", func() bool { rev, _ := again.Revision(url, "feature"); return rev.Commit == gone })
	if err := again.CheckNow(t.Context(), url); belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("CheckNow = %v", err)
	}
	rev, err := again.Revision(url, "feature")
	if rev.Commit != gone || belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("Revision = %+v, %v", rev, err)
	}
	if s, err := again.Snapshot(t.Context(), url, gone); err != nil {
		t.Error(err)
	} else if b, err := s.ReadFile("a"); string(b) != "2" {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestCommitsThatNoBranchHas(t *testing.T) {
	repo := gittest.NewRepo(t)
	repo.Commit("main", "first", map[string]string{"a": "1"})
	hidden := repo.Commit("tmp", "hidden", map[string]string{"a": "2"})
	repo.DeleteBranch("tmp")
	url := repo.URL()
	h := newHub(t, t.TempDir(), Options{})
	h.SetFollowed(map[string][]string{url: {hidden, strings.Repeat("1", 40)}})
	err := h.CheckNow(t.Context(), url)
	if belay.CodeOf(err) != belay.CodeNotFound || strings.Contains(err.Error(), hidden) {
		t.Errorf("CheckNow = %v", err)
	}
	if !at(h, url, hidden, hidden)() {
		_, err := h.Revision(url, hidden)
		t.Errorf("a hidden commit: %v", err)
	}
	if _, err := h.Snapshot(t.Context(), url, strings.Repeat("2", 40)); belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("Snapshot of no commit: %v", err)
	}
}

func TestUnknownRepository(t *testing.T) {
	h := newHub(t, t.TempDir(), Options{})
	if _, err := h.Revision("https://user:hunter2hunter2@host/x", "main"); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("Revision = %v", err)
	}
	if err := h.CheckNow(t.Context(), "https://host/x"); belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("CheckNow = %v", err)
	}
	if n := h.Poke("https://host/x"); n != 0 {
		t.Errorf("Poke = %d", n)
	}
	// What is no URL is an error of its own repository.
	h.SetFollowed(map[string][]string{"not a url": {"main"}})
	if err := h.CheckNow(t.Context(), "not a url"); belay.CodeOf(err) != belay.CodeInvalid {
		t.Errorf("CheckNow of nonsense = %v", err)
	}
}

func TestPokeTakesAnySpelling(t *testing.T) {
	h := newHub(t, t.TempDir(), Options{})
	h.SetFollowed(map[string][]string{"git@Example.org:Team/repo.git": {"main"}, "https://example.org/other/repo": {"main"}})
	for _, u := range []string{"https://example.org/Team/repo", "ssh://git@example.org/Team/repo.git", "https://EXAMPLE.org/Team/repo.git/", "git@example.org:Team/repo"} {
		if n := h.Poke(u); n != 1 {
			t.Errorf("Poke(%q) = %d", u, n)
		}
	}
	if n := h.Poke(""); n != 2 {
		t.Errorf("Poke of all = %d", n)
	}
}

// Whoever asks first may find a new commit before its look has ended; who is to
// be told is told nevertheless.
func TestTellsEvenIfSomebodyAskedBefore(t *testing.T) {
	repo := gittest.NewRepo(t)
	first := repo.Commit("main", "first", map[string]string{"a": "1"})
	url, dir := repo.URL(), t.TempDir()
	h := newHub(t, dir, Options{})
	h.SetFollowed(map[string][]string{url: {"main"}})
	if err := h.CheckNow(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	var n notes
	again := newHub(t, dir, Options{Notify: n.notify})
	again.SetFollowed(map[string][]string{url: {"main"}})
	await(t, "main to be recalled", at(again, url, "main", first))
	for range 2 {
		if err := again.CheckNow(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	}
	if n.count() != 1 {
		t.Errorf("told %d times, want once", n.count())
	}
}

func asGit(f follower) *repo { return f.(*repo) }
