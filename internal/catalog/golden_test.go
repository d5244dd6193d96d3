package catalog_test

import (
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

func TestValid(t *testing.T) {
	c := load(t, nil, "c1", readAll(t, "testdata/valid/fleet"))
	if len(c.Problems) > 0 || len(c.ApplicationErrors) > 0 {
		t.Fatalf("problems:\n%s\n%v", problems(c), c.ApplicationErrors)
	}
	want := belay.DefaultApplicationSpec()
	want.Project = "web"
	want.Source = belay.Source{Repo: configRepo, Ref: "main", Path: "apps/web/frontend",
		Directory: &belay.DirectorySource{Recurse: true, Exclude: []string{"**/*_test.yaml"}}}
	want.Destination = belay.Destination{Cluster: "production", Namespace: "web"}
	want.Sync.Prune = false
	want.Sync.PruneLimit.Percent = 30
	got := c.Applications["frontend"]
	if !reflect.DeepEqual(got.Spec, want) {
		t.Errorf("frontend\n got %+v\nwant %+v", got.Spec, want)
	}
	if want := (belay.Origin{Repo: configRepo, Revision: "c1", File: "belay/web/applications.yml", Line: 1}); got.Origin != want {
		t.Errorf("origin %+v, want %+v", got.Origin, want)
	}
	if got.Labels["team"] != "web" || got.Annotations["example.com/owner"] == "" {
		t.Errorf("labels %v, annotations %v", got.Labels, got.Annotations)
	}

	got = c.Applications["shop"]
	if got.Origin.Line != 16 {
		t.Errorf("shop stands on line %d, want 16", got.Origin.Line)
	}
	if s := got.Spec.Source; s.Repo != "charts" || s.Ref != ">=1.2 <2" || s.Helm == nil {
		t.Fatalf("source of shop: %+v", s)
	}
	values := map[string]any{"replicas": int64(3), "ratio": 0.5, "since": "2024-01-01", "nothing": nil,
		"flags": map[string]any{"fast": true}, "list": []any{int64(1), "two", 3.5}}
	if !reflect.DeepEqual(got.Spec.Source.Helm.Values, values) {
		t.Errorf("values %#v", got.Spec.Source.Helm.Values)
	}
	if r, ok := c.Repository("charts"); !ok || r.Spec.URL != "https://github.com/example/charts.git" || r.Spec.Auth.Password.Env != "CHARTS_TOKEN" {
		t.Errorf("repository charts: %+v", r)
	}
	if r, ok := c.Repository("https://GitHub.com/example/charts"); !ok || r.Name != "charts" {
		t.Errorf("charts by another spelling of its URL: %+v", r)
	}
	if r, ok := c.Repository("https://github.com/example/other"); !ok || r.Name != "" || r.Spec.Interval != "30s" {
		t.Errorf("a repository that is not declared: %+v", r)
	}
	if _, ok := c.Repository("nowhere"); ok {
		t.Error("a name that is not declared was found")
	}
	if got := c.Applications["root"].Spec; got.Destination != (belay.Destination{Cluster: "staging", Namespace: "root"}) || got.Source.Kustomize == nil || got.Source.Path != "" {
		t.Errorf("root: %+v", got)
	}
	if p := c.Projects["web"].Spec; p.InteractiveManagers == nil || len(p.InteractiveManagers) != 0 || !reflect.DeepEqual(p.Kinds, []string{"*"}) {
		t.Errorf("project web: %+v", p)
	}
	if !reflect.DeepEqual(c.Projects["default"], belay.OpenProject()) {
		t.Errorf("default project: %+v", c.Projects["default"])
	}
	if got := c.Clusters["production"]; got.Spec.Kubeconfig.Secret.Key != "production.kubeconfig" || got.Labels["stage"] != "production" {
		t.Errorf("cluster production: %+v", got)
	}
}

var wantLine = regexp.MustCompile(`(?m)^# want (\d+): (.*)$`)

// TestInvalid holds each file's problems against the "# want LINE: MESSAGE"
// lines at its end; a message may be the beginning of the problem's.
func TestInvalid(t *testing.T) {
	for name, text := range readAll(t, "testdata/invalid") {
		t.Run(name, func(t *testing.T) {
			c := load(t, nil, "c1", map[string]string{name: text})
			var want []string
			for _, m := range wantLine.FindAllStringSubmatch(text, -1) {
				want = append(want, path.Join("belay", filepath.ToSlash(name))+":"+m[1]+": "+m[2])
			}
			missing := append([]string(nil), want...)
			for i := range c.Problems {
				p := &c.Problems[i]
				if strings.Contains(p.Error(), "hunter2") {
					t.Errorf("repeats a secret: %s", p)
				}
				if p.Code != belay.CodeInvalid || p.Origin.Repo != configRepo || p.Origin.Revision != "c1" {
					t.Errorf("code %s, origin %+v", p.Code, p.Origin)
				}
				found := false
				for j, w := range missing {
					if w != "" && strings.HasPrefix(p.Error(), w) {
						missing[j], found = "", true
						break
					}
				}
				if !found {
					t.Errorf("not expected: %s", p)
				}
			}
			for _, w := range missing {
				if w != "" {
					t.Errorf("missing: %s", w)
				}
			}
		})
	}
}

func TestSyntaxErrorLineInLargeFile(t *testing.T) {
	var b strings.Builder
	for i := range 2000 {
		b.WriteString("---\n" + app("a"+strconv.Itoa(i), ""))
	}
	b.WriteString("---\nkind: [\n")
	c := load(t, nil, "c1", map[string]string{"a.yaml": b.String()})
	if len(c.Applications) != 2000 || len(c.Problems) != 1 || c.Problems[0].Origin.Line < 10001 {
		t.Fatalf("%d applications, problems:\n%s", len(c.Applications), problems(c))
	}
}
