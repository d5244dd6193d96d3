package registry

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const asHelmWritesIt = `apiVersion: v1
entries:
  alpha:
  - annotations:
      note: |
        entries:
          beta:
    description: 'a text that goes
      on: here'
    digest: 0ab1
    urls:
    - https://charts.example.com/alpha-1.0.0.tgz
    version: 1.0.0
  # a remark

  "beta.x":
    - version: "2.0"
      urls: [beta-2.tgz]
generated: "2026-01-01T00:00:00Z"
`

func all(string) bool { return true }

func TestIndexesOfEveryLayout(t *testing.T) {
	want := map[string][]ChartVersion{
		"alpha":  {{Version: "1.0.0", Digest: "0ab1", URLs: []string{"https://charts.example.com/alpha-1.0.0.tgz"}}},
		"beta.x": {{Version: "2.0", URLs: []string{"beta-2.tgz"}}},
	}
	for name, text := range map[string]string{
		"helm":    asHelmWritesIt,
		"windows": strings.ReplaceAll(asHelmWritesIt, "\n", "\r\n"),
		"flow":    `{apiVersion: v1, entries: {alpha: [{version: 1.0.0, digest: 0ab1, urls: [https://charts.example.com/alpha-1.0.0.tgz]}], beta.x: [{version: "2.0", urls: [beta-2.tgz]}]}}`,
		"json":    `{"apiVersion":"v1","entries":{"alpha":[{"version":"1.0.0","digest":"0ab1","urls":["https://charts.example.com/alpha-1.0.0.tgz"]}],"beta.x":[{"version":"2.0","urls":["beta-2.tgz"]}]}}`,
		"mixed":   "entries:\n  alpha: [{version: 1.0.0, digest: 0ab1, urls: [https://charts.example.com/alpha-1.0.0.tgz]}]\n  beta.x:\n  - {version: \"2.0\", urls: [beta-2.tgz]}\n",
	} {
		got, err := entries([]byte(text), all)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		one, err := entries([]byte(text), func(c string) bool { return c == "beta.x" })
		if err != nil || !slices.Equal(slices.Collect(maps.Keys(one)), []string{"beta.x"}) {
			t.Errorf("%s: %+v, %v", name, one, err)
		}
	}
	for _, text := range []string{"<html>", "entries:\n  a:\n  - version: [\n", "entries: [", "a: b: c"} {
		if got, err := entries([]byte(text), all); err == nil && len(got) > 0 {
			t.Errorf("%q is %+v", text, got)
		}
	}
	if blocks([]byte(asHelmWritesIt)) == nil {
		t.Error("what Helm writes is decoded as a whole")
	}
}

// One chart of a large repository costs little more than its own text.
func TestALargeIndexIsNotDecodedAsAWhole(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nentries:\n")
	for i := range 20_000 {
		fmt.Fprintf(&b, "  chart-%d:\n  - version: 1.0.0\n    description: text of no use\n    urls:\n    - chart-%d.tgz\n", i, i)
	}
	text := []byte(b.String())
	allocs := testing.AllocsPerRun(1, func() {
		if got, err := entries(text, func(c string) bool { return c == "chart-777" }); err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
	})
	if allocs > 100_000 {
		t.Errorf("%.0f allocations", allocs)
	}
}
