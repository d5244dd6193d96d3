package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/belaydev/belay"
)

// resource is one kind at one version, as the API server serves it.
type resource struct {
	gvr        schema.GroupVersionResource
	kind       belay.Kind
	namespaced bool
	watchable  bool // list and watch
	deletable  bool // list and delete
}

func (r resource) apiVersion() string { return r.gvr.GroupVersion().String() }

// catalogue is what the cluster serves. It is not changed once made.
type catalogue struct {
	facts  belay.ClusterFacts
	served map[belay.VersionKind]resource
	// preferred is the version of each kind that is watched.
	preferred map[belay.Kind]resource
	// failed are group versions that did not answer, which keep what they
	// served before.
	failed map[string]string
	// kept are resources that discovery does not name, although it did and they are
	// defined.
	kept map[schema.GroupResource]bool
}

// serves reports whether a resource of a group is served at any version.
func (k *catalogue) serves(group, plural string) bool {
	for _, r := range k.served {
		if r.gvr.Group == group && r.gvr.Resource == plural {
			return true
		}
	}
	return false
}

// discover asks the cluster what it serves: three requests.
func (c *Cluster) discover(ctx context.Context, before *catalogue) (*catalogue, error) {
	ctx, cancel := context.WithTimeout(ctx, 45*time.Second)
	defer cancel()
	v, err := c.discovery.ServerVersionWithContext(ctx)
	if err != nil {
		return nil, err
	}
	groups, lists, err := c.discovery.ServerGroupsAndResourcesWithContext(ctx)
	failed := map[string]string{}
	if broken, partly := discovery.GroupDiscoveryFailedErrorGroups(err); partly {
		for gv, why := range broken {
			failed[gv.String()] = plainCause(why)
		}
	} else if err != nil {
		return nil, err
	}
	if len(lists) == 0 {
		return nil, errors.New("the API server names no resources")
	}
	return newCatalogue(v.GitVersion, groups, lists, failed, before, c.defined), nil
}

func newCatalogue(serverVersion string, groups []*metav1.APIGroup, lists []*metav1.APIResourceList, failed map[string]string, before *catalogue, defined func(resource) bool) *catalogue {
	k := &catalogue{served: map[belay.VersionKind]resource{}, preferred: map[belay.Kind]resource{}, failed: failed, kept: map[schema.GroupResource]bool{},
		facts: belay.ClusterFacts{Version: serverVersion, Kinds: map[belay.VersionKind]belay.KindFacts{}}}
	names := map[string]bool{}
	for _, l := range lists {
		k.add(l, names)
	}
	if before != nil {
		k.keep(before, names)
		k.keepDefined(before, names, defined)
	}
	for _, g := range groups {
		for _, v := range g.Versions {
			names[v.GroupVersion] = true
		}
	}
	k.prefer(groups)
	for vk, r := range k.served {
		k.facts.Kinds[vk] = belay.KindFacts{Resource: r.gvr.Resource, Namespaced: r.namespaced}
	}
	k.facts.APIVersions = slices.Sorted(maps.Keys(names))
	k.facts.Digest = belay.Digest([]byte(serverVersion + "\n" + strings.Join(k.facts.APIVersions, "\n")))
	return k
}

// add takes in one group version.
func (k *catalogue) add(l *metav1.APIResourceList, names map[string]bool) {
	gv, err := schema.ParseGroupVersion(l.GroupVersion)
	if err != nil {
		return // nothing could name it
	}
	names[l.GroupVersion] = true
	for i := range l.APIResources {
		a := &l.APIResources[i]
		names[l.GroupVersion+"/"+a.Kind] = true // charts test for kinds of subresources too
		if strings.Contains(a.Name, "/") {
			continue
		}
		vk := belay.VersionKind{APIVersion: l.GroupVersion, Kind: a.Kind}
		if _, twice := k.served[vk]; twice {
			continue
		}
		has := func(verb string) bool { return slices.Contains(a.Verbs, verb) }
		k.served[vk] = resource{
			gvr: gv.WithResource(a.Name), kind: belay.Kind{Group: gv.Group, Kind: a.Kind}, namespaced: a.Namespaced,
			watchable: has("list") && has("watch"), deletable: has("list") && has("delete"),
		}
	}
}

// keep takes over what group versions that do not answer now served before: an
// aggregated API that is down has not gone away.
func (k *catalogue) keep(before *catalogue, names map[string]bool) {
	for vk, r := range before.served {
		if _, down := k.failed[vk.APIVersion]; down {
			if _, ok := k.served[vk]; !ok {
				k.served[vk] = r
			}
		}
	}
	for _, n := range before.facts.APIVersions {
		for gv := range k.failed {
			if n == gv || strings.HasPrefix(n, gv+"/") {
				names[n] = true
			}
		}
	}
}

// keepDefined takes over what was served before, is not named now, and is defined
// still. An API server that has just started answers before it serves what is defined in
// the cluster, and says nothing of that; to take its word for it would be to take
// all objects of such kinds for deleted.
func (k *catalogue) keepDefined(before *catalogue, names map[string]bool, defined func(resource) bool) {
	kept := map[belay.VersionKind]resource{}
	for vk, r := range before.served {
		if !k.serves(r.gvr.Group, r.gvr.Resource) && defined(r) {
			kept[vk] = r
		}
	}
	for vk, r := range kept {
		k.served[vk], k.kept[r.gvr.GroupResource()] = r, true
		names[vk.APIVersion] = true
		for _, n := range before.facts.APIVersions {
			kind, of := strings.CutPrefix(n, vk.APIVersion+"/")
			was := belay.VersionKind{APIVersion: vk.APIVersion, Kind: kind}
			if _, other := before.served[was]; of && (!other || kept[was] == before.served[was]) {
				names[n] = true // of itself, or of one of its subresources
			}
		}
	}
}

// prefer picks for each kind the first version that serves it, in the order
// that the API server gives.
func (k *catalogue) prefer(groups []*metav1.APIGroup) {
	for _, g := range groups {
		versions := make([]string, 0, len(g.Versions)+1)
		if g.PreferredVersion.GroupVersion != "" {
			versions = append(versions, g.PreferredVersion.GroupVersion)
		}
		for _, v := range g.Versions {
			versions = append(versions, v.GroupVersion)
		}
		for _, v := range versions {
			for vk, r := range k.served {
				if vk.APIVersion != v {
					continue
				}
				if _, ok := k.preferred[r.kind]; !ok {
					k.preferred[r.kind] = r
				}
			}
		}
	}
	for _, r := range k.served { // of groups that are down as a whole
		if _, ok := k.preferred[r.kind]; !ok {
			k.preferred[r.kind] = r
		}
	}
}

// resolve finds how an object is addressed.
func (c *Cluster) resolve(apiVersion string, id belay.ObjectID) (resource, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil {
		return resource{}, &belay.Error{Code: belay.CodeUnavailable, Object: id.String(),
			Message: fmt.Sprintf("cluster %q: %s", c.name, c.missing())}
	}
	r, ok := c.known.served[belay.VersionKind{APIVersion: apiVersion, Kind: id.Kind}]
	if !ok {
		return resource{}, &belay.Error{Code: belay.CodeUnknownKind, Object: id.String(),
			Message: fmt.Sprintf("the cluster does not serve %s %s", apiVersion, id.Kind),
			Hint:    "check apiVersion and kind, or install the CustomResourceDefinition first"}
	}
	if r.namespaced != (id.Namespace != "") {
		return resource{}, &belay.Error{Code: belay.CodeInternal, Object: id.String(),
			Message: fmt.Sprintf("namespaced is %t for %s, but the namespace is %q", r.namespaced, id.GroupKind(), id.Namespace)}
	}
	return r, nil
}

// resolveLive finds how an object that is there is addressed: at the version it
// was seen at, or at another that is served now. ok is false if its kind is not
// served at all.
func (c *Cluster) resolveLive(live belay.Live) (r resource, ok bool, err error) {
	r, err = c.resolve(live.APIVersion, live.ID)
	if err == nil || belay.CodeOf(err) != belay.CodeUnknownKind {
		return r, err == nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok = c.known.preferred[live.ID.GroupKind()]
	return r, ok, nil
}
