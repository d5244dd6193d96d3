package drill

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// Finding is something that a rebuilt cluster lacks, because no manifest in Git
// brings it.
type Finding struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	Cluster   string `json:"cluster,omitempty"`
	// Applications that need it.
	Applications []string `json:"applications,omitempty"`
	Message      string   `json:"message"`
	Hint         string   `json:"hint,omitempty"`
	File         string   `json:"file,omitempty"`
	Line         int      `json:"line,omitempty"`
}

// Title names what is missing.
func (f *Finding) Title() string {
	if f.Namespace != "" {
		return f.Kind + " " + f.Namespace + "/" + f.Name
	}
	return f.Kind + " " + f.Name
}

// Fleet is what the applications of a drill bring and need, by cluster.
type Fleet struct {
	// Contents of each application.
	Contents map[string]Contents
	// Cluster and Namespace that each is delivered to.
	Cluster, Namespace map[string]string
	// Copied are definitions of kinds that were copied in from the real cluster, by
	// cluster.
	Copied map[string][]belay.Object
	// BuiltIn says of a cluster whether a kind is part of Kubernetes itself.
	BuiltIn func(cluster string, kind belay.Kind) bool
}

// Defined are the kinds that applications bring to a cluster.
func (f *Fleet) Defined(cluster string) map[belay.Kind]bool {
	out := map[belay.Kind]bool{}
	for app, c := range f.Contents {
		if f.Cluster[app] == cluster {
			for _, k := range c.Defines {
				out[k] = true
			}
		}
	}
	return out
}

// Missing are the findings: what applications need and nothing in Git brings.
func (f *Fleet) Missing() []Finding {
	found := map[string]*Finding{} // by cluster and title
	for cluster, all := range f.Copied {
		for i := range all {
			note(found, cluster, "", lent(all[i].ID.Name))
		}
	}
	for _, cluster := range f.clusters() {
		has := f.has(cluster)
		defined := f.Defined(cluster)
		for _, app := range slices.Sorted(maps.Keys(f.Contents)) {
			c := f.Contents[app]
			if f.Cluster[app] != cluster {
				continue
			}
			for _, n := range c.Needs {
				if !has(n.ID) {
					note(found, cluster, app, findingOf(n))
				}
			}
			for kind, use := range c.Uses {
				switch copied := f.copied(cluster, kind); {
				case copied != "":
					note(found, cluster, app, lent(copied))
				case !defined[kind] && !f.BuiltIn(cluster, kind):
					note(found, cluster, app, undefined(kind, use))
				}
			}
		}
	}
	out := make([]Finding, 0, len(found))
	for _, title := range slices.Sorted(maps.Keys(found)) {
		out = append(out, *found[title])
	}
	return out
}

func note(found map[string]*Finding, cluster, app string, f Finding) {
	key := cluster + " " + f.Title()
	known := found[key]
	if known == nil {
		f.Cluster, known = cluster, &f
		found[key] = known
	}
	if app != "" && !slices.Contains(known.Applications, app) {
		known.Applications = append(known.Applications, app)
	}
}

// copied is the name of the definition that was copied in for a kind, if any.
func (f *Fleet) copied(cluster string, kind belay.Kind) string {
	for i := range f.Copied[cluster] {
		o := &f.Copied[cluster][i]
		var content map[string]any
		if json.Unmarshal(o.Raw, &content) == nil && definedBy(content) == kind {
			return o.ID.Name
		}
	}
	return ""
}

// lent is the finding for a definition that the real cluster has.
func lent(name string) Finding {
	return Finding{Kind: "CustomResourceDefinition", Name: name, Message: "the real cluster has it and Git does not; it was copied in for the drill",
		Hint: "deliver it with an application: a rebuilt cluster will lack it"}
}

func (f *Fleet) clusters() []string {
	seen := map[string]bool{}
	for app := range f.Contents {
		seen[f.Cluster[app]] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// has says what is in a rebuilt cluster, once all applications are delivered.
func (f *Fleet) has(cluster string) func(belay.ObjectID) bool {
	there := map[belay.ObjectID]bool{}
	for app, c := range f.Contents {
		if f.Cluster[app] != cluster {
			continue
		}
		there[belay.ObjectID{Kind: "Namespace", Name: f.Namespace[app]}] = true // or its application fails, and says so
		for _, id := range slices.Concat(c.Declares, c.Makes) {
			there[id] = true
		}
	}
	return func(id belay.ObjectID) bool { return there[id] || madeByKubernetes(id) }
}

// madeByKubernetes says whether every cluster has an object.
func madeByKubernetes(id belay.ObjectID) bool {
	switch id.Kind {
	case "Namespace":
		return id.Name == "default" || strings.HasPrefix(id.Name, "kube-")
	case "ServiceAccount":
		return id.Name == "default" || id.Namespace == "kube-system"
	case "ConfigMap":
		return id.Name == "kube-root-ca.crt" || id.Namespace == "kube-system"
	case "PriorityClass", "Role":
		return strings.HasPrefix(id.Name, "system-") || strings.HasPrefix(id.Name, "system:") || id.Name == "extension-apiserver-authentication-reader"
	case "ClusterRole":
		return strings.HasPrefix(id.Name, "system:") || slices.Contains([]string{"cluster-admin", "admin", "edit", "view"}, id.Name)
	}
	return false
}

// hints say where things of a kind that is not in Git usually come from.
var hints = map[string]string{
	"Secret":         "put it into Git encrypted, have it made from a vault, or write down how to make it again",
	"Namespace":      "declare it, or set spec.sync.createNamespace of its application",
	"StorageClass":   "declare it, or make sure that whoever builds the cluster brings one of that name",
	"IngressClass":   "declare it, or make sure that whoever builds the cluster brings one of that name",
	"RuntimeClass":   "declare it, or make sure that whoever builds the cluster brings one of that name",
	webhookAuthority: "have it injected, or declare caBundle: until then the API server cannot call the webhook",
}

func findingOf(n Need) Finding {
	f := Finding{Kind: n.ID.Kind, Namespace: n.ID.Namespace, Name: n.ID.Name, Message: "nothing in Git declares it; " + n.For,
		Hint: hints[n.ID.Kind], File: n.At.File, Line: n.At.Line}
	if n.ID.Kind == webhookAuthority {
		f.Message = "nothing in Git brings the authority of its webhooks; " + n.For
	}
	return f
}

func undefined(kind belay.Kind, use Use) Finding {
	return Finding{Kind: "CustomResourceDefinition", Name: kind.String(), Message: fmt.Sprintf("nothing in Git defines the kind; %s is one (%s)", use.By, use.APIVersion),
		Hint: "deliver its definition with an application, and let those that use the kind depend on it", File: use.At.File, Line: use.At.Line}
}

// Keys are the findings for what is read from outside of Git: keys and credentials.
func Keys(asked []belay.SecretReference, applications []string) []Finding {
	slices.SortFunc(asked, func(a, b belay.SecretReference) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key))
	})
	var out []Finding
	for _, ref := range slices.Compact(asked) {
		out = append(out, Finding{Kind: "Secret", Namespace: ref.Namespace, Name: ref.Name, Applications: applications,
			Message: fmt.Sprintf("definitions refer to its key %q in the server's own cluster, which is lost with that cluster", ref.Key),
			Hint:    "keep a copy elsewhere, and put it back before the server starts"})
	}
	return out
}
