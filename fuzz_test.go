package belay_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

// A manifest of any content is refused or becomes an object that says the same
// when it is read again.
func FuzzNewObject(f *testing.F) {
	for _, s := range []string{
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"v","n":null}}`,
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","namespace":"b","annotations":{"belay.dev/wave":"-3"}}}`,
		`{"apiVersion":"v1","kind":"Job","metadata":{"generateName":"a-"}}`, `{"metadata":{"name":1}}`, `[]`, `{"a":1e999}`, "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, manifest []byte) {
		o, err := belay.NewObject(manifest, belay.Origin{File: "a.yaml", Line: 1})
		if err != nil {
			return
		}
		again, err := belay.NewObject(o.Raw, o.Origin)
		if err != nil {
			t.Fatalf("%q was accepted, but not what became of it, %q: %v", manifest, o.Raw, err)
		}
		if again.ID != o.ID || again.Digest != o.Digest || again.Wave != o.Wave || !bytes.Equal(again.Raw, o.Raw) {
			t.Fatalf("%q is %v, then %v", manifest, o, again)
		}
	})
}

// What was written as an id is read as the same, and nothing else is.
func FuzzParseID(f *testing.F) {
	f.Add("app/apps/Deployment/ns/name")
	f.Add("app//ConfigMap//name")
	f.Add("a/b/c/d/e/f")
	f.Fuzz(func(t *testing.T, s string) {
		if app, id, ok := belay.ParseID(s); ok && belay.FormatID(app, id) != s {
			t.Fatalf("%q is read as %q of %q", s, id, app)
		}
	})
}

var redacted = regexp.MustCompile(`^` + belay.RedactedPrefix + `[0-9a-f]{12}$`)

// What is left of a Secret's values after redaction is a digest, and all else of it.
func FuzzRedactSecret(f *testing.F) {
	f.Add(`c2VjcmV0LXZhbHVl`, "another-value", "key")
	f.Add("not base64", "", "")
	f.Add("not base64", "", "\xff")
	key := []byte("0123456789abcdef")
	f.Fuzz(func(t *testing.T, data, text, name string) {
		manifest, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "s"},
			"data": map[string]any{name: data}, "stringData": map[string]any{name + "2": text}})
		if err != nil {
			t.Fatal(err)
		}
		red, err := belay.RedactSecret(manifest, key)
		if err != nil {
			t.Fatal(err)
		}
		var given, left map[string]any // given: as JSON has it
		if err := errors.Join(json.Unmarshal(manifest, &given), json.Unmarshal(red, &left)); err != nil {
			t.Fatal(err)
		}
		values, ok := left["data"].(map[string]any)
		if !ok {
			t.Fatalf("no data in %s", red)
		}
		for _, field := range []string{"data", "stringData"} {
			for k := range given[field].(map[string]any) {
				if v, ok := values[k].(string); !ok || v != belay.EncryptedValue && !redacted.MatchString(v) {
					t.Fatalf("%q has become %q", k, values[k])
				}
				delete(values, k)
			}
			delete(given, field)
		}
		if delete(left, "data"); len(values) > 0 || !reflect.DeepEqual(given, left) {
			t.Fatalf("%s has become %s", manifest, red)
		}
	})
}

// Patterns of any kind end soon, and a name without special characters matches itself.
func FuzzMatchGlob(f *testing.F) {
	f.Add("**/a/**/b*[c-d]?", "x/a/y/bcd")
	f.Add("[", "[")
	f.Add(strings.Repeat("**/", 8), strings.Repeat("a/", 8))
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 200 || len(s) > 200 {
			return
		}
		belay.MatchGlob(pattern, s)
		if !strings.ContainsAny(s, `*?[\`) && !belay.MatchGlob(s, s) {
			t.Fatalf("%q does not match itself", s)
		}
	})
}

// The annotations of hooks, in every dialect, are refused or make a hook with phases.
func FuzzHookAnnotations(f *testing.F) {
	f.Add(belay.AnnotationHook, "PreSync,PostSync", belay.AnnotationHookDelete, "HookSucceeded")
	f.Add("helm.sh/hook", "pre-install, test", "helm.sh/hook-weight", "-5")
	f.Add("argocd.argoproj.io/hook", "Skip", "argocd.argoproj.io/hook-delete-policy", ",")
	f.Add(belay.AnnotationHook, "", belay.AnnotationWave, "99999999999999999999")
	f.Fuzz(func(t *testing.T, key, value, other, text string) {
		manifest, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": "a", "annotations": map[string]string{key: value, other: text}}})
		if err != nil {
			t.Fatal(err)
		}
		o, err := belay.NewObject(manifest, belay.Origin{})
		if err != nil || o.Hook == nil {
			return
		}
		if len(o.Hook.Phases) == 0 {
			t.Fatalf("a hook without a phase: %q", manifest)
		}
		for _, p := range o.Hook.Phases {
			if run, phase := belay.ParseHookRun(belay.FormatHookRun("r", p)); run != "r" || phase != p {
				t.Fatalf("phase %q is read as %q", p, phase)
			}
		}
	})
}
