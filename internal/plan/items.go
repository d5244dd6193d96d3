package plan

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// itemKey is how an entry names an item of a list.
type itemKey struct {
	text string         // as in the entry
	key  map[string]any // of k:{…}, the fields that tell items apart
	val  any            // of v:…, the item itself
}

func itemKeys(fields map[string]any) []itemKey {
	var out []itemKey
	for _, name := range sortedKeys(fields) {
		k := itemKey{text: name}
		switch {
		case strings.HasPrefix(name, "k:") && unmarshal([]byte(name[2:]), &k.key) == nil,
			strings.HasPrefix(name, "v:") && unmarshal([]byte(name[2:]), &k.val) == nil,
			strings.HasPrefix(name, "i:"):
			out = append(out, k)
		}
	}
	return out
}

// assign finds for each item the key that stands for it, "" for none; each key
// stands for one item. A key may hold fields that the item leaves out, because
// the schema has a default for them (a port's protocol). So the items that say
// most choose first: of {port: 53, protocol: UDP} and {port: 53} the second gets
// what the first leaves.
//
// The keys of others stand for an item only if what it leaves out is what the API
// server would put there, see [itemKey.isDefault]: {port: 53, protocol: UDP} that
// somebody made of a declared {port: 53} is another item, and in the way of ours.
func assign(keys []itemKey, items []any) []string {
	return assignWhere(keys, items, func(*itemKey, any) bool { return true })
}

// assignOthers is assign for the keys of somebody else's entry.
func assignOthers(keys []itemKey, items []any) []string {
	return assignWhere(keys, items, (*itemKey).isDefault)
}

func assignWhere(keys []itemKey, items []any, may func(*itemKey, any) bool) []string {
	out := make([]string, len(items))
	used := map[string]bool{}
	type choice struct{ item, key, said int }
	var choices []choice
	for i, item := range items {
		for k := range keys {
			if said, ok := keys[k].fits(item, i); ok && may(&keys[k], item) {
				choices = append(choices, choice{i, k, said})
			}
		}
	}
	slices.SortStableFunc(choices, func(a, b choice) int { return b.said - a.said })
	for _, c := range choices {
		if k := keys[c.key].text; out[c.item] == "" && !used[k] {
			out[c.item], used[k] = k, true
		}
	}
	return out
}

// fits tells whether the key may stand for the item, and how much of the key the
// item says itself.
func (k *itemKey) fits(item any, index int) (said int, ok bool) {
	switch {
	case strings.HasPrefix(k.text, "v:"):
		return 1, scalarEqual(k.val, item)
	case strings.HasPrefix(k.text, "i:"):
		return 1, k.text == "i:"+strconv.Itoa(index)
	}
	m, isMap := item.(map[string]any)
	if !isMap {
		return 0, false
	}
	for name, v := range k.key {
		own, has := m[name]
		if has && !scalarEqual(v, own) {
			return 0, false
		}
		if has {
			said++
		}
	}
	return said, true
}

// isDefault says whether what the item leaves out of a key may be the schema's
// default. The one that built-in kinds have is TCP, for the protocol of container
// and service ports; of custom kinds it is not known, and nothing is lost by taking
// their item for a new one: it becomes ours and is applied as it is declared.
// Source: the defaults of ContainerPort and ServicePort in the API reference.
func (k *itemKey) isDefault(item any) bool {
	m, _ := item.(map[string]any)
	_, said := m["protocol"]
	protocol, inKey := k.key["protocol"]
	return said || !inKey || protocol == "TCP"
}

// scalarEqual compares decoded JSON; 1 and 1.0 are one number.
func scalarEqual(a, b any) bool {
	x, ok1 := a.(json.Number)
	y, ok2 := b.(json.Number)
	if ok1 && ok2 && x != y {
		f, err1 := x.Float64()
		g, err2 := y.Float64()
		return err1 == nil && err2 == nil && f == g
	}
	return compact(a) == compact(b)
}

// itemName makes an element for an item that no entry of ours stands for, after
// the keys that its neighbours have.
func itemName(keys []itemKey, item any, index int) string {
	m, ok := item.(map[string]any)
	if !ok {
		return "v:" + compact(item)
	}
	names := []string{"name"}
	for _, k := range keys {
		if k.key != nil {
			names = sortedKeys(k.key)
			break
		}
	}
	key := map[string]any{}
	for _, n := range names {
		if v, ok := m[n]; ok {
			key[n] = v
		}
	}
	if len(key) == 0 {
		return "i:" + strconv.Itoa(index)
	}
	return "k:" + compact(key)
}
