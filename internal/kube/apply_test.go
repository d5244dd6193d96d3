package kube_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/kube"
)

func TestCreateAndUpdateAreOneRequestEach(t *testing.T) {
	f := begin(t)
	f.Observe([]belay.VersionKind{{APIVersion: "v1", Kind: "ConfigMap"}})
	o := f.configMap("shop", "settings", "1")
	mark := f.cp.Mark(t)
	live := f.mustCreate("shop", o)
	if live.Application != "shop" || live.Digest != o.Digest || live.UID == "" || live.ResourceVersion == "" || live.Fingerprint == "" ||
		live.Health != belay.Healthy || !live.Established || !live.Namespaced || live.APIVersion != "v1" {
		t.Errorf("live after create: %+v", live)
	}
	if got := managerNames(live); !slices.Equal(got, []string{"belay/Apply"}) {
		t.Errorf("managers %v", got)
	}
	changed := f.configMap("shop", "settings", "2")
	again := f.mustUpdate("shop", changed, live)
	if again.UID != live.UID || again.Digest != changed.Digest || again.ResourceVersion == live.ResourceVersion {
		t.Errorf("live after update: %+v", again)
	}
	if got := f.get(configMaps, "settings").Object["data"]; fmt.Sprint(got) != "map[key:2]" {
		t.Errorf("data %v", got)
	}
	// Whatever else it asks is about kinds that other tests of the control plane define.
	reqs := slices.DeleteFunc(f.requests(mark), func(r devtest.Request) bool { return r.Verb == "watch" || r.Namespace != f.namespace })
	if len(reqs) != 2 || reqs[0].Verb != "patch" || reqs[1].Verb != "patch" {
		t.Errorf("requests: %v", reqs)
	}
	known, ok := f.Lookup(o.ID)
	if !ok || known.ResourceVersion != again.ResourceVersion {
		t.Errorf("the answer is not known at once: %+v", known)
	}
	if got := f.Live("shop"); len(got) != 1 || got[0].ID != o.ID {
		t.Errorf("objects of the application: %v", got)
	}
	if got := f.Applications(); !slices.Equal(got, []string{"shop"}) {
		t.Errorf("applications %v", got)
	}
}

func TestOwnWriteWakesNobody(t *testing.T) {
	f := begin(t)
	f.mustCreate("other", f.configMap("other", "fence", "0"))
	o := f.configMap("shop", "settings", "1")
	live := f.mustCreate("shop", o)
	f.mustUpdate("shop", f.configMap("shop", "settings", "2"), live)
	// The watch delivers in order: once it tells of a later change, it has told of these.
	f.patch(configMaps, "fence", "kubectl-edit", `{"data":{"key":"9"}}`)
	f.awaitTold("other", 0)
	if n := f.notes.count("shop"); n != 0 {
		t.Errorf("the application was woken %d times by its own writes", n)
	}
}

func TestCreateNeverOverwrites(t *testing.T) {
	f := begin(t)
	widgets := f.widgetKind("Namespaced")
	things := f.widgetKind("Cluster")
	clusterRoles := schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"}
	services := schema.GroupVersionResource{Version: "v1", Resource: "services"}
	for _, c := range []struct {
		name, theirs, ours string
		gvr                schema.GroupVersionResource
	}{
		{"core", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"taken","namespace":"$NS"},"data":{"a":"theirs"}}`,
			`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"taken","namespace":"$NS"},"data":{"a":"ours"}}`, configMaps},
		{"service", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"taken","namespace":"$NS"},"spec":{"ports":[{"port":80}]}}`,
			`{"apiVersion":"v1","kind":"Service","metadata":{"name":"taken","namespace":"$NS"},"spec":{"ports":[{"port":81}]}}`, services},
		{"cluster-scoped", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"$NS"},"rules":[]}`,
			`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"$NS"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}`, clusterRoles},
		{"custom", f.widget(widgets, `"size":1`), f.widget(widgets, `"size":2`), widgets.gvr()},
		{"custom cluster-scoped", f.widget(things, `"size":1`), f.widget(things, `"size":2`), things.gvr()},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := f.make(c.gvr, "somebody", c.theirs)
			t.Cleanup(func() {
				_ = f.person.Resource(c.gvr).Namespace(before.GetNamespace()).Delete(context.Background(), before.GetName(), metav1.DeleteOptions{})
			})
			o := f.object("shop", c.ours)
			_, err := f.create("shop", o)
			wantError(t, err, belay.CodeConflict, o.ID.String(), `"somebody"`)
			after, err := f.person.Resource(c.gvr).Namespace(before.GetNamespace()).Get(t.Context(), before.GetName(), metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if after.GetResourceVersion() != before.GetResourceVersion() {
				t.Errorf("the object was changed: %v", after.GetManagedFields())
			}
			if _, known := f.Lookup(o.ID); known {
				t.Error("it is taken for ours")
			}
			_, after2, err := f.preview(belay.Action{Verb: belay.VerbCreate, ID: o.ID, Desired: &o})
			if after2 != nil {
				t.Errorf("preview: %s", after2)
			}
			wantError(t, err, belay.CodeConflict, `"somebody"`)
		})
	}
}

// A foreign object that carries our label and a copy of an annotation is
// foreign still.
func TestCopiedMarksAreNotOwnership(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "taken", "ours")
	f.make(configMaps, "copier", string(o.Raw))
	_, err := f.create("shop", o)
	wantError(t, err, belay.CodeConflict, `"copier"`)
	if _, known := f.Lookup(o.ID); known {
		t.Error("it is taken for ours")
	}
}

func TestRecreatedByOthersIsNotTakenOver(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "1")
	live := f.mustCreate("shop", o)
	f.remove(configMaps, "settings")
	theirs := f.make(configMaps, "somebody", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","namespace":"$NS"},"data":{"key":"theirs"}}`)
	_, err := f.update("shop", f.configMap("shop", "settings", "2"), live)
	wantError(t, err, belay.CodeConflict, `"somebody"`)
	if f.get(configMaps, "settings").GetResourceVersion() != theirs.GetResourceVersion() {
		t.Error("the foreign object was changed")
	}
	// Nor is it deleted in the place of ours.
	if err := f.Delete(t.Context(), f.permit("shop", o.ID), live); err != nil {
		t.Fatal(err)
	}
	if f.get(configMaps, "settings").GetUID() != theirs.GetUID() {
		t.Error("the foreign object was deleted")
	}
}

func TestUpdateOfWhatIsGoneMakesItAnew(t *testing.T) {
	f := begin(t)
	live := f.mustCreate("shop", f.configMap("shop", "settings", "1"))
	f.remove(configMaps, "settings")
	again := f.mustUpdate("shop", f.configMap("shop", "settings", "2"), live)
	if again.UID == live.UID || again.UID == "" {
		t.Errorf("uid %q after %q", again.UID, live.UID)
	}
}

func TestLabelRemovedByHand(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "1")
	live := f.mustCreate("shop", o)
	f.patch(configMaps, "settings", "kubectl-label", `{"metadata":{"labels":{"belay.dev/managed":null}}}`)
	f.awaitUnknown(o.ID)
	f.awaitTold("shop", 0)
	again := f.mustCreate("shop", o) // what a plan asks for when nothing is known
	if again.UID != live.UID {
		t.Errorf("uid %q, was %q", again.UID, live.UID)
	}
	if f.get(configMaps, "settings").GetLabels()[belay.LabelManaged] != "true" {
		t.Error("the label is not back")
	}
}

func TestAnnotationRemovedByHand(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "1")
	live := f.mustCreate("shop", o)
	f.patch(configMaps, "settings", "kubectl-annotate", `{"metadata":{"annotations":{"belay.dev/id":null}}}`)
	nobodys := f.awaitLive(o.ID, "the object to be nobody's", func(l belay.Live) bool { return l.Application == "" })
	f.awaitTold("shop", 0)
	if len(f.Live("shop")) != 0 {
		t.Error("it is still the application's")
	}
	wantError(t, f.Delete(t.Context(), f.permit("shop", o.ID), nobodys), belay.CodeInternal)
	again := f.mustUpdate("shop", o, nobodys)
	if again.UID != live.UID || again.Application != "shop" || again.Fingerprint != live.Fingerprint {
		t.Errorf("after the heal: %+v", again)
	}
}

func TestMoveBetweenApplications(t *testing.T) {
	f := begin(t)
	live := f.mustCreate("old", f.configMap("old", "settings", "1"))
	moved := f.configMap("new", "settings", "1")
	_, err := f.create("new", moved)
	wantError(t, err, belay.CodeConflict, `"old"`)
	again := f.mustUpdate("new", moved, live)
	if again.Application != "new" || again.UID != live.UID {
		t.Errorf("after the move: %+v", again)
	}
	if got := f.Applications(); !slices.Equal(got, []string{"new"}) {
		t.Errorf("applications %v", got)
	}
}

func TestTakeOverRemovesAdditions(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "1")
	live := f.mustCreate("shop", o)
	f.patch(configMaps, "settings", "kubectl-edit", `{"data":{"key":"9","extra":"x"},"metadata":{"labels":{"by":"hand"}}}`)
	f.patch(configMaps, "settings", "kubectl-edit", `{"data":{"extra2":"x"}}`)
	f.patch(configMaps, "settings", "some-controller", `{"data":{"theirs":"y"}}`)
	if _, err := f.person.Resource(configMaps).Namespace(f.namespace).Patch(t.Context(), "settings", types.ApplyPatchType,
		[]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings"},"data":{"applied":"x"}}`), metav1.PatchOptions{FieldManager: "kubectl"}); err != nil {
		t.Fatal(err)
	}
	drifted := f.awaitLive(o.ID, "the drift to be seen", func(l belay.Live) bool { return l.Fingerprint != live.Fingerprint && len(l.Managers) == 4 })
	takeOver := []string{"kubectl-edit", "kubectl"}
	before, after, err := f.preview(belay.Action{Verb: belay.VerbHeal, ID: o.ID, Desired: &o, Live: &drifted, TakeOver: takeOver})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(before), "extra") || strings.Contains(string(after), "extra") || strings.Contains(string(after), "applied") || strings.Contains(string(after), "hand") ||
		!strings.Contains(string(after), "theirs") || strings.Contains(string(after), "managedFields") {
		t.Errorf("preview\n%s\n%s", before, after)
	}
	healed := f.mustUpdate("shop", o, drifted, takeOver...)
	u := f.get(configMaps, "settings")
	if got := fmt.Sprint(u.Object["data"]); got != "map[key:1 theirs:y]" {
		t.Errorf("data %v", got)
	}
	if u.GetLabels()["by"] != "" {
		t.Errorf("labels %v", u.GetLabels())
	}
	if healed.Fingerprint != live.Fingerprint {
		t.Errorf("fingerprint %s after the heal, was %s", healed.Fingerprint, live.Fingerprint)
	}
}

// TestReplicasAreHandedOver: Git stops naming replicas, because an autoscaler is
// to set them. They must not drop to one in between.
func TestReplicasAreHandedOver(t *testing.T) {
	f := begin(t)
	manifest := func(spec string) belay.Object {
		return f.object("shop", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"`+f.namespace+`"},
			"spec":{`+spec+`"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`)
	}
	live := f.mustCreate("shop", manifest(`"replicas":3,`))
	without := manifest("")
	_, after, err := f.preview(belay.Action{Verb: belay.VerbUpdate, ID: without.ID, Desired: &without, Live: &live})
	if err != nil || !strings.Contains(string(after), `"replicas":3`) {
		t.Errorf("preview %s, %v", after, err)
	}
	since := f.cp.Mark(t)
	live = f.mustUpdate("shop", without, live)
	n, _, err := unstructured.NestedInt64(f.get(deployments, "web").Object, "spec", "replicas")
	if err != nil || n != 3 {
		t.Errorf("%d replicas after they were handed over, %v", n, err)
	}
	done := slices.DeleteFunc(f.requests(since, "patch"), func(r devtest.Request) bool { return r.Code == http.StatusConflict }) // a controller was faster
	if len(done) != 2 {
		t.Errorf("%d patches, want one to give up the claim and one to apply", len(done))
	}
	f.patch(deployments, "web", "autoscaler", `{"spec":{"replicas":5}}`, "scale")
	since = f.cp.Mark(t)
	f.mustUpdate("shop", without, live)
	if n, _, _ = unstructured.NestedInt64(f.get(deployments, "web").Object, "spec", "replicas"); n != 5 {
		t.Errorf("%d replicas, the autoscaler wants 5", n)
	}
	if got := len(f.requests(since, "patch")); got != 1 {
		t.Errorf("%d patches of what is handed over already", got)
	}
}

// TestTakeOverDoesNotRestart: k9s asks for new pods in the same entry in which it
// edits. To take that request over would be to drop it, and so to restart once more.
func TestTakeOverDoesNotRestart(t *testing.T) {
	f := begin(t)
	o := f.deployment("shop", "web")
	live := f.mustCreate("shop", o)
	f.patch(deployments, "web", "k9s", `{"metadata":{"labels":{"by":"hand"}},
		"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"2026-01-01T00:00:00Z"}}}}}`)
	drifted := f.awaitLive(o.ID, "the drift to be seen", func(l belay.Live) bool { return l.Fingerprint != live.Fingerprint && l.Managers != nil })
	f.mustUpdate("shop", o, drifted, "k9s")
	u := f.get(deployments, "web")
	annotations, _, err := unstructured.NestedStringMap(u.Object, "spec", "template", "metadata", "annotations")
	if err != nil || annotations["kubectl.kubernetes.io/restartedAt"] == "" {
		t.Errorf("annotations of the template %v, %v", annotations, err)
	}
	if u.GetLabels()["by"] != "" {
		t.Errorf("labels %v", u.GetLabels())
	}
}

// TestTakeOverDoesNotScaleDown: replicas that are not declared are an autoscaler's
// or a person's. To take them over would be to drop them, and so to scale to one.
func TestTakeOverDoesNotScaleDown(t *testing.T) {
	f := begin(t)
	o := f.object("shop", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"$NS"},
		"spec":{"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"main","image":"example.org/main"}]}}}}`)
	live := f.mustCreate("shop", o)
	f.patch(deployments, "web", "k9s", `{"metadata":{"labels":{"by":"hand"}},"spec":{"replicas":3}}`)
	drifted := f.awaitLive(o.ID, "the drift to be seen", func(l belay.Live) bool { return l.Fingerprint != live.Fingerprint && l.Managers != nil })
	f.mustUpdate("shop", o, drifted, "k9s")
	u := f.get(deployments, "web")
	if n, _, err := unstructured.NestedInt64(u.Object, "spec", "replicas"); err != nil || n != 3 {
		t.Errorf("%d replicas, %v", n, err)
	}
	if u.GetLabels()["by"] != "" {
		t.Errorf("labels %v", u.GetLabels())
	}
}

func TestApplyChecksPermitAndStamp(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "1")
	other := f.configMap("shop", "other", "1")
	_, err := f.Apply(t.Context(), f.permit("shop", other.ID), belay.Action{Verb: belay.VerbCreate, ID: o.ID, Desired: &o})
	wantError(t, err, belay.CodeInternal, "permit")
	_, err = f.create("else", o) // stamped for another application
	wantError(t, err, belay.CodeInternal, "stamped")
	wantError(t, f.Delete(t.Context(), f.permit("shop", other.ID), belay.Live{ID: o.ID, Application: "shop", UID: "1"}), belay.CodeInternal, "permit")
	wantError(t, f.EnsureNamespace(t.Context(), f.permit("shop", o.ID), belay.NamespaceMetadata{}), belay.CodeInternal)
	if _, err := f.Apply(t.Context(), belay.Permit{}, belay.Action{Verb: belay.VerbCreate, ID: o.ID, Desired: &o}); belay.CodeOf(err) != belay.CodeInternal {
		t.Errorf("without a permit: %v", err)
	}
}

func TestErrorsOfTheAPIServer(t *testing.T) {
	f := begin(t)
	job := func(image string) belay.Object {
		return f.object("shop", fmt.Sprintf(`{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"once","namespace":"$NS"},
			"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"main","image":%q}]}}}}`, image))
	}
	live := f.mustCreate("shop", job("example.org/main:1"))
	_, err := f.update("shop", job("example.org/main:2"), live)
	wantError(t, err, belay.CodeImmutable, "Job.batch "+f.namespace+"/once", "spec.template", "immutable")
	if len(err.Error()) > 500 {
		t.Errorf("the message is %d bytes long: %v", len(err.Error()), err)
	}
	for _, c := range []struct {
		manifest string
		code     belay.Code
		words    []string
	}{
		{`{"apiVersion":"v1","kind":"Service","metadata":{"name":"x","namespace":"$NS"},"spec":{"ports":[{"port":80000}]}}`,
			belay.CodeInvalid, []string{"spec.ports[0].port", "80000"}},
		{`{"apiVersion":"v1","kind":"Service","metadata":{"name":"x","namespace":"$NS"},"spec":{"prots":[{"port":80}]}}`,
			belay.CodeInvalid, []string{"spec.prots", "not declared in schema"}},
		{`{"apiVersion":"v1","kind":"Service","metadata":{"name":"x","namespace":"$NS"},"spec":{"ports":[{"port":"eighty"}]}}`,
			belay.CodeInvalid, nil},
		{`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"no-such-namespace"}}`,
			belay.CodeNoNamespace, []string{`"no-such-namespace"`}},
		{`{"apiVersion":"example.org/v1","kind":"Nothing","metadata":{"name":"x","namespace":"$NS"}}`,
			belay.CodeUnknownKind, []string{"example.org/v1 Nothing"}},
	} {
		_, err := f.create("shop", f.object("shop", c.manifest))
		wantError(t, err, c.code, c.words...)
	}
}

func TestForbiddenSaysWho(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "1")
	weak := f.as("weak-" + f.namespace)
	weak.run()
	weak.awaitReady() // what may not be listed is passed over
	if m := weak.Status().Message; !strings.Contains(m, "cannot look for") || !strings.Contains(m, "weak-"+f.namespace) {
		t.Errorf("status %q", m)
	}
	if !weak.Observe([]belay.VersionKind{{APIVersion: "v1", Kind: "ConfigMap"}}) {
		weak.await("the refusal", func() error {
			if !weak.Observe([]belay.VersionKind{{APIVersion: "v1", Kind: "ConfigMap"}}) {
				return fmt.Errorf("still waiting")
			}
			return nil
		})
	}
	_, err := weak.create("shop", o)
	wantError(t, err, belay.CodeForbidden, "weak-"+f.namespace, "cannot patch", "grant")
}

func TestTerminatingNamespace(t *testing.T) {
	f := begin(t)
	live := f.mustCreate("shop", f.object("shop", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"stays","namespace":"$NS","finalizers":["example.org/hold"]}}`))
	if err := f.person.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}).Delete(t.Context(), f.namespace, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	f.awaitLive(live.ID, "the namespace's contents to be deleted", func(l belay.Live) bool { return l.Deleting })
	_, err := f.create("shop", f.configMap("shop", "late", "1"))
	wantError(t, err, belay.CodeTerminating, f.namespace)
	_, err = f.create("shop", f.object("shop", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"stays","namespace":"$NS"}}`))
	wantError(t, err, belay.CodeTerminating)
	f.patch(configMaps, "stays", "somebody", `{"metadata":{"finalizers":null}}`)
	f.awaitUnknown(live.ID)
}

func TestEnsureNamespace(t *testing.T) {
	f := begin(t)
	id := belay.ObjectID{Kind: "Namespace", Name: f.namespace + "-more"}
	namespaces := f.person.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	t.Cleanup(func() { _ = namespaces.Delete(context.Background(), id.Name, metav1.DeleteOptions{}) })
	for range 2 {
		if err := f.EnsureNamespace(t.Context(), f.permit("shop", id), belay.NamespaceMetadata{}); err != nil {
			t.Fatal(err)
		}
	}
	u, err := namespaces.Get(t.Context(), id.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for k := range u.GetLabels() {
		if strings.HasPrefix(k, "belay.dev/") {
			t.Errorf("labels %v", u.GetLabels())
		}
	}
}

func TestAdmissionRefusals(t *testing.T) {
	f := begin(t)
	cluster := func(group, version, resource string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Group: group, Version: version, Resource: resource}
	}
	selector := `"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"$NS"}}`
	for _, c := range []struct {
		gvr      schema.GroupVersionResource
		manifest string
	}{
		{cluster("admissionregistration.k8s.io", "v1", "validatingadmissionpolicies"),
			`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"$NS"},"spec":{"matchConstraints":{` + selector + `,
			"resourceRules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["*"],"resources":["configmaps"]}]},
			"validations":[{"expression":"object.metadata.name != 'refused'","message":"no such name here"}]}}`},
		{cluster("admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings"),
			`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicyBinding","metadata":{"name":"$NS"},"spec":{"policyName":"$NS","validationActions":["Deny"]}}`},
		{cluster("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
			`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"$NS"},"webhooks":[{"name":"broken.example.org",` + selector + `,
			"clientConfig":{"url":"https://127.0.0.1:1/"},"failurePolicy":"Fail","sideEffects":"None","admissionReviewVersions":["v1"],
			"rules":[{"apiGroups":[""],"apiVersions":["v1"],"operations":["*"],"resources":["limitranges"]}]}]}`},
	} {
		f.make(c.gvr, "somebody", c.manifest)
		t.Cleanup(func() { _ = f.person.Resource(c.gvr).Delete(context.Background(), f.namespace, metav1.DeleteOptions{}) })
	}
	refused := f.configMap("shop", "refused", "1")
	var err error
	f.await("the policy to hold", func() error {
		live, e := f.create("shop", refused)
		if e == nil {
			_ = f.Delete(t.Context(), f.permit("shop", refused.ID), live)
			return fmt.Errorf("it is accepted")
		}
		if belay.CodeOf(e) != belay.CodeForbidden {
			return e // the policy is being read
		}
		err = e
		return nil
	})
	wantError(t, err, belay.CodeForbidden, f.namespace, "no such name here", "policy")
	limits := f.object("shop", `{"apiVersion":"v1","kind":"LimitRange","metadata":{"name":"x","namespace":"$NS"},"spec":{"limits":[]}}`)
	f.await("the webhook to be called", func() error {
		live, e := f.create("shop", limits)
		if e == nil {
			_ = f.Delete(t.Context(), f.permit("shop", limits.ID), live)
			return fmt.Errorf("it is accepted")
		}
		if !strings.Contains(e.Error(), "webhook") {
			return e
		}
		err = e
		return nil
	})
	wantError(t, err, belay.CodeUnavailable, `"broken.example.org"`, "webhook must work")
}

// When the API server is busy, a write waits as long as it is asked to.
func TestBusyServer(t *testing.T) {
	f := begin(t)
	busy := &busyServer{}
	f = newFixture(t, f.cp, f.namespace, func(o *kube.Options) { o.Config.Wrap(busy.wrap) })
	f.run()
	f.awaitReady()
	busy.left.Store(2)
	began := time.Now()
	f.mustCreate("shop", f.configMap("shop", "settings", "1"))
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it took %v, and was asked to wait twice for a second", took)
	}
	if n := busy.left.Load(); n != 0 {
		t.Errorf("%d refusals were not met", n)
	}
}

// busyServer turns a number of writes away, as an API server under load does.
type busyServer struct{ left atomic.Int32 }

func (b *busyServer) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodPatch || b.left.Add(-1) < 0 {
			if r.Method == http.MethodPatch {
				b.left.Store(0)
			}
			return next.RoundTrip(r)
		}
		const body = "Too many requests, please try again later.\n" // as its priority and fairness puts it
		return &http.Response{StatusCode: http.StatusTooManyRequests, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: http.Header{"Retry-After": {"1"}, "Content-Type": {"text/plain; charset=utf-8"}}, Body: io.NopCloser(strings.NewReader(body))}, nil
	})
}
