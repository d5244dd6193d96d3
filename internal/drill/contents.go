package drill

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// Need is something that a manifest refers to by name and does not bring.
type Need struct {
	ID belay.ObjectID
	// For says what for, as in "Deployment.apps shop/web pulls images with it".
	For string
	At  belay.Origin
}

// Contents is what the manifests of one application bring and need. It holds no
// value of any of them.
type Contents struct {
	Declares []belay.ObjectID
	// Defines are the kinds that it brings, Uses those of its objects.
	Defines []belay.Kind
	Uses    map[belay.Kind]Use
	Needs   []Need
	// Makes are objects that a controller is asked to make: by an ExternalSecret, say.
	Makes []belay.ObjectID
}

// Use is the first object of a kind.
type Use struct {
	APIVersion string
	By         belay.ObjectID
	At         belay.Origin
}

// kinds that stand outside of namespaces and that others refer to.
var clusterKinds = map[string]bool{
	"Namespace": true, "PriorityClass": true, "StorageClass": true, "IngressClass": true, "RuntimeClass": true, "ClusterRole": true,
	"ClusterRoleBinding": true, "CustomResourceDefinition": true, "PersistentVolume": true, "APIService": true,
	"ValidatingWebhookConfiguration": true, "MutatingWebhookConfiguration": true,
}

// Read finds out what the rendered objects of an application bring and need.
// namespace is where those go that name none.
func Read(objects []belay.Object, namespace string) Contents {
	c := Contents{Uses: map[belay.Kind]Use{}}
	for i := range objects {
		o := &objects[i]
		id := o.ID
		switch {
		case clusterKinds[id.Kind]:
			id.Namespace = ""
		case id.Namespace == "":
			id.Namespace = namespace
		}
		var content map[string]any
		if id.GroupKind() != (belay.Kind{Kind: "Secret"}) { // its values are nobody's business here
			if json.Unmarshal(o.Raw, &content) != nil {
				continue // the render failed, and says so
			}
		}
		c.Declares = append(c.Declares, id)
		if _, known := c.Uses[id.GroupKind()]; !known {
			c.Uses[id.GroupKind()] = Use{APIVersion: o.APIVersion, By: id, At: o.Origin}
		}
		r := reader{c: &c, id: id, at: o.Origin}
		if o.ID.Namespace != "" && !clusterKinds[id.Kind] {
			r.need(belay.ObjectID{Kind: "Namespace", Name: o.ID.Namespace}, "stands in it")
		}
		r.object(content)
	}
	return c
}

// Merge adds what another render of the same application says.
func (c *Contents) Merge(o Contents) {
	c.Declares = append(c.Declares, o.Declares...)
	c.Defines = append(c.Defines, o.Defines...)
	c.Needs = append(c.Needs, o.Needs...)
	c.Makes = append(c.Makes, o.Makes...)
	if c.Uses == nil {
		c.Uses = map[belay.Kind]Use{}
	}
	maps.Copy(c.Uses, o.Uses)
}

// reader reads one object.
type reader struct {
	c  *Contents
	id belay.ObjectID
	at belay.Origin
}

func (r *reader) need(id belay.ObjectID, does string) {
	if id.Name == "" {
		return
	}
	r.c.Needs = append(r.c.Needs, Need{ID: id, For: r.id.String() + " " + does, At: r.at})
}

// local is an object of the reader's namespace.
func (r *reader) local(kind, name string) belay.ObjectID {
	return belay.ObjectID{Kind: kind, Namespace: r.id.Namespace, Name: name}
}

func (r *reader) object(o map[string]any) {
	switch r.id.GroupKind() {
	case belay.Kind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}:
		r.c.Defines = append(r.c.Defines, definedBy(o))
	case belay.Kind{Kind: "ServiceAccount"}:
		r.names(o, "imagePullSecrets", "Secret", "pulls images with it")
	case belay.Kind{Kind: "PersistentVolumeClaim"}:
		r.class(o, "asks for volumes of it")
	case belay.Kind{Group: "networking.k8s.io", Kind: "Ingress"}:
		r.ingress(o)
	case belay.Kind{Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"}, belay.Kind{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"}:
		r.binding(o)
	case belay.Kind{Group: "admissionregistration.k8s.io", Kind: "ValidatingWebhookConfiguration"},
		belay.Kind{Group: "admissionregistration.k8s.io", Kind: "MutatingWebhookConfiguration"}:
		r.webhooks(o)
	default:
		r.maker(o)
	}
	for _, path := range [][]string{{"spec"}, {"spec", "template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"}} {
		if pod := object(o, path...); len(list(pod, "containers")) > 0 {
			r.pod(pod)
		}
	}
	for _, claim := range list(object(o, "spec"), "volumeClaimTemplates") {
		r.class(claim, "asks for volumes of it")
	}
}

func definedBy(crd map[string]any) belay.Kind {
	return belay.Kind{Group: text(crd, "spec", "group"), Kind: text(crd, "spec", "names", "kind")}
}

func (r *reader) class(claim map[string]any, does string) {
	r.need(belay.ObjectID{Group: "storage.k8s.io", Kind: "StorageClass", Name: text(claim, "spec", "storageClassName")}, does)
}

// names reads a list of {name: ...}.
func (r *reader) names(o map[string]any, field, kind, does string) {
	for _, e := range list(o, field) {
		r.need(r.local(kind, text(e, "name")), does)
	}
}

func (r *reader) ingress(o map[string]any) {
	r.need(belay.ObjectID{Group: "networking.k8s.io", Kind: "IngressClass", Name: text(o, "spec", "ingressClassName")}, "is served by it")
	for _, tls := range list(object(o, "spec"), "tls") {
		r.need(r.local("Secret", text(tls, "secretName")), "serves its certificate")
	}
	if issuer := text(o, "metadata", "annotations", "cert-manager.io/cluster-issuer") + text(o, "metadata", "annotations", "cert-manager.io/issuer"); issuer != "" {
		for _, tls := range list(object(o, "spec"), "tls") {
			r.makes(text(tls, "secretName"))
		}
	}
}

func (r *reader) binding(o map[string]any) {
	const group = "rbac.authorization.k8s.io"
	ref := belay.ObjectID{Group: group, Kind: text(o, "roleRef", "kind"), Name: text(o, "roleRef", "name")}
	if ref.Kind == "Role" {
		ref.Namespace = r.id.Namespace
	}
	r.need(ref, "grants it")
	for _, s := range list(o, "subjects") {
		if text(s, "kind") == "ServiceAccount" {
			id := r.local("ServiceAccount", text(s, "name"))
			if ns := text(s, "namespace"); ns != "" {
				id.Namespace = ns
			}
			r.need(id, "grants rights to it")
		}
	}
}

// webhooks have to be called with an authority that somebody puts there.
func (r *reader) webhooks(o map[string]any) {
	for annotation := range object(o, "metadata", "annotations") {
		if strings.Contains(annotation, "inject-ca") || strings.Contains(annotation, "inject-apiserver-ca") {
			return
		}
	}
	for _, hook := range list(o, "webhooks") {
		client := object(hook, "clientConfig")
		if client["service"] != nil && text(client, "caBundle") == "" {
			r.need(belay.ObjectID{Kind: webhookAuthority, Name: r.id.Name}, fmt.Sprintf("names none for its webhook %s", text(hook, "name")))
			return
		}
	}
}

// webhookAuthority stands for a CA bundle, which is no object.
const webhookAuthority = "CABundle"

// maker reads an object for which a controller makes a Secret.
func (r *reader) maker(o map[string]any) {
	switch r.id.Kind {
	case "ExternalSecret":
		name := text(o, "spec", "target", "name")
		if name == "" {
			name = r.id.Name
		}
		r.makes(name)
	case "SealedSecret", "SopsSecret", "VaultStaticSecret", "OnePasswordItem", "InfisicalSecret":
		name := text(o, "spec", "destination", "name")
		if name == "" {
			name = r.id.Name
		}
		r.makes(name)
	case "Certificate":
		r.makes(text(o, "spec", "secretName"))
	}
}

// makes notes a Secret that is made in the cluster.
func (r *reader) makes(name string) {
	if name != "" {
		r.c.Makes = append(r.c.Makes, r.local("Secret", name))
	}
}

// pod reads the spec of a pod.
func (r *reader) pod(pod map[string]any) {
	r.names(pod, "imagePullSecrets", "Secret", "pulls images with it")
	account := text(pod, "serviceAccountName")
	if account == "" {
		account = text(pod, "serviceAccount")
	}
	r.need(r.local("ServiceAccount", account), "runs as it")
	r.need(belay.ObjectID{Group: "scheduling.k8s.io", Kind: "PriorityClass", Name: text(pod, "priorityClassName")}, "has that priority")
	r.need(belay.ObjectID{Group: "node.k8s.io", Kind: "RuntimeClass", Name: text(pod, "runtimeClassName")}, "runs in it")
	for _, field := range []string{"initContainers", "containers", "ephemeralContainers"} {
		for _, c := range list(pod, field) {
			r.container(c)
		}
	}
	for _, v := range list(pod, "volumes") {
		r.volume(v)
		for _, s := range list(object(v, "projected"), "sources") {
			r.reference(object(s, "secret"), "Secret", "name", "mounts it")
			r.reference(object(s, "configMap"), "ConfigMap", "name", "mounts it")
		}
	}
}

func (r *reader) container(c map[string]any) {
	for _, e := range list(c, "env") {
		r.reference(object(e, "valueFrom", "secretKeyRef"), "Secret", "name", "reads "+text(e, "name")+" from it")
		r.reference(object(e, "valueFrom", "configMapKeyRef"), "ConfigMap", "name", "reads "+text(e, "name")+" from it")
	}
	for _, e := range list(c, "envFrom") {
		r.reference(object(e, "secretRef"), "Secret", "name", "reads its environment from it")
		r.reference(object(e, "configMapRef"), "ConfigMap", "name", "reads its environment from it")
	}
}

func (r *reader) volume(v map[string]any) {
	r.reference(object(v, "secret"), "Secret", "secretName", "mounts it")
	r.reference(object(v, "configMap"), "ConfigMap", "name", "mounts it")
	r.reference(object(v, "persistentVolumeClaim"), "PersistentVolumeClaim", "claimName", "mounts it")
	r.reference(object(v, "csi", "nodePublishSecretRef"), "Secret", "name", "mounts a volume with it")
}

// reference reads one that may be optional.
func (r *reader) reference(ref map[string]any, kind, field, does string) {
	if optional, _ := ref["optional"].(bool); !optional {
		r.need(r.local(kind, text(ref, field)), does)
	}
}

// object is the object at a path, nil if there is none.
func object(o map[string]any, path ...string) map[string]any {
	for _, p := range path {
		o, _ = o[p].(map[string]any)
	}
	return o
}

// text is the text at a path, "" if there is none.
func text(o map[string]any, path ...string) string {
	s, _ := object(o, path[:len(path)-1]...)[path[len(path)-1]].(string)
	return s
}

// list are the objects of a list.
func list(o map[string]any, field string) []map[string]any {
	all, _ := o[field].([]any)
	out := make([]map[string]any, 0, len(all))
	for _, e := range all {
		if m, ok := e.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return slices.Clip(out)
}
