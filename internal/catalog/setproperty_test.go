package catalog_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

var setTexts = []string{
	set("s", envs, "{{ .name }}", perEnv),
	set("s", envs, "{{ .name }}", perEnv+", destination: {namespace: '{{ .name }}'}"),
	set("s", "{"+envs+"}, {"+appDirs+"}", `{{ .name | default .path.basename }}`, `source: {path: "{{ .path.path }}"}`),
	set("s", `merge: {keys: [name], generators: [{`+envs+`}, {list: {elements: [{name: one, dir: merged}]}}]}`, "{{ .name }}", perEnv),
	set("s", `merge: {keys: [name], generators: [{list: {elements: [{name: one, dir: a}, {name: two, dir: a}]}}, {`+envs+`}]}`, "{{ .name }}", perEnv),
	set("s", `matrix: {generators: [{as: e, `+envs+`}, {as: c, clusters: {}}]}`, "{{ .e.name }}-{{ .c.name }}", `source: {path: x}, destination: {cluster: "{{ .c.name }}"}`),
	set("s", envs, "{{ .nothing }}", perEnv),
	set("s", envs, "{{ .name }}", "sauce: {}"),
	garbage,
}

// commitSets is one commit to what sets are made of.
func commitSets(t *rapid.T, files map[string]string) {
	p := rapid.SampledFrom([]string{"belay/s.yaml", "belay/k.yaml", "belay/a.yaml", "envs/1.yaml", "envs/2.yaml", "envs/3.yaml", "envs/4.yaml", "envs/5.yaml", "apps/five/x", "apps/six/x", "other/x"}).Draw(t, "path")
	if rapid.IntRange(0, 4).Draw(t, "removal") == 0 {
		delete(files, p)
		return
	}
	name := rapid.SampledFrom(worldNames).Draw(t, "name")
	switch {
	case p == "belay/s.yaml":
		files[p] = rapid.SampledFrom(setTexts).Draw(t, "set")
	case p == "belay/k.yaml":
		files[p] = rapid.SampledFrom([]string{def("Cluster", "k", ""), def("Cluster", "k", "") + "---\n" + def("Cluster", "l", ""), def("Cluster", "k", "x: 1")}).Draw(t, "clusters")
	case p == "belay/a.yaml":
		files[p] = app(name, "")
	case strings.HasPrefix(p, "envs/"):
		files[p] = rapid.SampledFrom([]string{"name: " + name + "\ndir: a\n", "name: " + name + "\ndir: b\n", "name: [\n", "dir: x\n", "- {name: " + name + ", dir: a}\n- {name: seven, dir: a}\n", ""}).Draw(t, "parameters")
	default:
		files[p] = name
	}
}

// A set changes its form while a file with parameters is broken, and makes what it
// should once that file is gone.
func TestAFormerGeneratorIsForgotten(t *testing.T) {
	files := map[string]string{"belay/s.yaml": set("s", `merge: {keys: [name], generators: [{list: {elements: [{name: one, dir: a}, {name: two, dir: a}]}}, {`+envs+`}]}`, "{{ .name }}", perEnv)}
	for i, name := range worldNames[:5] {
		files[fmt.Sprintf("envs/%d.yaml", i+1)] = "name: " + name + "\ndir: a\n"
	}
	files["envs/1.yaml"] = "name: [\n"
	c := loadFiles(t, nil, "c1", newTree(files))
	files["belay/s.yaml"] = set("s", `merge: {keys: [name], generators: [{`+envs+`}, {list: {elements: [{name: one, dir: merged}]}}]}`, "{{ .name }}", perEnv)
	c = loadFiles(t, c, "c2", newTree(files))
	delete(files, "envs/1.yaml")
	c = loadFiles(t, c, "c3", newTree(files))
	if fresh := loadFiles(t, nil, "c3", newTree(files)); !c.Equal(fresh) || len(c.Applications) != 4 {
		t.Errorf("history matters:\n%s\n---\n%s", described(c), described(fresh))
	}
}

// Whatever came before: digests of directories make no difference, a set in which
// nothing is wrong or held makes what it makes from nothing, and no commit takes
// more away than the limit allows.
func TestSetsWhateverCameBefore(t *testing.T) {
	compared, held, removed := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		files := map[string]string{"belay/README.md": "", "belay/s.yaml": setTexts[0]}
		for i, name := range worldNames[:5] {
			files[fmt.Sprintf("envs/%d.yaml", i+1)] = "name: " + name + "\ndir: a\n"
		}
		var prev, prevMerkle *catalog.Catalog
		for i := range rapid.IntRange(2, 12).Draw(t, "commits") {
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				commitSets(t, files)
			}
			revision := fmt.Sprint("c", i)
			c := loadAny(t, newTree(files), prev, revision)
			m := loadAny(t, newMerkle(files), prevMerkle, revision)
			same := sameOrigin
			if m.SameAs(prevMerkle) {
				same = samePlace
			}
			if !c.Equal(m) || !maps.EqualFunc(c.Applications, m.Applications, same) || names(c.Holds) != names(m.Holds) {
				t.Fatalf("directory digests make a difference:\n%s\n%s\n---\n%s\n%s", names(c.Applications), problems(c), names(m.Applications), problems(m))
			}
			if again := loadAny(t, newMerkle(files), m, revision); described(again) != described(m) {
				t.Fatalf("the same files mean something else:\n%s\n---\n%s", described(again), described(m))
			}
			fresh := loadAny(t, newTree(files), nil, revision)
			if len(fresh.Broken())+len(fresh.FailingSets())+len(fresh.Problems) == 0 && len(c.Holds) == 0 {
				compared++
				if !c.Equal(fresh) {
					t.Fatalf("history matters:\n%s\n---\n%s", described(c), described(fresh))
				}
			}
			held += len(c.Holds)
			if prev != nil {
				removed += checkRemovals(t, prev, c)
			}
			prev, prevMerkle = c, m
		}
	})
	t.Logf("compared %d, held %d, removed %d", compared, held, removed) // holds are rare; set_test.go has them
	if compared == 0 || removed == 0 {
		t.Error("the commits are one-sided")
	}
}

// checkRemovals fails when a set that is declared took more away than it may.
func checkRemovals(t *rapid.T, prev, c *catalog.Catalog) int {
	s, declared := c.Sets()["s"]
	before := prev.Sets()["s"]
	if !declared {
		return 0
	}
	var had, gone []string
	for _, name := range before.Applications {
		if err := prev.ApplicationErrors[name]; err != nil && !s.Failing && prev.Applications[name].Origin.Revision != "" {
			if _, stays := c.Applications[name]; !stays {
				continue // it may never have been right
			}
		}
		had = append(had, name)
		if _, ok := c.Applications[name]; !ok {
			gone = append(gone, name)
		}
	}
	switch {
	case len(gone) > 0 && s.Failing:
		t.Fatalf("something is wrong, and %v are gone:\n%s", gone, problems(c))
	case len(gone) > 0 && len(gone) == len(had), len(had) >= 4 && len(gone)*2 > len(had):
		t.Fatalf("%v of %v are gone at once", gone, had)
	}
	for _, name := range s.Held {
		if c.Holds[name] == nil || !slices.Contains(s.Applications, name) {
			t.Fatalf("%s is held, but not said to be", name)
		}
	}
	return len(gone)
}

// FuzzExpression feeds whatever text: no panic, bounded time and size, and what
// has no expression stays itself.
func FuzzExpression(f *testing.F) {
	for _, s := range []string{
		"{{ .a }}", "{{ .a.b | default \"x\" | upper }}-{{ .n }}", "{{ if eq .a \"x\" }}y{{ else if .n }}z{{ end }}", "{{ index .l 1 }}{{ index .m \"k/k\" }}",
		"{{ (index .l 0).x }}", "{{ range .l }}{{ end }}", "{{ define \"x\" }}{{ end }}", "{{ $x := 1 }}", "{{ `{{` }}", "{{ .l | join \"-\" | trunc 3 | slug }}", "{{ and .a .n | not }}",
		"{{ replace \"\" \"xxxxxxxx\" .a | replace \"\" \"xxxxxxxx\" | replace \"\" \"xxxxxxxx\" }}", "{{ 1e400 }}", "{{ 'x' }}", "{{ . }}", "{{ nil }}", "{{- .a -}}", "{{/* c */}}", "{{ break }}", "{{ .a .b }}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		start := time.Now()
		out, err := catalog.Execute(text, map[string]any{"a": "x", "n": int64(1), "f": 1.5, "l": []any{"p", map[string]any{"x": "q"}}, "m": map[string]any{"k/k": true}})
		if d := time.Since(start); d > time.Minute {
			t.Fatalf("%d bytes took %s", len(text), d)
		}
		if len(out) > 1<<17 {
			t.Fatalf("%d bytes became %d", len(text), len(out))
		}
		if err == nil && !strings.Contains(text, "{{") && out != text {
			t.Fatalf("%q became %q", text, out)
		}
	})
}

func TestExpressions(t *testing.T) {
	params := map[string]any{"name": "Web_App", "n": int64(3), "f": 1.5, "yes": true, "none": nil, "l": []any{"a", int64(2)}, "m": map[string]any{"a-b": "c", "d": map[string]any{"e": "f"}}}
	for text, want := range map[string]string{
		"plain":       "plain",
		"{{ .name }}": "Web_App",
		"{{ .name | lower | replace \"_\" \"-\" }}":                          "web-app",
		"{{ slug .name }}":                                                   "web-app",
		"{{ .n }}/{{ .f }}/{{ .yes }}":                                       "3/1.5/true",
		"{{ .m.d.e | upper }}":                                               "F",
		"{{ index .m \"a-b\" }}":                                             "c",
		"{{ index .l -1 }}{{ index .l 0 }}":                                  "2a",
		"{{ join \"+\" .l }}":                                                "a+2",
		"{{ .x | default \"y\" }}":                                           "y",
		"{{ .x.y.z | default .name }}":                                       "Web_App",
		"{{ .none | default 4 }}":                                            "4",
		"{{ if has .x }}a{{ else if gone }}":                                 "!unexpected EOF",
		"{{ if has .x }}a{{ else }}b{{ end }}":                               "b",
		"{{ if and .yes (eq .n 3) (ne .name \"x\") (not .none) }}a{{ end }}": "a",
		"{{ if or .none .f }}a{{ end }}":                                     "a",
		"{{ trimPrefix \"Web\" .name | trimSuffix \"App\" | trim }}{{ trunc 2 .name }}":        "_We",
		"{{ hasPrefix \"Web\" .name }} {{ hasSuffix \"x\" .name }} {{ contains \"_\" .name }}": "true false true",
		"{{ (index .m \"d\").e }}":             "f",
		"{{ \"{{\" }} .Values }}":              "{{ .Values }}",
		"{{ eq .m.d.e \"f\" | not }}":          "false",
		"{{ .nam }}":                           `!there is no parameter "nam", did you mean "name"?`,
		"{{ .m.zzz }}":                         `!there is no parameter "m.zzz", there are a-b, d`,
		"{{ .name.x }}":                        `!there is no parameter "name.x", "name" is text`,
		"{{ .x | upper }}":                     `!there is no parameter "x"`,
		"{{ index .l 7 }}":                     `!there is no parameter "7", the list has 2 items`,
		"{{ if .x }}{{ end }}":                 `!there is no parameter "x"`,
		"{{ .l }}":                             "!.l is a list, which is no text",
		"{{ .none }}":                          "!.none is empty, which is no text",
		"{{ upper }}":                          "!upper takes 1 arguments, not 0",
		"{{ lower .l }}":                       "!lower: argument 1 is a list, which is no text",
		"{{ .name .n }}":                       "!.name is no function and takes no arguments",
		"{{ .n | .name }}":                     "!.name is no function and takes nothing from a pipe",
		"{{ exec \"x\" }}":                     `!there is no function "exec"`,
		"{{ template \"x\" }}":                 "!template is not part of expressions",
		"{{ with .x }}{{ end }}":               "!with is not part of expressions",
		"{{ define \"x\" }}{{ end }}":          "!define and block are not part of expressions",
		"{{ $ }}":                              "!variables such as $ are not part of expressions",
		"{{ .name":                             "!unclosed action",
		strings.Repeat("x", 9000) + "{{ .n }}": "!is longer than 8 KiB",
	} {
		got, err := catalog.Execute(text, params)
		if message, wrong := strings.CutPrefix(want, "!"); wrong {
			if err == nil || !strings.HasPrefix(err.Error(), message) {
				t.Errorf("%.60s: %q, error %v, want %s", text, got, err, message)
			}
		} else if err != nil || got != want {
			t.Errorf("%s: %q, error %v, want %q", text, got, err, want)
		}
	}
}

func TestClusterSelectors(t *testing.T) {
	labels := map[string]string{"a": "1", "b": ""}
	for _, tt := range []struct {
		g    belay.ClustersGenerator
		want bool
	}{
		{belay.ClustersGenerator{}, true},
		{belay.ClustersGenerator{MatchLabels: map[string]string{"a": "1"}}, true},
		{belay.ClustersGenerator{MatchLabels: map[string]string{"a": "2"}}, false},
		{belay.ClustersGenerator{MatchLabels: map[string]string{"c": ""}}, false},
		{belay.ClustersGenerator{MatchExpressions: []belay.LabelRequirement{{Key: "b", Operator: belay.OperatorExists}, {Key: "a", Operator: belay.OperatorIn, Values: []string{"2", "1"}}}}, true},
		{belay.ClustersGenerator{MatchExpressions: []belay.LabelRequirement{{Key: "b", Operator: belay.OperatorDoesNotExist}}}, false},
		{belay.ClustersGenerator{MatchExpressions: []belay.LabelRequirement{{Key: "c", Operator: belay.OperatorNotIn, Values: []string{"1"}}}}, true},
		{belay.ClustersGenerator{MatchExpressions: []belay.LabelRequirement{{Key: "a", Operator: belay.OperatorNotIn, Values: []string{"1"}}}}, false},
	} {
		if got := tt.g.Matches(labels); got != tt.want {
			t.Errorf("%+v: %t, want %t", tt.g, got, tt.want)
		}
	}
}
