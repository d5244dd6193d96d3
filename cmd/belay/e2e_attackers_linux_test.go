package main

import (
	"archive/tar"
	"fmt"
	"strings"
	"testing"

	"github.com/belaydev/belay/internal/registrytest"
)

// hostileCharts are archives that a stranger may publish.
func hostileCharts(t *testing.T) *registrytest.Helm {
	t.Helper()
	charts := registrytest.ServeHelm(t, "", "")
	file := func(name, content string) ([]tar.Header, map[string]string) {
		return []tar.Header{{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}}, map[string]string{name: content}
	}
	entries, contents := []tar.Header(nil), map[string]string{}
	for i := range 6 {
		name := fmt.Sprintf("web/%d", i)
		entries, contents[name] = append(entries, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: 30 << 20}), strings.Repeat("\x00", 30<<20)
	}
	charts.PublishArchive("bomb", "1.0.0", registrytest.PackEntries(t, entries, contents))
	entries, contents = file("../../../loot.yaml", "x")
	charts.PublishArchive("traversal", "1.0.0", registrytest.PackEntries(t, entries, contents))
	charts.PublishArchive("link", "1.0.0", registrytest.PackEntries(t, []tar.Header{{Name: "web/a.yaml", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}}, nil))
	return charts
}

// hostileDefinitions are definitions that make too much of themselves.
func hostileDefinitions() map[string]string {
	set := func(name, generators, app string) string {
		return "apiVersion: belay.dev/v1alpha1\nkind: ApplicationSet\nmetadata: {name: " + name + "}\nspec:\n  generators: [" + generators + "]\n" +
			"  template:\n    metadata: {name: \"" + app + "\"}\n    spec: {source: {path: apps/other}, destination: {namespace: NS-other}}\n"
	}
	var lists []string
	for _, key := range []string{"a", "b", "c"} {
		lists = append(lists, "{list: {elements: ["+strings.TrimSuffix(strings.Repeat("{"+key+": x}, ", 300), ", ")+"]}}")
	}
	return map[string]string{
		"belay/set-matrix.yaml": set("matrix", "{matrix: {generators: ["+strings.Join(lists, ", ")+"]}}", "m-{{ .a }}"),
	}
}

// laterAttacks are more of them: by what an application may be made of beside its manifests.
func laterAttacks(target, charts string) []attack {
	chart := func(name string) string {
		return sourced(name, `source: {repo: "`+charts+`", chart: `+name+`, ref: "*"}`, "NS-"+name)
	}
	values := "  variables:\n    values:\n      A: \"${B}${B}\"\n"
	for c := 'B'; c < 'Z'; c++ {
		values += fmt.Sprintf("      %c: \"${%[2]c}${%[2]c}\"\n", c, c+1)
	}
	one := func(name, text string) map[string]string { return map[string]string{name: text} }
	long := configMap(strings.Repeat("x", 60), "1")
	return []attack{
		{name: "bomb", def: chart("bomb"), says: []string{charts, "unpacks to more than"}},
		{name: "traversal-chart", def: strings.Replace(chart("traversal"), "name: traversal}", "name: traversal-chart}", 1), says: []string{charts, "loot.yaml"}},
		{name: "link", def: chart("link"), says: []string{charts, "link"}},
		{name: "variables-doubling", spec: values, files: one("a.yaml", loot(`"${A}"`)), yields: "${B}${B}"},
		{name: "variables-bomb", spec: "  variables: {files: [apps/variables-bomb/v/v.env.yaml]}\n", says: []string{"apps/variables-bomb/a.yaml:1", "V makes the object larger than 8 MiB"},
			files: map[string]string{"kustomization.yaml": "resources: [a.yaml]\n", "a.yaml": loot(`"` + strings.Repeat("${V}", 40_000) + `"`), "v/v.env.yaml": "V: " + strings.Repeat("x", 64<<10) + "\n"}},
		{name: "patch-regex", spec: "  patches: [{target: {name: \"(x+x+)+y\"}, patch: \"data: {a: b}\"}]\n", files: one("a.yaml", long), says: []string{"spec.patches[0]"}},
		{name: "patch-repeat", spec: "  patches: [{target: {name: \"((x{1000}){1000}){1000}\"}, patch: \"data: {a: b}\"}]\n", files: one("a.yaml", long), says: []string{"spec.patches[0]"}},
		{name: "kustomize-regex", files: map[string]string{"kustomization.yaml": "resources: [a.yaml]\npatches:\n- target: {name: \"(x+x+)+y\"}\n  patch: '[{\"op\": \"remove\", \"path\": \"/data\"}]'\n", "a.yaml": documents(long, loot("harmless"))}, yields: "harmless"},
		{name: "kustomize-base", files: one("kustomization.yaml", "resources: [\""+target+"/x.git//base?ref=main\"]\n"), says: []string{"apps/kustomize-base/kustomization.yaml", "local network"}},
	}
}
