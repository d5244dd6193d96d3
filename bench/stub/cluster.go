package stub

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// cluster is one stub.
type cluster struct {
	number  int
	address string
	hang    *gate

	mu       sync.Mutex
	version  uint64 // of the last write
	uids     int
	objects  map[key]*object
	watchers map[*watcher]bool
	requests map[string]int
	unknown  []string
	waiting  []*waiter
}

// key is where an object lies.
type key struct{ resource, namespace, name string }

// object is one state of an object. It does not change.
type object struct {
	key
	version uint64
	labels  map[string]string
	uid     string
	created string
	value   string // data.value of a ConfigMap
	whole   json.RawMessage
	meta    json.RawMessage // as PartialObjectMetadata
}

// waiter waits for a value.
type waiter struct {
	namespace, value string
	at               chan time.Time
}

func newCluster(number int, address string) *cluster {
	c := &cluster{number: number, address: address, hang: &gate{}, version: 100, objects: map[key]*object{}, watchers: map[*watcher]bool{}, requests: map[string]int{}}
	return c
}

// request is one, taken apart.
type request struct {
	*http.Request
	key
	kind     kind
	verb     string
	metadata bool // answered with metadata alone
}

// parse finds out what is asked for; ok is false for what is not served.
func (c *cluster) parse(r *http.Request) (q request, ok bool) {
	q = request{Request: r, metadata: strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata")}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	group, version := "", ""
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		group, version, parts = parts[1], parts[2], parts[3:]
	default:
		return q, false
	}
	if len(parts) >= 3 && parts[0] == "namespaces" {
		q.namespace, parts = parts[1], parts[2:]
	}
	at := slices.IndexFunc(kinds, func(k kind) bool { return k.group == group && k.version == version && k.plural == parts[0] })
	if at < 0 || len(parts) > 2 {
		return q, false
	}
	q.kind, q.resource = kinds[at], parts[0]+"."+group
	if len(parts) == 2 {
		q.name = parts[1]
	}
	q.verb = map[string]string{http.MethodGet: "get", http.MethodPatch: "patch", http.MethodDelete: "delete", http.MethodPost: "create"}[r.Method]
	if r.Method == http.MethodGet && q.name == "" {
		q.verb = "list"
		if w := r.FormValue("watch"); w == "1" || w == "true" {
			q.verb = "watch"
		}
	}
	return q, q.verb != ""
}

// ServeHTTP implements [http.Handler].
func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/version":
		c.count("discovery")
		writeJSON(w, http.StatusOK, map[string]string{"major": "1", "minor": "36", "gitVersion": "v1.36.2"})
		return
	case "/api", "/apis":
		c.count("discovery")
		b, err := json.Marshal(groupList(r.URL.Path == "/api"))
		if err != nil {
			panic(err) // a table, made here
		}
		w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
		_, _ = w.Write(b) // who asked may be gone
		return
	}
	q, ok := c.parse(r)
	if !ok {
		c.mu.Lock()
		c.unknown = append(c.unknown, r.Method+" "+r.URL.Path)
		c.mu.Unlock()
		fail(w, http.StatusNotFound, "NotFound", "the server could not find the requested resource")
		return
	}
	c.count(q.verb)
	switch q.verb {
	case "get":
		c.get(w, q)
	case "list":
		c.list(w, q)
	case "watch":
		c.watch(w, q)
	case "patch":
		c.apply(w, q)
	case "delete":
		c.delete(w, q)
	default: // Events, which nobody reads here
		writeJSON(w, http.StatusCreated, map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": map[string]any{}})
	}
}

func (c *cluster) count(verb string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[verb]++
}

func fail(w http.ResponseWriter, code int, reason, message string) {
	writeJSON(w, code, map[string]any{"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Failure",
		"message": message, "reason": reason, "code": code})
}

func (c *cluster) get(w http.ResponseWriter, q request) {
	c.mu.Lock()
	o := c.objects[q.key]
	c.mu.Unlock()
	switch {
	case o != nil:
		writeJSON(w, http.StatusOK, o.as(q.metadata))
	case q.kind.kind == "Namespace": // every one is there
		writeJSON(w, http.StatusOK, map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
			"metadata": map[string]any{"name": q.name, "uid": fmt.Sprintf("%s-of-%d", q.name, c.number), "resourceVersion": "2"}})
	default:
		fail(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", q.kind.plural, q.name))
	}
}

func (o *object) as(metadata bool) json.RawMessage {
	if metadata {
		return o.meta
	}
	return o.whole
}

// matching are the objects of a collection that a selector chooses, by name.
// Called with c.mu.
func (c *cluster) matching(q request, s selector) []*object {
	var out []*object
	for k, o := range c.objects {
		if k.resource == q.resource && (q.namespace == "" || k.namespace == q.namespace) && s.matches(o.labels) {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, func(a, b *object) int {
		return strings.Compare(a.namespace+"/"+a.name, b.namespace+"/"+b.name)
	})
	return out
}

func (c *cluster) list(w http.ResponseWriter, q request) {
	c.mu.Lock()
	found, version := c.matching(q, parseSelector(q.FormValue("labelSelector"))), c.version
	c.mu.Unlock()
	items := make([]json.RawMessage, len(found)) // pages are for whoever has much
	for i, o := range found {
		items[i] = o.as(q.metadata)
	}
	list := map[string]any{"kind": q.kind.kind + "List", "apiVersion": q.kind.apiVersion(),
		"metadata": map[string]any{"resourceVersion": strconv.FormatUint(version, 10)}, "items": items}
	if q.metadata {
		list["kind"], list["apiVersion"] = "PartialObjectMetadataList", "meta.k8s.io/v1"
	}
	writeJSON(w, http.StatusOK, list)
}

func (k kind) apiVersion() string {
	if k.group == "" {
		return k.version
	}
	return k.group + "/" + k.version
}

// selector is a label selector of equalities and absences, which are all that
// Belay uses.
type selector struct {
	equal  map[string]string
	absent []string
}

func parseSelector(text string) selector {
	s := selector{equal: map[string]string{}}
	for term := range strings.SplitSeq(text, ",") {
		if name, ok := strings.CutPrefix(term, "!"); ok {
			s.absent = append(s.absent, name)
		} else if name, value, ok := strings.Cut(term, "="); ok {
			s.equal[name] = strings.TrimPrefix(value, "=")
		}
	}
	return s
}

func (s selector) matches(labels map[string]string) bool {
	for k, v := range s.equal {
		if labels[k] != v {
			return false
		}
	}
	return !slices.ContainsFunc(s.absent, func(k string) bool { _, ok := labels[k]; return ok })
}

// await waits until a ConfigMap of a namespace has a value.
func (c *cluster) await(ctx context.Context, namespace, value string) (time.Time, bool) {
	w := &waiter{namespace, value, make(chan time.Time, 1)}
	c.mu.Lock()
	for _, o := range c.objects {
		if o.namespace == namespace && o.value == value {
			c.mu.Unlock()
			return time.Now(), true
		}
	}
	c.waiting = append(c.waiting, w)
	c.mu.Unlock()
	select {
	case at := <-w.at:
		return at, true
	case <-ctx.Done():
		return time.Time{}, false
	}
}
