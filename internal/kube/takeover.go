package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/belaydev/belay"
)

// takeOver makes the fields that managers set by hand ours, so that the apply
// that follows removes those which are not declared: an apply drops what its
// manager owned and no longer names. The object's values stay as they are.
func (c *Cluster) takeOver(ctx context.Context, r resource, id belay.ObjectID, uid string, from []string) error {
	for attempt := 1; ; attempt++ {
		m, err := c.getMetadata(ctx, r, id)
		if apierrors.IsNotFound(err) {
			return nil // the apply finds that out in its own way
		}
		if err != nil {
			return err
		}
		if string(m.UID) != uid {
			return nil // likewise
		}
		patch, err := takeOverPatch(m, from)
		if err != nil {
			return err
		}
		if patch == nil {
			return nil
		}
		_, err = c.metadataCall(ctx, call{verb: http.MethodPatch, resource: r, id: id, content: contentJSONPatch, body: patch,
			query: map[string]string{"fieldManager": belay.FieldManager}})
		if err == nil || !apierrors.IsConflict(err) || attempt == applyAttempts {
			return err
		}
	}
}

// takeOverPatch moves the entries of managers into ours; nil if there are none.
func takeOverPatch(m *metav1.PartialObjectMetadata, from []string) ([]byte, error) {
	before := slices.Clone(m.ManagedFields)
	names := sets.New(from...)
	// The library knows of updates only. What a person applied is an update to us,
	// under a name of its own, because it takes one entry of a name.
	for i := range m.ManagedFields {
		if e := &m.ManagedFields[i]; e.Operation == metav1.ManagedFieldsOperationApply && e.Subresource == "" && slices.Contains(from, e.Manager) {
			e.Operation, e.Manager = metav1.ManagedFieldsOperationUpdate, e.Manager+" (applied)"
			names.Insert(e.Manager)
		}
	}
	for i := range m.ManagedFields {
		if e := &m.ManagedFields[i]; names.Has(e.Manager) {
			if err := forgetUntouchable(e); err != nil {
				return nil, err
			}
		}
	}
	if err := csaupgrade.UpgradeManagedFields(m, names, belay.FieldManager); err != nil {
		return nil, err
	}
	if len(m.ManagedFields) == len(before) {
		return nil, nil
	}
	// The resourceVersion makes it fail if anybody wrote since: as a replacement,
	// because a failed test would be an invalid patch and not a conflict.
	return json.Marshal([]map[string]any{
		{"op": "replace", "path": "/metadata/managedFields", "value": m.ManagedFields},
		{"op": "replace", "path": "/metadata/resourceVersion", "value": m.ResourceVersion},
	})
}

// restartedAt is how "kubectl rollout restart" and its like ask for new pods. If
// it became ours, the apply would drop it, and that would restart them again.
var restartedAt = fieldpath.MakePathOrDie("spec", "template", "metadata", "annotations", "kubectl.kubernetes.io/restartedAt")

// replicas that are not declared belong to whoever scales. If they became ours,
// the apply would drop them, and the API server would fall back to one.
var replicas = fieldpath.MakePathOrDie("spec", "replicas")

// untouchable are those of the owned fields that are never taken over.
func untouchable(owned *fieldpath.Set) *fieldpath.Set {
	out := fieldpath.NewSet()
	if owned.Has(restartedAt) {
		for i := range restartedAt { // whoever adds the first annotation owns the map of them as well
			out.Insert(restartedAt[:i+1])
		}
	}
	if owned.Has(replicas) {
		out.Insert(replicas)
	}
	return out
}

// forgetUntouchable takes such fields out of an entry; their values stay as they are.
func forgetUntouchable(e *metav1.ManagedFieldsEntry) error {
	if e.FieldsV1 == nil {
		return nil
	}
	var owned fieldpath.Set
	if err := owned.FromJSON(bytes.NewReader(e.FieldsV1.GetRawBytes())); err != nil {
		return fmt.Errorf("read the managed fields of %s: %w", e.Manager, err)
	}
	forgotten := untouchable(&owned)
	if forgotten.Empty() {
		return nil
	}
	rest, err := owned.Difference(forgotten).ToJSON()
	if err != nil {
		return fmt.Errorf("write the managed fields of %s: %w", e.Manager, err)
	}
	e.FieldsV1 = &metav1.FieldsV1{Raw: rest}
	return nil
}
