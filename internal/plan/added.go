package plan

import (
	"maps"
	"slices"
	"strings"
)

// restartedAt is how "kubectl rollout restart" asks for new pods. Undoing it
// would restart them once more, so it is never drift.
const restartedAt = "f:kubectl.kubernetes.io/restartedAt"

// stripRestart takes restartedAt out of an entry, and what the entry owns only
// because restartedAt needs a place.
func stripRestart(fields map[string]any) {
	for k, v := range fields {
		f, _ := v.(map[string]any)
		if len(f) == 0 {
			continue
		}
		if _, ok := f[restartedAt]; ok {
			delete(f, restartedAt)
			delete(f, ".")
		}
		stripRestart(f)
		if len(f) == 0 {
			delete(fields, k)
		}
	}
}

// replicas that Git does not declare belong to whoever scales, a person or an
// autoscaler. Undoing that would fall back to one, so it is never drift.
const replicas = "spec.replicas"

// additions lists the fields of an entry that the manifest does not declare.
// ours is our entry, which tells the items of the manifest's lists by their keys.
func additions(tree, ours, fields map[string]any) []string {
	var out []string
	for _, k := range sortedKeys(fields) {
		f, _ := fields[k].(map[string]any)
		mine, _ := ours[k].(map[string]any)
		switch k {
		case "f:status", "f:apiVersion", "f:kind":
		case "f:metadata":
			meta, _ := tree["metadata"].(map[string]any)
			for _, part := range metadataParts {
				if pf, ok := f["f:"+part].(map[string]any); ok {
					pm, _ := mine["f:"+part].(map[string]any)
					undeclared([]string{k, "f:" + part}, pf, pm, meta[part], &out)
				}
			}
		default:
			v, ok := tree[strings.TrimPrefix(k, "f:")]
			if !ok {
				newFields([]string{k}, f, &out)
				continue
			}
			undeclared([]string{k}, f, mine, v, &out)
		}
	}
	return out
}

// undeclared walks an entry, and ours, beside the declared value at the same place.
func undeclared(path []string, fields, ours map[string]any, v any, out *[]string) {
	switch v := v.(type) {
	case map[string]any, nil:
		m, _ := v.(map[string]any)
		for _, k := range sortedKeys(fields) {
			if k != "." {
				next, ok := m[strings.TrimPrefix(k, "f:")]
				undeclaredAt(append(slices.Clip(path), k), k, fields, ours, next, ok, out)
			}
		}
	case []any:
		// Ours first: what stands for an item there stands for no other.
		known := itemKeys(ours)
		items := map[string]any{}
		var rest []any
		for i, k := range assign(known, v) {
			if k != "" {
				items[k] = v[i]
			} else {
				rest = append(rest, v[i])
			}
		}
		foreign := slices.DeleteFunc(itemKeys(fields), func(k itemKey) bool { _, ok := items[k.text]; return ok })
		for i, k := range assignOthers(foreign, rest) {
			if k != "" {
				items[k] = rest[i]
			}
		}
		for _, k := range sortedKeys(fields) {
			if k != "." {
				next, ok := items[k]
				undeclaredAt(append(slices.Clip(path), k), k, fields, ours, next, ok, out)
			}
		}
	}
	// Anything else is a scalar that is declared: whose it is was settled above.
}

func undeclaredAt(path []string, k string, fields, ours map[string]any, v any, declared bool, out *[]string) {
	f, _ := fields[k].(map[string]any)
	if !declared {
		newFields(path, f, out)
		return
	}
	mine, _ := ours[k].(map[string]any)
	if m, ok := v.(map[string]any); ok && strings.HasPrefix(k, "k:") {
		// The fields by which the item is known are declared with it, said or not.
		var key map[string]any
		_ = unmarshal([]byte(k[2:]), &key)
		whole := make(map[string]any, len(m)+len(key))
		for _, part := range []map[string]any{key, m} {
			maps.Copy(whole, part)
		}
		v = whole
	}
	undeclared(path, f, mine, v, out)
}

// newFields names what is new: a field or item itself where it is new as a whole.
func newFields(path []string, fields map[string]any, out *[]string) {
	if _, whole := fields["."]; whole || len(fields) == 0 {
		*out = append(*out, pathName(path))
		return
	}
	for _, k := range sortedKeys(fields) {
		f, _ := fields[k].(map[string]any)
		newFields(append(slices.Clip(path), k), f, out)
	}
}
