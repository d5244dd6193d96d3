// Package variable replaces ${NAME} in the text values of rendered objects.
//
// It must not know how the objects came to be, and it never repeats the value of
// a variable or of an object.
package variable

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"

	yaml3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/kustomize/kyaml/openapi"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/manifest"
	"github.com/belaydev/belay/internal/render/wire"
)

// Apply replaces the variables of the job in all objects but those that say no.
// Without declared variables no text is touched.
func Apply(tree wire.Tree, job wire.Job, out *wire.Output) {
	if job.Variables == nil {
		return
	}
	vars := load(tree, job.Variables, out)
	if len(out.Problems) > 0 {
		return
	}
	for i := range out.Docs {
		d := &out.Docs[i]
		if !bytes.Contains(d.Manifest, []byte("${")) {
			continue
		}
		var m map[string]any
		dec := json.NewDecoder(bytes.NewReader(d.Manifest))
		dec.UseNumber()
		if dec.Decode(&m) != nil {
			continue // told where objects are read
		}
		r := newReplacer(vars, m)
		if r.disabled {
			continue
		}
		tree := r.walk("", m, r.schema)
		for _, p := range r.problems {
			p.File, p.Line = d.File, d.Line
			out.Fail(p)
		}
		j, err := json.Marshal(tree)
		if err != nil {
			out.Fail(wire.Problem{Code: belay.CodeInternal, File: d.File, Line: d.Line, Object: r.object, Message: "the object cannot be written as JSON"})
			return
		}
		d.Manifest, d.Size = j, int64(len(j))
	}
}

// value is what a variable stands for.
type value struct {
	text string
	// quoted is a text that a file says is one, whatever it looks like.
	quoted bool
}

// load reads the variables; what is set in the definition wins.
func load(tree wire.Tree, v *belay.Variables, out *wire.Output) map[string]value {
	vars := map[string]value{}
	if len(v.Files) > 0 {
		paths := make([]string, len(v.Files))
		for i, f := range v.Files {
			paths[i] = belay.SourcePath(f)
		}
		for i, c := range tree.Read(paths...) {
			if c.Err != nil {
				p := wire.ProblemOf(c.Err, "the definition", 0)
				p.File, p.Definition = "", true
				if errors.Is(c.Err, fs.ErrNotExist) {
					p.Message = fmt.Sprintf("%q does not exist", belay.DefinedFile(v.Files[i]))
				}
				p.Message = fmt.Sprintf("spec.variables.files[%d]: %s", i, p.Message)
				out.Fail(p)
				continue
			}
			file(vars, paths[i], c.Data, out)
		}
	}
	for k, text := range v.Values {
		vars[k] = value{text: text}
	}
	return vars
}

var validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// file reads one file of variables: a mapping of names to scalars.
func file(vars map[string]value, path string, data []byte, out *wire.Output) {
	docs := manifest.Split(data)
	if len(docs) == 0 {
		return
	}
	wrong := func(line int, message string) {
		out.Fail(wire.Problem{File: path, Line: line, Message: message, Hint: "a file of variables is one mapping of names to texts, numbers or booleans"})
	}
	if _, err := docs[0].JSON(); err != nil {
		out.Fail(manifest.Problem(path, err))
		return
	}
	if len(docs) > 1 {
		wrong(docs[1].Line, "a file of variables has one document, but here a second begins")
		return
	}
	var root yaml3.Node
	if yaml3.Unmarshal(data, &root) != nil || len(root.Content) != 1 || root.Content[0].Kind != yaml3.MappingNode {
		wrong(docs[0].Line, "this is not a mapping")
		return
	}
	for i := 0; i+1 < len(root.Content[0].Content); i += 2 {
		k, v := root.Content[0].Content[i], root.Content[0].Content[i+1]
		if v.Kind == yaml3.AliasNode {
			v = v.Alias
		}
		switch {
		case !validName.MatchString(k.Value):
			wrong(k.Line, "this is not the name of a variable: letters, digits and underscores")
		case v.Kind != yaml3.ScalarNode:
			wrong(k.Line, fmt.Sprintf("the variable %s is not a text, a number or a boolean", k.Value))
		case v.Tag == "!!null":
			vars[k.Value] = value{}
		default:
			vars[k.Value] = value{text: v.Value, quoted: v.Style&(yaml3.SingleQuotedStyle|yaml3.DoubleQuotedStyle|yaml3.LiteralStyle|yaml3.FoldedStyle) != 0}
		}
	}
}

// replacer replaces variables in one object.
type replacer struct {
	vars     map[string]value
	object   string
	secret   bool
	disabled bool
	schema   *openapi.ResourceSchema
	problems []wire.Problem
	bytes    int // that variables put into the object
}

// maxBytes is what variables may put into one object. No API server takes one as large.
const maxBytes = 8 << 20

func newReplacer(vars map[string]value, m map[string]any) *replacer {
	r := &replacer{vars: vars}
	apiVersion, _ := m["apiVersion"].(string)
	kind, _ := m["kind"].(string)
	group, _ := belay.SplitAPIVersion(apiVersion)
	id := belay.ObjectID{Group: group, Kind: kind}
	if meta, ok := m["metadata"].(map[string]any); ok {
		id.Name, _ = meta["name"].(string)
		id.Namespace, _ = meta["namespace"].(string)
		if ann, ok := meta["annotations"].(map[string]any); ok {
			r.disabled = ann[belay.AnnotationVariables] == "disabled"
		}
	}
	r.object = id.String()
	r.secret = kind == "Secret"
	if !r.disabled {
		r.schema = openapi.SchemaForResourceType(kyaml.TypeMeta{APIVersion: apiVersion, Kind: kind})
	}
	return r
}

// walk replaces variables in a value; at is its path, schema what Kubernetes says
// of it, or nil.
func (r *replacer) walk(at string, v any, schema *openapi.ResourceSchema) any {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			v[k] = r.walk(at+"."+k, v[k], fieldSchema(at, k, schema))
		}
	case []any:
		s := schema
		if schema != nil && schema != textsOnly {
			s = schema.Elements()
		}
		for i := range v {
			v[i] = r.walk(fmt.Sprintf("%s[%d]", at, i), v[i], s)
		}
	case string:
		return r.text(at, v, schema)
	}
	return v
}

// textsOnly stands for metadata, labels and annotations, in which every value that
// people set is a text, also in kinds that nobody here knows.
var textsOnly = &openapi.ResourceSchema{}

func fieldSchema(at, key string, schema *openapi.ResourceSchema) *openapi.ResourceSchema {
	switch {
	case schema == textsOnly, at == "" && key == "metadata", schema == nil && (key == "labels" || key == "annotations"):
		return textsOnly
	case schema == nil:
		return nil
	}
	return schema.Field(key)
}

// reference is ${NAME}, ${NAME:=default}, its escape $${, or what begins like one.
var reference = regexp.MustCompile(`\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(\})|:[=-]([^}]*)\}|.?)`)

// text replaces the variables in a text. A text that is one variable becomes a
// number or a boolean where the kind of object allows it.
func (r *replacer) text(at, s string, schema *openapi.ResourceSchema) any {
	var b strings.Builder
	end, single := 0, value{quoted: true}
	for _, m := range reference.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(s[end:m[0]])
		end = m[1]
		if m[2] < 0 {
			b.WriteString("${")
			continue
		}
		name := s[m[2]:m[3]]
		v, ok := r.vars[name]
		switch {
		case m[4] < 0 && m[6] < 0, m[6] >= 0 && strings.Contains(s[m[6]:m[7]], "${"):
			r.fail(at, fmt.Sprintf("${%s is not followed by } or :=", name), "${ with a name is not followed by } or :=")
			return s
		case m[6] >= 0 && v.text == "":
			v = value{text: s[m[6]:m[7]]}
		case !ok:
			r.fail(at, fmt.Sprintf("the variable %s is not set and has no default", name), "a variable in it is not set and has no default")
			return s
		}
		if r.bytes += len(v.text); r.bytes > maxBytes {
			r.fail(at, fmt.Sprintf("the variable %s makes the object larger than %d MiB", name, maxBytes>>20), fmt.Sprintf("a variable in it makes the object larger than %d MiB", maxBytes>>20))
			return s
		}
		b.WriteString(v.text)
		if m[0] == 0 && m[1] == len(s) {
			single = v
		}
	}
	b.WriteString(s[end:])
	if !single.quoted && !isText(schema) {
		return scalar(single.text)
	}
	return b.String()
}

// fail names the variable, but not in a Secret: what looks like one may be a part
// of a value.
func (r *replacer) fail(at, message, secret string) {
	if r.secret {
		message = secret
	}
	r.problems = append(r.problems, wire.Problem{Object: r.object, Message: fmt.Sprintf("%s: %s", strings.TrimPrefix(at, "."), message),
		Hint: fmt.Sprintf("set it in spec.variables, write $${ for a literal ${, or annotate the object with %s: disabled", belay.AnnotationVariables)})
}

// isText reports whether Kubernetes wants a text there.
func isText(schema *openapi.ResourceSchema) bool {
	if schema == nil {
		return false
	}
	if schema == textsOnly {
		return true
	}
	return schema.Schema.Type.Contains("string") && schema.Schema.Format != "int-or-string"
}

// scalar reads a value as JSON and YAML 1.2 do: true, false and numbers are that,
// everything else is a text. The other booleans of YAML 1.1 (yes, on, n) are texts:
// whoever writes the country NO does not mean false.
func scalar(text string) any {
	if text == "true" || text == "false" {
		return text == "true"
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) == nil && !dec.More() {
		if num, ok := v.(json.Number); ok && num.String() == text {
			return num
		}
	}
	return text
}
