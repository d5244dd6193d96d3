package render

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/wire"
)

// maxProblems is how many problems an error names at once.
const maxProblems = 10

// assembler makes objects and errors of what a worker answered. Nothing in the
// answer is believed: objects are parsed here, files must be inside the source.
type assembler struct {
	req     Request
	key     []byte
	kind    string
	objects []belay.Object
	errs    []*belay.Error
	// unsealer puts decrypted values into Secrets; nil when nothing is encrypted.
	unsealer *unsealer
}

func (a *assembler) origin(file string, line int) belay.Origin {
	if !fs.ValidPath(file) {
		file = ""
	}
	if file == "" || line < 0 {
		line = 0
	}
	return belay.Origin{Repo: a.req.Repo, Revision: a.req.Revision, File: file, Line: line}
}

func (a *assembler) fail(e *belay.Error) {
	e.Application = a.req.Application
	a.errs = append(a.errs, e)
}

// err sorts the errors by place and joins the first of them.
func (a *assembler) err() error {
	slices.SortStableFunc(a.errs, func(x, y *belay.Error) int {
		return cmp.Or(cmp.Compare(x.Origin.File, y.Origin.File), cmp.Compare(x.Origin.Line, y.Origin.Line))
	})
	var errs []error
	for _, e := range a.errs[:min(len(a.errs), maxProblems)] {
		errs = append(errs, e)
	}
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return errors.Join(errs...)
}

// take checks an answer. The error joins one [belay.Error] for each problem.
func (a *assembler) take(out *wire.Output) error {
	a.kind = out.Kind
	seen := make(map[belay.ObjectID]int, len(out.Docs))
	var secrets []string
	for i := range out.Docs {
		d := &out.Docs[i]
		at := a.origin(d.File, d.Line)
		o, err := belay.NewObject(d.Manifest, at)
		if errors.Is(err, belay.ErrLeftOut) {
			continue
		}
		if err != nil {
			a.fail(&belay.Error{Code: belay.CodeInvalid, Message: err.Error(), Hint: a.hint(), Origin: at})
			continue
		}
		if len(out.Problems) == 0 && !a.unseal(&o) {
			continue
		}
		if o.Sensitive() {
			if len(out.Problems) > 0 {
				secrets = append(secrets, belay.SecretValues(o.Raw)...)
			}
			o.Digest = belay.KeyedDigest(a.key, o.Raw)
		}
		id := o.ID
		if id.Namespace == "" {
			id.Namespace = a.req.Namespace
		}
		if first, ok := seen[id]; ok {
			other := a.objects[first].Origin
			where := other.String()
			if where == "" {
				where = "another place"
			}
			a.fail(&belay.Error{Code: belay.CodeInvalid, Object: id.String(), Origin: at,
				Message: "declared twice, also in " + where, Hint: "remove one of them"})
			continue
		}
		seen[id] = len(a.objects)
		a.objects = append(a.objects, o)
	}
	for _, p := range out.Problems {
		e := &belay.Error{Code: p.Code, Message: belay.Scrub(p.Message, secrets), Hint: belay.Scrub(p.Hint, secrets),
			Object: p.Object, Origin: a.origin(p.File, p.Line)}
		if e.Code == "" {
			e.Code = belay.CodeInvalid
		}
		if p.Definition {
			e.Origin = a.req.Definition
		}
		a.fail(e)
	}
	return a.err()
}

// unseal puts decrypted values into a Secret. An error of a file is told once.
func (a *assembler) unseal(o *belay.Object) bool {
	if a.unsealer == nil {
		return true
	}
	raw, err := a.unsealer.apply(o)
	if err == nil {
		o.Raw = raw
		return true
	}
	if fe, ok := errors.AsType[*fieldError](err); ok {
		a.fail(&belay.Error{Code: belay.CodeInvalid, Object: o.ID.String(), Origin: o.Origin, Message: fe.Error(), Hint: fe.hint})
		return false
	}
	e := belay.Error{Code: belay.CodeInternal, Message: "an encrypted file cannot be decrypted", Err: err}
	if be, ok := errors.AsType[*belay.Error](err); ok {
		e = *be
	}
	e.Origin = a.origin(e.Origin.File, e.Origin.Line)
	if !slices.ContainsFunc(a.errs, func(x *belay.Error) bool { return x.Message == e.Message && x.Origin == e.Origin }) {
		a.fail(&e)
	}
	return false
}

func (a *assembler) hint() string {
	if a.kind == "plain" {
		return "correct it, or leave the file out with spec.source.directory.exclude"
	}
	return ""
}

// limitError words a limit for people.
func (a *assembler) limitError(what, hint string, args ...any) error {
	return &belay.Error{Code: belay.CodeInvalid, Application: a.req.Application, Origin: a.origin(path.Clean(a.req.Source.Path), 0),
		Message: "rendering " + fmt.Sprintf(what, args...), Hint: hint}
}
