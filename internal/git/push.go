package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/xec"
)

// Push puts a commit on a branch of the remote, which is made where there is
// none. It never forces: [ErrMoved] means that the branch has a commit by now
// that this one does not follow. Any other error is a [belay.Error].
func (m *Mirror) Push(ctx context.Context, commit, branch string) error {
	if !validID(commit) {
		return fmt.Errorf("%q is not a commit id", commit)
	}
	ctx, cancel := withTimeout(ctx, m.o.FetchTimeout)
	defer cancel()
	if err := m.lock(ctx); err != nil {
		return m.explain(err, false)
	}
	defer m.unlock()
	r, err := m.credentials(ctx)
	if err != nil {
		return m.explain(err, false)
	}
	defer r.close()
	var out bytes.Buffer
	c := r.command(m, "push", "--porcelain", "--no-verify", "--no-follow-tags", "--no-recurse-submodules", "--no-signed", "--", m.url, commit+":refs/heads/"+branch)
	c.Stdout = &out
	err = c.Run(ctx)
	if err == nil {
		return nil
	}
	return m.notPushed(err, out.String(), branch, r.given)
}

// CheckedOut says whether the remote is a repository on this machine in which a
// branch is checked out, so that git refuses to push to it.
func (m *Mirror) CheckedOut(ctx context.Context, branch string) (bool, error) {
	l, err := parseURL(m.url)
	if err != nil || l.scheme != "file" {
		return false, err
	}
	ctx, cancel := withTimeout(ctx, m.o.ListTimeout)
	defer cancel()
	r, err := m.credentials(ctx)
	if err != nil {
		return false, err
	}
	defer r.close()
	ask := func(args ...string) (string, error) {
		c := configured(r.env, settings, args...)
		c.Dir = l.path
		out, err := c.Output(ctx, 1<<20)
		return string(out), err
	}
	trees, err := ask("worktree", "list", "--porcelain")
	if err != nil || !slices.Contains(strings.Split(trees, "\n"), "branch refs/heads/"+branch) {
		return false, err
	}
	// It fails where nothing is set, which means to refuse.
	deny, _ := ask("config", "--get", "receive.denyCurrentBranch")
	deny = strings.ToLower(strings.TrimSpace(deny))
	return deny == "" || deny == "refuse" || deny == "true" || deny == "yes" || deny == "on" || deny == "1", nil
}

// notPushed says why a push failed.
func (m *Mirror) notPushed(err error, porcelain, branch string, given bool) error {
	x, isExit := errors.AsType[*xec.ExitError](err)
	for line := range strings.Lines(porcelain) {
		if !strings.HasPrefix(line, "!") {
			continue
		}
		why := line[strings.LastIndexByte(line, '\t')+1:]
		why = strings.TrimSpace(why)
		switch {
		case strings.Contains(why, "non-fast-forward"), strings.Contains(why, "fetch first"), strings.Contains(why, "stale info"),
			strings.Contains(why, "cannot lock ref"), strings.Contains(why, "failed to update ref"), strings.Contains(why, "incorrect old value"):
			return ErrMoved
		}
		e := &belay.Error{Code: belay.CodeDenied, Origin: belay.Origin{Repo: m.display}, Err: err,
			Message: fmt.Sprintf("repository %s refuses the push to %s: %s", m.display, branch, why),
			Hint:    "where the branch is protected, let the Project push to a branch of its own: spec.rollback.push: pullRequest"}
		switch {
		case strings.Contains(why, "currently checked out"):
			e.Message = fmt.Sprintf("repository %s is somebody's working copy, and %s is checked out there: git refuses to push to it", m.display, branch)
			e.Hint = "run there: git config receive.denyCurrentBranch updateInstead; or let the server follow a bare repository"
			return e
		case strings.Contains(why, "unstaged changes"), strings.Contains(why, "uncommitted changes"):
			e.Message = fmt.Sprintf("the working copy of repository %s has changes that are not committed: git refuses to push to it", m.display)
			e.Hint = "commit or stash them there"
			return e
		}
		if isExit {
			if said := remoteWords(x.Stderr); said != "" {
				e.Message += "; it says: " + said
			}
		}
		if strings.Contains(e.Message, "signature") || strings.Contains(e.Message, " signed") {
			e.Hint = "where it takes signed commits only, give it the key that signs them (belay signing-key); " + e.Hint
		}
		return e
	}
	explained := m.explain(err, given)
	be, ok := errors.AsType[*belay.Error](explained)
	if !ok || (be.Code != belay.CodeForbidden && be.Code != belay.CodeNotFound) {
		return explained
	}
	c := *be
	c.Message += " (to push)"
	if !given {
		c.Hint = "declare a Repository for this URL whose auth may push"
	} else {
		c.Hint = "check that the auth of its Repository may push"
	}
	return &c
}

// remoteWords are the first lines that the remote said.
func remoteWords(stderr string) string {
	var said []string
	for line := range strings.Lines(stderr) {
		if text, ok := strings.CutPrefix(line, "remote:"); ok && strings.TrimSpace(text) != "" {
			said = append(said, strings.TrimSpace(text))
		}
	}
	return strings.Join(said[:min(len(said), 3)], "; ")
}
