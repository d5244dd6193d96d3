package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// rollbackWorld has a random history of applications that share a base and a
// chart, and knows from the files of any commit what each of them was.
type rollbackWorld struct {
	*world
	r       *rand.Rand
	s       *serveProcess
	history []string
	log     []string
}

var rollbackApps = []string{"kust-a", "kust-b", "plain", "helm-a", "helm-b"}

var manifestValue = regexp.MustCompile(`(?s)name: (\S+).*value: "([^"]*)"`)

// file is what a file says at a commit; "" where there is none.
func (w *rollbackWorld) file(commit, p string) string {
	for line := range strings.SplitSeq(w.repo.Git("ls-tree", "--name-only", commit, p), "\n") {
		if line == p {
			return w.repo.Git("show", commit+":"+p)
		}
	}
	return ""
}

// evaluate is what an application was at a commit: the values of its ConfigMaps.
func (w *rollbackWorld) evaluate(commit, app string) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	take := func(manifest string) {
		for doc := range strings.SplitSeq(manifest, "---\n") {
			if m := manifestValue.FindStringSubmatch(doc); m != nil {
				out[m[1]] = m[2]
			}
		}
	}
	dir := ""
	for line := range strings.SplitSeq(w.file(commit, "belay/"+app+".yaml"), "\n") {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "path: "); ok {
			dir = p
		}
	}
	switch {
	case strings.HasPrefix(app, "kust"):
		list := w.file(commit, dir+"/kustomization.yaml")
		list = list[strings.IndexByte(list, '[')+1 : strings.IndexByte(list, ']')]
		for r := range strings.SplitSeq(list, ", ") {
			if r == "../../base" {
				r = "../../base/shared.yaml"
			}
			take(w.file(commit, path.Join(dir, r)))
		}
	case strings.HasPrefix(app, "helm"):
		values := w.file(commit, "values/"+app+".yaml")
		manifest := w.file(commit, "chart/templates/cm.yaml")
		take(strings.ReplaceAll(manifest, "{{ .Values.v }}", strings.TrimPrefix(values, "v: ")))
	default:
		for p := range strings.SplitSeq(w.repo.Git("ls-tree", "-r", "--name-only", commit, dir+"/"), "\n") {
			if strings.HasSuffix(p, ".yaml") {
				take(w.file(commit, p))
			}
		}
	}
	return out
}

func (w *rollbackWorld) begin() map[string]string {
	files := map[string]string{
		"base/kustomization.yaml": "resources: [shared.yaml]\n", "base/shared.yaml": configMap("shared", "0"),
		"chart/Chart.yaml": "apiVersion: v2\nname: c\nversion: 1.0.0\n", "chart/templates/cm.yaml": configMap("chart", "{{ .Values.v }}-0"),
		"apps/plain/anchor.yaml": configMap("anchor", "0"), "unrelated.txt": "0",
	}
	for _, app := range rollbackApps {
		dir := "apps/" + app
		more := "  sync: {pruneLimit: {percent: 100}}\n"
		if strings.HasPrefix(app, "helm") {
			dir = "chart"
			files["values/"+app+".yaml"] = "v: 0\n"
		}
		def := application(app, dir, "NS-"+app, more)
		switch {
		case strings.HasPrefix(app, "helm"):
			def = strings.Replace(def, "    path: chart\n", "    path: chart\n    helm: {valuesFiles: [/values/"+app+".yaml]}\n", 1)
		case strings.HasPrefix(app, "kust"):
			files[dir+"/kustomization.yaml"] = "resources: [../../base, own.yaml]\n"
			files[dir+"/own.yaml"] = configMap("own", "0")
		}
		files["belay/"+app+".yaml"] = def
	}
	return files
}

// mutate makes one random commit.
func (w *rollbackWorld) mutate(n int) {
	v := strconv.Itoa(n)
	files := map[string]string{"unrelated.txt": v}
	head := w.repo.Resolve("main")
	for range 1 + w.r.IntN(3) {
		switch w.r.IntN(8) {
		case 0:
			files["base/shared.yaml"] = configMap("shared", v)
		case 1:
			files["chart/templates/cm.yaml"] = configMap("chart", "{{ .Values.v }}-"+v)
		case 2, 3: // a file of the application that is found by listing comes or goes
			p := fmt.Sprintf("apps/plain/sub%d/x.yaml", w.r.IntN(3))
			if w.file(head, p) == "" {
				files[p] = configMap(path.Base(path.Dir(p)), v)
			} else {
				files[p] = ""
			}
		case 4:
			app := []string{"helm-a", "helm-b"}[w.r.IntN(2)]
			files["values/"+app+".yaml"] = "v: " + v + "\n"
		case 5: // the application moves to another directory
			app := []string{"kust-a", "kust-b"}[w.r.IntN(2)]
			dir := fmt.Sprintf("apps/%s-%d", app, w.r.IntN(2))
			files["belay/"+app+".yaml"] = "# moved " + v + "\n" + application(app, dir, "NS-"+app, "  sync: {pruneLimit: {percent: 100}}\n")
			files[dir+"/kustomization.yaml"] = "resources: [../../base, own.yaml, more.yaml]\n"
			files[dir+"/own.yaml"], files[dir+"/more.yaml"] = configMap("own", v), configMap("more", v)
		default:
			app := []string{"kust-a", "kust-b"}[w.r.IntN(2)]
			for line := range strings.SplitSeq(w.file(head, "belay/"+app+".yaml"), "\n") {
				if dir, ok := strings.CutPrefix(strings.TrimSpace(line), "path: "); ok {
					files[dir+"/own.yaml"] = configMap("own", v)
				}
			}
		}
	}
	w.history = append(w.history, w.commit("Change "+v, files))
	w.log = append(w.log, fmt.Sprintf("commit %s: %v", v, slices.Sorted(maps.Keys(files))))
}

// differences says how the cluster departs from what a commit declares.
func (w *rollbackWorld) differences(commit string) error {
	for _, app := range rollbackApps {
		list, err := w.kube.CoreV1().ConfigMaps(w.ns(app)).List(w.t.Context(), metav1.ListOptions{LabelSelector: belay.LabelInstance + "=" + w.instance})
		if err != nil {
			return err
		}
		got := map[string]string{}
		for i := range list.Items {
			got[list.Items[i].Name] = list.Items[i].Data["value"]
		}
		if want := w.evaluate(commit, app); !maps.Equal(got, want) {
			return fmt.Errorf("%s is %v, want %v", app, got, want)
		}
	}
	return nil
}

// Any application goes back to any earlier revision of a random history, through
// shared bases, charts, listed directories and moved definitions: it is then what
// it was, in Git and in the cluster, and no other changes that was not named.
func TestRandomRollbacks(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv(envSeed); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("to repeat this run, set %s=%d", envSeed, seed)
	w := &rollbackWorld{world: newWorld(t), r: rand.New(rand.NewPCG(seed, seed))}
	w.history = []string{w.commit("The beginning", w.begin())}
	for n := range 6 {
		w.mutate(n + 1)
	}
	w.s = w.serve()
	w.s.awaitSynced(rollbackApps...)
	defer func() {
		if t.Failed() {
			t.Logf("the steps: %s", strings.Join(w.log, "\n"))
		}
	}()
	named := 0
	for round := range 25 {
		for range w.r.IntN(3) {
			w.mutate(100 + 10*round + w.r.IntN(10))
		}
		w.s.hook()
		app, to := rollbackApps[w.r.IntN(len(rollbackApps))], w.history[w.r.IntN(len(w.history))]
		w.log = append(w.log, fmt.Sprintf("round %d: %s to %.10s", round, app, to))
		req := belay.RollbackRequest{To: to, DryRun: true}
		plan, err := w.s.Rollback(t.Context(), app, req)
		if err != nil {
			t.Fatalf("round %d: %s to %.10s: %v", round, app, to, err)
		}
		before := w.repo.Resolve("main")
		req.DryRun = false
		for _, o := range plan.Others {
			req.Others = append(req.Others, o.Application)
		}
		named += len(plan.Others)
		if _, err := w.s.Rollback(t.Context(), app, req); err != nil {
			t.Fatalf("round %d: %s to %.10s: %v", round, app, to, err)
		}
		head := w.repo.Resolve("main")
		if head != before {
			w.history = append(w.history, head)
		}
		for _, other := range rollbackApps {
			was, is := w.evaluate(before, other), w.evaluate(head, other)
			if other == app {
				was = w.evaluate(to, app)
			}
			if !maps.Equal(was, is) != slices.Contains(req.Others, other) {
				t.Fatalf("round %d: %s went to %.10s: %s is %v, was %v; named were %v", round, app, to, other, is, was, req.Others)
			}
		}
		devtest.Await(t, "the cluster to be what Git says", func() error { return w.differences(head) })
		if got := w.repo.Git("diff", "--name-only", before, head, "--", "unrelated.txt"); got != "" {
			t.Fatalf("round %d: %s was touched", round, got)
		}
	}
	if named == 0 {
		t.Error("no other application was ever named")
	}
}
