package source

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
)

// target is what a ref means.
type target struct {
	// Name of the branch or tag, or the commit.
	Name   string `json:"name"`
	Commit string `json:"commit"`
	// full is the name with refs/heads/ or refs/tags/, empty for a commit.
	full string
}

// resolveRef finds what a ref means among the branches and tags of a repository,
// in this order: HEAD (also for ""), a branch, a tag, a commit, a semver range
// over the tags. A branch hides a tag of the same name; refs/tags/NAME means the
// tag. commits finds the commits that an id, whole or abbreviated, may mean.
func resolveRef(repo string, refs git.Refs, ref string, commits func(id string) ([]string, error)) (target, error) {
	heads, tags := refs.Heads, refs.Tags
	switch {
	case isHead(ref):
		if refs.Head != "" && heads[refs.Head] != "" {
			return target{refs.Head, heads[refs.Head], "refs/heads/" + refs.Head}, nil
		}
		if refs.HeadCommit != "" {
			return target{"HEAD", refs.HeadCommit, ""}, nil
		}
		return target{}, noRef(repo, refs, ref, "has no branch that HEAD means", "name a branch")
	case strings.HasPrefix(ref, "refs/heads/"):
		if name := strings.TrimPrefix(ref, "refs/heads/"); heads[name] != "" {
			return target{name, heads[name], ref}, nil
		}
	case strings.HasPrefix(ref, "refs/tags/"):
		if name := strings.TrimPrefix(ref, "refs/tags/"); tags[name] != "" {
			return target{name, tags[name], ref}, nil
		}
	case heads[ref] != "":
		return target{ref, heads[ref], "refs/heads/" + ref}, nil
	case tags[ref] != "":
		return target{ref, tags[ref], "refs/tags/" + ref}, nil
	}
	if isCommitID(ref) {
		found, err := commits(strings.ToLower(ref))
		if err != nil {
			return target{}, err
		}
		switch len(found) {
		case 0: // perhaps a version: 1234567 is both
		case 1:
			return target{found[0], found[0], ""}, nil
		default:
			return target{}, noRef(repo, refs, ref, "has several commits whose ids begin with "+ref, "write more of the id")
		}
	}
	if c, err := semver.NewConstraint(ref); err == nil && ref != "" {
		if name := highest(tags, c); name != "" {
			return target{name, tags[name], "refs/tags/" + name}, nil
		}
		if !isCommitID(ref) {
			return target{}, noRef(repo, refs, ref, "has no tag in the range "+ref, versionHint(tags))
		}
	}
	return target{}, noRef(repo, refs, ref, "has no branch, tag or commit "+ref, "")
}

func isHead(ref string) bool { return ref == "" || ref == "HEAD" }

// isCommitID: 7 digits are the fewest that are taken for an abbreviation.
func isCommitID(ref string) bool {
	if len(ref) < 7 || len(ref) > 40 {
		return false
	}
	return strings.Trim(ref, "0123456789abcdefABCDEF") == ""
}

// highest is the tag with the highest version in a range. A prerelease counts
// only if the range names one.
func highest(tags map[string]string, c *semver.Constraints) string {
	var best *semver.Version
	name := ""
	for _, tag := range slices.Sorted(maps.Keys(tags)) {
		v, err := semver.StrictNewVersion(strings.TrimPrefix(tag, "v"))
		if err == nil && c.Check(v) && (best == nil || v.GreaterThan(best)) {
			best, name = v, tag
		}
	}
	return name
}

func versionHint(tags map[string]string) string {
	all, err := semver.NewConstraint(">=0.0.0-0")
	if err != nil {
		return ""
	}
	if h := highest(tags, all); h != "" {
		return "the highest version is " + h
	}
	return "no tag is a version such as v1.2.3"
}

func noRef(repo string, refs git.Refs, ref, message, hint string) error {
	if hint == "" {
		names := append(slices.Sorted(maps.Keys(refs.Heads)), slices.Sorted(maps.Keys(refs.Tags))...)
		switch near := nearest(ref, names); {
		case len(near) > 0:
			hint = "did you mean " + strings.Join(near, ", ") + "?"
		case len(refs.Heads) == 0:
			hint = "it is empty: push a branch"
		default:
			heads := slices.Sorted(maps.Keys(refs.Heads))
			if len(heads) > 5 {
				heads = append(heads[:5:5], "…")
			}
			hint = "its branches are " + strings.Join(heads, ", ")
		}
	}
	return &belay.Error{Code: belay.CodeNotFound, Origin: belay.Origin{Repo: repo},
		Message: fmt.Sprintf("repository %s: %s", repo, message), Hint: hint}
}

// nearest are up to three names that ref may be a slip of.
func nearest(ref string, names []string) []string {
	if len(ref) > 100 {
		return nil
	}
	type scored struct {
		name string
		d    int
	}
	var near []scored
	low := strings.ToLower(ref)
	for _, n := range names {
		if len(n) > 100 {
			continue
		}
		l := strings.ToLower(n)
		d := distance(low, l)
		if strings.HasSuffix(l, "/"+low) || l == "v"+low || len(low) > 3 && strings.HasPrefix(l, low) {
			d = 1
		}
		if d <= 1+len(ref)/4 {
			near = append(near, scored{n, d})
		}
	}
	slices.SortStableFunc(near, func(a, b scored) int { return a.d - b.d })
	var out []string
	for i := 0; i < len(near) && i < 3; i++ {
		out = append(out, near[i].name)
	}
	return out
}

// distance is the number of bytes to add, drop, replace or swap with the next.
func distance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := range len(a) {
		cur[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			cur[j+1] = min(prev[j]+cost, prev[j+1]+1, cur[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				cur[j+1] = min(cur[j+1], prev2[j-1]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

// commitsIn finds commits in a mirror.
func commitsIn(ctx context.Context, m *git.Mirror) func(string) ([]string, error) {
	return func(id string) ([]string, error) {
		if len(id) == 40 {
			if has, err := m.HasCommit(ctx, id); err != nil || !has {
				return nil, err
			}
			return []string{id}, nil
		}
		return m.Abbreviated(ctx, id)
	}
}
