package helm_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/helm"
	"github.com/belaydev/belay/internal/render/rendertest"
	"github.com/belaydev/belay/internal/render/wire"
)

func TestGolden(t *testing.T) { rendertest.RunGolden(t, helm.Render) }

// archive packs files into what `helm package` makes.
func archive(t *testing.T, files map[string]string) string {
	t.Helper()
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(tw.Close(), zw.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestArchivedSubchart(t *testing.T) {
	files := rendertest.Files{
		"app/Chart.yaml":  "apiVersion: v2\nname: app\nversion: 1.0.0\ndependencies:\n- {name: db, version: 1.0.0, repository: \"https://charts.example\"}\n",
		"app/values.yaml": "db: {size: 3}\n",
	}
	sub := map[string]string{
		"db/Chart.yaml":        "apiVersion: v2\nname: db\nversion: 1.0.0\n",
		"db/values.yaml":       "size: 1\n",
		"db/crds/crd.yaml":     "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: dbs.example.com}\n",
		"db/templates/db.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: db}\ndata: {size: {{ .Values.size | quote }}, caps: {{ .Capabilities.KubeVersion.Major | quote }}}\n",
	}
	files["app/charts/db-1.0.0.tgz"] = archive(t, sub)
	job := wire.Job{Application: "app", KubeVersion: "v1.36.0", Source: belay.Source{Path: "app"}}
	out := helm.Render(files.Tree(), job)
	want := `# app/charts/db-1.0.0.tgz
{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"dbs.example.com"}}
# app/charts/db-1.0.0.tgz
{"apiVersion":"v1","data":{"caps":"1","size":"3"},"kind":"ConfigMap","metadata":{"name":"db"}}
`
	if got := rendertest.Golden(out); got != want || !out.UsesCapabilities {
		t.Errorf("got (capabilities %v)\n%s\nwant\n%s", out.UsesCapabilities, got, want)
	}
	sub["db/templates/db.yaml"] = "x: {{ .Values.a.b.c }}"
	files["app/charts/db-1.0.0.tgz"] = archive(t, sub)
	out = helm.Render(files.Tree(), job)
	if len(out.Problems) != 1 || out.Problems[0].File != "app/charts/db-1.0.0.tgz" || out.Problems[0].Line != 0 {
		t.Errorf("problems %+v", out.Problems)
	}
}

func TestUsesCapabilities(t *testing.T) {
	const chart = "apiVersion: v2\nname: app\nversion: 1.0.0\n"
	for name, tc := range map[string]struct {
		files rendertest.Files
		helm  belay.HelmSource
		want  bool
	}{
		"nothing":      {files: rendertest.Files{"app/templates/x.yaml": "{{ .Values.x }}"}},
		"a template":   {files: rendertest.Files{"app/templates/x.yaml": "{{ if .Capabilities.APIVersions.Has \"x\" }}{{ end }}"}, want: true},
		"a helper":     {files: rendertest.Files{"app/templates/_x.tpl": "{{ define \"x\" }}{{ $.Capabilities }}{{ end }}"}, want: true},
		"a value":      {files: rendertest.Files{"app/templates/x.yaml": "{{ tpl .Values.x . }}"}, helm: belay.HelmSource{Values: map[string]any{"x": "{{/* {{ .Capabilities }} */}}"}}, want: true},
		"values file":  {files: rendertest.Files{"v.yaml": "x: '{{ .Capabilities.KubeVersion }}'\n"}, helm: belay.HelmSource{ValuesFiles: []string{"/v.yaml"}}, want: true},
		"kube version": {files: rendertest.Files{"app/Chart.yaml": chart + "kubeVersion: \">=1.20\"\n"}, want: true},
	} {
		files := rendertest.Files{"app/Chart.yaml": chart}
		maps.Copy(files, tc.files)
		out := helm.Render(files.Tree(), wire.Job{Application: "app", KubeVersion: "v1.36.0", Source: belay.Source{Path: "app", Helm: &tc.helm}})
		if out.UsesCapabilities != tc.want {
			t.Errorf("%s: %v (%v)", name, out.UsesCapabilities, out.Problems)
		}
	}
}
