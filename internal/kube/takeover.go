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
	return c.reassign(ctx, r, id, uid, func(m *metav1.PartialObjectMetadata) ([]byte, error) { return takeOverPatch(m, from) })
}

// reassign changes whose fields of an object are. make returns nil where nothing
// needs to be changed.
func (c *Cluster) reassign(ctx context.Context, r resource, id belay.ObjectID, uid string, make func(*metav1.PartialObjectMetadata) ([]byte, error)) error {
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
		patch, err := make(m)
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
	return managersPatch(m)
}

// managersPatch replaces the managed fields by those of m.
func managersPatch(m *metav1.PartialObjectMetadata) ([]byte, error) {
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
	e.FieldsV1 = metav1.NewFieldsV1(string(rest))
	return nil
}

// A manifest that no longer names replicas hands them to an autoscaler. The
// apply alone would drop the value with our claim to it, which means one replica
// until somebody scales again; so the claim is given up first.

// handsOverReplicas says whether the manifest does that.
func (c *Cluster) handsOverReplicas(a belay.Action) bool {
	if a.Verb == belay.VerbCreate || !c.objects.ownsReplicas(a.ID) {
		return false
	}
	var m struct {
		Spec struct {
			Replicas json.RawMessage `json:"replicas"`
		} `json:"spec"`
	}
	return json.Unmarshal(a.Desired.Raw, &m) == nil && m.Spec.Replicas == nil
}

// giveUpReplicas gives up the claim, and leaves the number as it is.
func giveUpReplicas(m *metav1.PartialObjectMetadata) ([]byte, error) {
	i := slices.IndexFunc(m.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return appliedByUs([]metav1.ManagedFieldsEntry{e}) && claimsReplicas(&e)
	})
	if i < 0 {
		return nil, nil
	}
	if err := forgetUntouchable(&m.ManagedFields[i]); err != nil {
		return nil, err
	}
	return managersPatch(m)
}

// claimsReplicas looks for the field without parsing: it is asked of every
// object that arrives, and a mistake costs one request.
func claimsReplicas(e *metav1.ManagedFieldsEntry) bool {
	return e.FieldsV1 != nil && bytes.Contains(e.FieldsV1.GetRawBytes(), []byte(`"f:replicas":{}`))
}
