package catalog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/belaydev/belay"
)

const schemaDialect = "https://json-schema.org/draft/2020-12/schema"

// AnySchema is the name of the schema that fits definitions of every kind.
const AnySchema = "belay"

// Schema is the JSON Schema (draft 2020-12) of a kind, or of all kinds for
// [AnySchema]; nil for anything else. It finds what is structurally wrong with a
// definition; Load finds more.
func Schema(kind string) []byte {
	return bytes.Clone(schemas()[kind])
}

// Schemas are all schemas by file name: "application.json", "belay.json".
func Schemas() map[string][]byte {
	out := map[string][]byte{}
	for name, s := range schemas() {
		out[strings.ToLower(name)+".json"] = bytes.Clone(s)
	}
	return out
}

var schemas = sync.OnceValue(func() map[string][]byte {
	out := map[string][]byte{}
	defs := object{}
	var refs []any
	for _, k := range kinds {
		s := kindSchema(k)
		own := append(object{{"$schema", schemaDialect}}, s...)
		if k == setKind {
			own = append(own, member{"$defs", setDefs()})
			defs = append(defs, setDefs()...)
		}
		out[k.name] = encode(own)
		defs = append(defs, member{k.name, s})
		refs = append(refs, object{{"$ref", "#/$defs/" + k.name}})
	}
	out[AnySchema] = encode(object{
		{"$schema", schemaDialect},
		{"title", "Belay definition"},
		{"description", "A definition of Belay, of any kind."},
		{"type", "object"},
		{"required", []string{"apiVersion", "kind"}},
		{"properties", object{
			{"apiVersion", object{{"const", belay.APIVersion}}},
			{"kind", object{{"enum", Kinds()}}},
		}},
		{"oneOf", refs},
		{"$defs", defs},
	})
	return out
})

// An object is a JSON object that keeps its order, so that fields stand in
// schemas as they stand in the types.
type object []member

type member struct {
	name  string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := marshal(m.value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// marshal is json.Marshal without escapes that make texts hard to read.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

func encode(o object) []byte {
	raw, err := marshal(o)
	if err != nil {
		panic(fmt.Sprintf("catalog: encode a schema: %v", err)) // a test encodes all
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		panic(fmt.Sprintf("catalog: indent a schema: %v", err))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func kindSchema(k *kind) object {
	required := []string{"apiVersion", "kind", "metadata"}
	if k.specRequired {
		required = append(required, "spec")
	}
	return object{
		{"title", k.name},
		{"description", k.doc},
		{"type", "object"},
		{"required", required},
		{"properties", object{
			{"apiVersion", object{{"description", "Version of the definitions."}, {"const", belay.APIVersion}}},
			{"kind", object{{"description", "Kind of the definition."}, {"const", k.name}}},
			{"metadata", structSchema(newValue(reflect.TypeFor[metadata]()), "What the definition is called.")},
			{"spec", structSchema(newValue(k.spec), k.about)},
		}},
		{"additionalProperties", false},
	}
}

// structSchema is the schema of a struct whose fields default to those of defaults.
func structSchema(defaults reflect.Value, doc string) object {
	t := defaults.Type()
	var required []string
	properties := object{}
	for _, f := range fieldsOf(t) {
		if f.rule.required {
			required = append(required, f.name)
		}
		properties = append(properties, member{f.name, fieldSchema(f, defaults)})
	}
	s := object{}
	if doc != "" {
		s = append(s, member{"description", doc})
	}
	s = append(s, member{"type", "object"})
	if required != nil {
		s = append(s, member{"required", required})
	}
	s = append(s, member{"properties", properties}, member{"additionalProperties", false})
	return append(s, choiceSchema(t)...)
}

// choiceSchema says that fields exclude each other.
func choiceSchema(t reflect.Type) object {
	c, ok := choices[t.Name()]
	if !ok {
		return nil
	}
	var one, pairs []any
	for i, a := range c.fields {
		one = append(one, object{{"required", []string{a}}})
		for _, b := range c.fields[i+1:] {
			pairs = append(pairs, object{{"required", []string{a, b}}})
		}
	}
	if c.exactly {
		return object{{"oneOf", one}}
	}
	return object{{"not", object{{"anyOf", pairs}}}}
}

func fieldSchema(f field, defaults reflect.Value) object {
	var s object
	switch t := f.typ; t.Kind() {
	case reflect.Struct:
		if t == templateType {
			return templateSchema(structSchema(defaults.Field(f.index), f.doc))
		}
		return structSchema(defaults.Field(f.index), f.doc)
	case reflect.Pointer:
		return structSchema(newValue(t.Elem()), f.doc)
	case reflect.Slice:
		var items object
		if e := t.Elem(); e.Kind() == reflect.Struct || e.Kind() == reflect.Map {
			items = itemSchema(e)
		} else {
			items = textSchema(f.rule.format)
		}
		s = object{{"type", "array"}, {"items", items}}
	case reflect.Map:
		s = object{{"type", "object"}}
		if f.rule.keys != nil {
			s = append(s, member{"propertyNames", slices.DeleteFunc(textSchema(f.rule.keys), func(m member) bool { return m.name == "type" })})
		}
		if t.Elem().Kind() == reflect.String {
			s = append(s, member{"additionalProperties", textSchema(f.rule.format)})
		}
	case reflect.Bool:
		s = object{{"type", "boolean"}}
	case reflect.Int:
		s = object{{"type", "integer"}}
		if f.rule.min != nil {
			s = append(s, member{"minimum", *f.rule.min})
		}
		if f.rule.max != nil {
			s = append(s, member{"maximum", *f.rule.max})
		}
	default:
		s = textSchema(f.rule.format)
	}
	doc := f.doc
	if f.rule.otherwise != "" && !strings.Contains(doc, "Default:") {
		doc += " Default: " + f.rule.otherwise + "."
	}
	s = append(object{{"description", doc}}, s...)
	if d := defaultJSON(f, defaults); d != "" {
		s = append(s, member{"default", json.RawMessage(d)})
	}
	if f.rule.example != "" {
		s = append(s, member{"examples", []json.RawMessage{json.RawMessage(f.rule.example)}})
	}
	return s
}

func textSchema(f *format) object {
	s := object{{"type", "string"}}
	if f == nil {
		return s
	}
	if !f.empty {
		s = append(s, member{"minLength", 1})
	}
	if f.maxLen > 0 {
		s = append(s, member{"maxLength", f.maxLen})
	}
	if f.pattern != nil {
		s = append(s, member{"pattern", f.pattern.String()})
	}
	if f.not != nil {
		s = append(s, member{"not", object{{"pattern", f.not.String()}}})
	}
	return s
}
