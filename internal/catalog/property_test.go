package catalog_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay/internal/catalog"
)

// A world is a fleet repository that random commits change.
type world struct {
	files map[string][]string // documents by path
}

var (
	worldPaths = []string{"a.yaml", "b.yml", "team/c.yaml", "team/deep/d.yaml", "e.yaml"}
	worldNames = []string{"one", "two", "three", "four", "five", "six"}
	broken     = []string{
		garbage, "- list\n", "a: b: c\n", "apiVersion: belay.dev/v1alpha1\nkind: Appl\nmetadata: {name: one}\n",
		app("one", "sauce: {}"), app("two", "source: 1"), def("Project", "p", "x: 1"), def("Cluster", "k", "x: 1"), "kind: [\n", "apiVersion: [\n", app("One", ""),
	}
)

func (w *world) texts() map[string]string {
	out := map[string]string{}
	for p, docs := range w.files {
		out[p] = strings.Join(docs, "---\n")
	}
	return out
}

func goodDocument(t *rapid.T) string {
	name := rapid.SampledFrom(worldNames).Draw(t, "name")
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		return def("Project", rapid.SampledFrom([]string{"p", "default"}).Draw(t, "project"),
			rapid.SampledFrom([]string{"sources: [{repo: '**'}]", "sources: [{repo: '**', paths: ['x/*']}]", ""}).Draw(t, "limits"))
	case 1:
		return def("Cluster", rapid.SampledFrom([]string{"k", "local"}).Draw(t, "cluster"), "")
	case 2:
		return def("Repository", "r", rapid.SampledFrom([]string{"url: /srv/r", "url: '" + configRepo + "'"}).Draw(t, "url"))
	}
	return app(name, rapid.SampledFrom([]string{
		"source: {path: x/a}", "source: {path: y}", "project: p, source: {path: x/a}", "source: {repo: r}", "source: {path: z}, destination: {cluster: k}",
		"source: {path: x/a}, dependsOn: [{name: " + rapid.SampledFrom(worldNames).Draw(t, "dependency") + "}]",
	}).Draw(t, "spec"))
}

// edit is one commit; with breakage it may write what is wrong.
func (w *world) edit(t *rapid.T, breakage bool) {
	p := rapid.SampledFrom(worldPaths).Draw(t, "path")
	docs := slices.Clone(w.files[p])
	var doc string
	if breakage && rapid.IntRange(0, 2).Draw(t, "broken") == 0 {
		doc = rapid.SampledFrom(broken).Draw(t, "what")
	} else {
		doc = goodDocument(t)
	}
	switch rapid.IntRange(0, 5).Draw(t, "edit") {
	case 0:
		delete(w.files, p)
		return
	case 1: // move
		to := rapid.SampledFrom(worldPaths).Draw(t, "to")
		if to != p && docs != nil {
			w.files[to] = docs
			delete(w.files, p)
		}
		return
	case 2, 3:
		docs = append(docs, doc)
	default:
		if len(docs) == 0 {
			docs = []string{doc}
		} else {
			docs[rapid.IntRange(0, len(docs)-1).Draw(t, "index")] = doc
		}
	}
	w.files[p] = docs
}

func loadAny(t *rapid.T, files catalog.Files, prev *catalog.Catalog, revision string) *catalog.Catalog {
	c, err := catalog.Load(t.Context(), files, options(revision), prev)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whatever came before, a catalog in which nothing is broken or ambiguous is the
// one that a start from nothing gives; with and without digests of directories.
func TestHistoryDoesNotMatter(t *testing.T) {
	compared := 0
	rapid.Check(t, func(t *rapid.T) {
		w := &world{files: map[string][]string{}}
		var prev, prevMerkle *catalog.Catalog
		for i := range rapid.IntRange(2, 8).Draw(t, "commits") {
			w.edit(t, true)
			revision := fmt.Sprint("c", i)
			texts := below(w.texts())
			c := loadAny(t, newTree(texts), prev, revision)
			m := loadAny(t, newMerkle(texts), prevMerkle, revision)
			same := sameOrigin
			if m.SameAs(prevMerkle) {
				same = samePlace
			}
			if !c.Equal(m) || !maps.EqualFunc(c.Applications, m.Applications, same) {
				t.Fatalf("directory digests make a difference:\n%s\n---\n%s", problems(c), problems(m))
			}
			fresh := loadAny(t, newTree(texts), nil, revision)
			if fresh.Problems != nil && !slices.Equal(fresh.Broken(), c.Broken()) {
				t.Fatalf("broken %v, from nothing %v", c.Broken(), fresh.Broken())
			}
			prev, prevMerkle = c, m
			if len(fresh.Broken()) > 0 || strings.Contains(problems(fresh), "twice") {
				continue
			}
			compared++
			if !c.Equal(fresh) || !maps.EqualFunc(c.Applications, fresh.Applications, sameOrigin) {
				// Under an error the cluster of before is shown.
				for n := range c.Applications {
					if c.ApplicationErrors[n] == nil && !equalApp(c, fresh, n) {
						t.Fatalf("history matters for %s:\n%+v\n%+v", n, c.Applications[n], fresh.Applications[n])
					}
				}
				if names(c.Applications) != names(fresh.Applications) || names(c.ApplicationErrors) != names(fresh.ApplicationErrors) || problems(c) != problems(fresh) {
					t.Fatalf("history matters:\n%s\n%s\n---\n%s\n%s", names(c.Applications), problems(c), names(fresh.Applications), problems(fresh))
				}
			}
		}
	})
	if compared == 0 {
		t.Error("nothing was compared")
	}
}

// Documents that are right mean the same whatever is broken beside them.
func TestBreakageStaysWhereItIs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &world{files: map[string][]string{}}
		var prev *catalog.Catalog
		for i := range rapid.IntRange(1, 6).Draw(t, "commits") {
			w.edit(t, false)
			prev = loadAny(t, newTree(below(w.texts())), prev, fmt.Sprint("c", i))
		}
		// Break one document, or one file.
		hurt := slices.Sorted(maps.Keys(w.files))
		if len(hurt) == 0 {
			return
		}
		p := rapid.SampledFrom(hurt).Draw(t, "path")
		docs := slices.Clone(w.files[p])
		what := rapid.SampledFrom(broken).Draw(t, "what")
		if rapid.Bool().Draw(t, "whole file") {
			docs = []string{what}
		} else {
			docs[rapid.IntRange(0, len(docs)-1).Draw(t, "index")] = what
		}
		w.files[p] = docs
		after := loadAny(t, newTree(below(w.texts())), prev, "broken")
		ch := after.Diff(prev)
		if len(ch.Removed) > 0 {
			t.Fatalf("breaking %s removed %v", p, ch.Removed)
		}
		for _, kind := range []struct{ before, after string }{
			{names(prev.Projects), names(after.Projects)}, {names(prev.Clusters), names(after.Clusters)}, {names(prev.Repositories), names(after.Repositories)},
		} {
			if kind.before != kind.after {
				t.Fatalf("breaking %s made %q of %q", p, kind.after, kind.before)
			}
		}
		for _, n := range ch.Changed {
			// Only where two documents claim one name may another one take over. What
			// was wrong before may be wrong for another reason now.
			if !strings.Contains(problems(prev), "twice") && prev.ApplicationErrors[n] == nil {
				t.Fatalf("breaking %s changed %s from %+v, %v to %+v, %v", p, n, prev.Applications[n].Spec, prev.ApplicationErrors[n], after.Applications[n].Spec, after.ApplicationErrors[n])
			}
		}
		if len(after.Broken()) != 1 || !after.Stale("belay/"+p) && len(after.Problems) == 0 {
			t.Fatalf("broken %v", after.Broken())
		}
		// And mending what was broken by taking the documents away is a removal.
		delete(w.files, p)
		gone := loadAny(t, newTree(below(w.texts())), after, "gone")
		if fresh := loadAny(t, newTree(below(w.texts())), nil, "gone"); names(gone.Applications) != names(fresh.Applications) {
			t.Fatalf("%s, from nothing %s", names(gone.Applications), names(fresh.Applications))
		}
	})
}

func equalApp(a, b *catalog.Catalog, name string) bool {
	x, y := a.Applications[name], b.Applications[name]
	return fmt.Sprintf("%+v", x.Spec) == fmt.Sprintf("%+v", y.Spec) && x.Origin == y.Origin
}
