package kube

import (
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
// server's own word: nothing is changed. They are whole, a Secret's values
// included; what the server keeps for itself (status, managedFields, versions) is
// left out.
//
// What makes an apply fail makes a preview fail, in the same words; but where the
// action's manner allows to adopt the object, or to make it anew, that is what
// comes back. The error leaves Outcome.Before as it is known.
func (c *Cluster) Preview(ctx context.Context, permit belay.Permit, a belay.Action) (belay.Outcome, error) {
	out := belay.Outcome{Verb: a.Verb}
	if err := c.checkPermit(permit, a.ID); err != nil {
		return out, err
	}
	var secrets []string
	if a.Desired != nil && a.Desired.Sensitive() {
		secrets = belay.SecretValues(a.Desired.Raw)
	}
	if err := c.checkPlace(a.ID); err != nil {
		return out, err
	}
	r, err := c.resolveAction(a)
	if err != nil {
		return out, err
	}
	there, err := c.getWhole(ctx, r, a.ID)
	if err != nil && !apierrors.IsNotFound(err) {
		return out, c.apiError(err, a.ID, secrets)
	}
	if there != nil {
		if out.Before, err = forPeople(there); err != nil {
			return out, c.apiError(err, a.ID, secrets)
		}
	}
	if a.Verb == belay.VerbDelete || a.Desired == nil {
		return out, nil
	}
	if a.Manner.Adopt && a.Verb == belay.VerbCreate {
		a.Verb = belay.VerbAdopt
	}
	result, foreign, err := c.dryRun(ctx, r, permit, a, there)
	if foreign {
		out.Verb = belay.VerbAdopt
	}
	if err != nil {
		e := c.writeError(permit, err, a.ID, secrets)
		if e.Code != belay.CodeImmutable || !a.Manner.Recreate || there == nil || foreign {
			return out, e
		}
		out.Verb = belay.VerbRecreate
		if result, err = c.dryCreate(ctx, r, permit, a); err != nil {
			return out, c.writeError(permit, err, a.ID, secrets)
		}
	}
	if out.After, err = forPeople(result); err != nil {
		return out, c.apiError(err, a.ID, secrets)
	}
	return out, nil
}

// dryCreate asks what the object would be if it were made anew. While the old one
// has the name, another one has to do.
func (c *Cluster) dryCreate(ctx context.Context, r resource, permit belay.Permit, a belay.Action) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(a.Desired.Raw); err != nil {
		return nil, fmt.Errorf("read the manifest: %w", err)
	}
	declared := u.DeepCopy()
	u.SetName(shorten(a.ID.Name, 40) + "-made-anew")
	body, err := u.MarshalJSON()
	if err != nil {
		return nil, err
	}
	made, err := c.whole(ctx, call{verb: http.MethodPost, resource: r, id: a.ID, collection: true, content: contentJSON, body: body, user: userOf(permit),
		accept: acceptJSON, query: map[string]string{"fieldManager": belay.FieldManager, "dryRun": "All"}})
	if err == nil {
		made.SetName(a.ID.Name)
		return made, nil
	}
	return declared, nil // what depends on the name is seen when it is written
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
// foreign is true if it would be adopted.
func (c *Cluster) dryRun(ctx context.Context, r resource, permit belay.Permit, a belay.Action, there *unstructured.Unstructured) (result *unstructured.Unstructured, foreign bool, err error) {
	var pre precondition
	left := left{raw: a.Desired.Raw}
	if there != nil {
		m := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Labels: there.GetLabels(), Annotations: there.GetAnnotations(),
			ManagedFields: there.GetManagedFields(), DeletionTimestamp: there.GetDeletionTimestamp()}}
		application, _, _ := belay.ParseID(annotationOf(a.Desired))
		if foreign, err = c.mayContinue(&m, application, a); err != nil {
			return nil, false, err
		}
		pre.uid = string(there.GetUID())
		if left, err = leave(a.Desired, m.ManagedFields, a.Manner.Ignore); err != nil {
			return nil, foreign, err
		}
	}
	p, err := applyCall(r, a.ID, left.raw, pre, true)
	if err != nil {
		return nil, foreign, err
	}
	p.accept, p.user = acceptJSON, userOf(permit)
	if result, err = c.whole(ctx, p); err != nil {
		return nil, foreign, err
	}
	if there == nil {
		return result, foreign, nil
	}
	// A dry run cannot change owners first, so this is what comes of that.
	if c.handsOverReplicas(a) {
		left.fields = append(left.fields, replicas)
	}
	restore(result, there, left.fields)
	return result, foreign, dropAdditions(result, c.takesOver(a, foreign), sparing(a.Manner.Replace || foreign, left.fields))
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

// dropAdditions removes what only those own whose entries would be taken over, but
// for what is spared.
func dropAdditions(u *unstructured.Unstructured, fits func(*metav1.ManagedFieldsEntry) bool, spared func(*fieldpath.Set) *fieldpath.Set) error {
	theirs, others := fieldpath.NewSet(), fieldpath.NewSet()
	for _, e := range u.GetManagedFields() {
		s, err := fieldsOf(&e)
		if err != nil {
			return err
		}
		if e.Subresource == "" && !isOurs(&e) && fits(&e) {
			theirs = theirs.Union(s)
		} else {
			others = others.Union(s)
		}
	}
	theirs.Difference(others).Difference(spared(theirs)).Iterate(func(p fieldpath.Path) { removePath(u.Object, p) })
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
