package kustomize

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/belaydev/belay/internal/render/wire"
)

// source is the file system Kustomize sees: the Tree, with the root of the
// repository at "/". It asks for nothing twice and refuses every write.
type source struct {
	*wire.Memory
	// replaced are files with another content than the source has.
	replaced map[string][]byte
}

func newSource(tree wire.Tree) *source {
	return &source{Memory: wire.Remember(tree), replaced: map[string][]byte{}}
}

// rel is the path within the Tree.
func rel(p string) string {
	p = strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(p)), "/")
	if p == "" {
		return "."
	}
	return p
}

var errReadOnly = errors.New("the source is read-only")

func (s *source) Create(string) (filesys.File, error)   { return nil, errReadOnly }
func (s *source) Mkdir(string) error                    { return errReadOnly }
func (s *source) MkdirAll(string) error                 { return errReadOnly }
func (s *source) RemoveAll(string) error                { return errReadOnly }
func (s *source) WriteFile(string, []byte) error        { return errReadOnly }
func (s *source) Walk(string, filepath.WalkFunc) error  { return errors.New("not supported") }
func (s *source) Glob(pattern string) ([]string, error) { return nil, errors.New("not supported") }

// IsDir implements filesys.FileSystem.
func (s *source) IsDir(p string) bool {
	st := s.Stat(rel(p))[0]
	return st.Err == nil && st.Dir
}

// Exists implements filesys.FileSystem.
func (s *source) Exists(p string) bool { return s.Stat(rel(p))[0].Err == nil }

// ReadDir implements filesys.FileSystem.
func (s *source) ReadDir(p string) ([]string, error) {
	p = rel(p)
	l := s.List(p)[0]
	if l.Err != nil {
		return nil, l.Err
	}
	names := make([]string, len(l.Entries))
	for i, e := range l.Entries {
		names[i] = e.Name
	}
	return names, nil
}

// CleanedAbs implements filesys.FileSystem.
func (s *source) CleanedAbs(p string) (filesys.ConfirmedDir, string, error) {
	r := rel(p)
	st := s.Stat(r)[0]
	switch {
	case st.Err != nil:
		return "", "", st.Err
	case r == ".":
		return "/", "", nil
	case st.Dir:
		return filesys.ConfirmedDir("/" + r), "", nil
	}
	dir, name := path.Split("/" + r)
	return filesys.ConfirmedDir(path.Clean(dir)), name, nil
}

// ReadFile implements filesys.FileSystem.
func (s *source) ReadFile(p string) ([]byte, error) {
	r := rel(p)
	if b, ok := s.replaced[r]; ok {
		return slices.Clone(b), nil
	}
	c := s.Read(r)[0]
	if c.Err != nil {
		return nil, c.Err
	}
	return slices.Clone(c.Data), nil // Kustomize may write into what it is given
}

// Open implements filesys.FileSystem.
func (s *source) Open(p string) (filesys.File, error) {
	b, err := s.ReadFile(p)
	if err != nil {
		return nil, err
	}
	return &file{Reader: strings.NewReader(string(b)), name: path.Base(rel(p))}, nil
}

// file is an open file of a source.
type file struct {
	*strings.Reader
	name string
}

func (f *file) Close() error               { return nil }
func (f *file) Write([]byte) (int, error)  { return 0, errReadOnly }
func (f *file) Stat() (fs.FileInfo, error) { return f, nil }
func (f *file) Name() string               { return f.name }
func (f *file) Mode() fs.FileMode          { return 0o444 }
func (f *file) ModTime() time.Time         { return time.Time{} }
func (f *file) IsDir() bool                { return false }
func (f *file) Sys() any                   { return nil }

var _ io.ReadCloser = (*file)(nil)
