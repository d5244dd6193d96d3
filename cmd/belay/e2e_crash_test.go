package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/devtest"
)

// crashPoints are the checkpoints of a sync and how often each is passed before
// the process dies there.
var crashPoints = []struct {
	name  string
	times []int
}{
	{"loaded", []int{1}}, {"rendered", []int{1, 3}}, {"begin", []int{1, 2, 4}}, {"write", []int{1, 2, 4, 7}}, {"namespace", []int{1}},
	{"written", []int{1, 2, 5, 8}}, {"group", []int{1, 3, 5}}, {"delete", []int{1, 3}}, {"deleted", []int{1, 2, 3}}, {"ended", []int{1, 3}}, {"arrived", []int{1, 3}},
}

// changing is a fleet that is different at each step, in every way that an
// application can be: changed, renamed, moved, added, removed.
type changing struct {
	w *world
	// files at the last step, to be deleted when the next has them no more.
	files map[string]string
}

// step commits the fleet's n-th form. It returns the applications and the
// objects that are to be there with their values.
func (c *changing) step(n int) (apps []string, want map[string]string) {
	v, odd := fmt.Sprintf("v%d", n), n%2 == 1
	fifth := "five-" + v
	files := map[string]string{
		"belay/one.yaml": application("one", "apps/one", "NS-one"), "belay/two.yaml": application("two", "apps/two", "NS-two"),
		"belay/three.yaml": application("three", "chart", "NS-three"), "belay/five.yaml": application(fifth, "apps/five", "NS-"+fifth),
		"belay/six.yaml":       application("six", "apps/six", "NS-one"),
		"apps/one/stable.yaml": documents(configMap("stable", "s"), deployment("web", 1, "web:1")),
		"apps/one/all.yaml": documents(configMap("changing", v), configMap("late", v, annotated(belay.AnnotationWave, "1")),
			configMap("later", v, annotated(belay.AnnotationArgoWave, "2"))),
		"apps/two/kustomization.yaml": "resources: [stable.yaml]\nconfigMapGenerator:\n  - name: renamed-" + v + "\n    literals: [value=" + v + "]\n" +
			"generatorOptions: {disableNameSuffixHash: true}\nsecretGenerator:\n  - name: generated\n    literals: [value=" + v + "]\n",
		"apps/two/stable.yaml":        documents(configMap("stable", "s"), configMap("stable-2", "s")),
		"chart/Chart.yaml":            "apiVersion: v2\nname: chart\nversion: 1.0.0\n",
		"chart/values.yaml":           "value: " + v + "\n",
		"chart/templates/config.yaml": configMap("config", "s") + "---\n" + "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {value: {{ .Values.value }}}\n",
		"apps/five/five.yaml":         documents(configMap("a", "a"), configMap("b", v)),
		"apps/six/six.yaml":           configMap("six", "s"),
	}
	apps = []string{"one", "two", "three", fifth, "six"}
	want = map[string]string{
		"one/stable": "s", "one/changing": v, "one/late": v, "one/later": v, "one/kept": "k", "one/moving": "m", "one/six": "s",
		"two/renamed-" + v: v, "two/stable": "s", "two/stable-2": "s", "two/generated": v, "three/config": "s", "three/token": v,
		fifth + "/a": "a", fifth + "/b": v,
	}
	if odd {
		files["apps/six/moving.yaml"] = configMap("moving", "m")
	} else {
		files["apps/one/even.yaml"] = documents(configMap("moving", "m"), configMap("gone", "g"),
			configMap("kept", "k", annotated(belay.AnnotationPrune, "disabled")))
		files["belay/four.yaml"], files["apps/four/four.yaml"] = application("four", "apps/four", "NS-four"), documents(configMap("a", "a"), configMap("b", v))
		apps = append(apps, "four")
		want["one/gone"], want["four/a"], want["four/b"] = "g", "a", v
	}
	push := maps.Clone(files)
	for p := range c.files {
		if _, ok := files[p]; !ok {
			push[p] = ""
		}
	}
	c.files = files
	c.w.commit("Step "+v, push)
	return apps, want
}

// differences are the objects, by namespace and name without the prefix, that the cluster has
// and ought not to have, has not, or has with another value.
func (c *changing) differences(want map[string]string) (out []string) {
	t, w := c.w.t, c.w
	t.Helper()
	have := map[string]string{}
	selected := metav1.ListOptions{LabelSelector: belay.LabelInstance + "=" + w.instance}
	maps_, err := w.kube.CoreV1().ConfigMaps("").List(t.Context(), selected)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maps_.Items {
		cm := &maps_.Items[i]
		have[strings.TrimPrefix(cm.Namespace, w.home+"-")+"/"+cm.Name] = cm.Data["value"]
	}
	secrets, err := w.kube.CoreV1().Secrets("").List(t.Context(), selected)
	if err != nil {
		t.Fatal(err)
	}
	for i := range secrets.Items {
		s := &secrets.Items[i]
		have[strings.TrimPrefix(s.Namespace, w.home+"-")+"/"+s.Name] = string(s.Data["value"])
	}
	for k, v := range have {
		if strings.HasPrefix(k, "one/foreign") {
			continue
		}
		if x, ok := want[k]; !ok {
			out = append(out, "left over: "+k)
		} else if x != v {
			out = append(out, fmt.Sprintf("%s is %q, want %q", k, v, x))
		}
	}
	for k := range want {
		if _, ok := have[k]; !ok {
			out = append(out, "missing: "+k)
		}
	}
	slices.Sort(out)
	return out
}

// foreigners makes objects that are not Belay's, as close to being so as can be.
func (w *world) foreigners(ns string) {
	w.t.Helper()
	id := func(name string) string {
		return belay.FormatID("one", belay.ObjectID{Kind: "ConfigMap", Namespace: ns, Name: name})
	}
	ours := map[string]string{belay.LabelManaged: "true", belay.LabelInstance: w.instance}
	w.make(ns, "foreign-plain", "x", nil, nil)
	w.make(ns, "foreign-label", "x", ours, nil)
	w.make(ns, "foreign-copy", "x", ours, map[string]string{belay.AnnotationID: id("stable"), belay.AnnotationDigest: "0"})
	// It names itself, but Belay did not apply it.
	w.make(ns, "foreign-claim", "x", ours, map[string]string{belay.AnnotationID: id("foreign-claim"), belay.AnnotationDigest: "0"})
	w.make(ns, "foreign-instance", "x", map[string]string{belay.LabelManaged: "true", belay.LabelInstance: "other"},
		map[string]string{belay.AnnotationID: id("foreign-instance")})
}

// versions are the resourceVersions of what foreigners made.
func (w *world) versions(ns string) map[string]string {
	w.t.Helper()
	list, err := w.kube.CoreV1().ConfigMaps(ns).List(w.t.Context(), metav1.ListOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]string{}
	for i := range list.Items {
		if cm := &list.Items[i]; strings.HasPrefix(cm.Name, "foreign") {
			out[cm.Name] = cm.ResourceVersion
		}
	}
	return out
}

// Killed at any point of a sync, and started again, it converges: nothing is
// left over, nothing foreign is touched, and nothing that is right is written again.
func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	// Several in parallel, each with every third case.
	const lanes = 3
	type crash struct {
		point string
		n     int
	}
	var cases []crash
	for _, p := range crashPoints {
		for _, n := range p.times {
			cases = append(cases, crash{p.name, n})
		}
	}
	for lane := range lanes {
		t.Run(fmt.Sprint(lane), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.foreigners(w.makeNamespace("one"))
			foreign := w.versions(w.ns("one"))
			fleet := &changing{w: w}
			apps, want := fleet.step(0)
			s := w.serve()
			s.awaitSynced(apps...)
			step := 0
			for i := lane; i < len(cases); i += lanes {
				c := cases[i]
				step++
				before := want
				mark := w.cp.Mark(t)
				s.crashAt(c.point, c.n)
				apps, want = fleet.step(step)
				s.hook()
				s.awaitCrash(fmt.Sprintf("%s %d", c.point, c.n))
				lost := i%5 == 4
				if lost {
					w.loseDisk()
				}
				// A second death, on the way back.
				if i%4 == 3 {
					again := w.serveCrashing(fmt.Sprintf("%s:%d", c.point, 1))
					devtest.Await(t, "the second crash", func() error {
						if again.ended() || again.allSynced(apps) {
							return nil
						}
						return errors.New("it lives, and is not done")
					})
					again.kill()
				}
				s = w.serve()
				s.awaitSynced(apps...)
				what := fmt.Sprintf("killed at %s %d", c.point, c.n)
				if d := fleet.differences(want); len(d) > 0 {
					t.Errorf("%s: %s", what, strings.Join(d, "; "))
				}
				if now := w.versions(w.ns("one")); !maps.Equal(now, foreign) {
					t.Errorf("%s: foreign objects are at %v, were at %v", what, now, foreign)
				}
				w.checkWrites(what, w.writes(mark), before, want, lost)
				w.checkRecord(what, w.writes(mark), lost)
				if t.Failed() {
					return
				}
			}
			s.stop()
			mark := w.cp.Mark(t)
			s = w.serve()
			s.awaitSynced(apps...)
			if r := w.writes(mark); len(r) > 0 {
				t.Errorf("a restart wrote%s", listing(r))
			}
			s.kill()
			w.loseDisk()
			mark = w.cp.Mark(t)
			s = w.serve()
			s.awaitSynced(apps...)
			for _, r := range w.writes(mark) {
				if r.Resource != "secrets" {
					t.Errorf("a restart with nothing on disk: %s", r)
				}
			}
		})
	}
}

func (s *serveProcess) allSynced(apps []string) bool {
	st, err := s.Status(s.w.t.Context(), client.Filter{})
	if err != nil {
		return false
	}
	for _, n := range apps {
		if wellAt(&st, n, s.w.repo.Resolve("main")) != nil {
			return false
		}
	}
	return len(st.Applications) == len(apps)
}

// checkWrites makes sure that each object was written at most once, and what is
// as it was before, never. Where the data directory was lost, Secrets may be
// written again, and what was being written as a process died, by the next one.
func (w *world) checkWrites(what string, writes []devtest.Request, before, want map[string]string, lost bool) {
	w.t.Helper()
	times := map[string]int{}
	for _, r := range writes {
		key := strings.TrimPrefix(r.Namespace, w.home+"-") + "/" + r.Name
		if r.Code >= 300 || (lost && r.Resource == "secrets") || r.Resource == "namespaces" {
			continue
		}
		if !w.interrupted(r) {
			times[key]++
		}
		if times[key] > 1 {
			w.t.Errorf("%s: %s was written %d times:%s", what, key, times[key], listing(writes))
		}
		old, was := before[key]
		now, is := want[key]
		moved := key == "one/moving" || key == "one/kept"
		if was && is && old == now && !moved {
			w.t.Errorf("%s: %s was right, and written:%s", what, key, listing(writes))
		}
	}
}
