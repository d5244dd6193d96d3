package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
)

// previews runs plan with arguments and gives what it says of each application.
func previews(t *testing.T, run func(args ...string) (stdout, stderr string, code int), args ...string) map[string]belay.Preview {
	t.Helper()
	stdout, stderr, code := run(append([]string{"plan", "-o", "json"}, args...)...)
	var list []belay.Preview
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code != 0 {
		t.Fatalf("plan %v: exit code %d, %v: %s%s", args, code, err, stdout, stderr)
	}
	out := map[string]belay.Preview{}
	for _, p := range list {
		out[p.Application] = p
	}
	return out
}

func (w *world) clone(branch string) string {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "clone")
	if out, err := exec.Command("git", "clone", "-q", "-b", branch, w.repo.Dir, dir).CombinedOutput(); err != nil {
		w.t.Fatalf("clone: %v: %s", err, out)
	}
	return dir
}

// A plan says of an application that what it shows would not be applied now, and why.
func TestPlanSaysWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	names := []string{"free", "frozen", "held", "manual", "suspended"}
	change := func(value string) map[string]string {
		files := map[string]string{}
		for _, n := range names {
			files["apps/"+n+"/a.yaml"] = configMap("a", value)
		}
		return files
	}
	files := change("1")
	for _, n := range names {
		files["belay/"+n+".yaml"] = application(n, "apps/"+n, "NS-"+n)
	}
	v1 := w.commit("Five applications", files)
	s := w.serve()
	s.awaitSynced(names...)
	s.push("Change one", map[string]string{"apps/held/a.yaml": configMap("a", "2")})
	s.awaitSynced(names...)
	s.rollback("held", "--to", v1, "--now", "--hold-only", "--yes", "--reason", "it is slow")
	w.awaitValue(w.ns("held"), "a", "1")
	closed, _ := deny(6*time.Hour, "no changes now")
	s.push("Hold them back", map[string]string{
		"belay/project.yaml":   strings.Replace(project(closed), "name: default", "name: frozen", 1),
		"belay/frozen.yaml":    application("frozen", "apps/frozen", "NS-frozen", "  project: frozen\n"),
		"belay/manual.yaml":    application("manual", "apps/manual", "NS-manual", "  sync: {automatic: false}\n"),
		"belay/suspended.yaml": application("suspended", "apps/suspended", "NS-suspended", "  suspend: {reason: the database moves}\n"),
	})
	s.awaitMessage("suspended", "the database moves")
	main := w.repo.Resolve("main")
	w.commit("Change all", change("3"))
	w.repo.Branch("feature", w.repo.Resolve("main"))
	w.repo.Branch("main", main)
	want := map[string]string{
		"free": "", "frozen": "because of the deny window", "held": "it is slow",
		"manual": "automatic sync is off; belay sync manual applies it", "suspended": "suspended: the database moves",
	}
	for _, args := range [][]string{{"--revision", "feature"}, {"--dir", w.clone("feature")}} {
		got := previews(t, s.cli, args...)
		for name, text := range want {
			p := got[name]
			if len(p.Changes) != 1 || !strings.Contains(p.Waits, text) || (p.Waits == "") != (text == "") {
				t.Errorf("plan %v: %s has %d changes and waits for %q, want %q", args, name, len(p.Changes), p.Waits, text)
			}
		}
	}
	out, _, _ := s.cli("plan", "suspended", "--revision", "feature")
	if !strings.Contains(out, "not now: suspended: the database moves\n") {
		t.Errorf("the plan is\n%s", out)
	}
	// What would not change waits for nothing, and what leaves Git for no suspension.
	if p := previews(t, s.cli, "--revision", "main")["suspended"]; p.Waits != "" || len(p.Changes) > 0 {
		t.Errorf("the plan of what is there: %+v", p)
	}
	w.commit("Remove two", map[string]string{"belay/suspended.yaml": "", "belay/frozen.yaml": ""})
	w.repo.Branch("feature", w.repo.Resolve("main"))
	w.repo.Branch("main", main)
	got := previews(t, s.cli, "--revision", "feature")
	if p := got["suspended"]; p.Waits != "" || len(p.Changes) != 1 {
		t.Errorf("the plan of a removal: %+v", p)
	}
	if p := got["frozen"]; !strings.Contains(p.Waits, "because of the deny window") {
		t.Errorf("the plan of a removal: %+v", p)
	}
}

// leavingFleet are fourteen applications, four of them made by a set, and a commit
// that removes eight and three; held are those of the fleet.
func leavingFleet() (files, removal map[string]string, all, held []string) {
	files = map[string]string{"belay/set.yaml": `apiVersion: belay.dev/v1alpha1
kind: ApplicationSet
metadata: {name: areas}
spec:
  generators: [{directories: {paths: ["areas/*"]}}]
  template:
    metadata: {name: "area-{{ .path.basename }}"}
    spec: {source: {path: "{{ .path.path }}"}, destination: {namespace: NS-areas}}
`}
	removal = map[string]string{}
	for i := range 4 {
		name := fmt.Sprintf("area-%d", i)
		files[fmt.Sprintf("areas/%d/a.yaml", i)] = configMap(name, "1")
		if all = append(all, name); i > 0 {
			removal[fmt.Sprintf("areas/%d/a.yaml", i)] = ""
		}
	}
	for i := range 10 {
		name := fmt.Sprintf("app-%d", i)
		files["belay/"+name+".yaml"], files["apps/"+name+"/a.yaml"] = application(name, "apps/"+name, "NS-apps"), configMap(name, "1")
		if all = append(all, name); i < 8 {
			removal["belay/"+name+".yaml"], removal["apps/"+name+"/a.yaml"] = "", ""
			held = append(held, name)
		}
	}
	return files, removal, all, held
}

// A plan tells of applications that leave Git which of them would stay all the
// same: because their set or the fleet would lose too many at once. So does one
// that needs no server, of what is on disk.
func TestPlanOfRemovals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	files, removal, all, held := leavingFleet()
	few := map[string]string{"belay/app-0.yaml": "", "areas/1/a.yaml": ""}
	w.commit("Fourteen applications", files)
	s := w.serve()
	s.awaitSynced(all...)
	main := w.repo.Resolve("main")
	branch := func(name string, change map[string]string) (clone string) {
		w.commit("Remove some", change)
		w.repo.Branch(name, w.repo.Resolve("main"))
		w.repo.Branch("main", main)
		return w.clone(name)
	}
	alone := func(args ...string) (stdout, stderr string, code int) {
		return w.command(append(args, "--kubeconfig", w.kubeconfig, "--instance", w.instance)...)
	}
	type attempt struct {
		run  func(args ...string) (stdout, stderr string, code int)
		args []string
	}
	clone := branch("few", few)
	for _, a := range []attempt{{s.cli, []string{"--revision", "few"}}, {s.cli, []string{"--dir", clone}}, {alone, []string{"--dir", clone}}, {alone, []string{"--dir", clone, "--revision", "HEAD"}}, {alone, []string{"--dir", clone, "--revision", "few~0"}}} {
		for name, p := range previews(t, a.run, a.args...) {
			if gone := name == "app-0" || name == "area-1"; p.Held != nil || gone != (len(p.Changes) == 1 && p.Changes[0].Verb == belay.VerbDelete) {
				t.Errorf("plan %v: %s has %+v, held %v", a.args, name, p.Changes, p.Held)
			}
		}
	}
	clone = branch("many", removal)
	var told map[string]string
	for _, a := range []attempt{{s.cli, []string{"--revision", "many"}}, {s.cli, []string{"--dir", clone}}, {alone, []string{"--dir", clone}}} {
		says := map[string]string{}
		for name, p := range previews(t, a.run, a.args...) {
			if p.Held != nil {
				says[name] = p.Held.Message + ": " + p.Held.Hint
			}
			if (p.Set != "") != strings.HasPrefix(name, "area") {
				t.Errorf("plan %v: %s is of set %q", a.args, name, p.Set)
			}
			if p.Set != "" && len(p.Changes) > 0 {
				t.Errorf("plan %v: %s would change: %+v", a.args, name, p.Changes)
			}
		}
		if got, want := slices.Sorted(maps.Keys(says)), slices.Concat(held, []string{"area-1", "area-2", "area-3"}); !slices.Equal(got, want) {
			t.Errorf("plan %v: held are %v, want %v", a.args, got, want)
		}
		if told != nil && !maps.Equal(told, says) {
			t.Errorf("plan %v says %v, another %v", a.args, says, told)
		}
		told = says
	}
	// And so it comes.
	mark := w.cp.Mark(t)
	s.push("Remove many", removal)
	devtest.Await(t, "the server to say the same", func() error {
		for name, want := range told {
			if a, _ := s.app(name); a.Message+": "+a.Hint != want {
				return fmt.Errorf("%s says %q: %s, want %q", name, a.Message, a.Hint, want)
			}
		}
		return nil
	})
	if r := w.writes(mark); len(r) > 0 {
		t.Errorf("what is held was written%s", listing(r))
	}
}
