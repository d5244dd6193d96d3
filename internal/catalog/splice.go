package catalog

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// rendering are the fields of an Application's spec that its objects depend on.
var rendering = []string{"source", "sources", "destination", "patches", "variables"}

// RestoreDefinition gives the text of a file in which an Application has the
// fields again that its objects depend on, as another text has them. All else of
// the file stays byte for byte: other documents, other fields, comments. whole is
// true where the document had to come back as a whole, since its form allows
// nothing finer; then other fields of it came back as well.
func RestoreDefinition(now, then []byte, application string) (text []byte, whole bool, err error) {
	to, err := findText(now, application)
	if err != nil {
		return nil, false, err
	}
	from, err := findText(then, application)
	if err != nil {
		return nil, false, err
	}
	if spliced, ok := spliceFields(to, from); ok {
		text = to.in(now, spliced)
		if again, err := findText(text, application); err == nil && sameRendering(again, from) {
			return text, false, nil
		}
	}
	text = to.in(now, wholeDocument(to.text, from.text, to.end < len(now)))
	again, err := findText(text, application)
	if err != nil {
		return nil, true, err
	}
	if !sameRendering(again, from) {
		return nil, true, fmt.Errorf("the definition of application %q cannot be put back by itself", application)
	}
	return text, true, nil
}

// defText is one document of a file.
type defText struct {
	text       []byte
	start, end int // in the file
	root, spec *yaml.Node
	specKey    int // its place among the keys of root
}

func (d *defText) in(file, text []byte) []byte {
	return slices.Concat(file[:d.start], text, file[d.end:])
}

// findText finds the document of an Application.
func findText(data []byte, application string) (*defText, error) {
	at := 0
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) {
		at = 3
	}
	for _, c := range split(data[at:]) {
		start := at
		at += len(c.text)
		if blank(c.text) {
			continue
		}
		nodes, err := parseYAML(c.text)
		if err != nil || len(nodes) != 1 || nodes[0].Kind != yaml.MappingNode {
			continue
		}
		d := &defText{text: c.text, start: start, end: at, root: nodes[0], specKey: -1}
		kind, meta := child(d.root, "kind"), child(d.root, "metadata")
		if kind == nil || kind.Value != "Application" || meta == nil || meta.Kind != yaml.MappingNode {
			continue
		}
		if name := child(meta, "name"); name == nil || name.Value != application {
			continue
		}
		for i := 0; i+1 < len(d.root.Content); i += 2 {
			if d.root.Content[i].Value == "spec" {
				d.specKey, d.spec = i, d.root.Content[i+1]
			}
		}
		if d.spec == nil || d.spec.Kind != yaml.MappingNode {
			return nil, fmt.Errorf("the definition of application %q has no spec that can be read", application)
		}
		return d, nil
	}
	return nil, fmt.Errorf("the file has no document that defines application %q", application)
}

func child(n *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

// sameRendering says whether two definitions have the same fields that objects
// depend on.
func sameRendering(a, b *defText) bool {
	for _, name := range rendering {
		if !sameValue(child(a.spec, name), child(b.spec, name)) {
			return false
		}
	}
	return sameValue(ignored(a.spec), ignored(b.spec))
}

func ignored(spec *yaml.Node) *yaml.Node {
	if sync := child(spec, "sync"); sync != nil {
		return child(sync, "ignoreDifferences")
	}
	return nil
}

func sameValue(a, b *yaml.Node) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	var x, y any
	if a.Decode(&x) != nil || b.Decode(&y) != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}

// span is the lines of one field, from 0.
type span struct {
	name       string
	from, to   int
	indent     int
	key, value *yaml.Node
}

// spliceFields exchanges the lines of the fields that differ. It is not ok where
// a field has no lines of its own, or means something elsewhere in the document.
func spliceFields(to, from *defText) (text []byte, ok bool) {
	if !sameValue(ignored(to.spec), ignored(from.spec)) || to.shared() || from.shared() {
		return nil, false
	}
	have, ok := to.fields()
	if !ok {
		return nil, false
	}
	want, ok := from.fields()
	if !ok {
		return nil, false
	}
	toLines, fromLines := slices.Collect(bytes.Lines(to.text)), slices.Collect(bytes.Lines(from.text))
	last := have[len(have)-1]
	replaced := map[string][][]byte{}
	for _, w := range want {
		if !slices.Contains(rendering, w.name) || sameValue(child(to.spec, w.name), w.value) {
			continue
		}
		lines, ok := indented(fromLines[w.from:w.to], have[0].indent-w.indent)
		if !ok {
			return nil, false
		}
		replaced[w.name] = lines
	}
	var out [][]byte
	at := 0
	for _, h := range have {
		out = append(out, toLines[at:h.from]...)
		lines, differs := replaced[h.name]
		switch {
		case differs:
			out = append(out, lines...)
			delete(replaced, h.name)
		case slices.Contains(rendering, h.name) && child(from.spec, h.name) == nil:
		default:
			out = append(out, ended(toLines[h.from:h.to])...)
		}
		at = h.to
		if h.name == last.name { // what was not there goes to the end
			for _, name := range rendering {
				out = append(out, replaced[name]...)
			}
		}
	}
	return bytes.Join(append(out, toLines[at:]...), nil), true
}

// shared says whether nodes of the document are named and used elsewhere.
func (d *defText) shared() bool {
	var any func(n *yaml.Node) bool
	any = func(n *yaml.Node) bool {
		return n.Anchor != "" || n.Kind == yaml.AliasNode || slices.ContainsFunc(n.Content, any)
	}
	return any(d.root)
}

// fields are the lines of each field of the spec; not ok where they have none of
// their own.
func (d *defText) fields() (out []span, ok bool) {
	lines := slices.Collect(bytes.Lines(d.text))
	end := len(lines)
	if d.specKey+2 < len(d.root.Content) {
		next := d.root.Content[d.specKey+2]
		end = next.Line - 1 - commented(next)
	}
	specLine := d.root.Content[d.specKey].Line - 1
	if d.spec.Style&yaml.FlowStyle != 0 || d.root.Style&yaml.FlowStyle != 0 || len(d.spec.Content) == 0 {
		return nil, false
	}
	for i := 0; i+1 < len(d.spec.Content); i += 2 {
		key := d.spec.Content[i]
		from := key.Line - 1 - commented(key)
		if from <= specLine || key.Line > len(lines) || len(bytes.TrimSpace(lines[key.Line-1][:key.Column-1])) > 0 {
			return nil, false
		}
		if n := len(out); n > 0 {
			out[n-1].to = from
		}
		out = append(out, span{name: key.Value, from: from, to: end, indent: key.Column - 1, key: key, value: d.spec.Content[i+1]})
	}
	last := &out[len(out)-1]
	for last.to > last.key.Line { // what stands below it belongs to nobody
		line := bytes.TrimSpace(lines[last.to-1])
		deep := len(lines[last.to-1])-len(bytes.TrimLeft(lines[last.to-1], " ")) > last.indent
		if len(line) > 0 && (line[0] != '#' || deep) {
			break
		}
		last.to--
	}
	return out, true
}

// commented counts the lines of comment right above a key.
func commented(key *yaml.Node) int {
	if key.HeadComment == "" || strings.Contains(key.HeadComment, "\n\n") {
		return 0
	}
	return strings.Count(key.HeadComment, "\n") + 1
}

// indented moves lines to the right or to the left.
func indented(lines [][]byte, by int) (out [][]byte, ok bool) {
	for _, line := range ended(lines) {
		switch {
		case len(bytes.TrimSpace(line)) == 0:
		case by > 0:
			line = append(bytes.Repeat([]byte(" "), by), line...)
		case by < 0:
			var enough bool
			if line, enough = bytes.CutPrefix(line, bytes.Repeat([]byte(" "), -by)); !enough {
				return nil, false
			}
		}
		out = append(out, line)
	}
	return out, true
}

// ended gives every line an end.
func ended(lines [][]byte) [][]byte {
	if n := len(lines); n > 0 && !bytes.HasSuffix(lines[n-1], []byte("\n")) {
		lines = slices.Clone(lines)
		lines[n-1] = append(slices.Clip(lines[n-1]), '\n')
	}
	return lines
}

// wholeDocument is the other document under the marker of this one.
func wholeDocument(now, then []byte, more bool) []byte {
	marker, _ := cutMarker(now)
	_, body := cutMarker(then)
	text := slices.Concat(marker, body)
	if more && !bytes.HasSuffix(text, []byte("\n")) {
		text = append(text, '\n')
	}
	return text
}

// cutMarker cuts a document after its marker, if it has one.
func cutMarker(text []byte) (head, body []byte) {
	at := 0
	for line := range bytes.Lines(text) {
		at += len(line)
		trimmed := bytes.TrimRight(line, "\r\n")
		if bytes.HasPrefix(trimmed, []byte("---")) {
			return text[:at], text[at:]
		}
		if len(trimmed) > 0 && trimmed[0] != '#' && trimmed[0] != '%' {
			break
		}
	}
	return nil, text
}

// PinSource gives the text of a file in which one source of an Application names
// an exact ref. source counts from 0.
func PinSource(text []byte, application string, source int, ref string) ([]byte, error) {
	d, err := findText(text, application)
	if err != nil {
		return nil, err
	}
	src := child(d.spec, "source")
	if list := child(d.spec, "sources"); list != nil && list.Kind == yaml.SequenceNode && source < len(list.Content) {
		src = list.Content[source]
	}
	if src == nil || src.Kind != yaml.MappingNode || len(src.Content) == 0 {
		return nil, fmt.Errorf("source %d of application %q has no fields that can be read", source+1, application)
	}
	pin := strconv.Quote(ref)
	var edited []byte
	switch old := child(src, "ref"); {
	case old != nil:
		at := d.offset(old.Line, old.Column)
		edited = slices.Concat(d.text[:at], []byte(pin), d.text[at+tokenLen(d.text[at:], old, src.Style&yaml.FlowStyle != 0):])
	case src.Style&yaml.FlowStyle != 0:
		at := d.offset(src.Line, src.Column) + 1
		edited = slices.Concat(d.text[:at], []byte("ref: "+pin+", "), d.text[at:])
	default:
		first := src.Content[0]
		at := d.offset(first.Line, first.Column)
		edited = slices.Concat(d.text[:at], []byte("ref: "+pin+"\n"+strings.Repeat(" ", first.Column-1)), d.text[at:])
	}
	out := d.in(text, edited)
	again, err := findText(out, application)
	if err == nil {
		src = child(again.spec, "source")
		if list := child(again.spec, "sources"); list != nil && source < len(list.Content) {
			src = list.Content[source]
		}
		if got := child(src, "ref"); got != nil && got.Value == ref {
			return out, nil
		}
	}
	return nil, fmt.Errorf("ref %s cannot be written into source %d of application %q", ref, source+1, application)
}

// offset of a line and column, which count from 1; columns are characters.
func (d *defText) offset(line, column int) int {
	at := 0
	for l := range bytes.Lines(d.text) {
		if line--; line == 0 {
			for range column - 1 {
				at += max(1, len(string([]rune(string(d.text[at:min(len(d.text), at+4)]))[:1])))
			}
			break
		}
		at += len(l)
	}
	return at
}

// tokenLen is the length of a scalar as it is written.
func tokenLen(text []byte, n *yaml.Node, flow bool) int {
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		for i := 1; i < len(text); i++ {
			switch text[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
	case n.Style&yaml.SingleQuotedStyle != 0:
		for i := 1; i < len(text); i++ {
			if text[i] == '\'' && i+1 < len(text) && text[i+1] == '\'' {
				i++
			} else if text[i] == '\'' {
				return i + 1
			}
		}
	}
	end := bytes.IndexAny(text, "\r\n")
	if end < 0 {
		end = len(text)
	}
	if i := bytes.Index(text[:end], []byte(" #")); i >= 0 {
		end = i
	}
	if i := bytes.IndexAny(text[:end], ",}"); flow && i >= 0 {
		end = i
	}
	return len(bytes.TrimRight(text[:end], " \t"))
}
