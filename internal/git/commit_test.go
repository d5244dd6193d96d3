package git_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/signature"
)

// A commit is made of edits, without a checkout: it changes what they name and
// nothing else, also where a directory takes the place of a file.
func TestMakeCommit(t *testing.T) {
	repo := gittest.NewRepo(t)
	base := repo.CommitFiles("main", "base", map[string]gittest.File{
		"a/x": gittest.Text("x"), "a/y": gittest.Exec("y"), "f": gittest.Text("file"), "d/e": gittest.Text("deep"), "keep": gittest.Link("a/x"),
	})
	m := mirrorOf(t, repo)
	ctx := t.Context()
	exec, err := m.Entry(ctx, base, "a/y")
	if err != nil || exec.Mode != belay.ModeExec {
		t.Fatalf("a/y is %+v, %v", exec, err)
	}
	file := belay.TreeEntry{Mode: belay.ModeFile}
	id, err := m.MakeCommit(ctx, belay.NewCommit{Parent: base, Author: "Ada Tester <ada@example.org>", Message: "Roll back\n\nWhy: a test\n", Edits: []belay.TreeEdit{
		{Path: "f"}, {Path: "f/g", Entry: file, Content: []byte("now a directory")},
		{Path: "d/e"}, {Path: "d", Entry: exec},
		{Path: "a/x", Entry: file, Content: []byte("other")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.Commit(ctx, id)
	if err != nil || c.AuthorName != "Ada Tester" || c.AuthorEmail != "ada@example.org" || c.Subject != "Roll back" || len(c.Parents) != 1 || c.Parents[0] != base {
		t.Fatalf("commit = %+v, %v", c, err)
	}
	if err := m.Push(ctx, id, "main"); err != nil {
		t.Fatal(err)
	}
	got := repo.Git("ls-tree", "-r", "--format=%(objectmode) %(path)", "main")
	if want := "100644 a/x\n100755 a/y\n100755 d\n100644 f/g\n120000 keep"; got != want {
		t.Errorf("tree is\n%s\nwant\n%s", got, want)
	}
	if got := repo.Git("show", "main:f/g"); got != "now a directory" {
		t.Errorf("f/g is %q", got)
	}
	if got := repo.Git("log", "-1", "--format=%cn <%ce>", "main"); got != "Belay <belay@localhost>" {
		t.Errorf("committer is %s", got)
	}
	patch, err := m.Patch(ctx, id)
	if err != nil || !strings.Contains(string(patch), "Subject: [PATCH] Roll back") || !strings.Contains(string(patch), "Why: a test") {
		t.Errorf("patch = %v\n%s", err, patch)
	}
	if left, _ := filepath.Glob(filepath.Join(m.Dir(), "belay-index-*")); len(left) > 0 {
		t.Errorf("%v was left behind", left)
	}
	for _, p := range []string{"../x", "/x", "a//b", ".git/config", "", "a/../../b"} {
		if _, err := m.MakeCommit(ctx, belay.NewCommit{Parent: base, Edits: []belay.TreeEdit{{Path: p, Entry: file}}}); err == nil {
			t.Errorf("path %q is taken", p)
		}
	}
}

// A commit is signed as it is, with the committer that it names; one that cannot be
// signed is none.
func TestMakeSignedCommit(t *testing.T) {
	repo := gittest.NewRepo(t)
	base := repo.Commit("main", "base", map[string]string{"a": "1"})
	m := mirrorOf(t, repo)
	ctx := t.Context()
	b, err := signature.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	key, err := signature.ParseKey(b)
	if err != nil {
		t.Fatal(err)
	}
	c := belay.NewCommit{Parent: base, Author: "Ada Tester <ada@example.org>", Committer: "Robot <12+robot[bot]@example.org>", Sign: key.Commit,
		Message: "Sign it: ä\n\n-----BEGIN SSH SIGNATURE-----\nis no signature\n\n\n", Edits: []belay.TreeEdit{{Path: "a", Entry: belay.TreeEntry{Mode: belay.ModeFile}, Content: []byte("2")}}}
	id, err := m.MakeCommit(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Push(ctx, id, "main"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(file, []byte(key.AllowedSigner("12+robot[bot]@example.org")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := repo.Git("-c", "gpg.ssh.allowedSignersFile="+file, "log", "-1", "--format=%G? %GF %an <%ae> %cn <%ce> %s", "main"),
		"G "+key.Fingerprint()+" Ada Tester <ada@example.org> Robot <12+robot[bot]@example.org> Sign it: ä"; got != want {
		t.Errorf("the commit is\n%s\nwant\n%s", got, want)
	}
	if got := repo.Git("show", "main:a"); got != "2" {
		t.Errorf("a is %q", got)
	}
	repo.Git("fsck", "--strict")
	c.Sign = func([]byte) ([]byte, error) { return nil, errors.New("the key is gone") }
	if id, err := m.MakeCommit(ctx, c); err == nil || id != "" || !strings.Contains(err.Error(), "the key is gone") {
		t.Errorf("without its key: %q, %v", id, err)
	}
	c.Sign = func(raw []byte) ([]byte, error) { return append([]byte("nonsense"), raw...), nil }
	if id, err := m.MakeCommit(ctx, c); err == nil {
		t.Errorf("nonsense became the commit %s", id)
	}
}

// A repository that takes signed commits only takes ours when it knows the key; if
// not, it is said that this is what is missing.
func TestPushWhereSignaturesAreWanted(t *testing.T) {
	repo := gittest.NewRepo(t)
	base := repo.Commit("main", "base", map[string]string{"a": "1"})
	m := mirrorOf(t, repo)
	b, err := signature.GenerateKey("")
	if err != nil {
		t.Fatal(err)
	}
	key, err := signature.ParseKey(b)
	if err != nil {
		t.Fatal(err)
	}
	id, err := m.MakeCommit(t.Context(), belay.NewCommit{Parent: base, Message: "ours", Sign: key.Commit, Edits: []belay.TreeEdit{
		{Path: "a", Entry: belay.TreeEntry{Mode: belay.ModeFile}, Content: []byte("2")}}})
	if err != nil {
		t.Fatal(err)
	}
	allowed, hook := filepath.Join(repo.Dir, "allowed"), filepath.Join(repo.Dir, "hooks", "update")
	script := "#!/bin/sh\ngit -c gpg.ssh.allowedSignersFile=" + allowed + " verify-commit $3 || { echo 'Commits must have verified signatures.' >&2; exit 1; }\n"
	if err := errors.Join(os.MkdirAll(filepath.Dir(hook), 0o755), os.WriteFile(hook, []byte(script), 0o755), os.WriteFile(allowed, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	err = m.Push(t.Context(), id, "main")
	if belay.CodeOf(err) != belay.CodeDenied || !strings.Contains(err.Error(), "give it the key that signs them (belay signing-key)") || repo.Resolve("main") != base {
		t.Errorf("with a key that it does not know: %v", err)
	}
	if err := os.WriteFile(allowed, []byte(key.AllowedSigner("belay@localhost")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Push(t.Context(), id, "main"); err != nil || repo.Resolve("main") != id {
		t.Errorf("with a key that it knows: %v", err)
	}
}

// A push never forces: whoever was faster stays.
func TestPush(t *testing.T) {
	for _, tr := range transports(t) {
		t.Run(tr.name, func(t *testing.T) {
			m, err := git.Open(t.Context(), filepath.Join(t.TempDir(), "m.git"), tr.url, authOptions(tr.auth))
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			ctx := t.Context()
			res, err := m.Fetch(ctx)
			if err != nil {
				t.Fatal(err)
			}
			repo := gittest.OpenRepo(t, filepath.Join(tr.root, "repo.git"))
			head := res.Refs.Heads["main"]
			ours := func(content string) string {
				id, err := m.MakeCommit(ctx, belay.NewCommit{Parent: head, Author: "Ada", Message: "ours", Edits: []belay.TreeEdit{
					{Path: "ours", Entry: belay.TreeEntry{Mode: belay.ModeFile}, Content: []byte(content)}}})
				if err != nil {
					t.Fatal(err)
				}
				return id
			}
			first := ours("1")
			if err := m.Push(ctx, first, "belay/rollback-1"); err != nil {
				t.Fatal(err)
			}
			if got := repo.Resolve("belay/rollback-1"); got != first {
				t.Errorf("the new branch is at %s, want %s", got, first)
			}
			theirs := repo.Commit("main", "theirs", map[string]string{"theirs": "1"})
			if err := m.Push(ctx, ours("2"), "main"); !errors.Is(err, git.ErrMoved) {
				t.Errorf("push onto a branch that moved on: %v, want ErrMoved", err)
			}
			if got := repo.Resolve("main"); got != theirs {
				t.Errorf("main is at %s, want %s", got, theirs)
			}
			for name, auth := range tr.wrong {
				bad, err := git.Open(ctx, m.Dir(), tr.url, authOptions(auth))
				if err != nil {
					t.Fatal(err)
				}
				err = bad.Push(ctx, first, "other")
				bad.Close()
				if err == nil || repo.Resolve("other") != "" {
					t.Errorf("%s: pushed all the same (%v)", name, err)
				}
			}
		})
	}
}

// What a server refuses is said in its words, with what to do.
func TestPushRefused(t *testing.T) {
	repo := gittest.NewRepo(t)
	base := repo.Commit("main", "base", map[string]string{"a": "1"})
	hooks := filepath.Join(repo.Dir, "hooks")
	if err := os.MkdirAll(hooks, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hooks, "pre-receive"), []byte("#!/bin/sh\necho main is protected >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := mirrorOf(t, repo)
	id, err := m.MakeCommit(t.Context(), belay.NewCommit{Parent: base, Message: "x", Edits: []belay.TreeEdit{{Path: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	err = m.Push(t.Context(), id, "main")
	if belay.CodeOf(err) != belay.CodeDenied || !strings.Contains(err.Error(), "main is protected") {
		t.Errorf("error is %v", err)
	}
}

// That somebody has the branch checked out is known before anything is pushed.
func TestCheckedOut(t *testing.T) {
	repo := gittest.NewRepo(t)
	repo.Commit("main", "base", map[string]string{"a": "1"})
	copied := filepath.Join(t.TempDir(), "with spaces", "working copy")
	repo.Git("clone", "-q", repo.Dir, copied)
	linked := filepath.Join(t.TempDir(), "linked")
	for _, step := range []struct {
		name, url string
		do        []string
		want      bool
	}{
		{"bare", repo.Dir, nil, false},
		{"working copy", copied, nil, true},
		{"its .git, as a URL", "file://" + filepath.Join(copied, ".git"), nil, true},
		{"updated by pushes", copied, []string{"-C", copied, "config", "receive.denyCurrentBranch", "updateInstead"}, false},
		{"refused in words", copied, []string{"-C", copied, "config", "receive.denyCurrentBranch", "Refuse"}, true},
		{"another branch checked out", copied, []string{"-C", copied, "checkout", "-q", "-b", "other"}, false},
		{"a worktree of the bare one", repo.Dir, []string{"worktree", "add", "-q", linked, "main"}, true},
		{"elsewhere", "https://git.invalid/fleet.git", nil, false},
	} {
		if step.do != nil {
			repo.Git(step.do...)
		}
		m, err := git.Open(t.Context(), filepath.Join(t.TempDir(), "m.git"), step.url, git.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.CheckedOut(t.Context(), "main")
		m.Close()
		if err != nil || got != step.want {
			t.Errorf("%s: %v, %v", step.name, got, err)
		}
	}
}

func authOptions(a git.Auth) git.Options {
	return git.Options{Auth: func(context.Context) (git.Auth, error) { return a, nil }}
}
