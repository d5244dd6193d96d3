package catalog

import (
	"fmt"
	"math"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

func (d *decoder) freeMap(n *yaml.Node, v reflect.Value, path string) bool {
	if n.Kind != yaml.MappingNode {
		d.wrongType(n, path, "a mapping")
		return false
	}
	before := len(d.problems)
	m, _ := d.free(n, path).(map[string]any)
	if len(d.problems) > before || d.stopped {
		return false
	}
	v.Set(reflect.ValueOf(m))
	return true
}

// yaml11Bool are words that Helm's YAML reads as booleans and others as text.
var yaml11Bool = map[string]bool{"y": true, "yes": true, "on": true, "n": true, "no": true, "off": true}

// free turns a node into what encoding/json would make of it. Messages repeat
// no value: Helm values hold secrets more often than they should.
func (d *decoder) free(n *yaml.Node, path string) any {
	n, leave, ok := d.enter(n)
	if !ok {
		return nil
	}
	defer leave()
	switch n.Kind {
	case yaml.MappingNode:
		out := make(map[string]any, len(n.Content)/2)
		for _, e := range d.entries(n, path) {
			out[e.key] = d.free(e.node, path+"."+e.key)
		}
		return out
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			out = append(out, d.free(item, fmt.Sprintf("%s[%d]", path, i)))
		}
		return out
	}
	switch n.Tag {
	case "!!null":
		return nil
	case "!!str", "!!timestamp":
		if d.templated(n) {
			d.expression(n, path, true)
			return n.Value
		}
		if n.Style == 0 && yaml11Bool[strings.ToLower(n.Value)] {
			d.add(problem{line: n.Line, message: path + " is yes, no, on, off, y or n without quotes, which Helm and others read differently",
				hint: "write true or false, or quote it"})
		}
		return n.Value
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int":
		var i int64
		if n.Decode(&i) != nil {
			d.add(problem{line: n.Line, message: path + " is a number that does not fit 64 bits", hint: "quote it"})
		}
		return i
	case "!!float":
		var f float64
		if n.Decode(&f) != nil || math.IsInf(f, 0) || math.IsNaN(f) {
			d.add(problem{line: n.Line, message: path + " is not a number that JSON can hold", hint: "quote it"})
		}
		return f
	}
	d.add(problem{line: n.Line, message: path + " has a YAML tag that is not known", hint: "remove the tag"})
	return nil
}
