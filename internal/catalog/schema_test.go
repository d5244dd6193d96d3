package catalog_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/belaydev/belay/internal/catalog"
)

func compile(t testing.TB, kind string) *jsonschema.Schema {
	t.Helper()
	raw := catalog.Schema(kind)
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatalf("schema of %q: %v", kind, err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource(kind+".json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(kind + ".json")
	if err != nil {
		t.Fatalf("schema of %q: %v", kind, err)
	}
	return s
}

// asJSON is a YAML document as a JSON Schema sees it.
func asJSON(t testing.TB, text []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSchemasTakeWhatIsValid(t *testing.T) {
	all := compile(t, catalog.AnySchema)
	for _, kind := range catalog.Kinds() {
		_, example := catalog.Describe(kind)
		if err := compile(t, kind).Validate(asJSON(t, []byte(example))); err != nil {
			t.Errorf("example of %s: %v", kind, err)
		}
		if err := all.Validate(asJSON(t, []byte(example))); err != nil {
			t.Errorf("example of %s: %v", kind, err)
		}
		wantClean(t, load(t, nil, "c1", map[string]string{"a.yaml": example}))
	}
	for name, text := range readAll(t, "testdata/valid/fleet") {
		for doc := range strings.SplitSeq(strings.Replace(text, "%YAML 1.2", "", 1), "\n---\n") {
			if v := asJSON(t, []byte(doc)); v != nil {
				if err := all.Validate(v); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
	if catalog.Schema("Pipeline") != nil || len(catalog.Schemas()) != len(catalog.Kinds())+1 {
		t.Error("there are schemas of kinds that are not served")
	}
}

// TestExamplesOfFields holds the example of every field against schema and decoder.
func TestExamplesOfFields(t *testing.T) {
	for _, kind := range catalog.Kinds() {
		schema := compile(t, kind)
		for _, f := range catalog.Fields(kind) {
			if f.Doc == "" {
				t.Errorf("%s of %s has no doc", f.Path, kind)
			}
			if f.Example == "" {
				continue
			}
			var v any
			if err := json.Unmarshal([]byte(f.Example), &v); err != nil {
				t.Fatalf("example of %s: %v", f.Path, err)
			}
			if strings.Contains(f.Path, "sshKey.") || strings.Contains(f.Path, "knownHosts.") || strings.Contains(f.Path, "ca.") {
				continue // the same as password
			}
			doc := around(t, kind, f.Path)
			put(doc, f.Path, v)
			alone(doc, f.Path)
			if f.Path == "kind" || f.Path == "apiVersion" {
				continue
			}
			if s, d := verdict(t, schema, doc); !s || !d {
				t.Errorf("example of %s of %s: schema %v, decoder %v", f.Path, kind, s, d)
			}
		}
	}
}

// around is a small document of a kind in which the field may be put.
func around(t testing.TB, kind, path string) map[string]any {
	t.Helper()
	doc := minimal(kind)
	for _, f := range catalog.Fields(kind) { // the required neighbours
		if f.Required && f.Example != "" && f.Path != "kind" && f.Path != "apiVersion" && parent(f.Path) == parent(path) {
			var v any
			if err := json.Unmarshal([]byte(f.Example), &v); err != nil {
				t.Fatal(err)
			}
			put(doc, f.Path, v)
		}
	}
	return doc
}

func parent(p string) string { return p[:max(strings.LastIndexByte(p, '.'), 0)] }

func minimal(kind string) map[string]any {
	spec := map[string]any{}
	switch kind {
	case "Application":
		spec["source"] = map[string]any{}
	case "ApplicationSet":
		spec["generators"] = []any{map[string]any{"clusters": map[string]any{}}}
		spec["template"] = map[string]any{"metadata": map[string]any{"name": "x"}, "spec": map[string]any{"source": map[string]any{}}}
	case "Repository":
		spec["url"] = "https://git.example.com/x"
	case "HealthRule":
		spec["kinds"] = []any{"example.com/Database"}
	}
	return map[string]any{"apiVersion": "belay.dev/v1alpha1", "kind": kind, "metadata": map[string]any{"name": "x"}, "spec": spec}
}

// alone makes room for a field among those that exclude each other.
func alone(doc map[string]any, path string) {
	spec, _ := doc["spec"].(map[string]any)
	if rest, ok := strings.CutPrefix(path, "spec.generators[]."); ok {
		g := spec["generators"].([]any)[0].(map[string]any)
		if name, _, _ := strings.Cut(rest, "."); name != "as" && name != "clusters" {
			delete(g, "clusters")
		}
		if rest == "merge.keys" { // its neighbour has no example
			g["merge"].(map[string]any)["generators"] = []any{}
		}
	}
	if t, ok := spec["template"].(map[string]any); ok && strings.HasPrefix(path, "spec.template.") {
		spec, path = t["spec"].(map[string]any), strings.TrimPrefix(path, "spec.template.")
	}
	switch {
	case strings.HasPrefix(path, "spec.sources"):
		delete(spec, "source")
	case strings.HasPrefix(path, "spec.patches[].target"):
		spec["patches"].([]any)[0].(map[string]any)["patch"] = "kind: x"
	}
}

func put(doc map[string]any, path string, v any) {
	name, rest, more := strings.Cut(path, ".")
	list := strings.HasSuffix(name, "[]")
	name = strings.TrimSuffix(name, "[]")
	if !more {
		doc[name] = v
		return
	}
	if list {
		if doc[name] == nil {
			doc[name] = []any{map[string]any{}}
		}
		put(doc[name].([]any)[0].(map[string]any), rest, v)
		return
	}
	if doc[name] == nil {
		doc[name] = map[string]any{}
	}
	put(doc[name].(map[string]any), rest, v)
}

// verdict asks schema and decoder about a document.
func verdict(t testing.TB, schema *jsonschema.Schema, doc map[string]any) (schemaOK, decoderOK bool) {
	t.Helper()
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	structural, _ := catalog.CheckDocument(b)
	return schema.Validate(asJSON(t, b)) == nil, !structural
}

// agree fails when schema and decoder do not refuse the same structure. It
// reports whether both take the document.
func agree(t interface {
	Helper()
	Fatal(...any)
	Errorf(string, ...any)
}, schema *jsonschema.Schema, doc map[string]any) bool {
	t.Helper()
	b, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	schemaErr := schema.Validate(v)
	structural, wrong := catalog.CheckDocument(b)
	switch {
	case schemaErr != nil && !wrong:
		t.Errorf("only the schema refuses %s: %v", b, schemaErr)
	case schemaErr == nil && structural:
		t.Errorf("only the decoder refuses %s", b)
	}
	return schemaErr == nil && !wrong
}

// TestEveryFieldWithEverything puts every odd value into every field, and every
// field beside every other.
func TestEveryFieldWithEverything(t *testing.T) {
	for _, kind := range catalog.Kinds() {
		schema := compile(t, kind)
		fields := catalog.Fields(kind)
		for _, f := range fields {
			if f.Path == "kind" || f.Path == "apiVersion" {
				continue
			}
			templated := strings.HasPrefix(f.Path, "spec.template.spec.") // the same as of an Application, mostly
			for _, odd := range oddities {
				doc := around(t, kind, f.Path)
				put(doc, f.Path, odd)
				agree(t, schema, doc)
				if templated {
					continue
				}
				doc = around(t, kind, f.Path)
				put(doc, f.Path, []any{odd})
				agree(t, schema, doc)
				doc = around(t, kind, f.Path)
				put(doc, f.Path, map[string]any{"example": odd})
				agree(t, schema, doc)
			}
			doc := around(t, kind, f.Path)
			put(doc, f.Path+"x", "y")
			agree(t, schema, doc)
			for _, other := range fields {
				if templated || parent(other.Path) != parent(f.Path) || f.Path == other.Path || f.Example == "" && f.Type != "mapping" {
					continue
				}
				doc := around(t, kind, f.Path)
				put(doc, f.Path, example(t, f))
				put(doc, other.Path, example(t, other))
				agree(t, schema, doc)
			}
		}
		for _, missing := range []string{"apiVersion", "kind", "metadata", "spec"} {
			doc := minimal(kind)
			delete(doc, missing)
			agree(t, schema, doc)
			doc[missing] = "x"
			agree(t, schema, doc)
		}
	}
}

func example(t testing.TB, f catalog.Field) any {
	t.Helper()
	if f.Example == "" {
		return map[string]any{}
	}
	var v any
	if err := json.Unmarshal([]byte(f.Example), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSchemaAndDecoderAgree edits valid documents at random: whatever the
// schema refuses the decoder refuses, and whatever the decoder calls a
// structural problem the schema refuses.
func TestSchemaAndDecoderAgree(t *testing.T) {
	type subject struct {
		schema *jsonschema.Schema
		doc    []byte
	}
	var subjects []subject
	for _, kind := range catalog.Kinds() {
		full := minimal(kind)
		for _, f := range catalog.Fields(kind) {
			if f.Example == "" || f.Path == "kind" || f.Path == "apiVersion" || strings.HasSuffix(f.Path, ".env") || strings.Contains(f.Path, ".secret") ||
				strings.Contains(f.Path, ".directory") || strings.HasPrefix(f.Path, "spec.sources") || f.Path == "spec.patches[].file" ||
				strings.HasPrefix(f.Path, "spec.template.spec.sources") || f.Path == "spec.template.spec.patches[].file" ||
				strings.HasPrefix(f.Path, "spec.signatures.artifacts[].from") ||
				strings.HasPrefix(f.Path, "spec.generators") && !strings.HasPrefix(f.Path, "spec.generators[].clusters") || f.Path == "spec.rules[].message" {
				continue
			}
			var v any
			if err := json.Unmarshal([]byte(f.Example), &v); err != nil {
				t.Fatal(err)
			}
			put(full, f.Path, v)
		}
		b, err := json.Marshal(full)
		if err != nil {
			t.Fatal(err)
		}
		s := subject{compile(t, kind), b}
		if err := s.schema.Validate(asJSON(t, b)); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		subjects = append(subjects, s)
	}
	accepted, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(subjects).Draw(t, "kind")
		var doc map[string]any
		if err := json.Unmarshal(s.doc, &doc); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(0, 3).Draw(t, "edits") {
			mutate(t, doc)
		}
		if agree(t, s.schema, doc) {
			accepted++
		} else {
			refused++
		}
	})
	t.Logf("%d accepted, %d refused", accepted, refused)
	if accepted == 0 || refused == 0 {
		t.Errorf("%d accepted, %d refused: the edits are one-sided", accepted, refused)
	}
}

var oddities = []any{
	nil, true, false, 0, 1, -1, 50, 101, 1.5, "", "x", "X", "a/b", "/abs", "../up", "a/../b", "**", "a b", "main", "30s", "10ms", "https://h/x", "git@h:x",
	"https://u:p@h/x", "apps/Deployment", "apps/v1/Deployment", "Secret", "A_B", strings.Repeat("a", 64), strings.Repeat("a", 300), "ü", "a\\b", "x\n", "x/",
	[]any{}, []any{"x"}, []any{1}, []any{nil}, []any{map[string]any{}}, map[string]any{}, map[string]any{"x": "y"}, map[string]any{"env": "X"},
	"{{ .x }}", "x{{ .y | upper }}", "{{ nope }}", []any{"{{ .x }}"},
	map[string]any{"file": "/x", "env": "X"}, map[string]any{"name": "x"}, map[string]any{"repo": "x"}, map[string]any{"Bad Key": "x"},
}

// oddity is a value that may or may not fit, not shared with any other.
func oddity(t *rapid.T, label string) any {
	b, err := json.Marshal(rapid.SampledFrom(oddities).Draw(t, label))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// mutate changes one thing somewhere in a document.
func mutate(t *rapid.T, doc map[string]any) {
	var at any = doc
	for {
		m, isMap := at.(map[string]any)
		l, isList := at.([]any)
		if isList && len(l) > 0 && rapid.Bool().Draw(t, "into the list") {
			if _, scalar := l[0].(string); !scalar {
				at = l[0]
				continue
			}
		}
		if isList {
			if len(l) > 0 {
				l[0] = oddity(t, "item")
			}
			return
		}
		if !isMap {
			return
		}
		keys := slices.Sorted(maps.Keys(m))
		if len(keys) == 0 {
			m["x"] = "y"
			return
		}
		k := rapid.SampledFrom(keys).Draw(t, "key")
		switch rapid.IntRange(0, 7).Draw(t, "edit") {
		case 0:
			delete(m, k)
			return
		case 1:
			m[k] = oddity(t, "value")
			return
		case 2:
			m[k+rapid.SampledFrom([]string{"x", "X"}).Draw(t, "suffix")] = m[k]
			delete(m, k)
			return
		case 3:
			name := rapid.SampledFrom([]string{"directory", "kustomize", "helm", "env", "file", "secret", "spec", "labels", "path", "include", "recurse", "namespaces"}).Draw(t, "name")
			m[name] = oddity(t, "value")
			return
		default:
			switch m[k].(type) {
			case map[string]any, []any:
				at = m[k]
			default:
				m[k] = oddity(t, "value")
				return
			}
		}
	}
}
