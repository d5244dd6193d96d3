package plan

import (
	"encoding/json"
	"fmt"
	"slices"

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

// NewScopes reads the definitions among objects. facts may be nil: then nothing
// is known of the cluster.
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
	if s.facts != nil {
		if k, ok := s.facts.Kinds[vk]; ok {
			return k.Namespaced, true
		}
	}
	namespaced, known = s.declared[vk]
	return namespaced, known
}

// Served reports whether the cluster serves the object's kind now.
func (s Scopes) Served(o *belay.Object) bool {
	if s.facts == nil {
		return false
	}
	_, ok := s.facts.Kinds[belay.VersionKind{APIVersion: o.APIVersion, Kind: o.ID.Kind}]
	return ok
}

// Resolve gives namespaced objects that name no namespace the application's,
// takes the namespace from cluster-scoped ones, and finds objects that are
// declared twice once that is done. Nobody can say which of two is meant, so
// both are unresolved: what is in the cluster stays as it is.
func Resolve(objects []belay.Object, scopes Scopes, namespace string) ([]belay.Object, []Unresolved) {
	out := make([]belay.Object, 0, len(objects))
	var un []Unresolved
	places := make(map[belay.ObjectID][]belay.Origin, len(objects))
	for _, o := range objects {
		namespaced, known := scopes.Namespaced(&o)
		if !known {
			un = append(un, Unresolved{o, &belay.Error{Code: belay.CodeUnknownKind, Object: o.ID.String(), Origin: o.Origin,
				Message: fmt.Sprintf("the cluster does not serve %s %s", o.APIVersion, o.ID.Kind),
				Hint:    "check apiVersion and kind, or install the CustomResourceDefinition first"}})
			continue
		}
		switch {
		case !namespaced:
			o.ID.Namespace = ""
		case o.ID.Namespace == "":
			o.ID.Namespace = namespace
		}
		places[o.ID] = append(places[o.ID], o.Origin)
		out = append(out, o)
	}
	seen := make(map[belay.ObjectID]int, len(objects))
	out = slices.DeleteFunc(out, func(o belay.Object) bool {
		at := places[o.ID]
		if len(at) == 1 {
			return false
		}
		other := at[0]
		if seen[o.ID] == 0 {
			other = at[1]
		}
		seen[o.ID]++
		un = append(un, Unresolved{o, &belay.Error{Code: belay.CodeInvalid, Object: o.ID.String(), Origin: o.Origin,
			Message: "also declared in " + other.String(), Hint: "keep one of the two"}})
		return true
	})
	return out, un
}
