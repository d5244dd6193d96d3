package health

import (
	"testing"

	"github.com/belaydev/belay"
)

// A rule of any expressions is refused, or judges any object in bounded time.
func FuzzRule(f *testing.F) {
	f.Add("status.?phase.orValue('') == 'Up'", "'it is ' + status.phase", "Up")
	f.Add("conditions.Ready.status == 'True'", "conditions.Ready.message", "x")
	f.Add("spec.items.all(a, spec.items.all(b, spec.items.all(c, a == b)))", "''", "y")
	f.Add("object.metadata.name.matches('(x+x+)+y')", "object.kind.replace('', object.kind)", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")
	f.Add("true ? [", "1", "")
	set, err := NewSet(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, when, message, name string) {
		rule := belay.HealthRule{Name: "r", Spec: belay.HealthRuleSpec{Kinds: []string{"T"}, Otherwise: belay.Progressing,
			Rules: []belay.HealthCase{{When: when, Health: belay.Healthy, MessageExpression: message}}}}
		c, err := compile(set.scope, &rule, false)
		if err != nil {
			return
		}
		v := c.Judge(map[string]any{"apiVersion": "v1", "kind": "T", "metadata": map[string]any{"name": name},
			"spec": map[string]any{"items": []any{int64(1), name, nil, 1.5, true}}, "status": map[string]any{"phase": name}})
		if known(v.Health) != v.Health || len(v.Message) > 8<<10 {
			t.Fatalf("the verdict is %+v", v)
		}
	})
}
