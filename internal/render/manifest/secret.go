package manifest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// SecretTexts lists what must not be repeated of a file: the values of the
// Secrets in it, or every value of a document that could be a Secret but cannot
// be read. Hand it to [belay.Scrub].
func SecretTexts(data []byte) []string {
	var out []string
	for _, d := range Split(data) {
		if !d.MaySecret() {
			continue
		}
		items, err := d.LenientManifests()
		if err != nil {
			out = append(out, LineTexts(d.Text)...)
			continue
		}
		for _, it := range items {
			out = append(out, belay.SecretValues(it.Manifest)...)
		}
	}
	return out
}

// LineTexts lists the lines of a text, and their parts around "=" and ":",
// without quotes, each also in base64. It is for texts that are secret as a
// whole, such as an env file.
func LineTexts(data []byte) []string {
	var out []string
	add := func(s string) {
		s = strings.Trim(strings.TrimSpace(s), `"'`)
		if len(s) >= 4 {
			out = append(out, s, base64.StdEncoding.EncodeToString([]byte(s)))
		}
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimLeft(strings.TrimSpace(line), "- ")
		add(line)
		rest := line
		for range 32 { // enough for what people write
			i := strings.IndexAny(rest, "=:")
			if i < 0 {
				break
			}
			rest = rest[i+1:]
			add(rest)
			if j := strings.IndexAny(rest, "=:"); j >= 0 {
				add(rest[:j])
			}
		}
	}
	return out
}

// described are keys whose values say what an object or a patch is about.
var described = []string{"apiVersion", "kind", "name", "namespace", "op", "path", "from", "type"}

// ValueTexts lists the texts that a document sets, other than its kind and
// names, or its lines when it cannot be read.
func ValueTexts(text []byte) []string {
	var out []string
	for _, d := range Split(text) {
		j, err := d.LenientJSON()
		var tree any
		if err != nil || json.Unmarshal(j, &tree) != nil {
			out = append(out, LineTexts(d.Text)...)
			continue
		}
		collect(&out, tree)
	}
	return out
}

func collect(out *[]string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if _, text := e.(string); !text || !slices.Contains(described, k) {
				collect(out, e)
			}
		}
	case []any:
		for _, e := range v {
			collect(out, e)
		}
	case string:
		if len(v) >= 4 {
			*out = append(*out, v)
		}
		*out = append(*out, LineTexts([]byte(v))...)
	}
}

var (
	topKind = regexp.MustCompile(`(?m)^["']?kind["']?:[ \t]*["']?([A-Za-z0-9]+)`)
	topMeta = regexp.MustCompile(`^["']?metadata["']?:[ \t\r\n]*$`)
	subName = regexp.MustCompile(`^["']?name["']?:[ \t]*["']?([^"'\s#]+)`)
)

// Locate finds the line on which the object of that kind and name begins, where
// the name may have got a prefix or suffix since it was written. It looks at the
// text only, which is cheap; 0 when it is not sure.
func Locate(docs []Doc, kind, name string) int {
	var same []int
	similar, longest := 0, 0
	for _, d := range docs {
		m := topKind.FindSubmatch(d.Text)
		if m == nil || string(m[1]) != kind {
			continue
		}
		switch written := nameOf(d.Text); {
		case written == name:
			same = append(same, d.Line)
		case len(written) > longest && strings.Contains(name, written):
			similar, longest = d.Line, len(written)
		case len(written) > 0 && len(written) == longest && strings.Contains(name, written):
			similar = 0 // two of them, so neither is sure
		}
	}
	switch {
	case len(same) == 1:
		return same[0]
	case len(same) == 0 && similar > 0:
		return similar
	case len(docs) == 1:
		return docs[0].Line
	}
	return 0
}

// KindOf is the kind of a document in block style, or "". It looks at the text
// only.
func KindOf(d Doc) string {
	if m := topKind.FindSubmatch(d.Text); m != nil {
		return string(m[1])
	}
	return ""
}

// Names reports whether a document declares an object of that kind and name.
func Names(d Doc, kind, name string) bool {
	m := topKind.FindSubmatch(d.Text)
	return m != nil && string(m[1]) == kind && nameOf(d.Text) == name
}

// nameOf is metadata.name of a document in block style, or "".
func nameOf(text []byte) string {
	inside, indent := false, 0
	for line := range bytes.Lines(text) {
		trimmed := bytes.TrimLeft(line, " ")
		depth := len(line) - len(trimmed)
		switch {
		case !content(line):
		case !inside:
			inside = topMeta.Match(line)
		case depth == 0:
			return ""
		default:
			if indent == 0 {
				indent = depth
			}
			if m := subName.FindSubmatch(trimmed); depth == indent && m != nil {
				return string(m[1])
			}
		}
	}
	return ""
}
