package belay_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

// manifestWith is a Job with annotations.
func manifestWith(annotations map[string]string) []byte {
	b, err := json.Marshal(annotations)
	if err != nil {
		panic(err)
	}
	return fmt.Appendf(nil, `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x","annotations":%s}}`, b)
}

func TestHooksInThreeDialects(t *testing.T) {
	type m = map[string]string
	for _, tt := range []struct {
		name        string
		annotations m
		want        *belay.Hook
		wave        int
		leftOut     bool
	}{
		{name: "none", annotations: m{"belay.dev/wave": "3"}, wave: 3},
		{name: "own", annotations: m{"belay.dev/hook": "PostSync, PreSync ,PreSync"}, want: &belay.Hook{Phases: []belay.HookPhase{belay.PreSync, belay.PostSync}}},
		{name: "own, with a policy", annotations: m{"belay.dev/hook": "SyncFail", "belay.dev/hook-delete-policy": "HookSucceeded,HookFailed"},
			want: &belay.Hook{Phases: []belay.HookPhase{belay.SyncFail}, Delete: []belay.HookDelete{belay.HookOnSuccess, belay.HookOnFailure}}},
		{name: "Argo CD", annotations: m{"argocd.argoproj.io/hook": "Sync,PreDelete", "argocd.argoproj.io/sync-wave": "-2", "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation"},
			want: &belay.Hook{Phases: []belay.HookPhase{belay.SyncPhase, belay.PreDelete}, Delete: []belay.HookDelete{belay.HookBeforeCreation}}, wave: -2},
		{name: "Argo CD, skipped", annotations: m{"argocd.argoproj.io/hook": "Skip"}, leftOut: true},
		{name: "Helm", annotations: m{"helm.sh/hook": "pre-install,pre-upgrade", "helm.sh/hook-weight": "-5", "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded"},
			want: &belay.Hook{Phases: []belay.HookPhase{belay.PreSync}, Delete: []belay.HookDelete{belay.HookBeforeCreation, belay.HookOnSuccess}}, wave: -5},
		{name: "Helm, all", annotations: m{"helm.sh/hook": "post-install,post-upgrade,pre-delete,post-delete,test"},
			want: &belay.Hook{Phases: []belay.HookPhase{belay.PostSync, belay.PreDelete, belay.PostDelete}}},
		{name: "Helm, a test", annotations: m{"helm.sh/hook": "test"}, leftOut: true},
		{name: "Helm, a rollback", annotations: m{"helm.sh/hook": "pre-rollback, test-success"}, leftOut: true},
		{name: "Helm, a definition", annotations: m{"helm.sh/hook": "crd-install"}},
		{name: "Belay before Argo CD before Helm", annotations: m{"belay.dev/hook": "PostSync", "argocd.argoproj.io/hook": "Skip", "helm.sh/hook": "nonsense", "helm.sh/hook-weight": "4"},
			want: &belay.Hook{Phases: []belay.HookPhase{belay.PostSync}}, wave: 4},
		{name: "Argo CD before Helm, with Helm's policy", annotations: m{"argocd.argoproj.io/hook": "PostSync", "helm.sh/hook": "pre-install", "helm.sh/hook-delete-policy": "hook-failed", "helm.sh/hook-weight": "4", "belay.dev/wave": "1"},
			want: &belay.Hook{Phases: []belay.HookPhase{belay.PostSync}, Delete: []belay.HookDelete{belay.HookOnFailure}}, wave: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := belay.NewObject(manifestWith(tt.annotations), belay.Origin{})
			if tt.leftOut {
				if !errors.Is(err, belay.ErrLeftOut) {
					t.Errorf("got %+v, %v; want it left out", o.Hook, err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(o.Hook, tt.want) || o.Wave != tt.wave {
				t.Errorf("got %+v in wave %d, %v; want %+v in wave %d", o.Hook, o.Wave, err, tt.want, tt.wave)
			}
		})
	}
}

func TestWrongHooksSayWhatIsWrong(t *testing.T) {
	type m = map[string]string
	for want, annotations := range map[string]m{
		`annotation belay.dev/hook: "presync" is no phase; use PostDelete, PostSync, PreDelete, PreSync, Sync, SyncFail`: {"belay.dev/hook": "presync"},
		`annotation belay.dev/hook names no phase`:                           {"belay.dev/hook": " , "},
		`annotation belay.dev/hook: "Skip" is no phase`:                      {"belay.dev/hook": "Skip"},
		`annotation argocd.argoproj.io/hook: "pre-install" is no phase`:      {"argocd.argoproj.io/hook": "pre-install"},
		`annotation helm.sh/hook: "PreSync" is no phase; use post-delete`:    {"helm.sh/hook": "PreSync"},
		`annotation belay.dev/hook-delete-policy: "Never" is no delete pol`:  {"belay.dev/hook": "Sync", "belay.dev/hook-delete-policy": "Never"},
		`annotation helm.sh/hook-weight must be a whole number, not "heavy"`: {"helm.sh/hook": "pre-install", "helm.sh/hook-weight": "heavy"},
	} {
		if _, err := belay.NewObject(manifestWith(annotations), belay.Origin{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", annotations, err, want)
		}
	}
}

func TestGenerateNameOfAHook(t *testing.T) {
	pod := func(name, image string) []byte {
		return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":%q,"annotations":{"argocd.argoproj.io/hook":"PreSync"}},"image":%q}`, name, image)
	}
	object := func(manifest []byte) belay.Object {
		t.Helper()
		o, err := belay.NewObject(manifest, belay.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
	a, again, other := object(pod("x-", "1")), object(pod("x-", "1")), object(pod("x-", "2"))
	if a.ID.Name != again.ID.Name || a.ID.Name == other.ID.Name || !strings.HasPrefix(a.ID.Name, "x-") || len(a.ID.Name) != len("x-")+8 {
		t.Errorf("names are %s, %s and %s", a.ID.Name, again.ID.Name, other.ID.Name)
	}
	if raw := string(a.Raw); strings.Contains(raw, "generateName") || !strings.Contains(raw, `"name":"`+a.ID.Name+`"`) {
		t.Errorf("the manifest is %s", raw)
	}
	secret := `{"apiVersion":"v1","kind":"Secret","metadata":{"generateName":"x-","annotations":{"belay.dev/hook":"PreSync"}},"data":{"a":"aHVudGVyMg=="}}`
	if _, err := belay.NewObject([]byte(secret), belay.Origin{}); err == nil || strings.Contains(err.Error(), "aHVudGVyMg") {
		t.Errorf("a Secret: %v", err)
	}
}

// A run is the same for the same objects in any order, another for any change,
// and does not depend on the key of Secret digests.
func TestHookRuns(t *testing.T) {
	object := func(kind, name, digest string) belay.Object {
		return belay.Object{ID: belay.ObjectID{Kind: kind, Name: name}, Digest: digest}
	}
	run := func(key string, objects ...belay.Object) string { return belay.HookRunOf(objects, "ns", []byte(key)) }
	a, b, secret := object("ConfigMap", "a", "1"), object("ConfigMap", "b", "1"), object("Secret", "s", "1")
	base := run("key", a, b, secret)
	if got := run("key", secret, b, a); got != base {
		t.Errorf("in another order it is %s, was %s", got, base)
	}
	for what, other := range map[string]string{
		"a changed object": run("key", object("ConfigMap", "a", "2"), b, secret), "one object less": run("key", a, secret),
		"a changed Secret": run("key", a, b, object("Secret", "s", "2")), "no Secret": run("key", a, b),
		"another Secret": run("other", a, b, object("Secret", "t", "9")), "another namespace": belay.HookRunOf([]belay.Object{a, b, secret}, "x", []byte("key")),
	} {
		if belay.SameHookRun(base, other) {
			t.Errorf("%s is the same run", what)
		}
	}
	if other := run("other", a, b, object("Secret", "s", "9")); other == base || !belay.SameHookRun(base, other) {
		t.Errorf("with another key it is %s, was %s", other, base)
	}
	got, phase := belay.ParseHookRun(belay.FormatHookRun(base, belay.PostSync))
	if got != base || phase != belay.PostSync {
		t.Errorf("parsed %s %s", got, phase)
	}
	if !slices.Equal(belay.HookPhases()[:3], []belay.HookPhase{belay.PreSync, belay.SyncPhase, belay.PostSync}) {
		t.Error("the phases are out of order")
	}
}
