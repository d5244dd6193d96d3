package catalog_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

func dependsOn(name string, others ...string) string {
	body := "source: {path: apps/" + name + "}, dependsOn: ["
	for _, o := range others {
		body += "{name: " + o + "}, "
	}
	return app(name, body+"]")
}

func TestACircleIsAnErrorOfItsMembers(t *testing.T) {
	files := map[string]string{
		"a.yaml": dependsOn("a", "base", "b"), "b.yaml": dependsOn("b", "c"), "c.yaml": dependsOn("c", "a", "base"),
		"base.yaml": app("base", ""), "user.yaml": dependsOn("user", "a"), "self.yaml": dependsOn("self", "self"),
	}
	c1 := load(t, nil, "c1", files)
	if got := names(c1.ApplicationErrors); got != "a b c self" {
		t.Errorf("errors of %s:\n%s", got, problems(c1))
	}
	for _, want := range []string{
		"belay/a.yaml:4: dependsOn goes round in a circle: a -> b -> c -> a", "belay/b.yaml:4: dependsOn goes round in a circle: b -> c -> a -> b",
		"belay/c.yaml:4: dependsOn goes round in a circle: c -> a -> b -> c", "belay/self.yaml:4: dependsOn goes round in a circle: self -> self",
	} {
		wantProblem(t, c1, want)
	}
	if names(c1.Applications) != "a b base c self user" {
		t.Errorf("applications %s", names(c1.Applications))
	}
	// One commit opens it, and nothing is left of the errors, nor in the catalog before.
	before := problems(c1)
	files["c.yaml"], files["self.yaml"] = dependsOn("c", "base"), app("self", "")
	c2 := load(t, c1, "c2", files)
	wantClean(t, c2)
	if problems(c1) != before {
		t.Errorf("the catalog before was changed:\n%s", problems(c1))
	}
	if ch := c2.Diff(c1); strings.Join(ch.Changed, " ") != "a b c self" {
		t.Errorf("changed: %v", ch.Changed)
	}
	files["c.yaml"] = dependsOn("c", "a")
	if c3 := load(t, c2, "c3", files); names(c3.ApplicationErrors) != "a b c" {
		t.Errorf("errors of %s", names(c3.ApplicationErrors))
	}
}

func TestADependencyMustBeDeclared(t *testing.T) {
	files := map[string]string{"web.yaml": dependsOn("web", "postgress"), "db.yaml": app("postgres", "")}
	c1 := load(t, nil, "c1", files)
	wantProblem(t, c1, `belay/web.yaml:4: Application "postgress" is not declared, did you mean "postgres"?`)
	if err := c1.ApplicationErrors["web"]; belay.CodeOf(err) != belay.CodeNotFound || len(c1.ApplicationErrors) != 1 {
		t.Errorf("errors %v", c1.ApplicationErrors)
	}
	files["other.yaml"] = app("postgress", "")
	c2 := load(t, c1, "c2", files)
	wantClean(t, c2)
	// A dependency that cannot be read is declared all the same.
	files["other.yaml"] = garbage
	if c3 := load(t, c2, "c3", files); len(c3.ApplicationErrors) > 0 {
		t.Errorf("errors %v", c3.ApplicationErrors)
	}
	delete(files, "other.yaml")
	wantProblem(t, load(t, c2, "c4", files), `Application "postgress" is not declared`)
}

// Exactly those applications have an error that can be reached from themselves,
// and the way that is told exists.
func TestCirclesOfAnyShape(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(t, "applications")
		edges, files := map[string]map[string]bool{}, map[string]string{}
		name := func(i int) string { return fmt.Sprint("app", i) }
		for i := range n {
			to := rapid.SliceOfNDistinct(rapid.IntRange(0, n-1), 0, min(n, 3), rapid.ID).Draw(t, name(i))
			edges[name(i)] = map[string]bool{}
			var others []string
			for _, j := range to {
				edges[name(i)][name(j)] = true
				others = append(others, name(j))
			}
			files[name(i)+".yaml"] = dependsOn(name(i), others...)
		}
		c := loadAny(t, newTree(below(files)), nil, "c1")
		for a := range edges {
			reached := map[string]bool{}
			var walk func(string)
			walk = func(at string) {
				for b := range edges[at] {
					if !reached[b] {
						reached[b] = true
						walk(b)
					}
				}
			}
			walk(a)
			err := c.ApplicationErrors[a]
			if (err != nil) != reached[a] {
				t.Fatalf("%s reaches itself: %v, error: %v", a, reached[a], err)
			}
			if err == nil {
				continue
			}
			be, ok := errors.AsType[*belay.Error](err)
			if !ok {
				t.Fatalf("%s: %v", a, err)
			}
			_, circle, _ := strings.Cut(be.Message, ": ")
			way := strings.Split(circle, " -> ")
			if len(way) < 2 || way[0] != a || way[len(way)-1] != a {
				t.Fatalf("%s: %q", a, circle)
			}
			for i := range len(way) - 1 {
				if !edges[way[i]][way[i+1]] {
					t.Fatalf("%s: %q, but %s does not depend on %s", a, circle, way[i], way[i+1])
				}
			}
		}
	})
}
