package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/belaydev/belay"
)

// prepare sees to it that an apply of an object that is there leaves and removes
// what it should, and returns what to apply. It changes whose fields are, and
// never a value. foreign is true for an object that is being adopted.
func (c *Cluster) prepare(ctx context.Context, r resource, permit belay.Permit, a belay.Action, uid string, foreign bool) ([]byte, error) {
	raw, scaled := a.Desired.Raw, c.handsOverReplicas(a)
	if len(a.TakeOver) == 0 && !scaled && !foreign && !a.Manner.Replace && len(a.Manner.Ignore) == 0 {
		return raw, nil
	}
	err := c.reassign(ctx, r, permit, a.ID, uid, func(m *metav1.PartialObjectMetadata) (bool, error) {
		o, err := ownershipOf(&m.ObjectMeta)
		if err != nil {
			return false, err
		}
		left, err := leave(a.Desired, m.ManagedFields, a.Manner.Ignore)
		if err != nil {
			return false, err
		}
		raw = left.raw
		o.takeOver(a.Desired.APIVersion, c.takesOver(a, foreign), sparing(a.Manner.Replace || foreign, left.fields))
		if foreign {
			// What Git declares must be ours alone, or else it could not be removed by
			// removing it from Git. What that is the API server itself tells.
			as, err := c.patch(ctx, r, permit, a.ID, raw, precondition{uid: uid}, true)
			if err != nil {
				return false, err
			}
			declared, err := appliedFields(as.ManagedFields)
			if err != nil {
				return false, err
			}
			o.takeOver(a.Desired.APIVersion, func(*metav1.ManagedFieldsEntry) bool { return true },
				func(owned *fieldpath.Set) *fieldpath.Set {
					return owned.Difference(declared).Union(below(owned, left.fields))
				})
		}
		gone := fieldpath.NewSet()
		for i := range o.entries {
			if isOurs(&o.entries[i]) {
				gone = below(o.sets[i], left.fields)
			}
		}
		if scaled {
			gone.Insert(replicas)
		}
		o.giveUp(gone)
		return o.write(&m.ObjectMeta)
	})
	return raw, err
}

// takesOver says whose fields become ours before an apply.
func (c *Cluster) takesOver(a belay.Action, foreign bool) func(*metav1.ManagedFieldsEntry) bool {
	return func(e *metav1.ManagedFieldsEntry) bool {
		switch {
		case slices.Contains(a.TakeOver, e.Manager):
			return true
		case a.Manner.Replace: // fields of another version may have other names
			return e.APIVersion == a.Desired.APIVersion
		case foreign:
			return deployers.has(e.Manager) || c.interactive.has(e.Manager)
		}
		return false
	}
}

// deployers are the field managers of tools that deliver whole objects as Belay
// does. When an object is adopted all that they set becomes ours, so that what
// Git does not declare goes away. Of others only that becomes ours which Git declares.
var deployers = managers{"helm", "Helm", "argocd-controller", "argocd-application-controller", "kustomize-controller", "helm-controller",
	"kubectl-create", "kubectl-client-side-apply", "before-first-apply", "kubectl", "Terraform", "HashiCorp", "pulumi-kubernetes", "kapp", "kapp-controller", "fleetagent"}

// lifecycle are fields that hold an object alive or let it go with another. Who
// set them counts on them, whatever is declared.
var lifecycle = []fieldpath.Path{fieldpath.MakePathOrDie("metadata", "finalizers"), fieldpath.MakePathOrDie("metadata", "ownerReferences"), fieldpath.MakePathOrDie("status")}

// sparing says what is not taken over: what would do harm, what is left to
// others, and with whole entries of strangers what they hold the object by.
func sparing(strangers bool, left []fieldpath.Path) func(*fieldpath.Set) *fieldpath.Set {
	return func(owned *fieldpath.Set) *fieldpath.Set {
		out := untouchable(owned).Union(below(owned, left))
		if strangers {
			out = out.Union(below(owned, lifecycle))
		}
		return out
	}
}

// appliedFields is what our entry owns.
func appliedFields(entries []metav1.ManagedFieldsEntry) (*fieldpath.Set, error) {
	for i := range entries {
		if isOurs(&entries[i]) {
			return fieldsOf(&entries[i])
		}
	}
	return fieldpath.NewSet(), nil
}

// reassign changes whose fields of an object are. change returns false where
// nothing needs to be changed.
func (c *Cluster) reassign(ctx context.Context, r resource, permit belay.Permit, id belay.ObjectID, uid string, change func(*metav1.PartialObjectMetadata) (bool, error)) error {
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
		changed, err := change(m)
		if err != nil || !changed {
			return err
		}
		patch, err := managersPatch(m)
		if err != nil {
			return err
		}
		_, err = c.metadataCall(ctx, call{verb: http.MethodPatch, resource: r, id: id, content: contentJSONPatch, body: patch, user: userOf(permit),
			query: map[string]string{"fieldManager": belay.FieldManager}})
		if err == nil || !apierrors.IsConflict(err) || attempt == applyAttempts {
			return err
		}
	}
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

// claimsReplicas looks for the field without parsing: it is asked of every
// object that arrives, and a mistake costs one request.
func claimsReplicas(e *metav1.ManagedFieldsEntry) bool {
	return e.FieldsV1 != nil && bytes.Contains(e.FieldsV1.GetRawBytes(), []byte(`"f:replicas":{}`))
}
