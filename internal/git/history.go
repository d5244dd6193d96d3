package git

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/belaydev/belay/internal/xec"
)

// nearby is how many commits are read one by one before git is asked to compare
// histories: a push brings a few, and a git that is asked costs more than those.
const nearby = 16

// near says whether a is among the commits just before b.
func (m *Mirror) near(ctx context.Context, a, b string) bool {
	seen, next := map[string]bool{b: true}, []string{b}
	for n := 0; n < nearby && len(next) > 0; n++ {
		if next[0] == a {
			return true
		}
		c, err := m.Commit(ctx, next[0])
		if next = next[1:]; err != nil {
			return false // git will say what is wrong
		}
		for _, p := range c.Parents {
			if !seen[p] {
				seen[p] = true
				next = append(next, p)
			}
		}
	}
	return slices.Contains(next, a)
}

// IsAncestor says whether commit a is b or one that b builds on.
func (m *Mirror) IsAncestor(ctx context.Context, a, b string) (bool, error) {
	if !validID(a) || !validID(b) {
		return false, fmt.Errorf("%q or %q is not a commit id", a, b)
	}
	if m.near(ctx, a, b) {
		return true, nil
	}
	_, err := m.output(ctx, "merge-base", "--is-ancestor", a, b)
	if e, ok := errors.AsType[*xec.ExitError](err); ok && e.Code == 1 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("compare %s and %s in %s: %w", a, b, m.display, err)
	}
	return true, nil
}

// logArgs follow every line of history: a line that came with one parent of a
// merge and left with another stood there all the same.
var logArgs = []string{"log", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--full-history", "--text"}

// passes are asked in turn: ordinary commits first, then also merges, compared
// with each of their parents, for a line that came or went in a merge itself.
var passes = [][]string{logArgs, append(slices.Clip(logArgs), "-m")}

// EverDeclared says whether a line that matches expr, a POSIX extended regular
// expression, ever stood below path in commit or its history, and names the
// newest commit that brought or removed such a line.
func (m *Mirror) EverDeclared(ctx context.Context, commit, path, expr string) (string, bool, error) {
	for _, args := range passes {
		found, err := m.log(ctx, commit, path, append(slices.Clip(args), "-1", "--format=%H", "-G"+expr)...)
		if err != nil {
			return "", false, err
		}
		if len(found) > 0 {
			return found[0], true, nil
		}
	}
	return "", false, nil
}

// removalCandidates bounds how many commits that touch a line are looked at.
const removalCandidates = 64

// Removal finds the newest commit at or before commit after which no line below
// path matches expr, and the parent of it that still has one. It is not found
// when commit itself has such a line, or none ever stood there.
func (m *Mirror) Removal(ctx context.Context, commit, path, expr string) (removed, parent string, found bool, err error) {
	if has, err := m.grep(ctx, commit, path, expr); err != nil || has {
		return "", "", false, err
	}
	for _, args := range passes {
		args = append(slices.Clip(args), "-"+strconv.Itoa(removalCandidates), "--format=%H %P", "-G"+expr)
		lines, err := m.log(ctx, commit, path, args...)
		if err != nil {
			return "", "", false, err
		}
		for _, line := range lines {
			ids := strings.Fields(line)
			for _, p := range ids[1:] {
				if has, err := m.grep(ctx, p, path, expr); err != nil {
					return "", "", false, err
				} else if has {
					return ids[0], p, true, nil
				}
			}
		}
	}
	return "", "", false, nil
}

// grep says whether a line below path matches at a commit.
func (m *Mirror) grep(ctx context.Context, commit, path, expr string) (bool, error) {
	if !validID(commit) {
		return false, fmt.Errorf("%q is not a commit id", commit)
	}
	args := []string{"grep", "--quiet", "--text", "--no-textconv", "-E", "-e", expr, commit}
	_, err := m.output(ctx, append(args, below(path)...)...)
	if e, ok := errors.AsType[*xec.ExitError](err); ok && e.Code == 1 {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("search %s in %s: %w", commit, m.display, err)
	}
	return true, nil
}

// FileHistory lists the commits, newest first and max at most, that changed path
// or something below it, going back from commit.
func (m *Mirror) FileHistory(ctx context.Context, commit, path string, max int) ([]string, error) {
	return m.PathsHistory(ctx, commit, []string{path}, max)
}

// PathsHistory is FileHistory of several paths together.
func (m *Mirror) PathsHistory(ctx context.Context, commit string, paths []string, max int) ([]string, error) {
	return m.logOf(ctx, commit, paths, "log", "--no-color", "-"+strconv.Itoa(max), "--format=%H")
}

func (m *Mirror) log(ctx context.Context, commit, path string, args ...string) ([]string, error) {
	return m.logOf(ctx, commit, []string{path}, args...)
}

func (m *Mirror) logOf(ctx context.Context, commit string, paths []string, args ...string) ([]string, error) {
	if !validID(commit) {
		return nil, fmt.Errorf("%q is not a commit id", commit)
	}
	args = append(append([]string(nil), args...), "--end-of-options", commit)
	out, err := m.output(ctx, append(args, below(paths...)...)...)
	if err != nil {
		return nil, fmt.Errorf("history of %s in %s: %w", strings.Join(paths, ", "), m.display, err)
	}
	var lines []string
	for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// below limits a command to paths; "" and "." are everything.
func below(paths ...string) []string {
	out := []string{"--"}
	for _, p := range paths {
		if p = strings.Trim(p, "/"); p == "" || p == "." {
			return []string{"--"}
		}
		out = append(out, p)
	}
	return out
}
