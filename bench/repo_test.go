package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/belaydev/belay/internal/devtest"
)

// A push of one file concerns the one application that reads it, in a small
// repository as in a large one; a file that nobody reads concerns none. No time is
// looked at.
func TestRepo(t *testing.T) {
	cp := devtest.Cluster(t)
	dir, program := t.TempDir(), builtBelay(t)
	home := cp.Namespace(t)
	o := repoOptions{files: 60, history: 25, apps: 3, pushes: 4}
	b, err := newRepoBench(t.Context(), o, benchConfig{options: options{belay: program, dir: dir}, logLevel: "debug",
		kubeconfig: cp.Kubeconfig(), prefix: home, instance: home, say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		client, err := kubernetes.NewForConfig(cp.RESTConfig())
		if err != nil {
			t.Fatal(err)
		}
		for i := range o.apps {
			if err := client.CoreV1().Namespaces().Delete(t.Context(), b.namespace(i), metav1.DeleteOptions{}); err != nil {
				t.Errorf("clean-up: %v", err)
			}
		}
	}()
	b.rest = time.Millisecond
	res, err := b.measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if res.Found != 1 || res.Unread != 0 || res.Renders != 4 || res.Applies != 4 || res.UnreadRenders != 0 {
		t.Errorf("of pushes to one application found %d, of others %d; %v renders and %v applies of %d pushes, %v of others",
			res.Found, res.Unread, res.Renders, res.Applies, res.Pushes, res.UnreadRenders)
	}
	if res.Affected.P50 <= 0 || res.Seen.P50 <= 0 || res.CloneSeconds <= 0 {
		t.Errorf("something was not measured: %+v", res)
	}
	count := func(args ...string) int {
		out, err := exec.Command("git", append([]string{"-C", b.repo.dir}, args...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(out), "\n")
	}
	if n := count("ls-tree", "-r", "--name-only", "main"); n != o.files {
		t.Errorf("%d files, want %d", n, o.files)
	}
	if n, want := count("rev-list", "main"), o.history+o.pushes+1; n != want {
		t.Errorf("%d commits, want %d", n, want)
	}
	var table strings.Builder
	res.print(&table)
	if !strings.Contains(table.String(), "until the affected are found") {
		t.Errorf("the table lacks the figure:\n%s", &table)
	}
}

func TestParseRepo(t *testing.T) {
	for _, args := range [][]string{{"--apps", "0"}, {"--files", "10", "--apps", "5"}, {"--pushes", "0"}, {"more"}} {
		if _, err := parseRepo(args, &strings.Builder{}); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
