package kube

import (
	"fmt"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// A Cluster may be limited to some namespaces: because the access rules of its
// user are, or to divide one cluster among several Belays. It then lists and
// watches each of them by itself, asks nothing about the cluster as a whole but
// what it serves, and writes nothing elsewhere.

// place is what one watch or one list covers: a kind, in one namespace or, with
// "", in the whole cluster.
type place struct {
	kind      belay.Kind
	namespace string
}

func (p place) String() string {
	if p.namespace == "" {
		return p.kind.String()
	}
	return p.kind.String() + " in " + p.namespace
}

func (w *watch) place() place { return place{w.resource.kind, w.namespace} }

// namespacesOf are those in which a resource is looked at: "" for all of the
// cluster, and none for one that no limited Cluster may know.
func (c *Cluster) namespacesOf(r resource) []string {
	switch {
	case len(c.namespaces) == 0:
		return []string{""}
	case r.namespaced:
		return c.namespaces
	}
	return nil
}

// ensureWatches has a kind watched wherever it is to be, and returns what watches
// it. The caller holds c.mu.
func (c *Cluster) ensureWatches(k belay.Kind) []*watch {
	if c.known == nil {
		return nil
	}
	r, ok := c.known.preferred[k]
	if !ok {
		return nil
	}
	var out []*watch
	for _, ns := range c.namespacesOf(r) {
		if w := c.ensureWatch(place{k, ns}); w != nil {
			out = append(out, w)
		}
	}
	return out
}

// checkPlace refuses to touch what lies outside of the namespaces.
func (c *Cluster) checkPlace(id belay.ObjectID) error {
	if len(c.namespaces) == 0 || slices.Contains(c.namespaces, id.Namespace) {
		return nil
	}
	what := "objects of no namespace"
	if id.Namespace != "" {
		what = fmt.Sprintf("the namespace %q", id.Namespace)
	}
	return &belay.Error{Code: belay.CodeDenied, Object: id.String(),
		Message: fmt.Sprintf("this Belay does not deliver %s, only to the namespaces %s", what, strings.Join(c.namespaces, ", ")),
		Hint:    "start it with another --namespace, or deliver the object with another Belay"}
}

// wants reports whether an application declares a kind. The caller holds c.mu.
func (c *Cluster) wants(k belay.Kind) bool {
	for vk := range c.wanted {
		if vk.Kind == k.Kind && groupOf(vk.APIVersion) == k.Group {
			return true
		}
	}
	return false
}

func groupOf(apiVersion string) string {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// guessing reports whether an application waits for a kind to be served and
// nobody would tell: the definitions may not be watched. The caller holds c.mu.
func (c *Cluster) guessing() bool {
	for _, w := range c.control {
		if !w.refused {
			continue
		}
		for vk := range c.wanted {
			if _, ok := c.known.served[vk]; !ok {
				return true
			}
		}
	}
	return false
}
