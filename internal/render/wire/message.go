package wire

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/belaydev/belay"
)

// Limits are what a worker imposes on itself before it meets any input. The
// parent enforces time and output again from the outside.
type Limits struct {
	// Memory in bytes that the worker may hold.
	Memory int64 `json:"memory"`
	// Output is the largest Done frame, in bytes.
	Output int64 `json:"output"`
	// Deadline of one render, for information.
	Deadline time.Duration `json:"deadline"`
}

// Greeting is what a worker says once it is locked down.
type Greeting struct {
	// Sandbox describes the restrictions in force, for people.
	Sandbox string `json:"sandbox"`
}

// Job asks for one render.
type Job struct {
	Application string       `json:"application"`
	Source      belay.Source `json:"source"`
	Namespace   string       `json:"namespace,omitempty"`
	KubeVersion string       `json:"kubeVersion,omitempty"`
	APIVersions []string     `json:"apiVersions,omitempty"`
	// Patches and Variables change what was rendered, in that order.
	Patches   []belay.Patch    `json:"patches,omitempty"`
	Variables *belay.Variables `json:"variables,omitempty"`
}

// Question asks for several things at once, because each question is a round
// trip. Paths are slash-separated, clean and relative to the root of the
// repository, which is ".".
type Question struct {
	Stat []string
	List []string
	Read []string
}

// Len is the number of paths.
func (q Question) Len() int { return len(q.Stat) + len(q.List) + len(q.Read) }

// Answers has one answer for each path of a Question: those of Stat, of List, of Read.
type Answers struct{ Items []Item }

// Item is what is known of one path. Of one that was to be read, Size bytes of the
// body belong to it; Dir tells that it cannot be read because it is a directory.
type Item struct {
	Error   *PathError
	Dir     bool
	Size    int64
	Entries []Entry
}

// Entry is one name of a directory.
type Entry struct {
	Name string
	Dir  bool
	// Submodule is set for a directory whose files are not there.
	Submodule bool
}

// PathError says why a path could not be read. It travels on the wire, so it
// keeps of the cause only the text and whether the path is absent.
type PathError struct {
	Path    string
	Missing bool
	Reason  string
}

// Error names the path.
func (e *PathError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Reason) }

// Is makes a missing path an fs.ErrNotExist.
func (e *PathError) Is(target error) bool { return e.Missing && target == fs.ErrNotExist }

// Doc is one manifest that a render produced.
type Doc struct {
	// File it came from, relative to the root of the repository.
	File string
	// Line its first key stands on, 0 when not known.
	Line int
	// Size in bytes of the manifest in the frame's body.
	Size int64
	// Manifest is one JSON object. It travels in the body.
	Manifest json.RawMessage
}

// Problem is one thing wrong with the source. Its texts hold no secret values.
type Problem struct {
	Code    belay.Code `json:"code,omitempty"` // CodeInvalid when empty
	File    string     `json:"file,omitempty"`
	Line    int        `json:"line,omitempty"`
	Object  string     `json:"object,omitempty"`
	Message string     `json:"message"`
	Hint    string     `json:"hint,omitempty"`
	// Definition is set when the place is the definition of the application, which
	// the worker does not know.
	Definition bool `json:"definition,omitempty"`
}

// Output is the outcome of a render. With any Problem the Docs are incomplete.
type Output struct {
	// Kind of renderer: "plain", "kustomize" or "helm".
	Kind             string
	Docs             []Doc
	Problems         []Problem
	Warnings         []string
	UsesCapabilities bool
	// Unfit are the indexes of the job's patches that fit no object.
	Unfit []int
	// Retire is set when the process must not render anything else.
	Retire bool
}

// Add appends a manifest.
func (o *Output) Add(file string, line int, manifest []byte) {
	o.Docs = append(o.Docs, Doc{File: file, Line: line, Size: int64(len(manifest)), Manifest: manifest})
}

// Fail appends a problem.
func (o *Output) Fail(p Problem) { o.Problems = append(o.Problems, p) }

// Warn appends a warning.
func (o *Output) Warn(format string, args ...any) {
	o.Warnings = append(o.Warnings, fmt.Sprintf(format, args...))
}

// Size is the number of bytes of all manifests.
func (o *Output) Size() int64 {
	var n int64
	for i := range o.Docs {
		n += o.Docs[i].Size
	}
	return n
}

// WriteJob sends a Job frame with what [Ahead] answered.
func WriteJob(w io.Writer, j *Job, answers *Answers, data ...[]byte) error {
	var e encoder
	if err := j.encode(&e, answers); err != nil {
		return err
	}
	return send(w, JobFrame, e, data...)
}

// Job decodes a Job frame, and has known learn what came with it.
func (f Frame) Job(known *Memory) (*Job, error) {
	if err := f.due(JobFrame); err != nil {
		return nil, err
	}
	var j Job
	var a Answers
	d := decoder{rest: string(f.Head)}
	j.decode(&d, &a)
	if err := d.done(f.Type); err != nil {
		return nil, err
	}
	return &j, j.learn(known, &a, f.Body)
}

// WriteQuestion sends an Ask frame.
func WriteQuestion(w io.Writer, q Question) error {
	var e encoder
	q.encode(&e)
	return send(w, Ask, e)
}

// Question decodes an Ask frame.
func (f Frame) Question() (q Question, err error) {
	if err := f.due(Ask); err != nil {
		return q, err
	}
	d := decoder{rest: string(f.Head)}
	q.decode(&d)
	return q, d.done(f.Type)
}

// WriteAnswers sends an Answer frame with the files that belong to it.
func WriteAnswers(w io.Writer, a *Answers, data ...[]byte) error {
	var e encoder
	a.encode(&e)
	return send(w, Answer, e, data...)
}

// Answers decodes an Answer frame.
func (f Frame) Answers() (*Answers, error) {
	if err := f.due(Answer); err != nil {
		return nil, err
	}
	var a Answers
	d := decoder{rest: string(f.Head)}
	a.decode(&d)
	return &a, d.done(f.Type)
}

// WriteOutput sends a Done frame.
func WriteOutput(w io.Writer, o *Output) error {
	body := make([][]byte, len(o.Docs))
	for i := range o.Docs {
		o.Docs[i].Size = int64(len(o.Docs[i].Manifest))
		body[i] = o.Docs[i].Manifest
	}
	var e encoder
	if err := o.encode(&e); err != nil {
		return err
	}
	return send(w, Done, e, body...)
}

// Output decodes a Done frame.
func (f Frame) Output() (*Output, error) {
	if err := f.due(Done); err != nil {
		return nil, err
	}
	var o Output
	d := decoder{rest: string(f.Head)}
	o.decode(&d)
	if err := d.done(f.Type); err != nil {
		return nil, err
	}
	parts, err := Cut(f.Body, func(yield func(int64) bool) {
		for i := range o.Docs {
			if !yield(o.Docs[i].Size) {
				return
			}
		}
	})
	if err != nil {
		return nil, err
	}
	for i := range o.Docs {
		o.Docs[i].Manifest = parts[i]
	}
	return &o, nil
}
