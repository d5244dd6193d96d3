package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	apidiscovery "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
)

// RoundTrip implements http.RoundTripper: it is the connection to the server, too.
func (m *modelServer) RoundTrip(req *http.Request) (*http.Response, error) {
	verb, k, namespace, name := m.route(req)
	resource := ""
	if k != nil {
		resource = k.plural
	}
	m.mu.Lock()
	m.sent = append(m.sent, modelRequest{time.Now(), verb, req.URL.String(), resource})
	if n := len(m.sent); n > atOnce && m.sent[n-atOnce].at.Equal(time.Now()) {
		panic(fmt.Sprintf("%d requests in no time; the last: %s %s", atOnce, verb, req.URL))
	}
	f := m.fault(verb, resource)
	m.mu.Unlock()
	if f != nil {
		res, err := m.misbehave(req, f)
		if res != nil || err != nil {
			return res, err
		}
	}
	res := m.serve(req, verb, k, namespace, name, f)
	if f != nil && f.what == "late" {
		if err := pause(req, f.pause); err != nil {
			_ = res.Body.Close()
			return nil, err
		}
	}
	return res, nil
}

// CloseIdleConnections is found by client-go. There are none.
func (m *modelServer) CloseIdleConnections() {}

// atOnce is what nobody sends without a pause.
const atOnce = 500

func (m *modelServer) serve(req *http.Request, verb string, k *modelKind, namespace, name string, f *modelFault) *http.Response {
	if verb == "discovery" {
		return m.discovery(req)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if k == nil || !k.served {
		return answer(req, http.StatusNotFound, failure(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource", 0))
	}
	switch verb {
	case "watch":
		return m.watch(req, k, f)
	case "list":
		return m.list(req, k)
	case "get":
		o := k.objects[key(namespace, name)]
		if o == nil {
			return answer(req, http.StatusNotFound, failure(http.StatusNotFound, metav1.StatusReasonNotFound, name+" not found", 0))
		}
		return answer(req, http.StatusOK, o.body(k, o.rev, true))
	case "delete":
		return m.remove(req, k, namespace, name)
	}
	return m.apply(req, k, namespace, name)
}

// pause waits while somebody waits for the answer.
func pause(req *http.Request, d time.Duration) error {
	select {
	case <-req.Context().Done():
		return req.Context().Err()
	case <-time.After(d):
		return nil
	}
}

// route says what a request is about.
func (m *modelServer) route(req *http.Request) (verb string, k *modelKind, namespace, name string) {
	for _, k := range m.kinds {
		rest, ok := strings.CutPrefix(req.URL.Path, k.prefix()+"/")
		if !ok {
			continue
		}
		parts := strings.Split(rest, "/")
		if len(parts) > 2 && parts[0] == "namespaces" {
			namespace, parts = parts[1], parts[2:]
		}
		if parts[0] != k.plural {
			continue
		}
		if len(parts) > 1 {
			name = parts[1]
		}
		verb = map[string]string{http.MethodGet: "get", http.MethodPatch: "apply", http.MethodDelete: "delete"}[req.Method]
		if verb == "get" && name == "" {
			verb = "list"
			if on, _ := strconv.ParseBool(req.URL.Query().Get("watch")); on {
				verb = "watch"
			}
		}
		return verb, k, namespace, name
	}
	return "discovery", nil, "", ""
}

// misbehave is an answer that a fault gives; nothing if the request goes on.
func (m *modelServer) misbehave(req *http.Request, f *modelFault) (*http.Response, error) {
	switch f.what {
	case "refused":
		return nil, syscall.ECONNREFUSED
	case "reset":
		return nil, io.ErrUnexpectedEOF
	case "timeout":
		if err := pause(req, f.pause); err != nil {
			return nil, err
		}
		return nil, noTimeError{}
	case "slow":
		return nil, pause(req, f.pause)
	case "late", "cut": // comes later
		return nil, nil
	}
	s := faultStatus[f.what]
	return answer(req, int(s.Code), s), nil
}

func answer(req *http.Request, code int, body any) *http.Response {
	raw := encoded(body)
	h := http.Header{"Content-Type": {"application/json"}}
	if s, ok := body.(metav1.Status); ok && s.Details != nil && s.Details.RetryAfterSeconds > 0 {
		h.Set("Retry-After", fmt.Sprint(s.Details.RetryAfterSeconds))
	}
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Proto: "HTTP/2.0", ProtoMajor: 2, Header: h, Request: req,
		Body: io.NopCloser(bytes.NewReader(raw)), ContentLength: int64(len(raw))}
}

func (m *modelServer) discovery(req *http.Request) *http.Response {
	m.mu.Lock()
	defer m.mu.Unlock()
	if req.URL.Path == "/version" {
		return answer(req, http.StatusOK, map[string]any{"major": "1", "minor": "36", "gitVersion": "v1.36.0"})
	}
	var out apidiscovery.APIGroupDiscoveryList
	out.TypeMeta = metav1.TypeMeta{APIVersion: "apidiscovery.k8s.io/v2", Kind: "APIGroupDiscoveryList"}
	for _, k := range m.kinds {
		if !k.shown || (k.id.Group == "") != (req.URL.Path == "/api") {
			continue
		}
		r := apidiscovery.APIResourceDiscovery{Resource: k.plural, Scope: apidiscovery.ResourceScope(k.scope), Verbs: []string{"list", "watch", "delete", "get", "patch"},
			ResponseKind: &metav1.GroupVersionKind{Group: k.id.Group, Version: k.version, Kind: k.id.Kind}}
		at := slices.IndexFunc(out.Items, func(g apidiscovery.APIGroupDiscovery) bool { return g.Name == k.id.Group })
		if at < 0 {
			out.Items = append(out.Items, apidiscovery.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: k.id.Group},
				Versions: []apidiscovery.APIVersionDiscovery{{Version: k.version, Freshness: apidiscovery.DiscoveryFreshnessCurrent}}})
			at = len(out.Items) - 1
		}
		v := &out.Items[at].Versions[0]
		v.Resources = append(v.Resources, r)
	}
	res := answer(req, http.StatusOK, out)
	res.Header.Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	return res
}

// partial reports whether metadata was asked for.
func partial(req *http.Request) bool {
	return strings.Contains(req.Header.Get("Accept"), "as=PartialObjectMetadata")
}

func (m *modelServer) list(req *http.Request, k *modelKind) *http.Response {
	q := req.URL.Query()
	rev, first := m.rev, 0
	switch version := q.Get("resourceVersion"); {
	case q.Get("continue") != "":
		if _, err := fmt.Sscanf(q.Get("continue"), "%d-%d", &rev, &first); err != nil {
			return answer(req, http.StatusBadRequest, failure(http.StatusBadRequest, metav1.StatusReasonBadRequest, "continue", 0))
		}
		if rev < m.compacted {
			s := faultStatus["gone"]
			return answer(req, int(s.Code), s)
		}
	case version != "": // as old as that, or newer
		oldest, _ := strconv.ParseUint(version, 10, 64)
		if oldest = max(oldest, m.oldest(k, time.Now())); oldest < m.rev {
			rev -= m.stale(m.rev - oldest)
		}
	}
	fits := selects(q.Get("labelSelector"))
	limit, _ := strconv.Atoi(q.Get("limit"))
	if limit > 1 {
		limit = m.page
	}
	items, more := []any{}, ""
	for i, o := range slices.DeleteFunc(m.at(k, rev), func(o *modelObject) bool { return !fits(o) }) {
		if i < first {
			continue
		}
		if limit > 0 && len(items) == limit {
			more = fmt.Sprintf("%d-%d", rev, i)
			break
		}
		items = append(items, o.body(k, o.rev, partial(req)))
	}
	head := map[string]any{"apiVersion": k.apiVersion(), "kind": k.id.Kind + "List"}
	if partial(req) {
		head = map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList"}
	}
	head["metadata"], head["items"] = map[string]any{"resourceVersion": fmt.Sprint(rev), "continue": more}, items
	return answer(req, http.StatusOK, head)
}

// remove deletes an object; the caller holds m.mu.
func (m *modelServer) remove(req *http.Request, k *modelKind, namespace, name string) *http.Response {
	var options metav1.DeleteOptions
	_ = json.NewDecoder(req.Body).Decode(&options)
	there := k.objects[key(namespace, name)]
	if there == nil {
		return answer(req, http.StatusNotFound, failure(http.StatusNotFound, metav1.StatusReasonNotFound, name+" not found", 0))
	}
	if p := options.Preconditions; p != nil && ((p.UID != nil && string(*p.UID) != there.uid) || (p.ResourceVersion != nil && *p.ResourceVersion != fmt.Sprint(there.rev))) {
		return answer(req, http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified", 0))
	}
	if now := m.changeLocked(k, namespace, name, func(o *modelObject) *modelObject { o.deleting = true; return o }); now != nil {
		return answer(req, http.StatusOK, now.body(k, now.rev, true))
	}
	return answer(req, http.StatusOK, metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Success"})
}

// apply takes what is declared; the caller holds m.mu.
func (m *modelServer) apply(req *http.Request, k *modelKind, namespace, name string) *http.Response {
	var body metav1.PartialObjectMetadata
	_ = json.NewDecoder(req.Body).Decode(&body)
	there := k.objects[key(namespace, name)]
	switch {
	case there == nil && body.UID != "":
		return answer(req, http.StatusConflict, failure(http.StatusConflict, metav1.StatusReasonConflict, "uid mismatch", 0))
	case there != nil && (body.ResourceVersion != "" || string(body.UID) != there.uid):
		s := failure(http.StatusConflict, metav1.StatusReasonConflict, "it is there", 0)
		if body.UID != "" {
			s = failure(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "uid", 0)
			s.Details = &metav1.StatusDetails{Causes: []metav1.StatusCause{{Field: "metadata.uid"}}}
		}
		return answer(req, int(s.Code), s)
	}
	now := m.changeLocked(k, namespace, name, func(o *modelObject) *modelObject {
		if o == nil {
			o = &modelObject{}
		}
		o.app, _, _ = belay.ParseID(body.Annotations[belay.AnnotationID])
		if digest := body.Annotations[belay.AnnotationDigest]; digest != o.digest {
			o.digest = digest
			o.generation++
		}
		o.labelled, o.copied, o.edits = true, false, 0
		return o
	})
	return answer(req, http.StatusOK, now.body(k, now.rev, true))
}

// modelStream is one open watch.
type modelStream struct {
	kind *modelKind
	end  context.CancelCauseFunc
	// frozen is until when it tells nothing.
	frozen time.Time
}

// How a stream ends that is made to.
var (
	errCutClean   = fmt.Errorf("between two events")
	errCutMidLine = fmt.Errorf("in the middle of an event")
	errExpired    = fmt.Errorf("with an event that says so")
)

// cut ends the streams of a resource; "" is all.
func (m *modelServer) cut(resource string, midLine bool) {
	m.end(resource, map[bool]error{true: errCutMidLine, false: errCutClean}[midLine])
}

func (m *modelServer) end(resource string, how error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.streams {
		if resource == "" || s.kind.plural == resource {
			s.end(how)
		}
	}
}

// freeze has the streams of a resource tell nothing for a while.
func (m *modelServer) freeze(resource string, d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s := range m.streams {
		if resource == "" || s.kind.plural == resource {
			s.frozen = time.Now().Add(d)
		}
	}
}

// watch opens a stream; the caller holds m.mu.
func (m *modelServer) watch(req *http.Request, k *modelKind, f *modelFault) *http.Response {
	q := req.URL.Query()
	cursor, _ := strconv.ParseUint(q.Get("resourceVersion"), 10, 64)
	initial := q.Get("sendInitialEvents") == "true"
	expired := false
	switch {
	case initial && m.plainLists:
		s := failure(http.StatusUnprocessableEntity, metav1.StatusReasonInvalid, "sendInitialEvents is forbidden", 0)
		return answer(req, int(s.Code), s)
	case initial:
		cursor = m.rev
	case cursor < m.compacted:
		if expired = m.pick(2) == 0; !expired {
			s := faultStatus["gone"]
			return answer(req, int(s.Code), s)
		}
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	seconds, _ := strconv.Atoi(q.Get("timeoutSeconds"))
	r, w := io.Pipe()
	s := &modelStream{kind: k, end: cancel}
	m.streams[s] = true
	t := &teller{server: m, stream: s, kind: k, fits: selects(q.Get("labelSelector")), partial: partial(req), out: w, cursor: cursor}
	if initial {
		t.first = m.at(k, cursor)
	}
	if f != nil && f.what == "cut" {
		t.most = 1 + m.pick(3)
	}
	go t.run(ctx, time.Duration(seconds)*time.Second, initial, expired)
	return &http.Response{StatusCode: http.StatusOK, Status: "OK", Proto: "HTTP/2.0", ProtoMajor: 2, Request: req,
		Header: http.Header{"Content-Type": {"application/json;stream=watch"}}, Body: closing{r, cancel}, ContentLength: -1}
}

// closing ends the stream when its reader closes it.
type closing struct {
	io.ReadCloser
	end context.CancelCauseFunc
}

func (c closing) Close() error {
	c.end(nil)
	return c.ReadCloser.Close()
}

// teller tells what happens on one stream.
type teller struct {
	server  *modelServer
	stream  *modelStream
	kind    *modelKind
	fits    func(*modelObject) bool
	partial bool
	out     *io.PipeWriter
	cursor  uint64
	first   []*modelObject
	most    int // events until the connection breaks in the middle of one; 0 for never
}

func (t *teller) tell(what string, object any) error {
	line := append(encoded(map[string]any{"type": what, "object": object}), '\n')
	if t.most > 0 {
		if t.most--; t.most == 0 {
			_, _ = t.out.Write(line[:len(line)/2])
			return errCutMidLine
		}
	}
	_, err := t.out.Write(line)
	return err
}

func (t *teller) bookmark(end bool) error {
	o := modelObject{}
	body := o.body(t.kind, t.cursor, t.partial)
	meta := map[string]any{"resourceVersion": fmt.Sprint(t.cursor)}
	if end {
		meta["annotations"] = map[string]any{metav1.InitialEventsAnnotationKey: "true"}
	}
	body["metadata"] = meta
	return t.tell("BOOKMARK", body)
}

// event is what a change is to whoever sees what the selector selects.
func (t *teller) event(e modelEvent) error {
	was, is := t.fits(e.before), t.fits(e.after)
	switch {
	case e.kind != t.kind || (!was && !is):
		return nil
	case !is:
		return t.tell("DELETED", e.before.body(t.kind, e.rev, t.partial))
	case !was:
		return t.tell("ADDED", e.after.body(t.kind, e.rev, t.partial))
	}
	return t.tell("MODIFIED", e.after.body(t.kind, e.rev, t.partial))
}

func (t *teller) run(ctx context.Context, lasts time.Duration, initial, expired bool) {
	err := t.talk(ctx, lasts, initial, expired)
	t.server.mu.Lock()
	delete(t.server.streams, t.stream)
	t.server.mu.Unlock()
	switch {
	case errors.Is(err, errExpired):
		_ = t.tell("ERROR", faultStatus["gone"])
	case errors.Is(err, errCutMidLine):
		if t.most == 0 {
			_, _ = t.out.Write([]byte(`{"type":"MODIFIED","obj`))
		}
		_ = t.out.CloseWithError(io.ErrUnexpectedEOF)
		return
	}
	_ = t.out.Close()
}

func (t *teller) talk(ctx context.Context, lasts time.Duration, initial, expired bool) error {
	if expired {
		return errExpired
	}
	for _, o := range t.first {
		if t.fits(o) {
			if err := t.tell("ADDED", o.body(t.kind, o.rev, t.partial)); err != nil {
				return err
			}
		}
	}
	if initial {
		if err := t.bookmark(true); err != nil {
			return err
		}
	}
	end := time.After(max(lasts, time.Second))
	marks := time.NewTicker(time.Minute)
	defer marks.Stop()
	for {
		t.server.mu.Lock()
		moved, frozen := t.server.moved, time.Until(t.stream.frozen)
		var next []modelEvent
		if frozen <= 0 {
			at, _ := slices.BinarySearchFunc(t.server.log, t.cursor+1, func(e modelEvent, rev uint64) int { return int(int64(e.rev) - int64(rev)) })
			next, t.cursor = slices.Clone(t.server.log[at:]), t.server.rev
		}
		t.server.mu.Unlock()
		for _, e := range next {
			if err := t.event(e); err != nil {
				return err
			}
		}
		var thaw <-chan time.Time
		if frozen > 0 {
			thaw = time.After(frozen)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-end:
			return nil
		case <-marks.C:
			if frozen <= 0 {
				if err := t.bookmark(false); err != nil {
					return err
				}
			}
		case <-moved:
		case <-thaw:
		}
	}
}
