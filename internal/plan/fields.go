package plan

import (
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
	// ByHand is what of the drift interactive tools hold now. It is drift whatever
	// was applied before; what else departs from a manifest that was not applied yet
	// may be what that manifest brings.
	ByHand *belay.Drift
}

// Compare finds drift without a value of the live object: Kubernetes moves a
// field out of our managedFields entry when somebody else changes or removes it
// (https://kubernetes.io/docs/reference/using-api/server-side-apply/), so it is
// enough to see whether our entry still covers what is declared. That needs no
// memory of an earlier apply. Live.Managers being nil means it was compared
// before and has not changed since.
//
// What a controller adds is the controller's, and so is what it puts into a list
// or map that is declared empty. Two things cannot be seen this way: another
// order of list items, and the removal of all that a map entry of a schemaless
// field held, when nothing else shows that such entries have parts.
//
// What the rules say may differ is looked at as if nobody had declared it.
func Compare(desired *belay.Object, live *belay.Live, interactive []string, rules ...belay.IgnoreRule) Verdict {
	if live.Managers == nil {
		return Verdict{OK: true}
	}
	var tree map[string]any
	if unmarshal(desired.Raw, &tree) != nil {
		return Verdict{OK: true} // cannot be: it was made by Stamp
	}
	c := newComparison(desired.APIVersion, live.Managers, interactive)
	own := c.ours
	if len(rules) > 0 {
		c.ignored = ignoredBy(rules)
		if c.entry != nil {
			own = entryFields(c.entry, desired.APIVersion)
			c.ignored.others(own, tree)
		}
		for i := range c.others {
			o := &c.others[i]
			c.ignored.others(o.fields, tree)
			o.byHand = o.byHand && !belay.IgnoresManager(rules, o.entry.Manager)
		}
		belay.CutPointers(tree, c.ignored.pointers)
	}
	c.root(tree)
	d, hand := c.taken(false), c.taken(true)
	var takeOver []string
	for _, o := range c.others {
		if !o.byHand {
			continue
		}
		added := slices.DeleteFunc(additions(tree, c.ours, o.fields), func(f string) bool { return f == replicas })
		if len(added) == 0 {
			continue
		}
		takeOver = append(takeOver, o.entry.Manager)
		for _, d := range []*belay.Drift{&d, &hand} {
			d.Added = append(d.Added, added...)
			if d.Manager == "" {
				attribute(d, o.entry)
			}
		}
	}
	// What our own entry has and nobody declares was left by a process that ended
	// after it had taken fields over, and before the apply that was to remove them.
	if left := slices.DeleteFunc(additions(tree, c.ours, own), func(f string) bool { return f == replicas }); len(left) > 0 {
		d.Added = append(d.Added, left...)
		if d.Manager == "" {
			attribute(&d, c.entry)
		}
	}
	if len(d.Taken) == 0 && len(d.Added) == 0 {
		return Verdict{OK: true}
	}
	for _, list := range []*[]string{&d.Added, &hand.Added, &takeOver} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	v := Verdict{Drift: &d, TakeOver: takeOver}
	if len(hand.Taken)+len(hand.Added) > 0 {
		v.ByHand = &hand
	}
	return v
}

func attribute(d *belay.Drift, e *belay.FieldEntry) {
	d.Manager, d.Operation, d.Subresource, d.Time = e.Manager, e.Operation, e.Subresource, e.Time
}

// isInteractive matches a manager by its name or by the part before a slash:
// some clients append a version ("Mozilla/5.0").
func isInteractive(manager string, list []string) bool {
	head, _, _ := strings.Cut(manager, "/")
	return slices.Contains(list, manager) || slices.Contains(list, head)
}

// owner is somebody else's entry.
type owner struct {
	entry       *belay.FieldEntry
	fields      map[string]any
	interactive bool // an interactive tool's
	byHand      bool // and its additions are undone
}

// comparison collects declared fields that our entry does not own.
type comparison struct {
	entry  *belay.FieldEntry // ours; nil if there is none
	ours   map[string]any
	others []owner
	lost   []lostField
	// ignored says what may differ.
	ignored ignored
}

type lostField struct {
	path []string
	now  []holding // who owns it instead
}

func newComparison(apiVersion string, entries []belay.FieldEntry, interactive []string) *comparison {
	c := &comparison{}
	for i := range entries {
		e := &entries[i]
		fields := entryFields(e, apiVersion)
		if e.Manager == belay.FieldManager && e.Operation == "Apply" && e.Subresource == "" {
			c.ours, c.entry = fields, e
			continue
		}
		o := owner{entry: e, fields: fields, interactive: isInteractive(e.Manager, interactive)}
		if o.byHand = o.interactive && e.Subresource == ""; o.byHand {
			stripRestart(fields)
		}
		c.others = append(c.others, o)
	}
	return c
}

// taken describes what was lost, or of that what interactive tools hold now, and
// names the newest entry that holds any of it.
func (c *comparison) taken(byHand bool) belay.Drift {
	var d belay.Drift
	var by *belay.FieldEntry
	for _, l := range c.lost {
		if c.ignored.mayBeLost(&l) {
			continue
		}
		if byHand {
			l.now = slices.DeleteFunc(slices.Clone(l.now), func(h holding) bool { return !h.owner.interactive })
			if len(l.now) == 0 {
				continue
			}
		}
		d.Taken = append(d.Taken, pathName(l.path))
		for _, h := range l.now {
			e := h.owner.entry
			if by == nil || e.Time.After(by.Time) || (e.Time.Equal(by.Time) && e.Manager < by.Manager) {
				by = e
			}
		}
	}
	if by != nil {
		attribute(&d, by)
	}
	slices.Sort(d.Taken)
	d.Taken = slices.Compact(d.Taken)
	return d
}

// metadataParts are the parts of metadata that have owners.
var metadataParts = []string{"labels", "annotations", "finalizers", "ownerReferences"}

func (c *comparison) root(tree map[string]any) {
	var top []holding
	for i := range c.others {
		top = append(top, holding{&c.others[i], c.others[i].fields})
	}
	for _, k := range sortedKeys(tree) {
		switch k {
		case "apiVersion", "kind", "status": // identity, and what the main endpoint does not take
		case "metadata":
			meta, _ := tree[k].(map[string]any)
			fields, _ := c.ours["f:metadata"].(map[string]any)
			for _, part := range metadataParts {
				if v, ok := meta[part]; ok {
					c.field([]string{"f:metadata"}, fields, below(top, "f:metadata"), part, v)
				}
			}
		default:
			c.field(nil, c.ours, top, k, tree[k])
		}
	}
}

// holding is what another entry says of the place that is being looked at.
type holding struct {
	owner  *owner
	fields map[string]any
}

// whole is true where the entry owns the place itself and names no part of it.
func (h holding) whole() bool { return !hasParts(h.fields) }

func below(at []holding, element string) []holding {
	var out []holding
	for _, h := range at {
		if f, ok := h.fields[element].(map[string]any); ok {
			out = append(out, holding{h.owner, f})
		}
	}
	return out
}

func hasParts(fields map[string]any) bool {
	for k := range fields {
		if k != "." {
			return true
		}
	}
	return false
}

// field compares one declared field of a map whose part of our entry is fields.
func (c *comparison) field(path []string, fields map[string]any, others []holding, key string, v any) {
	element := "f:" + key
	path = append(slices.Clip(path), element)
	others = below(others, element)
	f, ok := fields[element].(map[string]any)
	switch {
	case !ok:
		c.missing(path, others, v)
	case hasParts(f):
		c.parts(path, f, others, v)
	case c.emptied(fields, others):
		// It was ours with its parts, and none of the parts is left.
		if m, ok := v.(map[string]any); ok {
			for _, k := range sortedKeys(m) {
				c.field(path, f, others, k, m[k])
			}
		}
	}
}

// emptied tells whether a field that our entry owns without parts is one that
// has parts: a map entry, which is owned in itself and beside its parts. Else it
// is a scalar or atomic, and ours as a whole. It shows in an entry of somebody
// who owns a part, or in a neighbour, since the entries of a map are of one type.
func (c *comparison) emptied(neighbours map[string]any, others []holding) bool {
	if slices.ContainsFunc(others, func(h holding) bool { return !h.whole() }) {
		return true
	}
	for k, n := range neighbours {
		if f, _ := n.(map[string]any); strings.HasPrefix(k, "f:") && len(f) > 1 && f["."] != nil {
			return true
		}
	}
	return false
}

// parts compares below a field of which our entry names parts.
func (c *comparison) parts(path []string, fields map[string]any, others []holding, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range sortedKeys(v) {
			c.field(path, fields, others, k, v[k])
		}
	case []any:
		keys := itemKeys(fields)
		found := assign(keys, v)
		for i, item := range v {
			f, _ := fields[found[i]].(map[string]any)
			switch {
			case f == nil, hasParts(f) && f["."] == nil:
				// Parts of an item that is gone stay ours where they were never stored.
				c.missingItem(path, keys, others, item, i)
			case hasParts(f):
				c.parts(append(slices.Clip(path), found[i]), f, below(others, found[i]), item)
			}
		}
	}
}

// missing notes a declared value that is not ours, as exactly as the entries of
// others tell what became of it.
func (c *comparison) missing(path []string, others []holding, v any) {
	m, isMap := v.(map[string]any)
	list, isList := v.([]any)
	switch {
	case (isMap || isList) && len(m)+len(list) == 0:
		if !c.emptyMissing(others, isMap) {
			return
		}
	case slices.ContainsFunc(others, holding.whole): // taken as a whole
	case isMap && (len(others) > 0 || len(m) == 1):
		for _, k := range sortedKeys(m) {
			c.missing(append(slices.Clip(path), "f:"+k), below(others, "f:"+k), m[k])
		}
		return
	case isList && len(others) > 0:
		for i, item := range list {
			c.missingItem(path, nil, others, item, i)
		}
		return
	}
	c.lost = append(c.lost, lostField{path, others})
}

// emptyMissing says whether a list or map that is declared empty, and is not in
// our entry, was taken. It is not if a controller filled it, and our entry never
// had a list whose items have owners of their own.
func (c *comparison) emptyMissing(others []holding, isMap bool) bool {
	if len(others) == 0 {
		return isMap
	}
	return slices.ContainsFunc(others, func(h holding) bool { return h.owner.byHand && h.whole() })
}

// missingItem notes an item of a list that is not ours; keys are those of items that are.
func (c *comparison) missingItem(path []string, keys []itemKey, others []holding, item any, index int) {
	var now []holding
	keys = slices.Clone(keys)
	for _, h := range others {
		mine := itemKeys(h.fields)
		keys = append(keys, mine...)
		if k := assign(mine, []any{item})[0]; k != "" {
			now = append(now, below([]holding{h}, k)...)
		}
	}
	c.lost = append(c.lost, lostField{append(slices.Clip(path), itemName(keys, item, index)), now})
}

func entryFields(e *belay.FieldEntry, apiVersion string) map[string]any {
	fields := fieldTree(e.Fields)
	if e.APIVersion != "" && e.APIVersion != apiVersion {
		// Another version may name its fields otherwise; metadata is the same in all.
		fields = map[string]any{"f:metadata": fields["f:metadata"]}
	}
	return fields
}

func fieldTree(raw json.RawMessage) map[string]any {
	var m map[string]any
	_ = unmarshal(raw, &m) // an unreadable entry owns nothing
	return m
}
