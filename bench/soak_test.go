package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/belaydev/belay/internal/devtest"
)

// A few seconds of what a soak does for an hour: every kind of commit, edits by
// hand, crashes. No time is looked at; everything else has to hold.
func TestSoak(t *testing.T) {
	cp := devtest.Cluster(t)
	dir, program := t.TempDir(), builtBelay(t)
	home := cp.Namespace(t)
	o, err := parseSoak([]string{"--for", "12s", "--calm", "3s", "--crash", "4s", "--commit", "500ms", "--drift", "700ms", "--sample", "500ms",
		"--apps", "6", "--script", "11r1b1A1m1a1", "--belay", program, "--dir", dir, "--json", filepath.Join(dir, "soak.json"), "--csv", filepath.Join(dir, "soak.csv")}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSoak(t.Context(), soakConfig{soakOptions: o, kubeconfig: cp.Kubeconfig(), prefix: home, instance: home, patient: true, say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, ns := range s.namespaces() {
			if err := s.kube.CoreV1().Namespaces().Delete(context.WithoutCancel(t.Context()), ns, metav1.DeleteOptions{}); err != nil {
				t.Errorf("clean-up: %v", err)
			}
		}
	})
	res, err := s.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := res.write(o.jsonFile, o.csvFile); err != nil {
		t.Error(err)
	}
	var table strings.Builder
	res.print(&table)
	t.Logf("\n%s", &table)

	for _, f := range res.Findings {
		if !f.OK {
			t.Errorf("not so: %s: %d wrong: %q", f.What, f.Count, f.Wrong)
		}
	}
	if want := 10; len(res.Findings) != want {
		t.Errorf("%d findings, want %d", len(res.Findings), want)
	}
	if len(res.Crashes) != 2 || len(res.Samples) < 3 || res.Drifts < 5 {
		t.Errorf("%d crashes, %d samples, %d edits by hand", len(res.Crashes), len(res.Samples), res.Drifts)
	}
	kinds := map[string]int{}
	for _, e := range res.Effects {
		kinds[e.Kind]++
	}
	for _, k := range "1rbAma" {
		if kinds[string(k)] == 0 {
			t.Errorf("no commit of kind %c: %v", k, kinds)
		}
	}
	for _, event := range []string{"revision", "syncStarted", "synced", "drift", "healed", "started", "checkpoint"} {
		if res.Events[event] == 0 {
			t.Errorf("no %s on record: %v", event, res.Events)
		}
	}
	for _, x := range res.Samples {
		for what, v := range map[string]int64{"memory": x.Memory, "heap": x.Heap, "goroutines": x.Goroutines, "descriptors": x.Descriptors,
			"processes": x.Processes, "ledger": x.Ledger.Bytes, "mirrors": x.Mirrors.Bytes, "renders": x.Renders.Files} {
			if v <= 0 && x.At > 2 {
				t.Errorf("after %.1f s: %s is %d", x.At, what, v)
			}
		}
	}
	// The children of a process that was killed may end somewhat later than it.
	devtest.Await(t, "what crashes left behind to end", func() error {
		if _, strays := processes(-1, s.belay, s.dataDir()); strays > 0 {
			return fmt.Errorf("%d processes", strays)
		}
		return nil
	})
	for _, file := range []string{o.jsonFile, o.csvFile} {
		if info, err := os.Stat(file); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
	s.mustFindFaults(t)
}

// mustFindFaults makes faults after the end, when nothing heals them any more. A
// comparison that does not find them compares nothing.
func (s *soak) mustFindFaults(t *testing.T) {
	t.Helper()
	find := func(what string, wrong []string, want string) {
		t.Helper()
		if len(wrong) != 1 || !strings.Contains(wrong[0], want) {
			t.Errorf("%s: found %q, want one with %q", what, wrong, want)
		}
	}
	there := slices.Index(s.living.state, appThere) // the script removes some, and how far it came is a matter of time
	if there < 0 {
		t.Fatal("no application is left")
	}
	ns := s.living.fleet.namespace(fleetBelay, there)
	patch := func(name, body string) {
		t.Helper()
		if _, err := s.kube.CoreV1().ConfigMaps(ns).Patch(t.Context(), name, types.MergePatchType, []byte(body), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	cluster := func() []string {
		t.Helper()
		differ, err := s.compareCluster(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return differ
	}
	patch("web", `{"data":{"extra":"x"}}`)
	find("a value too many", cluster(), ns+"/web: data is")
	if err := s.kube.CoreV1().ConfigMaps(ns).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	find("an object that is gone", cluster(), ns+"/web is missing")
	cm, err := s.kube.CoreV1().ConfigMaps(ns).Get(t.Context(), "foreign-copy", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patch("foreign-copy", `{"data":{"value":"y"}}`)
	was := string(cm.UID) + " " + cm.ResourceVersion
	find("a write to what is foreign", s.compareForeign(t.Context(), map[string]string{ns + "/foreign-copy": was}), "was written to")
	find("a deletion of what is foreign", s.compareForeign(t.Context(), map[string]string{ns + "/foreign-gone": "x"}), "was deleted")
	if err := s.living.commit(t.Context(), s.living.next(changeAll)); err != nil {
		t.Fatal(err)
	}
	find("a commit that nobody took note of", s.compareRecord(t.Context()), "in no record")
	s.living.fleet.values[there] = "other"
	find("another repository", s.compareRepository(t.Context()), s.living.fleet.name(there))
	if err := os.WriteFile(s.logFile(), []byte("panic: oh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &soakResult{}
	if err := r.readLog(s.logFile()); err != nil || r.Findings[0].OK {
		t.Errorf("a panic in the log is not found: %+v %v", r.Findings, err)
	}
}

// steady are samples of an hour in which nothing grows but what grows by nature.
func steady() *soakResult {
	r := &soakResult{Seconds: 3600, Calm: 600}
	for at := 0.; at <= 3600; at += 5 {
		life := min(int(at/60), 50)
		wave := int64(at) % 60 / 10 // within each life
		r.Samples = append(r.Samples, soakSample{At: at, Life: life, Memory: 100*megabyte + wave*megabyte, MemoryProcess: 60*megabyte + wave*megabyte, Heap: 20 * megabyte,
			Goroutines: 70, Descriptors: 40, Processes: 6, Records: int64(6 * at), Commits: int64(at),
			Ledger: diskPart{Bytes: int64(6*at) * 1600, Packs: 80 + wave}, Index: diskPart{Bytes: int64(6*at) * 1500},
			Mirrors: diskPart{Bytes: int64(at) * 900, Packs: 15 + wave}, Renders: diskPart{Bytes: 5 * megabyte, Files: 800}})
		r.Effects = append(r.Effects, effect{At: at, Kind: "1", Milliseconds: 80 + at/3600}, effect{At: at, Kind: "drift", Milliseconds: 20}, effect{At: at, Kind: "question", Milliseconds: 5})
		if wave == 0 {
			r.Crashes = append(r.Crashes, crash{At: at, Serving: 1, Ready: 2})
		}
	}
	return r
}

func TestSoakJudgement(t *testing.T) {
	r := steady()
	if r.judge(); !r.passed() {
		var b strings.Builder
		r.print(&b)
		t.Errorf("a steady hour is not passed:\n%s", &b)
	}
	for what, grow := range map[string]func(r *soakResult, x *soakSample){
		"memory":                 func(_ *soakResult, x *soakSample) { x.Memory += int64(x.At) * 20 * kilobyte },
		"goroutines":             func(_ *soakResult, x *soakSample) { x.Goroutines += int64(x.At) / 60 },
		"descriptors":            func(_ *soakResult, x *soakSample) { x.Descriptors += int64(x.At) / 120 },
		"mirrors.packs":          func(_ *soakResult, x *soakSample) { x.Mirrors.Packs += int64(x.At) / 40 },
		"ledger.bytes":           func(_ *soakResult, x *soakSample) { x.Ledger.Bytes += x.Records * x.Records / 8 },
		"strays":                 func(_ *soakResult, x *soakSample) { x.Strays += int64(x.At) / 1200 },
		"leftovers":              func(_ *soakResult, x *soakSample) { x.Renders.Leftovers += int64(x.At) / 60 },
		"heap, in one life only": func(r *soakResult, x *soakSample) { x.Heap += int64(max(0, x.At-3000)) * 64 * kilobyte },
	} {
		r := steady()
		for i := range r.Samples {
			grow(r, &r.Samples[i])
		}
		r.judge()
		key, _, calm := strings.Cut(what, ",")
		found := false
		for _, g := range r.Growth {
			found = found || g.Key == key && !g.OK && (!calm || g.Calm)
		}
		if !found || r.passed() {
			t.Errorf("growth of %s is passed", what)
		}
	}
	for what, spoil := range map[string]func(r *soakResult){
		"commits that get slower": func(r *soakResult) {
			for i := range r.Effects {
				r.Effects[i].Milliseconds *= 1 + r.Effects[i].At/1200
			}
		},
		"restarts that get slower": func(r *soakResult) {
			for i := range r.Crashes {
				r.Crashes[i].Ready += r.Crashes[i].At / 900
			}
		},
		"an effect that never came": func(r *soakResult) { r.Effects[7].Late = true },
		"a scrape without answer":   func(r *soakResult) { r.Unscraped = 1 },
		"nothing measured":          func(r *soakResult) { r.Effects = nil },
		"no samples":                func(r *soakResult) { r.Samples = nil },
	} {
		r := steady()
		spoil(r)
		if r.judge(); r.passed() {
			t.Errorf("%s: passed", what)
		}
	}
}

func TestDifference(t *testing.T) {
	want := map[string]any{"data": map[string]any{"a": "1"}, "spec": map[string]any{"replicas": 0, "list": []any{map[string]any{"x": "y"}}}}
	have := func(change func(data, spec map[string]any)) map[string]any {
		data, spec := map[string]any{"a": "1"}, map[string]any{"replicas": int64(0), "default": true, "list": []any{map[string]any{"x": "y", "z": "default"}}}
		change(data, spec)
		return map[string]any{"data": data, "spec": spec}
	}
	for says, change := range map[string]func(data, spec map[string]any){
		"":          func(_, _ map[string]any) {},
		"data is":   func(data, _ map[string]any) { data["b"] = "2" },
		"data.a is": func(data, _ map[string]any) { delete(data, "a") },
		"replicas":  func(_, spec map[string]any) { spec["replicas"] = int64(3) },
		"list is":   func(_, spec map[string]any) { spec["list"] = []any{} },
		"list[0].x": func(_, spec map[string]any) { spec["list"] = []any{map[string]any{"x": "n"}} },
	} {
		if got := difference(want, have(change), ""); (got == "") != (says == "") || !strings.Contains(got, says) {
			t.Errorf("difference %q, want one with %q", got, says)
		}
	}
}

func TestParseSoak(t *testing.T) {
	for _, args := range [][]string{{"--apps", "3"}, {"--for", "0s"}, {"--for", "1m", "--calm", "2m"}, {"--kind", "other"}, {"--script", "1x"}, {"--script", ""}, {"more"}} {
		if _, err := parseSoak(args, io.Discard); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
	o, err := parseSoak([]string{"--for", "1h"}, io.Discard)
	if err != nil || o.calm != 10*time.Minute || strings.Count(o.script, "A") != 1 || len(o.script) != 120 {
		t.Errorf("%+v %v", o, err)
	}
}
