// Package gittest makes real Git repositories and serves them over every
// transport, for tests: files, HTTP and HTTPS through git http-backend, SSH
// through a server in this process that runs git's own commands.
//
// It must not know the packages it helps to test.
package gittest

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// Repo is a bare repository on disk. Its methods end the test on an error.
type Repo struct {
	// Dir of the repository.
	Dir string
	t   testing.TB
	now time.Time
}

// Author is the author of every commit made here.
const Author = "Ada Tester <ada@example.org>"

// NewRepo makes an empty bare repository whose HEAD is main, in a directory of
// the test.
func NewRepo(t testing.TB) *Repo {
	t.Helper()
	return InitRepo(t, filepath.Join(t.TempDir(), "repo.git"))
}

// InitRepo makes an empty bare repository whose HEAD is main at dir, for
// servers that serve several from one root.
func InitRepo(t testing.TB, dir string) *Repo {
	t.Helper()
	r := &Repo{Dir: dir, t: t, now: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r.Git("init", "-q", "--bare", "--template=", "--initial-branch=main", dir)
	r.Git("config", "http.receivepack", "true")
	r.Git("config", "uploadpack.allowAnySHA1InWant", "true")
	r.Git("config", "gc.auto", "0")
	return r
}

// URL of the repository with the file transport.
func (r *Repo) URL() string { return "file://" + r.Dir }

// File is what a path becomes in a commit.
type File struct {
	mode    string
	content string
	delete  bool
}

// Text is a regular file.
func Text(content string) File { return File{mode: "100644", content: content} }

// Exec is an executable file.
func Exec(content string) File { return File{mode: "100755", content: content} }

// Link is a symlink.
func Link(target string) File { return File{mode: "120000", content: target} }

// Submodule is a submodule at a commit.
func Submodule(commit string) File { return File{mode: "160000", content: commit} }

// Delete removes a file or a directory.
func Delete() File { return File{delete: true} }

// Commit puts text files on top of a branch, which is made when it is missing,
// and returns the commit. An empty content is an empty file.
func (r *Repo) Commit(branch, subject string, files map[string]string) string {
	r.t.Helper()
	m := make(map[string]File, len(files))
	for p, c := range files {
		m[p] = Text(c)
	}
	return r.CommitFiles(branch, subject, m)
}

// CommitFiles is Commit for files of any kind.
func (r *Repo) CommitFiles(branch, subject string, files map[string]File) string {
	r.t.Helper()
	return r.importCommit(branch, r.Resolve(branch), subject, files)
}

// Rewrite replaces a branch by a commit without a parent.
func (r *Repo) Rewrite(branch, subject string, files map[string]string) string {
	r.t.Helper()
	m := make(map[string]File, len(files))
	for p, c := range files {
		m[p] = Text(c)
	}
	return r.importCommit(branch, "", subject, m)
}

// Merge makes a commit with the files of the first parent, changed by files.
func (r *Repo) Merge(branch, subject, other string, files map[string]File) string {
	r.t.Helper()
	return r.importCommit(branch, r.Resolve(branch), subject, files, other)
}

// importCommit goes through fast-import: one process for a commit of any size.
func (r *Repo) importCommit(branch, parent, subject string, files map[string]File, merged ...string) string {
	r.t.Helper()
	r.now = r.now.Add(time.Minute)
	var b strings.Builder
	// A branch of its own, so that the real one moves in one step even backwards.
	fmt.Fprintf(&b, "commit refs/gittest/import\n")
	fmt.Fprintf(&b, "author %s %d +0000\ncommitter %s %d +0000\n", Author, r.now.Unix(), Author, r.now.Unix())
	fmt.Fprintf(&b, "data %d\n%s\n", len(subject), subject)
	if parent != "" {
		fmt.Fprintf(&b, "from %s\n", parent)
	}
	for _, m := range merged {
		fmt.Fprintf(&b, "merge %s\n", m)
	}
	for _, p := range slices.Sorted(maps.Keys(files)) {
		switch f := files[p]; {
		case f.delete:
			fmt.Fprintf(&b, "D %s\n", quote(p))
		case f.mode == "160000":
			fmt.Fprintf(&b, "M %s %s %s\n", f.mode, f.content, quote(p))
		default:
			fmt.Fprintf(&b, "M %s inline %s\ndata %d\n%s\n", f.mode, quote(p), len(f.content), f.content)
		}
	}
	b.WriteString("done\n")
	r.Git("update-ref", "-d", "refs/gittest/import")
	r.GitInput(b.String(), "fast-import", "--quiet", "--done", "--force")
	commit := r.Git("rev-parse", "refs/gittest/import")
	r.Git("update-ref", "-d", "refs/gittest/import")
	r.Git("update-ref", "refs/heads/"+branch, commit)
	return commit
}

func quote(p string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(p) + `"`
}

// Resolve is the commit of a branch, tag or id, "" when there is none.
func (r *Repo) Resolve(ref string) string {
	r.t.Helper()
	out, err := r.command("", "rev-parse", "--verify", "--quiet", ref+"^{commit}")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

// Branch sets a branch to a commit, wherever it was.
func (r *Repo) Branch(name, commit string) {
	r.t.Helper()
	r.Git("update-ref", "refs/heads/"+name, commit)
}

// DeleteBranch removes a branch.
func (r *Repo) DeleteBranch(name string) {
	r.t.Helper()
	r.Git("update-ref", "-d", "refs/heads/"+name)
}

// Tag sets a lightweight tag, wherever it was.
func (r *Repo) Tag(name, commit string) {
	r.t.Helper()
	r.Git("update-ref", "refs/tags/"+name, commit)
}

// AnnotatedTag sets a tag object, wherever it was.
func (r *Repo) AnnotatedTag(name, commit string) {
	r.t.Helper()
	r.Git("tag", "-f", "-a", "-m", name, name, commit)
}

// Git runs a git command in the repository and returns its trimmed output.
func (r *Repo) Git(args ...string) string {
	r.t.Helper()
	return r.GitInput("", args...)
}

// GitInput is Git with standard input.
func (r *Repo) GitInput(input string, args ...string) string {
	r.t.Helper()
	out, err := r.command(input, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (r *Repo) command(input string, args ...string) (string, error) {
	out, err := xec.Command{
		Path: "git", Args: args, Dir: r.Dir, Inherit: []string{"PATH"}, Stdin: strings.NewReader(input),
		Env: append(gitEnv(), "GIT_COMMITTER_NAME=Ada Tester", "GIT_COMMITTER_EMAIL=ada@example.org"),
	}.Output(r.t.Context(), 64<<20)
	return string(out), err
}

// gitEnv keeps the settings of the machine and its user out of a test.
func gitEnv() []string {
	return []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_TERMINAL_PROMPT=0", "LC_ALL=C",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
	}
}

// OpenRepo is a bare repository that is already there.
func OpenRepo(t testing.TB, dir string) *Repo {
	return &Repo{Dir: dir, t: t, now: time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)}
}
