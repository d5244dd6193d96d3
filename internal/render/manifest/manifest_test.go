package manifest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/manifest"
)

// Documents put together with any separator come apart again, each at its line.
func TestSplitUndoesJoin(t *testing.T) {
	value := rapid.StringMatching(`[a-z]([a-z0-9 ]{0,10}[a-z0-9])?`)
	block := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"--- inside", "---", "...", "# no comment", "text", ""}), 1, 4),
		func(lines []string) string { return "|\n  start\n  " + strings.Join(lines, "\n  ") })
	rapid.Check(t, func(t *rapid.T) {
		eol := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "eol")
		var text strings.Builder
		var want []map[string]any
		var lines []int
		line := 1
		write := func(s string) {
			text.WriteString(strings.ReplaceAll(s, "\n", eol))
			line += strings.Count(s, "\n")
		}
		if rapid.Bool().Draw(t, "bom") {
			text.WriteString("\ufeff")
		}
		for i := range rapid.IntRange(0, 5).Draw(t, "docs") {
			if i > 0 || rapid.Bool().Draw(t, "first") {
				write(rapid.SampledFrom([]string{"---\n", "--- # comment\n", "---   \n", "...\n---\n", "---\n# only a comment\n---\n", "---\n\n---\n", "...\n%YAML 1.1\n---\n"}).Draw(t, "separator"))
			}
			write(rapid.SampledFrom([]string{"", "\n\n", "# comment\n", "  # indented\n\n"}).Draw(t, "before"))
			lines = append(lines, line)
			doc := fmt.Sprintf("k: %q\n", value.Draw(t, "value"))
			if rapid.Bool().Draw(t, "block") {
				doc += "b: " + block.Draw(t, "text") + "\n"
			}
			var m map[string]any
			if err := yaml.Unmarshal([]byte(strings.ReplaceAll(doc, "\n", eol)), &m); err != nil {
				t.Fatal(err)
			}
			want = append(want, m)
			write(doc)
		}
		docs := manifest.Split([]byte(text.String()))
		if len(docs) != len(want) {
			t.Fatalf("%d documents, want %d, of\n%q", len(docs), len(want), text.String())
		}
		for i, d := range docs {
			j, err := d.JSON()
			if err != nil {
				t.Fatalf("document %d of\n%q: %v", i, text.String(), err)
			}
			wantJSON, _ := json.Marshal(want[i])
			if string(j) != string(wantJSON) || d.Line != lines[i] {
				t.Fatalf("document %d is %s at %d, want %s at %d", i, j, d.Line, wantJSON, lines[i])
			}
		}
	})
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte("a: b\n---\nc: d\n...\n%YAML 1.1\n---\ne: f"))
	f.Add([]byte("--- |\n text\n---"))
	f.Add([]byte("kind: List\nitems: [{a: 1}, {kind: XList, items: [{}]}]"))
	f.Add([]byte(`{"a":1}{"b":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		total := bytes.Count(data, []byte("\n")) + 1
		js, err := manifest.SplitJSON(data)
		check(t, js, total)
		if err != nil {
			checkError(t, err, total)
		}
		check(t, manifest.Split(data), total)
		manifest.SecretTexts(data)
		manifest.ValueTexts(data)
		manifest.Locate(manifest.Split(data), "List", "x")
	})
}

func check(t *testing.T, docs []manifest.Doc, total int) {
	last := 0
	for _, d := range docs {
		if d.Line < 1 || d.Line > total || d.Line < last {
			t.Fatalf("line %d after %d, of %d", d.Line, last, total)
		}
		last = d.Line
		items, err := d.Manifests()
		if err != nil {
			checkError(t, err, total)
			continue
		}
		for _, it := range items {
			if !json.Valid(it.Manifest) || it.Manifest[0] != '{' || it.Line < 1 || it.Line > total {
				t.Fatalf("manifest %q at line %d", it.Manifest, it.Line)
			}
		}
	}
}

func checkError(t *testing.T, err error, total int) {
	me, ok := errors.AsType[*manifest.Error](err)
	if !ok || me.Problem == "" || me.Line < 0 || me.Line > total+1 {
		t.Fatalf("error %#v", err)
	}
}

func TestLocateFindsTheObject(t *testing.T) {
	docs := manifest.Split([]byte(`# shop
apiVersion: v1
kind: Service
metadata:
  labels:
    name: other
  name: web
---
apiVersion: v1
kind: Service
metadata: {name: flow}
---
kind: Service
metadata:
    name: "web-internal"
spec:
    name: x
---
kind: ConfigMap
metadata:
  name: web
`))
	for _, tc := range []struct {
		kind, name string
		line       int
	}{
		{"Service", "web", 2}, {"Service", "web-internal", 13}, {"Service", "prod-web-internal", 13}, {"Service", "prod-web", 2},
		{"ConfigMap", "web-5k2", 19}, {"Service", "x", 0}, {"Secret", "web", 0},
	} {
		if got := manifest.Locate(docs, tc.kind, tc.name); got != tc.line {
			t.Errorf("%s %s at %d, want %d", tc.kind, tc.name, got, tc.line)
		}
	}
}

func TestSecretTextsCoverBrokenSecrets(t *testing.T) {
	for _, text := range []string{
		"kind: Secret\napiVersion: v1\nmetadata: {name: x}\nstringData:\n  p: hunter2-value\n",
		"kind: Secret\nstringData:\n  p: hunter2-value: x\n",
		"kind: Secret\nstringData:\n p: \"hunter2-value\n",
		"kind: List\napiVersion: v1\nitems:\n- kind: Secret\n  data: {p: aHVudGVyMi12YWx1ZQ==}\n",
	} {
		message := "wrong: hunter2-value"
		if got := belay.Scrub(message, manifest.SecretTexts([]byte(text))); strings.Contains(got, "hunter2") {
			t.Errorf("%q gives %q", text, got)
		}
	}
}

func TestNotObject(t *testing.T) {
	for j, want := range map[string]string{
		`{"apiVersion":"v1","kind":"ConfigMap"}`:           "",
		`{"apiVersion":"v1","data":{},"kind":"ConfigMap"}`: "",
		`{"kind":"ConfigMap","apiVersion":"v1"}`:           "",
		`{"apiVersion":"v1","kind":""}`:                    "kind is missing",
		`{"apiVersion":"","kind":"ConfigMap"}`:             "apiVersion is missing",
		`{"apiVersion":"v1","kind":null}`:                  "kind is missing",
		`{"apiVersion":"\",\"kind\":\"x"}`:                 "kind is missing",
		`{"apiVersion":"a","x":{"kind":"ConfigMap"}}`:      "kind is missing",
		`{"data":{}}`: "apiVersion and kind are missing",
	} {
		if got := manifest.NotObject([]byte(j)); got != want {
			t.Errorf("%s: %q, want %q", j, got, want)
		}
	}
}
