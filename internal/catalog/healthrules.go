package catalog

import (
	"fmt"
	"maps"
	"regexp"
	"sync"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/health"
)

const kindHealthRule = "HealthRule"

// healthRules fills HealthRules. No application is checked against them, so a
// change of one has no application looked at again.
func (c *Catalog) healthRules() {
	c.HealthRules = map[string]belay.HealthRule{}
	for k, d := range c.inForce {
		if spec, ok := d.spec.(belay.HealthRuleSpec); ok && d.state != partial {
			c.HealthRules[k.name] = belay.HealthRule{Name: k.name, Spec: spec, Origin: c.originOf(d)}
		}
	}
	for _, conflict := range health.Conflicts(c.HealthRules) {
		d := c.inForce[key{kindHealthRule, conflict.Loses}]
		c.Problems = append(c.Problems, *c.problem(belay.CodeInvalid, c.origin(d.file, d.lineOf("spec"), d.revision),
			fmt.Sprintf("HealthRule %q and HealthRule %q (%s) are both for %s; %q stays in force for it",
				conflict.Loses, conflict.Wins, c.HealthRules[conflict.Wins].Origin, conflict.Kind, conflict.Wins),
			"name the kind in one of them"))
	}
}

// HealthRulesDiffer says whether objects may have another health by c than by prev,
// which may be nil.
func (c *Catalog) HealthRulesDiffer(prev *Catalog) bool {
	return prev == nil || !maps.EqualFunc(prev.HealthRules, c.HealthRules, func(a, b belay.HealthRule) bool { return equal(a.Spec, b.Spec) })
}

var (
	formatHealthKind = &format{
		pattern: regexp.MustCompile(`^([-a-z0-9.*?]+/)?[A-Za-z*?][A-Za-z0-9*?]*$`),
		want:    `a kind such as "example.com/Database" (group/Kind, without a version), "*.example.com/*", or "Pod" of the core group`, check: checkHealthKind,
	}
	formatHealth = &format{
		pattern: regexp.MustCompile(`^(Healthy|Progressing|Degraded|Suspended|Unknown)$`), want: "Healthy, Progressing, Degraded, Suspended or Unknown", tell: true,
	}
	formatCondition = &format{want: "a CEL expression, not empty", check: func(s string) (string, string) {
		return checkExpression(s, (*health.Syntax).Condition)
	}}
	formatMessageExpression = &format{want: "a CEL expression, not empty", check: func(s string) (string, string) {
		return checkExpression(s, (*health.Syntax).Message)
	}}
)

func checkHealthKind(s string) (string, string) {
	if s == "Secret" || s == "ConfigMap" {
		return "cannot be " + s + ": of these only metadata is ever read", "leave it out"
	}
	if looksLikeVersion.MatchString(s) {
		return "names a version and no kind", "write group/Kind, such as example.com/Database"
	}
	return "", ""
}

var looksLikeVersion = regexp.MustCompile(`/v[0-9]+((alpha|beta)[0-9]+)?$`)

// syntax is made once: it costs more than the expressions.
var syntax = sync.OnceValues(health.NewSyntax)

func checkExpression(s string, check func(*health.Syntax, string) error) (string, string) {
	syn, err := syntax()
	if err == nil {
		err = check(syn, s)
	}
	if err != nil {
		return "is no valid expression: " + err.Error(), "try it with: belay health --rules DIR FILE"
	}
	return "", ""
}
