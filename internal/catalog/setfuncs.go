package catalog

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// A function of expressions. It gets what was piped to it as its last argument.
type function struct {
	min, max int
	// lenient functions are given what is missing.
	lenient bool
	do      func(args []any) (any, error)
	// about shows its use.
	about string
}

// functions are all there are: text in, text out, and what if needs. None loops
// over anything, reads anything, or knows the time.
var functions = map[string]function{
	"lower":      {1, 1, false, texts(1, func(s []string) (any, error) { return strings.ToLower(s[0]), nil }), "lower-case letters"},
	"upper":      {1, 1, false, texts(1, func(s []string) (any, error) { return strings.ToUpper(s[0]), nil }), "upper-case letters"},
	"trim":       {1, 1, false, texts(1, func(s []string) (any, error) { return strings.TrimSpace(s[0]), nil }), "without white space around it"},
	"trimPrefix": {2, 2, false, texts(2, func(s []string) (any, error) { return strings.TrimPrefix(s[1], s[0]), nil }), `trimPrefix "v" .tag`},
	"trimSuffix": {2, 2, false, texts(2, func(s []string) (any, error) { return strings.TrimSuffix(s[1], s[0]), nil }), `trimSuffix ".yaml" .path.filename`},
	"replace":    {3, 3, false, texts(3, replace), `replace "_" "-" .name`},
	"trunc":      {2, 2, false, trunc, "trunc 20 .name: the first 20 characters"},
	"slug":       {1, 1, false, texts(1, func(s []string) (any, error) { return slug(s[0]), nil }), "a DNS label: lower case, everything else becomes -"},
	"hasPrefix":  {2, 2, false, texts(2, func(s []string) (any, error) { return strings.HasPrefix(s[1], s[0]), nil }), `hasPrefix "prod" .name`},
	"hasSuffix":  {2, 2, false, texts(2, func(s []string) (any, error) { return strings.HasSuffix(s[1], s[0]), nil }), `hasSuffix "-eu" .name`},
	"contains":   {2, 2, false, texts(2, func(s []string) (any, error) { return strings.Contains(s[1], s[0]), nil }), `contains "eu" .name`},
	"join":       {2, 2, false, joined, `join "-" .path.segments`},
	"index":      {2, 2, false, index, `index .labels "example.com/tier", index .path.segments 1`},
	"default":    {2, 2, true, orDefault, `default "main" .ref: where the parameter is missing or empty`},
	"has":        {1, 1, true, func(a []any) (any, error) { _, no := a[0].(missingError); return !no, nil }, "whether the parameter is there"},
	"eq":         {2, 2, false, func(a []any) (any, error) { return same(a[0], a[1]), nil }, "eq .a .b"},
	"ne":         {2, 2, false, func(a []any) (any, error) { return !same(a[0], a[1]), nil }, "ne .a .b"},
	"not":        {1, 1, false, func(a []any) (any, error) { return !truth(a[0]), nil }, "not .a"},
	"and": {2, 8, false, func(a []any) (any, error) {
		return !slices.ContainsFunc(a, func(v any) bool { return !truth(v) }), nil
	}, "and .a .b"},
	"or": {2, 8, false, func(a []any) (any, error) { return slices.ContainsFunc(a, truth), nil }, "or .a .b"},
}

func functionNames() []string { return slices.Sorted(maps.Keys(functions)) }

func call(name string, args []any) (any, error) {
	f := functions[name]
	if len(args) < f.min || len(args) > f.max {
		want := fmt.Sprint(f.min)
		if f.max > f.min {
			want = fmt.Sprintf("%d to %d", f.min, f.max)
		}
		return nil, fmt.Errorf("%s takes %s arguments, not %d (%s)", name, want, len(args), f.about)
	}
	if !f.lenient {
		for _, a := range args {
			if m, ok := a.(missingError); ok {
				return nil, m
			}
		}
	}
	v, err := f.do(args)
	if err != nil {
		if _, ok := errors.AsType[missingError](err); ok {
			return nil, err
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// texts makes a function of n texts; numbers and booleans are taken for texts.
func texts(n int, f func([]string) (any, error)) func([]any) (any, error) {
	return func(args []any) (any, error) {
		s := make([]string, n)
		for i := range s {
			t, err := asText(args[i])
			if err != nil {
				return nil, fmt.Errorf("argument %d %w", i+1, err)
			}
			s[i] = t
		}
		return f(s)
	}
}

func replace(s []string) (any, error) {
	if grown := len(s[2]) + strings.Count(s[2], s[0])*max(len(s[1])-len(s[0]), 0); grown > maxOutput {
		return nil, fmt.Errorf("gives more than %d KiB", maxOutput>>10)
	}
	return strings.ReplaceAll(s[2], s[0], s[1]), nil
}

func trunc(args []any) (any, error) {
	n, ok := args[0].(int64)
	if !ok || n < 0 {
		return nil, errors.New("the first argument must be a number of characters")
	}
	s, err := asText(args[1])
	if err != nil {
		return nil, fmt.Errorf("argument 2 %w", err)
	}
	if r := []rune(s); int64(len(r)) > n {
		s = string(r[:n])
	}
	return s, nil
}

// slug makes a DNS label of a text, as people write them.
func slug(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') {
			if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
				b.WriteByte('-')
			}
			continue
		}
		b.WriteRune(r)
		if b.Len() > 63 {
			break
		}
	}
	out := b.String()
	return strings.TrimRight(out[:min(len(out), 63)], "-")
}

func joined(args []any) (any, error) {
	sep, err := asText(args[0])
	if err != nil {
		return nil, fmt.Errorf("argument 1 %w", err)
	}
	list, ok := args[1].([]any)
	if !ok {
		return nil, fmt.Errorf("argument 2 is %s, not a list", typeWord(args[1]))
	}
	var parts []string
	size := 0
	for _, v := range list {
		s, err := asText(v)
		if err != nil {
			return nil, fmt.Errorf("an item of the list %w", err)
		}
		if size += len(s) + len(sep); size > maxOutput {
			return nil, fmt.Errorf("gives more than %d KiB", maxOutput>>10)
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, sep), nil
}

func index(args []any) (any, error) {
	switch v := args[0].(type) {
	case map[string]any:
		k, ok := args[1].(string)
		if !ok {
			return nil, fmt.Errorf("a mapping has texts as keys, not %s", typeWord(args[1]))
		}
		if out, ok := v[k]; ok {
			return out, nil
		}
		return missingError{path: k, hint: instead(k, v)}, nil
	case []any:
		i, ok := args[1].(int64)
		if !ok {
			return nil, fmt.Errorf("a list has numbers as keys, not %s", typeWord(args[1]))
		}
		if i < 0 {
			i += int64(len(v)) // from the end
		}
		if i < 0 || i >= int64(len(v)) {
			return missingError{path: fmt.Sprint(args[1]), hint: fmt.Sprintf("the list has %d items", len(v))}, nil
		}
		return v[i], nil
	}
	return nil, fmt.Errorf("%s has no keys", typeWord(args[0]))
}

func orDefault(args []any) (any, error) {
	if m, ok := args[0].(missingError); ok {
		return nil, m
	}
	switch v := args[1].(type) {
	case missingError, nil:
		return args[0], nil
	case string:
		if v == "" {
			return args[0], nil
		}
	}
	return args[1], nil
}

// same compares scalars; a number equals the text that looks like it, because
// YAML makes a number of what was meant as a text.
func same(a, b any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	s, errA := asText(a)
	t, errB := asText(b)
	if errA == nil && errB == nil {
		return s == t
	}
	return reflect.DeepEqual(a, b)
}
