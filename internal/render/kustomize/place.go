package kustomize

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/types"

	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

// Kustomize can note on each object where it came from, and then also every
// transformer that touched it, which is a quarter of its work. But it keeps
// objects in the order in which it meets them, so where they came from follows
// from the kustomizations alone, unless something in them makes, removes or sorts
// objects. Only then it is asked to take notes.

// declared is where an object is expected to come from.
type declared struct {
	file string
	line int // 0 for what is generated
	kind string
	// layer is the kustomization that generates it; nil for what is written down.
	layer *layer
}

// declarations lists what the build of the outermost kustomization is made of, in
// Kustomize's order. ok is false when that cannot be told.
func (in *inspector) declarations() (all []declared, ok bool) {
	by := make(map[string]*layer, len(in.layers))
	for _, l := range in.layers {
		by[l.dir] = l
	}
	if !in.declare(in.layers[0], by, &all) {
		return nil, false
	}
	return all, true
}

// maxDeclared bounds what a diamond of bases can multiply itself to.
const maxDeclared = 100_000

func (in *inspector) declare(l *layer, by map[string]*layer, all *[]declared) bool {
	if !l.ordered() || len(*all) > maxDeclared {
		return false
	}
	for _, r := range slices.Concat(l.k.Resources, l.bases) {
		p := path.Join(l.dir, r)
		if base := by[p]; base != nil {
			if !in.declare(base, by, all) {
				return false
			}
			continue
		}
		c, known := in.src.Known(p)
		if !known || c.Err != nil || !declareFile(p, c, all) {
			return false
		}
	}
	for range l.k.ConfigMapGenerator {
		*all = append(*all, declared{file: l.file, kind: "ConfigMap", layer: l})
	}
	for range l.k.SecretGenerator {
		*all = append(*all, declared{file: l.file, kind: "Secret", layer: l})
	}
	for _, c := range l.k.Components {
		component := by[path.Join(l.dir, c)]
		if component == nil || !in.declare(component, by, all) {
			return false
		}
	}
	return true
}

func declareFile(file string, c wire.Content, all *[]declared) bool {
	if path.Ext(file) == ".json" {
		return false // it may be several values, which are not split here
	}
	for _, d := range manifest.Split(c.Data) {
		kind := manifest.KindOf(d)
		if strings.HasSuffix(kind, "List") || kind == "" && bytes.Contains(d.Text, []byte("List")) {
			return false // it is many objects
		}
		*all = append(*all, declared{file: file, line: d.Line, kind: kind})
	}
	return true
}

// ordered reports whether the objects of a kustomization are those of what it
// names and what it generates, in that order.
func (l *layer) ordered() bool {
	k := &l.k
	if len(l.remotes)+len(k.Generators)+len(k.Transformers)+len(k.Validators)+len(k.Crds)+len(k.OpenAPI)+len(k.BuildMetadata) > 0 || k.SortOptions != nil {
		return false
	}
	added := func(behavior string) bool {
		return behavior == "" || types.NewGenerationBehavior(behavior) == types.BehaviorCreate
	}
	for i := range k.ConfigMapGenerator {
		if !added(k.ConfigMapGenerator[i].Behavior) {
			return false
		}
	}
	for i := range k.SecretGenerator {
		if !added(k.SecretGenerator[i].Behavior) {
			return false
		}
	}
	return true
}

// fits reports whether a build gave what was declared, and nothing else. What
// removes an object leaves fewer of them, and nothing that an ordered
// kustomization says makes one more.
func fits(m resmap.ResMap, all []declared) bool {
	resources := m.Resources()
	if len(resources) != len(all) {
		return false
	}
	for i, r := range resources {
		if all[i].kind != "" && all[i].kind != r.GetKind() {
			return false
		}
	}
	return true
}
