package source

import (
	"context"
	"errors"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

// The part of a follower that a Git repository answers from its mirror.

func (r *repo) is(url string) bool { return r.key == git.Key(url) }

func (r *repo) hasLooked() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended > 0
}

// resolve finds what a ref means now at the remote, followed or not.
func (r *repo) resolve(ctx context.Context, _, ref string) (belay.Revision, error) {
	f, err := r.resolveNow(ctx, ref)
	r.mu.Lock()
	defer r.mu.Unlock()
	rev := belay.Revision{Repo: r.display(), Ref: ref}
	f.describe(&rev)
	return rev, err
}

func (r *repo) resolveNow(ctx context.Context, ref string) (*finding, error) {
	release, err := acquire(ctx, r.turn)
	if err != nil {
		return nil, err
	}
	defer release()
	f, err := r.lookAtRemote(ctx, ref)
	if f != nil {
		return f, f.err
	}
	return nil, err
}

// snapshot gives the tree of a commit, which is looked for at the remote when it
// is not here.
func (r *repo) snapshot(ctx context.Context, _, commit string) (*Snapshot, error) {
	m, err := r.open(ctx)
	if err != nil {
		return nil, err
	}
	s, err := newSnapshot(ctx, m, commit, r.heal)
	if errors.Is(err, git.ErrMissing) && !errors.Is(err, git.ErrBroken) {
		if err := m.FetchCommit(ctx, commit); err != nil {
			return nil, err
		}
		s, err = newSnapshot(ctx, m, commit, r.heal)
	}
	if err != nil {
		if _, ok := errors.AsType[*belay.Error](err); !ok {
			code := belay.CodeUnavailable
			if errors.Is(err, git.ErrMissing) {
				code = belay.CodeNotFound
			}
			err = &belay.Error{Code: code, Err: err, Origin: belay.Origin{Repo: m.URL(), Revision: commit},
				Message: "repository " + m.URL() + ": " + err.Error()}
		}
		return nil, err
	}
	return s, nil
}
