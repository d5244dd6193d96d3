package git_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/gittest"
)

// A repository of somebody else is pushed to and fetched from over every
// transport, and never by force.
func TestRemote(t *testing.T) {
	for _, tr := range transports(t) {
		t.Run(tr.name, func(t *testing.T) {
			ctx := t.Context()
			local := gittest.InitRepo(t, filepath.Join(t.TempDir(), "local.git"))
			auth := func(context.Context) (git.Auth, error) { return tr.auth, nil }
			r, err := git.NewRemote(local.Dir, tr.url, auth)
			if err != nil {
				t.Fatal(err)
			}
			there := gittest.OpenRepo(t, filepath.Join(tr.root, "repo.git"))
			first := local.Commit("ledger/a", "first", map[string]string{"a": "1"})
			if err := r.Push(ctx, first+":refs/heads/ledger/a"); err != nil {
				t.Fatal(err)
			}
			if got := there.Resolve("ledger/a"); got != first {
				t.Errorf("the branch is at %s, want %s", got, first)
			}
			theirs := there.Commit("ledger/a", "theirs", map[string]string{"a": "2"})
			ours := local.Commit("ledger/a", "ours", map[string]string{"a": "3"})
			if err := r.Push(ctx, ours+":refs/heads/ledger/a"); !errors.Is(err, git.ErrMoved) {
				t.Errorf("push of a branch that went another way: %v, want ErrMoved", err)
			}
			there.Branch("ledger/gone", theirs)
			const spec = "+refs/heads/ledger/*:refs/tracked/*"
			if err := r.Fetch(ctx, spec); err != nil {
				t.Fatal(err)
			}
			if got := local.Resolve("refs/tracked/a"); got != theirs || local.Resolve("refs/tracked/gone") != theirs || local.Resolve("ledger/a") != ours {
				t.Errorf("fetched %s, want %s beside %s", got, theirs, ours)
			}
			there.DeleteBranch("ledger/gone")
			if err := r.Fetch(ctx, spec); err != nil {
				t.Fatal(err)
			}
			if local.Resolve("refs/tracked/gone") != "" || local.Resolve("ledger/a") != ours {
				t.Error("a branch that is gone there is still here, or one that nobody named is not")
			}
			for name, wrong := range tr.wrong {
				bad, err := git.NewRemote(local.Dir, tr.url, func(context.Context) (git.Auth, error) { return wrong, nil })
				if err != nil {
					t.Fatal(err)
				}
				if err := bad.Push(ctx, first+":refs/heads/other"); err == nil || there.Resolve("other") != "" {
					t.Errorf("%s: pushed all the same (%v)", name, err)
				}
			}
		})
	}
}
