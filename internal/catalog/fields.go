package catalog

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/belaydev/belay"
)

// A Field describes one field of a definition, for the reference and for hints.
type Field struct {
	// Path as messages write it: "spec.source.path"; items of a list are "spec.sources[].repo".
	Path string
	// Type in words: "text", "number", "true or false", "list of text", "mapping",
	// "mapping of text", and "reference" for a mapping that says where a credential is kept.
	Type     string
	Required bool
	// Default is the value of an absent field as JSON, or a sentence; empty if there is nothing to say.
	Default string
	// Doc is what the field means.
	Doc string
	// Example is a JSON value, or empty.
	Example string
	// Wants says what a text must look like, where Doc does not; or is empty.
	Wants string
}

// Fields lists the fields of a kind, depth first, in the order of the types;
// nil for a kind that is not served.
func Fields(kindName string) []Field {
	k := kindNamed(kindName)
	if k == nil {
		return nil
	}
	out := []Field{}
	out = append(out,
		Field{Path: "apiVersion", Type: "text", Required: true, Doc: "Version of the definitions.", Example: `"belay.dev/v1alpha1"`},
		Field{Path: "kind", Type: "text", Required: true, Doc: "Kind of the definition.", Example: `"` + k.name + `"`},
		Field{Path: "metadata", Type: "mapping", Required: true, Doc: "What the definition is called."})
	out = appendFields(out, "metadata", reflect.TypeFor[metadata](), newValue(reflect.TypeFor[metadata]()))
	out = append(out, Field{Path: "spec", Type: "mapping", Required: k.specRequired, Doc: k.about})
	return appendFields(out, "spec", k.spec, newValue(k.spec))
}

func appendFields(out []Field, path string, t reflect.Type, defaults reflect.Value) []Field {
	for _, f := range fieldsOf(t) {
		field := Field{Path: path + "." + f.name, Type: typeName(f.typ), Required: f.rule.required, Doc: f.doc, Example: f.rule.example}
		if f.rule.format != nil && f.rule.format.tell {
			field.Wants = f.rule.format.want
		}
		field.Default = f.rule.otherwise
		if d := defaultJSON(f, defaults); d != "" {
			field.Default = d
		}
		out = append(out, field)
		elem, sub, value := f.typ, field.Path, defaults.Field(f.index)
		switch elem.Kind() {
		case reflect.Pointer:
			elem = elem.Elem()
			value = newValue(elem)
		case reflect.Slice:
			elem = elem.Elem()
			value = newValue(elem)
			sub += "[]"
		}
		if elem.Kind() == reflect.Struct && (elem != generatorType || path == "spec") { // which contains itself
			out = appendFields(out, sub, elem, value)
		}
	}
	return out
}

// defaultJSON is the default of a field as JSON, or "" where the rule tells or
// nothing is to be told: absent text, lists and mappings are simply absent.
func defaultJSON(f field, defaults reflect.Value) string {
	v := defaults.Field(f.index)
	switch v.Kind() {
	case reflect.Struct, reflect.Pointer:
		return ""
	case reflect.Bool, reflect.Int:
	default:
		if v.IsZero() || f.rule.otherwise != "" {
			return ""
		}
	}
	b, err := json.Marshal(v.Interface())
	if err != nil {
		panic(fmt.Sprintf("catalog: default of %s: %v", f.name, err)) // a test marshals every default
	}
	return string(b)
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[belay.Reference]() {
			return "reference"
		}
		return "mapping"
	case reflect.Map:
		if t.Elem().Kind() == reflect.Interface {
			return "mapping"
		}
		return "mapping of " + typeName(t.Elem())
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Struct || t.Elem().Kind() == reflect.Map {
			return "list of mappings"
		}
		return "list of " + typeName(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "number"
	}
	return "text"
}

var placesCache sync.Map // kind name -> map[string][]string

// elsewhere is the one path at which the kind has a field of that name, if it
// is not a sibling: a good field in the wrong place.
func (k *kind) elsewhere(name, at string) string {
	c, ok := placesCache.Load(k.name)
	if !ok {
		places := map[string][]string{}
		for _, f := range Fields(k.name) {
			last := f.Path[strings.LastIndexByte(f.Path, '.')+1:]
			places[last] = append(places[last], f.Path)
		}
		c, _ = placesCache.LoadOrStore(k.name, places)
	}
	var found []string
	for _, p := range c.(map[string][]string)[name] {
		if strings.HasPrefix(p, "metadata.") && at != "" && at != "spec" {
			continue // a name in a list is not the definition's name
		}
		found = append(found, p)
	}
	if len(found) > 1 { // who writes it on the wrong level does not think of a list
		found = slices.DeleteFunc(found, func(p string) bool { return strings.Contains(p, "[]") })
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}
