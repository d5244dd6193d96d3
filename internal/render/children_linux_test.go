package render_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/rendertest"
)

// children are the workers that this process has now.
func children(t testing.TB) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue // it ended meanwhile
		}
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if f[0] != "Z" && f[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestKilledWorkerIsReplaced(t *testing.T) {
	p := newPool(t, render.Options{Workers: 1})
	files := rendertest.Files{"a/cm.yaml": configMap("ok", "1")}
	for range 3 {
		for _, pid := range children(t) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
		if got := ids(mustRender(t, p, files, request("a"))); got != "ConfigMap ok@a/cm.yaml:1" {
			t.Errorf("after a kill: %s", got)
		}
	}
}

func TestWorkerIsReusedAndRetired(t *testing.T) {
	p := newPool(t, render.Options{Workers: 1, Renders: 3})
	files := rendertest.Files{
		"a/cm.yaml":                 configMap("ok", "1"),
		"k/kustomization.yaml":      "resources: [cm.yaml]\ncrds: [crd.json]\n",
		"k/crd.json":                `{"github.com/example/v1.X":{"Schema":{"properties":{}}}}`,
		"k/cm.yaml":                 configMap("ok", "1"),
		"other/kustomization.yaml":  "resources: [cm.yaml]\n",
		"other/cm.yaml":             configMap("ok", "1"),
		"broken/kustomization.yaml": "resources: [missing.yaml]\n",
	}
	var pids []int
	for _, path := range []string{"a", "a", "a", "a", "k", "other"} {
		before := children(t)
		mustRender(t, p, files, request(path))
		if len(before) > 0 {
			pids = append(pids, before[0])
		} else {
			pids = append(pids, 0)
		}
	}
	// The worker seen before each render: the first ends after three, the next
	// after its second because of the crds.
	if pids[0] != pids[1] || pids[1] != pids[2] || pids[3] != 0 || pids[4] == 0 || pids[5] != 0 {
		t.Errorf("workers before each render: %v", pids)
	}
}

func TestCloseLeavesNoWorker(t *testing.T) {
	p := newPool(t, testOptions)
	if len(children(t)) == 0 {
		t.Error("no worker to begin with")
	}
	p.Close()
	if pids := children(t); len(pids) > 0 {
		t.Errorf("workers left: %v", pids)
	}
}
