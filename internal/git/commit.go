package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/belaydev/belay"
)

// The committer of a commit that names none, and the author of one by nobody.
const (
	committerName = "Belay"
	committerMail = "belay@localhost"
)

// MakeCommit makes a commit on top of another one, without a checkout, and
// returns its id. It is in the mirror alone until it is pushed.
func (m *Mirror) MakeCommit(ctx context.Context, c belay.NewCommit) (string, error) {
	if !validID(c.Parent) {
		return "", fmt.Errorf("%q is not a commit id", c.Parent)
	}
	if err := m.lock(ctx); err != nil { // nobody exchanges the directory meanwhile
		return "", err
	}
	defer m.unlock()
	id, err := m.makeCommit(ctx, c)
	if err != nil {
		return "", fmt.Errorf("make a commit in the mirror of %s: %w", m.display, err)
	}
	return id, nil
}

func (m *Mirror) makeCommit(ctx context.Context, c belay.NewCommit) (string, error) {
	dir, err := os.MkdirTemp(m.dir, "belay-index-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	index := "GIT_INDEX_FILE=" + filepath.Join(dir, "index")
	run := func(in []byte, env []string, args ...string) (string, error) {
		cmd := m.local(args...)
		cmd.Env = append(cmd.Env, index)
		cmd.Env = append(cmd.Env, env...)
		cmd.Stdin = bytes.NewReader(in)
		out, err := cmd.Output(ctx, 1<<20)
		return strings.TrimSpace(string(out)), err
	}
	if _, err := run(nil, nil, "read-tree", c.Parent); err != nil {
		return "", err
	}
	var removals, entries bytes.Buffer // a directory may take the place of a file
	for _, e := range c.Edits {
		if !validPath(e.Path) {
			return "", fmt.Errorf("%q is not a path in a repository", e.Path)
		}
		entry := e.Entry
		if entry == (belay.TreeEntry{}) {
			fmt.Fprintf(&removals, "0 %s\t%s\x00", strings.Repeat("0", len(c.Parent)), e.Path)
			continue
		}
		if entry.ID == "" {
			if entry.ID, err = run(e.Content, nil, "hash-object", "-w", "--no-filters", "--stdin"); err != nil {
				return "", err
			}
		}
		fmt.Fprintf(&entries, "%s %s\t%s\x00", entry.Mode, entry.ID, e.Path)
	}
	removals.Write(entries.Bytes())
	if _, err := run(removals.Bytes(), nil, "update-index", "-z", "--add", "--index-info"); err != nil {
		return "", err
	}
	tree, err := run(nil, nil, "write-tree")
	if err != nil {
		return "", err
	}
	name, mail := person(c.Author)
	byName, byMail := person(c.Committer)
	id, err := run([]byte(c.Message), []string{"GIT_AUTHOR_NAME=" + name, "GIT_AUTHOR_EMAIL=" + mail,
		"GIT_COMMITTER_NAME=" + byName, "GIT_COMMITTER_EMAIL=" + byMail}, "commit-tree", "-p", c.Parent, "-F", "-", tree)
	if err != nil || c.Sign == nil {
		return id, err
	}
	return m.signCommit(ctx, id, c.Sign)
}

// signCommit makes the commit anew with a signature. The one without stays in the
// mirror until it is tidied, and nobody sees it.
func (m *Mirror) signCommit(ctx context.Context, id string, sign func([]byte) ([]byte, error)) (string, error) {
	raw, err := m.local("cat-file", "commit", id).Output(ctx, maxRaw)
	if err != nil {
		return "", err
	}
	signed, err := sign(raw)
	if err != nil {
		return "", err
	}
	cmd := m.local("hash-object", "-t", "commit", "-w", "--stdin")
	cmd.Stdin = bytes.NewReader(signed)
	out, err := cmd.Output(ctx, 1<<10)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(out)), nil
}

// validPath refuses what no checkout should have to deal with.
func validPath(p string) bool {
	return p != "" && p != "." && path.Clean(p) == p && !path.IsAbs(p) && p != ".." && !strings.HasPrefix(p, "../") && !strings.ContainsRune(p, 0) &&
		!strings.EqualFold(strings.SplitN(p, "/", 2)[0], ".git")
}

// person takes "Name <address>" apart; git wants both.
func person(s string) (name, mail string) {
	name, mail, _ = strings.Cut(s, "<")
	name, mail = belay.AuthorText(name), belay.AuthorText(strings.TrimRight(strings.TrimSpace(mail), ">"))
	if name == "" {
		name = mail
	}
	if name == "" {
		return committerName, committerMail
	}
	if mail == "" {
		mail = strings.ReplaceAll(name, " ", ".") + "@localhost"
	}
	return name, mail
}

// Entry is what stands at a path of a commit; links are not followed.
func (m *Mirror) Entry(ctx context.Context, commit, p string) (belay.TreeEntry, error) {
	c, err := m.Commit(ctx, commit)
	if err != nil {
		return belay.TreeEntry{}, err
	}
	at := belay.TreeEntry{Mode: belay.ModeDir, ID: c.Tree}
	for name := range strings.SplitSeq(p, "/") {
		if name == "" || name == "." {
			continue
		}
		if !at.IsDir() {
			return belay.TreeEntry{}, nil
		}
		tree, err := m.Tree(ctx, at.ID)
		if err != nil {
			return belay.TreeEntry{}, err
		}
		e, ok := tree.Lookup(name)
		if !ok {
			return belay.TreeEntry{}, nil
		}
		at = belay.TreeEntry{Mode: modes[e.Type], ID: e.ID}
	}
	return at, nil
}

var modes = map[EntryType]string{TypeFile: belay.ModeFile, TypeExec: belay.ModeExec, TypeLink: belay.ModeLink, TypeSubmodule: belay.ModeSubmodule, TypeDir: belay.ModeDir}

// Children are the entries of a directory of a commit by name; none where there
// is no such directory.
func (m *Mirror) Children(ctx context.Context, commit, p string) (map[string]belay.TreeEntry, error) {
	at, err := m.Entry(ctx, commit, p)
	if err != nil || !at.IsDir() {
		return nil, err
	}
	tree, err := m.Tree(ctx, at.ID)
	if err != nil {
		return nil, err
	}
	out := make(map[string]belay.TreeEntry, len(tree.Entries))
	for _, e := range tree.Entries {
		out[e.Name] = belay.TreeEntry{Mode: modes[e.Type], ID: e.ID}
	}
	return out, nil
}

// Patch is a commit as "git am" takes it.
func (m *Mirror) Patch(ctx context.Context, commit string) ([]byte, error) {
	if !validID(commit) {
		return nil, fmt.Errorf("%q is not a commit id", commit)
	}
	out, err := m.output(ctx, "format-patch", "--stdout", "--binary", "--full-index", "--no-signature", "--no-renames", "-1", commit)
	if err != nil {
		return nil, fmt.Errorf("write commit %s of %s as a patch: %w", commit, m.display, err)
	}
	return out, nil
}

// Before is the newest commit at or before a time on the first-parent line that
// ends at commit; "" if all are younger.
func (m *Mirror) Before(ctx context.Context, commit string, seconds int64) (string, error) {
	lines, err := m.logOf(ctx, commit, nil, "rev-list", "--first-parent", "-1", fmt.Sprintf("--before=%d", seconds))
	if err != nil || len(lines) == 0 {
		return "", err
	}
	return lines[0], nil
}

// ErrMoved says that a branch is not where it was, so that a commit does not follow it.
var ErrMoved = errors.New("the branch has moved on")
