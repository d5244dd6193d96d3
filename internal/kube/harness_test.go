package kube_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/kube"
)

const clusterName = "test"

var (
	configMaps  = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	secrets     = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	replicaSets = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "replicasets"}
	apiServices = schema.GroupVersionResource{Group: "apiregistration.k8s.io", Version: "v1", Resource: "apiservices"}
	crds        = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// fixture is a Cluster under test beside a client of a person's.
type fixture struct {
	*kube.Cluster
	t         *testing.T
	cp        *devtest.ControlPlane
	instance  string
	namespace string
	userAgent string
	person    dynamic.Interface
	notes     *notes
	end       func()
}

// notes are the calls of Notify.
type notes struct {
	mu   sync.Mutex
	apps map[string]int
	all  int
}

func (n *notes) notify(apps []string, all bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range apps {
		n.apps[a]++
	}
	if all {
		n.all++
	}
}

func (n *notes) count(app string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.apps[app]
}

func (n *notes) countAll() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all
}

// begin starts a Cluster in a namespace of the shared control plane.
func begin(t *testing.T) *fixture {
	t.Helper()
	cp := devtest.Cluster(t)
	f := newFixture(t, cp, cp.Namespace(t))
	f.run()
	f.awaitReady()
	return f
}

// newFixture makes a Cluster of an instance of its own, and does not run it.
func newFixture(t *testing.T, cp *devtest.ControlPlane, namespace string, change ...func(*kube.Options)) *fixture {
	t.Helper()
	person, err := dynamic.NewForConfig(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, cp: cp, instance: namespace, namespace: namespace, userAgent: "belay/" + namespace + " ", person: person,
		notes: &notes{apps: map[string]int{}}}
	cfg := cp.RESTConfig()
	cfg.UserAgent = f.userAgent
	o := kube.Options{Name: clusterName, Config: cfg, Instance: f.instance, Notify: f.notes.notify,
		Interactive: belay.DefaultInteractiveManagers(), Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))}
	for _, c := range change {
		c(&o)
	}
	f.instance = o.Instance
	if f.Cluster, err = kube.New(o); err != nil {
		t.Fatal(err)
	}
	return f
}

// run has the Cluster run until the end of the test, or a call of f.end.
func (f *fixture) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = f.Run(ctx)
	}()
	f.end = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	f.t.Cleanup(f.end)
}

func (f *fixture) awaitReady() {
	f.t.Helper()
	devtest.Await(f.t, "the cluster to be ready", f.Ready)
}

// awaitNoComplaint waits until there is nothing that cannot be seen. Kinds of other
// tests come and go, and while they do there may be.
func (f *fixture) awaitNoComplaint() {
	f.t.Helper()
	f.await("nothing to complain of", func() error {
		if s := f.Status(); !s.Ready || s.Message != "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// await waits for a condition.
func (f *fixture) await(what string, condition func() error) {
	f.t.Helper()
	devtest.Await(f.t, what, condition)
}

// object makes a desired object from a manifest, stamped for an application.
// $NS in the manifest stands for the test's namespace.
func (f *fixture) object(app, manifest string) belay.Object {
	f.t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(manifest, "$NS", f.namespace)), &m); err != nil {
		f.t.Fatalf("manifest: %v", err)
	}
	raw, _ := json.Marshal(m)
	o, err := belay.NewObject(raw, belay.Origin{File: "test.yaml"})
	if err != nil {
		f.t.Fatal(err)
	}
	meta := m["metadata"].(map[string]any)
	sub := func(key string) map[string]any {
		if meta[key] == nil {
			meta[key] = map[string]any{}
		}
		return meta[key].(map[string]any)
	}
	sub("labels")[belay.LabelManaged] = "true"
	if f.instance != "" {
		sub("labels")[belay.LabelInstance] = f.instance
	}
	sub("annotations")[belay.AnnotationID] = belay.FormatID(app, o.ID)
	sub("annotations")[belay.AnnotationDigest] = o.Digest
	if o.Raw, err = json.Marshal(m); err != nil {
		f.t.Fatal(err)
	}
	return o
}

func (f *fixture) permit(app string, id belay.ObjectID) belay.Permit {
	f.t.Helper()
	project := belay.OpenProject()
	p, err := project.Permit(&belay.Application{Name: app}, clusterName, id, id.Namespace != "")
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// preview is what an action of application shop would do.
func (f *fixture) preview(a belay.Action) (before, after json.RawMessage, err error) {
	f.t.Helper()
	out, err := f.Preview(f.t.Context(), f.permit("shop", a.ID), a)
	return out.Before, out.After, err
}

// create applies an object that must not be there.
func (f *fixture) create(app string, o belay.Object) (belay.Live, error) {
	f.t.Helper()
	return f.Apply(f.t.Context(), f.permit(app, o.ID), belay.Action{Verb: belay.VerbCreate, ID: o.ID, Desired: &o})
}

// update applies an object over what is known of it.
func (f *fixture) update(app string, o belay.Object, live belay.Live, takeOver ...string) (belay.Live, error) {
	f.t.Helper()
	return f.Apply(f.t.Context(), f.permit(app, o.ID), belay.Action{Verb: belay.VerbUpdate, ID: o.ID, Desired: &o, Live: &live, TakeOver: takeOver})
}

func (f *fixture) mustCreate(app string, o belay.Object) belay.Live {
	f.t.Helper()
	live, err := f.create(app, o)
	if err != nil {
		f.t.Fatalf("create %s: %v", o.ID, err)
	}
	return live
}

// mustUpdate tries again where a controller is at the object all the time, as the
// engine does.
func (f *fixture) mustUpdate(app string, o belay.Object, live belay.Live, takeOver ...string) (now belay.Live) {
	f.t.Helper()
	f.await("update "+o.ID.String(), func() error {
		var err error
		if now, err = f.update(app, o, live, takeOver...); err != nil && !strings.Contains(err.Error(), "the object has been modified") {
			f.t.Fatalf("update %s: %v", o.ID, err)
		}
		return err
	})
	return now
}

// configMap is a ConfigMap of one key.
func (f *fixture) configMap(app, name, value string) belay.Object {
	f.t.Helper()
	return f.object(app, fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"namespace":"$NS"},"data":{"key":%q}}`, name, value))
}

func (f *fixture) deployment(app, name string) belay.Object {
	f.t.Helper()
	return f.object(app, fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":%q,"namespace":"$NS"},"spec":{"replicas":1,
		"selector":{"matchLabels":{"app":%[1]q}},"template":{"metadata":{"labels":{"app":%[1]q}},
		"spec":{"containers":[{"name":"main","image":"example.org/main:1"}]}}}}`, name))
}

func (f *fixture) get(gvr schema.GroupVersionResource, name string) *unstructured.Unstructured {
	f.t.Helper()
	u, err := f.person.Resource(gvr).Namespace(f.namespace).Get(f.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		f.t.Fatalf("get %s: %v", name, err)
	}
	return u
}

// patch is what somebody else does to an object, as a merge patch.
func (f *fixture) patch(gvr schema.GroupVersionResource, name, manager, patch string, subresources ...string) {
	f.t.Helper()
	_, err := f.person.Resource(gvr).Namespace(f.namespace).Patch(f.t.Context(), name, types.MergePatchType, []byte(patch),
		metav1.PatchOptions{FieldManager: manager}, subresources...)
	if err != nil {
		f.t.Fatalf("patch %s: %v", name, err)
	}
}

// make creates an object as somebody else.
func (f *fixture) make(gvr schema.GroupVersionResource, manager, manifest string) *unstructured.Unstructured {
	f.t.Helper()
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON([]byte(strings.ReplaceAll(manifest, "$NS", f.namespace))); err != nil {
		f.t.Fatal(err)
	}
	out, err := f.person.Resource(gvr).Namespace(u.GetNamespace()).Create(f.t.Context(), &u, metav1.CreateOptions{FieldManager: manager})
	if err != nil {
		f.t.Fatalf("make %s: %v", u.GetName(), err)
	}
	return out
}

func (f *fixture) remove(gvr schema.GroupVersionResource, name string) {
	f.t.Helper()
	if err := f.person.Resource(gvr).Namespace(f.namespace).Delete(f.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		f.t.Fatalf("delete %s: %v", name, err)
	}
}

// awaitLive waits until what is known of an object fits.
func (f *fixture) awaitLive(id belay.ObjectID, what string, fits func(belay.Live) bool) belay.Live {
	f.t.Helper()
	var out belay.Live
	f.await(what, func() error {
		live, ok := f.Lookup(id)
		if !ok {
			return fmt.Errorf("%s is not known", id)
		}
		if !fits(live) {
			return fmt.Errorf("%+v", live)
		}
		out = live
		return nil
	})
	return out
}

func (f *fixture) awaitUnknown(id belay.ObjectID) {
	f.t.Helper()
	f.await("the object to be forgotten", func() error {
		if live, ok := f.Lookup(id); ok {
			return fmt.Errorf("%s is known: %+v", id, live)
		}
		return nil
	})
}

// requests are those of the Cluster under test.
func (f *fixture) requests(since devtest.Mark, verbs ...string) []devtest.Request {
	f.t.Helper()
	return f.cp.Requests(f.t, since, devtest.Filter{UserAgent: f.userAgent, Verbs: verbs})
}

// awaitWatch waits until watches of a resource were asked for: the objects are known
// before that.
func (f *fixture) awaitWatch(since devtest.Mark, resources ...string) {
	f.t.Helper()
	for _, resource := range resources {
		f.await("a watch of "+resource, func() error {
			if !slices.ContainsFunc(f.requests(since, "watch"), func(r devtest.Request) bool { return r.Resource == resource }) {
				return fmt.Errorf("not asked for")
			}
			return nil
		})
	}
}

// wantError checks the code of an error and that its text has all the words.
func wantError(t *testing.T, err error, code belay.Code, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	if got := belay.CodeOf(err); got != code {
		t.Errorf("code %s, want %s: %v", got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error does not say %q: %v", w, err)
		}
	}
}

func managerNames(live belay.Live) []string {
	var out []string
	for _, m := range live.Managers {
		out = append(out, m.Manager+"/"+m.Operation)
	}
	slices.Sort(out)
	return out
}

// customKind is a kind that a test defines.
type customKind struct {
	group, kind, plural, scope string
}

func (k customKind) gvr() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: k.group, Version: "v1", Resource: k.plural}
}

func (k customKind) definition() string {
	return fmt.Sprintf(`{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"%[1]s.%[2]s"},
		"spec":{"group":%[2]q,"scope":%[4]q,"names":{"plural":%[1]q,"kind":%[3]q},"versions":[{"name":"v1","served":true,"storage":true,
		"subresources":{"status":{}},"schema":{"openAPIV3Schema":{"type":"object","properties":{
			"spec":{"type":"object","properties":{"size":{"type":"integer"}}},
			"status":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}}}]}}`, k.plural, k.group, k.kind, k.scope)
}

// customKind names a kind of the test's own group.
func (f *fixture) customKind(scope string) customKind {
	prefix := strings.ToLower(scope)
	return customKind{group: f.namespace + ".example.org", kind: scope + "Widget", plural: prefix + "widgets", scope: scope}
}

// widgetKind defines a custom kind and waits until the Cluster knows it.
func (f *fixture) widgetKind(scope string) customKind {
	f.t.Helper()
	k := f.customKind(scope)
	f.make(crds, "somebody", k.definition())
	f.t.Cleanup(func() {
		_ = f.person.Resource(crds).Delete(context.Background(), k.plural+"."+k.group, metav1.DeleteOptions{})
	})
	f.awaitServed(k, true)
	return k
}

func (f *fixture) awaitServed(k customKind, want bool) {
	f.t.Helper()
	f.await("the kind in the facts", func() error {
		if _, ok := f.Facts().Kinds[belay.VersionKind{APIVersion: k.group + "/v1", Kind: k.kind}]; ok != want {
			return fmt.Errorf("served: %t", ok)
		}
		return nil
	})
}

// widget is a manifest of a custom kind with a spec.
func (f *fixture) widget(k customKind, spec string) string {
	ns := ""
	if k.scope == "Namespaced" {
		ns = `,"namespace":"$NS"`
	}
	return fmt.Sprintf(`{"apiVersion":"%s/v1","kind":%q,"metadata":{"name":"one"%s},"spec":{%s}}`, k.group, k.kind, ns, spec)
}

// as is a Cluster with the access rights of another user, who has none but to see
// what is served.
func (f *fixture) as(user string) *fixture {
	f.t.Helper()
	return newFixture(f.t, f.cp, f.namespace, func(o *kube.Options) { o.Config.Impersonate.UserName = user })
}

// awaitTold waits until Notify has named an application more often than before.
func (f *fixture) awaitTold(app string, before int) {
	f.t.Helper()
	f.await("application "+app+" to be told", func() error {
		if f.notes.count(app) <= before {
			return fmt.Errorf("not told")
		}
		return nil
	})
}
