package plan

import (
	"slices"
	"strconv"
	"strings"
)

// restartedAt is how "kubectl rollout restart" asks for new pods. Undoing it
// would restart them once more, so it is never drift.
const restartedAt = "f:kubectl.kubernetes.io/restartedAt"

// additions lists the fields of an entry that the manifest does not declare.
func additions(tree, fields map[string]any) []string {
	var out []string
	for _, k := range sortedKeys(fields) {
		f, _ := fields[k].(map[string]any)
		switch k {
		case "f:status", "f:apiVersion", "f:kind":
		case "f:metadata":
			meta, _ := tree["metadata"].(map[string]any)
			for _, mk := range []string{"labels", "annotations"} {
				if mf, ok := f["f:"+mk].(map[string]any); ok {
					mv, _ := meta[mk].(map[string]any)
					undeclared([]string{k, "f:" + mk}, mf, mv, &out)
				}
			}
		default:
			v, ok := tree[strings.TrimPrefix(k, "f:")]
			if !ok {
				leaves([]string{k}, f, &out)
				continue
			}
			undeclared([]string{k}, f, v, &out)
		}
	}
	return out
}

// undeclared walks an entry beside the declared value at the same place.
func undeclared(path []string, fields map[string]any, v any, out *[]string) {
	for _, k := range sortedKeys(fields) {
		if k == "." || k == restartedAt {
			continue
		}
		p := append(slices.Clone(path), k)
		f, _ := fields[k].(map[string]any)
		var next any
		var ok bool
		switch {
		case strings.HasPrefix(k, "f:"):
			var m map[string]any
			if m, ok = v.(map[string]any); ok || v == nil {
				next, ok = m[k[2:]]
			} else {
				ok = true // a scalar is declared here; the API server settles the rest
			}
		default:
			next, ok = declaredItem(k, v)
		}
		if !ok {
			leaves(p, f, out)
			continue
		}
		undeclared(p, f, next, out)
	}
}

func declaredItem(k string, v any) (any, bool) {
	items, isList := v.([]any)
	if !isList {
		return nil, v != nil
	}
	keys := parseKeys(map[string]any{k: nil})
	for i, item := range items {
		if len(keys) == 1 && findItem(keys, item, i) == k {
			return item, true
		}
	}
	return nil, false
}

// leaves names what is added: the item or field itself where it is new as a whole.
func leaves(path []string, fields map[string]any, out *[]string) {
	if _, whole := fields["."]; whole || len(fields) == 0 {
		if !slices.Contains(path, restartedAt) {
			*out = append(*out, pathName(path))
		}
		return
	}
	for _, k := range sortedKeys(fields) {
		if k == restartedAt {
			continue
		}
		f, _ := fields[k].(map[string]any)
		leaves(append(slices.Clone(path), k), f, out)
	}
}

// pathName writes a fieldsV1 path as people know it:
// spec.template.spec.containers[name="app"].image.
func pathName(path []string) string {
	var b strings.Builder
	for _, p := range path {
		if len(p) < 2 {
			continue
		}
		rest := p[2:]
		switch p[:2] {
		case "f:":
			if strings.ContainsAny(rest, "./") {
				b.WriteString("[" + strconv.Quote(rest) + "]")
				continue
			}
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(rest)
		case "k:":
			b.WriteString("[" + keyName(rest) + "]")
		default:
			b.WriteString("[" + rest + "]")
		}
	}
	return b.String()
}

func keyName(key string) string {
	var m map[string]any
	if unmarshal([]byte(key), &m) != nil {
		return key
	}
	var parts []string
	for _, k := range sortedKeys(m) {
		switch v := m[k].(type) {
		case string:
			parts = append(parts, k+"="+strconv.Quote(v))
		default:
			parts = append(parts, k+"="+compact(v))
		}
	}
	return strings.Join(parts, ",")
}
