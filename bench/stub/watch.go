package stub

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// event is one change.
type event struct {
	typ string
	o   *object
}

// watcher is one open watch.
type watcher struct {
	q        request
	selector selector
	events   chan event
	slow     chan struct{} // closed when it does not keep up
}

// queued is how many events wait for a watch, as in a real API server.
const queued = 1000

// offer gives an event to a watch that wants it. Called with the cluster's mu.
func (w *watcher) offer(e event) {
	if e.o.resource != w.q.resource || w.q.namespace != "" && e.o.namespace != w.q.namespace || !w.selector.matches(e.o.labels) {
		return
	}
	select {
	case w.events <- e:
	default:
		select {
		case <-w.slow:
		default:
			close(w.slow)
		}
	}
}

func (c *cluster) watch(w http.ResponseWriter, q request) {
	me := &watcher{q: q, selector: parseSelector(q.FormValue("labelSelector")), events: make(chan event, queued), slow: make(chan struct{})}
	from, _ := strconv.ParseUint(q.FormValue("resourceVersion"), 10, 64) // none is 0
	initial := q.FormValue("sendInitialEvents") == "true"
	c.mu.Lock()
	version := c.version
	var found []*object
	for _, o := range c.matching(q, me.selector) {
		if initial || from == 0 || o.version > from { // what was deleted since is not told; nobody deletes here
			found = append(found, o)
		}
	}
	c.watchers[me] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.watchers, me)
		c.mu.Unlock()
	}()

	seconds, err := strconv.Atoi(q.FormValue("timeoutSeconds"))
	if err != nil || seconds <= 0 {
		seconds = 1800
	}
	timeout := time.NewTimer(time.Duration(seconds) * time.Second)
	defer timeout.Stop()
	w.Header().Set("Content-Type", "application/json;stream=watch")
	w.WriteHeader(http.StatusOK)
	out := json.NewEncoder(w)
	send := func(typ string, object json.RawMessage) bool {
		return out.Encode(map[string]any{"type": typ, "object": object}) == nil
	}
	for _, o := range found {
		if !send("ADDED", o.as(q.metadata)) {
			return
		}
	}
	if initial && !send("BOOKMARK", q.bookmark(version)) {
		return
	}
	flush := http.NewResponseController(w)
	for {
		if len(me.events) == 0 && flush.Flush() != nil {
			return
		}
		select {
		case e := <-me.events:
			if !send(e.typ, e.o.as(q.metadata)) {
				return
			}
		case <-me.slow:
			return
		case <-timeout.C:
			return
		case <-q.Context().Done():
			return
		}
	}
}

// bookmark tells that everything was sent that was there.
func (q request) bookmark(version uint64) json.RawMessage {
	meta := map[string]any{"resourceVersion": strconv.FormatUint(version, 10), "annotations": map[string]any{"k8s.io/initial-events-end": "true"}}
	if q.metadata {
		return mustJSON(map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})
	}
	return mustJSON(map[string]any{"kind": q.kind.kind, "apiVersion": q.kind.apiVersion(), "metadata": meta})
}
