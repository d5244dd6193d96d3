package render

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/wire"
)

// server answers a worker's questions about one source and notes them.
type server struct {
	files Files
	// left is how many more bytes may be read.
	left  int64
	limit int64
	reads map[readKey]string
	// sealer takes encrypted files apart, if there is one; sealed are those read.
	sealer Sealer
	sealed map[string]Sealed
}

type readKey struct {
	kind belay.ReadKind
	path string
}

// unknowable is the digest of a read whose real one could not be had. It equals
// no other, so that nothing that follows from the read is kept.
const unknowable = "unknown"

func newServer(files Files, limit int64) *server {
	return &server{files: files, left: limit, limit: limit, reads: map[readKey]string{}, sealed: map[string]Sealed{}}
}

// inputLimitError is a render that wants to read more than it may.
type inputLimitError struct{ limit int64 }

func (e *inputLimitError) Error() string { return fmt.Sprintf("read more than %s", size(e.limit)) }

// answer looks up each path. An error ends the render; what is wrong with one
// path is part of its answer.
func (s *server) answer(q wire.Question) (wire.Answers, [][]byte, error) {
	a := wire.Answers{Items: make([]wire.Item, 0, q.Len())}
	each := func(paths []string, look func(string) wire.Item) {
		for _, p := range paths {
			if fs.ValidPath(p) {
				a.Items = append(a.Items, look(p))
				continue
			}
			a.Items = append(a.Items, wire.Item{Error: &wire.PathError{Path: p, Reason: "is not a path inside the repository"}})
		}
	}
	var data [][]byte
	var broken error
	each(q.Stat, s.stat)
	each(q.List, s.list)
	each(q.Read, func(p string) wire.Item {
		if broken != nil {
			return wire.Item{}
		}
		item, b, err := s.read(p)
		data, broken = append(data, b), err
		return item
	})
	return a, data, broken
}

func (s *server) stat(p string) wire.Item {
	info, err := s.files.Stat(p)
	s.note(belay.ReadStat, p)
	if err != nil {
		return s.failed(p, err)
	}
	return wire.Item{Dir: info.IsDir()}
}

// typeOf is what a symlink leads to; that of a broken one is nothing in particular.
func (s *server) typeOf(p string) fs.FileMode {
	info, err := s.files.Stat(p)
	s.note(belay.ReadStat, p)
	if err != nil {
		return 0
	}
	return info.Mode().Type()
}

func (s *server) list(p string) wire.Item {
	entries, err := s.files.ReadDir(p)
	if err != nil {
		s.note(belay.ReadStat, p)
		return s.failed(p, err)
	}
	s.note(belay.ReadList, p)
	item := wire.Item{Entries: make([]wire.Entry, 0, len(entries))}
	for _, e := range entries {
		mode := e.Type()
		if mode&fs.ModeSymlink != 0 {
			// What it is follows from where it points; a broken one is reported
			// when somebody reads it.
			mode = s.typeOf(join(p, e.Name()))
		}
		// A directory whose files are not there is not the same as none: whoever
		// goes into it is told why.
		sub := mode&fs.ModeIrregular != 0
		item.Entries = append(item.Entries, wire.Entry{Name: e.Name(), Dir: mode.IsDir() || sub, Submodule: sub})
	}
	return item
}

func join(dir, name string) string {
	if dir == "." {
		return name
	}
	return dir + "/" + name
}

func (s *server) read(p string) (wire.Item, []byte, error) {
	b, err := s.files.ReadFile(p)
	if err != nil {
		s.note(belay.ReadStat, p)
		item := s.failed(p, err)
		if info, err := s.files.Stat(p); err == nil {
			item.Dir = info.IsDir()
		}
		return item, nil, nil
	}
	s.note(belay.ReadFile, p)
	if s.left -= int64(len(b)); s.left < 0 {
		return wire.Item{}, nil, &inputLimitError{s.limit}
	}
	if s.sealer != nil {
		switch sealed, err := s.sealer.Seal(p, b); {
		case err != nil:
			return s.failed(p, err), nil, nil
		case sealed != nil: // the worker never sees the file itself
			s.sealed[p] = sealed
			b = sealed.Text()
		}
	}
	return wire.Item{Size: int64(len(b))}, b, nil
}

func (s *server) failed(p string, err error) wire.Item {
	reason := err.Error()
	if e, ok := errors.AsType[*belay.Error](err); ok {
		reason = e.Message
		if e.Hint != "" {
			reason += " (" + e.Hint + ")"
		}
	} else if e, ok := errors.AsType[*fs.PathError](err); ok {
		reason = e.Err.Error()
	}
	return wire.Item{Error: &wire.PathError{Path: p, Missing: errors.Is(err, fs.ErrNotExist), Reason: reason}}
}

func (s *server) note(kind belay.ReadKind, p string) {
	key := readKey{kind, p}
	if _, ok := s.reads[key]; ok {
		return
	}
	d, err := s.files.Digest(kind, p)
	if err != nil || d == "" {
		d = unknowable
	}
	s.reads[key] = d
	t, ok := s.files.(Tracer)
	if !ok {
		return
	}
	trace, err := t.Trace(kind, p)
	if err != nil {
		return // the digest above says as much as can be known
	}
	for _, r := range trace {
		s.reads[readKey{r.Kind, r.Path}] = r.Digest
	}
}

// readSet is what was learned, sorted. That a path is there follows from having
// read it, so that is left out.
func (s *server) readSet() []belay.Read {
	out := make([]belay.Read, 0, len(s.reads))
	for k, d := range s.reads {
		if k.kind == belay.ReadStat && d != unknowable {
			_, file := s.reads[readKey{belay.ReadFile, k.path}]
			_, list := s.reads[readKey{belay.ReadList, k.path}]
			if file || list {
				continue
			}
		}
		out = append(out, belay.Read{Path: k.path, Kind: k.kind, Digest: d})
	}
	slices.SortFunc(out, func(a, b belay.Read) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind))
	})
	return out
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30 && n%(1<<30) == 0:
		return fmt.Sprintf("%d GiB", n>>30)
	case n >= 1<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
