package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/reconcile"
	"github.com/belaydev/belay/internal/source"
)

// commits fits the mirrors of a source.Hub to what the engine needs for commits.
type commits struct {
	*source.Hub
	signing *commitSigning
}

// commitTree is the tree of one commit of a mirror.
type commitTree struct {
	ctx    context.Context
	mirror *git.Mirror
	commit string
}

// Entry implements reconcile.CommitTree.
func (t commitTree) Entry(path string) (belay.TreeEntry, error) {
	return t.mirror.Entry(t.ctx, t.commit, path)
}

// Children implements reconcile.CommitTree.
func (t commitTree) Children(dir string) (map[string]belay.TreeEntry, error) {
	return t.mirror.Children(t.ctx, t.commit, dir)
}

// Tree implements reconcile.Committer.
func (c commits) Tree(ctx context.Context, url, commit string) (reconcile.CommitTree, error) {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return nil, err
	}
	return commitTree{ctx, m, commit}, nil
}

// Find implements reconcile.Committer.
func (c commits) Find(ctx context.Context, url, id string) (string, error) {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return "", err
	}
	if len(id) == 40 {
		if has, err := m.HasCommit(ctx, strings.ToLower(id)); err != nil || !has {
			return "", err
		}
		return strings.ToLower(id), nil
	}
	refs, err := m.LocalRefs(ctx)
	if err != nil || refs.Heads[id] != "" || refs.Tags[id] != "" {
		return "", err // a name such as 2024, which some id begins with as well
	}
	found, err := m.Abbreviated(ctx, id)
	switch {
	case err != nil || len(found) == 0:
		return "", err
	case len(found) > 1:
		return "", &belay.Error{Code: belay.CodeInvalid, Origin: belay.Origin{Repo: m.URL()},
			Message: fmt.Sprintf("repository %s has several commits whose ids begin with %s", m.URL(), id), Hint: "write more of the id"}
	}
	return found[0], nil
}

// Branch implements reconcile.Committer.
func (c commits) Branch(ctx context.Context, url, ref string) (string, error) {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return "", err
	}
	refs, err := m.LocalRefs(ctx)
	if err != nil {
		return "", err
	}
	name := strings.TrimPrefix(ref, "refs/heads/")
	if ref == "" || ref == "HEAD" {
		name = refs.Head
	}
	if refs.Heads[name] == "" {
		return "", nil
	}
	return name, nil
}

// About implements reconcile.Committer.
func (c commits) About(ctx context.Context, url, commit string) (belay.Revision, error) {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return belay.Revision{}, err
	}
	info, err := m.Commit(ctx, commit)
	if err != nil {
		return belay.Revision{}, noCommit(m, commit, err)
	}
	at, err := m.Landed(ctx, commit)
	if err != nil {
		return belay.Revision{}, err
	}
	return belay.Revision{Repo: m.URL(), Commit: commit, Author: info.AuthorName + " <" + info.AuthorEmail + ">", Subject: info.Subject, Time: at}, nil
}

func noCommit(m *git.Mirror, commit string, err error) error {
	if !errors.Is(err, git.ErrMissing) {
		return err
	}
	return &belay.Error{Code: belay.CodeNotFound, Err: err, Origin: belay.Origin{Repo: m.URL()}, Message: fmt.Sprintf("repository %s has no commit %s", m.URL(), commit)}
}

// Parent implements reconcile.Committer.
func (c commits) Parent(ctx context.Context, url, commit string) (string, error) {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return "", err
	}
	info, err := m.Commit(ctx, commit)
	if err != nil || len(info.Parents) == 0 {
		return "", err
	}
	return info.Parents[0], nil
}

// Includes implements reconcile.Committer.
func (c commits) Includes(ctx context.Context, url, head, commit string) (bool, error) {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return false, err
	}
	return m.IsAncestor(ctx, commit, head)
}

// Before implements reconcile.Committer.
func (c commits) Before(ctx context.Context, url, commit string, at time.Time) (string, error) {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return "", err
	}
	return m.Before(ctx, commit, at.Unix())
}

// Commit implements reconcile.Committer.
func (c commits) Commit(ctx context.Context, url string, n belay.NewCommit) (string, error) {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return "", err
	}
	n.Committer = c.signing.committer
	return m.MakeCommit(ctx, n)
}

// Push implements reconcile.Committer.
func (c commits) Push(ctx context.Context, url, commit, branch string) error {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return err
	}
	err = m.Push(ctx, commit, branch)
	if errors.Is(err, git.ErrMoved) {
		return reconcile.ErrMoved
	}
	return err
}

// CheckedOut implements reconcile.Committer.
func (c commits) CheckedOut(ctx context.Context, url, branch string) (bool, error) {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return false, err
	}
	return m.CheckedOut(ctx, branch)
}

// Patch implements reconcile.Committer.
func (c commits) Patch(ctx context.Context, url, commit string) (string, error) {
	m, err := c.Mirror(ctx, url)
	if err != nil {
		return "", err
	}
	b, err := m.Patch(ctx, commit)
	return string(b), err
}

// Signer implements reconcile.Committer.
func (c commits) Signer() (reconcile.CommitSigner, error) {
	key, err := c.signing.key()
	if err != nil {
		return reconcile.CommitSigner{}, err
	}
	return reconcile.CommitSigner{CommitSigner: c.signing.public(key), Sign: key.Commit}, nil
}
