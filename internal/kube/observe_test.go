package kube_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/kube"
)

func TestFacts(t *testing.T) {
	f := begin(t)
	facts := f.Facts()
	if !strings.HasPrefix(facts.Version, "v1.") {
		t.Errorf("version %q", facts.Version)
	}
	for _, want := range []string{"v1", "apps/v1", "apps/v1/Deployment", "v1/ConfigMap"} {
		if !slices.Contains(facts.APIVersions, want) {
			t.Errorf("no %q in the API versions", want)
		}
	}
	if !slices.IsSorted(facts.APIVersions) || facts.Digest == "" {
		t.Error("not sorted, or without a digest")
	}
	if got := facts.Kinds[belay.VersionKind{APIVersion: "apps/v1", Kind: "Deployment"}]; got != (belay.KindFacts{Resource: "deployments", Namespaced: true}) {
		t.Errorf("Deployment: %+v", got)
	}
	if got := facts.Kinds[belay.VersionKind{APIVersion: "v1", Kind: "Namespace"}]; got != (belay.KindFacts{Resource: "namespaces"}) {
		t.Errorf("Namespace: %+v", got)
	}
	if s := f.Status(); !s.Ready || s.Version != facts.Version {
		t.Errorf("status %+v", s)
	}
	f.awaitNoComplaint()
}

func TestNotReadyBeforeRun(t *testing.T) {
	cp := devtest.Cluster(t)
	f := newFixture(t, cp, cp.Namespace(t))
	wantError(t, f.Ready(), belay.CodeUnavailable, clusterName, "connecting")
	if f.Observe([]belay.VersionKind{{APIVersion: "v1", Kind: "ConfigMap"}}) {
		t.Error("observed without a connection")
	}
	_, err := f.create("shop", f.configMap("shop", "settings", "1"))
	wantError(t, err, belay.CodeUnavailable)
	f.run()
	f.awaitReady()
	if !f.Observe([]belay.VersionKind{{APIVersion: "v1", Kind: "ConfigMap"}, {APIVersion: "nobody.example/v1", Kind: "Unknown"}}) {
		t.Error("ready, but what was asked for before is not observed")
	}
}

// What an earlier life left behind is found without anybody naming its kind.
func TestSweepFindsWhatAnEarlierLifeApplied(t *testing.T) {
	f := begin(t)
	k := f.widgetKind("Namespaced")
	o := f.object("shop", f.widget(k, `"size":1`))
	live := f.mustCreate("shop", o)
	lease := f.object("shop", `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"one","namespace":"$NS"}}`)
	f.mustCreate("shop", lease)
	f.end()

	next := newFixture(t, f.cp, f.namespace)
	next.run()
	next.awaitReady()
	if got, ok := next.Lookup(o.ID); !ok || got.UID != live.UID || got.Fingerprint != live.Fingerprint || len(got.Managers) == 0 {
		t.Errorf("found %t: %+v", ok, got)
	}
	if _, ok := next.Lookup(lease.ID); !ok {
		t.Error("the Lease is not found")
	}
	stranger := newFixture(t, f.cp, f.namespace, func(o *kube.Options) { o.Instance = "" })
	stranger.run()
	stranger.awaitReady()
	stranger.Observe([]belay.VersionKind{{APIVersion: "coordination.k8s.io/v1", Kind: "Lease"}})
	stranger.awaitReady()
	if _, ok := stranger.Lookup(lease.ID); ok {
		t.Error("another instance takes it for its own")
	}
}

func TestDriftShowsInTheFingerprint(t *testing.T) {
	f := begin(t)
	o := f.deployment("shop", "web")
	live := f.mustCreate("shop", o)
	f.Verified(o.ID, live.Fingerprint)
	if got, _ := f.Lookup(o.ID); got.Managers != nil {
		t.Errorf("managers kept: %v", managerNames(got))
	}
	f.awaitLive(o.ID, "the Deployment to be healthy", func(l belay.Live) bool {
		return l.Health == belay.Healthy && l.HealthMessage == ""
	})
	if got, _ := f.Lookup(o.ID); got.Fingerprint != live.Fingerprint || got.Managers != nil {
		t.Errorf("a controller's writes look like drift: %v", managerNames(got))
	}
	for _, c := range []struct {
		name, manager string
		do            func()
	}{
		{"edit", "kubectl-edit", func() {
			f.patch(deployments, "web", "kubectl-edit", `{"spec":{"template":{"metadata":{"labels":{"added":"x"}}}}}`)
		}},
		{"removal", "kubectl-label", func() {
			f.patch(deployments, "web", "kubectl-label", `{"metadata":{"labels":{"tier":null}}}`)
		}},
		{"scale", "kubectl", func() { f.patch(deployments, "web", "kubectl", `{"spec":{"replicas":3}}`, "scale") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			desired := f.object("shop", strings.Replace(string(f.deployment("shop", "web").Raw), `"labels":{`, `"labels":{"tier":"front",`, 1))
			right := f.mustUpdate("shop", desired, mustLookup(t, f, o.ID), "kubectl-edit")
			f.Verified(o.ID, right.Fingerprint)
			told := f.notes.count("shop")
			c.do()
			drifted := f.awaitLive(o.ID, "the drift", func(l belay.Live) bool { return l.Fingerprint != right.Fingerprint })
			if len(drifted.Managers) == 0 {
				t.Error("without managers nobody can say who it was")
			}
			f.awaitTold("shop", told)
			healed := f.mustUpdate("shop", desired, drifted, "kubectl-edit")
			if healed.Fingerprint != right.Fingerprint {
				t.Errorf("fingerprint %s after the heal, was %s: %v", healed.Fingerprint, right.Fingerprint, managerNames(healed))
			}
		})
	}
}

func mustLookup(t *testing.T, f *fixture, id belay.ObjectID) belay.Live {
	t.Helper()
	l, ok := f.Lookup(id)
	if !ok {
		t.Fatalf("%s is not known", id)
	}
	return l
}

// The deployment controller copies annotations to its ReplicaSets, and a
// template may carry our label.
func TestCopiesOfControllersAreNotOurs(t *testing.T) {
	f := begin(t)
	f.Observe([]belay.VersionKind{{APIVersion: "apps/v1", Kind: "ReplicaSet"}, {APIVersion: "v1", Kind: "Pod"}})
	manifest := strings.ReplaceAll(string(f.deployment("shop", "web").Raw), `{"labels":{"app":"web"}}`,
		fmt.Sprintf(`{"labels":{"app":"web","belay.dev/managed":"true","belay.dev/instance":%q}}`, f.instance))
	o := f.object("shop", manifest)
	if !strings.Contains(manifest, f.instance+`"}`) {
		t.Fatalf("the template is not labelled: %s", manifest)
	}
	f.mustCreate("shop", o)
	f.await("the ReplicaSet", func() error {
		list, err := f.person.Resource(replicaSets).Namespace(f.namespace).List(t.Context(), metav1.ListOptions{LabelSelector: belay.LabelManaged + "=true"})
		if err != nil {
			return err
		}
		for _, rs := range list.Items {
			if rs.GetAnnotations()[belay.AnnotationID] != "" {
				return nil
			}
		}
		return fmt.Errorf("no ReplicaSet with a copy of the annotation among %d", len(list.Items))
	})
	f.awaitLive(o.ID, "the Deployment to be healthy", func(l belay.Live) bool { return l.Health == belay.Healthy })
	if got := f.Live("shop"); len(got) != 1 {
		t.Errorf("objects of the application: %+v", got)
	}
}

func TestRemovalByHandIsSeen(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "1")
	f.mustCreate("shop", o)
	f.remove(configMaps, "settings")
	f.awaitUnknown(o.ID)
	f.awaitTold("shop", 0)
	if len(f.Applications()) != 0 {
		t.Errorf("applications %v", f.Applications())
	}
}

func TestDelete(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "1")
	live := f.mustCreate("shop", o)
	// Somebody's write of a field that is not ours comes in between.
	f.patch(configMaps, "settings", "some-controller", `{"data":{"theirs":"y"}}`)
	// Or else the watch may tell of it after the deletion, and only then of that.
	f.awaitLive(o.ID, "that write to be seen", func(l belay.Live) bool { return l.ResourceVersion != live.ResourceVersion })
	if err := f.Delete(t.Context(), f.permit("shop", o.ID), live); err != nil {
		t.Fatal(err)
	}
	if _, ok := f.Lookup(o.ID); ok {
		t.Error("it is known still")
	}
	if err := f.Delete(t.Context(), f.permit("shop", o.ID), live); err != nil {
		t.Errorf("a second time: %v", err)
	}

	held := f.object("shop", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"held","namespace":"$NS","finalizers":["example.org/hold"]}}`)
	live = f.mustCreate("shop", held)
	if err := f.Delete(t.Context(), f.permit("shop", held.ID), live); err != nil {
		t.Fatal(err)
	}
	if got := mustLookup(t, f, held.ID); !got.Deleting {
		t.Errorf("not marked as being deleted: %+v", got)
	}
	f.patch(configMaps, "held", "somebody", `{"metadata":{"finalizers":null}}`)
	f.awaitUnknown(held.ID)
}

// An object that was taken out of our hands after it was last seen stays.
func TestDeleteStopsWhenOwnershipWasTaken(t *testing.T) {
	f := begin(t)
	for name, patch := range map[string]string{
		"annotation": `{"metadata":{"annotations":{"belay.dev/id":null}}}`,
		"label":      `{"metadata":{"labels":{"belay.dev/managed":null}}}`,
		"instance":   `{"metadata":{"labels":{"belay.dev/instance":"another"}}}`,
		"prune":      `{"metadata":{"annotations":{"belay.dev/prune":"disabled"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			o := f.configMap("shop", name, "1")
			live := f.mustCreate("shop", o)
			f.patch(configMaps, name, "somebody", patch)
			err := f.Delete(t.Context(), f.permit("shop", o.ID), live)
			wantError(t, err, belay.CodeConflict, "nothing was deleted")
			f.get(configMaps, name)
		})
	}
	// PruneDisabled as known is a defect of the caller.
	o := f.object("shop", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"kept","namespace":"$NS","annotations":{"belay.dev/prune":"disabled"}}}`)
	live := f.mustCreate("shop", o)
	wantError(t, f.Delete(t.Context(), f.permit("shop", o.ID), live), belay.CodeInternal)
}

func TestCustomResources(t *testing.T) {
	f := begin(t)
	k := f.customKind("Namespaced")
	vk := belay.VersionKind{APIVersion: k.group + "/v1", Kind: k.kind}
	if !f.Observe([]belay.VersionKind{vk}) {
		t.Error("an unknown kind holds things up")
	}
	o := f.object("shop", f.widget(k, `"size":1`))
	_, err := f.create("shop", o)
	wantError(t, err, belay.CodeUnknownKind)

	told := f.notes.countAll()
	crd := f.object("shop", k.definition())
	f.mustCreate("shop", crd)
	live := f.awaitLive(crd.ID, "the definition to be established", func(l belay.Live) bool { return l.Established })
	f.awaitServed(k, true)
	f.await("all applications to be told", func() error {
		if f.notes.countAll() == told {
			return fmt.Errorf("not told")
		}
		return nil
	})
	f.await("the kind to be observed", func() error {
		if !f.Observe([]belay.VersionKind{vk}) {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	var one belay.Live
	f.await("the custom resource to be taken", func() error {
		one, err = f.create("shop", o)
		return err
	})
	f.awaitLive(o.ID, "health without a status", func(l belay.Live) bool { return l.Health == belay.Healthy })
	f.patch(k.gvr(), "one", "its-controller", `{"status":{"observedGeneration":1,"conditions":[{"type":"Stalled","status":"True","reason":"Broken","message":"it broke"}]}}`, "status")
	f.awaitLive(o.ID, "the status to tell", func(l belay.Live) bool {
		return l.Health == belay.Degraded && l.HealthMessage == "it broke" && l.Fingerprint == one.Fingerprint
	})
	_, err = f.update("shop", f.object("shop", f.widget(k, `"sise":1`)), one)
	wantError(t, err, belay.CodeInvalid, "spec.sise")

	if err := f.Delete(t.Context(), f.permit("shop", crd.ID), live); err != nil {
		t.Fatal(err)
	}
	f.awaitUnknown(o.ID)
	f.awaitServed(k, false)
	if err := f.Delete(t.Context(), f.permit("shop", o.ID), one); err != nil {
		t.Errorf("delete an object whose kind is gone: %v", err)
	}
	// Defined again at once, it is watched again.
	f.mustCreate("shop", crd)
	f.awaitServed(k, true)
	f.await("the custom resource to be taken again", func() error {
		one, err = f.create("shop", o)
		return err
	})
	f.remove(k.gvr(), "one")
	f.awaitUnknown(o.ID)
	f.awaitReady()
	f.awaitNoComplaint()
	f.removeDefinition(crd)
}

// removeDefinition deletes a CustomResourceDefinition.
func (f *fixture) removeDefinition(o belay.Object) {
	f.t.Helper()
	if err := f.person.Resource(crds).Delete(f.t.Context(), o.ID.Name, metav1.DeleteOptions{}); err != nil {
		f.t.Fatal(err)
	}
}

func TestEventIsWrittenOnce(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "1")
	live := f.mustCreate("shop", o)
	for range 3 {
		f.Event(t.Context(), o.ID, true, "ApplyFailed", "it did not fit")
	}
	list, err := f.person.Resource(configMaps.GroupVersion().WithResource("events")).Namespace(f.namespace).List(t.Context(),
		metav1.ListOptions{FieldSelector: "involvedObject.uid=" + live.UID})
	if err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 1 || list.Items[0].Object["message"] != "it did not fit" || list.Items[0].Object["type"] != "Warning" {
		t.Errorf("events: %v", list.Items)
	}
}

func TestPreview(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "2")
	before, after, err := f.preview(belay.Action{Verb: belay.VerbCreate, ID: o.ID, Desired: &o})
	if err != nil || before != nil || !strings.Contains(string(after), `"key":"2"`) {
		t.Errorf("create: %s -> %s, %v", before, after, err)
	}
	first := f.configMap("shop", "settings", "1")
	live := f.mustCreate("shop", first)
	before, after, err = f.preview(belay.Action{Verb: belay.VerbUpdate, ID: o.ID, Desired: &o, Live: &live})
	if err != nil || !strings.Contains(string(before), `"key":"1"`) || !strings.Contains(string(after), `"key":"2"`) {
		t.Errorf("update: %s -> %s, %v", before, after, err)
	}
	for _, hidden := range []string{"managedFields", "uid", "resourceVersion", "creationTimestamp"} {
		if strings.Contains(string(before)+string(after), hidden) {
			t.Errorf("%s shows: %s -> %s", hidden, before, after)
		}
	}
	before, after, err = f.preview(belay.Action{Verb: belay.VerbDelete, ID: o.ID, Live: &live})
	if err != nil || !strings.Contains(string(before), `"key":"1"`) || after != nil {
		t.Errorf("delete: %s -> %s, %v", before, after, err)
	}
	if got := f.get(configMaps, "settings").GetResourceVersion(); got != live.ResourceVersion {
		t.Error("a preview changed the object")
	}
}
