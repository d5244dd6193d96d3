package plan

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
)

// applyAs is a server-side apply of somebody else.
func (s *server) applyAs(o *belay.Object, manager, manifest string) {
	s.t.Helper()
	yes := true
	if _, err := s.resource(o).Patch(s.t.Context(), o.ID.Name, types.ApplyPatchType, []byte(manifest), metav1.PatchOptions{FieldManager: manager, Force: &yes}); err != nil {
		s.t.Fatal(err)
	}
}

func wantDrift(t *testing.T, v Verdict, taken, added []string, manager, operation string) {
	t.Helper()
	if v.OK {
		t.Fatal("found no drift")
	}
	if !slices.Equal(v.Drift.Taken, taken) || !slices.Equal(v.Drift.Added, added) || v.Drift.Manager != manager || v.Drift.Operation != operation {
		t.Errorf("drift: %s\nwant taken %q, added %q by %s (%s)", describe(v.Drift), taken, added, manager, operation)
	}
}

func wantNoDrift(t *testing.T, v Verdict) {
	t.Helper()
	if !v.OK {
		t.Errorf("drift: %s", describe(v.Drift))
	}
}

func TestCompareWithAnotherApplier(t *testing.T) {
	s := newServer(t)
	o := s.named(settings, "applier")
	s.apply(o)
	defer s.unblock(o)
	const head = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"applier"},`
	s.applyAs(o, "argocd", head+`"data":{"a":"1","z":"theirs"}}`)
	wantNoDrift(t, s.compare(o)) // an equal value is owned by both, and what is theirs is theirs
	s.applyAs(o, "argocd", head+`"data":{"a":"other","z":"theirs"}}`)
	v := s.compare(o)
	wantDrift(t, v, []string{"data.a"}, nil, "argocd", "Apply")
	s.heal(o, v)
	wantNoDrift(t, s.compare(o))

	s.applyAs(o, "kubectl", head+`"data":{"byHand":"x"}}`)
	v = s.compare(o)
	wantDrift(t, v, nil, []string{"data.byHand"}, "kubectl", "Apply")
	if !slices.Equal(v.TakeOver, []string{"kubectl"}) {
		t.Errorf("take over %q", v.TakeOver)
	}
	s.heal(o, v)
	wantNoDrift(t, s.compare(o))
	data := s.get(o).Object["data"].(map[string]any)
	if _, left := data["byHand"]; left || data["z"] != "theirs" {
		t.Errorf("healed to %v", data)
	}
}

// A removed key of a Secret's stringData goes away, as one of data does.
func TestStringDataIsOwned(t *testing.T) {
	s := newServer(t)
	o := s.named(login, "login")
	s.apply(o)
	var less = s.named(`
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {user: admin}
`, "login")
	s.apply(less)
	if data := s.get(o).Object["data"].(map[string]any); len(data) != 1 || data["user"] == nil {
		t.Errorf("%d keys are left, want user alone", len(data))
	}
	wantNoDrift(t, s.compare(less))
}

// What a tool writes through another version of the API is told by its metadata alone.
func TestCompareAcrossVersions(t *testing.T) {
	s := newServer(t)
	o := s.named(scaler, "old")
	s.apply(o)
	other := *o
	other.APIVersion = "autoscaling/v2"
	s.edit(&other, "kubectl-edit", types.MergePatchType, `{"spec":{"behavior":{"scaleDown":{"stabilizationWindowSeconds":7}}}}`)
	wantNoDrift(t, s.compare(o))
	s.edit(&other, "kubectl-edit", types.MergePatchType, `{"metadata":{"labels":{"x":"y"}}}`)
	v := s.compare(o)
	wantDrift(t, v, nil, []string{"metadata.labels.x"}, "kubectl-edit", "Update")
	s.edit(&other, "kubectl-edit", types.MergePatchType, `{"spec":{"maxReplicas":9}}`)
	v = s.compare(o)
	if !slices.Equal(v.Drift.Taken, []string{"spec.maxReplicas"}) {
		t.Errorf("drift: %s", describe(v.Drift))
	}
}

// Whoever wipes managedFields makes everything nobody's: all of it is applied again.
func TestCompareWithoutManagedFields(t *testing.T) {
	s := newServer(t)
	o := s.named(settings, "wiped")
	s.apply(o)
	defer s.unblock(o)
	s.edit(o, "wiper", types.MergePatchType, `{"metadata":{"managedFields":[{}]}}`)
	v := s.compare(o)
	if v.OK {
		t.Fatalf("found no drift%s", ours(s.live(o)))
	}
	s.heal(o, v)
	wantNoDrift(t, s.compare(o))
}
