package belay

import (
	"fmt"
	"slices"
	"strings"
)

// UnfitPatch is the error for the first patch of an application that fits no object
// of any source; each list has the indexes of those that fit none of one source.
func UnfitPatch(app *Application, unfit ...[]int) error {
	if len(unfit) == 0 {
		return nil
	}
	for _, i := range unfit[0] {
		if !slices.ContainsFunc(unfit[1:], func(u []int) bool { return !slices.Contains(u, i) }) {
			return unfitPatch(app, i)
		}
	}
	return nil
}

func unfitPatch(app *Application, index int) *Error {
	p := app.Spec.Patches[index]
	e := &Error{Code: CodeInvalid, Application: app.Name, Origin: app.Origin,
		Hint: "correct the target, or what the patch itself names; names and namespaces count as they were rendered"}
	e.Message = fmt.Sprintf("spec.patches[%d] fits no object", index)
	switch {
	case p.Target != nil:
		e.Message += ": the target is " + p.Target.String()
	case p.File != "":
		e.Message += ": it stands in " + DefinedFile(p.File)
	}
	return e
}

// String names what of the target is set, for people.
func (t *PatchTarget) String() string {
	var out []string
	for _, f := range []struct{ name, value string }{
		{"group", t.Group}, {"version", t.Version}, {"kind", t.Kind}, {"name", t.Name}, {"namespace", t.Namespace},
		{"labelSelector", t.LabelSelector}, {"annotationSelector", t.AnnotationSelector},
	} {
		if f.value != "" {
			out = append(out, f.name+" "+f.value)
		}
	}
	if len(out) == 0 {
		return "empty, and there is no object"
	}
	return strings.Join(out, ", ")
}

// DefinedFile is a file of a definition as it was written, also where the first
// source got a name of its own; see [FirstSource].
func DefinedFile(file string) string { return strings.TrimPrefix(file, "$"+FirstSource+"/") }
