package stub

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// apply is a server-side apply by the only manager there is: what it declares is
// what the object is.
func (c *cluster) apply(w http.ResponseWriter, q request) {
	body, err := io.ReadAll(q.Body)
	var desired map[string]any
	if err == nil {
		err = json.Unmarshal(body, &desired)
	}
	meta, ok := desired["metadata"].(map[string]any)
	if err != nil || !ok || q.name == "" {
		fail(w, http.StatusBadRequest, "BadRequest", errNoObject.Error())
		return
	}
	uid, _ := meta["uid"].(string)
	version, conditional := meta["resourceVersion"].(string)
	delete(meta, "uid")
	delete(meta, "resourceVersion")

	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.objects[q.key]
	switch {
	case uid != "" && (old == nil || old.uid != uid):
		fail(w, http.StatusConflict, "Conflict", "Operation cannot be fulfilled: uid mismatch")
		return
	case conditional && old != nil && version != strconv.FormatUint(old.version, 10):
		fail(w, http.StatusConflict, "Conflict", "Operation cannot be fulfilled: the object has been modified")
		return
	}
	dry := q.FormValue("dryRun") != ""
	o, changed := c.next(q, old, desired, meta)
	if changed && !dry {
		c.version++
		c.objects[q.key] = o
		c.tell(o, old == nil, false)
	}
	code := http.StatusOK
	if old == nil {
		code = http.StatusCreated
	}
	writeJSON(w, code, o.as(q.metadata))
}

// next is the state of an object after an apply. Called with c.mu.
func (c *cluster) next(q request, old *object, desired, meta map[string]any) (o *object, changed bool) {
	fields, err := json.Marshal(fieldsOf(desired))
	if err != nil {
		panic(err) // it was JSON before
	}
	now := time.Now().UTC().Format(time.RFC3339)
	o = &object{key: q.key, version: c.version + 1, labels: texts(meta["labels"]), created: now}
	if old != nil {
		o.uid, o.created = old.uid, old.created
	} else {
		c.uids++
		o.uid = fmt.Sprintf("%08d-0000-4000-8000-%012d", c.number, c.uids)
	}
	if data, ok := desired["data"].(map[string]any); ok {
		o.value, _ = data["value"].(string)
	}
	meta["name"], meta["uid"], meta["creationTimestamp"] = q.name, o.uid, o.created
	if q.namespace != "" {
		meta["namespace"] = q.namespace
	}
	entry := map[string]any{"manager": q.FormValue("fieldManager"), "operation": "Apply", "apiVersion": q.kind.apiVersion(),
		"fieldsType": "FieldsV1", "fieldsV1": json.RawMessage(fields), "time": now}
	meta["managedFields"] = []any{entry}
	if old != nil && same(old.whole, desired, meta, entry, old.version) { // nothing to write
		return old, false
	}
	meta["resourceVersion"] = strconv.FormatUint(o.version, 10)
	entry["time"] = now
	o.whole = mustJSON(desired)
	o.meta = mustJSON(map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})
	return o, true
}

// same reports whether an apply changes nothing but the time of its entry.
func same(before json.RawMessage, desired, meta, entry map[string]any, version uint64) bool {
	var old struct {
		Metadata struct {
			ManagedFields []struct {
				Time string `json:"time"`
			} `json:"managedFields"`
		} `json:"metadata"`
	}
	if json.Unmarshal(before, &old) != nil || len(old.Metadata.ManagedFields) != 1 {
		return false
	}
	meta["resourceVersion"], entry["time"] = strconv.FormatUint(version, 10), old.Metadata.ManagedFields[0].Time
	return bytes.Equal(mustJSON(desired), before)
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was JSON before
	}
	return b
}

func texts(v any) map[string]string {
	out := map[string]string{}
	m, _ := v.(map[string]any) // an object without labels has none
	for k, v := range m {
		out[k], _ = v.(string)
	}
	return out
}

// fieldsOf is the set of fields that a manifest declares, as managedFields has it.
// Lists are one field, as they are where nobody declares what their keys are.
func fieldsOf(object map[string]any) map[string]any {
	own := maps.Clone(object)
	delete(own, "apiVersion")
	delete(own, "kind")
	if meta, ok := own["metadata"].(map[string]any); ok {
		meta = maps.Clone(meta)
		for _, k := range []string{"name", "namespace", "uid", "resourceVersion", "creationTimestamp", "managedFields"} {
			delete(meta, k)
		}
		own["metadata"] = meta
		if len(meta) == 0 {
			delete(own, "metadata")
		}
	}
	return fields(own)
}

func fields(m map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		below, ok := v.(map[string]any)
		if !ok {
			below = nil
		}
		out["f:"+k] = fields(below)
	}
	return out
}

func (c *cluster) delete(w http.ResponseWriter, q request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.objects[q.key]
	if o == nil {
		fail(w, http.StatusNotFound, "NotFound", fmt.Sprintf("%s %q not found", q.kind.plural, q.name))
		return
	}
	c.version++
	delete(c.objects, q.key)
	gone := *o
	gone.version = c.version
	c.tell(&gone, false, true)
	writeJSON(w, http.StatusOK, map[string]any{"kind": "Status", "apiVersion": "v1", "metadata": map[string]any{}, "status": "Success"})
}

// tell has watches and waiters know of a change. Called with c.mu.
func (c *cluster) tell(o *object, added, deleted bool) {
	e := event{"MODIFIED", o}
	switch {
	case added:
		e.typ = "ADDED"
	case deleted:
		e.typ = "DELETED"
	}
	for w := range c.watchers {
		w.offer(e)
	}
	c.waiting = slices.DeleteFunc(c.waiting, func(w *waiter) bool {
		hit := !deleted && o.namespace == w.namespace && o.value == w.value
		if hit {
			w.at <- time.Now()
		}
		return hit
	})
}
