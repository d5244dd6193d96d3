package reconcile

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/belaydev/belay"
)

// People write revisions as they do for git: an abbreviated id, HEAD for the newest
// commit, and ~2 or ^ behind a revision for one before it.

var (
	stepsBack = regexp.MustCompile(`^([^~^]+)((?:~[0-9]*|\^1?)+)$`)
	oneStep   = regexp.MustCompile(`~[0-9]*|\^1?`)
)

// cutSteps takes "HEAD~2" apart: a revision, and how many commits before it.
func cutSteps(text string) (base string, back int) {
	m := stepsBack.FindStringSubmatch(text)
	if m == nil {
		return text, 0
	}
	for _, step := range oneStep.FindAllString(m[2], -1) {
		n := 1
		if step[0] == '~' && len(step) > 1 {
			var err error
			if n, err = strconv.Atoi(step[1:]); err != nil {
				return text, 0 // longer than any history
			}
		}
		back += n
	}
	return m[1], back
}

// commitAt is the commit that a revision means; "" for names of branches and tags
// alone, and for what no repository with commits is asked of. HEAD is where the ref
// stands.
func (e *Engine) commitAt(ctx context.Context, k refKey, text string) (commit string, err error) {
	base, back := cutSteps(text)
	switch base {
	case "HEAD", "@":
		rev, err := e.standsAt(ctx, k)
		if err != nil {
			return "", err
		}
		commit = rev.Commit
	default:
		if commit, err = e.findRevision(ctx, k.url, base); err != nil || commit == "" && back == 0 {
			return "", err
		}
		if commit == "" {
			rev, err := e.Sources.Resolve(ctx, k.url, base)
			if err != nil {
				return "", err
			}
			commit = rev.Commit
		}
	}
	for range back {
		before, err := e.Committer.Parent(ctx, k.url, commit)
		if errors.Is(err, errors.ErrUnsupported) {
			return "", nil // charts and artifacts have no history
		}
		if err != nil {
			return "", err
		}
		if before == "" {
			return "", &belay.Error{Code: belay.CodeInvalid, Origin: belay.Origin{Repo: k.url},
				Message: fmt.Sprintf("there is no %s: it would be before the first commit", text), Hint: "go back less far"}
		}
		commit = before
	}
	return commit, nil
}
