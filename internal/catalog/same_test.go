package catalog_test

import (
	"testing"

	"github.com/belaydev/belay/internal/catalog"
)

func TestSameDefinition(t *testing.T) {
	a, b := app("a", ""), app("b", "")
	set := def("ApplicationSet", "a", "goTemplate: true")
	for name, tt := range map[string]struct {
		before, after string
		same          bool
	}{
		"another":             {a + "---\n" + b, a + "---\n" + app("b", "source: {path: x}"), true},
		"its own":             {a + "---\n" + b, app("a", "source: {path: x}") + "---\n" + b, false},
		"its label":           {a, a + "x: 1\n", false},
		"moved":               {a + "---\n" + b, "# More.\n" + b + "---\n\n" + a, true},
		"written otherwise":   {a, "\ufeff" + a + "# a comment\n", true},
		"added":               {b, b + "---\n" + a, false},
		"removed":             {a + "---\n" + b, b, false},
		"in neither":          {b, set, true},
		"no file":             {"", a, false},
		"of another kind":     {a, a + "---\n" + set, true},
		"unreadable":          {a, "[\n---\n" + a, false},
		"unreadable before":   {"[\n---\n" + a, a, false},
		"nothing but a list":  {a + "---\n- x\n", a + "---\n- y\n", true},
		"with an alias":       {"x: &x 1\n" + a + "y: *x\n", "x: &x 2\n" + a + "y: *x\n", false},
		"an alias to nothing": {a, a + "y: *nothing\n", false},
	} {
		if got := catalog.SameDefinition([]byte(tt.before), []byte(tt.after), "Application", "a"); got != tt.same {
			t.Errorf("%s: it is the same: %v", name, got)
		}
	}
}
