package expr

import (
	"fmt"
	"reflect"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// Lenient is a map for expressions that has a value for every key: missing is
// that of keys it does not hold. "key in map" still tells which it holds.
func Lenient(entries map[string]any, missing any) any {
	m, ok := types.DefaultTypeAdapter.NativeToValue(entries).(traits.Mapper)
	if !ok {
		return entries
	}
	return lenient{Mapper: m, missing: types.DefaultTypeAdapter.NativeToValue(missing)}
}

type lenient struct {
	traits.Mapper
	missing ref.Val
}

// Find gives the value of a key.
func (l lenient) Find(key ref.Val) (ref.Val, bool) {
	if v, found := l.Mapper.Find(key); found {
		return v, true
	}
	if _, ok := key.(types.String); !ok {
		return nil, false
	}
	return l.missing, true
}

// Get gives the value of a key.
func (l lenient) Get(key ref.Val) ref.Val {
	if v, found := l.Find(key); found {
		return v
	}
	return l.Mapper.Get(key)
}

// ConvertToNative is for the library; nothing here asks for it.
func (l lenient) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("a map with values for missing keys cannot become %s", t)
}
