package source

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/belaydev/belay/internal/git"
)

// memStore is a tree in memory, for properties that need thousands of trees. Its
// keys are the paths of all that is not a directory.
type memStore map[string]memFile

type memFile struct {
	typ     git.EntryType
	content string
}

func memSnapshot(files memStore) *Snapshot { return &Snapshot{view{store: files, commit: "memory"}} }

func hash(s string) string {
	h := sha1.Sum([]byte(s))
	return hex.EncodeToString(h[:])
}

func (m memStore) root() node { return node{typ: git.TypeDir, id: m.treeID("."), path: "."} }

func (m memStore) treeID(dir string) string {
	var b strings.Builder
	for _, e := range m.entries(dir) {
		fmt.Fprintf(&b, "%c %s %s\n", e.Type, e.Name, e.ID)
	}
	return hash("tree" + b.String())
}

func (m memStore) entries(dir string) []git.Entry {
	byName := map[string]git.Entry{}
	for p, f := range m {
		if dir != "." {
			rest, ok := strings.CutPrefix(p, dir+"/")
			if !ok {
				continue
			}
			p = rest
		}
		name, below, isDir := strings.Cut(p, "/")
		_ = below
		if isDir {
			byName[name] = git.Entry{Name: name, Type: git.TypeDir}
		} else {
			byName[name] = git.Entry{Name: name, Type: f.typ, ID: hash(f.content)}
		}
	}
	out := slices.SortedFunc(maps.Values(byName), func(a, b git.Entry) int { return strings.Compare(a.Name, b.Name) })
	for i, e := range out {
		if e.Type == git.TypeDir {
			out[i].ID = m.treeID(join(dir, e.Name))
		}
	}
	return out
}

func (m memStore) child(dir node, name string) (node, error) {
	for _, e := range m.entries(dir.path) {
		if e.Name == name {
			return child(dir, e), nil
		}
	}
	return node{}, fs.ErrNotExist
}

func (m memStore) children(dir node) ([]git.Entry, error) { return m.entries(dir.path), nil }
func (m memStore) listDigest(dir node) (string, error) {
	return git.ListDigest(m.entries(dir.path)), nil
}
func (m memStore) content(n node) ([]byte, error) { return []byte(m[n.path].content), nil }
func (m memStore) size(n node) (int64, error)     { return int64(len(m[n.path].content)), nil }
func (m memStore) blobID(n node) (string, error)  { return n.id, nil }
