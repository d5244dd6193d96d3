package health

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/expr"
)

// maxMessage bounds a message: it is kept for each object.
const maxMessage = 500

// Variables are what the expressions of rules see: the object, its spec and
// status (an empty map where it has none), its conditions by type, and its
// annotations. A condition that the object does not have is one whose status is
// Unknown, without reason and message, as Kubernetes has it.
func Variables() []string {
	return []string{"object", "spec", "status", "conditions", "annotations"}
}

// scope of the expressions of rules.
func scope() (*expr.Scope, error) { return expr.NewScope(Variables()...) }

// A Verdict is what a rule says of an object.
type Verdict struct {
	Health belay.Health
	// Message says why; empty for Healthy.
	Message string
	// Rule is the name of the HealthRule; BuiltIn is true for one that Belay brings.
	Rule    string
	BuiltIn bool
	// Case is the number of the rule that decided, from 1; 0 where none did.
	Case int
	// Unobserved is true where the status is of an older generation.
	Unobserved bool
}

// DecidedBy names what decided, for people.
func (v *Verdict) DecidedBy() string {
	who := fmt.Sprintf("HealthRule %q", v.Rule)
	if v.BuiltIn {
		who = fmt.Sprintf("built-in rule %q", v.Rule)
	}
	if v.Case > 0 {
		return fmt.Sprintf("%s, spec.rules[%d]", who, v.Case-1)
	}
	if v.Unobserved {
		return who + ", observedGeneration"
	}
	return who + ", spec.otherwise"
}

// Check tells the health of objects by one HealthRule. It is immutable.
type Check struct {
	name    string
	builtIn bool
	spec    belay.HealthRuleSpec
	cases   []compiled
	digest  string
}

type compiled struct {
	when, message *expr.Program
}

// compile makes a check of a rule. The error names the field.
func compile(s *expr.Scope, rule *belay.HealthRule, builtIn bool) (*Check, error) {
	c := &Check{name: rule.Name, builtIn: builtIn, spec: rule.Spec, digest: digest(rule, builtIn)}
	var errs []error
	for i := range rule.Spec.Rules {
		r := &rule.Spec.Rules[i]
		var one compiled
		var err error
		if one.when, err = condition(s, r.When); err != nil {
			errs = append(errs, fmt.Errorf("spec.rules[%d].when: %w", i, err))
		}
		if r.MessageExpression != "" {
			if one.message, err = text(s, r.MessageExpression); err != nil {
				errs = append(errs, fmt.Errorf("spec.rules[%d].messageExpression: %w", i, err))
			}
		}
		c.cases = append(c.cases, one)
	}
	return c, errors.Join(errs...)
}

func condition(s *expr.Scope, source string) (*expr.Program, error) {
	return ofType(s, source, expr.TypeBool)
}

func text(s *expr.Scope, source string) (*expr.Program, error) {
	return ofType(s, source, expr.TypeString)
}

func ofType(s *expr.Scope, source, kind string) (*expr.Program, error) {
	p, err := s.Compile(source)
	if err != nil {
		return nil, err
	}
	switch {
	case p.CanBe(kind), kind == expr.TypeString && (p.Type() == "int" || p.Type() == "double"):
		return p, nil
	case strings.HasPrefix(p.Type(), "optional_type"):
		return nil, fmt.Errorf("the result is optional, want %s (end it with .orValue(…))", kind)
	}
	return nil, fmt.Errorf("the result is %s, want %s", p.Type(), kind)
}

// Syntax checks expressions of rules as they are written.
type Syntax struct{ scope *expr.Scope }

// NewSyntax makes one; keep it for many expressions.
func NewSyntax() (*Syntax, error) {
	s, err := scope()
	return &Syntax{s}, err
}

// Condition says what is wrong with an expression that has to be true or false.
func (s *Syntax) Condition(source string) error { _, err := condition(s.scope, source); return err }

// Message says what is wrong with an expression that has to give a text.
func (s *Syntax) Message(source string) error { _, err := text(s.scope, source); return err }

func digest(rule *belay.HealthRule, builtIn bool) string {
	b, err := json.Marshal(struct {
		Name    string
		BuiltIn bool
		Spec    belay.HealthRuleSpec
	}{rule.Name, builtIn, rule.Spec})
	if err != nil {
		return rule.Name // texts always encode
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// Digest identifies what the check says.
func (c *Check) Digest() string { return c.digest }

// Judge tells the health of an object, given as decoded JSON.
func (c *Check) Judge(object map[string]any) Verdict {
	v := Verdict{Rule: c.name, BuiltIn: c.builtIn}
	status := child(object, "status")
	if why := unobserved(object, status); why != "" && !c.spec.IgnoreGeneration {
		v.Health, v.Message, v.Unobserved = belay.Progressing, why, true
		return v
	}
	vars := map[string]any{
		"object": object, "spec": child(object, "spec"), "status": status,
		"conditions":  conditions(status),
		"annotations": child(child(object, "metadata"), "annotations"),
	}
	for i := range c.cases {
		yes, err := c.cases[i].when.Bool(vars)
		if err != nil {
			return c.failed(v, i, "when", err)
		}
		if !yes {
			continue
		}
		v.Case, v.Health, v.Message = i+1, c.spec.Rules[i].Health, c.spec.Rules[i].Message
		if p := c.cases[i].message; p != nil && v.Health != belay.Healthy {
			if v.Message, err = p.String(vars); err != nil {
				return c.failed(v, i, "messageExpression", err)
			}
		}
		return finish(v)
	}
	v.Health = c.spec.Otherwise
	if v.Health == "" {
		v.Health = belay.Progressing
	}
	switch {
	case len(status) == 0:
		v.Message = "it has no status yet"
	case c.builtIn:
		v.Message = "its status does not say yet"
	default:
		v.Message = fmt.Sprintf("no rule of HealthRule %q applies", c.name)
	}
	return finish(v)
}

// failed is the verdict where an expression could not be evaluated: that says
// nothing of the object.
func (c *Check) failed(v Verdict, i int, field string, err error) Verdict {
	v.Case, v.Health = i+1, belay.Unknown
	v.Message = fmt.Sprintf("%s.%s: %v", v.DecidedBy(), field, err)
	return finish(v)
}

func finish(v Verdict) Verdict {
	if v.Health == belay.Healthy {
		v.Message = ""
		return v
	}
	v.Message = strings.Join(strings.Fields(strings.ToValidUTF8(v.Message, "�")), " ")
	if v.Message == "" {
		v.Message = v.DecidedBy()
	}
	if len(v.Message) > maxMessage {
		cut := maxMessage
		for !utf8.RuneStart(v.Message[cut]) {
			cut--
		}
		v.Message = v.Message[:cut] + "…"
	}
	return v
}

// unobserved says that a status is of an older generation of the object.
func unobserved(object, status map[string]any) string {
	generation, ok := number(child(object, "metadata")["generation"])
	if !ok {
		return ""
	}
	observed, ok := number(status["observedGeneration"])
	if !ok || observed >= generation {
		return ""
	}
	return fmt.Sprintf("generation %d has not been observed yet; its status is of generation %d", generation, observed)
}

func number(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int:
		return int64(v), true
	case float64:
		return int64(v), true
	case string: // as some controllers write it
		n, err := strconv.ParseInt(v, 10, 64)
		return n, err == nil
	}
	return 0, false
}

func child(m map[string]any, name string) map[string]any {
	if c, ok := m[name].(map[string]any); ok {
		return c
	}
	return map[string]any{}
}

// conditions are the entries of status.conditions by their type.
func conditions(status map[string]any) any {
	byType := map[string]any{}
	list, _ := status["conditions"].([]any)
	for _, e := range list {
		c, _ := e.(map[string]any)
		name, _ := c["type"].(string)
		if name == "" {
			continue
		}
		whole := make(map[string]any, len(c)+3)
		whole["status"], whole["reason"], whole["message"] = "Unknown", "", ""
		maps.Copy(whole, c)
		byType[name] = whole
	}
	return expr.Lenient(byType, map[string]any{"status": "Unknown", "reason": "", "message": ""})
}
