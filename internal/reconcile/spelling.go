package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

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

// spelling finds out which commit people mean.
type spelling struct {
	sources   Sources
	committer Committer
}

func (e *Engine) spelling() spelling { return spelling{e.Sources, e.Committer} }

// isNewest says whether a revision is another word for where a ref stands.
func isNewest(base string) bool { return base == "HEAD" || base == "@" }

// RevisionOf is what people mean by a revision of a repository, as "belay rollback"
// takes it, after a look at the remote. HEAD is where ref stands.
func RevisionOf(ctx context.Context, sources Sources, committer Committer, url, ref, text string) (belay.Revision, error) {
	base, _ := cutSteps(text)
	short := abbreviates(base) && len(base) < 7 // sources complete the longer ones
	if committer == nil || base == text && !isNewest(base) && !short {
		return sources.Resolve(ctx, url, text)
	}
	// Commits are counted, and ids completed, from what is here. That some other ref
	// is not there, or means nothing, does not matter.
	if err := sources.Check(ctx, url); err != nil && belay.CodeOf(err) == belay.CodeUnavailable {
		return belay.Revision{Repo: url, Ref: text}, err
	}
	commit, err := spelling{sources, committer}.commitAt(ctx, refKey{url: url, ref: ref}, text)
	if err != nil {
		return belay.Revision{Repo: url, Ref: text}, err
	}
	return sources.Resolve(ctx, url, cmp.Or(commit, text))
}

// commitAt is the commit that a revision means; "" for names of branches and tags
// alone, and for what no repository with commits is asked of. HEAD is where the ref
// stands.
func (s spelling) commitAt(ctx context.Context, k refKey, text string) (commit string, err error) {
	base, back := cutSteps(text)
	if isNewest(base) {
		rev, err := standsAt(ctx, s.sources, k)
		if err != nil {
			return "", err
		}
		commit = rev.Commit
	} else {
		if commit, err = s.find(ctx, k.url, base); err != nil || commit == "" && base == text {
			return "", err
		}
		if commit == "" {
			rev, err := s.sources.Resolve(ctx, k.url, base)
			if err != nil {
				return "", err
			}
			commit = rev.Commit
		}
	}
	for range back {
		before, err := s.committer.Parent(ctx, k.url, commit)
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

// abbreviates says whether text may be the beginning of a commit's id.
func abbreviates(text string) bool {
	return len(text) >= 4 && strings.Trim(strings.ToLower(text), "0123456789abcdef") == ""
}

// find is a commit that is here, by its id; "" for anything else.
func (s spelling) find(ctx context.Context, url, id string) (string, error) {
	if strings.HasPrefix(id, "sha256:") {
		return id, nil
	}
	if !abbreviates(id) {
		return "", nil
	}
	commit, err := s.committer.Find(ctx, url, id)
	if errors.Is(err, errors.ErrUnsupported) {
		return "", nil
	}
	return commit, err
}
