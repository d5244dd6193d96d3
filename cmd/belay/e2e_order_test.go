package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// crd is a definition of a kind in a group of the test.
func (w *world) crd(kind, scope string) string {
	plural := strings.ToLower(kind) + "s"
	group := w.group()
	return fmt.Sprintf(`apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: %[1]s.%[2]s
spec:
  group: %[2]s
  scope: %[4]s
  names: {kind: %[3]s, plural: %[1]s}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, properties: {value: {type: string}}}
`, plural, group, kind, scope)
}

func (w *world) group() string { return w.home + ".example.com" }

// foreign says whether a group is of other tests, whose kinds come and go.
func (w *world) foreign(group string) bool {
	return strings.Contains(group, ".example.") && group != w.group()
}

// custom is an object of such a kind.
func (w *world) custom(kind, name, value string) string {
	return fmt.Sprintf("apiVersion: %s/v1\nkind: %s\nmetadata: {name: %s}\nspec: {value: %q}\n", w.group(), kind, name, value)
}

func (w *world) customValue(kind, ns, name string) (string, error) {
	gvr := schema.GroupVersionResource{Group: w.group(), Version: "v1", Resource: strings.ToLower(kind) + "s"}
	u, err := w.dynamic.Resource(gvr).Namespace(ns).Get(w.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	spec, _ := u.Object["spec"].(map[string]any)
	value, _ := spec["value"].(string)
	return value, nil
}

// A kind may be defined beside its objects or in another application, before or
// after them; drift and removal work for it as for any other.
func TestCustomKinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Kinds and objects", map[string]string{
		"belay/one.yaml": application("one", "apps/one", "NS-one"), "apps/one/a.yaml": documents(w.custom("Widget", "w", "1"), configMap("c", "1"), w.crd("Widget", "Namespaced")),
		"belay/objects.yaml": application("objects", "apps/objects", "NS-objects"), "apps/objects/a.yaml": documents(w.custom("Gadget", "g", "1"), configMap("c", "1")),
	})
	s := w.serve()
	s.awaitApps("one")
	if v, err := w.customValue("Widget", w.ns("one"), "w"); err != nil || v != "1" {
		t.Errorf("the object beside its definition is %q, %v", v, err)
	}
	s.awaitMessage("objects", "apps/objects/a.yaml:1", "does not serve "+w.group()+"/v1 Gadget")
	s.push("Define it elsewhere", map[string]string{"belay/kinds.yaml": application("kinds", "apps/kinds", "NS-kinds"), "apps/kinds/crd.yaml": w.crd("Gadget", "Namespaced")})
	s.awaitSynced("one", "objects", "kinds")
	if v, err := w.customValue("Gadget", w.ns("objects"), "g"); err != nil || v != "1" {
		t.Errorf("the object is %q, %v", v, err)
	}
	s.push("Change both", map[string]string{"apps/one/a.yaml": documents(w.custom("Widget", "w", "2"), configMap("c", "1"), w.crd("Widget", "Namespaced")), "apps/objects/a.yaml": w.custom("Gadget", "g", "2")})
	s.awaitSynced("one", "objects", "kinds")
	for kind, ns := range map[string]string{"Widget": "one", "Gadget": "objects"} {
		gvr := schema.GroupVersionResource{Group: w.group(), Version: "v1", Resource: strings.ToLower(kind) + "s"}
		if err := w.dynamic.Resource(gvr).Namespace(w.ns(ns)).Delete(t.Context(), strings.ToLower(kind[:1]), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		devtest.Await(t, "the object to be back", func() error {
			if v, err := w.customValue(kind, w.ns(ns), strings.ToLower(kind[:1])); err != nil || v != "2" {
				return fmt.Errorf("it is %q: %w", v, cmp.Or(err, errors.New("another value")))
			}
			return nil
		})
	}
	s.awaitSynced("one", "objects", "kinds")
	s.stop()
	mark := w.cp.Mark(t)
	s = w.serve()
	s.awaitSynced("one", "objects", "kinds")
	if r := w.writes(mark); len(r) > 0 {
		t.Errorf("a restart wrote%s", listing(r))
	}
	// Both go, while nobody watches. A kind stays while another application has one.
	s.stop()
	w.commit("Remove the kinds", map[string]string{"belay/one.yaml": "", "belay/kinds.yaml": ""})
	s = w.serve()
	s.awaitMessage("kinds", "removed from Git", "stays, because Gadget", "would go with it, which application \"objects\" declares")
	if v, err := w.customValue("Gadget", w.ns("objects"), "g"); err != nil || v != "2" {
		t.Errorf("the object of a kind that its application let go is %q: %v", v, err)
	}
	s.push("Remove who had one", map[string]string{"belay/objects.yaml": "", "belay/README.md": "Applications\n"})
	s.awaitGone("one", "kinds", "objects")
	if _, err := w.customValue("Widget", w.ns("one"), "w"); !apierrors.IsNotFound(err) {
		t.Errorf("the object of the kind that was removed: %v", err)
	}
}

// An application of custom resources that depends on the one of their operator
// waits for it, and does not fail meanwhile.
func TestAKindThatADependencyBrings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("An operator and what it is for", map[string]string{
		"belay/operator.yaml": application("operator", "apps/operator", "NS-operator", "  sync: {automatic: false}\n"), "apps/operator/crd.yaml": w.crd("Widget", "Namespaced"),
		"belay/objects.yaml": application("objects", "apps/objects", "NS-objects", "  dependsOn: [{name: operator}]\n"), "apps/objects/a.yaml": documents(w.custom("Widget", "w", "1"), configMap("c", "1")),
	})
	s := w.serve()
	s.awaitMessage("objects", "waits for operator, which is OutOfSync")
	if out, stderr, code := s.cli("sync", "operator", "objects", "--wait"); code != 0 {
		t.Errorf("exit code %d: %s%s", code, out, stderr)
	}
	s.awaitSynced("operator", "objects")
	if v, err := w.customValue("Widget", w.ns("objects"), "w"); err != nil || v != "1" {
		t.Errorf("the object is %q, %v", v, err)
	}
	if out, stderr, code := s.cli("events", "--type", "syncFailed"); code != 0 || strings.TrimSpace(out) != "" {
		t.Errorf("exit code %d, failed syncs: %s%s", code, out, stderr)
	}
}

// A sync of all waits for what the newest commit declares, not for what it removes.
func TestSyncOfAllAfterARemoval(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Two", map[string]string{
		"belay/stays.yaml": application("stays", "apps/stays", "NS-stays"), "apps/stays/a.yaml": configMap("a", "1"),
		"belay/goes.yaml": application("goes", "apps/goes", "NS-goes"), "apps/goes/a.yaml": configMap("a", "1"),
	})
	s := w.serve()
	s.awaitSynced("stays", "goes")
	w.commit("One", map[string]string{"belay/goes.yaml": "", "apps/stays/a.yaml": configMap("a", "2")})
	out, stderr, code := s.cli("sync", "--all", "--wait")
	if code != 0 || !strings.Contains(out, "stays: Synced") || strings.Contains(out, "goes") {
		t.Errorf("exit code %d: %s%s", code, out, stderr)
	}
	s.awaitGone("goes")
}

// awaitGone waits until applications are not there any more.
func (s *serveProcess) awaitGone(names ...string) {
	s.w.t.Helper()
	for _, name := range names {
		devtest.Await(s.w.t, name+" to be gone", func() error {
			if a, ok := s.app(name); ok {
				return fmt.Errorf("it is %s: %q", a.Sync, a.Message)
			}
			return nil
		})
	}
}

// Objects come in waves: each waits until those before it are healthy. What is
// deleted goes the other way round.
func TestWaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wave := func(n string) string { return annotated(belay.AnnotationWave, n) }
	stuck := strings.Replace(deployment("web", 1, "web:1"), "  name: web\n", "  name: web\n"+wave("1"), 1)
	stuck = strings.Replace(stuck, "    metadata:\n      labels: {app: web}\n", "    metadata:\n      labels: {app: web}\n      annotations: {devcluster.belay.dev/pod: unready}\n", 1)
	files := map[string]string{
		"belay/README.md":        "Definitions.\n",
		"belay/a.yaml":           application("a", "apps/a", "NS-a", "  sync: {pruneLimit: {percent: 100}}\n"),
		"apps/a/late.yaml":       configMap("late", "1", annotated(belay.AnnotationArgoWave, "2")),
		"apps/a/early.yaml":      configMap("early", "1", wave("-1")),
		"apps/a/deployment.yaml": stuck,
		"apps/a/zero.yaml":       documents(configMap("zero", "1"), "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: zero}\n", "apiVersion: v1\nkind: Secret\nmetadata: {name: zero}\n"),
	}
	w.commit("Waves", files)
	mark := w.cp.Mark(t)
	s := w.serve()
	a := s.awaitMessage("a", "wave 2 waits for Deployment.apps", "of wave 1")
	if a.Sync != belay.OutOfSync || a.Health != belay.Missing && a.Health != belay.Progressing {
		t.Errorf("it is %s and %s", a.Sync, a.Health)
	}
	w.awaitValue(w.ns("a"), "late", "")
	s.push("Let it run", map[string]string{"apps/a/deployment.yaml": strings.Replace(stuck, "unready", "ready", 1)})
	s.awaitSynced("a")
	w.awaitValue(w.ns("a"), "late", "1")
	var order []string
	for _, r := range w.writes(mark) {
		if r.Verb == "patch" && r.Code < 300 && r.Resource != "namespaces" {
			order = append(order, r.Resource+"/"+r.Name)
		}
	}
	got := strings.Join(order, " ")
	if !strings.HasPrefix(got, "configmaps/early ") || !strings.HasSuffix(got, " deployments/web deployments/web configmaps/late") ||
		strings.Index(got, "serviceaccounts/zero") > strings.Index(got, "deployments/web") {
		t.Errorf("the order is %s", got)
	}

	mark = w.cp.Mark(t)
	s.push("Remove it", map[string]string{"belay/a.yaml": ""})
	s.awaitSynced()
	order = w.order(mark) // a deletion is asked for again where a controller has just written the object
	got = strings.Join(order, " ")
	if strings.Index(got, "delete deployments/web") > strings.Index(got, "delete serviceaccounts/zero") || len(order) != 6 {
		t.Errorf("the order is %s", got)
	}
}

// A namespace may be made by the way or be declared; it goes only in the second
// case, and is made again when somebody deletes it.
func TestNamespaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Namespaces", map[string]string{
		"belay/made.yaml": application("made", "apps/made", "NS-made"), "apps/made/a.yaml": configMap("a", "1"),
		"belay/declared.yaml": application("declared", "apps/declared", "NS-declared"), "apps/declared/a.yaml": documents(configMap("a", "1"), "apiVersion: v1\nkind: Namespace\nmetadata: {name: NS-declared}\n"),
		"belay/not.yaml": application("not", "apps/not", "NS-not", "  sync: {createNamespace: false}\n"), "apps/not/a.yaml": configMap("a", "1"),
		"belay/other.yaml": application("other", "apps/other", "NS-made"), "apps/other/a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b, namespace: NS-nowhere}\n",
	})
	s := w.serve()
	s.awaitApps("made", "declared")
	s.awaitMessage("not", w.ns("not"), "apps/not/a.yaml:1")
	s.awaitMessage("other", w.ns("nowhere"), "apps/other/a.yaml:1")
	w.makeNamespace("not")
	w.makeNamespace("nowhere")
	s.awaitSynced("made", "declared", "not", "other") // tried again by itself
	for _, name := range []string{"made", "declared"} {
		if err := w.kube.CoreV1().Namespaces().Delete(t.Context(), w.ns(name), metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	devtest.Await(t, "the namespaces to be made again", func() error {
		for _, name := range []string{"made", "declared"} {
			ns, err := w.kube.CoreV1().Namespaces().Get(t.Context(), w.ns(name), metav1.GetOptions{})
			if err != nil {
				return err
			}
			if ns.DeletionTimestamp != nil {
				return fmt.Errorf("%s is being deleted", name)
			}
		}
		return nil
	})
	s.awaitSynced("made", "declared", "not", "other")
	w.awaitValue(w.ns("made"), "a", "1")
	w.awaitValue(w.ns("declared"), "a", "1")
	s.push("Remove both", map[string]string{"belay/made.yaml": "", "belay/declared.yaml": ""})
	s.awaitSynced("not", "other")
	w.awaitValue(w.ns("made"), "a", "")
	if _, err := w.kube.CoreV1().Namespaces().Get(t.Context(), w.ns("made"), metav1.GetOptions{}); err != nil {
		t.Errorf("the namespace that was made by the way: %v", err)
	}
	devtest.Await(t, "the declared namespace to go", func() error {
		if _, err := w.kube.CoreV1().Namespaces().Get(t.Context(), w.ns("declared"), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("it is there: %w", cmp.Or(err, errors.New("found")))
		}
		return nil
	})
}
