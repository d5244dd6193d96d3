package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay/bench/stub"
)

// Three clusters, and one of them hangs: no time is looked at, but counts are
// exact, and the status says which one it is.
func TestClusters(t *testing.T) {
	dir, program := t.TempDir(), builtBelay(t)
	s, err := stub.Serve(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(kubeconfig, []byte(s.Kubeconfig()), 0o600); err != nil {
		t.Fatal(err)
	}
	control, stop, err := serveControl(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	o := clustersOptions{clusters: 3, apps: 3, pushes: 4, rest: time.Second, patience: 5 * time.Minute}
	b, err := newClustersBench(t.Context(), o, benchConfig{options: options{belay: program, dir: dir}, kubeconfig: kubeconfig, prefix: "bench",
		calm: newborn, say: t.Logf}, control, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	res, err := b.measure(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(filepath.Join(dir, "belay.log")))
	}
	if res.Rollout["patch"] != 9 || res.Rollout["create"]+res.Rollout["delete"] != 0 {
		t.Errorf("requests of the first rollout: %v, want one patch an object", res.Rollout)
	}
	if len(res.Rest) != 0 || res.Watches != 9 { // two definitions and the ConfigMaps, in each
		t.Errorf("at rest: %v, and %d watches", res.Rest, res.Watches)
	}
	if want := map[string]int{"patch": 4}; !maps.Equal(res.Pushed, want) {
		t.Errorf("requests of four commits: %v", res.Pushed)
	}
	if !slices.Equal(res.NotReady, []string{stub.Name(2)}) || !strings.Contains(res.Notice, "does not answer") {
		t.Errorf("clusters that are not ready: %v, and the status says %q", res.NotReady, res.Notice)
	}
	for _, s := range []spread{res.Seen, res.SeenHung, res.SeenKnown} {
		if s.P50 <= 0 {
			t.Errorf("something was not measured: %+v", res)
		}
	}
	var table strings.Builder
	res.print(&table)
	if !strings.Contains(table.String(), "3 stubbed clusters × 3 applications") {
		t.Errorf("the table is wrong:\n%s", &table)
	}
}

func TestParseClusters(t *testing.T) {
	for _, args := range [][]string{{"--clusters", "1"}, {"--apps", "0"}, {"more"}} {
		if _, err := parseClusters(args, &strings.Builder{}); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
