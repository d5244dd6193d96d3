package expr

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/decls"
	stdenv "github.com/google/cel-go/common/env"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/overloads"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/interpreter"
)

// What an expression may cost. An honest one uses a thousandth of it.
const (
	// MaxSource is the longest expression, in bytes.
	MaxSource = 4096
	// MaxCost is the number of steps of one evaluation, as CEL counts them; a few
	// milliseconds.
	MaxCost = 100_000
	// MaxInput is the weight of all values given: bytes of text, and one for each
	// number, field and element. The API server takes no larger object.
	MaxInput = 4 << 20
	// maxDepth is how deep values may nest.
	maxDepth = 100
	// maxNesting is how deep loops (all, exists, map, filter) may nest.
	maxNesting = 3
	// maxProduct bounds functions whose cost is a product of sizes, which CEL
	// counts only when it is too late.
	maxProduct = 1_000_000
)

var (
	errTooExpensive = errors.New("the expression costs too much to evaluate (look at fewer elements)")
	errTooLarge     = fmt.Errorf("the values are larger than an expression may see (%d bytes)", MaxInput)
	errTooDeep      = fmt.Errorf("the values nest deeper than an expression may see (%d levels)", maxDepth)
)

// environment is what an expression knows: the standard functions, those for
// texts, lists, sets and numbers, optional values, and the variables. It has no
// function that reads a clock, and none that binds names: nested names are how a
// short text makes a huge value.
func environment(vars []string) (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.StdLib(cel.StdLibSubset(stdenv.NewLibrarySubset().AddExcludedFunctions(stdenv.NewFunction("matches")))), matches(),
		cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true), cel.DefaultUTCTimeZone(true),
		ext.Strings(), ext.Lists(), ext.Sets(), ext.Math(),
		cel.ParserExpressionSizeLimit(MaxSource), cel.ParserRecursionLimit(64), cel.RegexProgramSizeLimit(1000),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateComprehensionNestingLimit(maxNesting)),
	}
	for _, v := range vars {
		options = append(options, cel.Variable(v, cel.DynType))
	}
	env, err := cel.NewCustomEnv(options...)
	if err != nil {
		return nil, err
	}
	known := env.Functions()
	var guarded []cel.EnvOption
	for _, name := range slices.Sorted(maps.Keys(guards)) {
		guarded = append(guarded, guardFunction(known[name], guards[name]))
	}
	return env.Extend(guarded...)
}

// meter says what a call cost. CEL's own reckoning goes by the types that are
// known at compile time, and here none is: it would take each call for one step.
type meter struct{}

// CallCost is a step, and more for each text and list that is read or made.
func (meter) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	cost := uint64(1)
	switch function {
	case operators.Index, operators.OptIndex, overloads.Size, overloads.TypeConvertType: // look at one thing only
		return &cost
	case operators.Equals, operators.NotEquals, operators.In:
		cost += uint64((content(args[0]) + content(args[1])) / 10)
		return &cost
	}
	for _, v := range slices.Concat(args, []ref.Val{result}) {
		switch v.(type) {
		case types.String, types.Bytes:
			cost += uint64(size(v) / 10)
		case traits.Lister, traits.Mapper:
			cost += uint64(size(v))
		}
	}
	return &cost
}

// guards say how much work a call is, before it is done.
var guards = map[string]func(args []ref.Val) int{
	// Each character may be replaced by the whole replacement.
	"replace": func(a []ref.Val) int { return (1 + size(a[0])) * (1 + size(a[2])) },
	"join": func(a []ref.Val) int {
		work := 0
		if len(a) > 1 {
			work = size(a[0]) * size(a[1])
		}
		return work + content(a[0])
	},
	"format":          func(a []ref.Val) int { return size(a[0]) + content(a[1]) },
	"distinct":        func(a []ref.Val) int { return comparing(size(a[0]), a[0]) },
	"sets.contains":   product,
	"sets.equivalent": product,
	"sets.intersects": product,
	"flatten":         func(a []ref.Val) int { return content(a[0]) },
}

// comparisons looks at how much two values hold before they are compared: a value
// that holds another many times over is small to make and endless to walk.
func comparisons(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	call, ok := i.(interpreter.InterpretableCall)
	if !ok || len(call.Args()) != 2 {
		return i, nil
	}
	var compare functions.BinaryOp
	switch call.Function() {
	case operators.Equals:
		compare = types.Equal
	case operators.NotEquals:
		compare = func(a, b ref.Val) ref.Val { return types.Bool(types.Equal(a, b) != types.True) }
	case operators.In:
		compare = func(a, b ref.Val) ref.Val {
			if c, ok := b.(traits.Container); ok {
				return c.Contains(a)
			}
			return types.MaybeNoSuchOverloadErr(b)
		}
	default:
		return i, nil
	}
	return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
		if content(args[0]) > maxProduct || content(args[1]) > maxProduct {
			return types.WrapErr(errTooExpensive)
		}
		return compare(args[0], args[1])
	}), nil
}

// matches is the standard function of that name with a bound on its work. It is
// declared anew because the standard one has no overload that could be guarded.
func matches() cel.EnvOption {
	match := cel.SingletonBinaryBinding(func(text, pattern ref.Val) ref.Val {
		s, ok := text.(types.String)
		if !ok {
			return types.MaybeNoSuchOverloadErr(text)
		}
		if (1+size(text))*(1+size(pattern)) > 4*maxProduct {
			return types.WrapErr(errTooExpensive)
		}
		return s.Match(pattern)
	})
	args := []*cel.Type{cel.StringType, cel.StringType}
	return cel.Function(overloads.Matches, cel.Overload(overloads.Matches, args, cel.BoolType),
		cel.MemberOverload(overloads.MatchesString, args, cel.BoolType), match)
}

// product is for functions that compare each element of one list with each of another.
func product(a []ref.Val) int { return comparing(size(a[0]), a[1]) + comparing(size(a[1]), a[0]) }

// comparing is the work of comparing all that a value holds n times.
func comparing(n int, v ref.Val) int {
	held := content(v)
	if held > maxProduct {
		return held
	}
	return n * held / 16
}

// guardFunction declares a function once more, with a look at the arguments
// before the work.
func guardFunction(fn *decls.FunctionDecl, work func([]ref.Val) int) cel.EnvOption {
	bound, err := fn.Bindings()
	if err != nil {
		return func(*cel.Env) (*cel.Env, error) { return nil, err }
	}
	var options []cel.FunctionOpt
	for _, o := range fn.OverloadDecls() {
		i := slices.IndexFunc(bound, func(b *functions.Overload) bool { return b.Operator == o.ID() })
		if i < 0 {
			continue
		}
		declare := cel.Overload
		if o.IsMemberFunction() {
			declare = cel.MemberOverload
		}
		options = append(options, declare(o.ID(), o.ArgTypes(), o.ResultType(), guarded(bound[i], work)))
	}
	return cel.Function(fn.Name(), options...)
}

func guarded(o *functions.Overload, work func([]ref.Val) int) cel.OverloadOpt {
	tooMuch := func(args ...ref.Val) bool { return work(args) > maxProduct }
	switch {
	case o.Unary != nil:
		return cel.UnaryBinding(func(a ref.Val) ref.Val {
			if tooMuch(a) {
				return types.WrapErr(errTooExpensive)
			}
			return o.Unary(a)
		})
	case o.Binary != nil:
		return cel.BinaryBinding(func(a, b ref.Val) ref.Val {
			if tooMuch(a, b) {
				return types.WrapErr(errTooExpensive)
			}
			return o.Binary(a, b)
		})
	}
	return cel.FunctionBinding(func(args ...ref.Val) ref.Val {
		if tooMuch(args...) {
			return types.WrapErr(errTooExpensive)
		}
		return o.Function(args...)
	})
}

// content is how much a value holds, with all that is in it: as far as it
// matters, which is when it is more than may be worked on.
func content(v ref.Val) int {
	left := maxProduct + 1
	holds(v, &left, maxDepth)
	return maxProduct + 1 - left
}

func holds(v ref.Val, left *int, depth int) {
	if *left <= 0 || depth == 0 {
		*left = 0
		return
	}
	*left--
	switch v := v.(type) {
	case types.String, types.Bytes:
		*left -= size(v)
	case *types.Optional:
		if v.HasValue() {
			holds(v.GetValue(), left, depth-1)
		}
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True && *left > 0; {
			k := it.Next()
			holds(k, left, depth-1)
			holds(v.Get(k), left, depth-1)
		}
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True && *left > 0; {
			holds(it.Next(), left, depth-1)
		}
	}
}

// weigh refuses values that no expression may see: reading them alone would cost
// too much.
func weigh(vars map[string]any) error {
	left := MaxInput
	for _, v := range vars {
		if err := weighOne(v, &left, maxDepth); err != nil {
			return err
		}
	}
	return nil
}

func weighOne(v any, left *int, depth int) error {
	if depth == 0 {
		return errTooDeep
	}
	*left--
	switch v := v.(type) {
	case string:
		*left -= len(v)
	case []byte:
		*left -= len(v)
	case []string:
		for _, s := range v {
			*left -= len(s) + 1
		}
	case map[string]string:
		for k, s := range v {
			*left -= len(k) + len(s) + 1
		}
	case []any:
		for _, e := range v {
			if err := weighOne(e, left, depth-1); err != nil {
				return err
			}
		}
	case []map[string]any:
		for _, e := range v {
			if err := weighOne(e, left, depth-1); err != nil {
				return err
			}
		}
	case map[string]any:
		for k, e := range v {
			*left -= len(k)
			if err := weighOne(e, left, depth-1); err != nil {
				return err
			}
		}
	}
	if *left < 0 {
		return errTooLarge
	}
	return nil
}
