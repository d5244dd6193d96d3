package catalog_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// TestRulesAndTypesMeet finds rules of fields that are no more, and texts that
// nobody wrote a rule for.
func TestRulesAndTypesMeet(t *testing.T) {
	fields := map[string]bool{}
	var walk func(typ reflect.Type)
	seen := map[reflect.Type]bool{}
	ruled, chosen := catalog.RuleFields()
	walk = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice:
			walk(typ.Elem())
			return
		case reflect.Struct:
			if seen[typ] {
				return
			}
			seen[typ] = true
		default:
			return
		}
		for f := range typ.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			id := typ.Name() + "." + name
			if name == "" || f.Tag.Get("doc") == "" {
				t.Errorf("%s.%s has no json name or no doc tag", typ.Name(), f.Name)
			}
			fields[id] = true
			text := f.Type.Kind() == reflect.String || f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.String
			if text && !slices.Contains(ruled, id) {
				t.Errorf("%s has no rule", id)
			}
			walk(f.Type)
		}
	}
	walk(reflect.TypeFor[belay.ApplicationSpec]())
	walk(reflect.TypeFor[belay.ApplicationSetSpec]())
	walk(reflect.TypeFor[belay.ProjectSpec]())
	walk(reflect.TypeFor[belay.ClusterSpec]())
	walk(reflect.TypeFor[belay.RepositorySpec]())
	walk(reflect.TypeFor[belay.HealthRuleSpec]())
	for _, id := range append(ruled, chosen...) {
		if !fields[id] && !strings.HasPrefix(id, "metadata.") {
			t.Errorf("the rule for %s is for no field", id)
		}
	}
}
