package belay_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/belaydev/belay"
)

func TestNewObject(t *testing.T) {
	o, err := belay.NewObject([]byte(`{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"web","namespace":"x",
		"annotations":{"belay.dev/wave":"-2","argocd.argoproj.io/sync-wave":"7","belay.dev/prune":"disabled"},"creationTimestamp":null},
		"spec":{"replicas":9007199254740993}}`), belay.Origin{File: "a.yaml", Line: 3})
	if err != nil {
		t.Fatal(err)
	}
	if o.ID != (belay.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "x", Name: "web"}) || o.Wave != -2 || !o.PruneDisabled {
		t.Errorf("%+v", o)
	}
	if s := string(o.Raw); strings.Contains(s, "null") || !strings.Contains(s, "9007199254740993") {
		t.Errorf("manifest %s: nulls stay or numbers are rounded", s)
	}
}

func TestNewObjectSaysWhatIsWrong(t *testing.T) {
	for manifest, want := range map[string]string{
		`[]`:                                  "must be a mapping",
		`{"kind":"X"}`:                        "apiVersion is missing",
		`{"apiVersion":"v1"}`:                 "kind is missing",
		`{"apiVersion":"v1","kind":"Secret"}`: "metadata.name of the Secret is missing",
		`{"apiVersion":"v1","Kind":"Pod","metadata":{"name":"x"}}`:                                                                                                           "Kind means nothing; write kind",
		`{"apiVersion":"v1","kind":"Secret","\u212aind":"ConfigMap","metadata":{"name":"x"}}`:                                                                                "\u212aind means nothing; write kind",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","NameSpace":"y"}}`:                                                                                           "metadata.NameSpace means nothing; write metadata.namespace",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"x-"}}`:                                                                                                  "generateName",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":5}}`:                                                                                                             "metadata.name must be a string",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","labels":{"ok":"1","version":5}}}`:                                                                           "metadata.labels.version must be a string, but is a number; quote it",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","annotations":{"on":true}}}`:                                                                                 "metadata.annotations.on must be a string, but is a bool; quote it",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","labels":["a"]}}`:                                                                                            "metadata.labels must be a mapping of strings, but is an array",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","annotations":{"belay.dev/wave":"first"}}}`:                                                                  "belay.dev/wave",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","annotations":{"argocd.argoproj.io/sync-wave":""}}}`:                                                         "argocd.argoproj.io/sync-wave",
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x","annotations":{"belay.dev/prunne":"disabled","belay.dev/weve":"1","belay.dev/id":"a","x.belay.dev/y":"z"}}}`: "annotation belay.dev/prunne of Pod x means nothing; there are belay.dev/adopt, belay.dev/delete, ",
	} {
		if _, err := belay.NewObject([]byte(manifest), belay.Origin{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", manifest, err, want)
		}
	}
}

func TestIDsSurviveFormatting(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-zA-Z0-9.:-]{1,12}`)
		maybe := rapid.StringMatching(`[a-z0-9.-]{0,12}`)
		app := word.Draw(t, "app")
		id := belay.ObjectID{Group: maybe.Draw(t, "group"), Kind: word.Draw(t, "kind"), Namespace: maybe.Draw(t, "ns"), Name: word.Draw(t, "name")}
		a, i, ok := belay.ParseID(belay.FormatID(app, id))
		if !ok || a != app || i != id {
			t.Fatalf("%s %v came back as %s %v %v", app, id, a, i, ok)
		}
	})
	for _, s := range []string{"", "a", "a/b/c/d", "/g/K/n/x", "a/g//n/x", "a/g/K/n/", "a/g/K/n/x/y"} {
		if _, _, ok := belay.ParseID(s); ok {
			t.Errorf("%q is taken for an id", s)
		}
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	key := []byte("0123456789abcdef")
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringMatching(`[ -~]{8,40}`).Draw(t, "value")
		m := map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "s", "annotations": map[string]any{
			"kubectl.kubernetes.io/last-applied-configuration": value}},
			"data": map[string]any{"a": base64.StdEncoding.EncodeToString([]byte(value))}, "stringData": map[string]any{"b": value},
			"stringdata": map[string]any{"c": value}, "immutable": value, "type": []any{value}}
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		out, err := belay.RedactSecret(raw, key)
		if err != nil {
			t.Fatal(err)
		}
		var got struct{ Data map[string]string }
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		if got.Data["a"] != got.Data["b"] || !strings.HasPrefix(got.Data["a"], belay.RedactedPrefix) {
			t.Fatalf("one value, written in two ways: %v", got.Data)
		}
		enc, _ := json.Marshal(value)
		for _, leak := range []string{value, strings.Trim(string(enc), `"`), base64.StdEncoding.EncodeToString([]byte(value))} {
			if strings.Contains(string(out), leak) {
				t.Fatalf("%q is in %s", leak, out)
			}
			msg := belay.Scrub("bad value "+leak+"!", belay.SecretValues(raw))
			if leak == value && strings.Contains(msg, leak) {
				t.Fatalf("%q is in %q", leak, msg)
			}
		}
		other, err := belay.RedactSecret(raw, []byte("another key, also long"))
		if err != nil || string(other) == string(out) {
			t.Fatal("the digest does not depend on the key")
		}
	})
}

func TestErrorText(t *testing.T) {
	e := &belay.Error{Code: belay.CodeInvalid, Message: "is wrong", Hint: "mend it", Object: "Service x/y", Origin: belay.Origin{File: "a.yaml", Line: 7}}
	if got := e.Error(); got != "a.yaml:7: Service x/y: is wrong (mend it)" {
		t.Error(got)
	}
	if belay.CodeOf(e) != belay.CodeInvalid || belay.CodeOf(nil) != belay.CodeInternal {
		t.Error("codes")
	}
}
