package plan

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// Verdict is what the managedFields of a live object say about a manifest.
type Verdict struct {
	// OK is true when every declared field is still ours and no interactive tool
	// added any.
	OK bool
	// Drift is set when OK is false.
	Drift *belay.Drift
	// TakeOver are the managers whose additions must be removed.
	TakeOver []string
}

// Compare finds drift without a value of the live object: Kubernetes moves a
// field out of our managedFields entry when somebody else changes or removes it
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/), so it is
// enough to see whether our entry still covers what is declared. That needs no
// memory of an earlier apply. Live.Managers being nil means it was compared
// before and has not changed since.
func Compare(desired *belay.Object, live *belay.Live, interactive []string) Verdict {
	if live.Managers == nil {
		return Verdict{OK: true}
	}
	var tree map[string]any
	if unmarshal(desired.Raw, &tree) != nil {
		return Verdict{OK: true} // cannot be: it was made by Stamp
	}
	var ours map[string]any
	for _, e := range live.Managers {
		if e.Manager == belay.FieldManager && e.Operation == "Apply" && e.Subresource == "" {
			ours = fieldTree(e.Fields)
		}
	}
	c := comparison{}
	c.root(tree, ours)
	d := belay.Drift{Taken: c.names()}
	if len(c.missing) > 0 {
		attribute(&d, live.Managers, c.missing[0])
	}
	var takeOver []string
	for _, e := range live.Managers {
		if e.Subresource != "" || !isInteractive(e.Manager, interactive) {
			continue
		}
		added := additions(tree, fieldTree(e.Fields))
		if len(added) == 0 {
			continue
		}
		takeOver = append(takeOver, e.Manager)
		d.Added = append(d.Added, added...)
		if d.Manager == "" {
			d.Manager, d.Operation, d.Subresource, d.Time = e.Manager, e.Operation, e.Subresource, e.Time
		}
	}
	if len(d.Taken) == 0 && len(d.Added) == 0 {
		return Verdict{OK: true}
	}
	slices.Sort(d.Added)
	return Verdict{Drift: &d, TakeOver: takeOver}
}

// isInteractive matches a manager by its name or by the part before a slash:
// some clients append a version ("Mozilla/5.0").
func isInteractive(manager string, list []string) bool {
	head, _, _ := strings.Cut(manager, "/")
	return slices.Contains(list, manager) || slices.Contains(list, head)
}

// attribute names the entry that holds the missing field now: the one that goes
// deepest towards it, the newest among equals.
func attribute(d *belay.Drift, entries []belay.FieldEntry, missing []string) {
	best := 0
	for _, e := range entries {
		if e.Manager == belay.FieldManager && e.Operation == "Apply" {
			continue
		}
		n := depth(fieldTree(e.Fields), missing)
		// An entry that shares only "spec" says nothing of the field.
		if n < len(missing) || n < best || (n == best && e.Time.Before(d.Time)) {
			continue
		}
		best = n
		d.Manager, d.Operation, d.Subresource, d.Time = e.Manager, e.Operation, e.Subresource, e.Time
	}
}

func depth(tree map[string]any, path []string) int {
	for i, p := range path {
		next, ok := tree[p].(map[string]any)
		if !ok {
			return i
		}
		if len(next) == 0 { // a leaf: the entry owns all below it
			return len(path)
		}
		tree = next
	}
	return len(path)
}

// comparison collects declared fields that an entry does not own, as fieldsV1 paths.
type comparison struct {
	missing [][]string
}

func (c *comparison) names() []string {
	var out []string
	for _, m := range c.missing {
		out = append(out, pathName(m))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (c *comparison) root(tree, fields map[string]any) {
	for k, v := range tree {
		switch k {
		case "apiVersion", "kind", "status": // identity, and what a main endpoint does not take
		case "metadata":
			meta, _ := v.(map[string]any)
			mf, _ := fields["f:metadata"].(map[string]any)
			for _, mk := range []string{"labels", "annotations", "finalizers", "ownerReferences"} {
				if mv, ok := meta[mk]; ok {
					c.child([]string{"f:metadata"}, mf, mk, mv)
				}
			}
		default:
			c.child(nil, fields, k, v)
		}
	}
}

func (c *comparison) child(path []string, fields map[string]any, key string, v any) {
	p := append(slices.Clone(path), "f:"+key)
	f, ok := fields["f:"+key].(map[string]any)
	if !ok {
		if !emptyValue(v) {
			c.missing = append(c.missing, p)
		}
		return
	}
	c.value(p, f, v)
}

// value compares below a field that is ours. No children in fields: the field
// is atomic or a scalar, and ours as a whole.
func (c *comparison) value(path []string, fields map[string]any, v any) {
	if len(fields) == 0 {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			c.child(path, fields, k, e)
		}
	case []any:
		c.list(path, fields, v)
	}
}

func (c *comparison) list(path []string, fields map[string]any, items []any) {
	keys := parseKeys(fields)
	for i, item := range items {
		k := findItem(keys, item, i)
		if k == "" {
			c.missing = append(c.missing, append(slices.Clone(path), itemName(keys, item, i)))
			continue
		}
		f, _ := fields[k].(map[string]any)
		if m, ok := item.(map[string]any); ok {
			c.value(append(slices.Clone(path), k), f, m)
		}
	}
}

type itemKey struct {
	text string         // as in fieldsV1
	key  map[string]any // k:{…}
	val  any            // v:…
}

func parseKeys(fields map[string]any) []itemKey {
	var out []itemKey
	for name := range fields {
		switch {
		case strings.HasPrefix(name, "k:"):
			var m map[string]any
			if unmarshal([]byte(name[2:]), &m) == nil {
				out = append(out, itemKey{text: name, key: m})
			}
		case strings.HasPrefix(name, "v:"):
			var v any
			if unmarshal([]byte(name[2:]), &v) == nil {
				out = append(out, itemKey{text: name, val: v})
			}
		case strings.HasPrefix(name, "i:"):
			out = append(out, itemKey{text: name})
		}
	}
	// The most telling key first: {port, protocol} before {port}.
	slices.SortFunc(out, func(a, b itemKey) int { return strings.Compare(a.text, b.text) })
	return out
}

// findItem is the fieldsV1 element that stands for a list item, or "". Keys
// that the item does not name are defaults of the schema (a port's protocol).
func findItem(keys []itemKey, item any, index int) string {
	m, isMap := item.(map[string]any)
	best, named := "", -1
	for _, k := range keys {
		switch {
		case k.key != nil && isMap:
			if n, ok := fits(k.key, m); ok && n > named {
				best, named = k.text, n
			}
		case k.key == nil && strings.HasPrefix(k.text, "v:") && scalarEqual(k.val, item):
			return k.text
		case strings.HasPrefix(k.text, "i:") && k.text == "i:"+itoa(index):
			return k.text
		}
	}
	return best
}

func fits(key, item map[string]any) (named int, ok bool) {
	for k, v := range key {
		iv, has := item[k]
		if !has {
			continue
		}
		if !scalarEqual(v, iv) {
			return 0, false
		}
		named++
	}
	return named, named > 0
}

func scalarEqual(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// itemName makes an element for an item that nobody of ours stands for, after
// the keys its neighbours have.
func itemName(keys []itemKey, item any, index int) string {
	if m, ok := item.(map[string]any); ok {
		names := []string{"name"}
		if len(keys) > 0 && keys[0].key != nil {
			names = names[:0]
			for k := range keys[0].key {
				names = append(names, k)
			}
		}
		key := map[string]any{}
		for _, n := range names {
			if v, ok := m[n]; ok {
				key[n] = v
			}
		}
		if len(key) > 0 {
			b, _ := json.Marshal(key)
			return "k:" + string(b)
		}
		return "i:" + itoa(index)
	}
	b, _ := json.Marshal(item)
	return "v:" + string(b)
}

func emptyValue(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return v == nil
}

func fieldTree(raw json.RawMessage) map[string]any {
	var m map[string]any
	_ = unmarshal(raw, &m) // an unreadable entry owns nothing
	return m
}

func unmarshal(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return dec.Decode(v)
}
