package main

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
)

// Patches and variables are part of what an application is: their files wake it,
// their errors leave it as it was.
func TestPatchesAndVariablesOfAnApplication(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	app := func(target string) string {
		return application("app", "apps/app", "NS-app", "  patches:\n    - target: {kind: "+target+"}\n      file: patches/p.yaml\n",
			"  variables:\n    files: [vars/v.yaml]\n    values: {REGION: eu}\n")
	}
	w.commit("Patched", map[string]string{
		"belay/app.yaml": app("ConfigMap"), "belay/other.yaml": application("other", "apps/other", "NS-other"),
		"apps/app/objects.yaml": configMap("config", "${SIZE}"), "apps/other/objects.yaml": configMap("config", "${SIZE}"),
		"patches/p.yaml": "data: {region: \"${REGION}\"}\n", "vars/v.yaml": "SIZE: 1\nREGION: us\n",
	})
	s := w.serve()
	s.awaitSynced("app", "other")
	want := func(app string, data ...string) {
		t.Helper()
		cm, err := w.kube.CoreV1().ConfigMaps(w.ns(app)).Get(t.Context(), "config", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(data); i += 2 {
			if len(cm.Data) != len(data)/2 || cm.Data[data[i]] != data[i+1] {
				t.Errorf("%s has %v, want %v", app, cm.Data, data)
			}
		}
	}
	want("app", "value", "1", "region", "eu")
	want("other", "value", "${SIZE}")

	s.push("Another size", map[string]string{"vars/v.yaml": "SIZE: 2\n"})
	s.awaitSynced("app", "other")
	want("app", "value", "2", "region", "eu")
	s.push("Another patch", map[string]string{"patches/p.yaml": "data: {zone: a}\n"})
	s.awaitSynced("app", "other")
	want("app", "value", "2", "zone", "a")

	s.push("A patch that fits nothing", map[string]string{"belay/app.yaml": app("Deployment"), "vars/v.yaml": "SIZE: 3\n"})
	s.awaitMessage("app", "spec.patches[0] fits no object: the target is kind Deployment")
	s.push("No value", map[string]string{"belay/app.yaml": app("ConfigMap"), "vars/v.yaml": "SPEED: 3\n"})
	s.awaitMessage("app", "the variable SIZE is not set and has no default")
	want("app", "value", "2", "zone", "a")
	if a, _ := s.app("app"); a.Sync != belay.OutOfSync || !strings.Contains(a.Hint, "spec.variables") {
		t.Errorf("the application is %s, hint %q", a.Sync, a.Hint)
	}
	s.push("Mended", map[string]string{"vars/v.yaml": "SIZE: 4\n"})
	s.awaitSynced("app", "other")
	want("app", "value", "4", "zone", "a")
}
