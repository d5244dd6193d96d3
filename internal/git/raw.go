package git

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// maxRaw is the size of a commit or tag that is still read: messages are short.
const maxRaw = 1 << 20

// Raw reads a commit or an annotated tag as it is: what its signature is of.
func (m *Mirror) Raw(ctx context.Context, id string) (kind string, data []byte, err error) {
	o, err := m.read(ctx, id, maxRaw, (*reader).contents)
	if err != nil {
		return "", nil, fmt.Errorf("read %s: %w", id, err)
	}
	if o.kind != "commit" && o.kind != "tag" {
		return o.kind, nil, fmt.Errorf("read %s: it is a %s", id, o.kind)
	}
	return o.kind, o.data, nil
}

// TagObject is what a tag points at: of an annotated one that is no commit.
func (m *Mirror) TagObject(ctx context.Context, name string) (string, error) {
	out, err := m.output(ctx, "show-ref", "--verify", "--hash", "refs/tags/"+name)
	if err != nil {
		return "", fmt.Errorf("tag %s of the mirror of %s: %w", name, m.display, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Between lists the commits that one reaches and others do not, newest first; at
// most as many.
func (m *Mirror) Between(ctx context.Context, commit string, without []string, most int) ([]string, error) {
	args := []string{"rev-list", "--topo-order", "--max-count=" + strconv.Itoa(most), commit}
	for _, w := range without {
		args = append(args, "^"+w)
	}
	out, err := m.output(ctx, append(args, "--")...)
	if err != nil {
		return nil, fmt.Errorf("commits of the mirror of %s: %w", m.display, err)
	}
	return strings.Fields(string(out)), nil
}

// Line lists a commit and those before it, by first parents: where a branch stood.
func (m *Mirror) Line(ctx context.Context, commit string, most int) ([]string, error) {
	out, err := m.output(ctx, "rev-list", "--first-parent", "--max-count="+strconv.Itoa(most), commit, "--")
	if err != nil {
		return nil, fmt.Errorf("commits of the mirror of %s: %w", m.display, err)
	}
	return strings.Fields(string(out)), nil
}
