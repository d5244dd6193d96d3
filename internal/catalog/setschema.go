package catalog

import (
	"reflect"
	"slices"

	"github.com/belaydev/belay"
)

// generatorSchema is the name of the one schema that contains itself, which
// stands among the $defs of a file.
const generatorSchema = "generator"

var generatorType = reflect.TypeFor[belay.Generator]()

// setDefs are the $defs that the schema of an ApplicationSet refers to.
func setDefs() object {
	return object{{generatorSchema, structSchema(newValue(generatorType), "Where parameters come from.")}}
}

// itemSchema is the schema of the items of a list that are no texts.
func itemSchema(t reflect.Type) object {
	switch {
	case t == generatorType:
		return object{{"$ref", "#/$defs/" + generatorSchema}}
	case t.Kind() == reflect.Map:
		return object{{"type", "object"}}
	}
	return structSchema(newValue(t), "")
}

// templateSchema makes the schema of an Application one of its template: wherever
// a single value stands, a text with an expression may.
func templateSchema(s object) object {
	typ, _ := s.get("type").(string)
	switch typ {
	case "string", "boolean", "integer":
		var outer, inner object
		for _, m := range s {
			switch m.name {
			case "description", "default":
				outer = append(outer, m)
			case "examples":
			default:
				inner = append(inner, m)
			}
		}
		return append(outer, member{"anyOf", []any{inner, object{{"type", "string"}, {"pattern", `\{\{`}}}})
	}
	out := make(object, len(s))
	for i, m := range s {
		out[i] = m
		v, _ := m.value.(object)
		switch {
		case v == nil:
		case m.name == "properties":
			props := make(object, len(v))
			for j, p := range v {
				props[j] = p
				if sub, ok := p.value.(object); ok {
					props[j].value = templateSchema(sub)
				}
			}
			out[i].value = props
		case m.name == "items" || m.name == "additionalProperties":
			out[i].value = templateSchema(v)
		}
	}
	return out
}

// get is the value of a member, or nil.
func (o object) get(name string) any {
	if i := slices.IndexFunc(o, func(m member) bool { return m.name == name }); i >= 0 {
		return o[i].value
	}
	return nil
}
