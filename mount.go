package belay

import (
	"encoding/hex"
	"strings"
)

// ChartURL is the one URL of a chart: that of the repository in a registry that
// holds it, or that of the Helm repository with the chart as its fragment.
// Without a chart it is repo itself.
func ChartURL(repo, chart string) string {
	switch {
	case chart == "":
		return repo
	case strings.HasPrefix(repo, "oci://"):
		return strings.TrimRight(repo, "/") + "/" + chart
	}
	return strings.TrimRight(repo, "/") + "#" + chart
}

// SplitChartURL undoes [ChartURL] for a Helm repository. chart is empty for
// every other URL.
func SplitChartURL(u string) (repo, chart string) {
	repo, chart, _ = strings.Cut(u, "#")
	return repo, chart
}

// mounts is where other trees are seen in the tree that an application is
// rendered from. No repository can have files there.
const mounts = ".belay/"

// Mount is another tree as it is seen in the tree that an application is
// rendered from. The path says all of it, so whoever meets the path, today or in
// what was remembered of an earlier render, can find the tree.
type Mount struct {
	// Source is the name of another source of the application; if it is empty, Repo
	// and Ref say which tree it is.
	Source string
	// Repo is a URL as in [Source], Chart a chart of it, Ref what to follow.
	Repo, Chart, Ref string
}

// Path of the root of the tree.
func (m Mount) Path() string {
	if m.Source != "" {
		return mounts + "sources/" + m.Source
	}
	return mounts + "remote/" + escape(m.Repo) + "@" + escape(m.Chart) + "@" + escape(m.Ref)
}

// SplitMount takes a path apart: the mount that it lies in, and where. ok is false for a
// path of the tree itself.
func SplitMount(path string) (m Mount, rest string, ok bool) {
	p, ok := strings.CutPrefix(path, mounts)
	if !ok {
		return m, path, false
	}
	kind, p, _ := strings.Cut(p, "/")
	name, rest, _ := strings.Cut(p, "/")
	if rest == "" {
		rest = "."
	}
	switch parts := strings.Split(name, "@"); {
	case kind == "sources" && name != "":
		return Mount{Source: name}, rest, true
	case kind == "remote" && len(parts) == 3 && parts[0] != "":
		for i, to := range []*string{&m.Repo, &m.Chart, &m.Ref} {
			if *to, ok = unescape(parts[i]); !ok {
				return Mount{}, path, false
			}
		}
		return m, rest, true
	}
	return m, path, false
}

// SourcePath is the path that a file of a definition has in the tree:
// "$NAME/path" lies in the source of that name.
func SourcePath(file string) string {
	if name, ok := strings.CutPrefix(file, "$"); ok {
		return mounts + "sources/" + name
	}
	return file
}

// escape leaves letters, digits, ".", "_" and "-" alone.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-':
			b.WriteByte(c)
		default:
			b.WriteString("%" + hex.EncodeToString([]byte{c}))
		}
	}
	return b.String()
}

func unescape(s string) (string, bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(s, "%")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		if len(after) < 2 {
			return "", false
		}
		c, err := hex.DecodeString(after[:2])
		if err != nil {
			return "", false
		}
		b.Write(c)
		s = after[2:]
	}
}
