package reconcile

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// fakeCommitter knows the history of the repository, and makes no commits.
type fakeCommitter struct {
	Committer
	w *fakeWorld
}

func (c fakeCommitter) Find(_ context.Context, _, id string) (string, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if i := slices.IndexFunc(c.w.commits, func(f fakeCommit) bool { return strings.HasPrefix(f.id, id) }); i >= 0 {
		return c.w.commits[i].id, nil
	}
	return "", nil
}

func (c fakeCommitter) About(_ context.Context, url, commit string) (belay.Revision, error) {
	return belay.Revision{Repo: url, Commit: commit, Time: time.Now()}, nil
}

func (c fakeCommitter) Includes(context.Context, string, string, string) (bool, error) {
	return true, nil
}

func (c fakeCommitter) Branch(context.Context, string, string) (string, error) {
	return "", &belay.Error{Code: belay.CodeDenied, Message: "no commits are made here"}
}
