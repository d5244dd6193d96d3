package reconcile

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/belaydev/belay"
)

// ErrMoved is the error of [Committer.Push] for a branch that has a commit by
// now which the pushed one does not follow.
var ErrMoved = errors.New("the branch has moved on")

// Committer makes commits in the Git repositories that are followed. Its methods
// but Push answer from what is here. For charts and artifacts their error is
// [errors.ErrUnsupported].
type Committer interface {
	// Tree is the tree of a commit.
	Tree(ctx context.Context, url, commit string) (CommitTree, error)
	// Find is the commit with an id, whole or abbreviated; "" where there is none, and
	// where a branch or tag has the abbreviation for a name.
	Find(ctx context.Context, url, id string) (commit string, err error)
	// Branch is the branch that a ref means; "" for what is no branch.
	Branch(ctx context.Context, url, ref string) (string, error)
	// About says who made a commit and when it came into being.
	About(ctx context.Context, url, commit string) (belay.Revision, error)
	// Parent is the first parent of a commit; "" for the first commit.
	Parent(ctx context.Context, url, commit string) (string, error)
	// Includes says whether a commit is another one or one that it builds on.
	Includes(ctx context.Context, url, head, commit string) (bool, error)
	// Before is the newest commit at or before a time in the line of history that
	// ends at a commit; "" where there is none.
	Before(ctx context.Context, url, commit string, at time.Time) (string, error)
	// Commit makes a commit that nobody sees before it is pushed.
	Commit(ctx context.Context, url string, c belay.NewCommit) (id string, err error)
	// Push puts a commit on a branch, without force.
	Push(ctx context.Context, url, commit, branch string) error
	// CheckedOut says whether the repository refuses pushes to a branch because it is
	// on this machine and somebody has the branch checked out.
	CheckedOut(ctx context.Context, url, branch string) (bool, error)
	// Patch is a commit as "git am" takes it.
	Patch(ctx context.Context, url, commit string) (string, error)
	// Signer signs commits; its error says why none can be signed now.
	Signer() (CommitSigner, error)
}

// CommitSigner signs commits.
type CommitSigner struct {
	belay.CommitSigner
	// Sign makes of a raw commit one with a signature.
	Sign func(raw []byte) (signed []byte, err error)
}

// Deployments tells what is on the record of deployments.
type Deployments interface {
	// Deployments are those that a query chooses, newest first; next is where the
	// page after begins.
	Deployments(ctx context.Context, q belay.RecordQuery) (found []belay.Deployment, next string, err error)
	// Deployment is the one with an ID. The error's code is CodeNotFound where there
	// is none.
	Deployment(ctx context.Context, id string) (belay.Deployment, error)
}

// deploymentsOf are the newest deployments of an application; none without a record.
func (e *Engine) deploymentsOf(ctx context.Context, application string, most int) ([]belay.Deployment, error) {
	if e.Deployments == nil {
		return nil, nil
	}
	found, _, err := e.Deployments.Deployments(ctx, belay.RecordQuery{Applications: []string{application}, Limit: most})
	return slices.DeleteFunc(found, func(d belay.Deployment) bool { return d.Revision == "" }), err // those only took something away
}
