package plan

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// pathName writes a path of managedFields as people know it:
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
			if strings.ContainsAny(rest, "./[] ") {
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
		parts = append(parts, k+"="+compact(m[k]))
	}
	return strings.Join(parts, ",")
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

// compact writes a decoded value as JSON, on one line and as it is read: without
// the escapes for HTML.
func compact(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // values that came from JSON always encode
	return strings.TrimSuffix(b.String(), "\n")
}

// unmarshal keeps numbers as they are written.
func unmarshal(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return dec.Decode(v)
}
