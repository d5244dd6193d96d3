package plan

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

const testApplication = "shop"

// server is a real API server as these tests need it.
type server struct {
	t         *testing.T
	dynamic   dynamic.Interface
	discovery discovery.DiscoveryInterface
	namespace string
	facts     belay.ClusterFacts
}

var definitions sync.Mutex

func newServer(t *testing.T) *server {
	t.Helper()
	t.Parallel() // most of the time these tests wait for the server
	cp := devtest.Cluster(t)
	s := &server{t: t, dynamic: dynamic.NewForConfigOrDie(cp.RESTConfig()), discovery: discovery.NewDiscoveryClientForConfigOrDie(cp.RESTConfig()), namespace: cp.Namespace(t)}
	s.discover()
	return s
}

func (s *server) discover() {
	s.t.Helper()
	_, lists, err := s.discovery.ServerGroupsAndResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		s.t.Fatal(err)
	}
	kinds := map[belay.VersionKind]belay.KindFacts{}
	for _, l := range lists {
		for _, r := range l.APIResources {
			if !strings.Contains(r.Name, "/") {
				kinds[belay.VersionKind{APIVersion: l.GroupVersion, Kind: r.Kind}] = belay.KindFacts{Resource: r.Name, Namespaced: r.Namespaced}
			}
		}
	}
	s.facts = belay.ClusterFacts{Kinds: kinds}
}

// custom makes sure that testdata/crd.yaml is served. All tests share it.
func (s *server) custom() {
	s.t.Helper()
	definitions.Lock()
	defer definitions.Unlock()
	b, err := os.ReadFile(filepath.Join("testdata", "crd.yaml"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, o := range s.load(string(b)) {
		s.apply(&o)
	}
	for kind, resource := range map[string]string{"Thing": "things", "Loose": "loose"} {
		devtest.Await(s.t, "the kind "+kind+" to be served", func() error {
			s.discover()
			if _, ok := s.facts.Kinds[belay.VersionKind{APIVersion: "plan.example.com/v1", Kind: kind}]; !ok {
				return apierrors.NewNotFound(schema.GroupResource{}, kind)
			}
			_, err := s.dynamic.Resource(schema.GroupVersionResource{Group: "plan.example.com", Version: "v1", Resource: resource}).List(s.t.Context(), metav1.ListOptions{})
			return err
		})
	}
}

// load makes stamped objects of YAML documents, as the pipeline does.
func (s *server) load(documents string) []belay.Object {
	s.t.Helper()
	documents = strings.ReplaceAll(documents, "NAMESPACE", s.namespace)
	var objects []belay.Object
	for doc := range strings.SplitSeq(documents, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		j, err := yaml.YAMLToJSON([]byte(doc))
		if err != nil {
			s.t.Fatalf("%v in\n%s", err, doc)
		}
		o, err := belay.NewObject(j, belay.Origin{File: "corpus.yaml"})
		if err != nil {
			s.t.Fatalf("%v in\n%s", err, doc)
		}
		objects = append(objects, o)
	}
	resolved, un := Resolve(objects, NewScopes(&s.facts, objects), s.namespace)
	for _, u := range un {
		s.t.Fatal(u.Err)
	}
	for i := range resolved {
		o, err := Stamp(resolved[i], testApplication, "")
		if err != nil {
			s.t.Fatal(err)
		}
		resolved[i] = o
	}
	return resolved
}

func (s *server) one(document string) *belay.Object {
	s.t.Helper()
	return &s.load(document)[0]
}

func (s *server) resource(o *belay.Object) dynamic.ResourceInterface {
	s.t.Helper()
	k, ok := s.facts.Kinds[belay.VersionKind{APIVersion: o.APIVersion, Kind: o.ID.Kind}]
	if !ok {
		s.t.Fatalf("the cluster does not serve %s %s", o.APIVersion, o.ID.Kind)
	}
	g, v := belay.SplitAPIVersion(o.APIVersion)
	r := s.dynamic.Resource(schema.GroupVersionResource{Group: g, Version: v, Resource: k.Resource})
	if o.ID.Namespace == "" {
		return r
	}
	return r.Namespace(o.ID.Namespace)
}

func (s *server) apply(o *belay.Object) {
	s.t.Helper()
	yes := true
	_, err := s.resource(o).Patch(s.t.Context(), o.ID.Name, types.ApplyPatchType, o.Raw, metav1.PatchOptions{FieldManager: belay.FieldManager, Force: &yes})
	if err != nil {
		s.t.Fatalf("apply %s: %v", o.ID, err)
	}
	if o.ID.Namespace == "" && !strings.HasSuffix(o.ID.Name, ".plan.example.com") { // those are shared
		s.t.Cleanup(func() {
			_ = s.resource(o).Delete(context.Background(), o.ID.Name, metav1.DeleteOptions{}) // best effort
		})
	}
}

// unblock takes finalizers off at the end, for the namespace to end too.
func (s *server) unblock(o *belay.Object) {
	ctx, cancel := context.WithTimeout(context.Background(), devtest.Patience)
	defer cancel()
	_, _ = s.resource(o).Patch(ctx, o.ID.Name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{}) // best effort
}

func (s *server) get(o *belay.Object) *unstructured.Unstructured {
	s.t.Helper()
	u, err := s.resource(o).Get(s.t.Context(), o.ID.Name, metav1.GetOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	return u
}

// live is what an observer would make of the object.
func (s *server) live(o *belay.Object) *belay.Live {
	s.t.Helper()
	u := s.get(o)
	l := &belay.Live{ID: o.ID, APIVersion: o.APIVersion, Application: testApplication, Digest: u.GetAnnotations()[belay.AnnotationDigest], Managers: []belay.FieldEntry{}}
	for _, m := range u.GetManagedFields() {
		e := belay.FieldEntry{Manager: m.Manager, Operation: string(m.Operation), Subresource: m.Subresource, APIVersion: m.APIVersion}
		if m.Time != nil {
			e.Time = m.Time.Time
		}
		if m.FieldsV1 != nil {
			e.Fields = json.RawMessage(m.FieldsV1.GetRawString())
		}
		l.Managers = append(l.Managers, e)
	}
	return l
}

func (s *server) compare(o *belay.Object) Verdict {
	s.t.Helper()
	return Compare(o, s.live(o), belay.DefaultInteractiveManagers())
}

// edit patches as some client would, through PATCH: the operation is an Update.
func (s *server) edit(o *belay.Object, manager string, kind types.PatchType, patch string, subresource ...string) {
	s.t.Helper()
	if _, err := s.resource(o).Patch(s.t.Context(), o.ID.Name, kind, []byte(patch), metav1.PatchOptions{FieldManager: manager}, subresource...); err != nil {
		s.t.Fatalf("patch %s as %s: %v", o.ID, manager, err)
	}
}

// heal applies again as the verdict asks.
func (s *server) heal(o *belay.Object, v Verdict) {
	s.t.Helper()
	if len(v.TakeOver) > 0 {
		s.takeOver(o, v.TakeOver)
	}
	s.apply(o)
}

// takeOver makes the entries of managers ours, whatever their operation.
func (s *server) takeOver(o *belay.Object, managers []string) {
	s.t.Helper()
	theirs := func(e metav1.ManagedFieldsEntry) bool {
		return slices.Contains(managers, e.Manager) && e.Subresource == ""
	}
	devtest.Await(s.t, "a moment in which no controller writes "+o.ID.String(), func() error {
		u := s.get(o)
		entries := u.GetManagedFields()
		mine := slices.IndexFunc(entries, func(e metav1.ManagedFieldsEntry) bool {
			return e.Manager == belay.FieldManager && e.Operation == metav1.ManagedFieldsOperationApply
		})
		all := fieldpath.NewSet()
		for i, e := range entries {
			if i == mine || theirs(e) {
				all = all.Union(fieldSet(s.t, e))
			}
		}
		raw, err := all.ToJSON()
		if err != nil {
			s.t.Fatal(err)
		}
		entries[mine].FieldsV1 = metav1.NewFieldsV1(string(raw))
		patch, err := json.Marshal([]map[string]any{
			{"op": "replace", "path": "/metadata/managedFields", "value": slices.DeleteFunc(entries, theirs)},
			{"op": "replace", "path": "/metadata/resourceVersion", "value": u.GetResourceVersion()},
		})
		if err != nil {
			s.t.Fatal(err)
		}
		_, err = s.resource(o).Patch(s.t.Context(), o.ID.Name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: belay.FieldManager})
		return err
	})
}

func fieldSet(t *testing.T, e metav1.ManagedFieldsEntry) *fieldpath.Set {
	t.Helper()
	set := fieldpath.NewSet()
	if err := set.FromJSON(strings.NewReader(e.FieldsV1.GetRawString())); err != nil {
		t.Fatal(err)
	}
	return set
}

func describe(d *belay.Drift) string {
	if d == nil {
		return "no drift"
	}
	b, _ := json.Marshal(d)
	return string(b)
}
