// Package patch applies the patches of an application to what was rendered, with
// the code and the meaning of Kustomize's patches field.
//
// It must not know how the objects came to be. Like Kustomize it relies on
// process-wide knowledge of kinds, so one process patches one application at a time.
package patch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"strings"

	"sigs.k8s.io/kustomize/api/filters/patchjson6902"
	"sigs.k8s.io/kustomize/api/provider"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/kustomize/kyaml/resid"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

// Apply applies the patches of the job, in order. Objects keep their place; one
// that a patch deletes is left out. A patch that fits nothing is noted in Unfit: it
// may be meant for another source of the application.
func Apply(tree wire.Tree, job wire.Job, out *wire.Output) {
	if len(job.Patches) == 0 {
		return
	}
	s := newSet(job, out)
	for i, text := range s.read(tree) {
		if len(out.Problems) > 0 {
			break
		}
		fits, p := s.apply(&job.Patches[i], text)
		if p != nil {
			s.fail(i, *p)
		} else if !fits {
			out.Unfit = append(out.Unfit, i)
		}
	}
	if len(out.Problems) == 0 {
		s.write()
	}
}

// set is the objects of an application while they are patched.
type set struct {
	job     wire.Job
	out     *wire.Output
	objects []object
}

type object struct {
	res     *resource.Resource // nil for what is no object, which is told later
	changed bool
}

func newSet(job wire.Job, out *wire.Output) *set {
	s := &set{job: job, out: out, objects: make([]object, len(out.Docs))}
	factory := provider.NewDefaultDepProvider().GetResourceFactory()
	for i := range out.Docs {
		if r, err := factory.FromBytes(out.Docs[i].Manifest); err == nil {
			s.objects[i].res = r
		}
	}
	return s
}

// read gets the text of each patch.
func (s *set) read(tree wire.Tree) [][]byte {
	texts := make([][]byte, len(s.job.Patches))
	var files []string
	var of []int
	for i, p := range s.job.Patches {
		if p.File == "" {
			texts[i] = []byte(p.Patch)
			continue
		}
		files, of = append(files, belay.SourcePath(p.File)), append(of, i)
	}
	if len(files) == 0 {
		return texts
	}
	for k, c := range tree.Read(files...) {
		if i := of[k]; c.Err != nil {
			p := wire.ProblemOf(c.Err, "the definition", 0)
			p.File, p.Definition = "", true
			if errors.Is(c.Err, fs.ErrNotExist) {
				p.Message = fmt.Sprintf("%q does not exist", belay.DefinedFile(s.job.Patches[i].File))
			}
			p.Message = fmt.Sprintf("spec.patches[%d].file: %s", i, p.Message)
			s.out.Fail(p)
		} else {
			texts[i] = c.Data
		}
	}
	return texts
}

// fail places a problem in the file of the patch, or in the definition.
func (s *set) fail(i int, p wire.Problem) {
	if f := s.job.Patches[i].File; f != "" {
		p.File = belay.SourcePath(f)
	} else {
		p.Definition, p.Line = true, 0
	}
	p.Message = fmt.Sprintf("spec.patches[%d]: %s", i, p.Message)
	s.out.Fail(p)
}

// apply applies one patch. It reports whether it fits any object.
func (s *set) apply(p *belay.Patch, text []byte) (fits bool, problem *wire.Problem) {
	defer func() {
		if r := recover(); r != nil { // the text of a panic may repeat values
			problem = &wire.Problem{Message: fmt.Sprintf("Kustomize gave up on this patch (%T)", r)}
		}
	}()
	merges, operations, problem := parse(text)
	if problem != nil {
		return false, problem
	}
	if operations && p.Target == nil {
		return false, &wire.Problem{Message: "a JSON patch does not say what it is for", Hint: "add a target with kind and name"}
	}
	if p.Target == nil {
		fits = true
		for _, m := range merges {
			one, problem := s.mergeNamed(m, text)
			if problem != nil {
				return false, problem
			}
			fits = fits && one
		}
		return fits, nil
	}
	if len(merges) > 1 {
		return false, &wire.Problem{Line: merges[1].line, Message: "a patch with a target must be one document",
			Hint: "make it several patches, or leave the target out"}
	}
	chosen, problem := s.choose(p.Target)
	if problem != nil {
		return false, problem
	}
	for _, o := range chosen {
		was := o.identity()
		var err error
		if operations {
			err = o.res.ApplyFilter(patchjson6902.Filter{Patch: string(text)})
		} else {
			err = o.merge(merges[0])
		}
		if err != nil {
			return false, refused(was, err, text)
		}
		o.changed = true
	}
	return len(chosen) > 0, nil
}

// merging is one strategic merge patch.
type merging struct {
	line                              int
	fields                            map[string]any
	apiVersion, kind, name, namespace string
}

// parse tells a JSON patch from strategic merge patches.
func parse(text []byte) (merges []merging, operations bool, problem *wire.Problem) {
	docs := manifest.Split(text)
	if len(docs) == 0 {
		return nil, false, &wire.Problem{Message: "the patch is empty"}
	}
	for _, d := range docs {
		j, err := d.JSON()
		if err != nil {
			p := manifest.Problem("", err)
			return nil, false, &p
		}
		var m map[string]any
		switch {
		case len(j) == 0:
			continue
		case j[0] == '[' && len(docs) == 1:
			return nil, true, nil
		case json.Unmarshal(j, &m) != nil:
			return nil, false, &wire.Problem{Line: d.Line, Message: "a patch is a partial object, or one list of JSON patch operations"}
		}
		mg := merging{line: d.Line, fields: m}
		mg.apiVersion, _ = m["apiVersion"].(string)
		mg.kind, _ = m["kind"].(string)
		if meta, ok := m["metadata"].(map[string]any); ok {
			mg.name, _ = meta["name"].(string)
			mg.namespace, _ = meta["namespace"].(string)
		}
		merges = append(merges, mg)
	}
	return merges, false, nil
}

// mergeNamed applies a merge patch to the object that it names. Where one of the
// two names no namespace, that is the namespace of the application.
func (s *set) mergeNamed(m merging, text []byte) (bool, *wire.Problem) {
	if m.apiVersion == "" || m.kind == "" || m.name == "" {
		return false, &wire.Problem{Line: m.line, Message: "the patch does not say what it is for: it has no target, and lacks apiVersion, kind or metadata.name",
			Hint: "name the object in the patch, or add a target"}
	}
	group, version := belay.SplitAPIVersion(m.apiVersion)
	var found *object
	for i := range s.objects {
		o := &s.objects[i]
		if o.gone() || o.res.GetName() != m.name {
			continue
		}
		if gvk := o.res.GetGvk(); gvk.Group != group || gvk.Version != version || gvk.Kind != m.kind {
			continue
		}
		switch ns := o.res.GetNamespace(); {
		case ns == m.namespace:
			found = o
		case found == nil && (m.namespace == "" || s.namespace(o) == m.namespace):
			found = o
		}
	}
	if found == nil {
		return false, nil
	}
	was := found.identity()
	if err := found.merge(m); err != nil {
		return false, refused(was, err, text)
	}
	found.changed = true
	return true, nil
}

func (o *object) gone() bool { return o.res == nil || o.res.IsNilOrEmpty() }

// namespace of an object once it is applied.
func (s *set) namespace(o *object) string {
	if ns := o.res.GetNamespace(); ns != "" {
		return ns
	}
	return s.job.Namespace
}

// merge applies a merge patch. What the patch says of kind and name is not
// changed by it: those say, without a target, what it is for.
func (o *object) merge(m merging) error {
	fields := make(map[string]any, len(m.fields))
	maps.Copy(fields, m.fields)
	meta := map[string]any{}
	if old, ok := m.fields["metadata"].(map[string]any); ok {
		maps.Copy(meta, old)
	}
	fields["apiVersion"], fields["kind"] = o.res.GetApiVersion(), o.res.GetKind()
	meta["name"] = o.res.GetName()
	delete(meta, "namespace")
	fields["metadata"] = meta
	p, err := provider.NewDefaultDepProvider().GetResourceFactory().FromMap(fields)
	if err != nil {
		return err
	}
	return o.res.ApplySmPatch(p)
}

// choose finds the objects that a target fits.
func (s *set) choose(t *belay.PatchTarget) ([]*object, *wire.Problem) {
	sel := types.Selector{
		ResId:         resid.ResId{Gvk: resid.Gvk{Group: t.Group, Version: t.Version, Kind: t.Kind}, Name: t.Name, Namespace: t.Namespace},
		LabelSelector: t.LabelSelector, AnnotationSelector: t.AnnotationSelector,
	}
	re, err := types.NewSelectorRegex(&sel)
	if err != nil {
		return nil, &wire.Problem{Message: fmt.Sprintf("the target is not a regular expression: %v", err)}
	}
	var out []*object
	for i := range s.objects {
		o := &s.objects[i]
		if o.gone() || !re.MatchGvk(o.res.GetGvk()) || !re.MatchName(o.res.GetName()) || !re.MatchNamespace(s.namespace(o)) {
			continue
		}
		labels, err := o.res.MatchesLabelSelector(t.LabelSelector)
		if err != nil {
			return nil, &wire.Problem{Message: fmt.Sprintf("the labelSelector of the target is not one: %v", err)}
		}
		annotations, err := o.res.MatchesAnnotationSelector(t.AnnotationSelector)
		if err != nil {
			return nil, &wire.Problem{Message: fmt.Sprintf("the annotationSelector of the target is not one: %v", err)}
		}
		if labels && annotations {
			out = append(out, o)
		}
	}
	return out, nil
}

// refused words what Kustomize says of a patch, without values: neither those of
// the patch nor, of a Secret, those of the object.
func refused(o identity, err error, text []byte) *wire.Problem {
	if o.secret { // the library may quote what it found
		return &wire.Problem{Object: o.name, Message: "it does not fit " + o.name}
	}
	hidden := manifest.ValueTexts(text)
	message := strings.Join(strings.Fields(belay.Scrub(err.Error(), hidden)), " ")
	const long = 300
	if len(message) > long {
		message = strings.ToValidUTF8(message[:long], "") + " …"
	}
	return &wire.Problem{Object: o.name, Message: fmt.Sprintf("it does not fit %s: %s", o.name, message)}
}

// identity is what an object was before Kustomize tried to change it.
type identity struct {
	name   string
	secret bool
}

func (o *object) identity() identity {
	return identity{secret: o.res.GetKind() == "Secret", name: belay.ObjectID{Group: o.res.GetGvk().Group, Kind: o.res.GetKind(), Namespace: o.res.GetNamespace(), Name: o.res.GetName()}.String()}
}

// write puts the changed objects back.
func (s *set) write() {
	kept := s.out.Docs[:0]
	for i, d := range s.out.Docs {
		o := &s.objects[i]
		if o.changed {
			if o.gone() {
				continue
			}
			j, err := o.res.MarshalJSON()
			if err != nil {
				s.out.Fail(wire.Problem{Code: belay.CodeInvalid, File: d.File, Line: d.Line, Object: o.identity().name, Message: "patched, the object cannot be written as JSON"})
				return
			}
			d.Manifest, d.Size = j, int64(len(j))
		}
		kept = append(kept, d)
	}
	s.out.Docs = kept
}
