package main

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

func (w *world) databases() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: w.group(), Version: "v1", Resource: "databases"}
}

// says is what a database's controller would write.
func (w *world) says(ns, status string) {
	w.t.Helper()
	_, err := w.dynamic.Resource(w.databases()).Namespace(ns).Patch(w.t.Context(), "main", types.MergePatchType, []byte(`{"status":`+status+`}`),
		metav1.PatchOptions{FieldManager: "its-controller"}, "status")
	if err != nil {
		w.t.Fatal(err)
	}
}

// healthRule is a definition for databases of the test's group that are healthy in one phase.
func (w *world) healthRule(phase string) string {
	return fmt.Sprintf(`apiVersion: belay.dev/v1alpha1
kind: HealthRule
metadata: {name: database}
spec:
  kinds: [%s/Database]
  rules:
    - when: status.?phase.orValue('') == '%s'
      health: Healthy
    - when: has(status.phase)
      health: Degraded
      messageExpression: "'the database is ' + status.phase"
`, w.group(), phase)
}

// A rule in Git says when a custom object is healthy, which is when the next wave
// begins. A commit to the rule is heard by a running server, for the objects of
// that kind and no others.
func TestHealthRules(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	crd := strings.Replace(w.crd("Database", "Namespaced"), "      schema:\n", "      subresources: {status: {}}\n      schema:\n", 1)
	crd += "            status: {type: object, x-kubernetes-preserve-unknown-fields: true}\n"
	w.commit("A database and what needs it", map[string]string{
		"belay/kinds.yaml": application("kinds", "apps/kinds", "NS-kinds"), "apps/kinds/crd.yaml": crd,
		"belay/rule.yaml": w.healthRule("Up"),
		"belay/shop.yaml": application("shop", "apps/shop", "NS-shop"), "apps/shop/database.yaml": w.custom("Database", "main", "1"),
		"apps/shop/web.yaml": configMap("web", "1", annotated(belay.AnnotationWave, "1")),
		"belay/other.yaml":   application("other", "apps/other", "NS-other"), "apps/other/a.yaml": configMap("a", "1"),
	})
	begin := w.cp.Mark(t)
	s := w.serve()
	s.awaitMessage("shop", "wave 1 waits for Database."+w.group(), "it has no status yet")
	w.says(w.ns("shop"), `{"phase":"Broken"}`)
	s.awaitMessage("shop", "Database."+w.group(), "the database is Broken")
	w.awaitValue(w.ns("shop"), "web", "")
	w.says(w.ns("shop"), `{"phase":"Up"}`)
	s.awaitApps("shop", "other", "kinds")
	w.awaitValue(w.ns("shop"), "web", "1")

	mark := w.cp.Mark(t)
	s.push("Want more of a database", map[string]string{"belay/rule.yaml": w.healthRule("Ready")})
	devtest.Await(t, "the new rule to tell", func() error {
		a, _ := s.app("shop")
		if a.Health != belay.Degraded || !strings.Contains(a.Message, "the database is Up") {
			return fmt.Errorf("it is %s: %q", a.Health, a.Message)
		}
		return nil
	})
	lists := 0
	for _, r := range append(w.requests(mark), w.opened(begin, mark)...) {
		switch { // kinds of other tests come and go, and are looked at
		case r.Resource == "namespaces" && r.Name == "kube-system": // is it still the same cluster?
		case r.Resource == "configmaps" || r.Resource == "namespaces":
			t.Errorf("the rule of another kind made the server ask: %s", r)
		case r.Resource == "databases" && r.Group == w.group():
			lists++
		}
	}
	if lists == 0 {
		t.Error("the objects of the kind were not asked for")
	}
	s.awaitApps("other", "kinds")

	// A rule that breaks keeps what it said, and says where it is broken.
	s.push("Break the rule", map[string]string{"belay/rule.yaml": strings.Replace(w.healthRule("Up"), "has(status.phase)", "has(status.phase", 1)})
	s.awaitProblem("belay/rule.yaml:", "spec.rules[1].when", "is no valid expression: 1:")
	if a, _ := s.app("shop"); a.Health != belay.Degraded {
		t.Errorf("a rule that broke changed the health to %s", a.Health)
	}
	s.push("Mend it", map[string]string{"belay/rule.yaml": w.healthRule("Up")})
	s.awaitApps("shop", "other", "kinds")

	// Without a rule, what holds for every kind tells.
	s.push("Remove it", map[string]string{"belay/rule.yaml": ""})
	w.says(w.ns("shop"), `{"phase":"Broken","conditions":[{"type":"Ready","status":"False","reason":"x","message":"not ready"}]}`)
	s.awaitMessage("shop", "not ready")
}
