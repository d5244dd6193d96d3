package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

func TestHealthOf(t *testing.T) {
	for _, c := range []struct {
		name, object string
		want         belay.Health
		message      string // part of it
	}{
		{"deleting", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","deletionTimestamp":"2026-01-01T00:00:00Z"}}`, belay.Progressing, "deleted"},
		{"deployment new", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","generation":1},"spec":{"replicas":1}}`, belay.Progressing, ""},
		{"deployment not observed", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","generation":2},"status":{"observedGeneration":1}}`, belay.Progressing, ""},
		{"deployment current", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","generation":1},"spec":{"replicas":1},
			"status":{"observedGeneration":1,"replicas":1,"updatedReplicas":1,"readyReplicas":1,"availableReplicas":1,"conditions":[
			{"type":"Available","status":"True"},{"type":"Progressing","status":"True","reason":"NewReplicaSetAvailable"}]}}`, belay.Healthy, ""},
		{"deployment stuck", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","generation":1},"spec":{"replicas":1},
			"status":{"observedGeneration":1,"replicas":1,"conditions":[{"type":"Progressing","status":"False","reason":"ProgressDeadlineExceeded"}]}}`, belay.Degraded, ""},
		{"deployment paused", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x"},"spec":{"paused":true}}`, belay.Suspended, "spec.paused"},
		{"cron job suspended", `{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"x"},"spec":{"suspend":true}}`, belay.Suspended, "spec.suspend"},
		{"cron job", `{"apiVersion":"batch/v1","kind":"CronJob","metadata":{"name":"x"},"spec":{"suspend":false}}`, belay.Healthy, ""},
		{"job running", `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"status":{"startTime":"2026-01-01T00:00:00Z","active":1}}`, belay.Progressing, "1 active"},
		{"job complete", `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"status":{"startTime":"2026-01-01T00:00:00Z","succeeded":1,
			"conditions":[{"type":"Complete","status":"True"}]}}`, belay.Healthy, ""},
		{"job failed", `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"status":{"startTime":"2026-01-01T00:00:00Z",
			"conditions":[{"type":"Failed","status":"True"}]}}`, belay.Degraded, ""},
		{"claim pending", `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"x"},"status":{"phase":"Pending"}}`, belay.Progressing, ""},
		{"api service away", `{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"x"},
			"status":{"conditions":[{"type":"Available","status":"False","message":"no endpoints"}]}}`, belay.Progressing, "no endpoints"},
		{"load balancer without an address", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"},"spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1"},"status":{"loadBalancer":{}}}`, belay.Progressing, "no address yet"},
		{"load balancer", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"},"spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1"},"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`, belay.Healthy, ""},
		{"service", `{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"},"spec":{"clusterIP":"10.0.0.1"},"status":{"loadBalancer":{}}}`, belay.Healthy, ""},
		{"ingress without an address", `{"apiVersion":"networking.k8s.io/v1","kind":"Ingress","metadata":{"name":"x"},"status":{"loadBalancer":{}}}`, belay.Healthy, ""},
		{"claim bound", `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"x"},"status":{"phase":"Bound"}}`, belay.Healthy, ""},
		{"claim lost", `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"x"},"status":{"phase":"Lost"}}`, belay.Degraded, "gone"},
		{"volume failed", `{"apiVersion":"v1","kind":"PersistentVolume","metadata":{"name":"x"},"status":{"phase":"Failed"}}`, belay.Degraded, "reclaimed"},
		{"pod failed", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"status":{"phase":"Failed","message":"evicted"}}`, belay.Degraded, "evicted"},
		{"pod without an image", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"status":{"phase":"Pending","containerStatuses":[{"name":"main","state":{"waiting":{"reason":"ImagePullBackOff","message":"not found"}}}]}}`, belay.Degraded, "container main: ImagePullBackOff not found"},
		{"pod whose init container crashes", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"status":{"phase":"Pending","initContainerStatuses":[{"name":"init","state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}}`, belay.Degraded, "container init"},
		{"pod done", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"status":{"phase":"Succeeded"}}`, belay.Healthy, ""},
		{"job suspended", `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"x"},"spec":{"suspend":true}}`, belay.Suspended, "spec.suspend"},
		{"stateful set on delete, not ready", `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"x","generation":2},"spec":{"replicas":3,"updateStrategy":{"type":"OnDelete"}},
			"status":{"observedGeneration":2,"replicas":3,"readyReplicas":2,"updatedReplicas":0}}`, belay.Progressing, "2/3"},
		{"stateful set on delete, old pods ready", `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"x","generation":2},"spec":{"replicas":3,"updateStrategy":{"type":"OnDelete"}},
			"status":{"observedGeneration":2,"replicas":3,"readyReplicas":3,"updatedReplicas":0}}`, belay.Healthy, ""},
		{"stateful set on delete, not observed", `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"x","generation":2},"spec":{"replicas":3,"updateStrategy":{"type":"OnDelete"}},
			"status":{"observedGeneration":1,"replicas":3,"readyReplicas":3}}`, belay.Progressing, ""},
		{"stateful set at its partition", `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"x","generation":2},"spec":{"replicas":3,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":2}}},
			"status":{"observedGeneration":2,"replicas":3,"readyReplicas":3,"currentReplicas":2,"updatedReplicas":1,"currentRevision":"a","updateRevision":"b"}}`, belay.Healthy, ""},
		{"stateful set before its partition", `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"x","generation":2},"spec":{"replicas":3,"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"partition":1}}},
			"status":{"observedGeneration":2,"replicas":3,"readyReplicas":3,"currentReplicas":2,"updatedReplicas":1}}`, belay.Progressing, "1/2"},
		{"daemon set on delete, old pods available", `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"x","generation":2},"spec":{"updateStrategy":{"type":"OnDelete"}},
			"status":{"observedGeneration":2,"desiredNumberScheduled":2,"currentNumberScheduled":2,"updatedNumberScheduled":0,"numberAvailable":2,"numberReady":2}}`, belay.Healthy, ""},
		{"daemon set on delete, not available", `{"apiVersion":"apps/v1","kind":"DaemonSet","metadata":{"name":"x","generation":2},"spec":{"updateStrategy":{"type":"OnDelete"}},
			"status":{"observedGeneration":2,"desiredNumberScheduled":2,"numberAvailable":1}}`, belay.Progressing, "1/2"},
		{"deployment over its quota", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","generation":1},"spec":{"replicas":1},
			"status":{"observedGeneration":1,"conditions":[{"type":"ReplicaFailure","status":"True","message":"exceeded quota"},{"type":"Progressing","status":"True"}]}}`, belay.Progressing, "exceeded quota"},
		{"deployment over its quota for too long", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","generation":1},"spec":{"replicas":1},
			"status":{"observedGeneration":1,"conditions":[{"type":"ReplicaFailure","status":"True","message":"exceeded quota"},{"type":"Progressing","status":"False","reason":"ProgressDeadlineExceeded"}]}}`, belay.Degraded, "exceeded quota"},
		{"budget without room", `{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"x","generation":1},"status":{"observedGeneration":1,
			"conditions":[{"type":"DisruptionAllowed","status":"False","reason":"InsufficientPods"}]}}`, belay.Healthy, ""},
		{"budget that cannot be told", `{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"x","generation":1},"status":{"observedGeneration":1,
			"conditions":[{"type":"DisruptionAllowed","status":"False","reason":"SyncFailed","message":"found no controllers"}]}}`, belay.Degraded, "found no controllers"},
		{"definition refused", `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"x"},"status":{"conditions":[{"type":"NamesAccepted","status":"False","reason":"Conflict","message":"taken"}]}}`, belay.Degraded, "taken"},
		{"custom, no status", `{"apiVersion":"example.org/v1","kind":"X","metadata":{"name":"x"}}`, belay.Healthy, ""},
		{"custom, not ready", `{"apiVersion":"example.org/v1","kind":"X","metadata":{"name":"x"},"status":{"conditions":[{"type":"Ready","status":"False","message":"soon"}]}}`, belay.Progressing, "soon"},
		{"custom, stalled", `{"apiVersion":"example.org/v1","kind":"X","metadata":{"name":"x"},"status":{"conditions":[{"type":"Stalled","status":"True","message":"broken"}]}}`, belay.Degraded, "broken"},
		{"odd status", `{"apiVersion":"example.org/v1","kind":"X","metadata":{"name":"x"},"status":{"conditions":"none"}}`, belay.Unknown, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var u unstructured.Unstructured
			if err := u.UnmarshalJSON([]byte(c.object)); err != nil {
				t.Fatal(err)
			}
			got, message := healthOf(&u)
			if got != c.want || !strings.Contains(message, c.message) {
				t.Errorf("%s %q, want %s", got, message, c.want)
			}
			if got == belay.Healthy && message != "" {
				t.Errorf("message %q", message)
			}
		})
	}
}

func TestOwnerOf(t *testing.T) {
	id := belay.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "ns", Name: "web"}
	ours := []metav1.ManagedFieldsEntry{{Manager: "belay", Operation: "Apply"}}
	marks := func(instance, annotation string) metav1.ObjectMeta {
		m := metav1.ObjectMeta{Labels: map[string]string{belay.LabelManaged: "true"}, ManagedFields: ours}
		if instance != "" {
			m.Labels[belay.LabelInstance] = instance
		}
		if annotation != "" {
			m.Annotations = map[string]string{belay.AnnotationID: annotation}
		}
		return m
	}
	for _, c := range []struct {
		name     string
		meta     metav1.ObjectMeta
		instance string
		app      string
		ours     bool
	}{
		{"ours", marks("", belay.FormatID("shop", id)), "", "shop", true},
		{"of our instance", marks("a", belay.FormatID("shop", id)), "a", "shop", true},
		{"of another instance", marks("b", belay.FormatID("shop", id)), "a", "", false},
		{"of a named instance", marks("b", belay.FormatID("shop", id)), "", "", false},
		{"a copy", marks("", belay.FormatID("shop", belay.ObjectID{Kind: "Pod", Namespace: "ns", Name: "web"})), "", "", false},
		{"not an id", marks("", "something"), "", "", false},
		{"without the annotation", marks("", ""), "", "", true},
		{"without the label", metav1.ObjectMeta{ManagedFields: ours, Annotations: map[string]string{belay.AnnotationID: belay.FormatID("shop", id)}}, "", "shop", true},
		{"without both", metav1.ObjectMeta{ManagedFields: ours}, "", "", false},
		{"updated, not applied", func() metav1.ObjectMeta {
			m := marks("", belay.FormatID("shop", id))
			m.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "belay", Operation: "Update"}, {Manager: "kubectl", Operation: "Apply"},
				{Manager: "belay", Operation: "Apply", Subresource: "status"}}
			return m
		}(), "", "", false},
	} {
		app, ours := ownerOf(id, &c.meta, c.instance)
		if app != c.app || ours != c.ours {
			t.Errorf("%s: %q %t, want %q %t", c.name, app, ours, c.app, c.ours)
		}
	}
}

// The same fields have one fingerprint, however they were encoded, and a change
// of any counted entry gives another.
func TestFingerprint(t *testing.T) {
	interactive := managers{"kubectl-edit", "Mozilla"}
	tree := rapid.MapOf(rapid.StringMatching(`f:[a-z<>&"é]{1,4}`), rapid.Just(map[string]any{}))
	rapid.Check(t, func(t *rapid.T) {
		fields := tree.Draw(t, "fields")
		plain, _ := json.Marshal(map[string]any{"f:spec": fields, "f:data": map[string]any{".": map[string]any{}}})
		var unescaped strings.Builder // as a server that does not escape for HTML, with other white space
		enc := json.NewEncoder(&unescaped)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", " ")
		_ = enc.Encode(map[string]any{"f:spec": fields, "f:data": map[string]any{".": map[string]any{}}})
		entry := func(manager, op, sub, raw string, at int64) metav1.ManagedFieldsEntry {
			tm := metav1.Unix(at, 0)
			return metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationType(op), Subresource: sub, Time: &tm,
				APIVersion: "v1", FieldsV1: metav1.NewFieldsV1(raw)}
		}
		base := []metav1.ManagedFieldsEntry{entry("belay", "Apply", "", string(plain), 1)}
		print := func(e ...metav1.ManagedFieldsEntry) string {
			return fingerprint(fieldEntries(e), interactive)
		}
		want := print(base...)
		same := [][]metav1.ManagedFieldsEntry{
			{entry("belay", "Apply", "", unescaped.String(), 2)},
			{entry("controller", "Update", "", `{"f:spec":{}}`, 1), base[0]},
			{base[0], entry("kubectl-edit", "Update", "status", `{"f:status":{}}`, 1)},
		}
		for i, s := range same {
			if got := print(s...); got != want {
				t.Fatalf("same %d: %s, want %s", i, got, want)
			}
		}
		other := [][]metav1.ManagedFieldsEntry{
			{},
			{entry("belay", "Apply", "", `{"f:other":{}}`, 1)},
			{base[0], entry("kubectl-edit", "Update", "", `{"f:x":{}}`, 1)},
			{base[0], entry("Mozilla/5.0", "Update", "", `{"f:x":{}}`, 1)},
		}
		for i, o := range other {
			if print(o...) == want {
				t.Fatalf("other %d has the same fingerprint", i)
			}
		}
	})
}

func TestStoreKeepsWhatIsNewest(t *testing.T) {
	id := belay.ObjectID{Kind: "ConfigMap", Namespace: "ns", Name: "x"}
	at := func(version uint64, fingerprint string) *trimmed {
		return &trimmed{ours: true, record: record{version: version, live: belay.Live{ID: id, UID: "u", Application: "shop",
			ResourceVersion: fmt.Sprint(version), Fingerprint: fingerprint, Managers: []belay.FieldEntry{{}}}}}
	}
	s := newStore()
	if got := s.observed(at(5, "a")); !slices.Equal(got, []string{"shop"}) {
		t.Errorf("first: %v", got)
	}
	s.verified(id, "a")
	if got := s.observed(at(6, "a")); got != nil {
		t.Errorf("a new version alone tells %v", got)
	}
	if l, _ := s.lookup(id); l.ResourceVersion != "6" || l.Managers != nil {
		t.Errorf("%+v", l)
	}
	if got := s.observed(at(4, "b")); got != nil {
		t.Errorf("an old version tells %v", got)
	}
	if got := s.gone(at(5, "a")); got != nil {
		t.Error("an old deletion counts")
	}
	if got := s.replace(place{kind: id.GroupKind()}, nil, 5); got != nil {
		t.Error("an old list counts")
	}
	if got := s.observed(at(7, "b")); got == nil {
		t.Error("drift tells nobody")
	}
	if l, _ := s.lookup(id); l.Managers == nil {
		t.Error("drift without managers")
	}
	s.observed(at(8, "a"))
	if l, _ := s.lookup(id); l.Managers == nil {
		t.Error("what was verified before the drift counts after it")
	}
	s.hold(id)
	if got := s.observed(at(9, "c")); got != nil {
		t.Error("told while it is being written")
	}
	if got := s.release(id, "shop", false); len(got) == 0 {
		t.Error("what came during a failed write is lost")
	}
	if live, touched := s.written(at(8, "d"), false); live.Fingerprint != "c" || len(touched) == 0 {
		t.Errorf("overtaken answer: %+v %v", live, touched)
	}
	if got := s.replace(place{kind: id.GroupKind()}, nil, 9); !slices.Equal(got, []string{"shop"}) {
		t.Errorf("gone from the list: %v", got)
	}
	if len(s.kinds)+len(s.apps)+len(s.writing) != 0 {
		t.Errorf("left: %+v", s)
	}
}

// The answer to a write comes without the status.
func TestStoreGuessesHealthAfterAWrite(t *testing.T) {
	id := belay.ObjectID{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition", Name: "x"}
	at := func(version uint64, generation int64, health belay.Health) *trimmed {
		return &trimmed{ours: true, record: record{version: version, generation: generation, live: belay.Live{ID: id, UID: "u", Application: "shop",
			Health: health, Established: health == belay.Healthy}}}
	}
	s := newStore()
	if l, _ := s.written(at(1, 1, ""), true); l.Health != belay.Progressing || l.Established {
		t.Errorf("new: %+v", l)
	}
	s.observed(at(1, 1, belay.Healthy))
	if l, _ := s.written(at(1, 1, ""), true); l.Health != belay.Healthy || !l.Established {
		t.Errorf("the watch was faster: %+v", l)
	}
	if l, _ := s.written(at(2, 1, ""), true); l.Health != belay.Healthy || !l.Established {
		t.Errorf("only metadata changed: %+v", l)
	}
	if l, _ := s.written(at(3, 2, ""), true); l.Health != belay.Progressing || !l.Established {
		t.Errorf("the spec changed: %+v", l)
	}
}

func refusal(code int32, reason metav1.StatusReason, message string, causes ...metav1.StatusCause) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Code: code, Reason: reason, Message: message,
		Details: &metav1.StatusDetails{Causes: causes}}}
}

func TestClassify(t *testing.T) {
	id := belay.ObjectID{Kind: "ConfigMap", Namespace: "ns", Name: "x"}
	c := &Cluster{name: "prod"}
	for _, tc := range []struct {
		err   error
		code  belay.Code
		words string
	}{
		{&url.Error{Op: "Patch", URL: "https://user:hunter2@host/api", Err: errors.New("connection refused")}, belay.CodeUnavailable, "connection refused"},
		{context.DeadlineExceeded, belay.CodeUnavailable, "timed out"},
		{refusal(503, metav1.StatusReasonServiceUnavailable, "apiserver is shutting down"), belay.CodeUnavailable, "prod"},
		{refusal(500, metav1.StatusReasonInternalError, "etcdserver: leader changed"), belay.CodeUnavailable, ""},
		{refusal(429, metav1.StatusReasonTooManyRequests, "slow down"), belay.CodeUnavailable, ""},
		{refusal(403, metav1.StatusReasonForbidden, `pods "x" is forbidden: exceeded quota: q`), belay.CodeForbidden, "raise the quota"},
		{refusal(400, "", `admission webhook "w.example.org" denied the request: no`), belay.CodeForbidden, "w.example.org"},
		{refusal(400, metav1.StatusReasonBadRequest, ".data.n: expected string, got &value.valueUnstructured{Value:5}"), belay.CodeInvalid, "expected string, got 5"},
		{refusal(401, metav1.StatusReasonUnauthorized, "Unauthorized"), belay.CodeForbidden, "credentials"},
		{refusal(404, metav1.StatusReasonNotFound, "the server could not find the requested resource"), belay.CodeUnknownKind, "ConfigMap"},
		{refusal(409, metav1.StatusReasonConflict, "the object has been modified"), belay.CodeConflict, ""},
		{refusal(422, metav1.StatusReasonInvalid, "long", metav1.StatusCause{Field: "spec.x", Message: "Invalid value: " + strings.Repeat("core.Pod: {", 100) + ": field is immutable"}),
			belay.CodeImmutable, "spec.x: field is immutable"},
		{refusal(422, metav1.StatusReasonInvalid, "long", metav1.StatusCause{Field: "spec.x", Message: `Invalid value: "b": spec.x may not be changed`}), belay.CodeImmutable, "spec.x may not be changed"},
		{refusal(422, metav1.StatusReasonInvalid, `admission webhook "v.example.org" denied the request: Machine.example.org "a" is invalid: spec.x: Invalid value: "b": Immutable field changed`,
			metav1.StatusCause{Field: "spec.x", Message: `Invalid value: "b": Immutable field changed`}), belay.CodeImmutable, "spec.x: Invalid value"},
		{refusal(422, metav1.StatusReasonInvalid, `admission webhook "v.example.org" denied the request: spec.x must be positive`), belay.CodeForbidden, "v.example.org"},
		{refusal(400, "", `admission webhook "policy.example.org" denied the request: label team is immutable`), belay.CodeForbidden, "policy.example.org"},
	} {
		e := c.apiError(tc.err, id, nil)
		if e.Code != tc.code || !strings.Contains(e.Error(), tc.words) || strings.Contains(e.Error(), "hunter2") || e.Object != id.String() {
			t.Errorf("%v: %s %v", tc.err, e.Code, e)
		}
	}
}

func TestCatalogueKeepsWhatIsDown(t *testing.T) {
	list := func(gv string, kinds ...string) *metav1.APIResourceList {
		l := &metav1.APIResourceList{GroupVersion: gv}
		for _, k := range kinds {
			l.APIResources = append(l.APIResources, metav1.APIResource{Name: strings.ToLower(k) + "s", Kind: k, Namespaced: true, Verbs: []string{"list", "watch", "delete"}})
		}
		return l
	}
	group := func(name string, versions ...string) *metav1.APIGroup {
		g := &metav1.APIGroup{Name: name}
		for _, v := range versions {
			gv := metav1.GroupVersionForDiscovery{GroupVersion: strings.TrimPrefix(name+"/"+v, "/"), Version: v}
			g.Versions = append(g.Versions, gv)
		}
		g.PreferredVersion = g.Versions[0]
		return g
	}
	undefined := func(resource) bool { return false }
	groups := []*metav1.APIGroup{group("", "v1"), group("a.example", "v2", "v1"), group("b.example", "v1")}
	first := newCatalogue("v1.36.0", groups, []*metav1.APIResourceList{list("v1", "Pod"), list("a.example/v1", "Old", "Both"), list("a.example/v2", "Both"), list("b.example/v1", "B")}, nil, nil, nil)
	if got := first.preferred[belay.Kind{Group: "a.example", Kind: "Both"}].gvr.Version; got != "v2" {
		t.Errorf("preferred version %q", got)
	}
	if got := first.preferred[belay.Kind{Group: "a.example", Kind: "Old"}].gvr.Version; got != "v1" {
		t.Errorf("version %q of what the preferred one lacks", got)
	}
	down := newCatalogue("v1.36.0", groups[:2], []*metav1.APIResourceList{list("v1", "Pod"), list("a.example/v1", "Old", "Both"), list("a.example/v2", "Both")},
		map[string]string{"b.example/v1": "down"}, first, undefined)
	if !reflect.DeepEqual(down.facts, first.facts) || !reflect.DeepEqual(down.served, first.served) {
		t.Errorf("an API that is down changed the facts: %v", down.facts.APIVersions)
	}
	gone := newCatalogue("v1.36.0", groups[:2], []*metav1.APIResourceList{list("v1", "Pod"), list("a.example/v1", "Old", "Both"), list("a.example/v2", "Both")}, nil, first, undefined)
	if gone.facts.Digest == first.facts.Digest || gone.serves("b.example", "bs") {
		t.Error("an API that is gone is kept")
	}
}

func TestLimiter(t *testing.T) {
	l := newLimiter(8)
	var now, most atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if l.acquire(t.Context()) != nil {
				return
			}
			n := now.Add(1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Millisecond)
			now.Add(-1)
			l.release(false)
		})
	}
	wg.Wait()
	if most.Load() > 8 {
		t.Errorf("%d in flight", most.Load())
	}
	for range 3 { // turned away together: one sign
		_ = l.acquire(t.Context())
	}
	for range 3 {
		l.release(true)
	}
	if l.bound != 4 {
		t.Errorf("bound %v after one sign", l.bound)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 4 {
		_ = l.acquire(t.Context())
	}
	if l.acquire(ctx) == nil {
		t.Error("over the bound")
	}
}

func TestEventLog(t *testing.T) {
	l := newEventLog()
	now := time.Now()
	id := belay.ObjectID{Kind: "ConfigMap", Name: "x"}
	if !l.admit(id, "A", "m", now) || l.admit(id, "A", "m", now.Add(time.Minute)) || !l.admit(id, "A", "m", now.Add(eventPause)) {
		t.Error("the same event is told once in a while")
	}
	told := 0
	for i := range 1000 {
		if l.admit(id, "A", fmt.Sprint(i), now.Add(eventPause)) {
			told++
		}
	}
	if told > eventBurst {
		t.Errorf("%d at once", told)
	}
}

func TestDropAdditions(t *testing.T) {
	var u unstructured.Unstructured
	if err := u.UnmarshalJSON([]byte(`{"apiVersion":"v1","kind":"X","metadata":{"name":"x","labels":{"a":"1","hand":"2"},"finalizers":["ours","hand"],"managedFields":[
		{"manager":"belay","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:a":{}},"f:finalizers":{"v:\"ours\"":{}}},"f:spec":{"f:ports":{"k:{\"port\":80}":{".":{},"f:port":{}}},"f:shared":{}}}},
		{"manager":"kubectl-edit","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:metadata":{"f:labels":{"f:hand":{}},"f:finalizers":{"v:\"hand\"":{}}},
			"f:spec":{"f:ports":{"k:{\"port\":81}":{".":{},"f:port":{}},"k:{\"port\":80}":{"f:extra":{}}},"f:shared":{},"f:more":{".":{},"f:x":{}}}}}]},
		"spec":{"ports":[{"port":80,"extra":true},{"port":81}],"shared":1,"more":{"x":1}}}`)); err != nil {
		t.Fatal(err)
	}
	if err := dropAdditions(&u, func(e *metav1.ManagedFieldsEntry) bool { return e.Manager == "kubectl-edit" }, untouchable); err != nil {
		t.Fatal(err)
	}
	got, err := forPeople(&u)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"apiVersion":"v1","kind":"X","metadata":{"finalizers":["ours"],"labels":{"a":"1"},"name":"x"},"spec":{"ports":[{"port":80}],"shared":1}}`
	if string(got) != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

const kubeconfig = `{"apiVersion":"v1","kind":"Config","current-context":"a","clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}},
	{"name":"file","cluster":{"server":"https://127.0.0.1:1","certificate-authority":"/etc/hosts"}}],
	"users":[{"name":"token","user":{"token":"hunter2"}},{"name":"exec","user":{"exec":{"apiVersion":"client.authentication.k8s.io/v1","command":"sh","interactiveMode":"Never"}}},
	{"name":"file","user":{"tokenFile":"/etc/hosts"}},{"name":"provider","user":{"auth-provider":{"name":"oidc"}}}],
	"contexts":[{"name":"a","context":{"cluster":"c","user":"token"}},{"name":"exec","context":{"cluster":"c","user":"exec"}},
	{"name":"file","context":{"cluster":"c","user":"file"}},{"name":"ca","context":{"cluster":"file","user":"token"}},
	{"name":"provider","context":{"cluster":"c","user":"provider"}},{"name":"half","context":{"cluster":"nowhere","user":"token"}}]}`

func TestConfigFromKubeconfig(t *testing.T) {
	for _, name := range []string{"", "a"} {
		cfg, err := ConfigFromKubeconfig([]byte(kubeconfig), name)
		if err != nil || cfg.Host != "https://127.0.0.1:1" || cfg.BearerToken != "hunter2" {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"exec", "file", "ca", "provider", "half", "none"} {
		_, err := ConfigFromKubeconfig([]byte(kubeconfig), name)
		if belay.CodeOf(err) != belay.CodeInvalid || strings.Contains(fmt.Sprint(err), "hunter2") || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("%q", name)) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, names := range [][]string{{"sh"}, {"other", "sh"}} {
		cfg, err := ConfigFromKubeconfig([]byte(kubeconfig), "exec", AllowExec(names...))
		if err != nil || cfg.ExecProvider == nil || cfg.ExecProvider.InteractiveMode != "Never" {
			t.Errorf("allowed by %q: %v", names, err)
		}
	}
	if _, err := ConfigFromKubeconfig([]byte(kubeconfig), "exec", Trusted()); err != nil {
		t.Errorf("trusted: %v", err)
	}
	_, err := ConfigFromKubeconfig([]byte("hunter2: ["), "")
	if belay.CodeOf(err) != belay.CodeInvalid || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("broken: %v", err)
	}
}

func TestWhatAKubeconfigMayNotDo(t *testing.T) {
	config := func(cluster, user string) []byte {
		return fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"x","clusters":[{"name":"c","cluster":%s}],
			"users":[{"name":"u","user":%s}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}]}`, cluster, user)
	}
	run := func(command, more string) string {
		return fmt.Sprintf(`{"exec":{"apiVersion":"client.authentication.k8s.io/v1","command":%q,"interactiveMode":"IfAvailable"%s}}`, command, more)
	}
	const good, token = `{"server":"https://example.com"}`, `{"token":"hunter2"}`
	for _, test := range []struct {
		cluster, user string
		allowed       []string
		want          string // "" is accepted
	}{
		{good, token, nil, ""},
		{good, run("aws", ""), []string{"aws"}, ""},
		{good, run("/opt/bin/aws", ""), []string{"/opt/bin/aws"}, ""},
		{good, run("aws", `,"args":["eks"]`), []string{"aws"}, ""},
		{good, run("aws", ""), nil, "runs a program"},
		{good, run("aws", ""), []string{"kubelogin"}, "runs a program"},
		// The name of an allowed program does not allow another file of that name,
		// nor the path of one whatever is first in PATH.
		{good, run("/tmp/evil/aws", ""), []string{"aws"}, "runs a program"},
		{good, run("./aws", ""), []string{"aws"}, "runs a program"},
		{good, run("./aws", ""), []string{"./aws"}, "runs a program"},
		{good, run("aws", ""), []string{"/opt/bin/aws"}, "runs a program"},
		{good, run("aws", `,"env":[{"name":"LD_PRELOAD","value":"/tmp/x.so"}]`), []string{"aws"}, "sets the environment"},
		{good, `{"exec":{"apiVersion":"client.authentication.k8s.io/v1","command":"aws","interactiveMode":"Never"},"tokenFile":"/etc/hosts"}`, []string{"aws"}, "names files"},
		{good, `{"auth-provider":{"name":"oidc"}}`, []string{"oidc"}, "auth provider"},
		{`{"server":"https://example.com","insecure-skip-tls-verify":true}`, token, nil, "does not check"},
		{`{"server":"http://example.com"}`, token, nil, "without TLS"},
		{`{"server":"http://127.0.0.1:8001"}`, token, nil, ""},
		{`{"server":"https://example.com","proxy-url":"http://proxy:3128"}`, token, nil, ""},
	} {
		_, err := ConfigFromKubeconfig(config(test.cluster, test.user), "", AllowExec(test.allowed...))
		switch {
		case test.want == "" && err != nil, test.want != "" && !strings.Contains(fmt.Sprint(err), test.want):
			t.Errorf("%s %s, allowed %q: %v, want %q", test.cluster, test.user, test.allowed, err, test.want)
		case strings.Contains(fmt.Sprint(err), "hunter2"):
			t.Errorf("it repeats the token: %v", err)
		}
	}
	if CheckPlugins([]string{"aws", "/opt/bin/aws"}) != nil || CheckPlugins([]string{"bin/aws"}) == nil || CheckPlugins([]string{""}) == nil {
		t.Error("CheckPlugins")
	}
}
