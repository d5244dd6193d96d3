package render_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/rendertest"
)

const deployment = `# the shop
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 1
  template:
    metadata: {annotations: {build: "${BUILD}"}}
    spec:
      containers:
        - {name: app, image: "app:${TAG:=stable}", env: [{name: PORT, value: "${PORT}"}], ports: [{containerPort: 80}]}
        - {name: sidecar, image: side}
`

// patched renders a directory, a kustomization and a chart with the same
// Deployment and Service in them.
func patched(t *testing.T, p *render.Pool, change func(*render.Request), more map[string]string) map[string]render.Result {
	t.Helper()
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
	files := rendertest.Files{
		"plain/a.yaml": deployment, "plain/b.yaml": service,
		"kust/a.yaml": deployment, "kust/b.yaml": service, "kust/kustomization.yaml": "resources: [a.yaml, b.yaml]\n",
		"chart/Chart.yaml": chartYAML, "chart/templates/a.yaml": deployment, "chart/templates/b.yaml": service,
	}
	maps.Copy(files, more)
	out := map[string]render.Result{}
	for _, path := range []string{"plain", "kust", "chart"} {
		req := request(path)
		change(&req)
		out[path] = mustRender(t, p, files, req)
	}
	return out
}

func manifest(t *testing.T, res render.Result, id string) string {
	t.Helper()
	for _, o := range res.Objects {
		if o.ID.String() == id {
			return string(o.Raw)
		}
	}
	t.Fatalf("there is no %s among %s", id, ids(res))
	return ""
}

func TestPatchesChangeWhatAnyRendererMade(t *testing.T) {
	p := newPool(t, testOptions)
	res := patched(t, p, func(r *render.Request) {
		r.Patches = []belay.Patch{
			{Patch: "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    spec:\n      containers:\n        - {name: sidecar, $patch: delete}\n        - {name: app, resources: {limits: {memory: 1Gi}}}\n"},
			{Target: &belay.PatchTarget{Kind: "Deploy.*", LabelSelector: "tier=front", Namespace: "prod"}, File: "patches/replicas.yaml"},
			{Target: &belay.PatchTarget{Kind: "Service"}, Patch: "$patch: delete\n"},
			{Target: &belay.PatchTarget{Group: "apps", Version: "v1"}, Patch: "metadata: {name: not-used, annotations: {patched: \"yes\"}}"},
		}
	}, map[string]string{"patches/replicas.yaml": "- {op: replace, path: /spec/replicas, value: 5}\n"})
	for kind, r := range res {
		if len(r.Objects) != 1 || len(r.Unfit) > 0 {
			t.Errorf("%s: objects %s, unfit %v", kind, ids(r), r.Unfit)
		}
		m := manifest(t, r, "Deployment.apps web")
		for _, want := range []string{`"replicas":5`, `"memory":"1Gi"`, `"patched":"yes"`, `"containerPort":80`, `"name":"web"`} {
			if !strings.Contains(m, want) {
				t.Errorf("%s: no %s in %s", kind, want, m)
			}
		}
		if strings.Contains(m, "sidecar") || strings.Contains(m, "$patch") {
			t.Errorf("%s: the sidecar is still there: %s", kind, m)
		}
		read := false
		for _, x := range r.Reads {
			read = read || x.Path == "patches/replicas.yaml" && x.Kind == belay.ReadFile
		}
		if !read {
			t.Errorf("%s: the file of the patch is not in the read set", kind)
		}
	}
	if at := res["plain"].Objects[0].Origin.String(); at != "plain/a.yaml:2" {
		t.Errorf("the patched object comes from %s", at)
	}
}

func TestPatchesThatCannotBe(t *testing.T) {
	p := newPool(t, testOptions)
	definition := belay.Origin{Repo: "https://git.example/fleet.git", Revision: "c0ffee", File: "belay/app.yaml", Line: 7}
	files := rendertest.Files{
		"app/a.yaml":   deployment,
		"app/s.yaml":   "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {key: hunter22}\n",
		"bad/yaml":     "a: [\n",
		"bad/two.yaml": "spec: {replicas: 1}\n---\nspec: {replicas: 2}\n",
	}
	deploy := &belay.PatchTarget{Kind: "Deployment"}
	for name, tc := range map[string]struct {
		patch    belay.Patch
		file     string
		line     int
		want     string
		mustHide string
	}{
		"no target of operations": {belay.Patch{Patch: "- {op: remove, path: /x}"}, "belay/app.yaml", 7, "does not say what it is for", ""},
		"names nothing":           {belay.Patch{Patch: "spec: {replicas: 3}"}, "belay/app.yaml", 7, "lacks apiVersion, kind or metadata.name", ""},
		"missing path":            {belay.Patch{Target: deploy, Patch: "- {op: remove, path: /spec/none}"}, "belay/app.yaml", 7, "spec.patches[0]: it does not fit Deployment.apps web", ""},
		"broken file":             {belay.Patch{Target: deploy, File: "bad/yaml"}, "bad/yaml", 1, "not valid YAML", ""},
		"two documents":           {belay.Patch{Target: deploy, File: "bad/two.yaml"}, "bad/two.yaml", 3, "must be one document", ""},
		"no file":                 {belay.Patch{Target: deploy, File: "bad/none.yaml"}, "belay/app.yaml", 7, `"bad/none.yaml" does not exist`, ""},
		"no other source":         {belay.Patch{Target: deploy, File: "$values/p.yaml"}, "belay/app.yaml", 7, `"$values/p.yaml" does not exist`, ""},
		"no regular expression":   {belay.Patch{Target: &belay.PatchTarget{Name: "("}, Patch: "a: b"}, "belay/app.yaml", 7, "not a regular expression", ""},
		"no selector":             {belay.Patch{Target: &belay.PatchTarget{LabelSelector: "a in"}, Patch: "a: b"}, "belay/app.yaml", 7, "labelSelector", ""},
		"a Secret":                {belay.Patch{Target: &belay.PatchTarget{Kind: "Secret"}, Patch: `[{"op": "test", "path": "/stringData/key", "value": "swordfish"}]`}, "belay/app.yaml", 7, "does not fit Secret token", "swordfish hunter22"},
	} {
		t.Run(name, func(t *testing.T) {
			req := request("app")
			req.Definition, req.Patches = definition, []belay.Patch{tc.patch}
			_, errs := renderError(t, p, files, req)
			wantError(t, errs, belay.CodeInvalid, tc.want)
			if o := errs[0].Origin; o.File != tc.file || o.Line != tc.line {
				t.Errorf("the place is %s, want %s:%d", o, tc.file, tc.line)
			}
			for v := range strings.FieldsSeq(tc.mustHide) {
				if strings.Contains(errs[0].Error(), v) {
					t.Errorf("the error repeats a value: %v", errs[0])
				}
			}
		})
	}
	req := request("app")
	req.Patches = []belay.Patch{{Target: deploy, Patch: "metadata: {labels: {a: b}}"}, {Target: &belay.PatchTarget{Kind: "Job"}, Patch: "a: b"},
		{Patch: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: elsewhere}}"},
		{Patch: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: prod}, spec: {paused: true}}"}}
	if res := mustRender(t, p, files, req); len(res.Unfit) != 2 || res.Unfit[0] != 1 || res.Unfit[1] != 2 {
		t.Errorf("patches that fit nothing: %v, want [1 2]", res.Unfit)
	}
}

func TestVariables(t *testing.T) {
	p := newPool(t, testOptions)
	res := patched(t, p, func(r *render.Request) {
		r.Patches = []belay.Patch{{Target: &belay.PatchTarget{Kind: "Deployment"}, Patch: "spec: {replicas: \"${REPLICAS}\", paused: \"${PAUSED}\"}"}}
		r.Variables = &belay.Variables{Files: []string{"vars/all.yaml", "vars/prod.yaml"}, Values: map[string]string{"PORT": "8080", "PAUSED": "true"}}
	}, map[string]string{
		"vars/all.yaml":  "REPLICAS: 2\nBUILD: 17\nPORT: 1\n",
		"vars/prod.yaml": "REPLICAS: 4\n",
		"plain/cr.yaml":  "apiVersion: x.example/v1\nkind: Widget\nmetadata: {name: w, labels: {num: \"${BUILD}\"}}\nspec: {num: \"${BUILD}\", country: \"${C:=NO}\", text: \"v${BUILD}\", big: \"${BIG:-1.50}\", raw: \"$${BUILD}\"}\n",
		"plain/cm.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: script, annotations: {belay.dev/variables: disabled}}\ndata: {run.sh: \"echo ${HOME} ${BUILD}\"}\n",
		"plain/cm2.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: texts}\ndata: {num: \"${BUILD}\", dollar: \"a $HOME $(id) ${9}\", e: \"${EMPTY:=}\"}\n",
	})
	for kind, r := range res {
		m := manifest(t, r, "Deployment.apps web")
		for _, want := range []string{`"replicas":4`, `"paused":true`, `"value":"8080"`, `"image":"app:stable"`, `"build":"17"`} {
			if !strings.Contains(m, want) {
				t.Errorf("%s: no %s in %s", kind, want, m)
			}
		}
	}
	m := manifest(t, res["plain"], "Widget.x.example w")
	for _, want := range []string{`"labels":{"num":"17"}`, `"num":17`, `"country":"NO"`, `"text":"v17"`, `"big":1.50`, `"raw":"${BUILD}"`} {
		if !strings.Contains(m, want) {
			t.Errorf("no %s in %s", want, m)
		}
	}
	if m := manifest(t, res["plain"], "ConfigMap script"); !strings.Contains(m, "echo ${HOME} ${BUILD}") {
		t.Errorf("variables are in an object that wants none: %s", m)
	}
	if m := manifest(t, res["plain"], "ConfigMap texts"); !strings.Contains(m, `{"dollar":"a $HOME $(id) ${9}","e":"","num":"17"}`) {
		t.Errorf("texts: %s", m)
	}
}

func TestVariablesThatCannotBe(t *testing.T) {
	p := newPool(t, testOptions)
	files := rendertest.Files{
		"app/a.yaml":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  one: ${ONE}\n",
		"odd/a.yaml":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  list: \"${TWO:oops}\"\n",
		"sec/s.yaml":    "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {pw: \"ab${hunter22}cd\"}\n",
		"v/list.yaml":   "A: [1]\n",
		"v/name.yaml":   "a-b: 1\n",
		"v/scalar.yaml": "just text\n",
	}
	for name, tc := range map[string]struct {
		path, file string
		vars       belay.Variables
		want       []string
	}{
		"undefined": {"app", "app/a.yaml", belay.Variables{}, []string{"data.one: the variable ONE is not set and has no default"}},
		"odd":       {"odd", "odd/a.yaml", belay.Variables{}, []string{"data.list: ${TWO is not followed by }"}},
		"secret":    {"sec", "sec/s.yaml", belay.Variables{}, []string{"stringData.pw: a variable in it is not set"}},
		"list":      {"app", "v/list.yaml", belay.Variables{Files: []string{"v/list.yaml"}}, []string{"the variable A is not a text"}},
		"name":      {"app", "v/name.yaml", belay.Variables{Files: []string{"v/name.yaml"}}, []string{"not the name of a variable"}},
		"scalar":    {"app", "v/scalar.yaml", belay.Variables{Files: []string{"v/scalar.yaml"}}, []string{"not a mapping"}},
		"missing":   {"app", "belay/app.yaml", belay.Variables{Files: []string{"v/none.yaml"}}, []string{`spec.variables.files[0]: "v/none.yaml" does not exist`}},
	} {
		t.Run(name, func(t *testing.T) {
			req := request(tc.path)
			req.Variables, req.Definition = &tc.vars, belay.Origin{Repo: req.Repo, Revision: req.Revision, File: "belay/app.yaml", Line: 1}
			_, errs := renderError(t, p, files, req)
			for _, want := range tc.want {
				wantError(t, errs, belay.CodeInvalid, want)
			}
			if o := errs[0].Origin; o.File != tc.file || o.Line == 0 {
				t.Errorf("the place is %s, want %s", o, tc.file)
			}
			if strings.Contains(errs[0].Error(), "hunter22") {
				t.Errorf("the error repeats a value: %v", errs[0])
			}
		})
	}
	// Without declared variables no text is touched.
	if m := manifest(t, mustRender(t, p, files, request("app")), "ConfigMap c"); !strings.Contains(m, "${ONE}") {
		t.Errorf("a text was touched: %s", m)
	}
}
