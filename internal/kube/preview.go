package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/belaydev/belay"
)

// Preview is the live object and what the action would make of it, by the API
// server's own word: nothing is changed. before is nil if there is none, after
// if it would be deleted. They are whole, a Secret's values included; what the
// server keeps for itself (status, managedFields, versions) is left out.
//
// What makes an apply fail makes a preview fail, in the same words.
func (c *Cluster) Preview(ctx context.Context, a belay.Action) (before, after json.RawMessage, err error) {
	var secrets []string
	if a.Desired != nil && a.Desired.Sensitive() {
		secrets = belay.SecretValues(a.Desired.Raw)
	}
	if err := c.checkPlace(a.ID); err != nil {
		return nil, nil, err
	}
	r, err := c.resolveAction(a)
	if err != nil {
		return nil, nil, err
	}
	there, err := c.getWhole(ctx, r, a.ID)
	if err != nil && !apierrors.IsNotFound(err) {
		return nil, nil, c.apiError(err, a.ID, secrets)
	}
	if there != nil {
		if before, err = forPeople(there); err != nil {
			return nil, nil, c.apiError(err, a.ID, secrets)
		}
	}
	if a.Verb == belay.VerbDelete || a.Desired == nil {
		return before, nil, nil
	}
	result, err := c.dryRun(ctx, r, a, there)
	if err != nil {
		return before, nil, c.apiError(err, a.ID, secrets)
	}
	if after, err = forPeople(result); err != nil {
		return before, nil, c.apiError(err, a.ID, secrets)
	}
	return before, after, nil
}

func (c *Cluster) resolveAction(a belay.Action) (resource, error) {
	switch {
	case a.Desired != nil:
		return c.resolve(a.Desired.APIVersion, a.ID)
	case a.Live == nil:
		return resource{}, c.defect(a.ID, "an action with neither a desired nor a live object")
	}
	r, served, err := c.resolveLive(*a.Live)
	if err == nil && !served {
		return c.resolve(a.Live.APIVersion, a.ID) // which says so
	}
	return r, err
}

// dryRun asks what an apply would make of the object there, which may be nil.
func (c *Cluster) dryRun(ctx context.Context, r resource, a belay.Action, there *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	var pre precondition
	if there != nil {
		m := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Labels: there.GetLabels(), Annotations: there.GetAnnotations(),
			ManagedFields: there.GetManagedFields(), DeletionTimestamp: there.GetDeletionTimestamp()}}
		application, _, _ := belay.ParseID(annotationOf(a.Desired))
		if err := c.mayContinue(&m, application, a); err != nil {
			return nil, err
		}
		pre.uid = string(there.GetUID())
	}
	p, err := applyCall(r, a.ID, a.Desired.Raw, pre, true)
	if err != nil {
		return nil, err
	}
	p.accept = acceptJSON
	result, err := c.whole(ctx, p)
	if err == nil && there != nil && c.handsOverReplicas(a) {
		if n, ok, _ := unstructured.NestedInt64(there.Object, "spec", "replicas"); ok {
			err = unstructured.SetNestedField(result.Object, n, "spec", "replicas")
		}
	}
	if err != nil || len(a.TakeOver) == 0 {
		return result, err
	}
	return result, dropAdditions(result, managers(a.TakeOver))
}

func annotationOf(o *belay.Object) string {
	var head struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	}
	if json.Unmarshal(o.Raw, &head) != nil {
		return ""
	}
	return head.Metadata.Annotations[belay.AnnotationID]
}

func (c *Cluster) getWhole(ctx context.Context, r resource, id belay.ObjectID) (*unstructured.Unstructured, error) {
	return c.whole(ctx, call{verb: http.MethodGet, resource: r, id: id, accept: acceptJSON})
}

func (c *Cluster) whole(ctx context.Context, p call) (*unstructured.Unstructured, error) {
	body, err := c.do(ctx, p)
	if err != nil {
		return nil, err
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(body); err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return u, nil
}

// forPeople leaves out what the API server keeps for itself.
func forPeople(u *unstructured.Unstructured) (json.RawMessage, error) {
	u = u.DeepCopy()
	unstructured.RemoveNestedField(u.Object, "status")
	for _, f := range []string{"managedFields", "resourceVersion", "uid", "generation", "creationTimestamp", "selfLink"} {
		unstructured.RemoveNestedField(u.Object, "metadata", f)
	}
	return json.Marshal(u.Object)
}

// dropAdditions removes what only the given managers own. A dry run cannot take
// their entries over first, so this is what the apply after that would do.
func dropAdditions(u *unstructured.Unstructured, from managers) error {
	theirs, others := fieldpath.NewSet(), fieldpath.NewSet()
	for _, e := range u.GetManagedFields() {
		if e.FieldsV1 == nil {
			continue
		}
		var s fieldpath.Set
		if err := s.FromJSON(bytes.NewReader(e.FieldsV1.GetRawBytes())); err != nil {
			return fmt.Errorf("read the fields of manager %q: %w", e.Manager, err)
		}
		if e.Subresource == "" && from.has(e.Manager) {
			theirs = theirs.Union(&s)
		} else {
			others = others.Union(&s)
		}
	}
	theirs.Difference(others).Difference(untouchable(theirs)).Iterate(func(p fieldpath.Path) { removePath(u.Object, p) })
	return nil
}

// removePath removes what a path leads to, if it is there.
func removePath(v any, p fieldpath.Path) (left any, empty bool) {
	if len(p) == 0 {
		return nil, true
	}
	switch e := p[0]; {
	case e.FieldName != nil:
		m, ok := v.(map[string]any)
		if !ok {
			return v, false
		}
		child, ok := m[*e.FieldName]
		if !ok {
			return v, false
		}
		if left, empty := removePath(child, p[1:]); empty {
			delete(m, *e.FieldName)
		} else {
			m[*e.FieldName] = left
		}
		return m, false
	case e.Key != nil || e.Value != nil:
		list, ok := v.([]any)
		if !ok {
			return v, false
		}
		for i, item := range list {
			if !stands(e, item) {
				continue
			}
			if left, empty := removePath(item, p[1:]); empty {
				return append(list[:i:i], list[i+1:]...), false
			} else {
				list[i] = left
			}
			return list, false
		}
	}
	return v, false
}

// stands reports whether a path element stands for a list item.
func stands(e fieldpath.PathElement, item any) bool {
	if e.Value != nil {
		return value.Equals(*e.Value, value.NewValueInterface(item))
	}
	m, ok := item.(map[string]any)
	if !ok {
		return false
	}
	for _, f := range *e.Key {
		got, ok := m[f.Name]
		if !ok || !value.Equals(f.Value, value.NewValueInterface(runtime.DeepCopyJSONValue(got))) {
			return false
		}
	}
	return true
}
