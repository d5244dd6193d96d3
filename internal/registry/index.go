package registry

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// An index.yaml may be tens of megabytes, of which one chart is wanted. As values
// it would take twenty times that. So the part of each chart is cut out as text,
// and only those that are wanted are decoded.

// blocks cuts an index into the parts of its charts; nil if it is not laid out as
// Helm does it: a line for each key, with nothing behind it.
func blocks(b []byte) map[string][]byte {
	start := bytes.Index(b, []byte("\nentries:\n"))
	switch {
	case bytes.HasPrefix(b, []byte("entries:\n")):
		start = 0
	case start < 0:
		return nil
	default:
		start++
	}
	rest := b[start+len("entries:\n"):]
	out := map[string][]byte{}
	indent, name, from, at := 0, "", 0, 0
	end := func() {
		if name != "" {
			out[name] = rest[from:at]
		}
	}
	for at < len(rest) {
		n := bytes.IndexByte(rest[at:], '\n') + 1
		if n == 0 {
			n = len(rest) - at
		}
		line := rest[at : at+n]
		text := bytes.TrimLeft(line, " ")
		depth := len(line) - len(text)
		text = bytes.TrimRight(text, " \r\n")
		if indent == 0 {
			indent = depth
		}
		switch {
		case len(text) == 0, text[0] == '#', depth > indent:
		case depth == 0: // the next key of the index
			end()
			return out
		case depth < indent:
			return nil
		case text[0] == '-': // lists are not indented below their key
		default:
			m := chartKey.FindSubmatch(text)
			if m == nil {
				return nil
			}
			end()
			if name = string(m[1]); out[name] != nil {
				return nil
			}
			from = at + n
		}
		at += n
	}
	end()
	return out
}

var chartKey = regexp.MustCompile(`^["']?([A-Za-z0-9][A-Za-z0-9._-]*)["']?:$`)

// entries decodes the versions of the charts that are wanted.
func entries(b []byte, wanted func(string) bool) (map[string][]ChartVersion, error) {
	out := map[string][]ChartVersion{}
	if trimmed := bytes.TrimLeft(b, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		var doc struct {
			Entries map[string]json.RawMessage `json:"entries"`
		}
		if json.Unmarshal(b, &doc) == nil {
			for name, raw := range doc.Entries {
				var v []ChartVersion
				if !wanted(name) {
					continue
				}
				if err := json.Unmarshal(raw, &v); err != nil {
					return nil, err
				}
				out[name] = v
			}
			return out, nil
		}
	}
	if cut := blocks(b); cut != nil {
		for name, block := range cut {
			var v []ChartVersion
			if !wanted(name) {
				continue
			}
			if err := yaml.Unmarshal(block, &v); err != nil {
				return nil, err
			}
			out[name] = v
		}
		return out, nil
	}
	var doc struct {
		Entries map[string]yaml.Node `yaml:"entries"`
	}
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	for name, node := range doc.Entries {
		var v []ChartVersion
		if !wanted(name) {
			continue
		}
		if err := node.Decode(&v); err != nil {
			return nil, err
		}
		out[name] = v
	}
	return out, nil
}

// sha256Digest is a digest in the form that registries use; empty for another kind.
func sha256Digest(s string) string {
	s = strings.ToLower(s)
	if !strings.HasPrefix(s, "sha256:") {
		s = "sha256:" + s
	}
	if !IsDigest(s) {
		return ""
	}
	return s
}
