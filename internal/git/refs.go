package git

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/belaydev/belay/internal/xec"
)

// Refs are the branches and tags of a repository.
type Refs struct {
	// Head is the branch HEAD points at, without refs/heads/; empty when it is not
	// known or HEAD is detached.
	Head string
	// HeadCommit is the commit of HEAD, empty when it is not known.
	HeadCommit string
	// Heads are the branches with their commits.
	Heads map[string]string
	// Tags with the commits they mean: an annotated tag is followed to its commit.
	Tags map[string]string
}

// Equal says whether a and b have the same branches and tags.
func (a Refs) Equal(b Refs) bool { return maps.Equal(a.Heads, b.Heads) && maps.Equal(a.Tags, b.Tags) }

// parseRefs reads lines "id SEP name" with annotated tags followed by "name^{}",
// as ls-remote and show-ref write them.
func parseRefs(out []byte) Refs {
	r := Refs{Heads: map[string]string{}, Tags: map[string]string{}}
	for line := range strings.SplitSeq(string(out), "\n") {
		id, name, ok := strings.Cut(line, "\t")
		if !ok {
			id, name, ok = strings.Cut(line, " ")
		}
		if !ok {
			continue
		}
		if target, isRef := strings.CutPrefix(id, "ref: "); isRef {
			if name == "HEAD" {
				r.Head = strings.TrimPrefix(target, "refs/heads/")
			}
			continue
		}
		if !validID(id) || strings.ContainsFunc(name, unicode.IsControl) {
			continue // git makes no such name; a remote may claim to have one
		}
		if name == "HEAD" {
			r.HeadCommit = id
		} else if b, ok := strings.CutPrefix(name, "refs/heads/"); ok {
			r.Heads[b] = id
		} else if t, ok := strings.CutPrefix(name, "refs/tags/"); ok {
			r.Tags[strings.TrimSuffix(t, "^{}")] = id // the peeled line comes second and wins
		}
	}
	return r
}

// LsRemote asks the remote for its branches and tags. HEAD is asked for as well
// when head is true; then servers send all of their refs, so ask only when needed.
func (m *Mirror) LsRemote(ctx context.Context, head bool) (Refs, error) {
	ctx, cancel := withTimeout(ctx, m.o.ListTimeout)
	defer cancel()
	r, err := m.credentials(ctx)
	if err != nil {
		return Refs{}, m.explain(err, false)
	}
	defer r.close()
	args := []string{"ls-remote", "--quiet", "--heads", "--tags", "--", m.url}
	if head {
		args = []string{"ls-remote", "--quiet", "--symref", "--", m.url, "HEAD", "refs/heads/*", "refs/tags/*"}
	}
	c := r.command(m, args...)
	c.Env = append(c.Env, "GIT_DIR="+os.DevNull) // works beside a mirror that is damaged
	c.Dir = ""
	out, err := c.Output(ctx, maxOutput)
	if err != nil {
		return Refs{}, m.explain(err, r.given)
	}
	return parseRefs(out), nil
}

// LocalRefs are the branches and tags as of the last fetch.
func (m *Mirror) LocalRefs(ctx context.Context) (Refs, error) {
	r, ok := m.plainRefs(ctx)
	if !ok {
		out, err := m.output(ctx, "show-ref", "--dereference", "--heads", "--tags")
		if e, ok := errors.AsType[*xec.ExitError](err); ok && e.Code == 1 && e.Stderr == "" {
			err = nil // there are none
		}
		if err != nil {
			return Refs{}, fmt.Errorf("refs of the mirror of %s: %w", m.display, err)
		}
		r = parseRefs(out)
	}
	if b, err := os.ReadFile(filepath.Join(m.dir, "HEAD")); err == nil {
		if branch, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "ref: refs/heads/"); ok {
			r.Head, r.HeadCommit = branch, r.Heads[branch]
		}
	}
	return r, nil
}

// Abbreviated lists the commits whose ids begin with a prefix of 4 or more hex
// digits.
func (m *Mirror) Abbreviated(ctx context.Context, prefix string) ([]string, error) {
	prefix = strings.ToLower(prefix)
	if len(prefix) < 4 || !isHex(prefix) {
		return nil, fmt.Errorf("%q is not an abbreviated commit id", prefix)
	}
	out, err := m.output(ctx, "rev-parse", "--disambiguate="+prefix)
	if err != nil {
		return nil, fmt.Errorf("find commit %s in %s: %w", prefix, m.display, err)
	}
	var commits []string
	for id := range strings.FieldsSeq(string(out)) {
		if is, err := m.HasCommit(ctx, id); err != nil {
			return nil, err
		} else if is {
			commits = append(commits, id)
		}
	}
	return commits, nil
}
