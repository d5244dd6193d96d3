package catalog

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// An element is one set of parameters and what it comes from, for messages.
type element struct {
	params map[string]any
	from   string
}

// An input is what one generator without others in it yields, and what it was
// read from.
type input struct {
	generator belay.Generator
	tree      TreeRef
	// roots are the directories that it looks into.
	roots    []string
	found    *globDir
	files    map[string]*paramFile
	elements []element
	problems []setProblem
	// hole: it yields less than it should, and nobody knows what is missing.
	hole bool
}

// A setError stops a set as a whole. path leads to the generator.
type setError struct {
	path          []any
	code          belay.Code
	message, hint string
}

func (f *setError) Error() string { return f.message }

func failure(path []any, format string, args ...any) *setError {
	return &setError{path: path, code: belay.CodeInvalid, message: fmt.Sprintf(format, args...)}
}

// bounded refuses more elements, or larger ones, than a set may have.
func bounded(els []element) error {
	if len(els) > maxElements {
		return failure(nil, "its generators yield %d elements; the limit is %d", len(els), maxElements)
	}
	n := 0
	for i := range els {
		n += len(els[i].params)
	}
	if n > maxParameters {
		return failure(nil, "its elements have %d parameters together; the limit is %d", n, maxParameters)
	}
	return nil
}

// generators puts together what several generators yield.
func (x *expander) generators(gens []belay.Generator, id string, depth int, path ...any) ([]element, error) {
	var out []element
	for i := range gens {
		els, err := x.generator(&gens[i], fmt.Sprint(id, "/", i), depth, append(slices.Clone(path), i))
		if err != nil {
			return nil, err
		}
		out = append(out, els...)
	}
	return out, nil
}

// generator yields the elements of one generator.
func (x *expander) generator(g *belay.Generator, id string, depth int, path []any) ([]element, error) {
	if depth > maxSetDepth {
		return nil, failure(path, "generators are nested more than %d levels deep", maxSetDepth)
	}
	var els []element
	var err error
	switch {
	case g.Matrix != nil:
		els, err = x.matrix(g.Matrix, id, depth, append(path, "matrix", "generators"))
	case g.Merge != nil:
		els, err = x.merge(g.Merge, id, depth, append(path, "merge", "generators"))
	default:
		return x.leaf(g, id, path)
	}
	if err == nil {
		err = bounded(els)
	}
	if err != nil || g.As == "" {
		return els, err
	}
	return named(els, g.As), nil
}

// named puts the parameters of elements below a name.
func named(els []element, as string) []element {
	if as == "" {
		return els
	}
	out := make([]element, len(els))
	for i := range els {
		out[i] = element{map[string]any{as: els[i].params}, els[i].from}
	}
	return out
}

// leaf is a generator without others in it. What it read last time it does not
// read again while that is the same.
func (x *expander) leaf(g *belay.Generator, id string, path []any) ([]element, error) {
	before := x.prev.inputs[id]
	var in *input
	var err error
	switch {
	case g.List != nil:
		in = x.list(g, before, path)
	case g.Clusters != nil:
		in, err = x.clusters(g, before, path)
	case g.Directories != nil:
		in, err = x.directories(g, before, path)
	case g.Files != nil:
		in, err = x.parameterFiles(g, before, path)
	default:
		return nil, failure(path, "a generator is empty") // the decoder refuses it
	}
	if err != nil {
		return nil, err
	}
	x.next.inputs[id] = in
	if in != before && !in.yieldsSame(before) {
		x.same = false
	}
	if len(in.problems) > 0 {
		x.next.failing = true
	}
	if in.hole {
		x.next.unsure = true
	}
	x.next.problems = append(x.next.problems, in.problems...)
	return in.elements, nil
}

// yieldsSame says whether an input was made of one that yields the very same.
func (in *input) yieldsSame(before *input) bool {
	return before != nil && len(in.elements) > 0 && len(in.elements) == len(before.elements) && &in.elements[0] == &before.elements[0]
}

func (x *expander) list(g *belay.Generator, before *input, path []any) *input {
	// A set that could not be made keeps inputs of an earlier form of it, which may
	// have had another generator in this place.
	if before != nil && x.prev.doc == x.set && reflect.DeepEqual(before.generator, *g) {
		return before
	}
	in := &input{generator: *g}
	for i, params := range g.List.Elements {
		from := fmt.Sprintf("element %d of the list on line %d", i+1, x.line(append(slices.Clone(path), "list", "elements", i)...))
		in.elements = append(in.elements, element{params, from})
	}
	in.elements = named(in.elements, g.As)
	return in
}

// clusters yields those that are declared. While it cannot be told which these
// are, the set makes and removes nothing.
func (x *expander) clusters(g *belay.Generator, before *input, path []any) (*input, error) {
	for _, r := range g.Clusters.MatchExpressions {
		switch needs := r.Operator == belay.OperatorIn || r.Operator == belay.OperatorNotIn; {
		case needs && len(r.Values) == 0:
			return nil, failure(path, "matchExpressions: %s needs values", r.Operator)
		case !needs && len(r.Values) > 0:
			return nil, failure(path, "matchExpressions: %s takes no values", r.Operator)
		}
	}
	c := x.c
	for _, name := range c.env.clusters {
		if _, right := c.Clusters[name]; !right {
			return nil, failure(path, "which clusters there are cannot be told: Cluster %q is wrong (%s)", name, c.originOf(c.env.docs[key{"Cluster", name}]))
		}
	}
	all := c.Clusters
	if len(all) == 0 {
		if f := c.env.onlyUnknown; f != "" {
			return nil, failure(path, "which clusters there are cannot be told: %s cannot be read and may declare one", f)
		}
		all = map[string]belay.Cluster{belay.LocalCluster: {Name: belay.LocalCluster}}
	}
	var els []element
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if !g.Clusters.Matches(all[name].Labels) {
			continue
		}
		labels := map[string]any{}
		for k, v := range all[name].Labels {
			labels[k] = v
		}
		els = append(els, element{map[string]any{"name": name, "labels": labels}, "cluster " + name})
	}
	if before != nil && reflect.DeepEqual(before.generator, *g) && reflect.DeepEqual(before.elements, named(els, g.As)) {
		return before, nil
	}
	return &input{generator: *g, elements: named(els, g.As)}, nil
}

// matrix is the product of several generators.
func (x *expander) matrix(m *belay.MatrixGenerator, id string, depth int, path []any) ([]element, error) {
	if len(m.Generators) < 2 {
		return nil, failure(path, "a matrix needs two generators or more")
	}
	out := []element{{params: map[string]any{}}}
	for i := range m.Generators {
		els, err := x.generator(&m.Generators[i], fmt.Sprint(id, "/", i), depth+1, append(slices.Clone(path), i))
		if err != nil {
			return nil, err
		}
		if len(out)*len(els) > maxElements {
			return nil, failure(path, "the matrix has %d elements or more; the limit is %d", len(out)*len(els), maxElements)
		}
		product := make([]element, 0, len(out)*len(els))
		size := 0
		for _, a := range out {
			for _, b := range els {
				both, err := joinParams(a, b, path)
				if err != nil {
					return nil, err
				}
				if size += len(both.params); size > maxParameters {
					return nil, failure(path, "the elements of the matrix have more than %d parameters together", maxParameters)
				}
				product = append(product, both)
			}
		}
		out = product
	}
	return out, nil
}

func joinParams(a, b element, path []any) (element, error) {
	out := element{maps.Clone(a.params), strings.Trim(a.from+" with "+b.from, " ")}
	if a.from == "" {
		out.from = b.from
	}
	for k, v := range b.params {
		if have, ok := out.params[k]; ok && !reflect.DeepEqual(have, v) {
			return out, &setError{path: path, code: belay.CodeInvalid, message: fmt.Sprintf("%s and %s both have a parameter %q", a.from, b.from, k),
				hint: "put those of one generator below a name with as: NAME"}
		}
		out.params[k] = v
	}
	return out, nil
}

// merge changes the elements of the first generator by those of the others that
// have the same keys.
func (x *expander) merge(m *belay.MergeGenerator, id string, depth int, path []any) ([]element, error) {
	if len(m.Generators) < 2 {
		return nil, failure(path, "a merge needs two generators or more")
	}
	if len(m.Keys) == 0 {
		return nil, failure(path, "a merge needs keys")
	}
	var out []element
	at := map[string]int{}
	unsure := x.next.unsure
	for i := range m.Generators {
		els, err := x.generator(&m.Generators[i], fmt.Sprint(id, "/", i), depth+1, append(slices.Clone(path), i))
		if err != nil {
			return nil, err
		}
		if x.next.unsure && !unsure {
			// Without what is missing, elements would mean something else.
			return nil, failure(path, "something that is merged cannot be read")
		}
		seen := map[string]string{}
		for _, el := range els {
			k, err := mergeKey(m.Keys, el, append(slices.Clone(path), i))
			if err != nil {
				return nil, err
			}
			if first, twice := seen[k]; twice {
				return nil, failure(append(slices.Clone(path), i), "%s and %s have the same %s, by which they are merged", first, el.from, strings.Join(m.Keys, ", "))
			}
			seen[k] = el.from
			if i == 0 {
				at[k] = len(out)
				out = append(out, el)
			} else if j, ok := at[k]; ok {
				out[j] = element{overlay(out[j].params, el.params), out[j].from + " with " + el.from}
			}
		}
	}
	return out, nil
}

func mergeKey(keys []string, el element, path []any) (string, error) {
	var b strings.Builder
	for _, k := range keys {
		v := follow(el.params, strings.Split(k, "."), "")
		if m, ok := v.(missingError); ok {
			return "", failure(path, "%s cannot be merged: %s", el.from, m)
		}
		s, err := asText(v)
		if err != nil {
			return "", failure(path, "%s cannot be merged: %s %s", el.from, k, err)
		}
		fmt.Fprintf(&b, "%d:%s", len(s), s)
	}
	return b.String(), nil
}

// overlay is a mapping with what another one has; mappings in both are merged.
func overlay(under, over map[string]any) map[string]any {
	out := maps.Clone(under)
	for k, v := range over {
		a, isMap := out[k].(map[string]any)
		b, both := v.(map[string]any)
		if isMap && both {
			v = overlay(a, b)
		}
		out[k] = v
	}
	return out
}

// pathParams are the parameters of a path.
func pathParams(dir string) map[string]any {
	segments := []any{}
	base := ""
	if dir != "." {
		for s := range strings.SplitSeq(dir, "/") {
			segments = append(segments, s)
			base = s
		}
	}
	return map[string]any{"path": dir, "basename": base, "segments": segments}
}

// orOwn is the tree of a generator, for messages.
func (t TreeRef) orOwn() string {
	if t == (TreeRef{}) {
		return ""
	}
	return fmt.Sprintf(" of %s at %s", t.URL, cmp.Or(t.Ref, "HEAD"))
}
