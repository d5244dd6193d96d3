package kube

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/belaydev/belay"
)

// modelServer is an API server in memory: every change has a number, lists show
// one moment, and streams tell what came after it. What it answers with beside
// that, and when, its faults say.
type modelServer struct {
	mu    sync.Mutex
	rev   uint64
	made  uint64 // objects so far, for their uids
	kinds []*modelKind
	log   []modelEvent
	// compacted is the last change that no stream can begin at any more.
	compacted uint64
	// moved is closed and replaced at every change.
	moved   chan struct{}
	streams map[*modelStream]bool
	faults  []*modelFault
	sent    []modelRequest
	// plainLists has it refuse to stream a list.
	plainLists bool
	// stale is how far a list that may be old lies behind.
	stale func(most uint64) uint64
	// pick chooses among ways that an answer may take.
	pick func(n int) int
	page int
}

// modelKind is one kind that may be served.
type modelKind struct {
	id      belay.Kind
	version string
	plural  string
	scope   string
	// served says whether its path exists, shown whether discovery names it.
	served, shown bool
	// begun is the change with which it was served last.
	begun   uint64
	objects map[string]*modelObject
}

func (k *modelKind) prefix() string {
	if k.id.Group == "" {
		return "/api/" + k.version
	}
	return "/apis/" + k.id.Group + "/" + k.version
}

func (k *modelKind) apiVersion() string {
	return strings.TrimPrefix(k.id.Group+"/"+k.version, "/")
}

func (k *modelKind) objectID(namespace, name string) belay.ObjectID {
	return belay.ObjectID{Group: k.id.Group, Kind: k.id.Kind, Namespace: namespace, Name: name}
}

// modelObject is one state of an object. It is not changed once it is in place.
type modelObject struct {
	namespace, name, uid string
	rev                  uint64
	generation           int
	labelled, deleting   bool
	held                 bool // by a finalizer
	app, digest          string
	copied               bool // names another object than itself
	edits                int  // of a person
	ready                bool
	// since is the change with which it became ours; 0 while it is not.
	since uint64
}

func key(namespace, name string) string { return namespace + "/" + name }

func (o *modelObject) selected() bool { return o != nil && o.labelled }

// ours reports whether it is to be in the picture.
func (o *modelObject) ours() bool { return o.selected() && o.app != "" && !o.copied }

// body is the object as the API server shows it.
func (o *modelObject) body(k *modelKind, rev uint64, partial bool) map[string]any {
	meta := map[string]any{"name": o.name, "uid": o.uid, "resourceVersion": fmt.Sprint(rev), "generation": o.generation,
		"creationTimestamp": "2026-01-01T00:00:00Z"}
	if o.namespace != "" {
		meta["namespace"] = o.namespace
	}
	if o.labelled {
		meta["labels"] = map[string]any{belay.LabelManaged: "true"}
	}
	if o.app != "" {
		id := k.objectID(o.namespace, o.name)
		if o.copied {
			id.Name = "original"
		}
		meta["annotations"] = map[string]any{belay.AnnotationID: belay.FormatID(o.app, id), belay.AnnotationDigest: o.digest}
		entries := []any{map[string]any{"manager": belay.FieldManager, "operation": "Apply", "apiVersion": k.apiVersion(), "fieldsType": "FieldsV1",
			"fieldsV1": map[string]any{"f:data": map[string]any{"f:" + o.digest: map[string]any{}}}}}
		if o.edits > 0 {
			entries = append(entries, map[string]any{"manager": "kubectl-edit", "operation": "Update", "apiVersion": k.apiVersion(), "fieldsType": "FieldsV1",
				"fieldsV1": map[string]any{"f:data": map[string]any{fmt.Sprintf("f:edit%d", o.edits): map[string]any{}}}})
		}
		meta["managedFields"] = entries
	}
	if o.deleting {
		meta["deletionTimestamp"] = "2026-01-02T00:00:00Z"
	}
	if o.held {
		meta["finalizers"] = []any{"example.org/hold"}
	}
	if partial {
		return map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": meta}
	}
	ready := "False"
	if o.ready {
		ready = "True"
	}
	return map[string]any{"apiVersion": k.apiVersion(), "kind": k.id.Kind, "metadata": meta,
		"status": map[string]any{"observedGeneration": o.generation, "conditions": []any{map[string]any{"type": "Ready", "status": ready, "message": "as it is"}}}}
}

// modelEvent is one change of one object; before or after may be nil.
type modelEvent struct {
	rev           uint64
	at            time.Time
	kind          *modelKind
	before, after *modelObject
}

// modelRequest is one request that was sent.
type modelRequest struct {
	at                   time.Time
	verb, path, resource string
}

// modelFault is something that goes wrong for a while.
type modelFault struct {
	what string
	// resource is whom it befalls; "" is everything.
	resource string
	// watches and lists say which requests.
	watches, lists, others bool
	until                  time.Time
	pause                  time.Duration
}

// newModelServer serves ConfigMaps, Deployments and what defines kinds; Widgets
// once they are defined.
func newModelServer() *modelServer {
	m := &modelServer{rev: 10, moved: make(chan struct{}), streams: map[*modelStream]bool{}, page: 3,
		stale: func(uint64) uint64 { return 0 }, pick: func(int) int { return 0 }}
	for _, k := range []*modelKind{
		{id: belay.Kind{Kind: "ConfigMap"}, version: "v1", plural: "configmaps", scope: "Namespaced", served: true},
		{id: belay.Kind{Kind: "Namespace"}, version: "v1", plural: "namespaces", scope: "Cluster", served: true},
		{id: belay.Kind{Group: "example.org", Kind: "Gadget"}, version: "v1", plural: "gadgets", scope: "Namespaced", served: true},
		{id: belay.Kind{Group: "new.example.org", Kind: "Widget"}, version: "v1", plural: "widgets", scope: "Namespaced"},
		{id: belay.Kind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}, version: "v1", plural: "customresourcedefinitions", scope: "Cluster", served: true},
		{id: belay.Kind{Group: "apiregistration.k8s.io", Kind: "APIService"}, version: "v1", plural: "apiservices", scope: "Cluster", served: true},
	} {
		k.objects, k.shown = map[string]*modelObject{}, k.served
		m.kinds = append(m.kinds, k)
	}
	m.change(m.kind("namespaces"), "", "kube-system", func(*modelObject) *modelObject { return &modelObject{} })
	m.change(m.kind("customresourcedefinitions"), "", "gadgets.example.org", func(*modelObject) *modelObject { return &modelObject{} })
	return m
}

func (m *modelServer) kind(plural string) *modelKind {
	for _, k := range m.kinds {
		if k.plural == plural {
			return k
		}
	}
	return nil
}

// change makes one change. do gets a copy of the object, or nil, and returns what
// it is then; nil deletes it.
func (m *modelServer) change(k *modelKind, namespace, name string, do func(*modelObject) *modelObject) *modelObject {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changeLocked(k, namespace, name, do)
}

func (m *modelServer) changeLocked(k *modelKind, namespace, name string, do func(*modelObject) *modelObject) *modelObject {
	before := k.objects[key(namespace, name)]
	var now *modelObject
	if before != nil {
		c := *before
		now = do(&c)
	} else {
		now = do(nil)
	}
	if now != nil && now.deleting && !now.held {
		now = nil
	}
	if before == nil && now == nil {
		return nil
	}
	m.rev++
	if now != nil {
		now.namespace, now.name, now.rev = namespace, name, m.rev
		if now.uid == "" {
			m.made++
			now.uid, now.generation = fmt.Sprintf("uid-%d", m.made), 1
		}
		switch {
		case !now.ours():
			now.since = 0
		case !before.ours() || before.uid != now.uid:
			now.since = m.rev
		}
		k.objects[key(namespace, name)] = now
	} else {
		delete(k.objects, key(namespace, name))
	}
	m.log = append(m.log, modelEvent{m.rev, time.Now(), k, before, now})
	close(m.moved)
	m.moved = make(chan struct{})
	return now
}

// at is what there was of a kind after a change.
func (m *modelServer) at(k *modelKind, rev uint64) []*modelObject {
	objects := maps.Clone(k.objects)
	for i := len(m.log) - 1; i >= 0 && m.log[i].rev > rev; i-- {
		switch e := m.log[i]; {
		case e.kind != k:
		case e.before == nil:
			delete(objects, key(e.after.namespace, e.after.name))
		default:
			objects[key(e.before.namespace, e.before.name)] = e.before
		}
	}
	return slices.SortedFunc(maps.Values(objects), func(a, b *modelObject) int {
		return strings.Compare(key(a.namespace, a.name), key(b.namespace, b.name))
	})
}

// oldest is the oldest state that a list may still show: no watch cache is further
// behind, or from before its kind was served.
func (m *modelServer) oldest(k *modelKind, now time.Time) uint64 {
	out := max(m.compacted, k.begun)
	for _, e := range slices.Backward(m.log) {
		if now.Sub(e.at) > endedFor/2 {
			return max(out, e.rev)
		}
	}
	return out
}

// requests are those sent since a moment.
func (m *modelServer) requests(since time.Time) []modelRequest {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []modelRequest
	for _, r := range m.sent {
		if !r.at.Before(since) {
			out = append(out, r)
		}
	}
	return out
}

// define has a kind served, or not any more. Discovery shows it after a while.
func (m *modelServer) define(k *modelKind, served bool, lag time.Duration) {
	if served {
		k.serve(m, true)
	} else {
		for _, o := range m.snapshot(k) {
			m.change(k, o.namespace, o.name, func(*modelObject) *modelObject { return nil })
		}
		k.serve(m, false)
		m.cut(k.plural, false)
	}
	m.change(m.kind("customresourcedefinitions"), "", k.plural+"."+k.id.Group, func(o *modelObject) *modelObject {
		if !served {
			return nil
		}
		return &modelObject{}
	})
	time.AfterFunc(lag, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		k.shown = k.served
	})
}

func (k *modelKind) serve(m *modelServer, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k.served, k.begun = on, m.rev
}

// show has discovery name a kind, or not.
func (m *modelServer) show(k *modelKind, on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k.shown = on
}

func (m *modelServer) snapshot(k *modelKind) []*modelObject {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at(k, m.rev)
}

// compact forgets what came before now.
func (m *modelServer) compact() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.compacted = m.rev
}

func (m *modelServer) fail(f modelFault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, &f)
}

// heal ends all faults.
func (m *modelServer) heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, f := range m.faults {
		f.until = time.Time{}
	}
	m.faults = nil
}

// fault is what befalls a request; nil for nothing.
func (m *modelServer) fault(verb, resource string) *modelFault {
	now := time.Now()
	m.faults = slices.DeleteFunc(m.faults, func(f *modelFault) bool { return now.After(f.until) })
	for _, f := range m.faults {
		if f.resource != "" && f.resource != resource {
			continue
		}
		if (verb == "watch" && f.watches) || (verb == "list" && f.lists) || (verb != "watch" && verb != "list" && f.others) {
			return f
		}
	}
	return nil
}

// selects parses a selector.
func selects(query string) func(*modelObject) bool {
	selector, err := labels.Parse(query)
	if err != nil || selector.Empty() {
		return func(o *modelObject) bool { return o != nil }
	}
	return func(o *modelObject) bool {
		set := labels.Set{}
		if o.selected() {
			set[belay.LabelManaged] = "true"
		}
		return o != nil && selector.Matches(set)
	}
}

func failure(code int, reason metav1.StatusReason, message string, retryAfter int32) metav1.Status {
	s := metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Code: int32(code), Reason: reason, Message: message}
	if retryAfter > 0 {
		s.Details = &metav1.StatusDetails{RetryAfterSeconds: retryAfter}
	}
	return s
}

func encoded(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return out
}

var faultStatus = map[string]metav1.Status{
	"internal":  failure(http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcdserver: leader changed", 0),
	"away":      failure(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable, "starting", 0),
	"busy":      failure(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "slow down", 1),
	"forbidden": failure(http.StatusForbidden, metav1.StatusReasonForbidden, "belay cannot list resource", 0),
	"missing":   failure(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource", 0),
	"gone":      failure(http.StatusGone, metav1.StatusReasonExpired, "too old resource version", 0),
}
