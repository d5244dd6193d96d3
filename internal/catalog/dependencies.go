package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/expr"
)

// readyScope is what an expression of a dependency may use.
var readyScope = sync.OnceValues(func() (*expr.Scope, error) { return expr.NewScope("app") })

// CompileReady makes a program of the expression of a dependency. Those of a
// catalog compile, but for what it remembers of an older version of Belay.
func CompileReady(source string) (*expr.Program, error) {
	scope, err := readyScope()
	if err != nil {
		return nil, err
	}
	p, err := scope.Compile(source)
	if err == nil && !p.CanBe(expr.TypeBool) {
		err = fmt.Errorf("the result is %s, want bool", p.Type())
	}
	return p, err
}

func checkReady(s string) (string, string) {
	if _, err := CompileReady(s); err != nil {
		return "is no expression: " + err.Error(), `it is CEL that answers true or false, over app, such as app.sync == 'Synced' && app.health != 'Degraded'`
	}
	return "", ""
}

// dependencies checks what applications say of one another, after each was
// checked by itself: that what they depend on is declared, and that it does not
// depend on them.
func (c *Catalog) dependencies() {
	edges := map[string][]string{} // those that lead to declared applications
	for name, r := range c.resolved {
		if r.doc.state == partial {
			continue
		}
		for _, d := range r.app.Spec.DependsOn {
			if _, ok := c.resolved[d.Name]; ok {
				edges[name] = append(edges[name], d.Name)
			}
		}
	}
	stuck := leadIntoCircle(edges)
	for name, r := range c.resolved {
		if r.doc.state == partial {
			continue
		}
		for i, d := range r.app.Spec.DependsOn {
			if _, ok := c.resolved[d.Name]; !ok {
				c.failDependency(name, i, belay.CodeNotFound, c.missingApplication(d.Name), "declare it, or take it out of spec.dependsOn")
				continue
			}
			if !stuck[name] {
				continue
			}
			if way := shortest(edges, d.Name, name); way != nil {
				c.failDependency(name, i, belay.CodeInvalid, "dependsOn goes round in a circle: "+strings.Join(append([]string{name}, way...), " -> "),
					"none of them can ever be written; take one out of spec.dependsOn of another")
			}
		}
	}
}

// failDependency reports what is wrong with a dependency. Resolutions are shared
// with other catalogs, so that this one gets one of its own.
func (c *Catalog) failDependency(name string, i int, code belay.Code, message, hint string) {
	r := *c.resolved[name]
	e := c.problem(code, c.origin(r.doc.file, r.doc.lineOf(dependencyField(i)), r.doc.revision), message, hint)
	e.Application = name
	r.problems = append(slices.Clip(r.problems), e)
	if r.err == nil {
		r.err = e
	}
	c.resolved[name] = &r
}

// dependencyField is the field that names a dependency.
func dependencyField(i int) string { return "spec.dependsOn[" + strconv.Itoa(i) + "].name" }

func (c *Catalog) missingApplication(name string) string {
	message := fmt.Sprintf("Application %q is not declared", name)
	if n := nearest(name, slices.Sorted(maps.Keys(c.resolved))); n != "" {
		message += fmt.Sprintf(", did you mean %q?", n)
	}
	if f := c.hiding("Application"); f != "" {
		message += "; it may be in " + f + ", which cannot be read"
	}
	return message
}

// leadIntoCircle are the names from which edges lead on without end.
func leadIntoCircle(edges map[string][]string) map[string]bool {
	left, from := map[string]int{}, map[string][]string{}
	for name, to := range edges {
		left[name] = len(to)
		for _, n := range to {
			from[n] = append(from[n], name)
		}
	}
	var done []string
	for name := range from {
		if left[name] == 0 {
			done = append(done, name)
		}
	}
	for ; len(done) > 0; done = done[1:] {
		for _, n := range from[done[0]] {
			if left[n]--; left[n] == 0 {
				done = append(done, n)
			}
		}
	}
	stuck := map[string]bool{}
	for name, n := range left {
		if n > 0 {
			stuck[name] = true
		}
	}
	return stuck
}

// shortest is the shortest way along edges, with both ends; nil if there is none.
func shortest(edges map[string][]string, from, to string) []string {
	cameFrom := map[string]string{from: ""}
	for next := []string{from}; len(next) > 0; next = next[1:] {
		at := next[0]
		if at == to {
			var way []string
			for ; at != ""; at = cameFrom[at] {
				way = append(way, at)
			}
			slices.Reverse(way)
			return way
		}
		for _, n := range edges[at] {
			if _, seen := cameFrom[n]; !seen {
				cameFrom[n] = at
				next = append(next, n)
			}
		}
	}
	return nil
}
