package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/sops/sopstest"
)

// recoveryFleet is thirty applications of every kind that a rebuild has to bring in
// an order: chains of dependencies, waves, definitions of kinds with their objects,
// hooks that leave an object and hooks that leave none, and a SOPS Secret.
func recoveryFleet(t *testing.T, w *world, keyFile string) (files map[string]string, names []string) {
	t.Helper()
	key := sopstest.Age(t)
	write(t, keyFile, string(key.Private))
	files, names = mixedFleet(28)
	for i, name := range names {
		var depends []string
		if i%7 != 0 {
			depends = append(depends, names[i-1]) // four chains of seven
		}
		if i%9 == 0 { // a plain one, with an object of a kind that another application brings
			depends = append(depends, "kinds")
			files["apps/"+name+"/widget.yaml"] = w.custom("Widget", "widget", name)
		}
		if len(depends) > 0 {
			more := "  dependsOn:\n"
			for _, d := range depends {
				more += "    - name: " + d + "\n"
			}
			files["belay/"+name+".yaml"] += more
		}
	}
	files["apps/app-03/waves.yaml"] = documents(configMap("first", "1", annotated(belay.AnnotationWave, "-1")), configMap("last", "1", annotated(belay.AnnotationWave, "3")))
	files["apps/app-03/hook.yaml"] = hookJob("migrate", "PreSync", "")
	files["apps/app-06/hook.yaml"] = hookJob("seed", "PostSync", "", belay.AnnotationHookDelete, "HookSucceeded")
	files["belay/kinds.yaml"], files["apps/kinds/crd.yaml"] = application("kinds", "apps/kinds", "NS-kinds"), w.crd("Widget", "Namespaced")
	files["apps/kinds/class.yaml"] = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: NS-high}\nvalue: 1000\n"
	files["belay/sealed-project.yaml"] = "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: sealed}\nspec:\n  sources: [{repo: \"**\"}]\n  destinations: [{}]\n" +
		"  decryption:\n    age: [{file: " + keyFile + "}]\n"
	files["belay/sealed.yaml"] = application("sealed", "apps/sealed", "NS-sealed", "  project: sealed\n")
	files["apps/sealed/s.yaml"] = sopstest.Encrypt(t, "s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {token: kept-in-git}\n", "^stringData$", key)
	return files, append(names, "kinds", "sealed")
}

// newLosableWorld is a world whose control plane can be lost as a whole.
func newLosableWorld(t *testing.T) *world {
	t.Helper()
	w := newWorldOn(t, devtest.Dedicated(t, devtest.Options{}))
	// An account in the cluster would be lost with it.
	w.kubeconfig, w.user = w.cp.Kubeconfig(), adminUser
	return w
}

// adminUser is whom the kubeconfig of a control plane is for.
const adminUser = "devcluster-admin"

// inventory is everything in the cluster that carries the instance's label, as it is
// declared: without what a cluster adds to each life of an object.
func (w *world) inventory() (map[string]string, error) {
	cfg := w.as("inventory")
	lists, err := discovery.NewDiscoveryClientForConfigOrDie(cfg).ServerPreferredResources()
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, l := range lists {
		for _, r := range l.APIResources {
			if !slices.Contains(r.Verbs, "list") || strings.Contains(r.Name, "/") {
				continue
			}
			if err := w.take(out, l.GroupVersion, r.Name); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

func (w *world) take(out map[string]string, groupVersion, resource string) error {
	gv, err := schema.ParseGroupVersion(groupVersion)
	if err != nil {
		return err
	}
	if w.foreign(gv.Group) {
		return nil
	}
	list, err := w.dynamic.Resource(gv.WithResource(resource)).List(w.t.Context(), metav1.ListOptions{LabelSelector: belay.LabelInstance + "=" + w.instance})
	if err != nil {
		return err
	}
	for i := range list.Items {
		u := &list.Items[i]
		if u.GetAnnotations()[belay.AnnotationID] == "" {
			continue // made by a controller from one of ours
		}
		plain, err := json.Marshal(declaredPart(u))
		if err != nil {
			return err
		}
		out[groupVersion+" "+describe(u)] = string(plain)
	}
	return nil
}

// declaredPart is an object without what differs from one life to the next.
func declaredPart(u *unstructured.Unstructured) map[string]any {
	o := u.DeepCopy()
	for _, path := range [][]string{{"status"}, {"metadata", "uid"}, {"metadata", "resourceVersion"}, {"metadata", "creationTimestamp"},
		{"metadata", "generation"}, {"metadata", "managedFields"}, {"spec", "clusterIP"}, {"spec", "clusterIPs"}} {
		unstructured.RemoveNestedField(o.Object, path...)
	}
	if o.GetKind() == "Job" {
		unstructured.RemoveNestedField(o.Object, "spec", "selector")
		unstructured.RemoveNestedField(o.Object, "spec", "template", "metadata", "labels")
		labels := o.GetLabels()
		maps.DeleteFunc(labels, func(k, _ string) bool { return strings.Contains(k, "controller-uid") })
		o.SetLabels(labels)
	}
	if a := o.GetAnnotations(); a != nil {
		delete(a, "deployment.kubernetes.io/revision")
		if o.GetKind() == "Secret" {
			delete(a, belay.AnnotationDigest) // it is keyed, and the key may be another
		}
		o.SetAnnotations(a)
	}
	return o.Object
}

// allWell says which of the applications is not well at a commit.
func (s *serveProcess) allWell(names []string, commit string) error {
	st := s.state()
	if len(st.Applications) != len(names) {
		return fmt.Errorf("%d applications, want %d", len(st.Applications), len(names))
	}
	for _, n := range names {
		if err := wellAt(&st, n, commit); err != nil {
			return err
		}
	}
	return nil
}

// awaitAll is awaitSynced with more patience.
func (s *serveProcess) awaitAll(names []string) {
	s.w.t.Helper()
	commit := s.w.repo.Resolve("main")
	devtest.Await(s.w.t, "the fleet to come up", func() error { return s.allWell(names, commit) })
}

// awaitInventory waits until the cluster has exactly what it had before, and all
// applications are well.
func (s *serveProcess) awaitInventory(names []string, want map[string]string) {
	s.w.t.Helper()
	commit := s.w.repo.Resolve("main")
	devtest.Await(s.w.t, "the fleet to be back", func() error {
		if err := s.allWell(names, commit); err != nil {
			return err
		}
		got, err := s.w.inventory()
		if err != nil {
			return err
		}
		return sameInventory(got, want)
	})
}

func sameInventory(got, want map[string]string) error {
	for _, id := range slices.Sorted(maps.Keys(want)) {
		switch now, ok := got[id]; {
		case !ok:
			return fmt.Errorf("%s is not there", id)
		case now != want[id]:
			return fmt.Errorf("%s is\n%s\nwas\n%s", id, now, want[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[id]; !ok {
			return fmt.Errorf("%s was not there before", id)
		}
	}
	return nil
}

// rebuilt says what a rebuild took, and that its hooks ran.
func (s *serveProcess) rebuilt(how string, mark devtest.Mark, began time.Time, objects int) {
	t := s.w.t
	t.Helper()
	took := time.Since(began)
	requests, writes := s.w.requests(mark), s.w.writes(mark)
	t.Logf("%s: %d objects in %v, %d requests, %d of them writes", how, objects, took.Round(100*time.Millisecond), len(requests), len(writes))
	for _, hook := range []string{"migrate", "seed"} {
		if n := s.w.started(mark, hook); n != 1 {
			t.Errorf("%s: the hook %s ran %d times, want once", how, hook, n)
		}
	}
	order := s.w.order(mark)
	crd := slices.IndexFunc(order, func(o string) bool { return strings.HasPrefix(o, "patch customresourcedefinitions/") })
	widget := slices.IndexFunc(order, func(o string) bool { return strings.HasPrefix(o, "patch widgets/") })
	if crd < 0 || widget < crd {
		t.Errorf("%s: a kind was defined at %d, and used at %d", how, crd, widget)
	}
}

// Thirty applications come back: from a cluster that stayed, after the server's disk
// was lost; into an empty cluster, while the server runs; and into an empty cluster,
// with nothing left of the server's disk.
func TestRecovery(t *testing.T) {
	t.Parallel()
	w := newLosableWorld(t)
	keyFile, digestKey := filepath.Join(t.TempDir(), "age.key"), filepath.Join(t.TempDir(), "digest.key")
	write(t, digestKey, strings.Repeat("k", 64))
	files, names := recoveryFleet(t, w, keyFile)
	w.commit("Thirty applications", files)
	began, mark := time.Now(), w.cp.Mark(t)
	s := w.serve("--digest-key-file", digestKey)
	s.awaitAll(names)
	before, err := w.inventory()
	if err != nil || len(before) < 3*len(names)-6 {
		t.Fatalf("%d objects, %v", len(before), err)
	}
	s.rebuilt("delivered for the first time", mark, began, len(before))

	s.kill()
	w.loseDisk()
	began, mark = time.Now(), w.cp.Mark(t)
	s = w.serve("--digest-key-file", digestKey)
	s.awaitInventory(names, before)
	t.Logf("disk lost: %d objects were found right in %v, with %d requests", len(before), time.Since(began).Round(100*time.Millisecond), len(w.requests(mark)))
	if r := w.writes(mark); len(r) > 0 {
		t.Errorf("after the disk was lost, where the cluster equals Git, requests are%s", listing(r))
	}

	mark = w.cp.Mark(t)
	w.cp.Lose(t)
	began = time.Now()
	s.awaitInventory(names, before)
	s.rebuilt("cluster lost while the server ran", mark, began, len(before))
	s.awaitEvent(belay.EventSyncStarted, "app-00", "to write") // not healed: it is a deployment
	if n := s.metric("belay_heals_total"); n > 0 {
		t.Errorf("%d objects were healed; nobody deleted them by hand", n)
	}

	s.kill()
	w.loseDisk()
	mark = w.cp.Mark(t)
	w.cp.Lose(t)
	began = time.Now()
	s = w.serve("--digest-key-file", digestKey)
	s.awaitInventory(names, before)
	s.rebuilt("cluster and disk lost", mark, began, len(before))

	// The directory stays, and the cluster is lost while no server runs: what it
	// remembers of hooks was in the old one.
	s.stop()
	mark = w.cp.Mark(t)
	w.cp.Lose(t)
	began = time.Now()
	s = w.serve("--digest-key-file", digestKey)
	s.awaitInventory(names, before)
	s.rebuilt("cluster lost while no server ran", mark, began, len(before))
}

// A cluster is set back to a backup while the server runs: what was applied since is
// applied again, what was removed since is removed again, and nothing else is done.
func TestClusterSetBack(t *testing.T) {
	t.Parallel()
	w := newLosableWorld(t)
	w.commit("One application", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"),
		"apps/a/a.yaml": documents(configMap("a", "1"), configMap("goes", "1"), configMap("stays", "1")), "apps/a/hook.yaml": hookJob("migrate", "PreSync", "")})
	s := w.serve()
	s.awaitSynced("a")
	backup := w.cp.Save(t)
	s.awaitSynced("a")
	s.push("Change, add and remove", map[string]string{"apps/a/a.yaml": documents(configMap("a", "2"), configMap("comes", "1"), configMap("stays", "1"))})
	s.awaitSynced("a")
	w.awaitValue(w.ns("a"), "goes", "")
	for range 200 { // versions that a look at the older ones must not lose to
		w.patch(w.ns("a"), "stays", "somebody", fmt.Sprintf(`{"metadata":{"annotations":{"n":%q}}}`, time.Now().String()))
	}
	mark := w.cp.Mark(t)
	w.cp.Restore(t, backup)
	w.awaitValue(w.ns("a"), "a", "2")
	w.awaitValue(w.ns("a"), "comes", "1")
	w.awaitValue(w.ns("a"), "goes", "")
	s.awaitSynced("a")
	for _, r := range w.writes(mark) {
		if r.Name == "stays" || r.Name == "migrate" && r.Verb == "patch" && w.started(mark, "migrate") > 1 {
			t.Errorf("it was asked %s", r)
		}
	}
}
