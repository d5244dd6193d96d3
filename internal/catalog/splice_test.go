package catalog

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestRestoreDefinition(t *testing.T) {
	const other = "apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: other}   # theirs\nspec:\n  source: {path: apps/other}\n"
	const head = "apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata:\n  name: web\n"
	for _, c := range []struct {
		name, now, then, want string
		whole                 bool
	}{
		{
			name: "one field, the rest stays",
			now:  "# fleet\n---\n" + other + "---\n" + head + "spec:\n  # where from\n  source:\n    path: apps/web-new\n  sync:\n    automatic: false # for now\n\n  destination: {namespace: web}\n",
			then: head + "spec:\n    source:\n        path: apps/web\n    destination: {namespace: web}\n",
			want: "# fleet\n---\n" + other + "---\n" + head + "spec:\n  source:\n      path: apps/web\n  sync:\n    automatic: false # for now\n\n  destination: {namespace: web}\n",
		},
		{
			name: "fields that came and went",
			now:  head + "spec:\n  sources:\n    - path: a\n    - path: b\n  destination:\n    namespace: web\n# the end\n---\n" + other,
			then: head + "spec:\n  source:\n    path: a\n  destination:\n    namespace: web\n  patches:\n    - patch: |\n        a: b\n\n        c: d\n",
			want: head + "spec:\n  destination:\n    namespace: web\n  source:\n    path: a\n  patches:\n    - patch: |\n        a: b\n\n        c: d\n# the end\n---\n" + other,
		},
		{
			name: "a spec in one line comes back as a whole", whole: true,
			now:  other + "---\n# web\n" + head + "spec: {source: {path: new}, sync: {automatic: false}}\n---\n" + other,
			then: "# was\n" + head + "spec: {source: {path: old}}",
			want: other + "---\n# was\n" + head + "spec: {source: {path: old}}\n---\n" + other,
		},
		{
			name: "named values", whole: true,
			now:  head + "spec:\n  source:\n    path: &p new\n  variables: {values: {P: *p}}\n",
			then: head + "spec:\n  source:\n    path: &p old\n  variables: {values: {P: *p}}\n",
			want: head + "spec:\n  source:\n    path: &p old\n  variables: {values: {P: *p}}\n",
		},
		{
			name: "ignored differences", whole: true,
			now:  head + "spec:\n  source: {path: a}\n",
			then: head + "spec:\n  source: {path: a}\n  sync: {ignoreDifferences: [{kind: Secret}]}\n",
			want: head + "spec:\n  source: {path: a}\n  sync: {ignoreDifferences: [{kind: Secret}]}\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, whole, err := RestoreDefinition([]byte(c.now), []byte(c.then), "web")
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want || whole != c.whole {
				t.Errorf("got (whole %v)\n%s\nwant (whole %v)\n%s", whole, got, c.whole, c.want)
			}
		})
	}
	if _, _, err := RestoreDefinition([]byte(other), []byte(other), "web"); err == nil {
		t.Error("a definition was found where there is none")
	}
}

func TestPinSource(t *testing.T) {
	const head = "apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: web}\nspec:\n"
	for name, c := range map[string]struct {
		now, want string
		source    int
	}{
		"a range":      {now: "  source:\n    chart: x\n    ref: '>=1 <2' # newest\n    repo: charts\n", want: "  source:\n    chart: x\n    ref: \"1.2.3\" # newest\n    repo: charts\n"},
		"plain":        {now: "  source:\n    ref: latest # moves\n    repo: oci://x/y\n", want: "  source:\n    ref: \"1.2.3\" # moves\n    repo: oci://x/y\n"},
		"none":         {now: "  source:\n    chart: x\n    repo: charts\n", want: "  source:\n    ref: \"1.2.3\"\n    chart: x\n    repo: charts\n"},
		"flow":         {now: "  source: {chart: x, ref: latest, repo: charts}\n", want: "  source: {chart: x, ref: \"1.2.3\", repo: charts}\n"},
		"flow, none":   {now: "  source: {chart: x, repo: charts}\n", want: "  source: {ref: \"1.2.3\", chart: x, repo: charts}\n"},
		"one of more":  {source: 1, now: "  sources:\n  - path: a\n  - chart: x\n    repo: charts\n", want: "  sources:\n  - path: a\n  - ref: \"1.2.3\"\n    chart: x\n    repo: charts\n"},
		"not ASCII":    {now: "  source: {chart: 'é', ref: \"a\\\"b\", repo: charts}\n", want: "  source: {chart: 'é', ref: \"1.2.3\", repo: charts}\n"},
		"last in flow": {now: "  source: {chart: x, ref: latest}\n", want: "  source: {chart: x, ref: \"1.2.3\"}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := PinSource([]byte(head+c.now), "web", c.source, "1.2.3")
			if err != nil || string(got) != head+c.want {
				t.Errorf("got %v\n%s\nwant\n%s", err, got, head+c.want)
			}
		})
	}
}

// Whatever two definitions look like: afterwards the one means what the other
// meant, and every other document of the file is as it was, byte for byte.
func TestRestoreDefinitionKeepsTheRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		definition := func(name string) string {
			in := strings.Repeat(" ", rapid.IntRange(1, 4).Draw(t, "indent"))
			var fields []string
			comment := func() string { return rapid.SampledFrom([]string{"", "", in + "# note\n", "\n"}).Draw(t, "comment") }
			value := func() string { return rapid.SampledFrom([]string{"a", "b", "\"c: d\""}).Draw(t, "value") }
			if rapid.Bool().Draw(t, "several") {
				fields = append(fields, fmt.Sprintf("%ssources:\n%s- path: %s\n%s- {path: %s}\n", in, in, value(), in, value()))
			} else {
				fields = append(fields, rapid.SampledFrom([]string{in + "source: {path: " + value() + "}\n", in + "source:\n" + in + "  path: " + value() + "\n" + in + "  ref: " + value() + "\n"}).Draw(t, "source"))
			}
			if rapid.Bool().Draw(t, "destination") {
				fields = append(fields, in+"destination: {namespace: "+value()+"}\n")
			}
			if rapid.Bool().Draw(t, "sync") {
				fields = append(fields, in+"sync:\n"+in+in+"automatic: "+rapid.SampledFrom([]string{"true", "false"}).Draw(t, "automatic")+" # why\n")
			}
			if rapid.Bool().Draw(t, "variables") {
				fields = append(fields, in+"variables:\n"+in+in+"values:\n"+in+in+in+"A: |\n"+in+in+in+in+value()+"\n\n"+in+in+in+in+"x\n")
			}
			fields = rapid.Permutation(fields).Draw(t, "order")
			s := "apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: " + name + "}\nspec:\n"
			for _, f := range fields {
				s += comment() + f
			}
			return s + rapid.SampledFrom([]string{"", "# end\n", "\n"}).Draw(t, "tail")
		}
		file := func() string {
			return definition("first") + "---\n" + definition("web") + "---\n" + definition("last")
		}
		now, then := file(), file()
		got, _, err := RestoreDefinition([]byte(now), []byte(then), "web")
		if err != nil {
			t.Fatal(err)
		}
		was, _ := findText([]byte(then), "web")
		is, err := findText(got, "web")
		if err != nil || !sameRendering(is, was) {
			t.Fatalf("it does not mean what it meant (%v):\n%s\nnow\n%s\nthen\n%s", err, got, now, then)
		}
		if before, _ := findText([]byte(now), "web"); !sameValue(child(is.spec, "sync"), child(before.spec, "sync")) {
			t.Fatalf("another field changed:\n%s", got)
		}
		for _, name := range []string{"first", "last"} {
			a, err := findText([]byte(now), name)
			b, err2 := findText(got, name)
			if err != nil || err2 != nil || !bytes.Equal(a.text, b.text) {
				t.Fatalf("%s changed:\n%s", name, got)
			}
		}
	})
}
