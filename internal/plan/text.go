package plan

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

func itoa(n int) string { return strconv.Itoa(n) }

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func compact(v any) string {
	b, _ := json.Marshal(v) // values that came from JSON always encode
	return string(b)
}
