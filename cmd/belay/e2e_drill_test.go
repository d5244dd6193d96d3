package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay/internal/drill"
	"github.com/belaydev/belay/internal/sops/sopstest"
)

// drillFleet is what a drill finds fault with, and what it does not: bad adds what
// fails.
func (w *world) drillFleet() (good, bad map[string]string) {
	crd := strings.Replace(w.crd("Database", "Namespaced"), "      schema:\n", "      subresources: {status: {}}\n      schema:\n", 1)
	key := sopstest.Age(w.t)
	after := func(name string) string { return "  dependsOn: [{name: " + name + "}]\n" }
	good = map[string]string{
		"belay/kinds.yaml": application("kinds", "apps/kinds", "NS-kinds"), "apps/kinds/crd.yaml": crd,
		"belay/rule.yaml": w.healthRule("Up"),
		// Nobody here makes the database ready, and nobody answers the webhook.
		"belay/data.yaml": application("data", "apps/data", "NS-data", after("kinds")), "apps/data/database.yaml": w.custom("Database", "main", "1"),
		"belay/guard.yaml": application("guard", "apps/guard", "NS-guard"),
		"apps/guard/hook.yaml": "apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\nmetadata: {name: NS-guard}\nwebhooks:\n" +
			"  - {name: guard.example.com, sideEffects: None, admissionReviewVersions: [v1], failurePolicy: Fail, clientConfig: {service: {name: guard, namespace: NS-guard}},\n" +
			"     rules: [{apiGroups: [\"*\"], apiVersions: [\"*\"], operations: [\"*\"], resources: [configmaps]}]}\n",
		// Its images need a Secret that Git does not bring.
		"belay/shop.yaml": application("shop", "apps/shop", "NS-shop", after("guard")), "apps/shop/a.yaml": documents(configMap("settings", "1"), deployment("web", 1, "web:1")+"      imagePullSecrets: [{name: registry}]\n"),
		"apps/shop/hook.yaml": hookJob("migrate", "PreSync", ""),
		"belay/gadget.yaml":   application("gadget", "apps/gadget", "NS-gadget"), "apps/gadget/g.yaml": w.custom("Gadget", "g", "1"),
		"belay/sealed-project.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: sealed}\nspec:\n  sources: [{repo: \"**\"}]\n  destinations: [{}]\n" +
			"  decryption:\n    age: [{secret: {namespace: belay, name: sops, key: age}}]\n",
		// Somebody has to ask for these, or to leave them alone.
		"belay/asked.yaml": application("asked", "apps/asked", "NS-asked", "  sync: {automatic: false}\n"), "apps/asked/a.yaml": configMap("a", "1"),
		"belay/shut-project.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Project\nmetadata: {name: shut}\nspec:\n  sources: [{repo: \"**\"}]\n  destinations: [{}]\n" +
			"  windows: [{kind: deny, schedule: \"0 * * * *\", duration: 2h}]\n",
		"belay/shut.yaml":    application("shut", "apps/asked", "NS-shut", "  project: shut\n", after("asked")),
		"belay/rest.yaml":    application("rest", "apps/asked", "NS-rest", "  suspend: {reason: migration}\n"),
		"belay/sealed.yaml":  application("sealed", "apps/sealed", "NS-sealed", "  project: sealed\n"),
		"apps/sealed/s.yaml": sopstest.Encrypt(w.t, "s.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {token: x}\n", "^stringData$", key),
	}
	bad = map[string]string{
		"belay/broken.yaml": application("broken", "apps/broken", "NS-broken"), "apps/broken/a.yaml": documents(configMap("a", "1"), strings.Replace(deployment("web", 1, "web:1"), "replicas: 1", "replicas: three", 1)),
		"belay/late.yaml": application("late", "apps/late", "NS-late", after("broken")), "apps/late/a.yaml": configMap("a", "1"),
		"belay/wrong.yaml": "apiVersion: belay.dev/v1alpha1\nkind: Application\nmetadata: {name: wrong}\nspec: {sauce: {path: x}}\n",
	}
	return good, bad
}

// drilled runs a drill and returns its report.
func (w *world) drilled(args ...string) (r drill.Report, stderr string, code int) {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "report.json")
	out, stderr, code := w.drillCommand(append([]string{"-o", "json", "--report", file}, args...)...)
	b, err := os.ReadFile(file)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		w.t.Fatalf("%v: %s\n%s\n%s", err, b, out, stderr)
	}
	w.t.Logf("belay drill %q: %d\n%s", args, code, out)
	return r, stderr, code
}

func (w *world) drillCommand(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	var out, errOut bytes.Buffer
	e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, getenv: func(name string) string {
		if name == "TMPDIR" {
			return filepath.Dir(w.data) // other drills leave theirs elsewhere
		}
		return ""
	}}
	code = e.execute(w.t.Context(), append([]string{"drill", "--repo", w.url, "--devcluster", "../../bin/devcluster", "--patience", "60s", "--timeout", "15m"}, args...))
	return out.String(), errOut.String(), code
}

func resultOf(r *drill.Report, app string) drill.Application {
	for _, a := range r.Applications {
		if a.Name == app {
			return a
		}
	}
	return drill.Application{}
}

func findingOf(r *drill.Report, title string) drill.Finding {
	for _, m := range r.Missing {
		if m.Title() == title {
			return m
		}
	}
	return drill.Finding{}
}

// A drill says what comes back and what does not, and what is not in Git.
func TestDrill(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	good, bad := w.drillFleet()
	commit := w.commit("What comes back", good)
	w.commit("What does not", bad)

	// The real cluster has a kind that Git does not define.
	var crd unstructured.Unstructured
	if err := yaml.Unmarshal([]byte(w.crd("Gadget", "Namespaced")), &crd.Object); err != nil {
		t.Fatal(err)
	}
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	if _, err := w.dynamic.Resource(crds).Create(t.Context(), &crd, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	defer func() { w.ignore(w.dynamic.Resource(crds).Delete(t.Context(), crd.GetName(), metav1.DeleteOptions{})) }()

	mark := w.cp.Mark(t)
	r, _, code := w.drilled("--at", "HEAD~1", "--kubeconfig", w.kubeconfig)
	if code != exitOK || r.Result != drill.Passed || len(r.Applications) != 9 || r.Revision != commit {
		t.Errorf("at HEAD~1 it ended with %d, %s, %d applications", code, r.Result, len(r.Applications))
	}
	if by := strings.Join(r.ByHand, "\n"); len(r.ByHand) != 3 || !strings.Contains(by, "asked waits until a sync is asked for") ||
		!strings.Contains(by, "shut waits for a window, but none will open") || !strings.Contains(by, "rest is suspended (migration)") {
		t.Errorf("what does not come back by itself is\n%s", by)
	}
	if a := resultOf(&r, "rest"); a.Result != drill.Suspended || r.GivenUp != 0 {
		t.Errorf("what is suspended: %+v, given up after %v", a, r.GivenUp)
	}
	if m := findingOf(&r, "CustomResourceDefinition "+crd.GetName()); !strings.Contains(m.Message, "copied in") || !slices.Equal(m.Applications, []string{"gadget"}) {
		t.Errorf("a kind that only the real cluster has: %+v", m)
	}
	for _, q := range w.requests(mark) {
		if q.Verb != "list" || q.Resource != "customresourcedefinitions" {
			t.Errorf("the real cluster was asked %s", q)
		}
	}
	names := make([]string, 0, len(r.Applications))
	for _, a := range r.Applications {
		names = append(names, a.Name)
	}
	if slices.Index(names, "kinds") > slices.Index(names, "data") || slices.Index(names, "guard") > slices.Index(names, "shop") {
		t.Errorf("the order is %q", names)
	}
	said := strings.Join(r.NotRehearsed, "\n")
	for _, text := range []string{"Database", "ValidatingWebhookConfiguration", "Secret belay/sops"} {
		if !strings.Contains(said, text) {
			t.Errorf("it does not say that %s was not rehearsed:\n%s", text, said)
		}
	}

	r, stderr, code := w.drilled()
	if code != exitError || r.Result != drill.Failed {
		t.Errorf("it ended with %d, %s\n%s", code, r.Result, stderr)
	}
	for app, want := range map[string]struct {
		result drill.Result
		text   string
	}{
		"kinds": {drill.Passed, ""}, "data": {drill.Passed, ""}, "shop": {drill.Passed, ""}, "sealed": {drill.Passed, ""},
		"broken": {drill.Failed, "apps/broken/a.yaml:8"}, "late": {drill.Waiting, "waits for broken"}, "gadget": {drill.Failed, "Gadget"},
	} {
		if a := resultOf(&r, app); a.Result != want.result || !strings.Contains(a.Error+a.Message, want.text) {
			t.Errorf("%s: %+v", app, a)
		}
	}
	if len(r.Problems) != 1 || !strings.Contains(r.Problems[0].Error(), "belay/wrong.yaml") {
		t.Errorf("problems are %v", r.Problems)
	}
	for title, app := range map[string]string{"Secret " + w.ns("shop") + "/registry": "shop", "CustomResourceDefinition Gadget." + w.group(): "gadget",
		"Secret belay/sops": "", "CABundle " + w.ns("guard"): "guard"} {
		if m := findingOf(&r, title); m.Message == "" || app != "" && !slices.Equal(m.Applications, []string{app}) {
			t.Errorf("%s: %+v", title, m)
		}
	}
}

// A part of a fleet, and what cannot be rehearsed at all.
func TestDrillOfAPart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cluster := func(name string) string {
		return "apiVersion: belay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: " + name + "}\nspec: {kubeconfig: {file: /nowhere/" + name + "}}\n"
	}
	on := func(cluster, name string, more ...string) string {
		return strings.Replace(application(name, "apps/a", "NS-"+name, more...), "  destination:\n", "  destination:\n    cluster: "+cluster+"\n", 1)
	}
	w.commit("Two clusters", map[string]string{
		"belay/clusters.yaml": documents(cluster("hub"), cluster("edge")), "apps/a/a.yaml": configMap("a", "1"),
		"belay/base.yaml": on("hub", "base"), "belay/web.yaml": on("edge", "web", "  dependsOn: [{name: base}]\n"), "belay/other.yaml": on("edge", "other"),
	})
	r, _, code := w.drilled("--cluster", "edge")
	if code != exitOK || len(r.Applications) != 2 || len(r.Clusters) != 1 || resultOf(&r, "web").Result != drill.Passed {
		t.Errorf("one cluster lost: %d, %+v", code, r)
	}
	r, _, code = w.drilled("--only", "web")
	if code != exitOK || len(r.Applications) != 2 || len(r.Clusters) != 2 || r.Applications[0].Name != "base" || r.Applications[1].Name != "web" {
		t.Errorf("one application: %d, %+v", code, r)
	}
	for _, impossible := range []struct {
		args []string
		text string
	}{
		{[]string{"--cluster", "nowhere"}, "edge, hub"}, {[]string{"--only", "nothing"}, "nothing"}, {[]string{"--at", "v9"}, "v9"}, {[]string{"--at", "HEAD~9"}, "before the first commit"},
		{[]string{"--path", "nowhere/"}, "check --path"}, {[]string{"--devcluster", "/nowhere/devcluster"}, "/nowhere/devcluster"},
		{[]string{"--report", "/nowhere/report"}, "/nowhere/report"}, {[]string{"-o", "yaml"}, "junit"}, {[]string{"--health", "good"}, "strict"},
	} {
		_, stderr, code := w.drillCommand(impossible.args...)
		if code != 2 || !strings.Contains(stderr, impossible.text) {
			t.Errorf("belay drill %q ended with %d: %s", impossible.args, code, stderr)
		}
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(w.data), "belay-drill-*")); err != nil || len(left) > 0 {
		t.Errorf("drills left %s, %v", fmt.Sprint(left), err)
	}
}
