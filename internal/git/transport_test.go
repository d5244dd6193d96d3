package git_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/gittest"
)

const password = "correct-horse-battery-staple"

// transport is one way to the same repository.
type transport struct {
	name string
	url  string // of the repository
	root string
	auth git.Auth
	// wrong are credentials that must not work.
	wrong map[string]git.Auth
	down  func()
	up    func()
}

// transports serve repo.git of a fresh root over everything there is.
func transports(t *testing.T) []transport {
	t.Helper()
	serve := func() (string, *gittest.Repo) {
		root := t.TempDir()
		r := gittest.InitRepo(t, filepath.Join(root, "repo.git"))
		r.Commit("main", "first", map[string]string{"a.txt": "a\n"})
		return root, r
	}
	var all []transport

	root, _ := serve()
	move := func(from, to string) func() {
		return func() {
			if err := os.Rename(filepath.Join(root, from), filepath.Join(root, to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	all = append(all, transport{name: "file", url: "file://" + root + "/repo.git", root: root,
		down: move("repo.git", "away.git"), up: move("away.git", "repo.git")})

	hroot, _ := serve()
	h := gittest.ServeHTTP(t, hroot, gittest.HTTPOptions{User: "robot", Password: password})
	all = append(all, transport{name: "http", url: h.URL + "/repo.git", root: hroot,
		auth: git.Auth{Username: "robot", Password: []byte(password + "\n")},
		wrong: map[string]git.Auth{
			"wrong password": {Username: "robot", Password: []byte("wrong-" + password)},
			"no password":    {},
		},
		down: h.Stop, up: h.Start})

	troot, _ := serve()
	s := gittest.ServeHTTP(t, troot, gittest.HTTPOptions{User: "robot", Password: password, TLS: true})
	all = append(all, transport{name: "https", url: s.URL + "/repo.git", root: troot,
		auth:  git.Auth{Username: "robot", Password: []byte(password), CA: s.CA},
		wrong: map[string]git.Auth{"certificate": {Username: "robot", Password: []byte(password)}},
		down:  s.Stop, up: s.Start})

	sroot, _ := serve()
	ssh := gittest.ServeSSH(t, sroot)
	other, _ := gittest.NewSSHKey(t)
	all = append(all, transport{name: "ssh", url: ssh.URL + "/repo.git", root: sroot,
		auth: git.Auth{SSHKey: ssh.Key, KnownHosts: ssh.KnownHosts},
		wrong: map[string]git.Auth{
			"SSH key":                  {SSHKey: other, KnownHosts: ssh.KnownHosts},
			"host key":                 {SSHKey: ssh.Key, KnownHosts: []byte("elsewhere ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2sR0Wb5lnMNvbsqlVZbrIXe0K9Uu5sDaYHqVHLbGTB\n")},
			"not a private key in PEM": {SSHKey: []byte("garbage-" + password), KnownHosts: ssh.KnownHosts},
		},
		down: ssh.Stop, up: ssh.Start})
	return all
}

// patience is how long a test waits for what has to come.
const patience = 3 * time.Minute

func open(t *testing.T, url string, auth git.Auth) *git.Mirror {
	t.Helper()
	m, err := git.Open(t.Context(), filepath.Join(t.TempDir(), "mirror.git"), url, git.Options{
		Auth: func(context.Context) (git.Auth, error) { return auth, nil }, ListTimeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

func repoAt(t *testing.T, tr transport) *gittest.Repo {
	t.Helper()
	return gittest.OpenRepo(t, filepath.Join(tr.root, "repo.git"))
}

// noSecrets looks for credentials in an error and below a directory.
func noSecrets(t *testing.T, dir string, err error, auths ...git.Auth) {
	t.Helper()
	var secrets []string
	for _, a := range auths {
		if p := strings.TrimSpace(string(a.Password)); p != "" {
			secrets = append(secrets, p)
		}
		for line := range strings.Lines(string(a.SSHKey)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "-") {
				secrets = append(secrets, line)
			}
		}
	}
	for _, s := range secrets {
		for e := err; e != nil; e = errors.Unwrap(e) {
			if strings.Contains(e.Error(), s) {
				t.Errorf("the error repeats a credential: %v", e)
			}
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

func TestTransports(t *testing.T) {
	for _, tr := range transports(t) {
		t.Run(tr.name, func(t *testing.T) {
			repo := repoAt(t, tr)
			first := repo.Resolve("main")
			m := open(t, tr.url, tr.auth)
			ctx := t.Context()

			refs, err := m.LsRemote(ctx, true)
			if err != nil {
				t.Fatal(err)
			}
			if refs.Head != "main" || refs.HeadCommit != first || refs.Heads["main"] != first {
				t.Errorf("LsRemote = %+v, want main at %s", refs, first)
			}
			res, err := m.Fetch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Changes) != 1 || res.Changes[0] != (git.RefChange{Name: "refs/heads/main", New: first}) {
				t.Errorf("first fetch = %+v", res)
			}

			second := repo.Commit("main", "second", map[string]string{"b.txt": "b\n"})
			repo.AnnotatedTag("v1.0.0", second)
			repo.Branch("gone", second)
			if res, err = m.Fetch(ctx); err != nil {
				t.Fatal(err)
			}
			if res.Refs.Heads["main"] != second || res.Refs.Tags["v1.0.0"] != second {
				t.Errorf("second fetch = %+v, want main and v1.0.0 at %s", res.Refs, second)
			}
			if res.Changes[1] != (git.RefChange{Name: "refs/heads/main", Old: first, New: second}) {
				t.Errorf("second fetch changed %+v", res.Changes)
			}

			repo.DeleteBranch("gone")
			repo.Tag("v1.0.0", first)
			third := repo.Rewrite("main", "rewritten", map[string]string{"c.txt": "c\n"})
			if res, err = m.Fetch(ctx); err != nil {
				t.Fatal(err)
			}
			want := []git.RefChange{
				{Name: "refs/heads/gone", Old: second},
				{Name: "refs/heads/main", Old: second, New: third, Rewritten: true},
				{Name: "refs/tags/v1.0.0", Old: second, New: first},
			}
			if len(res.Changes) != 3 || res.Changes[0] != want[0] || res.Changes[1] != want[1] || res.Changes[2] != want[2] {
				t.Errorf("third fetch changed %+v, want %+v", res.Changes, want)
			}
			if has, err := m.HasCommit(ctx, second); !has || err != nil {
				t.Errorf("HasCommit(rewritten) = %v, %v, want it kept", has, err)
			}
			noSecrets(t, m.Dir(), nil, tr.auth)

			tr.down()
			if _, err = m.Fetch(ctx); err == nil {
				t.Fatal("Fetch from a server that is down succeeds")
			}
			wantCode := belay.CodeUnavailable
			if tr.name == "file" {
				wantCode = belay.CodeNotFound
			}
			if belay.CodeOf(err) != wantCode || !strings.Contains(err.Error(), "repository "+tr.url) {
				t.Errorf("down: %v (%s)", err, belay.CodeOf(err))
			}
			if c, err := m.Commit(ctx, third); err != nil || c.Subject != "rewritten" || c.AuthorEmail != "ada@example.org" {
				t.Errorf("Commit while down = %+v, %v", c, err)
			}
			noSecrets(t, m.Dir(), err, tr.auth)
			tr.up()
			if _, err := m.Fetch(ctx); err != nil {
				t.Errorf("up again: %v", err)
			}

			for what, auth := range tr.wrong {
				m := open(t, tr.url, auth)
				_, err := m.LsRemote(ctx, false)
				t.Logf("%s: %v", what, err)
				if err == nil || !strings.Contains(err.Error(), "repository "+tr.url) && !strings.Contains(err.Error(), tr.url) {
					t.Errorf("%s: error = %v, want one that names the repository", what, err)
				}
				e, ok := errors.AsType[*belay.Error](err)
				if !ok || e.Hint == "" && what != "not a private key in PEM" {
					t.Errorf("%s: error = %#v, want a hint", what, err)
				}
				switch what {
				case "wrong password", "no password":
					what = "refuses the user name or password"
				}
				if err != nil && !strings.Contains(err.Error(), what) {
					t.Errorf("error = %v, want something about %q", err, what)
				}
				noSecrets(t, m.Dir(), err, tr.auth, auth)
			}

			missing := open(t, strings.Replace(tr.url, "repo.git", "missing.git", 1), tr.auth)
			_, err = missing.LsRemote(ctx, false)
			if belay.CodeOf(err) != belay.CodeNotFound {
				t.Errorf("missing repository: %v (%s)", err, belay.CodeOf(err))
			}
			t.Logf("missing: %v", err)
		})
	}
}

func TestServerThatDoesNotAnswer(t *testing.T) {
	root := t.TempDir()
	gittest.InitRepo(t, filepath.Join(root, "repo.git")).Commit("main", "first", map[string]string{"a": "a"})
	h := gittest.ServeHTTP(t, root, gittest.HTTPOptions{})
	h.Hang()
	m, err := git.Open(t.Context(), filepath.Join(t.TempDir(), "m.git"), h.URL+"/repo.git", git.Options{ListTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	_, err = m.LsRemote(t.Context(), false)
	if belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), "does not answer in time") {
		t.Errorf("error = %v", err)
	}
}

func TestNothingOfTheMachineIsUsed(t *testing.T) {
	home := t.TempDir()
	config := "[alias]\n\tfetch = !touch " + home + "/ran\n[core]\n\thooksPath = " + home + "\n[url \"/nowhere/\"]\n\tinsteadOf = file://\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	hook := "#!/bin/sh\ntouch " + home + "/ran\n"
	for _, name := range []string{"reference-transaction", "post-fetch", "post-update"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte(hook), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", home)
	t.Setenv("GIT_DIR", home)
	t.Setenv("GIT_CONFIG_COUNT", "1")
	repo := gittest.NewRepo(t)
	repo.Commit("main", "first", map[string]string{"a": "a"})
	m := open(t, repo.URL(), git.Auth{})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(home, "ran")); err == nil {
		t.Error("something of the user's configuration ran")
	}
	for _, u := range []string{"ext::sh -c 'touch " + home + "/ran'"} {
		if _, err := git.Open(t.Context(), filepath.Join(t.TempDir(), "m"), u, git.Options{}); belay.CodeOf(err) != belay.CodeInvalid {
			t.Errorf("Open(%q) = %v", u, err)
		}
	}
}

// A server that sends us on to another host does not get that host our password.
func TestRedirectsGetNoCredentials(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header.Get("Authorization"))
		w.Header().Set("WWW-Authenticate", `Basic realm="thief"`)
		http.Error(w, "who?", http.StatusUnauthorized)
	}))
	defer thief.Close()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="front"`)
			http.Error(w, "who?", http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, thief.URL+r.URL.RequestURI(), http.StatusFound)
	}))
	defer front.Close()
	m := open(t, front.URL+"/repo.git", git.Auth{Username: "robot", Password: []byte(password)})
	if _, err := m.LsRemote(t.Context(), false); err == nil {
		t.Error("LsRemote succeeds")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) == 0 {
		t.Fatal("nobody was sent on")
	}
	for _, a := range seen {
		if a != "" {
			t.Errorf("the other host was told %q", a)
		}
	}
}

// The password stands in no argument of any process.
func TestCredentialsAreOnNoCommandLine(t *testing.T) {
	root := t.TempDir()
	gittest.InitRepo(t, filepath.Join(root, "repo.git")).Commit("main", "first", map[string]string{"a": "a"})
	h := gittest.ServeHTTP(t, root, gittest.HTTPOptions{User: "robot", Password: password})
	h.Hang()
	m := open(t, h.URL+"/repo.git", git.Auth{Username: "robot", Password: []byte(password)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = m.LsRemote(ctx, false) // it hangs until it is cancelled
	}()
	seen := false
	for deadline := time.Now().Add(patience); !seen && time.Now().Before(deadline); {
		procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, p := range procs {
			b, _ := os.ReadFile(p)
			seen = seen || bytes.Contains(b, []byte(h.URL)) && bytes.Contains(b, []byte("remote-http"))
			if bytes.Contains(b, []byte(password)) {
				t.Errorf("%s: %q", p, b)
			}
		}
	}
	if !seen {
		t.Error("the helper that talks HTTP was not seen")
	}
	cancel()
	<-done
}
