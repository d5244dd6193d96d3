package catalog_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

const databaseRule = `apiVersion: belay.dev/v1alpha1
kind: HealthRule
metadata: {name: database}
spec:
  kinds: [example.com/Database]
  rules:
    - when: conditions.Ready.status == 'True'
      health: Healthy
    - when: status.?phase.orValue('') == 'Failed'
      health: Degraded
      messageExpression: status.reason
`

func TestHealthRule(t *testing.T) {
	c := load(t, nil, "c1", map[string]string{"a.yaml": databaseRule})
	wantClean(t, c)
	r, ok := c.HealthRules["database"]
	if !ok || r.Origin.File != "belay/a.yaml" || len(r.Spec.Rules) != 2 || r.Spec.Otherwise != belay.Progressing || r.Spec.IgnoreGeneration {
		t.Errorf("got %+v", r)
	}
	if !c.HealthRulesDiffer(nil) || c.HealthRulesDiffer(c) {
		t.Error("what differs is not told")
	}
	if c.Diff(nil).Empty() || len(c.Diff(nil).HealthRules) != 1 {
		t.Errorf("got %+v", c.Diff(nil))
	}
}

// What is wrong in a rule has file and line, and the place in the expression.
func TestHealthRuleErrors(t *testing.T) {
	for _, tt := range []struct{ name, from, to, want string }{
		{"unknown variable", "conditions.Ready.status == 'True'", "condition.Ready.status == 'True'",
			`belay/a.yaml:7: spec.rules[0].when "condition.Ready.status == 'True'" is no valid expression: 1:1: there is no "condition"; known here: object, spec, status, conditions, annotations`},
		{"second line", "when: conditions.Ready.status == 'True'", "when: |-\n        true &&\n        1 +", "belay/a.yaml:7: spec.rules[0].when \"true &&\\n1 +\" is no valid expression: 2:4: mismatched input end (try"},
		{"no bool", "conditions.Ready.status == 'True'", "1 + 1", "the result is int, want bool"},
		{"optional", "conditions.Ready.status == 'True'", "status.?ready", "the result is optional, want bool (end it with .orValue(…))"},
		{"no text", "messageExpression: status.reason", "messageExpression: '[1]'", "belay/a.yaml:11: spec.rules[1].messageExpression \"[1]\" is no valid expression: the result is list(int), want string"},
		{"health", "health: Healthy", "health: Fine", "a.yaml:8: spec.rules[0].health must be Healthy, Progressing, Degraded, Suspended or Unknown"},
		{"version", "example.com/Database", "example.com/v1/Database", `a.yaml:5: spec.kinds[0] must be a kind such as "example.com/Database" (group/Kind, without a version)`},
		{"a version alone", "example.com/Database", "example.com/v1beta1", "names a version and no kind"},
		{"secret", "example.com/Database", "Secret", "of these only metadata is ever read"},
		{"both messages", "messageExpression: status.reason", "messageExpression: status.reason\n      message: x", "only one of message and messageExpression may be set"},
		{"no kinds", "  kinds: [example.com/Database]\n", "", "spec.kinds is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(databaseRule, tt.from, tt.to, 1)
			if text == databaseRule {
				t.Fatal("nothing was replaced")
			}
			c := load(t, nil, "c1", map[string]string{"a.yaml": text})
			if len(c.Problems) != 1 || !strings.Contains((&c.Problems[0]).Error(), tt.want) {
				t.Errorf("got %v, want %q", c.Problems, tt.want)
			}
			if len(c.HealthRules) != 0 {
				t.Error("a wrong rule is in force")
			}
			// Where it was right before, it stays as it was.
			before := load(t, nil, "c0", map[string]string{"a.yaml": databaseRule})
			after := load(t, before, "c1", map[string]string{"a.yaml": text})
			if after.HealthRulesDiffer(before) {
				t.Error("a rule that broke does not keep its last good meaning")
			}
		})
	}
}

func TestTwoHealthRulesForOneKind(t *testing.T) {
	c := load(t, nil, "c1", map[string]string{"a.yaml": databaseRule, "b.yaml": strings.Replace(databaseRule, "name: database", "name: other", 1)})
	want := `belay/b.yaml:4: HealthRule "other" and HealthRule "database" (belay/a.yaml:1) are both for example.com/Database; "database" stays in force for it`
	if len(c.Problems) != 1 || !strings.Contains((&c.Problems[0]).Error(), want) {
		t.Errorf("got %v, want %q", c.Problems, want)
	}
	if got := slices.Sorted(maps.Keys(c.HealthRules)); !slices.Equal(got, []string{"database", "other"}) {
		t.Errorf("got %v", got)
	}
}

// The rules that are built in are written as users write theirs: one can be
// copied into a repository and changed.
func TestBuiltInRulesAreDefinitions(t *testing.T) {
	paths, err := filepath.Glob("../health/builtin/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	files := map[string]string{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(p)] = string(b)
	}
	wantClean(t, load(t, nil, "c1", files))
}
