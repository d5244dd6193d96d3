package kube

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"

	"github.com/belaydev/belay"
)

// Definitions lists the CustomResourceDefinitions of a cluster as somebody would
// declare them. It reads nothing else.
func Definitions(ctx context.Context, cfg *Config) ([]belay.Object, error) {
	client, err := dynamic.NewForConfig(prepared(cfg))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", hostOf(cfg.Host), err)
	}
	list, err := client.Resource(crds).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, &belay.Error{Code: belay.CodeUnavailable, Err: err,
			Message: fmt.Sprintf("the definitions of kinds in %s cannot be listed: %s", hostOf(cfg.Host), plainCause(err)),
			Hint:    "a drill needs to list customresourcedefinitions there, and nothing more"}
	}
	out := make([]belay.Object, 0, len(list.Items))
	for i := range list.Items {
		u := &list.Items[i]
		spec, _, _ := unstructured.NestedMap(u.Object, "spec")
		raw, err := json.Marshal(map[string]any{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": u.GetName()}, "spec": spec})
		if err != nil {
			return nil, fmt.Errorf("read the definition %s: %w", u.GetName(), err)
		}
		out = append(out, belay.Object{APIVersion: "apiextensions.k8s.io/v1", Raw: raw,
			ID: belay.ObjectID{Group: crds.Group, Kind: "CustomResourceDefinition", Name: u.GetName()}})
	}
	return out, nil
}

// Define makes a definition in a cluster that exists for a rehearsal. It belongs to
// no application.
func Define(ctx context.Context, cfg *Config, permit belay.Permit, o belay.Object) error {
	if permit.ID() != o.ID {
		return &belay.Error{Code: belay.CodeDenied, Object: o.ID.String(), Message: "the permit is for another object"}
	}
	client, err := dynamic.NewForConfig(prepared(cfg))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", hostOf(cfg.Host), err)
	}
	var u unstructured.Unstructured
	if err := json.Unmarshal(o.Raw, &u.Object); err != nil {
		return fmt.Errorf("read %s: %w", o.ID, err)
	}
	if _, err := client.Resource(crds).Create(ctx, &u, metav1.CreateOptions{FieldManager: "belay-drill"}); err != nil {
		return fmt.Errorf("define %s: %s", o.ID.Name, plainCause(err))
	}
	return nil
}
