package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/belaydev/belay"
)

// Destination namespaces that Belay makes are not labelled: no sweep finds them
// and nothing deletes them. An annotation names the application that one was made
// for, and what sync.namespaceMetadata declares of it is applied under a field
// manager of its own, so that it never meets what a manifest declares of the
// same namespace.

// madeFor is a namespace that Belay made.
type madeFor struct {
	// owner is the application that it was made for, behind the name of its
	// instance and a slash if that has one.
	owner string
	// has is what the namespace carries of what was declared for it.
	has belay.NamespaceMetadata
}

func (m madeFor) carries(meta belay.NamespaceMetadata) bool {
	return maps.Equal(m.has.Labels, meta.Labels) && maps.Equal(m.has.Annotations, meta.Annotations)
}

var namespaces = coreResource("namespaces", "Namespace", false)

// madeNamespace says whether an object is a namespace that Belay made: a manifest
// that declares it later takes it in.
func madeNamespace(id belay.ObjectID, entries []metav1.ManagedFieldsEntry) bool {
	return id.GroupKind() == namespaces.kind && slices.ContainsFunc(entries, func(e metav1.ManagedFieldsEntry) bool {
		return e.Subresource == "" && (e.Manager == belay.NamespaceManager || e.Manager == belay.FieldManager && e.Operation == metav1.ManagedFieldsOperationUpdate)
	})
}

// made reads what namespaceMetadata came to; ok is false for a namespace that
// Belay did not make, or that a manifest declares by now.
func made(m *metav1.ObjectMeta) (madeFor, bool) {
	out := madeFor{owner: m.Annotations[belay.AnnotationCreatedFor]}
	if out.owner == "" || m.Labels[belay.LabelManaged] != "" || !madeNamespace(belay.ObjectID{Kind: "Namespace", Name: m.Name}, m.ManagedFields) {
		return out, false
	}
	for i := range m.ManagedFields {
		e := &m.ManagedFields[i]
		if e.Manager != belay.NamespaceManager || e.Operation != metav1.ManagedFieldsOperationApply {
			continue
		}
		owned, err := fieldsOf(e)
		if err != nil {
			continue
		}
		out.has.Labels, out.has.Annotations = ownedOf(owned, "labels", m.Labels), ownedOf(owned, "annotations", m.Annotations)
		delete(out.has.Annotations, belay.AnnotationCreatedFor)
	}
	return out, true
}

func ownedOf(owned *fieldpath.Set, part string, values map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range values {
		if owned.Has(fieldpath.MakePathOrDie("metadata", part, k)) {
			out[k] = v
		}
	}
	return out
}

func (c *Cluster) ownerName(application string) string {
	if c.instance == "" {
		return application
	}
	return c.instance + "/" + application
}

// NamespaceDiffers says whether a namespace that was made for an application does
// not carry what is declared for it, as far as is known: from the last sweep, and
// from what was written since.
func (c *Cluster) NamespaceDiffers(application, name string, meta belay.NamespaceMetadata) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, known := c.made[name]
	return known && m.owner == c.ownerName(application) && !m.carries(meta)
}

// lookForNamespaces lists what namespaces carry, once a sweep. That it is not
// allowed is no harm: they are made right when they are made.
func (c *Cluster) lookForNamespaces(ctx context.Context) {
	if len(c.namespaces) > 0 {
		return // it makes none
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	found := map[string]madeFor{}
	o := metav1.ListOptions{Limit: sweepPage}
	for {
		list, err := c.metadata.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).List(ctx, o)
		if err != nil {
			c.log.Debug("namespaces not listed", "error", plainCause(err))
			return
		}
		for i := range list.Items {
			if m, ok := made(&list.Items[i].ObjectMeta); ok {
				found[list.Items[i].Name] = m
			}
		}
		if o.Continue = list.Continue; o.Continue == "" {
			break
		}
	}
	c.mu.Lock()
	before := c.made
	c.made = found
	c.mu.Unlock()
	for name, m := range found {
		if b, ok := before[name]; ok && !b.carries(m.has) {
			_, application, cut := strings.Cut(m.owner, "/")
			if !cut {
				application = m.owner
			}
			c.notes.application(application)
		}
	}
}

// EnsureNamespace makes the namespace that the permit is for, if it is missing,
// and gives one that was made for the same application the labels and annotations.
// Any other namespace is left as it is. It is not labelled as managed: nothing
// that Belay does later deletes it.
func (c *Cluster) EnsureNamespace(ctx context.Context, permit belay.Permit, meta belay.NamespaceMetadata) error {
	id := permit.ID()
	if permit.Cluster() != c.name || id.GroupKind() != namespaces.kind {
		return c.defect(id, "a namespace to make with a permit for something else")
	}
	if len(c.namespaces) > 0 {
		return &belay.Error{Code: belay.CodeNoNamespace, Object: id.String(), Message: fmt.Sprintf("namespace %q does not exist, and this Belay makes none", id.Name),
			Hint: "have it made by whoever looks after the cluster"}
	}
	for attempt := 1; ; attempt++ {
		there, err := c.getMetadata(ctx, namespaces, id)
		var m *metav1.PartialObjectMetadata
		switch {
		case apierrors.IsNotFound(err):
			m, err = c.applyNamespace(ctx, permit, meta, precondition{})
		case err == nil:
			is, ok := made(&there.ObjectMeta)
			if !ok || is.owner != c.ownerName(permit.Application()) {
				return nil
			}
			if is.carries(meta) {
				c.noteNamespace(there) // another write of the same sync made it
				return nil
			}
			m, err = c.applyNamespace(ctx, permit, meta, precondition{uid: string(there.UID)})
		}
		switch {
		case err == nil:
			c.noteNamespace(m)
			return nil
		case attempt == applyAttempts || !apierrors.IsConflict(err):
			return c.writeError(permit, err, id, nil)
		}
	}
}

func (c *Cluster) applyNamespace(ctx context.Context, permit belay.Permit, meta belay.NamespaceMetadata, pre precondition) (*metav1.PartialObjectMetadata, error) {
	annotations := map[string]string{}
	maps.Copy(annotations, meta.Annotations)
	annotations[belay.AnnotationCreatedFor] = c.ownerName(permit.Application())
	raw, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": permit.ID().Name, "labels": meta.Labels, "annotations": annotations}})
	if err != nil {
		return nil, err
	}
	p, err := applyCall(namespaces, permit.ID(), raw, pre, false)
	if err != nil {
		return nil, err
	}
	p.user = userOf(permit)
	p.query = map[string]string{"fieldManager": belay.NamespaceManager, "force": strconv.FormatBool(pre.uid != "")}
	p.verb = http.MethodPatch
	return c.metadataCall(ctx, p)
}

// noteNamespace remembers the answer to a write.
func (c *Cluster) noteNamespace(m *metav1.PartialObjectMetadata) {
	now, ok := made(&m.ObjectMeta)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil {
		c.made = map[string]madeFor{}
	}
	c.made[m.Name] = now
}
