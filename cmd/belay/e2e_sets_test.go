package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/gittest"
)

// envSet makes an application of each envs/*/config.yaml; more is below its spec.
func envSet(more string) string {
	return `apiVersion: belay.dev/v1alpha1
kind: ApplicationSet
metadata: {name: envs}
spec:
  generators:
    - files: {paths: ["envs/*/config.yaml"]}
  template:
    metadata: {name: "{{ .path.basename }}"}
    spec:
      source: {path: "apps/{{ .app }}"}
      destination: {namespace: "NS-{{ .path.basename }}"}
` + more
}

func envFiles(names ...string) map[string]string {
	files := map[string]string{"belay/set.yaml": envSet(""), "apps/web/a.yaml": configMap("a", "1"), "apps/api/a.yaml": configMap("a", "2")}
	for _, n := range names {
		files["envs/"+n+"/config.yaml"] = "app: web\n"
	}
	return files
}

// gone are files that delete the environments.
func gone(names ...string) map[string]string {
	files := map[string]string{}
	for _, n := range names {
		files["envs/"+n+"/config.yaml"] = ""
	}
	return files
}

// sets is the state of the only ApplicationSet.
func (s *serveProcess) set() belay.SetStatus {
	s.w.t.Helper()
	if st := s.state(); len(st.Sets) == 1 {
		return st.Sets[0]
	}
	return belay.SetStatus{}
}

func (s *serveProcess) awaitHeld(names ...string) belay.SetStatus {
	s.w.t.Helper()
	var set belay.SetStatus
	devtest.Await(s.w.t, fmt.Sprintf("%v to be held", names), func() error {
		if set = s.set(); !slices.Equal(set.Held, names) {
			return fmt.Errorf("the set is %+v", set)
		}
		for _, n := range names {
			if a, _ := s.app(n); a.Sync != belay.Synced || a.Set != "envs" || !strings.Contains(a.Message, "no longer make") || a.Hint == "" {
				return fmt.Errorf("%s is %+v", n, a)
			}
		}
		return nil
	})
	return set
}

// A set follows the files that it is made from, outside the directory of the
// definitions, too. Many removals wait for a token, through restarts and without
// any memory on disk, while what they are about is looked after as before.
func TestApplicationSet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Five environments", envFiles("a", "b", "c", "d", "e"))
	s := w.serve()
	s.awaitSynced("a", "b", "c", "d", "e")
	mark := w.cp.Mark(t)
	s.push("One more, and another value", map[string]string{"envs/f/config.yaml": "app: api\n", "envs/a/config.yaml": "app: api\n"})
	s.awaitSynced("a", "b", "c", "d", "e", "f")
	w.awaitValue(w.ns("f"), "a", "2")
	w.awaitValue(w.ns("a"), "a", "2")
	for _, r := range w.writes(mark) {
		if r.Namespace != w.ns("f") && r.Namespace != w.ns("a") && r.Name != w.ns("f") {
			t.Errorf("a write for nobody who changed: %s", r)
		}
	}
	if out, _, code := s.cli("get", "app", "f"); code != 0 || !strings.Contains(out, "Set:        envs") {
		t.Errorf("get app f: exit code %d, %s", code, out)
	}

	// One that goes while the server is down is found by the history.
	s.kill()
	w.commit("One is gone", gone("f"))
	s = w.serve()
	s.awaitSynced("a", "b", "c", "d", "e")
	w.awaitValue(w.ns("f"), "a", "")

	// What a branch would do is told before it is merged.
	w.repo.Branch("proposal", w.repo.Resolve("main"))
	proposal := map[string]gittest.File{"envs/g/config.yaml": gittest.Text("app: web\n")}
	for p := range gone("b", "c", "d") {
		proposal[p] = gittest.Delete()
	}
	w.repo.CommitFiles("proposal", "Less", proposal)
	out, stderr, _ := s.cli("plan", "--revision", "proposal")
	if !strings.Contains(out, w.ns("g")) || !strings.Contains(out, "would no longer make 3 applications") || !strings.Contains(out, belay.TokenOf([]string{"b", "c", "d"})) {
		t.Errorf("plan of the proposal:\n%s%s", out, stderr)
	}
	s.push("Most are gone", gone("b", "c", "d"))
	set := s.awaitHeld("b", "c", "d")
	if want := belay.TokenOf([]string{"b", "c", "d"}); !strings.Contains(set.Hint, want) {
		t.Errorf("hint %q has not the token %s", set.Hint, want)
	}
	drift := func(ns string) {
		t.Helper()
		w.patch(w.ns(ns), "a", "kubectl-edit", `{"data":{"value":"drifted"}}`)
		w.awaitValue(w.ns(ns), "a", "1")
	}
	drift("b")
	uid := w.uid(w.ns("c"), "a")
	for _, fresh := range []bool{false, true} {
		s.kill()
		if fresh {
			w.removeData()
		}
		s = w.serve()
		s.awaitHeld("b", "c", "d")
		drift("c")
	}
	s.push("An unrelated change", map[string]string{"apps/web/b.yaml": configMap("b", "1")})
	w.awaitValue(w.ns("b"), "b", "1") // still delivered to
	s.awaitHeld("b", "c", "d")
	if got := w.uid(w.ns("c"), "a"); got != uid {
		t.Error("an object of a held application was made anew")
	}
	// Killed while it deletes, it finishes after the next start.
	s.crashAt("deleted", 2)
	w.commit("Confirm it", map[string]string{"belay/set.yaml": envSet("  confirm: " + belay.TokenOf([]string{"b", "c", "d"}) + "\n")})
	_, _ = s.Push(t.Context(), "") // it may be dead before it answers
	<-s.exited
	s = w.serve()
	s.awaitSynced("a", "e")
	for _, n := range []string{"b", "c", "d"} {
		w.awaitValue(w.ns(n), "a", "")
	}
	if st := s.state(); len(st.Problems) > 0 {
		t.Errorf("problems are %v", st.Problems)
	}
	// The set leaves its objects where they are when it goes with that policy.
	s.push("Leave them", map[string]string{"belay/set.yaml": envSet("  deletion: orphan\n")})
	s.awaitSynced("a", "e")
	s.push("No set", map[string]string{"belay/set.yaml": "", "belay/README.md": "Definitions."})
	s.awaitSynced()
	for range 2 {
		if v, ok := w.value(w.ns("e"), "a"); !ok || v != "1" {
			t.Errorf("an object that was to stay is %q, there %t", v, ok)
		}
		s.kill()
		s = w.serve()
		s.awaitSynced()
	}
}

// A file with parameters or a template that breaks changes nothing for the
// applications it is about, also for a server that starts with it.
func TestApplicationSetThatBreaks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Three environments", envFiles("a", "b", "c"))
	s := w.serve()
	s.awaitSynced("a", "b", "c")
	mark := w.cp.Mark(t)
	s.push("Break one, add one", map[string]string{"envs/a/config.yaml": "app: [\n", "envs/d/config.yaml": "app: web\n"})
	s.awaitApps("a", "b", "c", "d")
	s.awaitProblem("envs/a/config.yaml:1", "is not valid YAML")
	s.push("Break the template", map[string]string{"belay/set.yaml": strings.Replace(envSet(""), "{{ .app }}", "{{ .ap }}", 1)})
	s.awaitProblem("belay/set.yaml:10", `no parameter "ap", did you mean "app"?`)
	for i := range 2 {
		s.kill()
		if i == 1 {
			w.removeData()
		}
		s = w.serve()
		s.awaitProblem("belay/set.yaml:10", `no parameter "ap"`)
		s.push("Another change", map[string]string{"apps/web/b.yaml": configMap("b", fmt.Sprint(i))})
		for _, n := range []string{"a", "b", "c", "d"} {
			w.awaitValue(w.ns(n), "b", fmt.Sprint(i))
		}
	}
	for _, r := range w.writes(mark) {
		if r.Verb == "delete" {
			t.Errorf("something broke, and there is %s", r)
		}
	}
	s.push("Mend it", map[string]string{"belay/set.yaml": envSet(""), "envs/a/config.yaml": "app: api\n", "envs/d/config.yaml": ""})
	w.awaitValue(w.ns("a"), "a", "2")
	s.awaitSynced("a", "b", "c")
	w.awaitValue(w.ns("d"), "a", "")
}

// A set may look into another repository, which is followed like any other.
func TestApplicationSetOfAnotherRepository(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	other := gittest.NewRepo(t)
	other.Commit("main", "Two", map[string]string{"apps/one/a.yaml": configMap("a", "1"), "apps/two/a.yaml": configMap("a", "1")})
	w.commit("A set", map[string]string{"belay/set.yaml": w.expand(`apiVersion: belay.dev/v1alpha1
kind: ApplicationSet
metadata: {name: far}
spec:
  generators:
    - directories: {repo: far, paths: ["apps/*"]}
  template:
    metadata: {name: "{{ .path.basename }}"}
    spec:
      source: {repo: far, path: "{{ .path.path }}"}
      destination: {namespace: "NS-{{ .path.basename }}"}
---
apiVersion: belay.dev/v1alpha1
kind: Repository
metadata: {name: far}
spec: {url: "` + other.URL() + `"}
`)})
	await := func(s *serveProcess, names ...string) {
		t.Helper()
		devtest.Await(t, fmt.Sprintf("applications %v", names), func() error {
			st := s.state()
			if len(st.Problems) > 0 {
				return &st.Problems[0]
			}
			if len(st.Applications) != len(names) {
				return fmt.Errorf("%d applications, sets %+v", len(st.Applications), st.Sets)
			}
			for _, a := range st.Applications {
				if !slices.Contains(names, a.Name) || a.Sync != belay.Synced {
					return errors.New(a.Name + " is " + string(a.Sync) + ": " + a.Message)
				}
			}
			return nil
		})
	}
	s := w.serve()
	await(s, "one", "two")
	other.Commit("main", "Three", map[string]string{"apps/three/a.yaml": configMap("a", "1")})
	if _, err := s.Push(t.Context(), other.URL()); err != nil {
		t.Fatal(err)
	}
	await(s, "one", "three", "two")
	mark := w.cp.Mark(t)
	s.kill()
	w.removeData()
	s = w.serve()
	await(s, "one", "three", "two")
	for _, r := range w.writes(mark) {
		if r.Code < 300 {
			t.Errorf("after a restart: %s", r)
		}
	}
	s.push("A ref that is not there", map[string]string{"belay/set.yaml": strings.Replace(w.repo.Git("show", "main:belay/set.yaml"), "repo: far, paths", "repo: far, ref: nowhere, paths", 1)})
	s.awaitProblem("belay/set.yaml:", "nowhere")
	if st := s.state(); len(st.Applications) != 3 {
		t.Errorf("applications are %+v", st.Applications)
	}
}
