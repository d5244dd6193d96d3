package manifestdiff

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"pgregory.net/rapid"
)

func TestUnified(t *testing.T) {
	before := `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","uid":"1","resourceVersion":"7","managedFields":[{}],
		"annotations":{"belay.dev/digest":"x"}},"data":{"k":"1","n":"3"},"status":{"x":1}}`
	after := `{"apiVersion":"v1","data":{"n":"3","k":"2"},"kind":"ConfigMap","metadata":{"annotations":{"belay.dev/digest":"y"},"name":"a"}}`
	want := `--- live
+++ planned
@@ -1,6 +1,6 @@
 apiVersion: v1
 data:
-  k: "1"
+  k: "2"
   "n": "3"
 kind: ConfigMap
 metadata:
`
	if got := Unified(json.RawMessage(before), json.RawMessage(after)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCreateAndDelete(t *testing.T) {
	m := json.RawMessage(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}`)
	if got, want := Unified(nil, m), "--- live\n+++ planned\n@@ -0,0 +1,4 @@\n+apiVersion: v1\n+kind: Namespace\n+metadata:\n+  name: a\n"; got != want {
		t.Errorf("create: got\n%s\nwant\n%s", got, want)
	}
	if got, want := Unified(m, json.RawMessage("null")), "--- live\n+++ planned\n@@ -1,4 +0,0 @@\n-apiVersion: v1\n-kind: Namespace\n-metadata:\n-  name: a\n"; got != want {
		t.Errorf("delete: got\n%s\nwant\n%s", got, want)
	}
}

func TestNumbersKeepTheirDigits(t *testing.T) {
	got := Unified(nil, json.RawMessage(`{"spec":{"big":9007199254740993,"port":8080,"half":0.5}}`))
	for _, want := range []string{"big: 9007199254740993", "port: 8080", "half: 0.5"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestSecretValuesAreHiddenEvenIfTheCallerForgot(t *testing.T) {
	raw := json.RawMessage(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s","annotations":{
		"kubectl.kubernetes.io/last-applied-configuration":"hunter2"}},"data":{"p":"aHVudGVyMg=="},"stringData":{"q":"redacted:hunter2"}}`)
	got := Unified(nil, raw)
	for _, leak := range []string{"hunter2", "aHVudGVyMg=="} {
		if strings.Contains(got, leak) {
			t.Errorf("%q leaks:\n%s", leak, got)
		}
	}
	// What was redacted properly shows that it changed.
	key := []byte("key")
	a, err := belay.RedactSecret([]byte(`{"apiVersion":"v1","kind":"Secret","stringData":{"p":"one-value"}}`), key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := belay.RedactSecret([]byte(`{"apiVersion":"v1","kind":"Secret","stringData":{"p":"two-value"}}`), key)
	if err != nil {
		t.Fatal(err)
	}
	if d := Unified(a, b); !strings.Contains(d, "-  p: redacted:") || !strings.Contains(d, "+  p: redacted:") {
		t.Errorf("a change of a redacted value does not show:\n%s", d)
	}
}

func TestWhatIsNoObjectIsSaid(t *testing.T) {
	if got := Unified(json.RawMessage(`[1]`), json.RawMessage(`{"a":1}`)); !strings.Contains(got, "-# not a JSON object") {
		t.Errorf("got\n%s", got)
	}
}

// Applying the diff's lines to before gives after, and no secret value passes.
func TestDiffLeadsFromBeforeToAfter(t *testing.T) {
	value := rapid.OneOf(rapid.Just[any](1), rapid.Map(rapid.StringMatching(`[ -~]{0,12}`), func(s string) any { return s }))
	object := rapid.MapOf(rapid.StringMatching(`[a-z]{1,4}`), value)
	rapid.Check(t, func(t *rapid.T) {
		side := func(name string) (json.RawMessage, string) {
			raw, err := json.Marshal(map[string]any{"spec": object.Draw(t, name)})
			if err != nil {
				t.Fatal(err)
			}
			return raw, text(raw)
		}
		a, at := side("before")
		b, bt := side("after")
		d := Unified(a, b)
		if (d == "") != (at == bt) {
			t.Fatalf("diff %q of %q and %q", d, at, bt)
		}
		if d == "" {
			return
		}
		var removed, added, gone, come int
		for l := range strings.Lines(d) {
			switch {
			case strings.HasPrefix(l, "--- ") || strings.HasPrefix(l, "+++ "):
			case l[0] == '-':
				removed++
				if !strings.Contains(at, l[1:]) {
					t.Fatalf("%q was not in %q", l, at)
				}
			case l[0] == '+':
				added++
				if !strings.Contains(bt, l[1:]) {
					t.Fatalf("%q is not in %q", l, bt)
				}
			}
		}
		gone, come = strings.Count(at, "\n"), strings.Count(bt, "\n")
		if gone-removed != come-added {
			t.Fatalf("%d lines less %d are not %d less %d:\n%s", gone, removed, come, added, d)
		}
	})
}
