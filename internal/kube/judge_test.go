package kube

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/belaydev/belay"
)

// An object that arrives again as it was, after a broken connection say, is not
// judged again; another version of it is, and so it is by another check.
func TestJudgedOnceForEachVersion(t *testing.T) {
	s, asked := newStore(), 0
	kind := belay.Kind{Group: "example.org", Kind: "X"}
	arrive := func(version, digest string) []string {
		t.Helper()
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.org/v1", "kind": "X", "metadata": map[string]any{
			"name": "x", "namespace": "ns", "uid": "1", "resourceVersion": version,
			"labels":        map[string]any{belay.LabelManaged: "true"},
			"annotations":   map[string]any{belay.AnnotationID: belay.FormatID("shop", belay.ObjectID{Group: kind.Group, Kind: kind.Kind, Namespace: "ns", Name: "x"})},
			"managedFields": []any{map[string]any{"manager": belay.FieldManager, "operation": "Apply"}},
		}}}
		tr := trimmer{resource: resource{kind: kind, namespaced: true}, known: s, check: belay.HealthCheck{Digest: digest, Judge: func(map[string]any) (belay.Health, string) {
			asked++
			return belay.Suspended, digest
		}}}
		got, err := tr.trim(u)
		if err != nil || !got.ours || got.live.Health != belay.Suspended || got.live.HealthMessage != digest {
			t.Fatalf("%+v %v", got, err)
		}
		return s.observed(got)
	}
	for i, step := range []struct {
		version, digest string
		asked, told     int
	}{{"1", "a", 1, 1}, {"1", "a", 1, 0}, {"2", "a", 2, 0}, {"2", "b", 3, 2}, {"2", "b", 3, 0}} {
		told := arrive(step.version, step.digest)
		if asked != step.asked || len(told) != step.told {
			t.Errorf("step %d: judged %d times, told %v", i, asked, told)
		}
	}
}
