package git_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/gittest"
)

func mirrorOf(t testing.TB, repo *gittest.Repo) *git.Mirror {
	t.Helper()
	m, err := git.Open(t.Context(), filepath.Join(t.TempDir(), "mirror.git"), repo.URL(), git.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	return m
}

// readAll reads every object of a commit.
func readAll(ctx context.Context, m *git.Mirror, commit string) (files int, err error) {
	c, err := m.Commit(ctx, commit)
	if err != nil {
		return 0, err
	}
	var walk func(id string) error
	walk = func(id string) error {
		tree, err := m.Tree(ctx, id)
		if err != nil {
			return err
		}
		for _, e := range tree.Entries {
			switch e.Type {
			case git.TypeDir:
				err = walk(e.ID)
			case git.TypeFile:
				files++
				_, err = m.Blob(ctx, e.ID)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return files, walk(c.Tree)
}

func TestObjects(t *testing.T) {
	repo := gittest.NewRepo(t)
	sub := strings.Repeat("1", 40)
	id := repo.CommitFiles("main", "kinds", map[string]gittest.File{
		"run.sh": gittest.Exec("#!/bin/sh\n"), "a.b": gittest.Text("dot"), "a/x": gittest.Text("in a"), "a0": gittest.Text("zero"),
		"link": gittest.Link("a/x"), "sub": gittest.Submodule(sub), "empty": gittest.Text(""), "bin": gittest.Text("\x00\xff\n"),
	})
	m := mirrorOf(t, repo)
	ctx := t.Context()
	c, err := m.Commit(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if c.Subject != "kinds" || c.AuthorName != "Ada Tester" || c.Time.IsZero() || len(c.Parents) != 0 {
		t.Errorf("commit = %+v", c)
	}
	tree, err := m.Tree(ctx, c.Tree)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range tree.Entries {
		got = append(got, e.Name+":"+string(e.Type))
	}
	// By name, not in git's order, where a directory sorts as if it ended in a slash.
	if want := []string{"a:d", "a.b:f", "a0:f", "bin:f", "empty:f", "link:l", "run.sh:x", "sub:s"}; !slices.Equal(got, want) {
		t.Errorf("tree = %v, want %v", got, want)
	}
	for name, want := range map[string]string{"bin": "\x00\xff\n", "empty": "", "link": "a/x", "a.b": "dot"} {
		e, ok := tree.Lookup(name)
		b, err := m.Blob(ctx, e.ID)
		if !ok || string(b) != want || err != nil {
			t.Errorf("%s = %q, %v, want %q", name, b, err, want)
		}
		if n, err := m.BlobSize(ctx, e.ID); n != int64(len(want)) || err != nil {
			t.Errorf("size of %s = %d, %v", name, n, err)
		}
	}
	if _, ok := tree.Lookup("nope"); ok {
		t.Error("Lookup finds what is not there")
	}
	if _, err := m.Commit(ctx, sub); !errors.Is(err, git.ErrMissing) || m.Broken() {
		t.Errorf("unknown commit: %v (broken %v)", err, m.Broken())
	}
	abbreviated, err := m.Abbreviated(ctx, id[:8])
	if err != nil || !slices.Equal(abbreviated, []string{id}) {
		t.Errorf("Abbreviated = %v, %v", abbreviated, err)
	}
}

func TestBigBlob(t *testing.T) {
	repo := gittest.NewRepo(t)
	id := repo.Commit("main", "big", map[string]string{"big": strings.Repeat("0123456789", 1000), "small": "s"})
	m, err := git.Open(t.Context(), filepath.Join(t.TempDir(), "m.git"), repo.URL(), git.Options{MaxBlob: 9999})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, _ := m.Commit(t.Context(), id)
	tree, err := m.Tree(t.Context(), c.Tree)
	if err != nil {
		t.Fatal(err)
	}
	big, _ := tree.Lookup("big")
	small, _ := tree.Lookup("small")
	if _, err := m.Blob(t.Context(), big.ID); !errors.Is(err, git.ErrTooBig) {
		t.Errorf("Blob = %v, want ErrTooBig", err)
	}
	if b, err := m.Blob(t.Context(), small.ID); string(b) != "s" || err != nil {
		t.Errorf("after that: %q, %v", b, err)
	}
}

func TestReaderSurvivesAKilledProcessAndACancelledCall(t *testing.T) {
	repo := gittest.NewRepo(t)
	id := repo.Commit("main", "first", map[string]string{"a": "a", "b": "b", "c": "c"})
	m := mirrorOf(t, repo)
	c, err := m.Commit(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if killed := killGits(t, "cat-file", m.Dir()); killed == 0 {
		t.Fatal("no reader runs")
	}
	if _, err := m.Tree(t.Context(), c.Tree); err != nil {
		t.Fatalf("after kill -9: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Commit(ctx, id); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if _, err := m.Commit(t.Context(), id); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if m.Broken() {
		t.Error("the mirror counts as damaged")
	}
}

// killGits kills the git processes of this test whose command line and
// environment name a command and a directory.
func killGits(t *testing.T, command, dir string) int {
	t.Helper()
	n := 0
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		cmdline, _ := os.ReadFile(p + "/cmdline")
		environ, _ := os.ReadFile(p + "/environ")
		if strings.Contains(string(cmdline), "\x00"+command+"\x00") && strings.Contains(string(environ), "GIT_DIR="+dir+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(p))
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				n++
			}
		}
	}
	return n
}

// Whatever is broken in a mirror, a fetch or two later it is whole again.
func TestDamageHeals(t *testing.T) {
	remove := func(pattern string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			names, _ := filepath.Glob(filepath.Join(dir, pattern))
			if len(names) == 0 {
				t.Fatalf("nothing matches %s", pattern)
			}
			for _, n := range names {
				if err := os.RemoveAll(n); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	garble := func(pattern string, keep int) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			names, _ := filepath.Glob(filepath.Join(dir, pattern))
			if len(names) == 0 {
				t.Fatalf("nothing matches %s", pattern)
			}
			for _, n := range names {
				b, err := os.ReadFile(n)
				if err != nil {
					t.Fatal(err)
				}
				for i := keep; i < len(b); i++ {
					b[i] ^= 0x55
				}
				os.Chmod(n, 0o600)
				if err := os.WriteFile(n, b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for name, harm := range map[string]func(t *testing.T, dir string){
		"all packs gone":       remove("objects/pack/*.pack"),
		"indexes gone":         remove("objects/pack/*.idx"),
		"objects gone":         remove("objects"),
		"refs gone":            remove("refs"),
		"HEAD gone":            remove("HEAD"),
		"everything gone":      remove("."),
		"packs garbled":        garble("objects/pack/*.pack", 12),
		"pack ends early":      func(t *testing.T, dir string) { truncateAll(t, dir, "objects/pack/*.pack", 40) },
		"index garbled":        garble("objects/pack/*.idx", 8),
		"ref empty":            func(t *testing.T, dir string) { truncateAll(t, dir, "refs/heads/main", 0) },
		"ref garbled":          garble("refs/heads/main", 0),
		"ref names no object":  writeFile("refs/heads/main", strings.Repeat("1", 40)+"\n"),
		"config garbled":       writeFile("config", "[core\n"),
		"HEAD garbled":         writeFile("HEAD", "\x00\x00\x00"),
		"HEAD of nothing":      writeFile("HEAD", "ref: refs/heads/nope\n"),
		"stale locks":          writeFiles("packed-refs.lock", "refs/heads/main.lock", "HEAD.lock", "config.lock", "shallow.lock", "objects/pack/multi-pack-index.lock", "objects/pack/tmp_pack_abc"),
		"commit-graph garbled": func(t *testing.T, dir string) { writeFile("objects/info/commit-graph", "CGPH garbage")(t, dir) },
		"packed-refs garbled":  writeFile("packed-refs", "garbage\n"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := gittest.NewRepo(t)
			for i := range 3 {
				repo.Commit("main", "c", map[string]string{"a/b/c" + strconv.Itoa(i): strings.Repeat("x", 100) + strconv.Itoa(i)})
			}
			dir := filepath.Join(t.TempDir(), "m.git")
			first, err := git.Open(t.Context(), dir, repo.URL(), git.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := first.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			first.Close()
			harm(t, dir)

			m, err := git.Open(t.Context(), dir, repo.URL(), git.Options{})
			if err != nil {
				t.Fatalf("Open: %v", err)
			}
			defer m.Close()
			// Reading notices what a fetch of nothing new does not.
			id := repo.Resolve("main")
			if _, err := readAll(t.Context(), m, id); err != nil {
				t.Logf("read: %v", err)
			}
			if strings.Contains(name, "lock") {
				_, err = m.Fetch(t.Context())
			} else if _, err = m.Fetch(t.Context()); err == nil {
				if _, rerr := readAll(t.Context(), m, id); rerr != nil {
					t.Logf("read again: %v", rerr)
					_, err = m.Fetch(t.Context())
				}
			}
			if err != nil {
				t.Fatalf("Fetch: %v", err)
			}
			if n, err := readAll(t.Context(), m, id); n != 3 || err != nil {
				t.Fatalf("after the fetch: %d files, %v", n, err)
			}
			id = repo.Commit("main", "next", map[string]string{"next": "n"})
			res, err := m.Fetch(t.Context())
			if err != nil || res.Refs.Heads["main"] != id {
				t.Fatalf("next fetch: %+v, %v", res, err)
			}
			if n, err := readAll(t.Context(), m, id); n != 4 || err != nil {
				t.Fatalf("after the next fetch: %d files, %v", n, err)
			}
			for _, left := range []string{dir + ".new", dir + ".old"} {
				if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s was left behind", left)
				}
			}
		})
	}
}

func truncateAll(t *testing.T, dir, pattern string, size int64) {
	t.Helper()
	names, _ := filepath.Glob(filepath.Join(dir, pattern))
	if len(names) == 0 {
		t.Fatalf("nothing matches %s", pattern)
	}
	for _, n := range names {
		os.Chmod(n, 0o600)
		if err := os.Truncate(n, size); err != nil {
			t.Fatal(err)
		}
	}
}

func writeFile(name, content string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func writeFiles(names ...string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		for _, n := range names {
			writeFile(n, "")(t, dir)
		}
	}
}

// Git is killed again and again while it fetches; the mirror serves what it had
// and has everything in the end.
func TestKilledWhileFetching(t *testing.T) {
	repo := gittest.NewRepo(t)
	first := repo.Commit("main", "first", map[string]string{"a": "a"})
	m := mirrorOf(t, repo)
	files := map[string]string{}
	for i := range 2000 {
		files["dir"+strconv.Itoa(i%50)+"/f"+strconv.Itoa(i)] = strings.Repeat(strconv.Itoa(i*7919), 200)
	}
	second := repo.Commit("main", "many", files)
	killed := 0
	for round := range 40 {
		done := make(chan error, 1)
		go func() {
			_, err := m.Fetch(t.Context())
			done <- err
		}()
		var err error
		running := true
		for running {
			select {
			case err = <-done:
				running = false
			case <-time.After(time.Duration(round) * time.Millisecond):
				killed += killGits(t, "fetch", m.Dir())
				killed += killGits(t, "index-pack", m.Dir())
			}
		}
		if _, rerr := readAll(t.Context(), m, first); rerr != nil {
			t.Fatalf("round %d: the old commit cannot be read: %v", round, rerr)
		}
		if err == nil && killed > 0 {
			break
		}
		if err == nil { // it was over before anybody looked: there has to be more to fetch
			files["more"] = strconv.Itoa(round)
			second = repo.Rewrite("main", "many again", files) // as many, without the first one's
		}
	}
	if killed == 0 {
		t.Error("nothing was killed")
	}
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := readAll(t.Context(), m, second); n != 2001 || err != nil {
		t.Errorf("in the end: %d files, %v", n, err)
	}
	left, _ := filepath.Glob(filepath.Join(m.Dir(), "objects/pack/tmp_*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestTidyKeepsEverythingReadable(t *testing.T) {
	repo := gittest.NewRepo(t)
	m := mirrorOf(t, repo)
	lost := repo.Commit("main", "to be lost", map[string]string{"lost": "lost"})
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	repo.Rewrite("main", "rewritten", map[string]string{"0": "0"})
	var last string
	for i := range 22 {
		last = repo.Commit("main", "c", map[string]string{strconv.Itoa(i): strconv.Itoa(i)})
		if _, err := m.Fetch(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if !m.Untidy() {
		t.Fatal("a mirror with 22 packs is not untidy")
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := m.Commit(t.Context(), last); err != nil {
				t.Error(err)
				return
			}
		}
	})
	if err := m.Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(stop)
	wg.Wait()
	if m.Untidy() {
		t.Error("still untidy")
	}
	// A new process knows nothing of what the old one had open.
	killGits(t, "cat-file", m.Dir())
	for id, want := range map[string]int{lost: 1, last: 22} {
		if n, err := readAll(t.Context(), m, id); n != want || err != nil {
			t.Errorf("%s: %d files, %v, want %d", id, n, err, want)
		}
	}
}

func TestHistory(t *testing.T) {
	repo := gittest.NewRepo(t)
	a := repo.Commit("main", "a", map[string]string{"belay/app.yaml": "kind: Application\nname: shop\n", "other/x": "name: shop-two\n"})
	b := repo.Commit("main", "b", map[string]string{"belay/app.yaml": "kind: Application\nname: renamed\n"})
	c := repo.Commit("main", "c", map[string]string{"other/x": "y"})
	// The line comes and goes on a side branch that is merged after it left.
	repo.Branch("side", a)
	s1 := repo.Commit("side", "s1", map[string]string{"belay/side.yaml": "name: fleeting\n"})
	repo.CommitFiles("side", "s2", map[string]gittest.File{"belay/side.yaml": gittest.Delete()})
	// And one stands only in the merge itself.
	d := repo.Merge("main", "d", repo.Resolve("side"), map[string]gittest.File{"belay/evil.yaml": gittest.Text("name: evil\n")})
	e := repo.CommitFiles("main", "e", map[string]gittest.File{"belay/evil.yaml": gittest.Delete()})
	m := mirrorOf(t, repo)
	ctx := t.Context()

	for _, tc := range []struct {
		commit, path, expr string
		want               string
		found              bool
	}{
		{e, "belay", "^name: shop$", b, true},
		{a, "belay", "^name: shop$", a, true},
		{e, "belay", "^name: never$", "", false},
		{e, "belay", "^name: shop-two$", "", false},
		{e, ".", "^name: shop-two$", c, true},
		{b, "belay", "^name: fleeting$", "", false},
		{e, "belay/", "^name: evil$", e, true},
		{e, "belay/*.yaml", "^name: shop$", "", false},
	} {
		got, found, err := m.EverDeclared(ctx, tc.commit, tc.path, tc.expr)
		if got != tc.want || found != tc.found || err != nil {
			t.Errorf("EverDeclared(%.7s, %q, %q) = %.7s, %v, %v, want %.7s, %v", tc.commit, tc.path, tc.expr, got, found, err, tc.want, tc.found)
		}
	}
	if _, found, err := m.EverDeclared(ctx, e, "belay", "^name: fleeting$"); !found || err != nil {
		t.Errorf("a line of a side branch: %v, %v", found, err)
	}
	for _, tc := range []struct {
		commit, expr, parent string
		found                bool
	}{
		{e, "^name: shop$", a, true},
		{b, "^name: shop$", a, true},
		{a, "^name: shop$", "", false}, // it stands there
		{e, "^name: fleeting$", s1, true},
		{e, "^name: evil$", d, true},
		{e, "^name: never$", "", false},
	} {
		_, parent, found, err := m.Removal(ctx, tc.commit, "belay", tc.expr)
		if parent != tc.parent || found != tc.found || err != nil {
			t.Errorf("Removal(%.7s, %q) = %.7s, %v, %v, want %.7s, %v", tc.commit, tc.expr, parent, found, err, tc.parent, tc.found)
		}
	}
	if h, err := m.FileHistory(ctx, e, "belay/app.yaml", 10); !slices.Equal(h, []string{b, a}) || err != nil {
		t.Errorf("FileHistory = %v, %v, want %v", h, err, []string{b, a})
	}
	for _, tc := range []struct {
		a, b string
		want bool
	}{{a, e, true}, {e, a, false}, {s1, c, false}, {a, a, true}} {
		if got, err := m.IsAncestor(ctx, tc.a, tc.b); got != tc.want || err != nil {
			t.Errorf("IsAncestor = %v, %v, want %v", got, err, tc.want)
		}
	}
	if _, _, err := m.EverDeclared(ctx, "--output=/tmp/x", "belay", "x"); err == nil {
		t.Error("an option passes for a commit")
	}
}
