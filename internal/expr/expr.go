// Package expr compiles and evaluates the expressions of definitions: CEL, as in
// Kubernetes' own admission policies.
//
// It is pure: an expression sees the values that it is given and nothing else. It
// cannot read a file, a clock or a cluster, and what it may cost is bounded. The
// package must not know what the values mean, nor what the answer is for.
package expr

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
)

// The types of [Program.Type] that matter to callers.
const (
	TypeBool   = "bool"
	TypeString = "string"
	TypeAny    = "dyn" // known only when it is evaluated
)

// Program is a compiled expression. It is immutable: any number of goroutines
// may evaluate it at once.
type Program struct {
	source  string
	kind    string
	program cel.Program
}

// Error says what is wrong with an expression, and where in it.
type Error struct {
	Line, Column int // from 1
	Message      string
}

// Error is "line:column: message".
func (e *Error) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message) }

// Scope is what expressions may use: the variables, beside the functions that all
// have. Making one costs more than an expression, so keep it for many.
type Scope struct {
	vars []string
	env  *cel.Env
}

// NewScope makes a scope of the names of variables; their values may be anything.
func NewScope(vars ...string) (*Scope, error) {
	env, err := environment(vars)
	if err != nil {
		return nil, fmt.Errorf("variables %s: %w", strings.Join(vars, ", "), err)
	}
	return &Scope{vars: vars, env: env}, nil
}

// Compile makes a program of an expression in which the named variables may be
// used; their values may be anything. The error is an [*Error] if the expression
// is wrong. Whoever compiles many keeps a [Scope].
func Compile(source string, vars ...string) (*Program, error) {
	s, err := NewScope(vars...)
	if err != nil {
		return nil, err
	}
	return s.Compile(source)
}

// Compile makes a program of an expression. The error is an [*Error].
func (s *Scope) Compile(source string) (*Program, error) {
	if strings.TrimSpace(source) == "" {
		return nil, &Error{Line: 1, Column: 1, Message: "the expression is empty"}
	}
	if len(source) > MaxSource {
		return nil, &Error{Line: 1, Column: 1, Message: fmt.Sprintf("the expression has %d characters; %d are allowed", len(source), MaxSource)}
	}
	ast, issues := s.env.Compile(source)
	if issues.Err() != nil {
		return nil, explain(issues, s.vars)
	}
	p, err := s.env.Program(ast, cel.CostTracking(meter{}), cel.CostLimit(MaxCost), cel.CustomDecoratorV2(comparisons))
	if err != nil {
		return nil, &Error{Line: 1, Column: 1, Message: err.Error()}
	}
	return &Program{source: source, kind: ast.OutputType().String(), program: p}, nil
}

// Source is the text that the program was compiled from.
func (p *Program) Source() string { return p.source }

// Type is the type of the result as far as it is known without values: "bool",
// "string", …; "dyn" when only the values tell.
func (p *Program) Type() string { return p.kind }

// CanBe reports whether the result may be of a type.
func (p *Program) CanBe(kind string) bool { return p.kind == kind || p.kind == TypeAny }

// Bool evaluates an expression that answers yes or no. The error says what went
// wrong, such as a field that is not there.
func (p *Program) Bool(vars map[string]any) (bool, error) {
	v, err := p.eval(vars)
	if err != nil {
		return false, err
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, fmt.Errorf("the result is %s, want bool", article(v))
	}
	return bool(b), nil
}

// String evaluates an expression that answers with a text. Numbers and booleans
// are written out; null is the empty text.
func (p *Program) String(vars map[string]any) (string, error) {
	v, err := p.eval(vars)
	if err != nil {
		return "", err
	}
	switch v := v.(type) {
	case types.String:
		return string(v), nil
	case types.Int:
		return strconv.FormatInt(int64(v), 10), nil
	case types.Uint:
		return strconv.FormatUint(uint64(v), 10), nil
	case types.Double:
		return strconv.FormatFloat(float64(v), 'g', -1, 64), nil
	case types.Bool:
		return strconv.FormatBool(bool(v)), nil
	case types.Null:
		return "", nil
	}
	return "", fmt.Errorf("the result is %s, want string", article(v))
}

func (p *Program) eval(vars map[string]any) (ref.Val, error) {
	if err := weigh(vars); err != nil {
		return nil, err
	}
	v, _, err := p.program.Eval(vars)
	if err != nil {
		return nil, p.plain(err)
	}
	return v, nil
}

// article names the type of a result in a sentence.
func article(v ref.Val) string {
	if v.Type() == types.OptionalType {
		return "optional (end it with .orValue(…))"
	}
	return v.Type().TypeName()
}

// explain is the first problem of an expression; what follows from it says little.
func explain(issues *cel.Issues, vars []string) *Error {
	all := issues.Errors()
	if len(all) == 0 {
		return &Error{Line: 1, Column: 1, Message: issues.Err().Error()}
	}
	first := all[0]
	message := strings.TrimSuffix(first.Message, " (in container '')")
	message = strings.TrimPrefix(message, "Syntax error: ")
	message, _, _ = strings.Cut(message, " expecting {") // every token there is
	message = strings.ReplaceAll(message, "'<EOF>'", "end")
	if name, ok := strings.CutPrefix(message, "undeclared reference to '"); ok {
		name = strings.TrimSuffix(name, "'")
		message = fmt.Sprintf("there is no %q; known here: %s", name, strings.Join(vars, ", "))
		if len(vars) == 0 {
			message = fmt.Sprintf("there is no %q", name)
		}
	}
	return &Error{Line: first.Location.Line(), Column: first.Location.Column() + 1, Message: message}
}

// plain says what went wrong without the words of the evaluator's own tree.
func (p *Program) plain(err error) error {
	if cancelled, ok := errors.AsType[interpreter.EvalCancelledError](err); ok && cancelled.Cause == interpreter.CostLimitExceeded {
		return errTooExpensive
	}
	message := err.Error()
	if key, ok := strings.CutPrefix(message, "no such key: "); ok {
		if !identifier.MatchString(key) || !strings.Contains(p.source, key) { // a value, which may be a secret
			return errors.New("there is no field or element of that name")
		}
		return fmt.Errorf("there is no field %q (ask has(…) first, or write .?%[1]s and .orValue(…))", key)
	}
	if strings.HasPrefix(message, "no such overload") {
		return errors.New("a value has a type that the expression does not expect: " + message)
	}
	return errors.New(quoted.ReplaceAllString(message, "a text")) // which may be a secret
}

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// quoted are the values that the evaluator repeats in its errors.
var quoted = regexp.MustCompile("\"[^\"]*\"|`[^`]*`")

// size is how many elements or characters a value has; 1 for all others.
func size(v ref.Val) int {
	if s, ok := v.(traits.Sizer); ok {
		if n, ok := s.Size().(types.Int); ok {
			return int(n)
		}
	}
	return 1
}
