package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	template "text/template/parse"
)

// Expressions in the templates of ApplicationSets have the syntax of Go's
// templates and a small part of their language: fields, literals, pipelines, the
// functions of setfuncs.go, if and else. There is no loop and no definition, so an
// expression ends in a time that its length bounds. They are walked here and not
// executed by text/template: values keep their types, what is missing is an
// error that knows its name, and nothing is called that is not listed.

const (
	maxExpression = 8 << 10  // bytes of one text with expressions
	maxOutput     = 64 << 10 // bytes that one text may become
)

// An expression is one text of a template, parsed.
type expression struct {
	text  string
	nodes []template.Node
	// whole: the text is nothing but one expression, whose value keeps its type.
	whole bool
}

// hasExpression says whether a text is more than itself.
func hasExpression(s string) bool { return strings.Contains(s, "{{") }

// compile parses a text. The error says what is wrong with it, without the text.
func compile(text string) (e *expression, err error) {
	defer func() {
		if r := recover(); r != nil { // the parser meets whatever lies in a repository
			e, err = nil, errors.New("the parser gave up")
		}
	}()
	if len(text) > maxExpression {
		return nil, fmt.Errorf("is longer than %d KiB", maxExpression>>10)
	}
	tree := template.New("expression")
	tree.Mode = template.SkipFuncCheck
	treeSet := map[string]*template.Tree{}
	if _, err := tree.Parse(text, "{{", "}}", treeSet); err != nil {
		return nil, errors.New(parserMessage(err))
	}
	if len(treeSet) > 1 {
		return nil, errors.New("define and block are not part of expressions")
	}
	e = &expression{text: text}
	if tree.Root != nil {
		e.nodes = tree.Root.Nodes
	}
	for _, n := range e.nodes {
		if err := checkNode(n); err != nil {
			return nil, err
		}
	}
	if len(e.nodes) == 1 {
		_, e.whole = e.nodes[0].(*template.ActionNode)
	}
	return e, nil
}

// parserMessage is what the parser says without the name and line it adds.
func parserMessage(err error) string {
	s := err.Error()
	if _, rest, ok := strings.Cut(s, "expression:"); ok {
		if _, after, ok := strings.Cut(rest, ": "); ok {
			return after
		}
	}
	return s
}

const expressionParts = "expressions have fields, functions, if and else"

// checkNode refuses what is not part of the language.
func checkNode(n template.Node) error {
	switch n := n.(type) {
	case *template.TextNode, *template.CommentNode, *template.FieldNode, *template.StringNode, *template.NumberNode, *template.BoolNode, *template.NilNode, *template.DotNode:
		return nil
	case *template.ActionNode:
		return checkPipe(n.Pipe)
	case *template.PipeNode:
		return checkPipe(n)
	case *template.IfNode:
		if err := checkPipe(n.Pipe); err != nil {
			return err
		}
		for _, list := range []*template.ListNode{n.List, n.ElseList} {
			if list == nil {
				continue
			}
			for _, sub := range list.Nodes {
				if err := checkNode(sub); err != nil {
					return err
				}
			}
		}
		return nil
	case *template.IdentifierNode:
		if _, ok := functions[n.Ident]; ok {
			return nil
		}
		names := functionNames()
		if c := nearest(n.Ident, names); c != "" {
			return fmt.Errorf("there is no function %q, did you mean %q?", n.Ident, c)
		}
		return fmt.Errorf("there is no function %q; there are %s", n.Ident, strings.Join(names, ", "))
	case *template.ChainNode:
		return checkNode(n.Node)
	case *template.VariableNode:
		return fmt.Errorf("variables such as %s are not part of expressions: %s", n, expressionParts)
	}
	word, _, _ := strings.Cut(strings.TrimLeft(n.String(), "{-"), " ")
	return fmt.Errorf("%s is not part of expressions: %s", quoteless(strings.TrimRight(word, "-}")), expressionParts)
}

func checkPipe(p *template.PipeNode) error {
	if len(p.Decl) > 0 {
		return fmt.Errorf("variables such as %s are not part of expressions: %s", p.Decl[0], expressionParts)
	}
	for _, c := range p.Cmds {
		for i, arg := range c.Args {
			if err := checkNode(arg); err != nil {
				return err
			}
			if _, call := arg.(*template.IdentifierNode); i > 0 && !call && !callable(c.Args[0]) {
				return fmt.Errorf("%s is no function and takes no arguments", c.Args[0])
			}
		}
	}
	return nil
}

func callable(n template.Node) bool {
	_, ok := n.(*template.IdentifierNode)
	return ok
}

// missingError stands for a parameter that is not there: has and default may look at
// it, everything else makes an error of it.
type missingError struct{ path, hint string }

func (m missingError) Error() string {
	s := fmt.Sprintf("there is no parameter %q", m.path)
	if m.hint != "" {
		s += ", " + m.hint
	}
	return s
}

// execute gives the text that an expression becomes.
func (e *expression) execute(params map[string]any) (string, error) {
	var b strings.Builder
	if err := run(&b, e.nodes, params); err != nil {
		return "", err
	}
	return b.String(), nil
}

// value is the value of an expression that is whole, with its type.
func (e *expression) value(params map[string]any) (any, error) {
	action, ok := e.nodes[0].(*template.ActionNode)
	if !ok {
		return e.execute(params)
	}
	v, err := evalPipe(action.Pipe, params)
	return v, present(v, err)
}

func present(v any, err error) error {
	if m, ok := v.(missingError); ok && err == nil {
		return m
	}
	return err
}

func run(b *strings.Builder, nodes []template.Node, params map[string]any) error {
	for _, n := range nodes {
		switch n := n.(type) {
		case *template.TextNode:
			b.Write(n.Text)
		case *template.ActionNode:
			v, err := evalPipe(n.Pipe, params)
			if err = present(v, err); err != nil {
				return err
			}
			s, err := asText(v)
			if err != nil {
				return fmt.Errorf("%s %w", n.Pipe, err)
			}
			b.WriteString(s)
		case *template.IfNode:
			v, err := evalPipe(n.Pipe, params)
			if err = present(v, err); err != nil {
				return err
			}
			list := n.List
			if !truth(v) {
				list = n.ElseList
			}
			if list != nil {
				if err := run(b, list.Nodes, params); err != nil {
					return err
				}
			}
		}
		if b.Len() > maxOutput {
			return fmt.Errorf("gives more than %d KiB", maxOutput>>10)
		}
	}
	return nil
}

func evalPipe(p *template.PipeNode, params map[string]any) (any, error) {
	var last any
	for i, c := range p.Cmds {
		v, err := evalCommand(c, last, i > 0, params)
		if err != nil {
			return nil, err
		}
		last = v
	}
	return last, nil
}

// evalCommand evaluates one command of a pipeline; last is what the one before
// gave, its last argument.
func evalCommand(c *template.CommandNode, last any, piped bool, params map[string]any) (any, error) {
	id, ok := c.Args[0].(*template.IdentifierNode)
	if !ok {
		if piped {
			return nil, fmt.Errorf("%s is no function and takes nothing from a pipe", c.Args[0])
		}
		return evalOperand(c.Args[0], params)
	}
	var args []any
	for _, a := range c.Args[1:] {
		v, err := evalOperand(a, params)
		if err != nil {
			return nil, err
		}
		args = append(args, v)
	}
	if piped {
		args = append(args, last)
	}
	return call(id.Ident, args)
}

func evalOperand(n template.Node, params map[string]any) (any, error) {
	switch n := n.(type) {
	case *template.DotNode:
		return params, nil
	case *template.FieldNode:
		return follow(params, n.Ident, ""), nil
	case *template.ChainNode:
		v, err := evalOperand(n.Node, params)
		if err = present(v, err); err != nil {
			return nil, err
		}
		return follow(v, n.Field, n.Node.String()), nil
	case *template.StringNode:
		return n.Text, nil
	case *template.BoolNode:
		return n.True, nil
	case *template.NilNode:
		return nil, nil
	case *template.NumberNode:
		switch {
		case n.IsInt:
			return n.Int64, nil
		case n.IsFloat:
			return n.Float64, nil
		}
		return nil, fmt.Errorf("%s is no number that can be used", n)
	case *template.PipeNode:
		return evalPipe(n, params)
	case *template.IdentifierNode:
		return call(n.Ident, nil)
	}
	return nil, fmt.Errorf("%s has no value", n)
}

// follow follows names below v.
func follow(v any, names []string, at string) any {
	for i, name := range names {
		m, ok := v.(map[string]any)
		if !ok {
			return missingError{path: strings.TrimPrefix(at+"."+strings.Join(names[:i+1], "."), "."),
				hint: fmt.Sprintf("%s is %s", orParameters(strings.TrimPrefix(at+"."+strings.Join(names[:i], "."), ".")), typeWord(v))}
		}
		next, ok := m[name]
		if !ok {
			return missingError{path: strings.TrimPrefix(at+"."+strings.Join(names[:i+1], "."), "."), hint: instead(name, m)}
		}
		v = next
	}
	return v
}

func orParameters(p string) string {
	if p == "" {
		return "what the element has"
	}
	return strconv.Quote(p)
}

// instead names what is there in place of what is not.
func instead(name string, m map[string]any) string {
	var names []string
	for k := range m {
		names = append(names, k)
	}
	slices.Sort(names)
	if c := nearest(name, names); c != "" {
		return fmt.Sprintf("did you mean %q?", c)
	}
	switch {
	case len(names) == 0:
		return "there are none"
	case len(names) > 12:
		names = append(names[:12], "…")
	}
	return "there are " + strings.Join(names, ", ")
}

// asText is a scalar as a text.
func asText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case bool:
		return strconv.FormatBool(v), nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	return "", fmt.Errorf("is %s, which is no text", typeWord(v))
}

func typeWord(v any) string {
	switch v.(type) {
	case nil:
		return "empty"
	case string:
		return "text"
	case bool:
		return "true or false"
	case int64, float64:
		return "a number"
	case []any:
		return "a list"
	}
	return "a mapping"
}

// truth is what if takes for true: what is neither false, empty nor zero.
func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case int64:
		return v != 0
	case float64:
		return v != 0
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return true
}
