package plan

import (
	"encoding/json"
	"fmt"

	"github.com/belaydev/belay"
)

// Unresolved is a desired object that cannot be placed yet, and why.
type Unresolved struct {
	Object belay.Object
	Err    *belay.Error
}

// Scopes answers whether a kind is namespaced, from what the cluster serves and
// from the CustomResourceDefinitions that are declared beside the objects.
type Scopes struct {
	facts    *belay.ClusterFacts
	declared map[belay.VersionKind]bool
}

// NewScopes reads the definitions among objects.
func NewScopes(facts *belay.ClusterFacts, objects []belay.Object) Scopes {
	s := Scopes{facts: facts}
	for i := range objects {
		if objects[i].ID.Group != crdGroup || objects[i].ID.Kind != "CustomResourceDefinition" {
			continue
		}
		var crd struct {
			Spec struct {
				Group string `json:"group"`
				Scope string `json:"scope"`
				Names struct {
					Kind string `json:"kind"`
				} `json:"names"`
				Versions []struct {
					Name string `json:"name"`
				} `json:"versions"`
			} `json:"spec"`
		}
		if json.Unmarshal(objects[i].Raw, &crd) != nil {
			continue // the API server says what is wrong with it
		}
		if s.declared == nil {
			s.declared = map[belay.VersionKind]bool{}
		}
		for _, v := range crd.Spec.Versions {
			s.declared[belay.VersionKind{APIVersion: crd.Spec.Group + "/" + v.Name, Kind: crd.Spec.Names.Kind}] = crd.Spec.Scope == "Namespaced"
		}
	}
	return s
}

// Namespaced reports whether the object's kind is namespaced; known is false
// when neither the cluster nor a definition says so.
func (s Scopes) Namespaced(o *belay.Object) (namespaced, known bool) {
	vk := belay.VersionKind{APIVersion: o.APIVersion, Kind: o.ID.Kind}
	if k, ok := s.facts.Kinds[vk]; ok {
		return k.Namespaced, true
	}
	namespaced, known = s.declared[vk]
	return namespaced, known
}

// Served reports whether the cluster serves the object's kind now.
func (s Scopes) Served(o *belay.Object) bool {
	_, ok := s.facts.Kinds[belay.VersionKind{APIVersion: o.APIVersion, Kind: o.ID.Kind}]
	return ok
}

// Resolve gives namespaced objects that name no namespace the application's,
// takes the namespace from cluster-scoped ones, and finds objects that are
// declared twice once that is done.
func Resolve(objects []belay.Object, scopes Scopes, namespace string) ([]belay.Object, []Unresolved) {
	out := make([]belay.Object, 0, len(objects))
	var un []Unresolved
	seen := make(map[belay.ObjectID]belay.Origin, len(objects))
	for _, o := range objects {
		namespaced, known := scopes.Namespaced(&o)
		if !known {
			un = append(un, Unresolved{o, &belay.Error{Code: belay.CodeUnknownKind, Object: o.ID.String(), Origin: o.Origin,
				Message: fmt.Sprintf("the cluster does not serve %s %s", o.APIVersion, o.ID.Kind),
				Hint:    "check apiVersion and kind, or install the CustomResourceDefinition first"}})
			continue
		}
		want := ""
		if namespaced {
			if want = o.ID.Namespace; want == "" {
				want = namespace
			}
		}
		if want != o.ID.Namespace {
			o.ID.Namespace = want
		}
		if first, dup := seen[o.ID]; dup {
			un = append(un, Unresolved{o, &belay.Error{Code: belay.CodeInvalid, Object: o.ID.String(), Origin: o.Origin,
				Message: "also declared in " + first.String(), Hint: "keep one of the two"}})
			continue
		}
		seen[o.ID] = o.Origin
		out = append(out, o)
	}
	return out, un
}

// Stamp puts Belay's label and annotations on a resolved object, and its
// namespace into the manifest. The digest of the result depends on the rendered
// digest and on what is stamped, not on the bytes: a redacted Secret and the
// same Secret in full have one digest.
func Stamp(o belay.Object, application, instance string) (belay.Object, error) {
	var m map[string]any
	if err := unmarshal(o.Raw, &m); err != nil {
		return o, fmt.Errorf("read the manifest of %s: %w", o.ID, err)
	}
	meta, _ := m["metadata"].(map[string]any)
	if meta == nil {
		return o, fmt.Errorf("metadata of %s is not a mapping", o.ID)
	}
	if o.ID.Namespace == "" {
		delete(meta, "namespace")
	} else {
		meta["namespace"] = o.ID.Namespace
	}
	// These are the server's; a manifest exported from a cluster carries them.
	for _, k := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
		delete(meta, k)
	}
	labels, err := stringMap(meta, "labels", o.ID)
	if err != nil {
		return o, err
	}
	annotations, err := stringMap(meta, "annotations", o.ID)
	if err != nil {
		return o, err
	}
	id := belay.FormatID(application, o.ID)
	o.Digest = belay.Digest([]byte(o.Digest + "\n" + id + "\n" + instance))
	labels[belay.LabelManaged] = "true"
	delete(labels, belay.LabelInstance)
	if instance != "" {
		labels[belay.LabelInstance] = instance
	}
	annotations[belay.AnnotationID] = id
	annotations[belay.AnnotationDigest] = o.Digest
	o.Raw, err = json.Marshal(m)
	return o, err
}

func stringMap(meta map[string]any, key string, id belay.ObjectID) (map[string]any, error) {
	v, ok := meta[key]
	if !ok {
		out := map[string]any{}
		meta[key] = out
		return out, nil
	}
	out, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("metadata.%s of %s is not a mapping", key, id)
	}
	return out, nil
}
