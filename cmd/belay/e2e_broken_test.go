package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

// brokenFleet is one application of each kind, and one that never breaks. Each
// of the first three has an object "extra" in a file of its own.
func brokenFleet() map[string]string {
	return map[string]string{
		"belay/plain.yaml": application("plain", "apps/plain", "NS-plain"), "apps/plain/a.yaml": documents(configMap("a", "good"), configMap("b", "good")),
		"apps/plain/extra.yaml": configMap("extra", "x"),
		"belay/kust.yaml":       application("kust", "apps/kust", "NS-kust"), "apps/kust/kustomization.yaml": "resources:\n  - a.yaml\n  - extra.yaml\n",
		"apps/kust/a.yaml": documents(configMap("a", "good"), configMap("b", "good")), "apps/kust/extra.yaml": configMap("extra", "x"),
		"belay/helm.yaml": application("helm", "chart", "NS-helm"), "chart/Chart.yaml": "apiVersion: v2\nname: chart\nversion: 1.0.0\n",
		"chart/values.yaml":        "value: good\n",
		"chart/templates/a.yaml":   "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  value: {{ .Values.value }}\n---\n" + configMap("b", "good"),
		"chart/templates/ext.yaml": configMap("extra", "x"),
		"belay/other.yaml":         application("other", "apps/other", "NS-other"), "apps/other/a.yaml": configMap("a", "0"),
	}
}

// Something that is broken is named with its place and stops nobody else;
// nothing is deleted for it, also when the server starts anew, and mending it is
// enough.
func TestBrokenInput(t *testing.T) {
	t.Parallel()
	for i, test := range []struct {
		name, app string
		files     map[string]string // that break it
		place     string            // FILE:LINE
		says      string
		problem   bool // it is shown as a wrong definition
		pruned    bool // the application goes on, and loses what was removed
	}{
		{"unknown field of a definition", "plain", map[string]string{"belay/plain.yaml": application("plain", "apps/plain", "NS-plain", "  synch: {}\n")},
			"belay/plain.yaml:10", "sync", true, true},
		{"definition that is not YAML", "kust", map[string]string{"belay/kust.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: kust\n"},
			"belay/kust.yaml:", "", true, true},
		{"manifest that is not YAML", "plain", map[string]string{"apps/plain/a.yaml": configMap("a", "bad") + "  : : x\n\t- {", "apps/plain/extra.yaml": ""},
			"apps/plain/a.yaml:", "", false, false},
		{"manifest without a kind", "plain", map[string]string{"apps/plain/a.yaml": documents(configMap("a", "bad"), "apiVersion: v1\nmetadata: {name: b}\n"), "apps/plain/extra.yaml": ""},
			"apps/plain/a.yaml:8", "kind is missing", false, false},
		{"object declared twice", "plain", map[string]string{"apps/plain/a.yaml": documents(configMap("a", "bad"), configMap("a", "worse")), "apps/plain/extra.yaml": ""},
			"apps/plain/a.yaml:", "apps/plain/a.yaml:8", false, false},
		{"source that is gone", "plain", map[string]string{"apps/plain/a.yaml": "", "apps/plain/extra.yaml": ""},
			"belay/plain.yaml:1", "does not exist", false, false},
		{"resource of a kustomization that is not there", "kust", map[string]string{"apps/kust/kustomization.yaml": "resources:\n  - a.yaml\n  - nowhere.yaml\n", "apps/kust/extra.yaml": ""},
			"apps/kust/kustomization.yaml", "nowhere.yaml", false, false},
		{"template that does not parse", "helm", map[string]string{"chart/templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  value: {{ .Values.value\n", "chart/templates/ext.yaml": ""},
			"chart/templates/a.yaml:5", "", false, false},
		{"template that fails", "helm", map[string]string{"chart/templates/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  value: {{ required \"give a value\" .Values.nothing }}\n", "chart/templates/ext.yaml": ""},
			"chart/templates/a.yaml:5", "give a value", false, false},
		{"kind that the cluster does not know", "plain", map[string]string{"apps/plain/c.yaml": "apiVersion: example.com/v1\nkind: Nothing\nmetadata: {name: c}\n", "apps/plain/extra.yaml": ""},
			"apps/plain/c.yaml:1", "does not serve example.com/v1 Nothing", false, false},
		{"object that the API server refuses", "kust", map[string]string{"apps/kust/kustomization.yaml": "resources:\n  - a.yaml\n  - c.yaml\n",
			"apps/kust/c.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n", "apps/kust/extra.yaml": ""},
			"apps/kust/c.yaml:1", "Not_A_Name", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			all := []string{"plain", "kust", "helm", "other"}
			fleet := brokenFleet()
			w.commit("A good fleet", fleet)
			s := w.serve()
			s.awaitSynced(all...)

			n := 0
			othersGoOn := func() {
				t.Helper()
				n++
				s.push("Another change", map[string]string{"apps/other/a.yaml": configMap("a", fmt.Sprint(n))})
				w.awaitValue(w.ns("other"), "a", fmt.Sprint(n))
				s.awaitApps(slices.DeleteFunc(slices.Clone(all), func(a string) bool { return a == test.app && !test.problem })...)
			}
			told := func() {
				t.Helper()
				if test.problem {
					s.awaitProblem(test.place, test.says)
				} else {
					s.awaitMessage(test.app, test.place, test.says)
				}
				s.checkJSON(test.app, test.place, test.problem)
				for _, name := range []string{"a", "b", "extra"} {
					if _, ok := w.value(w.ns(test.app), name); !ok && (name != "extra" || !test.pruned) {
						t.Errorf("ConfigMap %s was deleted", name)
					}
				}
			}
			s.push("Break something", test.files)
			told()
			othersGoOn()
			told()
			mark := w.cp.Mark(t)
			s.kill()
			if i%2 == 1 {
				w.removeData()
			}
			s = w.serve()
			told()
			othersGoOn()
			told()
			for _, r := range w.writes(mark) {
				if r.Code < 300 && (r.Namespace != w.ns("other") || r.Verb != "patch") {
					t.Errorf("after a restart: %s", r)
				}
			}

			mended := merge(fleet)
			for p, c := range test.files {
				if c == "" && !strings.HasSuffix(p, "/a.yaml") {
					delete(mended, p) // what was removed stays removed
				} else if _, ok := fleet[p]; !ok {
					mended[p] = ""
				}
			}
			if _, ok := mended["apps/kust/extra.yaml"]; !ok {
				mended["apps/kust/kustomization.yaml"] = "resources:\n  - a.yaml\n"
			}
			delete(mended, "apps/other/a.yaml")
			s.push("Mend it", mended)
			s.awaitSynced(all...)
			removed := slices.ContainsFunc([]string{"apps/plain/extra.yaml", "apps/kust/extra.yaml", "chart/templates/ext.yaml"},
				func(p string) bool { c, ok := test.files[p]; return ok && c == "" })
			if _, ok := w.value(w.ns(test.app), "extra"); ok == removed {
				t.Errorf("after mending: extra is there: %t", ok)
			}
			if p := s.state().Problems; len(p) > 0 {
				t.Errorf("after mending: problems are %v", p)
			}
		})
	}
}

// TestABrokenRenderIsTold breaks what an application renders from: an event
// tells of it once, and who waits for a sync hears of it at once, each time.
func TestABrokenRenderIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("A good fleet", brokenFleet())
	s := w.serve()
	s.awaitSynced("plain", "kust", "helm", "other")
	s.push("Break it", map[string]string{"apps/kust/kustomization.yaml": "resourcez: [a.yaml]\n"})
	s.awaitMessage("kust", "apps/kust/kustomization.yaml:1", "resourcez")
	errorEvents := func() int {
		t.Helper()
		out, stderr, code := s.cli("events", "--app", "kust", "--type", "error")
		if code != 0 {
			t.Fatal(stderr)
		}
		return strings.Count(out, "resourcez")
	}
	if n := errorEvents(); n != 1 {
		t.Errorf("%d events tell that it does not render", n)
	}
	s.push("Change another", map[string]string{"apps/other/a.yaml": configMap("a", "2")})
	w.awaitValue(w.ns("other"), "a", "2")
	if n := errorEvents(); n != 1 {
		t.Errorf("after another commit %d events tell that it does not render", n)
	}
	for range 2 {
		if _, stderr, code := s.cli("sync", "kust", "--wait", "--timeout", "3m"); code != 1 || !strings.Contains(stderr, "kustomization.yaml:1") || strings.Contains(stderr, "waited too long") {
			t.Errorf("sync --wait of what does not render: exit code %d, %s", code, stderr)
		}
	}
}

// checkJSON makes sure that "status -o json" names the place.
func (s *serveProcess) checkJSON(app, place string, problem bool) {
	s.w.t.Helper()
	out, stderr, code := s.cli("status", "-o", "json")
	var st belay.Status
	if err := json.Unmarshal([]byte(out), &st); err != nil || code != 0 {
		s.w.t.Fatalf("status -o json: exit code %d, %v, %s", code, err, stderr)
	}
	for _, a := range st.Applications {
		if a.Name == app && !problem && (a.Sync != belay.OutOfSync || !strings.Contains(a.Message, place)) {
			s.w.t.Errorf("%s is %s, %q, want OutOfSync and %s", app, a.Sync, a.Message, place)
		}
	}
	if problem && !slices.ContainsFunc(st.Problems, func(e belay.Error) bool { return strings.Contains(e.Origin.String(), place) }) {
		s.w.t.Errorf("problems are %v, want one at %s", st.Problems, place)
	}
}
