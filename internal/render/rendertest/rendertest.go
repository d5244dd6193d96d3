// Package rendertest has sources in memory for the tests of render and of the
// renderers below it.
package rendertest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"testing/fstest"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/wire"
)

// Files is a source in memory: path to content. It implements render.Files.
type Files map[string]string

// Parse makes Files of a txtar archive. Sections that begin with "want" are
// left out and come back by their names.
func Parse(archive string) (files Files, want map[string]string) {
	files, want = Files{}, map[string]string{}
	for _, f := range txtar.Parse([]byte(archive)).Files {
		if strings.HasPrefix(f.Name, "want") {
			want[f.Name] = string(f.Data)
			continue
		}
		files[f.Name] = string(f.Data)
	}
	return files, want
}

func (f Files) fs() fs.FS {
	m := fstest.MapFS{}
	for name, data := range f {
		m[name] = &fstest.MapFile{Data: []byte(data), Mode: 0o644}
	}
	return m
}

// ReadFile implements render.Files.
func (f Files) ReadFile(p string) ([]byte, error) {
	if data, ok := f[p]; ok {
		return []byte(data), nil
	}
	return fs.ReadFile(f.fs(), p)
}

// ReadDir implements render.Files.
func (f Files) ReadDir(p string) ([]fs.DirEntry, error) { return fs.ReadDir(f.fs(), p) }

// Stat implements render.Files.
func (f Files) Stat(p string) (fs.FileInfo, error) { return fs.Stat(f.fs(), p) }

// Digest implements render.Files.
func (f Files) Digest(kind belay.ReadKind, p string) (string, error) {
	switch kind {
	case belay.ReadFile:
		data, err := f.ReadFile(p)
		sum := sha256.Sum256(data)
		return hex.EncodeToString(sum[:8]), err
	case belay.ReadList:
		entries, err := f.ReadDir(p)
		var b strings.Builder
		for _, e := range entries {
			fmt.Fprintf(&b, "%s %v\n", e.Name(), e.IsDir())
		}
		sum := sha256.Sum256([]byte(b.String()))
		return hex.EncodeToString(sum[:8]), err
	}
	info, err := f.Stat(p)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "absent", nil
	case err != nil:
		return "", err
	case info.IsDir():
		return "dir", nil
	}
	return "file", nil
}

// Tree shows Files to a renderer in the same process.
func (f Files) Tree() wire.Tree { return tree{f.fs()} }

type tree struct{ fs fs.FS }

func pathError(p string, err error) error {
	if err == nil {
		return nil
	}
	return &wire.PathError{Path: p, Missing: errors.Is(err, fs.ErrNotExist), Reason: err.Error()}
}

// Stat implements wire.Tree.
func (t tree) Stat(paths ...string) []wire.Stat {
	out := make([]wire.Stat, len(paths))
	for i, p := range paths {
		info, err := fs.Stat(t.fs, path.Clean(p))
		out[i] = wire.Stat{Err: pathError(p, err)}
		if err == nil {
			out[i].Dir = info.IsDir()
		}
	}
	return out
}

// List implements wire.Tree.
func (t tree) List(paths ...string) []wire.Listing {
	out := make([]wire.Listing, len(paths))
	for i, p := range paths {
		entries, err := fs.ReadDir(t.fs, path.Clean(p))
		out[i].Err = pathError(p, err)
		for _, e := range entries {
			out[i].Entries = append(out[i].Entries, wire.Entry{Name: e.Name(), Dir: e.IsDir()})
		}
	}
	return out
}

// Read implements wire.Tree.
func (t tree) Read(paths ...string) []wire.Content {
	out := make([]wire.Content, len(paths))
	for i, p := range paths {
		data, err := fs.ReadFile(t.fs, path.Clean(p))
		out[i] = wire.Content{Data: data, Err: pathError(p, err)}
		if err != nil {
			info, err := fs.Stat(t.fs, path.Clean(p))
			out[i].Dir = err == nil && info.IsDir()
		}
	}
	return out
}

// Look implements wire.Tree.
func (t tree) Look(q wire.Question) wire.Seen {
	return wire.Seen{Stats: t.Stat(q.Stat...), Listings: t.List(q.List...), Contents: t.Read(q.Read...)}
}

// Golden writes an Output the way the golden files keep it: each manifest after
// its place, then warnings and problems.
func Golden(o *wire.Output) string {
	var b strings.Builder
	for _, d := range o.Docs {
		fmt.Fprintf(&b, "# %s", d.File)
		if d.Line > 0 {
			fmt.Fprintf(&b, ":%d", d.Line)
		}
		fmt.Fprintf(&b, "\n%s\n", d.Manifest)
	}
	for _, w := range o.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	for _, p := range o.Problems {
		fmt.Fprintf(&b, "problem: %s", p.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		fmt.Fprintf(&b, ": %s", p.Message)
		if p.Hint != "" {
			fmt.Fprintf(&b, " (%s)", p.Hint)
		}
		b.WriteByte('\n')
	}
	return b.String()
}
