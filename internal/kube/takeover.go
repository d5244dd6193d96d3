package kube

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"

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
