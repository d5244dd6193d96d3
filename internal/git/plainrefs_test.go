package git_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/gittest"
)

// wantRefs compares the refs of a mirror with what git says of them.
func wantRefs(t *testing.T, m *git.Mirror, when string) {
	t.Helper()
	heads, tags := map[string]string{}, map[string]string{}
	out := gittest.OpenRepo(t, m.Dir()).Git("show-ref", "--dereference", "--heads", "--tags")
	for line := range strings.Lines(out) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if branch, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			heads[branch] = id
		} else {
			tags[strings.TrimSuffix(strings.TrimPrefix(name, "refs/tags/"), "^{}")] = id
		}
	}
	got, err := m.LocalRefs(t.Context())
	if err != nil || !maps.Equal(got.Heads, heads) || !maps.Equal(got.Tags, tags) {
		t.Errorf("%s: %v\n got %v, %v\nwant %v, %v", when, err, got.Heads, got.Tags, heads, tags)
	}
}

// The refs that are read from their files are those that git reads.
func TestLocalRefs(t *testing.T) {
	repo := gittest.NewRepo(t)
	first := repo.Commit("main", "first", map[string]string{"a": "1"})
	repo.Branch("team/feature", first)
	repo.Tag("v1", first)
	repo.AnnotatedTag("v2", first)
	repo.Git("-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "-m", "a tag of a tag", "v3", "v2")
	m := mirrorOf(t, repo)
	wantRefs(t, m, "files of their own")
	mirror := gittest.OpenRepo(t, m.Dir())
	mirror.Git("pack-refs", "--all")
	wantRefs(t, m, "all in one file")
	second := repo.Commit("main", "second", map[string]string{"a": "2"})
	repo.Git("tag", "-f", "v1", second)
	repo.Git("-c", "user.name=a", "-c", "user.email=a@b", "tag", "-f", "-a", "-m", "moved", "v2", second)
	repo.DeleteBranch("team/feature")
	repo.Branch("team", second) // in the place of the directory
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRefs(t, m, "both")
	repo.Git("tag", "blob", repo.Git("rev-parse", "main:a"))
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRefs(t, m, "a tag of a file")
	mirror.Git("symbolic-ref", "refs/heads/other", "refs/heads/main")
	wantRefs(t, m, "a ref that names another")
	packed := filepath.Join(m.Dir(), "packed-refs")
	b, err := os.ReadFile(packed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(packed, []byte(strings.Replace(string(b), "fully-peeled ", "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	wantRefs(t, m, "of an old git")
	if err := os.WriteFile(filepath.Join(m.Dir(), "refs", "heads", "main"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := m.LocalRefs(t.Context()); err == nil && got.Heads["main"] != "" {
		t.Errorf("a branch without an ID is %q", got.Heads["main"])
	}
}

// Before and after each fetch they are read: that starts no process.
func TestLocalRefsCostNoProcess(t *testing.T) {
	repo := gittest.NewRepo(t)
	first := repo.Commit("main", "first", map[string]string{"a": "1"})
	repo.AnnotatedTag("v1", first)
	m := mirrorOf(t, repo)
	gittest.OpenRepo(t, m.Dir()).Git("pack-refs", "--all")
	repo.Branch("other", first)
	if _, err := m.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.Close() // and with it the git that reads objects
	t.Setenv("PATH", "")
	if got, err := m.LocalRefs(t.Context()); err != nil || len(got.Heads) != 2 || got.Tags["v1"] != first {
		t.Errorf("without git they are %+v, %v", got, err)
	}
}

// A commit that a push brings follows the one before without a process, and a
// history of any shape is compared right.
func TestIsAncestor(t *testing.T) {
	repo := gittest.NewRepo(t)
	root := repo.Commit("main", "root", map[string]string{"a": "0"})
	repo.Branch("side", root)
	side := repo.Commit("side", "side", map[string]string{"b": "1"})
	repo.Commit("main", "one", map[string]string{"a": "1"})
	merge := repo.Merge("main", "merge", side, map[string]gittest.File{"c": gittest.Text("1")})
	far := merge
	for i := range 40 {
		far = repo.Commit("main", "more", map[string]string{"a": strings.Repeat("x", i+2)})
	}
	stray := repo.Commit("stray", "stray", map[string]string{"z": "1"})
	m := mirrorOf(t, repo)
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{root, root, true}, {root, merge, true}, {side, merge, true}, {merge, side, false}, {side, far, true}, {root, far, true}, {far, root, false}, {stray, far, false}, {far, stray, false},
	} {
		if got, err := m.IsAncestor(t.Context(), tc.a, tc.b); got != tc.want || err != nil {
			t.Errorf("%.7s before %.7s: %v, %v", tc.a, tc.b, got, err)
		}
	}
	if _, err := m.IsAncestor(t.Context(), strings.Repeat("a", 40), root); err == nil {
		t.Error("a commit that is not there is no error")
	}
}
