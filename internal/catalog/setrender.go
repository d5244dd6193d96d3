package catalog

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/belaydev/belay"
)

var (
	templateType   = reflect.TypeFor[belay.ApplicationTemplate]()
	generatorsType = reflect.TypeFor[[]belay.Generator]()

	formatWhen      = &format{want: `an expression that gives true or false, such as "{{ ne .stage \"retired\" }}"`, check: checkWhen}
	formatDeletion  = &format{pattern: regexp.MustCompile(`^(delete|orphan)$`), want: "delete or orphan", tell: true}
	formatOperator  = &format{pattern: regexp.MustCompile(`^(In|NotIn|Exists|DoesNotExist)$`), want: "In, NotIn, Exists or DoesNotExist", tell: true}
	formatParameter = &format{
		pattern: regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`), want: `the name of a parameter such as "name" or "path.basename"`,
	}
)

func checkWhen(s string) (string, string) {
	if !hasExpression(s) {
		return "must be an expression", `write it as "{{ … }}"`
	}
	if _, err := compile(s); err != nil {
		return err.Error(), ""
	}
	return "", ""
}

// A setTemplate is the template of an ApplicationSet as it is written. It is never
// changed after it was made.
type setTemplate struct {
	node *yaml.Node
	line int
	// before is the number of lines before the document.
	before int
	// expressions by the text that they stand in.
	expressions map[*yaml.Node]placedExpression
	// changing are the nodes with an expression in them.
	changing map[*yaml.Node]bool
	// weight is about the bytes of one application without what expressions give.
	weight int
	// generators is where spec.generators stands, for lines.
	generators *yaml.Node
}

type placedExpression struct {
	*expression
	path string
	// free: in a mapping without types, where a value keeps its own.
	free bool
}

// setDecoder is the part of a decoder that knows of ApplicationSets: first their
// templates are decoded as they are written, with texts for whatever an expression
// gives, and then, filled with the parameters of an element, like any Application.
type setDecoder struct {
	template   *setTemplate
	inTemplate int
	generators *yaml.Node

	// filled: this is a template with parameters; given are the texts that
	// expressions gave. base is where its fields are in the ApplicationSet.
	filled bool
	given  map[*yaml.Node]bool
	base   string
}

// enterSet notes where the parts of an ApplicationSet stand.
func (d *decoder) enterSet(n *yaml.Node, t reflect.Type, line int) (leave func()) {
	switch {
	case d.filled:
	case t == templateType:
		d.template = &setTemplate{node: n, line: line, before: d.before, expressions: map[*yaml.Node]placedExpression{}, generators: d.generators}
		d.inTemplate++
		return func() { d.inTemplate--; d.template.mark() }
	case t == generatorsType && d.generators == nil:
		d.generators = n
		if d.template != nil { // it stands below the template
			d.template.generators = n
		}
	}
	return func() {}
}

// templated says whether a text is an expression here, and not itself.
func (d *decoder) templated(n *yaml.Node) bool {
	return d.inTemplate > 0 && isText(n) && hasExpression(n.Value)
}

// expression takes up a text with expressions.
func (d *decoder) expression(n *yaml.Node, path string, free bool) bool {
	e, err := compile(n.Value)
	if err != nil {
		d.add(problem{line: n.Line, message: fmt.Sprintf("%s is no valid expression: %s", path, err),
			hint: `to write {{ itself, write {{ "{{" }}`})
		return false
	}
	d.template.expressions[n] = placedExpression{e, path, free}
	return true
}

// plainKey refuses expressions in keys.
func (d *decoder) plainKey(k *yaml.Node, line int, path string) {
	if d.templated(k) {
		d.add(problem{line: line, message: fmt.Sprintf("a key of %s is an expression, but only values may be", orDocument(path)), hint: "write the key out"})
	}
}

// unquoted is a hint for {{ without quotes, which YAML takes for a mapping whose key is one.
func (d *decoder) unquoted(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode && n.Style&yaml.FlowStyle != 0 && d.inTemplate > 0 {
		return `put quotes around expressions: "{{ … }}"`
	}
	return ""
}

// typed turns the text that an expression gave into what a field of another type
// needs. ok is false where there is no value yet, because the parameters are not known.
func (d *decoder) typed(n *yaml.Node, k reflect.Kind, path string) (_ *yaml.Node, ok bool) {
	if k != reflect.Bool && k != reflect.Int {
		return n, true
	}
	switch {
	case d.templated(n):
		d.expression(n, path, false)
		return n, false
	case d.given[n] && k == reflect.Bool && (n.Value == "true" || n.Value == "false"):
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: n.Value, Line: n.Line}, true
	case d.given[n] && k == reflect.Int && plainInt.MatchString(n.Value):
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: n.Value, Line: n.Line}, true
	case d.given[n]:
		want := "true or false"
		if k == reflect.Int {
			want = "a whole number"
		}
		d.add(problem{line: n.Line, message: fmt.Sprintf("%s must be %s, but the expression gives %s", path, want, quote(n.Value))})
		return n, false
	}
	return n, true
}

// mark finds the nodes that have an expression in them, and what all weigh.
func (t *setTemplate) mark() {
	t.changing = map[*yaml.Node]bool{}
	weights := map[*yaml.Node]int{} // of what aliases name as often as they do
	var walk func(n *yaml.Node) (change bool, weight int)
	walk = func(n *yaml.Node) (change bool, weight int) {
		if n == nil {
			return false, 0
		}
		if w, seen := weights[n]; seen {
			return t.changing[n], w
		}
		weights[n] = 0
		_, change = t.expressions[n]
		weight = 32 + len(n.Value)
		for _, c := range append([]*yaml.Node{n.Alias}, n.Content...) {
			ch, w := walk(c)
			change = change || ch
			weight = min(weight+w, maxSetOutput)
		}
		t.changing[n], weights[n] = change, weight
		return change, weight
	}
	_, t.weight = walk(t.node)
}

// A filler makes a template without expressions.
type filler struct {
	t      *setTemplate
	params map[string]any
	done   map[*yaml.Node]*yaml.Node
	given  map[*yaml.Node]bool
	bytes  int
	// problems are of all expressions that failed.
	problems []problem
}

// node is n with what its expressions give. Nodes without any are shared.
func (f *filler) node(n *yaml.Node) *yaml.Node {
	if n == nil || !f.t.changing[n] {
		return n
	}
	if out, ok := f.done[n]; ok {
		return out
	}
	out := *n
	f.done[n] = &out
	if e, ok := f.t.expressions[n]; ok {
		f.fill(&out, e)
		return &out
	}
	out.Alias = f.node(n.Alias)
	out.Content = make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		out.Content[i] = f.node(c)
	}
	return &out
}

// fill puts the value of an expression into a node.
func (f *filler) fill(n *yaml.Node, e placedExpression) {
	var v any
	var err error
	if e.free && e.whole {
		v, err = e.value(f.params)
	} else {
		v, err = e.execute(f.params)
	}
	if err == nil {
		err = f.set(n, v)
	}
	if err != nil {
		message := fmt.Sprintf("%s in %s: %s", quote(e.text), e.path, err)
		hint := ""
		if _, ok := errors.AsType[missingError](err); ok {
			hint = `if it may be missing, write {{ .NAME | default "…" }} or {{ if has .NAME }}`
		}
		f.problems = append(f.problems, problem{line: n.Line, message: message, hint: hint})
	}
}

var errOutput = fmt.Errorf("gives more than %d KiB", maxOutput>>10)

// set makes n the node of a value.
func (f *filler) set(n *yaml.Node, v any) error {
	if f.bytes += 16; f.bytes > maxFilled {
		return fmt.Errorf("makes the application larger than %d KiB", maxFilled>>10)
	}
	*n = yaml.Node{Kind: yaml.ScalarNode, Line: n.Line, Style: yaml.DoubleQuotedStyle}
	switch v := v.(type) {
	case nil:
		n.Tag, n.Value, n.Style = "!!null", "null", 0
	case bool:
		n.Tag, n.Style = "!!bool", 0
	case int64:
		n.Tag, n.Style = "!!int", 0
	case float64:
		n.Tag, n.Style = "!!float", 0
	case string:
		if len(v) > maxOutput {
			return errOutput
		}
		n.Tag = "!!str"
		f.given[n] = true
	case []any:
		n.Kind, n.Tag, n.Style = yaml.SequenceNode, "!!seq", 0
		for _, item := range v {
			sub := &yaml.Node{Line: n.Line}
			n.Content = append(n.Content, sub)
			if err := f.set(sub, item); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		n.Kind, n.Tag, n.Style = yaml.MappingNode, "!!map", 0
		for k, item := range v {
			key, sub := &yaml.Node{Line: n.Line}, &yaml.Node{Line: n.Line}
			n.Content = append(n.Content, key, sub)
			if err := errors.Join(f.set(key, k), f.set(sub, item)); err != nil {
				return err
			}
		}
		return nil
	}
	if v != nil {
		s, err := asText(v)
		if err != nil {
			return err
		}
		n.Value = s
	}
	if f.bytes += len(n.Value); f.bytes > maxFilled {
		return fmt.Errorf("makes the application larger than %d KiB", maxFilled>>10)
	}
	return nil
}

// maxFilled bounds what the expressions of one application give together.
const maxFilled = 256 << 10

// made is what became of one element.
type made struct {
	name     string // as far as it could be told
	doc      *document
	problems []problem
	bytes    int
}

// make fills the template for an element and decodes it as an Application.
func (t *setTemplate) make(set *document, params map[string]any) made {
	f := &filler{t: t, params: params, done: map[*yaml.Node]*yaml.Node{}, given: map[*yaml.Node]bool{}}
	node := f.node(t.node)
	out := made{bytes: f.bytes}
	d := &decoder{lines: map[string]int{}, before: t.before, maxAliased: maxAliased,
		setDecoder: setDecoder{filled: true, given: f.given, base: "spec.template."}}
	v := newValue(templateType)
	if len(f.problems) == 0 {
		d.value(node, v, "spec.template", rule{}, t.line)
	} else if meta := childOf(node, "metadata"); meta != nil { // whose it is helps to find it
		m := newValue(reflect.TypeFor[belay.TemplateMetadata]())
		d.value(meta, m, "spec.template.metadata", rule{}, t.line)
		v.FieldByName("Metadata").Set(m)
		if len(d.problems) > 0 || nameFails(f.problems) {
			v.FieldByName("Metadata").Set(newValue(m.Type()))
		}
		d.problems = nil
	}
	out.problems = slices.Concat(f.problems, d.problems)
	app, _ := reflect.TypeAssert[belay.ApplicationTemplate](v)
	if formatName.structural(app.Metadata.Name) {
		out.name = app.Metadata.Name
	}
	for i := range out.problems {
		out.problems[i].line += t.before
	}
	for name := range d.lines {
		d.lines[name] += t.before
	}
	doc := &document{key: key{"Application", out.name}, file: set.file, line: set.line, fields: d.lines, set: set.key.name,
		labels: app.Metadata.Labels, annotations: app.Metadata.Annotations, spec: app.Spec}
	doc.annotate(set)
	if len(out.problems) > 0 {
		doc.state, doc.problem = partial, &out.problems[0]
	}
	out.doc = doc
	return out
}

func nameFails(problems []problem) bool {
	for _, p := range problems {
		if strings.Contains(p.message, " in spec.template.metadata.name: ") {
			return true
		}
	}
	return false
}

// annotate says on an application which set made it.
func (doc *document) annotate(set *document) {
	spec, _ := set.spec.(belay.ApplicationSetSpec)
	annotations := map[string]string{belay.AnnotationSet: set.key.name}
	if spec.Deletion != belay.DeletionDelete {
		annotations[belay.AnnotationDeletion] = spec.Deletion
	}
	for k, v := range doc.annotations {
		if _, ok := annotations[k]; !ok {
			annotations[k] = v
		}
	}
	doc.annotations = annotations
}

// childOf is the value of a key of a mapping.
func childOf(n *yaml.Node, name string) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}

var setKind = &kind{
	name: "ApplicationSet", spec: reflect.TypeFor[belay.ApplicationSetSpec](), specRequired: true,
	doc: "An ApplicationSet makes many applications that are alike: generators yield parameters, and a template makes an Application of each element. " +
		"The applications are like those that are written by hand, with the same checks and the same limits of their project.",
	about: "Where the parameters come from, and what is made of them.",
	example: `apiVersion: belay.dev/v1alpha1
kind: ApplicationSet
metadata:
  name: apps
spec:
  generators:
    - directories:
        paths: [apps/*]
        exclude: [apps/legacy-*]
  template:
    metadata:
      name: "{{ .path.basename }}"
    spec:
      source:
        path: "{{ .path.path }}"
      destination:
        namespace: "{{ .path.basename }}"
`,
}
