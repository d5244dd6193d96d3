package wire

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
)

// Tree is the source as a renderer sees it. Every method takes several paths,
// because each call is a round trip to the parent; the results are in order.
// Paths are relative to the root of the repository; they are cleaned, and one
// that leads out of the root is an error of that path.
type Tree interface {
	Stat(paths ...string) []Stat
	List(paths ...string) []Listing
	Read(paths ...string) []Content
}

// Stat says what a path is. Err is a [*PathError].
type Stat struct {
	Dir bool
	Err error
}

// Listing is the entries of a directory, sorted by name.
type Listing struct {
	Entries []Entry
	Err     error
}

// Content is the bytes of a file. Several contents may share memory: they must
// not be changed.
type Content struct {
	Data []byte
	Err  error
}

// BrokenError is the panic of a Tree whose other end is gone or talks nonsense. No
// renderer can do anything about it; the worker ends with it.
type BrokenError struct{ Err error }

// Error is the cause.
func (b BrokenError) Error() string { return b.Err.Error() }

// PipeTree asks the parent on a pair of pipes.
type PipeTree struct {
	r     io.Reader
	w     io.Writer
	limit int64
}

// NewPipeTree returns a Tree over an open conversation. limit bounds each answer.
func NewPipeTree(r io.Reader, w io.Writer, limit int64) *PipeTree {
	return &PipeTree{r: r, w: w, limit: limit}
}

// maxPaths of one question, so that a question stays small and the answer's
// memory is not doubled for a huge directory.
const maxPaths = 1000

func (t *PipeTree) ask(op Op, paths []string) ([]Item, [][]byte) {
	items := make([]Item, 0, len(paths))
	data := make([][]byte, 0, len(paths))
	for chunk := range slices.Chunk(paths, maxPaths) {
		i, d, err := t.round(op, chunk)
		if err != nil {
			panic(BrokenError{err})
		}
		items, data = append(items, i...), append(data, d...)
	}
	return items, data
}

func (t *PipeTree) round(op Op, paths []string) ([]Item, [][]byte, error) {
	clean := make([]string, len(paths))
	for i, p := range paths {
		clean[i] = path.Clean(p)
	}
	if err := Write(t.w, Ask, Question{Op: op, Paths: clean}); err != nil {
		return nil, nil, err
	}
	f, err := Read(t.r, t.limit)
	if err != nil {
		return nil, nil, unexpected(err)
	}
	var a Answers
	if err := f.Decode(Answer, &a); err != nil {
		return nil, nil, err
	}
	if len(a.Items) != len(paths) {
		return nil, nil, &ProtocolError{Problem: fmt.Sprintf("%d answers to %d questions", len(a.Items), len(paths))}
	}
	data, err := Cut(f.Body, func(yield func(int64) bool) {
		for i := range a.Items {
			n := a.Items[i].Size
			if op != OpRead {
				n = 0
			}
			if !yield(n) {
				return
			}
		}
	})
	return a.Items, data, err
}

// Stat implements [Tree].
func (t *PipeTree) Stat(paths ...string) []Stat {
	items, _ := t.ask(OpStat, paths)
	out := make([]Stat, len(items))
	for i, it := range items {
		out[i] = Stat{Dir: it.Dir, Err: it.err()}
	}
	return out
}

// List implements [Tree].
func (t *PipeTree) List(paths ...string) []Listing {
	items, _ := t.ask(OpList, paths)
	out := make([]Listing, len(items))
	for i, it := range items {
		out[i] = Listing{Entries: it.Entries, Err: it.err()}
	}
	return out
}

// Read implements [Tree].
func (t *PipeTree) Read(paths ...string) []Content {
	items, data := t.ask(OpRead, paths)
	out := make([]Content, len(items))
	for i, it := range items {
		out[i] = Content{Data: data[i], Err: it.err()}
	}
	return out
}

func (it Item) err() error {
	if it.Error == nil {
		return nil // not a typed nil
	}
	return it.Error
}

// ProblemOf makes a problem of a failed read. file and line are the place that
// names the path.
func ProblemOf(err error, file string, line int) Problem {
	p := Problem{File: file, Line: line, Message: err.Error()}
	if pe, ok := errors.AsType[*PathError](err); ok {
		if file == "" {
			p.File = pe.Path
			p.Message = pe.Reason
		}
		if pe.Missing {
			p.Message = fmt.Sprintf("%q does not exist", pe.Path)
		}
	}
	return p
}
