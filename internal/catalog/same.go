package catalog

import (
	"reflect"
	"strings"
)

// SameDefinition says whether a definition means the same in two texts of its file,
// or stands in neither. Where a text cannot be read, it may differ.
func SameDefinition(before, after []byte, kind, name string) bool {
	a, ok := definitionIn(before, kind, name)
	if !ok {
		return false
	}
	b, ok := definitionIn(after, kind, name)
	return ok && reflect.DeepEqual(a, b)
}

// definitionIn is the value of a document, nil where the text has none of that kind
// and name. It is not ok where some document cannot be read, which may be that one.
func definitionIn(data []byte, kind, name string) (value any, ok bool) {
	data = []byte(strings.TrimPrefix(string(data), "\ufeff"))
	for _, c := range split(data) {
		if blank(c.text) {
			continue
		}
		nodes, err := parseYAML(c.text)
		if err != nil || len(nodes) != 1 {
			return nil, false
		}
		k, meta := child(nodes[0], "kind"), child(nodes[0], "metadata")
		if k == nil || meta == nil || k.Value != kind {
			continue
		}
		if n := child(meta, "name"); n == nil || n.Value != name {
			continue
		}
		if err := nodes[0].Decode(&value); err != nil {
			return nil, false
		}
		return value, true
	}
	return nil, true
}
