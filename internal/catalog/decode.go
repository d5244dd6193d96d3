package catalog

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/belaydev/belay"
)

const (
	maxDepth    = 64     // levels of nesting
	maxAliased  = 20_000 // nodes visited through aliases in one document
	maxProblems = 50     // reported per document
)

// A problem is one thing wrong with a document, before the file is known.
type problem struct {
	line          int
	message, hint string
	// structural problems are those a JSON Schema finds as well.
	structural bool
}

// A decoder fills Go values from YAML nodes and collects every problem on the way.
type decoder struct {
	kind     *kind
	problems []problem
	// before is the number of lines before the document.
	before int
	// lines of the fields in tracked, as far as the document has them.
	lines map[string]int

	depth      int
	inAlias    int
	aliased    int
	maxAliased int
	secret     int  // > 0 inside a reference to a credential
	setDecoder      // what it knows of ApplicationSets
	stopped    bool // a limit was hit; nothing more is decoded
}

// tracked are the fields that checks across definitions complain about.
var tracked = map[string]bool{
	"metadata.name": true, "spec": true, "spec.project": true, "spec.source": true, "spec.source.repo": true, "spec.source.path": true,
	"spec.destination": true, "spec.destination.cluster": true, "spec.url": true, "spec.sources": true, "spec.source.chart": true,
}

// tracks says whether the line of a field is noted.
func tracks(field string) bool {
	if tracked[field] {
		return true
	}
	rest, ok := strings.CutPrefix(field, "spec.sources[")
	return ok && strings.Count(rest, ".") == 1
}

func (d *decoder) add(p problem) {
	if len(d.problems) < maxProblems {
		d.problems = append(d.problems, p)
	} else {
		d.stopped = true
	}
}

// wrong reports a problem that a schema finds too.
func (d *decoder) wrong(line int, hint, format string, args ...any) {
	d.add(problem{line: line, message: fmt.Sprintf(format, args...), hint: hint, structural: true})
}

// enter counts one visited node and resolves aliases. ok is false when a limit
// is hit. Each ok enter needs a leave.
func (d *decoder) enter(n *yaml.Node) (node *yaml.Node, leave func(), ok bool) {
	if d.stopped {
		return nil, nil, false
	}
	alias := n.Kind == yaml.AliasNode
	if alias {
		n = n.Alias
		d.inAlias++
	}
	if d.inAlias > 0 {
		d.aliased++
	}
	d.depth++
	leave = func() {
		d.depth--
		if alias {
			d.inAlias--
		}
	}
	switch {
	case d.depth > maxDepth:
		d.add(problem{line: n.Line, message: fmt.Sprintf("is nested more than %d levels deep", maxDepth)})
	case d.aliased > d.maxAliased:
		d.add(problem{line: n.Line, message: fmt.Sprintf("repeats more than %d nodes by aliases", d.maxAliased), hint: "write it out, or use a values file"})
	default:
		return n, leave, true
	}
	d.stopped = true
	leave()
	return nil, nil, false
}

// value decodes n into v. line is where the key stands, for what has no line of
// its own. It reports whether something was set.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string, r rule, line int) bool {
	n, leave, ok := d.enter(n)
	if !ok {
		return false
	}
	defer leave()
	if credential(v.Type()) || v.Kind() == reflect.Pointer && credential(v.Type().Elem()) {
		d.secret++
		defer func() { d.secret-- }()
	}
	if isNull(n) {
		d.empty(v.Type(), path, line)
		return false
	}
	if v.Type() == templateType || v.Type() == generatorsType {
		defer d.enterSet(n, v.Type(), line)()
	}
	if n, ok = d.typed(n, v.Kind(), path); !ok {
		return true
	}
	switch v.Kind() {
	case reflect.Pointer:
		elem := newValue(v.Type().Elem())
		if !d.mapping(n, elem, path, line) {
			return false
		}
		v.Set(reflect.New(elem.Type()))
		v.Elem().Set(elem)
		return true
	case reflect.Struct:
		return d.mapping(n, v, path, line)
	case reflect.Slice:
		return d.list(n, v, path, r)
	case reflect.Map:
		if v.Type().Elem().Kind() == reflect.Interface {
			return d.freeMap(n, v, path)
		}
		return d.stringMap(n, v, path, r)
	case reflect.String:
		s, ok := d.text(n, path, r.format)
		if ok {
			v.SetString(s)
		}
		return ok
	case reflect.Bool:
		if n.Kind != yaml.ScalarNode || n.Tag != "!!bool" {
			d.wrongType(n, path, "true or false")
			return false
		}
		v.SetBool(strings.EqualFold(n.Value, "true"))
		return true
	case reflect.Int:
		return d.number(n, v, path, r)
	}
	panic("catalog: no decoding for " + v.Type().String()) // a test decodes every field
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func (d *decoder) empty(t reflect.Type, path string, line int) {
	hint := "give it a value or leave it out"
	if t.Kind() == reflect.Pointer && t.Elem().NumField() == 0 {
		hint = "write {} if it is meant to be there without options"
	}
	d.wrong(line, hint, "%s is empty", path)
}

func (d *decoder) wrongType(n *yaml.Node, path, want string) {
	if d.secret > 0 {
		d.wrong(n.Line, "", "%s must be %s, but is %s", path, want, describe(n))
		return
	}
	hint := d.unquoted(n)
	if n.Kind == yaml.ScalarNode && strings.HasPrefix(want, "text") {
		hint = "quote it"
	}
	d.wrong(n.Line, hint, "%s must be %s, but is %s", path, want, describe(n))
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.Tag {
	case "!!str", "!!timestamp", "!!merge":
		return "text"
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	case "!!null":
		return "empty"
	}
	return "of an unknown type"
}

// isText says whether a scalar is a string: timestamps are strings that look
// like dates, which JSON does not tell apart.
func isText(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && (n.Tag == "!!str" || n.Tag == "!!timestamp")
}

func (d *decoder) text(n *yaml.Node, path string, f *format) (string, bool) {
	if !isText(n) {
		want := "text"
		if f == formatDuration {
			want = f.want // a number in quotes would be none either
		}
		d.wrongType(n, path, want)
		return "", false
	}
	if d.templated(n) {
		return n.Value, d.expression(n, path, false)
	}
	return n.Value, d.checkText(n.Line, path, n.Value, f)
}

// checkText reports whether s keeps the format; if not it says why, with the
// value only where that cannot be a credential.
func (d *decoder) checkText(line int, path, s string, f *format) bool {
	if f == nil {
		return true
	}
	shown := ""
	if !f.secret && d.secret == 0 {
		shown = fmt.Sprintf(", not %s", quote(s))
	}
	switch {
	case s == "" && !f.empty:
		d.wrong(line, "it must be "+f.want, "%s is empty", path)
		return false
	case !f.structural(s):
		d.wrong(line, "", "%s must be %s%s", path, f.want, shown)
		return false
	case f.check != nil:
		if message, hint := f.check(s); message != "" {
			if shown != "" {
				path += " " + quote(s)
			}
			d.add(problem{line: line, message: path + " " + message, hint: hint})
			return false
		}
	}
	return true
}

// quote shortens what a message repeats.
func quote(s string) string {
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return strconv.Quote(s)
}

var plainInt = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

func (d *decoder) number(n *yaml.Node, v reflect.Value, path string, r rule) bool {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" {
		d.wrongType(n, path, "a whole number")
		return false
	}
	i, err := strconv.Atoi(n.Value)
	if err != nil || !plainInt.MatchString(n.Value) {
		d.add(problem{line: n.Line, message: path + " must be a whole number in decimal digits"})
		return false
	}
	switch {
	case r.min != nil && r.max != nil && (i < *r.min || i > *r.max):
		d.wrong(n.Line, "", "%s must be between %d and %d, not %d", path, *r.min, *r.max, i)
		return false
	case r.min != nil && i < *r.min:
		d.wrong(n.Line, "", "%s must be at least %d, not %d", path, *r.min, i)
		return false
	}
	v.SetInt(int64(i))
	return true
}

func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, r rule) bool {
	if n.Kind != yaml.SequenceNode {
		d.wrongType(n, path, "a list")
		return false
	}
	out := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	ok := true
	for i, item := range n.Content {
		elem := newValue(v.Type().Elem())
		if d.value(item, elem, fmt.Sprintf("%s[%d]", path, i), rule{format: r.format}, item.Line) {
			out = reflect.Append(out, elem)
		} else {
			ok = false
		}
	}
	if ok {
		v.Set(out)
	}
	return ok
}

func (d *decoder) stringMap(n *yaml.Node, v reflect.Value, path string, r rule) bool {
	if n.Kind != yaml.MappingNode {
		d.wrongType(n, path, "a mapping")
		return false
	}
	out := reflect.MakeMap(v.Type())
	ok := true
	for _, e := range d.entries(n, path) {
		elem := newValue(v.Type().Elem())
		ok = d.checkText(e.line, "a key of "+path, e.key, r.keys) && ok
		if d.value(e.node, elem, path+"."+e.key, rule{format: r.format}, e.line) {
			out.SetMapIndex(reflect.ValueOf(e.key), elem)
		} else {
			ok = false
		}
	}
	if ok {
		v.Set(out)
	}
	return ok
}

// An entry is one key of a mapping with its value.
type entry struct {
	key  string
	line int
	node *yaml.Node
}

// entries lists a mapping's keys, with merge keys (<<) folded in, and reports
// keys that are given twice.
func (d *decoder) entries(n *yaml.Node, path string) []entry {
	out := make([]entry, 0, len(n.Content)/2)
	seen := map[string]int{}
	var merges []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		line := k.Line
		if k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		switch {
		case k.Kind != yaml.ScalarNode:
			d.add(problem{line: line, message: fmt.Sprintf("a key of %s must be text, but is %s", orDocument(path), describe(k)), hint: d.unquoted(n)})
		case k.Tag == "!!merge":
			merges = append(merges, v)
		case seen[k.Value] != 0 && d.secret > 0:
			d.add(problem{line: line, message: fmt.Sprintf("a key is given twice in %s, first on line %d", orDocument(path), d.before+seen[k.Value]), hint: "keep one of them"})
		case seen[k.Value] != 0:
			d.add(problem{line: line, message: fmt.Sprintf("%s is given twice in %s, first on line %d", quote(k.Value), orDocument(path), d.before+seen[k.Value]), hint: "keep one of them"})
		default:
			seen[k.Value] = line
			d.plainKey(k, line, path)
			out = append(out, entry{k.Value, line, v})
		}
	}
	for _, m := range merges {
		out = d.merge(m, path, out, seen)
	}
	return out
}

// merge adds the entries of a merged mapping, or of each of a list of them,
// that are not there yet.
func (d *decoder) merge(n *yaml.Node, path string, out []entry, seen map[string]int) []entry {
	n, leave, ok := d.enter(n)
	if !ok {
		return out
	}
	defer leave()
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			out = d.merge(item, path, out, seen)
		}
	case yaml.MappingNode:
		if d.inAlias > 0 {
			d.aliased += len(n.Content)
		}
		for _, e := range d.entries(n, path) {
			if seen[e.key] == 0 {
				seen[e.key] = e.line
				out = append(out, e)
			}
		}
	default:
		d.add(problem{line: n.Line, message: "<< must name a mapping, but is " + describe(n)})
	}
	return out
}

func orDocument(path string) string {
	if path == "" {
		return "the document"
	}
	return path
}

// mapping decodes n into the struct v. It reports whether n was a mapping and
// everything in it was right.
func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string, line int) bool {
	t := v.Type()
	if n.Kind != yaml.MappingNode {
		if credential(t) {
			d.wrong(n.Line, "a credential that was written here is in the history of the repository: revoke it",
				"%s must be a mapping that says where the value is kept (%s), but is %s", path, fieldNames(t), describe(n))
			return false
		}
		d.wrongType(n, path, "a mapping with "+fieldNames(t))
		return false
	}
	before := len(d.problems)
	fields := fieldsOf(t)
	present, misspelt := map[string]int{}, map[string]bool{}
	for _, e := range d.entries(n, path) {
		f := fieldNamed(fields, e.key)
		if f == nil {
			misspelt[d.unknown(e, t, path)] = true
			continue
		}
		present[e.key] = e.line
		sub := join(path, e.key)
		if name := strings.TrimPrefix(sub, d.base); tracks(name) || t == reflect.TypeFor[belay.Dependency]() {
			d.lines[name] = e.line
		}
		d.value(e.node, v.Field(f.index), sub, f.rule, e.line)
	}
	if d.stopped {
		return false
	}
	for _, f := range fields {
		if f.rule.required && present[f.name] == 0 && !misspelt[f.name] { // which is the same mistake
			d.wrong(line, f.doc, "%s is missing", join(path, f.name))
		}
	}
	d.choose(t, path, line, present, misspelt)
	if src, ok := reflect.TypeAssert[*belay.Source](v.Addr()); ok && len(d.problems) == before && d.template == nil {
		d.source(n, src, path)
	}
	return len(d.problems) == before
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func fieldNamed(fields []field, name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

func fieldNames(t reflect.Type) string {
	var names []string
	for _, f := range fieldsOf(t) {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// unknown reports a key that no field has, and returns the field of the mapping
// that was most likely meant; "" if there is none.
func (d *decoder) unknown(e entry, t reflect.Type, path string) (meant string) {
	names := fieldNames(t)
	hint := orDocument(path) + " has " + names
	if names == "" {
		hint = path + " has no fields"
	}
	switch {
	case d.secret > 0:
		d.wrong(e.line, hint, "unknown field in %s", path)
		return ""
	case d.kind != nil:
		if p := d.kind.elsewhere(e.key, path); p != "" {
			d.wrong(e.line, hint, "unknown field %s in %s, did you mean %s?", quote(e.key), orDocument(path), p)
			return ""
		}
	}
	if c := nearest(e.key, strings.Split(names, ", ")); c != "" {
		d.wrong(e.line, hint, "unknown field %s in %s, did you mean %q?", quote(e.key), orDocument(path), c)
		return c
	}
	d.wrong(e.line, hint, "unknown field %s in %s", quote(e.key), orDocument(path))
	return ""
}

// choose reports fields that exclude each other.
func (d *decoder) choose(t reflect.Type, path string, line int, present map[string]int, misspelt map[string]bool) {
	c, ok := choices[t.Name()]
	if !ok {
		return
	}
	var got []string
	for _, f := range c.fields {
		if present[f] != 0 {
			got = append(got, f)
			line = max(line, present[f])
		}
	}
	all := strings.Join(c.fields[:len(c.fields)-1], ", ") + " and " + c.fields[len(c.fields)-1]
	switch {
	case len(got) > 1:
		d.wrong(line, "keep one of them", "%s has %s, but only one of %s may be set", path, strings.Join(got, " and "), all)
	case len(got) == 0 && c.exactly && !slices.ContainsFunc(c.fields, func(f string) bool { return misspelt[f] }):
		d.wrong(line, "", "%s must have one of %s", path, all)
	}
}

// source cleans the path of a source and holds the values files inside the repository.
func (d *decoder) source(n *yaml.Node, src *belay.Source, path string) {
	src.Path = cleanPath(src.Path)
	if src.Helm == nil {
		return
	}
	for i, f := range src.Helm.ValuesFiles {
		full := src.Path + "/" + f
		if strings.HasPrefix(f, "/") {
			full = f
		}
		if escapes(full) {
			d.add(problem{line: lineOf(n, "helm", "valuesFiles", i), message: fmt.Sprintf("%s.helm.valuesFiles[%d] %s leaves the repository", path, i, quote(f)),
				hint: "values files lie in the same repository as the chart"})
		}
	}
}

// lineOf follows keys and indices below n as far as they are written there.
func lineOf(n *yaml.Node, steps ...any) int {
	for _, step := range steps {
		next := -1
		switch step := step.(type) {
		case int:
			next = step
		case string:
			for i := 0; i+1 < len(n.Content); i += 2 {
				if n.Content[i].Value == step {
					next = i + 1
				}
			}
		}
		if next < 0 || next >= len(n.Content) {
			break
		}
		n = n.Content[next]
	}
	return n.Line
}

// escapes says whether a path climbs above its beginning.
func escapes(p string) bool {
	depth := 0
	for seg := range strings.SplitSeq(p, "/") {
		switch seg {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}
