// Package kustomize renders kustomizations.
//
// It must not touch the disk or the network: Kustomize sees only the Tree.
// Kustomize keeps what it knows of kinds in process-wide state, so one process
// renders one kustomization at a time, and an Output that says Retire means
// that this process knows things that are not true for others.
package kustomize

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

// Kind is what an Output of this package calls itself.
const Kind = "kustomize"

// Render builds the kustomization at the job's path and returns its manifests
// in Kustomize's order.
func Render(tree wire.Tree, job wire.Job) *wire.Output {
	out := &wire.Output{Kind: Kind}
	root := path.Clean(job.Source.Path)
	src := newSource(tree)
	if st := src.Stat(root)[0]; st.Err != nil || !st.Dir {
		out.Fail(rootProblem(root, st))
		return out
	}
	in := &inspector{src: src, out: out, seen: map[string]bool{}}
	in.visit(root, nil, wire.Problem{Hint: "correct spec.source of the Application"})
	if len(out.Problems) > 0 {
		return out
	}
	opts := krusty.MakeDefaultOptions()
	// The application may read all of its repository anyhow; the Tree is the fence.
	opts.LoadRestrictions = types.LoadRestrictionsNone
	if all, ok := in.declarations(); ok {
		resources, err := build(krusty.MakeKustomizer(opts), src, "/"+root)
		if err != nil {
			in.explain(err)
			return out
		}
		if fits(resources, all) {
			in.collect(resources, func(i int, r *resource.Resource) (string, int) { return all[i].place(r) })
			return out
		}
	}
	in.tracked(opts, root)
	return out
}

// tracked builds with notes of where each object came from.
func (in *inspector) tracked(opts *krusty.Options, root string) {
	wanted, err := in.trackOrigins()
	if err != nil {
		in.out.Fail(wire.Problem{File: in.layers[0].file, Message: "not a valid kustomization"})
		return
	}
	resources, err := build(krusty.MakeKustomizer(opts), in.src, "/"+root)
	if err != nil {
		in.explain(err)
		return
	}
	docs := map[string][]manifest.Doc{} // by file, split once
	places := make([]wire.Doc, 0, resources.Size())
	for _, r := range resources.Resources() {
		file, line := in.place(r, docs)
		places = append(places, wire.Doc{File: file, Line: line})
		if wanted {
			continue
		}
		if err := r.SetOrigin(nil); err != nil {
			in.out.Fail(wire.Problem{Code: belay.CodeInternal, File: file, Message: "remove the origin annotation"})
			return
		}
	}
	in.collect(resources, func(i int, _ *resource.Resource) (string, int) { return places[i].File, places[i].Line })
}

func rootProblem(root string, st wire.Stat) wire.Problem {
	p := wire.Problem{Code: belay.CodeNotFound, Message: fmt.Sprintf("the path %q does not exist in the repository", root),
		Hint: "correct spec.source.path of the Application, or commit the files"}
	if st.Err == nil {
		p = wire.Problem{Message: fmt.Sprintf("%q is a file, but a kustomization is a directory", root),
			Hint: "let spec.source.path name the directory of the kustomization.yaml"}
	}
	return p
}

// build runs Kustomize. A panic of it is an error: some malformed input reaches
// places that do not expect it.
func build(k *krusty.Kustomizer, src *source, root string) (m resmap.ResMap, err error) {
	defer func() {
		if r := recover(); r != nil {
			if b, ok := r.(wire.BrokenError); ok {
				panic(b)
			}
			err = fmt.Errorf("kustomize gave up on this input (%T)", r) // the panic's text could repeat values
		}
	}()
	return k.Run(src, path.Clean(root))
}

// trackOrigins makes Kustomize annotate each object with where it came from, by
// adding to buildMetadata of the outermost kustomization as Kustomize reads it.
// wanted reports whether the user asked for these annotations anyway.
func (in *inspector) trackOrigins() (wanted bool, err error) {
	top := in.layers[0]
	if slices.Contains(top.k.BuildMetadata, types.OriginAnnotations) {
		return true, nil
	}
	text := top.text
	if seen, ok := in.src.replaced[top.file]; ok {
		text = seen
	}
	j, err := yaml.YAMLToJSON(text)
	if err != nil {
		return false, err
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(j, &m); err != nil {
		return false, err
	}
	if m == nil {
		return false, nil // there is nothing in it, which Kustomize says better
	}
	for key := range m {
		if strings.EqualFold(key, "buildMetadata") {
			delete(m, key)
		}
	}
	m["buildMetadata"], err = json.Marshal(append(slices.Clone(top.k.BuildMetadata), types.OriginAnnotations))
	if err != nil {
		return false, err
	}
	if text, err = json.Marshal(m); err != nil {
		return false, err
	}
	in.src.replaced[top.file] = text
	return false, nil
}

// collect turns resources into manifests with their places.
func (in *inspector) collect(m resmap.ResMap, place func(int, *resource.Resource) (string, int)) {
	for i, r := range m.Resources() {
		file, line := place(i, r)
		j, err := r.MarshalJSON()
		if err != nil {
			in.out.Docs = nil
			in.explain(fmt.Errorf("an object of %s cannot be written as JSON", file))
			return
		}
		in.out.Add(file, line, j)
	}
}

// place of what was declared there.
func (d *declared) place(r *resource.Resource) (string, int) {
	if d.layer != nil {
		return d.file, d.layer.generatorLine(r.GetName())
	}
	return d.file, d.line
}

// place is where a resource was declared: its file, or the kustomization that
// generates it.
func (in *inspector) place(r *resource.Resource, docs map[string][]manifest.Doc) (string, int) {
	top := in.layers[0]
	origin, err := r.GetOrigin()
	if err != nil || origin == nil {
		return top.file, 0
	}
	if origin.ConfiguredIn != "" {
		file := path.Join(top.dir, origin.ConfiguredIn)
		for _, l := range in.layers {
			if l.file == file {
				return file, l.generatorLine(r.GetName())
			}
		}
		return file, 0
	}
	file := path.Join(top.dir, origin.Path)
	c, ok := in.src.Known(file)
	if !ok || c.Err != nil {
		return file, 0
	}
	if _, ok := docs[file]; !ok {
		docs[file] = manifest.Split(c.Data)
	}
	return file, manifest.Locate(docs[file], r.GetKind(), r.GetName())
}

var nameEntry = regexp.MustCompile(`^[\s-]*["']?name["']?:\s*["']?([^"'\s#]+)`)

// generatorLine finds the entry that generates an object: the one with the
// longest name that the object's name contains, which prefixes and the hash leave whole.
func (l *layer) generatorLine(object string) int {
	line, longest, n := 0, 0, 0
	for text := range strings.Lines(string(l.text)) {
		n++
		if m := nameEntry.FindStringSubmatch(text); m != nil && len(m[1]) > longest && strings.Contains(object, m[1]) {
			line, longest = n, len(m[1])
		}
	}
	return line
}
