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
	// Look asks for different things in one round trip.
	Look(q Question) Seen
}

// Seen answers a Question, each part in its order.
type Seen struct {
	Stats    []Stat
	Listings []Listing
	Contents []Content
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
	// Dir is set with the Err of a directory.
	Dir bool
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

// Look implements [Tree].
func (t *PipeTree) Look(q Question) Seen {
	if q.Len() > maxPaths {
		return Seen{Stats: t.Stat(q.Stat...), Listings: t.List(q.List...), Contents: t.Read(q.Read...)}
	}
	seen, err := t.round(Question{Stat: clean(q.Stat), List: clean(q.List), Read: clean(q.Read)})
	if err != nil {
		panic(BrokenError{err})
	}
	return seen
}

func clean(paths []string) []string {
	out := make([]string, len(paths))
	for i, p := range paths {
		out[i] = path.Clean(p)
	}
	return out
}

func (t *PipeTree) round(q Question) (Seen, error) {
	if err := WriteQuestion(t.w, q); err != nil {
		return Seen{}, err
	}
	f, err := Read(t.r, t.limit)
	if err != nil {
		return Seen{}, unexpected(err)
	}
	a, err := f.Answers()
	if err != nil {
		return Seen{}, err
	}
	parts, err := a.cut(q, f.Body)
	if err != nil {
		return Seen{}, err
	}
	return a.seen(q, parts)
}

// reads are the answers about what was to be read. There must be one for each path.
func (a *Answers) reads(q Question) []Item { return a.Items[len(q.Stat)+len(q.List):] }

// size of the body that the answers describe; negative where that makes no sense.
func (a *Answers) size(q Question) int64 {
	var n int64
	for _, it := range a.reads(q) {
		if n += it.Size; it.Size < 0 || n < 0 {
			return -1
		}
	}
	return n
}

// cut splits the body of an answer into what was read.
func (a *Answers) cut(q Question, body []byte) ([][]byte, error) {
	if len(a.Items) != q.Len() {
		return nil, &ProtocolError{Problem: fmt.Sprintf("%d answers to %d questions", len(a.Items), q.Len())}
	}
	return Cut(body, func(yield func(int64) bool) {
		for _, it := range a.reads(q) {
			if !yield(it.Size) {
				return
			}
		}
	})
}

// seen lays answers, with what was read, beside their question.
func (a *Answers) seen(q Question, data [][]byte) (seen Seen, err error) {
	if len(a.Items) != q.Len() || len(data) != len(q.Read) {
		return seen, &ProtocolError{Problem: fmt.Sprintf("%d answers to %d questions", len(a.Items), q.Len())}
	}
	for _, it := range a.Items[:len(q.Stat)] {
		seen.Stats = append(seen.Stats, Stat{Dir: it.Dir, Err: it.err()})
	}
	for _, it := range a.Items[len(q.Stat) : len(q.Stat)+len(q.List)] {
		seen.Listings = append(seen.Listings, Listing{Entries: it.Entries, Err: it.err()})
	}
	for i, it := range a.reads(q) {
		seen.Contents = append(seen.Contents, Content{Data: data[i], Err: it.err(), Dir: it.Dir})
	}
	return seen, nil
}

// Stat implements [Tree].
func (t *PipeTree) Stat(paths ...string) (out []Stat) {
	for chunk := range slices.Chunk(paths, maxPaths) {
		out = append(out, t.Look(Question{Stat: chunk}).Stats...)
	}
	return out
}

// List implements [Tree].
func (t *PipeTree) List(paths ...string) (out []Listing) {
	for chunk := range slices.Chunk(paths, maxPaths) {
		out = append(out, t.Look(Question{List: chunk}).Listings...)
	}
	return out
}

// Read implements [Tree].
func (t *PipeTree) Read(paths ...string) (out []Content) {
	for chunk := range slices.Chunk(paths, maxPaths) {
		out = append(out, t.Look(Question{Read: chunk}).Contents...)
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
