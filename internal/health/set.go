package health

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/expr"
)

// Set finds the rule for a kind among those of Git and those built in. It is
// immutable.
type Set struct {
	scope   *expr.Scope
	own     index
	builtIn index
}

// index finds rules by the kinds they name.
type index struct {
	exact map[string]*belay.HealthRule
	globs []globbed // the most specific first
}

type globbed struct {
	pattern string
	rule    *belay.HealthRule
}

// NewSet makes a set of the rules of Git and those built in. Of two rules for one
// kind, the one whose name comes first counts: see [Conflicts].
func NewSet(rules map[string]belay.HealthRule) (*Set, error) {
	s, err := scope()
	if err != nil {
		return nil, err
	}
	builtIn, err := BuiltIn()
	if err != nil {
		return nil, err
	}
	set := &Set{scope: s}
	set.own, _ = newIndex(sorted(rules))
	set.builtIn, _ = newIndex(builtIn)
	return set, nil
}

func sorted(rules map[string]belay.HealthRule) []belay.HealthRule {
	out := make([]belay.HealthRule, 0, len(rules))
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		out = append(out, rules[name])
	}
	return out
}

// ConflictError is two rules for one kind.
type ConflictError struct {
	Kind string
	// Wins stays in force for the kind, Loses does not.
	Wins, Loses string
}

// Error names both.
func (c ConflictError) Error() string {
	return fmt.Sprintf("HealthRule %q and HealthRule %q are both for %s", c.Wins, c.Loses, c.Kind)
}

// Conflicts finds kinds that two rules name alike. The one whose name comes
// first stays in force.
func Conflicts(rules map[string]belay.HealthRule) []ConflictError {
	_, conflicts := newIndex(sorted(rules))
	return conflicts
}

func newIndex(rules []belay.HealthRule) (ix index, conflicts []ConflictError) {
	ix.exact = map[string]*belay.HealthRule{}
	seen := map[string]*belay.HealthRule{}
	for i := range rules {
		r := &rules[i]
		for _, k := range r.Spec.Kinds {
			if first := seen[k]; first != nil {
				if first != r {
					conflicts = append(conflicts, ConflictError{Kind: k, Wins: first.Name, Loses: r.Name})
				}
				continue
			}
			seen[k] = r
			if strings.ContainsAny(k, `*?[\`) {
				ix.globs = append(ix.globs, globbed{k, r})
			} else {
				ix.exact[k] = r
			}
		}
	}
	slices.SortStableFunc(ix.globs, func(a, b globbed) int {
		return cmp.Or(cmp.Compare(literals(b.pattern), literals(a.pattern)), cmp.Compare(a.pattern, b.pattern))
	})
	return ix, conflicts
}

// literals counts what a glob says for certain.
func literals(pattern string) int {
	return len(pattern) - strings.Count(pattern, "*") - strings.Count(pattern, "?")
}

func (ix *index) find(k belay.Kind) *belay.HealthRule {
	name := k.Kind
	if k.Group != "" {
		name = k.Group + "/" + k.Kind
	}
	if r := ix.exact[name]; r != nil {
		return r
	}
	for _, g := range ix.globs {
		if covers(g.pattern, k) {
			return g.rule
		}
	}
	return nil
}

// covers tells whether a glob is for a kind: each part has to match. A glob
// without a group is for the core group.
func covers(pattern string, k belay.Kind) bool {
	group, kind, ok := strings.Cut(pattern, "/")
	if !ok {
		group, kind = "", pattern
	}
	inGroup, err := path.Match(group, k.Group)
	if err != nil || !inGroup {
		return false
	}
	matched, err := path.Match(kind, k.Kind)
	return err == nil && matched
}

// For is the check for a kind, or nil where no rule is for it. Those of Git come
// first.
func (s *Set) For(k belay.Kind) *Check {
	rule, builtIn := s.own.find(k), false
	if rule == nil {
		rule, builtIn = s.builtIn.find(k), true
	}
	if rule == nil {
		return nil
	}
	c, err := compile(s.scope, rule, builtIn)
	if err != nil { // whoever read the rule has refused it
		return &Check{name: rule.Name, builtIn: builtIn, digest: c.digest + "!", spec: belay.HealthRuleSpec{Otherwise: belay.Unknown}}
	}
	return c
}

// Checks is the set in the form in which the domain passes it on.
func (s *Set) Checks() belay.HealthChecks {
	return func(k belay.Kind) (belay.HealthCheck, bool) {
		c := s.For(k)
		if c == nil {
			return belay.HealthCheck{}, false
		}
		return belay.HealthCheck{Digest: c.Digest(), Judge: func(object map[string]any) (belay.Health, string) {
			v := c.Judge(object)
			return v.Health, v.Message
		}}, true
	}
}
