package belay

import (
	"slices"
	"strconv"
	"strings"
)

// RulesFor are those of the rules that fit an object.
func RulesFor(rules []IgnoreRule, id ObjectID) []IgnoreRule {
	var out []IgnoreRule
	for i := range rules {
		r := &rules[i]
		if (r.Kind == "" || matchKind([]string{r.Kind}, id)) && (r.Name == "" || MatchGlob(r.Name, id.Name)) &&
			(r.Namespace == "" || MatchGlob(r.Namespace, id.Namespace)) {
			out = append(out, *r)
		}
	}
	return out
}

// IgnoresManager says whether any of the rules leaves a field manager what it
// owns. A manager matches by its whole name or by the part before a slash.
func IgnoresManager(rules []IgnoreRule, manager string) bool {
	head, _, _ := strings.Cut(manager, "/")
	return manager != FieldManager && slices.ContainsFunc(rules, func(r IgnoreRule) bool {
		return matchAny(r.Managers, manager) || matchAny(r.Managers, head)
	})
}

// IgnoredPointers are the JSON pointers of rules, split into their parts. Those to
// what makes an object itself are left out.
func IgnoredPointers(rules []IgnoreRule) [][]string {
	var out [][]string
	for i := range rules {
		for _, p := range rules[i].Pointers {
			parts := strings.Split(p, "/")[1:]
			for j := range parts {
				parts[j] = strings.ReplaceAll(strings.ReplaceAll(parts[j], "~1", "/"), "~0", "~")
			}
			if !essential(parts) {
				out = append(out, parts)
			}
		}
	}
	return out
}

// essential are fields without which an object is none, or not ours.
func essential(pointer []string) bool {
	switch strings.Join(pointer, "\x00") {
	case "", "apiVersion", "kind", "metadata", "metadata\x00name", "metadata\x00namespace":
		return true
	}
	return isMark(pointer)
}

// isMark says whether a path is that of a label or annotation of Belay's own.
func isMark(path []string) bool {
	return len(path) >= 3 && path[0] == "metadata" && (path[1] == "labels" || path[1] == "annotations") && strings.HasPrefix(path[2], OwnPrefix)
}

// CutPointers takes the fields that pointers lead to out of a decoded manifest,
// which is changed. Belay's own labels and annotations stay.
func CutPointers(manifest map[string]any, pointers [][]string) {
	for _, p := range pointers {
		cut(manifest, nil, p)
	}
	sweepCut(manifest)
}

// cutItem stands for an item of a list that was cut, until all pointers have been
// followed: their indexes are those of the whole list.
type cutItem struct{}

func cut(v any, at, rest []string) {
	last := len(rest) == 1
	switch v := v.(type) {
	case map[string]any:
		child, ok := v[rest[0]]
		path := append(slices.Clip(at), rest[0])
		m, isMap := child.(map[string]any)
		switch {
		case !ok:
		case !last:
			cut(child, path, rest[1:])
		case isMap && len(path) == 2 && path[0] == "metadata":
			for k := range m {
				if !isMark(append(slices.Clip(path), k)) {
					delete(m, k)
				}
			}
		default:
			delete(v, rest[0])
		}
	case []any:
		i, err := strconv.Atoi(rest[0])
		switch {
		case err != nil || i < 0 || i >= len(v):
		case last:
			v[i] = cutItem{}
		default:
			cut(v[i], append(slices.Clip(at), rest[0]), rest[1:])
		}
	}
}

func sweepCut(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = sweepCut(e)
		}
	case []any:
		out := v[:0]
		for _, e := range v {
			if _, gone := e.(cutItem); !gone {
				out = append(out, sweepCut(e))
			}
		}
		return out
	}
	return v
}
