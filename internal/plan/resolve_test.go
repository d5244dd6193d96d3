package plan

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

func manifest(t *testing.T, text, file string) belay.Object {
	t.Helper()
	o, err := belay.NewObject([]byte(text), belay.Origin{File: file, Line: 1})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

var testFacts = &belay.ClusterFacts{Kinds: map[belay.VersionKind]belay.KindFacts{
	{APIVersion: "v1", Kind: "ConfigMap"}:                            {Resource: "configmaps", Namespaced: true},
	{APIVersion: "v1", Kind: "Namespace"}:                            {Resource: "namespaces"},
	{APIVersion: crdGroup + "/v1", Kind: "CustomResourceDefinition"}: {Resource: "customresourcedefinitions"},
}}

func TestResolve(t *testing.T) {
	objects := []belay.Object{
		manifest(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"plain"}}`, "plain.yaml"),
		manifest(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"there","namespace":"there"}}`, "there.yaml"),
		manifest(t, `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"ns","namespace":"nonsense"}}`, "ns.yaml"),
		manifest(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"twice"}}`, "one.yaml"),
		manifest(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"twice","namespace":"shop"}}`, "two.yaml"),
		manifest(t, `{"apiVersion":"nobody.io/v1","kind":"Widget","metadata":{"name":"w"}}`, "w.yaml"),
		manifest(t, `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"gadgets.x.io"},
			"spec":{"group":"x.io","scope":"Cluster","names":{"kind":"Gadget"},"versions":[{"name":"v1"},{"name":"v2"}]}}`, "crd.yaml"),
		manifest(t, `{"apiVersion":"x.io/v2","kind":"Gadget","metadata":{"name":"g","namespace":"nonsense"}}`, "g.yaml"),
	}
	scopes := NewScopes(testFacts, objects)
	resolved, un := Resolve(objects, scopes, "shop")
	var got []string
	for _, o := range resolved {
		got = append(got, o.ID.String())
	}
	want := []string{"ConfigMap shop/plain", "ConfigMap there/there", "Namespace ns", "CustomResourceDefinition.apiextensions.k8s.io gadgets.x.io", "Gadget.x.io g"}
	if !slices.Equal(got, want) {
		t.Errorf("resolved %q, want %q", got, want)
	}
	var errs []string
	for _, u := range un {
		errs = append(errs, u.Err.Error())
	}
	wantErrs := []string{
		"w.yaml:1: Widget.nobody.io w: the cluster does not serve nobody.io/v1 Widget (check apiVersion and kind, or install the CustomResourceDefinition first)",
		"one.yaml:1: ConfigMap shop/twice: also declared in two.yaml:1 (keep one of the two)",
		"two.yaml:1: ConfigMap shop/twice: also declared in one.yaml:1 (keep one of the two)",
	}
	if !slices.Equal(errs, wantErrs) {
		t.Errorf("unresolved:\n%s\nwant\n%s", strings.Join(errs, "\n"), strings.Join(wantErrs, "\n"))
	}
	if scopes.Served(&objects[7]) || !scopes.Served(&objects[0]) {
		t.Error("what is only declared counts as served, or what is served does not")
	}
	if _, known := NewScopes(nil, nil).Namespaced(&objects[0]); known {
		t.Error("something is known of a cluster of which nothing is known")
	}
}

func TestStamp(t *testing.T) {
	o := manifest(t, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"shop","uid":"x","managedFields":[{}],"deletionTimestamp":"2024-01-01T00:00:00Z",
		"labels":{"belay.dev/instance":"copied"},"annotations":{"belay.dev/id":"copied","kubectl.kubernetes.io/last-applied-configuration":"{}"}},"data":{"n":"1"}}`, "a.yaml")
	before := string(o.Raw)
	s, err := Stamp(o, "shop", "")
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	_ = json.Unmarshal(s.Raw, &got)
	_ = json.Unmarshal([]byte(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"shop","labels":{"belay.dev/managed":"true"},
		"annotations":{"belay.dev/id":"shop//ConfigMap/shop/a","belay.dev/digest":"`+s.Digest+`"}},"data":{"n":"1"}}`), &want)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s", s.Raw)
	}
	if string(o.Raw) != before {
		t.Error("the given object was changed")
	}
	other, err := Stamp(o, "shop", "second")
	if err != nil {
		t.Fatal(err)
	}
	if other.Digest == s.Digest || !strings.Contains(string(other.Raw), `"belay.dev/instance":"second"`) {
		t.Errorf("another instance: %s", other.Raw)
	}
	for text, want := range map[string]string{
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"stringData":{"n":314159}}`:  "stringData.n of Secret a must be a string; quote it",
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"stringData":"314159"}`:      "stringData of Secret a is not a mapping",
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"stringData":{},"data":"x"}`: "data of Secret a is not a mapping",
	} {
		if _, err := Stamp(manifest(t, text, "a.yaml"), "shop", ""); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A Secret in full and the same one redacted are stamped alike but for the values,
// and what the API server would make of the values is what is stamped.
func TestStampedSecrets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		plain := rapid.MapOfN(key, rapid.String(), 0, 4).Draw(t, "stringData")
		data := rapid.MapOfN(key, rapid.String(), 0, 4).Draw(t, "data")
		m := map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "s"}}
		want := map[string]any{}
		if rapid.Bool().Draw(t, "has data") {
			encoded := map[string]any{}
			for k, v := range data {
				encoded[k] = base64.StdEncoding.EncodeToString([]byte(v))
				want[k] = v
			}
			m["data"] = encoded
		}
		if rapid.Bool().Draw(t, "has stringData") {
			m["stringData"] = plain
			for k, v := range plain {
				want[k] = strings.ToValidUTF8(v, "\uFFFD")
			}
		}
		raw, _ := json.Marshal(m)
		o, err := belay.NewObject(raw, belay.Origin{})
		if err != nil {
			t.Fatal(err)
		}
		redacted := o
		redacted.Redacted = true
		if redacted.Raw, err = belay.RedactSecret(o.Raw, []byte("key")); err != nil {
			t.Fatal(err)
		}
		full, err := Stamp(o, "shop", "")
		if err != nil {
			t.Fatal(err)
		}
		less, err := Stamp(redacted, "shop", "")
		if err != nil {
			t.Fatal(err)
		}
		if full.Digest != less.Digest {
			t.Fatal("two digests")
		}
		fullTree, lessTree := decode(t, full.Raw), decode(t, less.Raw)
		_, stringData := fullTree["stringData"]
		got := map[string]any{}
		for k, v := range asMap(fullTree["data"]) {
			b, err := base64.StdEncoding.DecodeString(v.(string))
			if err != nil {
				t.Fatal(err)
			}
			got[k] = string(b)
		}
		if stringData || !reflect.DeepEqual(got, want) {
			t.Fatalf("stamped %s, want %q", full.Raw, want)
		}
		again, err := belay.RedactSecret(full.Raw, []byte("key"))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(decode(t, again), lessTree) {
			t.Fatalf("redacted after stamping %s, before %s", again, less.Raw)
		}
	})
}

func decode(t *rapid.T, raw []byte) map[string]any {
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func asMap(v any) map[string]any { m, _ := v.(map[string]any); return m }
