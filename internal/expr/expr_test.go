package expr

import (
	"errors"
	"strings"
	"testing"
)

func object() map[string]any {
	return map[string]any{
		"metadata": map[string]any{"name": "shop", "labels": map[string]any{"team": "a"}},
		"spec":     map[string]any{"replicas": int64(3), "share": 0.5, "paused": true, "nothing": nil},
		"status": map[string]any{"conditions": []any{
			map[string]any{"type": "Ready", "status": "False", "message": "no node"},
			map[string]any{"type": "Synced", "status": "True"},
		}},
	}
}

func TestBool(t *testing.T) {
	tests := []struct {
		source string
		want   bool
	}{
		{"true", true},
		{"object.spec.replicas > 2", true},
		{"object.spec.replicas > 2.5", true},
		{"object.spec.replicas == 3.0", true},
		{"object.spec.share < 1", true},
		{"has(object.status.phase)", false},
		{"object.?status.?phase.orValue('') == ''", true},
		{"object.?status.?conditions.orValue([]).exists(c, c.type == 'Ready' && c.status == 'True')", false},
		{"object.status.conditions.filter(c, c.type == 'Ready')[0].message.contains('node')", true},
		{"object.metadata.name in ['shop', 'bar']", true},
		{"sets.contains(['a', 'b'], [object.metadata.labels.team])", true},
		{"math.greatest(object.spec.replicas, 7) == 7", true},
		{"object.metadata.name.matches('^sh.p$')", true},
		{"object.metadata.name.replace('s', 'x') == 'xhop'", true},
		{"['a', 'b'].join('-') == 'a-b' && [2, 1].sort() == [1, 2] && [1, 1].distinct() == [1]", true},
		{"'%s has %d'.format([object.metadata.name, object.spec.replicas]) == 'shop has 3'", true},
		{"object.spec.nothing == null", true},
		{"object.spec.nothing != null", false},
		{"object.status == object.status && !(object.spec != object.spec)", true},
		{"'team' in object.metadata.labels && !('x' in object.metadata.labels) && 3 in [1, 2.0, 3.0]", true},
		{"[1, 'a', null] == [1.0, 'a', null]", true},
		{"optional.of(1) == optional.of(1) && optional.none() != optional.of(1)", true},
		{"object.spec.paused", true},
		{"duration('1h') > duration('30m') && timestamp('2026-01-02T00:00:00Z') > timestamp('2026-01-01T00:00:00Z')", true},
	}
	for _, tt := range tests {
		t.Run(tt.source, func(t *testing.T) {
			p, err := Compile(tt.source, "object")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := p.Bool(map[string]any{"object": object()}); err != nil || got != tt.want {
				t.Errorf("got %v %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestString(t *testing.T) {
	for source, want := range map[string]string{
		"'as it is'":                                         "as it is",
		"object.metadata.name + '!'":                         "shop!",
		"object.spec.replicas":                               "3",
		"object.spec.share":                                  "0.5",
		"object.spec.paused":                                 "true",
		"object.spec.nothing":                                "",
		"string(object.spec.replicas)":                       "3",
		"object.status.conditions.map(c, c.type).join(', ')": "Ready, Synced",
	} {
		p, err := Compile(source, "object")
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		if got, err := p.String(map[string]any{"object": object()}); err != nil || got != want {
			t.Errorf("%s: got %q %v, want %q", source, got, err, want)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	tests := []struct{ source, want string }{
		{"", "1:1: the expression is empty"},
		{" \n ", "1:1: the expression is empty"},
		{"objct.spec", `1:1: there is no "objct"; known here: object, previous`},
		{"object.spec &&\n  objct.spec", `2:3: there is no "objct"`},
		{"object.spec ==", "1:15: "},
		{"1 + 'a'", "1:3: found no matching overload"},
		{"now() > 1", `1:4: there is no "now"`},
		{"cel.bind(a, 1, a)", `there is no "cel"`},
		{"object.name.matches('(')", "1:21: "},
		{"[1].all(a, [1].all(b, [1].all(c, [1].all(d, true))))", "nesting"},
		{strings.Repeat("!", MaxSource+1), "4097 characters; 4096 are allowed"},
		{strings.Repeat("(", 200) + "1" + strings.Repeat(")", 200), "recursion"},
	}
	for _, tt := range tests {
		_, err := Compile(tt.source, "object", "previous")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: got %v, want %q", tt.source, err, tt.want)
		}
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%.40q: the error is a %T", tt.source, err)
		}
	}
}

func TestWrongVariable(t *testing.T) {
	if _, err := Compile("true", "object", "object"); err != nil {
		t.Errorf("a variable named twice: %v", err)
	}
	if s, err := NewScope("not a name"); err == nil {
		if _, err := s.Compile("not a name"); err == nil {
			t.Error("a variable with spaces can be used")
		}
	}
}

func TestEvaluationErrors(t *testing.T) {
	tests := []struct{ source, want string }{
		{"object.status.phase == 'x'", `there is no field "phase"`},
		{"object.spec.replicas", "the result is int, want bool"},
		{"object.?spec.?paused", "the result is optional (end it with .orValue(…)), want bool"},
		{"object.spec.replicas > 'a'", "a value has a type that the expression does not expect"},
		{"other", `no such attribute`},
		{"object.metadata[object.metadata.name] == 1", "there is no field or element of that name"},
		{"int(object.metadata.name) > 1", "type conversion error from 'string' to 'int'"},
		{"object.metadata.name.matches(object.metadata.name + '(secret')", "error parsing regexp: missing closing ): a text"},
	}
	for _, tt := range tests {
		p, err := Compile(tt.source, "object", "other")
		if err != nil {
			t.Fatalf("%s: %v", tt.source, err)
		}
		if _, err := p.Bool(map[string]any{"object": object()}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.source, err, tt.want)
		}
	}
	p, err := Compile("[1]", "object")
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.String(nil); err == nil || !strings.Contains(err.Error(), "want string") {
		t.Errorf("a list is the text %q %v", s, err)
	}
}

func TestType(t *testing.T) {
	for source, want := range map[string]string{"'a'": TypeString, "1 < 2": TypeBool, "object.a": TypeAny, "object.?a": "optional_type(dyn)", "object.a == 1": TypeBool} {
		p, err := Compile(source, "object")
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		if p.Type() != want || p.Source() != source {
			t.Errorf("%s is %s, want %s", p.Source(), p.Type(), want)
		}
		if p.CanBe(TypeBool) != (want == TypeBool || want == TypeAny) {
			t.Errorf("%s can be a bool: %v", source, p.CanBe(TypeBool))
		}
	}
}

// nested asks a question about a value c that holds the object's a million times over.
func nested(question string) string {
	all := func(name string) string { return "[" + strings.Repeat(name+",", 99) + name + "]" }
	return "[" + all("object.many") + "].exists(a, [" + all("a") + "].exists(b, [" + all("b") + "].exists(c, " + question + ")))"
}

// No expression and no value makes an evaluation large or long.
func TestBombs(t *testing.T) {
	long := strings.Repeat("x", 200_000)
	many := make([]any, 5000)
	for i := range many {
		many[i] = int64(i)
	}
	values := map[string]any{"object": map[string]any{"long": long, "many": many}}
	for _, source := range []string{
		"object.many.all(a, object.many.all(b, object.many.all(c, a + b + c >= 0)))",
		"object.long.replace('', object.long) == ''",
		"object.many.map(x, object.long).join(object.long) == ''",
		"'" + strings.Repeat("%s", 250) + "'.format([" + strings.Repeat("object.long,", 249) + "'']) == ''",
		"'%s%s%s%s%s%s'.format([object.long, object.long, object.long, object.long, object.long, object.long]) == ''",
		"object.long.matches('(" + strings.Repeat("x?", 400) + ")" + strings.Repeat("x", 400) + "y')",
		"object.many.distinct() == []",
		"sets.contains(object.many, object.many)",
		"lists.range(1000000).size() == 1",
		"lists.range(9000000000).size() == 1",
		"[object.many].map(a, [a+a+a+a+a+a+a+a+a+a].map(b, [b+b+b+b+b+b+b+b+b+b].map(c, c+c+c+c)))[0][0][0].size() == 0",
		"[object.long].map(a, [a+a+a+a+a+a+a+a+a+a].map(b, [b+b+b+b+b+b+b+b+b+b].map(c, c+c+c+c)))[0][0][0] == ''",
		"object.many.map(x, object.many).flatten() == []",
		nested("c == c"), nested("c != c"), nested("c in [c]"), nested("[c].distinct() == []"), nested("sets.contains([c], [c])"),
		nested("optional.of(c) == optional.of(c)"), nested("{'a': c} == {'a': c}"),
		"[lists.range(9000).map(x, object)].exists(l, l == l)",
	} {
		p, err := Compile(source, "object")
		if err != nil {
			if !strings.Contains(err.Error(), "arg") && !strings.Contains(err.Error(), "regex") {
				t.Errorf("%.60s: %v", source, err)
			}
			continue
		}
		if _, err := p.Bool(values); err == nil || (!errors.Is(err, errTooExpensive) && !strings.Contains(err.Error(), "costs too much") && !strings.Contains(err.Error(), "exceeds maximum")) {
			t.Errorf("%.60s: got %v", source, err)
		}
	}
}

func TestLargeInput(t *testing.T) {
	p, err := Compile("true", "object")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Bool(map[string]any{"object": strings.Repeat("x", MaxInput)}); !errors.Is(err, errTooLarge) {
		t.Errorf("got %v", err)
	}
	var deep any = "x"
	for range maxDepth + 1 {
		deep = map[string]any{"a": []any{deep}}
	}
	if _, err := p.Bool(map[string]any{"object": deep}); !errors.Is(err, errTooDeep) {
		t.Errorf("got %v", err)
	}
}

// Any number of goroutines may share a program.
func TestConcurrent(t *testing.T) {
	p, err := Compile("object.spec.replicas == n && object.status.conditions.exists(c, c.type == 'Ready')", "object", "n")
	if err != nil {
		t.Fatal(err)
	}
	for n := range 8 {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			for range 100 {
				if got, err := p.Bool(map[string]any{"object": object(), "n": n}); err != nil || got != (n == 3) {
					t.Fatalf("%d: %v %v", n, got, err)
				}
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	s, err := NewScope("object")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Compile("object.?status.?conditions.orValue([]).exists(c, c.type == 'Ready' && c.status == 'True')"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBool(b *testing.B) {
	p, err := Compile("object.?status.?conditions.orValue([]).exists(c, c.type == 'Ready' && c.status == 'True')", "object")
	if err != nil {
		b.Fatal(err)
	}
	vars := map[string]any{"object": object()}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Bool(vars); err != nil {
			b.Fatal(err)
		}
	}
}
