package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay/internal/devtest"
)

// A whole run with a fleet of two: no time is looked at, but counts are exact.
func TestRun(t *testing.T) {
	cp := devtest.Cluster(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "belay")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/belay").CombinedOutput(); err != nil {
		t.Fatalf("build belay: %v\n%s", err, out)
	}
	const apps = 2
	home := cp.Namespace(t)
	b, err := newBench(t.Context(), benchConfig{
		options:    options{apps: apps, kind: "mix", commits: 3, rounds: 2, drifts: 2, rest: time.Second, belay: program, dir: dir},
		kubeconfig: cp.Kubeconfig(), auditLog: cp.AuditLog(), prefix: home, instance: home, shared: true, calm: 200 * time.Millisecond, say: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer deleteNamespaces(t, cp, b)
	res, err := b.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]float64{
		"rollout.requests": 4 * apps, "rollout.patches": 4 * apps, "rollout.renders": apps,
		"one.requests": 1, "one.renders": 1, "all.requests": apps, "all.renders": apps, "drift.requests": 1,
		"rest.requests": 0, "restart.requests": 0, "restart.writes": 0, "restart.renders": 0, "restart.cached": apps,
	} {
		if f := res.Figures[key]; f.Belay == nil || *f.Belay != want {
			t.Errorf("%s: %s, want %v", key, number(f.Belay), want)
		}
	}
	for _, row := range rows {
		if _, ok := res.Figures[row.key]; row.key != "" && !ok {
			t.Errorf("%s was not measured", row.key)
		}
	}

	// It can be written, read again and compared with.
	file := filepath.Join(dir, "figures.json")
	if err := res.write(file); err != nil {
		t.Fatal(err)
	}
	earlier, err := readResult(file)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	res.print(&table, earlier)
	for _, want := range []string{"2 applications × 4 objects, mix", "raw loop", "earlier", "until all objects exist, s"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, &table)
		}
	}
}

// deleteNamespaces begins the deletion of what a run leaves behind.
func deleteNamespaces(t *testing.T, cp *devtest.ControlPlane, b *bench) {
	t.Helper()
	client, err := kubernetes.NewForConfig(cp.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.apps {
		for _, fleet := range []string{fleetBelay, fleetRaw} {
			if err := client.CoreV1().Namespaces().Delete(t.Context(), b.fleet.namespace(fleet, i), metav1.DeleteOptions{}); err != nil {
				t.Errorf("clean-up: %v", err)
			}
		}
	}
}

// Every file of a fleet is YAML, apart from the templates of charts, and a commit
// to one or to all changes only files that are there.
func TestFleetFiles(t *testing.T) {
	for _, kind := range kinds {
		f := newFleet(4, kind, "p")
		files := f.files()
		for path, content := range files {
			var v any
			if err := yaml.Unmarshal([]byte(content), &v); err != nil {
				t.Errorf("%s: %s: %v\n%s", kind, path, err, content)
			}
		}
		f.values[1], f.shared = "one", "all"
		for what, changed := range map[string]map[string]string{"one": f.own(1), "all": f.common()} {
			differ := 0
			for path, content := range changed {
				before, ok := files[path]
				if !ok {
					t.Errorf("%s: a commit to %s makes %s", kind, what, path)
				}
				if before != content {
					differ++
				}
			}
			if differ == 0 {
				t.Errorf("%s: a commit to %s changes nothing", kind, what)
			}
		}
	}
}

func TestParseAudit(t *testing.T) {
	for _, test := range []struct {
		line   string
		want   request
		counts bool
	}{
		{`{"stage":"ResponseComplete","verb":"patch","userAgent":"belay/1","requestURI":"/x","objectRef":{"resource":"pods","subresource":"status","namespace":"n"}}`,
			request{"belay/1", "n", "patch", "pods/status"}, true},
		{`{"stage":"ResponseComplete","verb":"watch","objectRef":{"resource":"pods"}}`, request{"", "", "watch", "pods"}, false},
		{`{"stage":"ResponseStarted","verb":"watch","objectRef":{"resource":"pods"}}`, request{"", "", "watch", "pods"}, true},
		{`{"stage":"ResponseComplete","verb":"get","requestURI":"/version?x=y"}`, request{"", "", "get", "/version"}, true},
	} {
		got, counts, err := parseAudit([]byte(test.line))
		if err != nil || got != test.want || counts != test.counts {
			t.Errorf("%s: %+v %v %v, want %+v %v", test.line, got, counts, err, test.want, test.counts)
		}
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, .5: 3, .99: 5, 1: 5} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestCompareWithNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.json")
	b, err := json.Marshal(map[string]any{"applications": 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readResult(file); err == nil {
		t.Error("a file without figures is accepted")
	}
}

func TestParse(t *testing.T) {
	for _, args := range [][]string{{"--kind", "other"}, {"--apps", "0"}, {"more"}} {
		if _, err := parse(args, t.Output()); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
