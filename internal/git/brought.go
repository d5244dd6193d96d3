package git

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/belaydev/belay"
)

// Brought are commits that one commit builds on and another does not.
type Brought struct {
	// Commits are newest first.
	Commits []belay.Commit
	// Firsts are the first parents of the Commits; empty for a root.
	Firsts []string
	// More counts those that are not listed.
	More int
}

// walked is how many commits are read one by one before git is asked for all of
// them. Most pushes bring one.
const walked = 8

// Brought lists the commits that to has and from has not, newest first and most
// at most. With paths it is only those that changed something below one of them;
// with from "" it is to alone.
func (m *Mirror) Brought(ctx context.Context, from, to string, paths []string, most int) (Brought, error) {
	if (from != "" && !validID(from)) || !validID(to) {
		return Brought{}, fmt.Errorf("%q or %q is not a commit id", from, to)
	}
	if from == to {
		return Brought{}, nil
	}
	if len(paths) == 0 {
		if list, ok := m.walk(ctx, from, to); ok && len(list) <= most {
			return brought(list, 0), nil
		}
	}
	if from == "" {
		return Brought{}, fmt.Errorf("commit %s of %s cannot be read", to, m.display)
	}
	args := []string{"log", "-z", "--no-color", "--no-show-signature", "--encoding=UTF-8", "-" + strconv.Itoa(most+1), loggedFormat, "--end-of-options", from + ".." + to}
	out, err := m.output(ctx, append(args, below(paths...)...)...)
	if err != nil {
		return Brought{}, fmt.Errorf("commits of %s between %s and %s: %w", m.display, from, to, err)
	}
	list, err := parseLogged(out)
	if err != nil {
		return Brought{}, fmt.Errorf("commits of %s between %s and %s: %w", m.display, from, to, err)
	}
	if len(list) <= most {
		return brought(list, 0), nil
	}
	out, err = m.output(ctx, append([]string{"rev-list", "--count", "--end-of-options", from + ".." + to}, below(paths...)...)...)
	if err != nil {
		return Brought{}, fmt.Errorf("count the commits of %s between %s and %s: %w", m.display, from, to, err)
	}
	total, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return Brought{}, fmt.Errorf("count the commits of %s between %s and %s: %w", m.display, from, to, err)
	}
	return brought(list[:most], total-most), nil
}

// walk follows first parents from to to from, without a process, as long as there
// is no merge on the way. from "" ends it at once.
func (m *Mirror) walk(ctx context.Context, from, to string) ([]logged, bool) {
	var list []logged
	for id := to; len(list) < walked; {
		o, err := m.read(ctx, id, 1<<20, (*reader).contents)
		if err != nil || o.kind != "commit" {
			return nil, false
		}
		c := parseCommitLog(id, o.data)
		list = append(list, c)
		switch {
		case from == "" || len(c.parents) == 1 && c.parents[0] == from:
			return list, true
		case len(c.parents) != 1:
			return nil, false
		}
		id = c.parents[0]
	}
	return nil, false
}

func brought(list []logged, more int) Brought {
	credit(list)
	b := Brought{More: more}
	for i := range list {
		c, first := &list[i], ""
		if len(c.parents) > 0 {
			first = c.parents[0]
		}
		b.Commits, b.Firsts = append(b.Commits, c.Commit), append(b.Firsts, first)
	}
	return b
}

// LastChange finds the newest commit at or before commit that brought or removed
// a line below path that matches expr, a POSIX extended regular expression.
func (m *Mirror) LastChange(ctx context.Context, commit, path, expr string) (belay.Commit, bool, error) {
	id, found, err := m.EverDeclared(ctx, commit, path, expr)
	if err != nil || !found {
		return belay.Commit{}, false, err
	}
	list, ok := m.walk(ctx, "", id)
	if !ok {
		return belay.Commit{}, false, fmt.Errorf("commit %s of %s cannot be read", id, m.display)
	}
	credit(list)
	return list[0].Commit, true, nil
}
