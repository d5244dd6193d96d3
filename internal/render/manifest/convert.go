package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	yaml3 "go.yaml.in/yaml/v3"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay/internal/render/wire"
)

// Error says what is wrong with a document. It repeats nothing of it but the
// name of a key, and not even that where the document may be a Secret.
type Error struct {
	// Line of the file, 0 when not known.
	Line    int
	Problem string
	Hint    string
	// Duplicate is set when the only thing wrong is a key that is there twice.
	Duplicate bool
}

// Problem places an error of this package in a file.
func Problem(file string, err error) wire.Problem {
	p := wire.Problem{File: file, Message: err.Error()}
	if me, ok := errors.AsType[*Error](err); ok {
		p.Line, p.Message, p.Hint = me.Line, me.Problem, me.Hint
	}
	return p
}

// Error is the problem and the line.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Problem
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Problem)
}

// JSON converts the document as kubectl does (YAML 1.1 booleans and numbers,
// anchors, merge keys), but a key that is there twice is an error. The error is
// an [*Error]. An empty document gives nil.
func (d Doc) JSON() ([]byte, error) { return d.convert(true) }

// LenientJSON is JSON, but the last of several equal keys wins.
func (d Doc) LenientJSON() ([]byte, error) { return d.convert(false) }

func (d Doc) convert(strict bool) ([]byte, error) {
	if d.json {
		return d.Text, d.duplicates()
	}
	to := yaml.YAMLToJSON
	if strict {
		to = yaml.YAMLToJSONStrict
	}
	out, err := to(d.Text)
	if err != nil {
		return nil, d.yamlError(err)
	}
	if string(out) == "null" {
		return nil, nil
	}
	return out, nil
}

func (d Doc) duplicates() error {
	var v any
	strict, err := kjson.UnmarshalStrict(d.Text, &v)
	if err != nil {
		return &Error{Line: d.Line, Problem: "not valid JSON"}
	}
	if len(strict) == 0 {
		return nil
	}
	e := &Error{Line: d.Line, Problem: "a key is set twice", Duplicate: true}
	if !d.MaySecret() {
		e.Problem = strings.Replace(strict[0].Error(), "duplicate field", "this key is set twice:", 1)
	}
	return e
}

// MaySecret reports whether the document could be a Secret: its text says so
// somewhere. Nothing of it may be repeated then.
func (d Doc) MaySecret() bool { return bytes.Contains(d.Text, []byte("Secret")) }

var (
	yamlLine  = regexp.MustCompile(`^line (\d+): `)
	duplicate = regexp.MustCompile(`^key "?(.*?)"? already set in map$`)
)

// constant are beginnings of messages of the YAML library that repeat nothing
// of the input. Everything else is replaced.
var constant = []string{
	"did not find ", "found ", "mapping values are not allowed", "block sequence entries are not allowed",
	"block collection entries are not allowed", "could not find expected", "control characters are not allowed",
	"invalid leading UTF-8", "incomplete UTF-8", "invalid trailing UTF-8", "exceeded max depth", "map merge requires",
	"document contains excessive aliasing", "invalid Unicode", "expected ",
}

func (d Doc) yamlError(err error) *Error {
	e := &Error{Line: d.Line, Problem: "not valid YAML"}
	msg := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(msg, "unmarshal errors:\n  "); ok {
		all := strings.Split(rest, "\n  ")
		msg = all[0]
		e.Duplicate = true
		for _, m := range all {
			_, m, _ = strings.Cut(m, ": ")
			e.Duplicate = e.Duplicate && duplicate.MatchString(m)
		}
	}
	if m := yamlLine.FindStringSubmatch(msg); m != nil {
		msg = msg[len(m[0]):]
		if n, err := strconv.Atoi(m[1]); err == nil {
			e.Line = min(max(d.start+n-1, d.Line), d.lastLine())
		}
	}
	if m := duplicate.FindStringSubmatch(msg); m != nil {
		e.Problem = "a key is set twice"
		if !d.MaySecret() {
			e.Problem = fmt.Sprintf("the key %q is set twice", m[1])
		}
		return e
	}
	switch {
	case strings.HasPrefix(msg, "did not find expected key"), strings.HasPrefix(msg, "did not find expected '-'"):
		e.Line = d.structureLine(msg)
	case strings.HasPrefix(msg, "unknown anchor"):
		_, name, _ := strings.Cut(msg, "'")
		name, _, _ = strings.Cut(name, "'")
		e.Line = d.lineWith("*" + name)
		e.Problem = "not valid YAML: an alias (*name) refers to an anchor that is not there"
		e.Hint = "quote the value if it is meant to begin with *"
		return e
	case strings.HasPrefix(msg, "cannot decode "), strings.HasPrefix(msg, "!!binary value"):
		e.Problem = "not valid YAML: a value does not fit its tag (!!…)"
		return e
	case strings.HasPrefix(msg, "invalid map key"), strings.HasPrefix(msg, "unsupported map key"):
		e.Problem = "not valid YAML for Kubernetes: the key of a mapping must be a text"
		return e
	case strings.HasPrefix(msg, "json: unsupported value"):
		e.Problem = "a number is infinite or not a number (.inf, .nan), which JSON cannot express"
		return e
	case strings.HasPrefix(msg, "document contains excessive aliasing"):
		e.Problem = "its YAML aliases expand to far more than is written"
		e.Hint = "write the repeated parts out"
		return e
	}
	for _, c := range constant {
		if strings.HasPrefix(msg, c) {
			e.Problem = "not valid YAML: " + msg
			e.Hint = hintFor(msg)
			return e
		}
	}
	return e
}

// structureLine finds the line that breaks the structure. The library names the
// one on which the surrounding mapping or list began; the culprit is the last
// line of the shortest beginning that is broken in the same way.
func (d Doc) structureLine(msg string) int {
	var ends []int
	for i, c := range d.Text {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	ends = append(ends, len(d.Text))
	n := sort.Search(len(ends)-1, func(n int) bool {
		_, err := yaml.YAMLToJSON(d.Text[:ends[n]])
		return err != nil && strings.HasSuffix(err.Error(), msg)
	})
	return d.start + n
}

// lastLine is the last one with anything on it.
func (d Doc) lastLine() int {
	return d.start + bytes.Count(bytes.TrimRight(d.Text, " \t\r\n"), []byte("\n"))
}

// lineWith is the first line that contains a text, or the document's.
func (d Doc) lineWith(text string) int {
	before, _, ok := bytes.Cut(d.Text, []byte(text))
	if !ok {
		return d.Line
	}
	return d.start + bytes.Count(before, []byte("\n"))
}

func hintFor(msg string) string {
	switch {
	case strings.HasPrefix(msg, "mapping values are not allowed"):
		return "check the indentation, and quote a value that contains \": \""
	case strings.HasPrefix(msg, "did not find expected key"), strings.HasPrefix(msg, "did not find expected '-'"),
		strings.HasPrefix(msg, "could not find expected ':'"):
		return "check the indentation of this line and the ones before it"
	case strings.HasPrefix(msg, "found character that cannot start any token"):
		return "indent with spaces, and quote a value that begins with @, ` or %"
	}
	return ""
}

// Item is one manifest, and the line it begins on.
type Item struct {
	Line     int
	Manifest []byte
}

const maxNesting = 8

// Manifests converts the document and takes lists (kind: List, or any kind
// ending in List with items) apart. The error is an [*Error].
func (d Doc) Manifests() ([]Item, error) {
	j, err := d.JSON()
	if err != nil {
		return nil, err
	}
	return d.flatten(j)
}

// LenientManifests is Manifests with LenientJSON.
func (d Doc) LenientManifests() ([]Item, error) {
	j, err := d.LenientJSON()
	if err != nil {
		return nil, err
	}
	return d.flatten(j)
}

func (d Doc) flatten(j []byte) ([]Item, error) {
	if len(j) == 0 {
		return nil, nil
	}
	if j[0] != '{' {
		return nil, &Error{Line: d.Line, Problem: "a Kubernetes object must be a mapping, but this is " + jsonType(j)}
	}
	if !bytes.Contains(j, []byte(`List"`)) || !bytes.Contains(j, []byte(`"items"`)) {
		return []Item{{Line: d.Line, Manifest: j}}, nil
	}
	var out []Item
	err := d.expand(&out, j, d.Line, d.node(), 0)
	return out, err
}

func jsonType(j []byte) string {
	switch j[0] {
	case '[':
		return "a list"
	case '"':
		return "a text"
	case 't', 'f':
		return "a boolean"
	}
	return "a number"
}

// node is the document's tree with lines, or nil.
func (d Doc) node() *yaml3.Node {
	var n yaml3.Node
	if yaml3.Unmarshal(d.Text, &n) != nil || n.Kind != yaml3.DocumentNode || len(n.Content) == 0 {
		return nil
	}
	return n.Content[0]
}

func (d Doc) expand(out *[]Item, j []byte, line int, node *yaml3.Node, depth int) error {
	var list struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Items      []json.RawMessage `json:"items"`
	}
	if len(j) == 0 || j[0] != '{' {
		return &Error{Line: line, Problem: "an item of a List must be a mapping, but this is " + jsonType(append(j, '0'))}
	}
	// What does not look like a list, whatever is wrong with it, is an object.
	if err := json.Unmarshal(j, &list); err != nil || !strings.HasSuffix(list.Kind, "List") || list.Items == nil {
		*out = append(*out, Item{Line: line, Manifest: j})
		return nil //nolint:nilerr // the error is found again where objects are read
	}
	if depth == maxNesting {
		return &Error{Line: line, Problem: "Lists are nested too deeply"}
	}
	lines := itemNodes(node)
	for i, item := range list.Items {
		at, child := line, (*yaml3.Node)(nil)
		if i < len(lines) {
			child = lines[i]
			at = d.start + child.Line - 1
		}
		if string(item) == "null" {
			continue
		}
		if err := d.expand(out, typed(item, list.APIVersion, list.Kind), at, child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// typed gives an item of a ConfigMapList the kind that such a list leaves out.
func typed(item []byte, apiVersion, kind string) []byte {
	kind = strings.TrimSuffix(kind, "List")
	var m map[string]json.RawMessage
	if kind == "" || json.Unmarshal(item, &m) != nil || m["kind"] != nil || m["apiVersion"] != nil {
		return item
	}
	m["kind"], _ = json.Marshal(kind)
	m["apiVersion"], _ = json.Marshal(apiVersion)
	out, err := json.Marshal(m)
	if err != nil {
		return item
	}
	return out
}

func itemNodes(n *yaml3.Node) []*yaml3.Node {
	if n == nil || n.Kind != yaml3.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "items" && n.Content[i+1].Kind == yaml3.SequenceNode {
			return n.Content[i+1].Content
		}
	}
	return nil
}

// NotObject says what keeps a manifest from being a Kubernetes object:
// "apiVersion is missing", "kind is missing", or "" when it has both.
func NotObject(j []byte) string {
	if usual(j) {
		return ""
	}
	var head struct {
		APIVersion any `json:"apiVersion"`
		Kind       any `json:"kind"`
	}
	_ = json.Unmarshal(j, &head) // its own output
	switch {
	case (head.APIVersion == nil || head.APIVersion == "") && (head.Kind == nil || head.Kind == ""):
		return "apiVersion and kind are missing"
	case head.APIVersion == nil || head.APIVersion == "":
		return "apiVersion is missing"
	case head.Kind == nil || head.Kind == "":
		return "kind is missing"
	}
	return ""
}

// usual reports whether a manifest begins as those do that were written as YAML:
// keys are sorted then. It spares most of them being read once more.
func usual(j []byte) bool {
	rest, ok := bytes.CutPrefix(j, []byte(`{"apiVersion":"`))
	if !ok {
		return false
	}
	apiVersion, rest, ok := bytes.Cut(rest, []byte(`","`))
	if !ok || len(apiVersion) == 0 || bytes.ContainsAny(apiVersion, `\\"`) {
		return false
	}
	return bytes.HasPrefix(rest, []byte(`kind":"`)) && !bytes.HasPrefix(rest, []byte(`kind":""`))
}
