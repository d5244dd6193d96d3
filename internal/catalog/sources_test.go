package catalog_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

func TestFilesOfSeveralSources(t *testing.T) {
	text := `apiVersion: belay.dev/v1alpha1
kind: Application
metadata: {name: a}
spec:
  sources:
    - {path: web}
    - {name: conf}
    - {repo: oci://registry.example.com/charts, chart: x, helm: {valuesFiles: [$conf/x.yaml, own.yaml]}}
  patches: [{file: p.yaml}, {file: $conf/p.yaml}]
  variables: {files: [v.yaml]}
`
	c := load(t, nil, "c1", map[string]string{"belay/a.yaml": text})
	if len(c.Problems) > 0 {
		t.Fatal(c.Problems)
	}
	spec := c.Applications["a"].Spec
	if spec.Sources[0].Name != belay.FirstSource || !spec.Renders(0) || spec.Renders(1) || !spec.Renders(2) {
		t.Errorf("sources are %+v", spec.Sources)
	}
	want := []string{"$conf/x.yaml", "$_first/p.yaml", "$conf/p.yaml", "$_first/v.yaml"}
	if got := spec.NamedFiles(); !slices.Equal(got, want) {
		t.Errorf("files are %v", got)
	}
	if spec.Sources[2].Ref != "*" || spec.Sources[0].Ref != "main" && spec.Sources[0].Ref != "HEAD" {
		t.Errorf("refs are %q and %q", spec.Sources[2].Ref, spec.Sources[0].Ref)
	}
	if again := load(t, c, "c2", map[string]string{"belay/a.yaml": text}); !reflect.DeepEqual(again.Applications["a"].Spec, spec) {
		t.Errorf("another time: %+v", again.Applications["a"].Spec)
	}
	// One source has its files beside it.
	one := load(t, nil, "c1", map[string]string{"belay/a.yaml": strings.NewReplacer("sources:\n    - {path: web}\n    - {name: conf}\n", "source: {path: web}\n",
		"    - {repo: oci://registry.example.com/charts, chart: x, helm: {valuesFiles: [$conf/x.yaml, own.yaml]}}\n", "", ", {file: $conf/p.yaml}", "").Replace(text)})
	if f := one.Applications["a"].Spec.Patches[0].File; f != "p.yaml" || len(one.Problems) > 0 {
		t.Errorf("the file is %q, %v", f, one.Problems)
	}
}

func TestNamesOfARegistry(t *testing.T) {
	c := load(t, nil, "c1", map[string]string{"belay/r.yaml": `apiVersion: belay.dev/v1alpha1
kind: Repository
metadata: {name: org}
spec: {url: oci://registry.example.com/org}
`})
	if got := c.NamesOf("oci://registry.example.com/org/charts", "web"); !slices.Equal(got,
		[]string{"oci://registry.example.com/org/charts", "oci://registry.example.com/org/charts/web", "org"}) {
		t.Errorf("names are %v", got)
	}
	if got := c.NamesOf("oci://registry.example.com/other/charts", ""); len(got) != 1 {
		t.Errorf("names are %v", got)
	}
}
