package stub

import (
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

func serve(t *testing.T) (*Clusters, *rest.Config) {
	t.Helper()
	s, err := Serve(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	cfg, err := clientcmd.RESTConfigFromKubeConfig([]byte(s.Kubeconfig()))
	if err != nil {
		t.Fatal(err)
	}
	return s, cfg
}

// client-go takes a stub for an API server: what it is told to apply is there, is
// listed and watched, and nothing is written twice.
func TestStub(t *testing.T) {
	s, cfg := serve(t)
	d, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, lists, err := d.ServerGroupsAndResources()
	if err != nil || len(lists) != 19 {
		t.Fatalf("%d group versions: %v", len(lists), err)
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	configs := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("a")
	send := func(value, uid, version string) (*unstructured.Unstructured, error) {
		meta := map[string]any{"name": "web", "namespace": "a", "labels": map[string]any{"x": "y"}}
		if uid != "" {
			meta["uid"] = uid
		}
		if version != "" {
			meta["resourceVersion"] = version
		}
		o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": map[string]any{"value": value}}}
		return configs.Apply(t.Context(), "web", o, metav1.ApplyOptions{FieldManager: "bench", Force: true})
	}
	first, err := send("1", "", "1")
	if err != nil {
		t.Fatal(err)
	}
	fields := string(first.GetManagedFields()[0].FieldsV1.GetRawBytes())
	if want := `{"f:data":{"f:value":{}},"f:metadata":{"f:labels":{"f:x":{}}}}`; fields != want || first.GetManagedFields()[0].Manager != "bench" {
		t.Errorf("managed fields %s, want %s", fields, want)
	}
	if again, err := send("1", string(first.GetUID()), ""); err != nil || again.GetResourceVersion() != first.GetResourceVersion() {
		t.Errorf("the same was written once more: %v", err)
	}
	if _, err := send("2", "", "1"); !apierrors.IsConflict(err) {
		t.Errorf("made although it is there: %v", err)
	}
	if _, err := send("2", "another", ""); !apierrors.IsConflict(err) {
		t.Errorf("written to another object: %v", err)
	}
	for selector, want := range map[string]int{"x=y": 1, "x=z": 0, "!x": 0, "x=y,!z": 1} {
		if l, err := configs.List(t.Context(), metav1.ListOptions{LabelSelector: selector}); err != nil || len(l.Items) != want {
			t.Errorf("%q chooses %d: %v", selector, len(l.Items), err)
		}
	}
	yes := true
	w, err := configs.Watch(t.Context(), metav1.ListOptions{SendInitialEvents: &yes, AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	var seen []string
	next := func() watch.Event { ev := <-w.ResultChan(); seen = append(seen, string(ev.Type)); return ev }
	next()
	if b, ok := next().Object.(*unstructured.Unstructured); !ok || b.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" {
		t.Error("the initial events do not end")
	}
	if _, err := send("2", string(first.GetUID()), ""); err != nil {
		t.Fatal(err)
	}
	next()
	if err := configs.Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	next()
	if got := strings.Join(seen, " "); got != "ADDED BOOKMARK MODIFIED DELETED" {
		t.Errorf("watched: %s", got)
	}
	if c := s.counts(); c.Objects != 0 || c.Watches != 1 || c.Requests["patch"] != 5 || len(c.Unknown) > 0 {
		t.Errorf("counts %+v", c)
	}
}
