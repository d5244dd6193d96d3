package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
)

// A plan says of a branch, of a working directory and of what waits for a person
// the same that a sync then does, and changes nothing.
func TestPlanIsWhatASyncDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Three applications", map[string]string{
		"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": documents(configMap("a", "1"), configMap("b", "1"), configMap("c", "1")),
		"belay/b.yaml": application("b", "apps/b", "NS-b"), "apps/b/a.yaml": documents(configMap("a", "1"), deployment("web", 2, "web:1")),
		"belay/gone.yaml": application("gone", "apps/gone", "NS-gone"), "apps/gone/a.yaml": configMap("a", "1"),
		"belay/same.yaml": application("same", "apps/same", "NS-same"), "apps/same/a.yaml": configMap("a", "1"),
	})
	s := w.serve()
	s.awaitSynced("a", "b", "gone", "same")
	change := map[string]string{
		"apps/a/a.yaml": documents(configMap("a", "2"), configMap("b", "1"), configMap("d", "1")),
		"belay/b.yaml":  application("b", "apps/b2", "NS-b"), "apps/b2/a.yaml": documents(configMap("a", "1"), deployment("web", 3, "web:1")),
		"belay/gone.yaml": "", "belay/new.yaml": application("new", "apps/new", "NS-new"), "apps/new/a.yaml": configMap("a", "1"),
	}
	main := w.repo.Resolve("main")
	w.commit("Change much", change)
	feature := w.repo.Resolve("main")
	w.repo.Branch("feature", feature)
	w.repo.Branch("main", main)
	want := w.expand("a: create ConfigMap NS-a/d, a: delete ConfigMap NS-a/c, a: update ConfigMap NS-a/a, " +
		"b: update Deployment.apps NS-b/web, gone: delete ConfigMap NS-gone/a, new: create ConfigMap NS-new/a")
	mark := w.cp.Mark(t)
	summary := func(args ...string) string {
		t.Helper()
		stdout, stderr, code := s.cli(append([]string{"plan", "-o", "json", "--exit-code"}, args...)...)
		var previews []belay.Preview
		if err := json.Unmarshal([]byte(stdout), &previews); err != nil || (code != 0 && code != 3) {
			t.Fatalf("plan %v: exit code %d, %v: %s%s", args, code, err, stdout, stderr)
		}
		var lines []string
		for _, p := range previews {
			for _, c := range p.Changes {
				lines = append(lines, fmt.Sprintf("%s: %s %s", p.Application, c.Verb, c.ID))
				if c.Verb == belay.VerbUpdate && !strings.Contains(c.Diff, "\n-") {
					t.Errorf("plan %v: %s has the diff %q", args, c.ID, c.Diff)
				}
			}
		}
		slices.Sort(lines)
		if (len(lines) > 0) != (code == 3) {
			t.Errorf("plan %v: exit code %d with %d changes", args, code, len(lines))
		}
		return strings.Join(lines, ", ")
	}
	for _, revision := range []string{"main", "HEAD", "feature^"} {
		if got := summary("--revision", revision); got != "" {
			t.Errorf("the plan of what is synced, at %s, is %s", revision, got)
		}
	}
	for _, revision := range []string{"feature", feature, feature[:12], feature[:6], "feature~0"} {
		if got := summary("--revision", revision); got != want {
			t.Errorf("the plan of %s is\n%s, want\n%s", revision, got, want)
		}
	}
	clone := filepath.Join(t.TempDir(), "clone")
	if out, err := exec.Command("git", "clone", "-q", "-b", "feature", w.repo.Dir, clone).CombinedOutput(); err != nil {
		t.Fatalf("clone: %v: %s", err, out)
	}
	if got := summary("--dir", clone, "a", "b", "new"); got != strings.Replace(want, w.expand("gone: delete ConfigMap NS-gone/a, "), "", 1) {
		t.Errorf("the plan of the working directory is\n%s", got)
	}
	if got := summary("--dir", clone); got != want {
		t.Errorf("the plan of all of the working directory is\n%s, want\n%s", got, want)
	}
	if r := w.writes(mark); len(r) > 0 {
		t.Errorf("planning wrote%s", listing(r))
	}
	w.repo.Branch("main", feature)
	s.hook()
	s.awaitSynced("a", "b", "new", "same")
	var done []string
	for _, r := range w.writes(mark) {
		if r.Code < 300 && r.Resource != "namespaces" {
			done = append(done, r.Resource+" "+strings.TrimPrefix(r.Namespace, w.home+"-")+"/"+r.Name)
		}
	}
	slices.Sort(done)
	if got := strings.Join(done, ", "); got != "configmaps a/a, configmaps a/c, configmaps a/d, configmaps gone/a, configmaps new/a, deployments b/web" {
		t.Errorf("the sync wrote %s", got)
	}
}

// An object that moves to another application is handed over and not deleted, and
// one that two declare stays where it is: a plan says so, of a branch and of a
// working directory.
func TestPlanOfObjectsThatMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("Two applications", map[string]string{
		"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1"), "apps/a/b.yaml": configMap("b", "1"), "apps/a/c.yaml": configMap("c", "1"),
		"belay/gone.yaml": application("gone", "apps/gone", "NS-a"), "apps/gone/d.yaml": configMap("d", "1"),
	})
	s := w.serve()
	s.awaitSynced("a", "gone")
	main := w.repo.Resolve("main")
	w.commit("Move one, declare one twice", map[string]string{
		"belay/b.yaml": application("b", "apps/b", "NS-a"), "apps/a/b.yaml": "", "apps/b/b.yaml": documents(configMap("b", "1"), configMap("c", "1"), configMap("d", "1")),
		"belay/gone.yaml": "", "apps/gone/d.yaml": "",
	})
	feature := w.repo.Resolve("main")
	w.repo.Branch("feature", feature)
	w.repo.Branch("main", main)
	clone := filepath.Join(t.TempDir(), "clone")
	if out, err := exec.Command("git", "clone", "-q", "-b", "feature", w.repo.Dir, clone).CombinedOutput(); err != nil {
		t.Fatalf("clone: %v: %s", err, out)
	}
	want := w.expand("b: update ConfigMap NS-a/b, b: update ConfigMap NS-a/c: also declared by application \"a\" in apps/a/c.yaml:1, which it belongs to, b: update ConfigMap NS-a/d")
	for _, args := range [][]string{{"--revision", "feature"}, {"--dir", clone}} {
		stdout, stderr, code := s.cli(append([]string{"plan", "-o", "json"}, args...)...)
		var previews []belay.Preview
		if err := json.Unmarshal([]byte(stdout), &previews); err != nil {
			t.Fatalf("plan %v: %v: %s%s", args, err, stdout, stderr)
		}
		var lines []string
		for _, p := range previews {
			for _, c := range p.Changes {
				line := fmt.Sprintf("%s: %s %s", p.Application, c.Verb, c.ID)
				if c.Error != "" {
					line += ": " + c.Error
				}
				lines = append(lines, line)
			}
		}
		slices.Sort(lines)
		if got := strings.Join(lines, ", "); got != want || code != 1 {
			t.Errorf("plan %v: exit code %d and\n%s, want 1 and\n%s", args, code, got, want)
		}
	}
}

// The first object of a kind that nobody watched before is planned at once.
func TestPlanOfAKindNeverSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.commit("An application", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "apps/a/a.yaml": configMap("a", "1")})
	s := w.serve()
	s.awaitSynced("a")
	main := w.repo.Resolve("main")
	w.commit("A schedule", map[string]string{"apps/a/b.yaml": "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: never-seen}\nvalue: 1\n"})
	w.repo.Branch("feature", w.repo.Resolve("main"))
	w.repo.Branch("main", main)
	stdout, stderr, code := s.cli("plan", "--revision", "feature", "--exit-code")
	if code != 3 || !strings.Contains(stdout, "create PriorityClass.scheduling.k8s.io never-seen") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
}
