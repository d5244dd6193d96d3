package kube_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

var webhooks = schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: "validatingwebhookconfigurations"}

func (f *fixture) adopt(o belay.Object) (belay.Live, error) {
	f.t.Helper()
	return f.Apply(f.t.Context(), f.permit("shop", o.ID), belay.Action{Verb: belay.VerbAdopt, ID: o.ID, Desired: &o, Manner: belay.Manner{Adopt: true}})
}

// data is a ConfigMap of application shop.
func (f *fixture) data(name, data string) belay.Object {
	f.t.Helper()
	return f.object("shop", fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":"$NS"},"data":{%s}}`, name, data))
}

func (f *fixture) wantData(name, want string) {
	f.t.Helper()
	if got := fmt.Sprint(f.get(configMaps, name).Object["data"]); got != "map["+want+"]" {
		f.t.Errorf("data of %s is %s, want %s", name, got, want)
	}
}

// applyAs is a server-side apply by somebody else.
func (f *fixture) applyAs(manager, manifest string) {
	f.t.Helper()
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON([]byte(manifest)); err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.person.Resource(configMaps).Namespace(f.namespace).Apply(f.t.Context(), u.GetName(), &u, metav1.ApplyOptions{FieldManager: manager}); err != nil {
		f.t.Fatal(err)
	}
}

// What another tool delivered becomes Belay's as a whole: what Git does not declare
// goes away at once, and what Git stops declaring goes away then. Whoever else set
// something keeps that.
func TestAdoptionLeavesNothingHalfOwned(t *testing.T) {
	f := begin(t)
	for manager, apply := range map[string]bool{"helm": false, "kubectl-client-side-apply": false, "argocd-controller": true, "kustomize-controller": true, "somebodys-script": false} {
		t.Run(manager, func(t *testing.T) {
			name := strings.ToLower(manager)
			manifest := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":%q,"finalizers":["example.org/stays"],
				"labels":{"app.kubernetes.io/managed-by":"Helm"}},"data":{"same":"1","other":"theirs","undeclared":"x"}}`, name, f.namespace)
			if apply {
				f.applyAs(manager, manifest)
			} else {
				f.make(configMaps, manager, manifest)
			}
			t.Cleanup(func() {
				_, _ = f.person.Resource(configMaps).Namespace(f.namespace).Patch(context.Background(), name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
			})
			f.patch(configMaps, name, "some-controller", `{"data":{"injected":"y"}}`)
			o := f.data(name, `"same":"1","other":"ours"`)
			_, err := f.create("shop", o)
			wantError(t, err, belay.CodeConflict, manager, "spec.sync.adopt", "belay.dev/adopt: enabled")
			out, err := f.Preview(t.Context(), f.permit("shop", o.ID), belay.Action{Verb: belay.VerbCreate, ID: o.ID, Desired: &o, Manner: belay.Manner{Adopt: true}})
			if err != nil || out.Verb != belay.VerbAdopt || strings.Contains(string(out.After), "theirs") {
				t.Errorf("preview: %s, %v, %s", out.Verb, err, out.After)
			}
			known := manager != "somebodys-script"
			if known == strings.Contains(string(out.After), "undeclared") {
				t.Errorf("preview: %s", out.After)
			}
			live, err := f.adopt(o)
			if err != nil {
				t.Fatal(err)
			}
			if live.Application != "shop" {
				t.Errorf("live: %+v", live)
			}
			want := "injected:y other:ours same:1"
			if !known {
				want += " undeclared:x"
			}
			f.wantData(name, want)
			if u := f.get(configMaps, name); len(u.GetFinalizers()) != 1 {
				t.Errorf("finalizers %v", u.GetFinalizers())
			} else if label := u.GetLabels()["app.kubernetes.io/managed-by"]; (label == "") != known {
				t.Errorf("label %q", label)
			}
			// Nothing of it is anybody else's, so nothing of it stays.
			f.mustUpdate("shop", f.data(name, `"other":"ours"`), live)
			f.wantData(name, strings.Replace(want, " same:1", "", 1))
		})
	}
}

func TestAdoptionTakesNothingFromAnotherBelay(t *testing.T) {
	f := begin(t)
	o := f.configMap("shop", "settings", "1")
	f.mustCreate("other", f.configMap("other", "settings", "theirs"))
	_, err := f.adopt(o)
	wantError(t, err, belay.CodeConflict, `application "other"`)
	second := newFixture(t, f.cp, f.namespace)
	second.instance = "second"
	theirs := f.make(configMaps, "somebody", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"foreign","namespace":"$NS"},"data":{"key":"x"}}`)
	stamped := second.configMap("shop", "foreign", "2")
	f.applyAs(belay.FieldManager, strings.Replace(string(stamped.Raw), `"data":{"key":"2"},`, "", 1))
	_, err = f.adopt(f.configMap("shop", "foreign", "1"))
	wantError(t, err, belay.CodeConflict, `instance "second"`)
	if u := f.get(configMaps, "foreign"); u.GetUID() != theirs.GetUID() {
		t.Error("it is another one")
	}
	f.wantData("foreign", "key:x")
}

// The process ended after fields were made ours and before the apply.
func TestAdoptionIsTakenUpAgain(t *testing.T) {
	f := begin(t)
	f.make(configMaps, "helm", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"settings","namespace":"$NS"},"data":{"key":"x","old":"y"}}`)
	f.patch(configMaps, "settings", "x", `{"metadata":{"managedFields":[{"manager":"belay","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:data":{"f:key":{},"f:old":{}}}}]}}`)
	o := f.data("settings", `"key":"1"`)
	_, err := f.create("shop", o)
	wantError(t, err, belay.CodeConflict, "Belay applied it once", "spec.sync.adopt")
	if _, err := f.adopt(o); err != nil {
		t.Fatal(err)
	}
	f.wantData("settings", "key:1")
}

// Replacing removes what others own, and the drift detector finds nothing wrong
// with the result; what holds the object alive stays.
func TestReplaceRemovesWhatIsNotDeclared(t *testing.T) {
	f := begin(t)
	o := f.data("settings", `"key":"1"`)
	live := f.mustCreate("shop", o)
	f.patch(configMaps, "settings", "some-controller", `{"data":{"injected":"y"},"metadata":{"labels":{"more":"z"},"finalizers":["example.org/stays"]}}`)
	t.Cleanup(func() {
		_, _ = f.person.Resource(configMaps).Namespace(f.namespace).Patch(context.Background(), "settings", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	})
	changed := f.data("settings", `"key":"2"`)
	a := belay.Action{Verb: belay.VerbUpdate, ID: o.ID, Desired: &changed, Live: &live, Manner: belay.Manner{Replace: true}}
	if _, after, err := f.preview(a); err != nil || strings.Contains(string(after), "injected") || !strings.Contains(string(after), "example.org/stays") {
		t.Errorf("preview: %s, %v", after, err)
	}
	after, err := f.Apply(t.Context(), f.permit("shop", o.ID), a)
	if err != nil {
		t.Fatal(err)
	}
	f.wantData("settings", "key:2")
	u := f.get(configMaps, "settings")
	if u.GetLabels()["more"] != "" || len(u.GetFinalizers()) != 1 {
		t.Errorf("labels %v, finalizers %v", u.GetLabels(), u.GetFinalizers())
	}
	if after.Fingerprint != live.Fingerprint {
		t.Error("our own write looks like somebody else's")
	}
	mark := f.cp.Mark(t)
	a.Live = &after
	if _, err := f.Apply(t.Context(), f.permit("shop", o.ID), a); err != nil {
		t.Fatal(err)
	}
	if n := len(f.requests(mark, "patch")); n != 1 {
		t.Errorf("%d patches where nobody added anything", n)
	}
}

// ignoring is an update of application shop with rules.
func (f *fixture) ignoring(o belay.Object, live belay.Live, rules ...belay.IgnoreRule) belay.Live {
	f.t.Helper()
	a := belay.Action{Verb: belay.VerbUpdate, ID: o.ID, Desired: &o, Live: &live, Manner: belay.Manner{Ignore: rules}}
	_, after, err := f.preview(a)
	if err != nil {
		f.t.Fatal(err)
	}
	out, err := f.Apply(f.t.Context(), f.permit("shop", o.ID), a)
	if err != nil {
		f.t.Fatal(err)
	}
	u := f.raw(o)
	want, _ := u.MarshalJSON()
	var previewed unstructured.Unstructured
	if err := previewed.UnmarshalJSON(after); err != nil {
		f.t.Fatal(err)
	}
	for _, field := range [][]string{{"status"}, {"metadata", "managedFields"}, {"metadata", "resourceVersion"}, {"metadata", "uid"}, {"metadata", "generation"}, {"metadata", "creationTimestamp"}} {
		unstructured.RemoveNestedField(u.Object, field...)
	}
	for _, o := range []*unstructured.Unstructured{u, &previewed} { // a controller's, whenever it comes to it
		unstructured.RemoveNestedField(o.Object, "metadata", "annotations", "deployment.kubernetes.io/revision")
	}
	if fmt.Sprint(u.Object) != fmt.Sprint(previewed.Object) {
		f.t.Errorf("previewed\n%s\nbut it is\n%s", after, want)
	}
	return out
}

func (f *fixture) raw(o belay.Object) *unstructured.Unstructured {
	f.t.Helper()
	gvr := map[string]schema.GroupVersionResource{"ConfigMap": configMaps, "Deployment": deployments, "ValidatingWebhookConfiguration": webhooks}[o.ID.Kind]
	u, err := f.person.Resource(gvr).Namespace(o.ID.Namespace).Get(f.t.Context(), o.ID.Name, metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return u
}

func TestIgnoredReplicasAreTheAutoscalers(t *testing.T) {
	f := begin(t)
	manifest := func(replicas int, image string) belay.Object {
		return f.object("shop", fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"$NS"},"spec":{"replicas":%d,
			"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":%q}]}}}}`, replicas, image))
	}
	replicas := func() int64 {
		n, _, _ := unstructured.NestedInt64(f.get(deployments, "web").Object, "spec", "replicas")
		return n
	}
	live := f.mustCreate("shop", manifest(3, "i:1"))
	pointer := belay.IgnoreRule{Pointers: []string{"/spec/replicas"}}
	live = f.ignoring(manifest(4, "i:2"), live, pointer)
	if n := replicas(); n != 3 {
		t.Errorf("%d replicas: a field that nobody took is left all the same", n)
	}
	f.patch(deployments, "web", "autoscaler", `{"spec":{"replicas":7}}`, "scale")
	live = f.ignoring(manifest(5, "i:3"), live, pointer)
	if n := replicas(); n != 7 {
		t.Errorf("%d replicas, the autoscaler wants 7", n)
	}
	// Without the rule the number is Git's again.
	live = f.mustUpdate("shop", manifest(2, "i:4"), live)
	if n := replicas(); n != 2 {
		t.Errorf("%d replicas, Git says 2", n)
	}
	f.patch(deployments, "web", "autoscaler", `{"spec":{"replicas":7}}`, "scale")
	manager := belay.IgnoreRule{Managers: []string{"auto*"}}
	live = f.ignoring(manifest(6, "i:5"), live, manager)
	if n := replicas(); n != 7 {
		t.Errorf("%d replicas, the autoscaler wants 7", n)
	}
	live = f.mustUpdate("shop", manifest(2, "i:6"), live)
	// The autoscaler has none of it now.
	f.ignoring(manifest(1, "i:7"), live, manager)
	if n := replicas(); n != 1 {
		t.Errorf("%d replicas, Git says 1 and nobody else anything", n)
	}
}

func TestIgnoredBundleIsTheInjectors(t *testing.T) {
	f := begin(t)
	manifest := func(path string) belay.Object {
		return f.object("shop", fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"$NS"},"webhooks":[
			{"name":"first.example.org","clientConfig":{"caBundle":"Zmlyc3Q=","url":"https://example.invalid/%[1]s"},"sideEffects":"None","admissionReviewVersions":["v1"],"failurePolicy":"Ignore"},
			{"name":"second.example.org","clientConfig":{"caBundle":"c2Vjb25k","url":"https://example.invalid/%[1]s"},"sideEffects":"None","admissionReviewVersions":["v1"],"failurePolicy":"Ignore"}]}`, path))
	}
	o := manifest("a")
	live := f.mustCreate("shop", o)
	t.Cleanup(func() {
		_ = f.person.Resource(webhooks).Delete(context.Background(), f.namespace, metav1.DeleteOptions{})
	})
	if _, err := f.person.Resource(webhooks).Patch(t.Context(), f.namespace, types.JSONPatchType,
		[]byte(`[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":"aW5qZWN0ZWQ="},{"op":"replace","path":"/webhooks/1/clientConfig/caBundle","value":"aW5qZWN0ZWQ="}]`),
		metav1.PatchOptions{FieldManager: "injector"}); err != nil {
		t.Fatal(err)
	}
	bundles := func() string {
		list, _, _ := unstructured.NestedSlice(f.raw(o).Object, "webhooks")
		var out []string
		for _, w := range list {
			c := w.(map[string]any)["clientConfig"].(map[string]any)
			out = append(out, fmt.Sprint(c["caBundle"], " ", c["url"]))
		}
		return strings.Join(out, ", ")
	}
	live = f.ignoring(manifest("b"), live, belay.IgnoreRule{Pointers: []string{"/webhooks/0/clientConfig/caBundle"}})
	if got := bundles(); got != "aW5qZWN0ZWQ= https://example.invalid/b, c2Vjb25k https://example.invalid/b" {
		t.Errorf("bundles %s", got)
	}
	f.ignoring(manifest("c"), live, belay.IgnoreRule{Managers: []string{"injector"}})
	if got := bundles(); got != "aW5qZWN0ZWQ= https://example.invalid/c, c2Vjb25k https://example.invalid/c" {
		t.Errorf("bundles %s", got)
	}
}

// Whatever is left to others keeps its value, whoever's it is, and our marks stay.
func TestIgnoredFieldsKeepTheirValue(t *testing.T) {
	f := begin(t)
	for i, c := range []struct {
		pointer, data, labels string
	}{
		{"/data/a", "a:1 b:2 c:2", "team:t1"},
		{"/data", "a:1 b:1 c:1", "team:t1"},
		{"/metadata/labels/team", "a:2 b:2 c:2", "team:t1"},
		{"/metadata/labels", "a:2 b:2 c:2", "team:t1"},
		{"/metadata/annotations", "a:2 b:2 c:2", "team:t2"},
		{"/metadata", "a:2 b:2 c:2", "team:t2"},
		{"/data/none", "a:2 b:2 c:2", "team:t2"},
	} {
		name := fmt.Sprintf("settings-%d", i)
		manifest := func(n int) belay.Object {
			return f.object("shop", fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":"$NS","labels":{"team":"t%d"}},"data":{"a":"%[2]d","b":"%[2]d","c":"%[2]d"}}`, name, n))
		}
		if strings.HasPrefix(c.pointer, "/metadata/labels") {
			c.labels = "team:t1"
		} else {
			c.labels = "team:t2"
		}
		live := f.mustCreate("shop", manifest(1))
		live = f.ignoring(manifest(2), live, belay.IgnoreRule{Pointers: []string{c.pointer}})
		f.wantData(name, c.data)
		labels := f.get(configMaps, name).GetLabels()
		maps.DeleteFunc(labels, func(k, _ string) bool { return strings.HasPrefix(k, "belay.dev/") })
		if got := strings.Trim(fmt.Sprint(labels), "map[]"); got != c.labels {
			t.Errorf("%s: labels %s, want %s", c.pointer, got, c.labels)
		}
		if live.Application != "shop" {
			t.Errorf("%s: %+v", c.pointer, live)
		}
	}
}

func TestDeletionPropagates(t *testing.T) {
	f := begin(t)
	for propagation, finalizer := range map[string]string{belay.PropagationForeground: "foregroundDeletion", belay.PropagationOrphan: "orphan"} {
		name := "web-" + propagation
		o := f.deployment("shop", name)
		live := f.mustCreate("shop", o)
		// Its own finalizer keeps the others from being acted on and gone.
		f.patch(deployments, name, "somebody", `{"metadata":{"finalizers":["example.org/wait"]}}`)
		project := belay.OpenProject()
		app := belay.Application{Name: "shop"}
		app.Spec.Sync.Propagation = propagation
		permit, err := project.Permit(&app, clusterName, o.ID, true)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Delete(t.Context(), permit, live); err != nil {
			t.Fatal(err)
		}
		f.await(propagation+" to be asked for", func() error {
			u, err := f.person.Resource(deployments).Namespace(f.namespace).Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if u.GetDeletionTimestamp() == nil || !slices.Contains(u.GetFinalizers(), finalizer) {
				return fmt.Errorf("finalizers %v", u.GetFinalizers())
			}
			return nil
		})
		f.patch(deployments, name, "somebody", `{"metadata":{"finalizers":null}}`)
	}
}

// What the cluster does not change in place is refused with what to do, and a
// preview says what would become of it where it may be made anew.
func TestImmutableFields(t *testing.T) {
	f := begin(t)
	job := `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"job","namespace":"$NS"},"spec":{"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"%s"}]}}}}`
	service := `{"apiVersion":"v1","kind":"Service","metadata":{"name":"svc","namespace":"$NS"},"spec":{"clusterIP":"%s","ports":[{"port":80}]}}`
	claim := `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"pvc","namespace":"$NS"},"spec":{"storageClassName":"%s","accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}`
	set := `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"set","namespace":"$NS"},"spec":{"replicas":0,"serviceName":"%s","selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`
	deployment := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"$NS"},"spec":{"replicas":0,"selector":{"matchLabels":{"a":"%[1]s"}},"template":{"metadata":{"labels":{"a":"%[1]s"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`
	binding := `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"rb","namespace":"$NS"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"%s"}}`
	frozen := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"frozen","namespace":"$NS"},"immutable":true,"data":{"key":"%s"}}`
	for _, c := range []struct{ manifest, from, to string }{
		{job, "i:1", "i:2"}, {service, "", "None"}, {claim, "a", "b"}, {set, "a", "b"}, {deployment, "one", "two"}, {binding, "one", "two"}, {frozen, "1", "2"},
	} {
		o, changed := f.object("shop", fmt.Sprintf(c.manifest, c.from)), f.object("shop", fmt.Sprintf(c.manifest, c.to))
		if c.from == "" {
			o = f.object("shop", strings.Replace(fmt.Sprintf(c.manifest, c.from), `"clusterIP":"",`, "", 1))
		}
		live := f.mustCreate("shop", o)
		_, err := f.update("shop", changed, live)
		wantError(t, err, belay.CodeImmutable, "sync.recreate", "belay.dev/recreate: enabled")
		a := belay.Action{Verb: belay.VerbUpdate, ID: o.ID, Desired: &changed, Live: &live}
		out, err := f.Preview(t.Context(), f.permit("shop", o.ID), a)
		wantError(t, err, belay.CodeImmutable)
		if out.Verb != belay.VerbUpdate || out.Before == nil {
			t.Errorf("preview of %s: %+v", o.ID, out)
		}
		a.Manner.Recreate = true
		if out, err = f.Preview(t.Context(), f.permit("shop", o.ID), a); err != nil || out.Verb != belay.VerbRecreate ||
			!strings.Contains(string(out.After), `"`+c.to+`"`) || !strings.Contains(string(out.After), `"name":"`+o.ID.Name+`"`) {
			t.Errorf("preview of %s: %s, %v, %s", o.ID, out.Verb, err, out.After)
		}
		if now, ok := f.Lookup(o.ID); !ok || now.UID != live.UID {
			t.Errorf("a preview changed %s", o.ID)
		}
	}
}

// A project's writes are those of its ServiceAccount: the cluster's rules decide,
// and what it refuses says who asked and what is missing.
func TestWritesAsServiceAccount(t *testing.T) {
	f := begin(t)
	rbac := func(resource string) schema.GroupVersionResource {
		return schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: resource}
	}
	f.make(rbac("roles"), "admin", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"deployer","namespace":"$NS"},
		"rules":[{"apiGroups":[""],"resources":["configmaps"],"verbs":["create","patch","delete"]}]}`)
	f.make(rbac("rolebindings"), "admin", `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"deployer","namespace":"$NS"},
		"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"deployer"},"subjects":[{"kind":"ServiceAccount","name":"deployer","namespace":"$NS"}]}`)
	project := belay.OpenProject()
	project.Spec.ServiceAccount = &belay.ServiceAccount{Namespace: f.namespace, Name: "deployer"}
	app := belay.Application{Name: "shop"}
	permit := func(id belay.ObjectID) belay.Permit {
		p, err := project.Permit(&app, clusterName, id, id.Namespace != "")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	o := f.data("settings", `"key":"1"`)
	mark := f.cp.Mark(t)
	var live belay.Live
	f.await("the role to count", func() (err error) {
		live, err = f.Apply(t.Context(), permit(o.ID), belay.Action{Verb: belay.VerbCreate, ID: o.ID, Desired: &o})
		return err
	})
	f.patch(configMaps, "settings", "kubectl-edit", `{"data":{"more":"x"}}`)
	o = f.data("settings", `"key":"2"`)
	a := belay.Action{Verb: belay.VerbUpdate, ID: o.ID, Desired: &o, Live: &live, TakeOver: []string{"kubectl-edit"}}
	if _, err := f.Preview(t.Context(), permit(o.ID), a); err != nil {
		t.Error(err)
	}
	live, err := f.Apply(t.Context(), permit(o.ID), a)
	if err != nil {
		t.Fatal(err)
	}
	f.wantData("settings", "key:2")
	if err := f.Delete(t.Context(), permit(o.ID), live); err != nil {
		t.Error(err)
	}
	user := "system:serviceaccount:" + f.namespace + ":deployer"
	for _, r := range f.cp.Requests(t, mark, devtest.Filter{UserAgent: f.userAgent}) {
		if want := r.Verb == "patch" || r.Verb == "delete" || r.Verb == "create"; want != (r.As == user) {
			t.Errorf("sent as %q: %s", r.As, r)
		}
	}
	secret := f.object("shop", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"password","namespace":"$NS"},"data":{"key":"cGxhbnRlZA=="}}`)
	create := belay.Action{Verb: belay.VerbCreate, ID: secret.ID, Desired: &secret}
	want := []string{user, "cannot", `"secrets"`, "ServiceAccount " + f.namespace + "/deployer", "spec.serviceAccount"}
	_, err = f.Apply(t.Context(), permit(secret.ID), create)
	wantError(t, err, belay.CodeForbidden, want...)
	_, err = f.Preview(t.Context(), permit(secret.ID), create)
	wantError(t, err, belay.CodeForbidden, want...)
	known := f.mustCreate("shop", secret)
	wantError(t, f.Delete(t.Context(), permit(secret.ID), known), belay.CodeForbidden, want...)
	ns := belay.ObjectID{Kind: "Namespace", Name: f.namespace + "-more"}
	wantError(t, f.EnsureNamespace(t.Context(), permit(ns), belay.NamespaceMetadata{}), belay.CodeForbidden, user, `"namespaces"`, "ServiceAccount")
}

func TestNamespaceMetadataIsKept(t *testing.T) {
	f := begin(t)
	id := belay.ObjectID{Kind: "Namespace", Name: f.namespace + "-made"}
	gvr := schema.GroupVersionResource{Version: "v1", Resource: "namespaces"}
	t.Cleanup(func() { _ = f.person.Resource(gvr).Delete(context.Background(), id.Name, metav1.DeleteOptions{}) })
	meta := func(labels ...string) belay.NamespaceMetadata {
		m := belay.NamespaceMetadata{Labels: map[string]string{}, Annotations: map[string]string{"note": "n"}}
		for i := 0; i < len(labels); i += 2 {
			m.Labels[labels[i]] = labels[i+1]
		}
		return m
	}
	ensure := func(f *fixture, m belay.NamespaceMetadata) {
		t.Helper()
		if err := f.EnsureNamespace(t.Context(), f.permit("shop", id), m); err != nil {
			t.Fatal(err)
		}
		if f.NamespaceDiffers("shop", id.Name, m) {
			t.Error("it differs from what was just written")
		}
	}
	labels := func() map[string]string {
		u, err := f.person.Resource(gvr).Get(t.Context(), id.Name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		l := u.GetLabels()
		if l[belay.LabelManaged] != "" {
			t.Error("it is labelled as managed")
		}
		delete(l, "kubernetes.io/metadata.name")
		return l
	}
	if f.NamespaceDiffers("shop", id.Name, meta("a", "1")) {
		t.Error("a namespace that is not there differs")
	}
	ensure(f, meta("a", "1", "b", "1"))
	if _, err := f.person.Resource(gvr).Patch(t.Context(), id.Name, types.MergePatchType, []byte(`{"metadata":{"labels":{"theirs":"x"}}}`), metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
		t.Fatal(err)
	}
	ensure(f, meta("a", "2"))
	if got := fmt.Sprint(labels()); got != "map[a:2 theirs:x]" {
		t.Errorf("labels %s", got)
	}
	// Another process finds out by looking.
	again := newFixture(t, f.cp, f.namespace)
	again.run()
	again.awaitReady()
	if again.NamespaceDiffers("shop", id.Name, meta("a", "2")) {
		t.Error("what is right differs")
	}
	if !again.NamespaceDiffers("shop", id.Name, meta("a", "3")) || !again.NamespaceDiffers("shop", id.Name, belay.NamespaceMetadata{}) {
		t.Error("what Git changed is not seen")
	}
	if again.NamespaceDiffers("other", id.Name, meta("a", "3")) {
		t.Error("it differs for an application that it was not made for")
	}
	ensure(again, belay.NamespaceMetadata{})
	if got := fmt.Sprint(labels()); got != "map[theirs:x]" {
		t.Errorf("labels %s", got)
	}
	// One that somebody else made is left alone.
	mark := f.cp.Mark(t)
	foreign := belay.ObjectID{Kind: "Namespace", Name: f.namespace}
	if err := again.EnsureNamespace(t.Context(), f.permit("shop", foreign), meta("a", "1")); err != nil {
		t.Error(err)
	}
	if n := len(again.requests(mark, "patch", "create", "update")); n != 0 {
		t.Errorf("%d writes to a namespace of somebody else's", n)
	}
	// A manifest that declares it later takes it in.
	o := f.object("shop", fmt.Sprintf(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":%q,"labels":{"a":"9"}}}`, id.Name))
	live := f.mustCreate("shop", o)
	if live.Application != "shop" || labels2(f, gvr, id.Name)["a"] != "9" {
		t.Errorf("%+v", live)
	}
	if err := f.Delete(t.Context(), f.permit("shop", id), live); err != nil {
		t.Error(err)
	}
}

func labels2(f *fixture, gvr schema.GroupVersionResource, name string) map[string]string {
	f.t.Helper()
	u, err := f.person.Resource(gvr).Get(f.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return u.GetLabels()
}

// Why Replace is no PUT: what a PUT changes leaves the entry by which drift is
// seen, and is owned a second time, under the same name.
func TestPutWouldLookLikeDrift(t *testing.T) {
	f := begin(t)
	o := f.data("settings", `"key":"1"`)
	live := f.mustCreate("shop", o)
	u := f.get(configMaps, "settings")
	u.Object["data"] = map[string]any{"key": "2"}
	if _, err := f.person.Resource(configMaps).Namespace(f.namespace).Update(t.Context(), u, metav1.UpdateOptions{FieldManager: belay.FieldManager}); err != nil {
		t.Fatal(err)
	}
	now := f.awaitLive(o.ID, "the PUT to be seen", func(l belay.Live) bool { return l.ResourceVersion != live.ResourceVersion })
	if got := managerNames(now); !slices.Equal(got, []string{"belay/Apply", "belay/Update"}) {
		t.Errorf("managers %v", got)
	}
	for _, e := range now.Managers {
		if owns := strings.Contains(string(e.Fields), "f:key"); owns == (e.Operation == "Apply") {
			t.Errorf("%s owns %s", e.Operation, e.Fields)
		}
	}
}
