package gittest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/belaydev/belay/internal/xec"
)

// SSHKey makes a key with ssh-keygen: the file of the private one, and the public one.
func SSHKey(t testing.TB) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	if err := (xec.Command{Path: "ssh-keygen", Args: []string{"-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file}, Inherit: []string{"PATH"}}).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(b))
}

// Sign replaces the tip of a branch by the same commit with a signature that git
// makes with a key of SSH, and returns it.
func (r *Repo) Sign(branch, key string) string {
	r.t.Helper()
	args := []string{"-c", "gpg.format=ssh", "-c", "user.signingkey=" + key, "-c", "user.name=Ada Tester", "-c", "user.email=ada@example.org", "commit-tree", "-S", "-m", r.Git("log", "-1", "--format=%B", branch)}
	for p := range strings.FieldsSeq(r.Git("log", "-1", "--format=%P", branch)) {
		args = append(args, "-p", p)
	}
	id := r.Git(append(args, branch+"^{tree}")...)
	r.Branch(branch, id)
	return id
}

// SignedTag sets an annotated tag that git signs with a key of SSH.
func (r *Repo) SignedTag(name, commit, key string) {
	r.t.Helper()
	r.Git("-c", "gpg.format=ssh", "-c", "user.signingkey="+key, "tag", "-f", "-s", "-m", name, name, commit)
}
