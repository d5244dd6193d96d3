package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/belaydev/belay/internal/devtest"
)

// Whole runs with two sizes of fleets. No time is looked at. Counts are exact:
// what one commit to one application costs is the same in both, what one to all
// costs is in proportion, and rest and restart cost nothing.
func TestGrowth(t *testing.T) {
	dir, program := t.TempDir(), builtBelay(t)
	// Its own, so that nobody else's kinds make Belay ask what there is.
	cp := devtest.Dedicated(t, devtest.Options{})
	const small, large = 3, 24
	lives := map[string]map[int]*bench{layoutMono: {}, layoutMany: {}}
	var wg sync.WaitGroup
	for layout := range lives { // they wait most of the time, so all at once
		for _, apps := range []int{small, large} {
			b := newLife(t, cp, program, layout, apps)
			lives[layout][apps] = b
			wg.Go(func() {
				if _, err := b.run(t.Context()); err != nil {
					t.Errorf("%s, %d applications: %v", layout, apps, err)
				}
			})
		}
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for layout, life := range lives {
		for apps, b := range life {
			checkCounts(t, fmt.Sprintf("%s, %d applications", layout, apps), b.res)
		}
		checkGrowth(t, layout, life[small], life[large])
	}
	checkTable(t, lives[layoutMono][small].res, dir)
}

// newLife prepares a fleet of all kinds.
func newLife(t *testing.T, cp *devtest.ControlPlane, program, layout string, apps int) *bench {
	t.Helper()
	dir, name := t.TempDir(), fmt.Sprintf("%s-%d", layout, apps)
	gits, path := watchGit(t, dir)
	began := time.Now()
	b, err := newBench(t.Context(), benchConfig{
		options:    options{apps: apps, kind: "mix", layout: layout, commits: 6, rounds: 2, drifts: 2, rest: time.Second, belay: program, dir: dir},
		kubeconfig: kubeconfigFor(t, cp, name), auditLog: cp.AuditLog(), prefix: name, instance: name, user: name, path: path,
		interval: 10 * time.Minute, // a poll between a commit and its hook would fetch once more
		calm:     2 * time.Second,
		say: func(format string, a ...any) {
			t.Logf("%5.1f s, %s:%s", time.Since(began).Seconds(), name, fmt.Sprintf(format, a...))
		},
		probe: func(s *server) (map[string]float64, error) {
			c, err := s.counters(t.Context())
			if err != nil {
				return nil, err
			}
			read, written, err := transferred(s.pid())
			return map[string]float64{"gits": float64(gits("")), "fetches": float64(gits("fetch ")), "read": read, "written": written - float64(s.scraped.Load()), "passes": c.passes, "records": c.records}, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// kubeconfigFor is an administrator's, under a name that the audit log shows.
func kubeconfigFor(t *testing.T, cp *devtest.ControlPlane, user string) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(cp.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range config.AuthInfos {
		u.Impersonate, u.ImpersonateGroups = user, []string{"system:masters"}
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// watchGit puts a git in front of the real one that notes each start of it. It
// returns how many there were with some word among their arguments, and the PATH
// that has it.
func watchGit(t *testing.T, dir string) (count func(word string) int, path string) {
	t.Helper()
	git, err := exec.LookPath("git")
	if err != nil {
		t.Fatal(err)
	}
	log, bin := filepath.Join(dir, "git.log"), filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>'%s'\nexec '%s' \"$@\"\n", log, git)
	if err := os.WriteFile(filepath.Join(bin, "git"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return func(word string) (n int) {
		b, err := os.ReadFile(log)
		if err != nil {
			t.Error(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, word) {
				n++
			}
		}
		return n
	}, bin + string(os.PathListSeparator) + os.Getenv("PATH")
}

// transferred is how many bytes a process has read and written, through files,
// pipes and sockets.
func transferred(pid int) (read, written float64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return 0, 0, err
	}
	_, err = fmt.Sscanf(string(b), "rchar: %g\nwchar: %g\n", &read, &written)
	return read, written, err
}

// checkCounts fails the test unless a life cost exactly what it should.
func checkCounts(t *testing.T, what string, res *result) {
	t.Helper()
	apps := float64(res.Applications)
	for key, want := range map[string]float64{
		"rollout.patches": 4 * apps, "rollout.renders": apps,
		"one.requests": 1, "one.patches": 1, "one.renders": 1, "all.requests": apps, "all.patches": apps, "all.renders": apps, "drift.requests": 1,
		"rest.requests": 0, "restart.writes": 0, "restart.renders": 0,
	} {
		if f := res.Figures[key]; f.Belay == nil || *f.Belay != want {
			t.Errorf("%s: %s is %s, want %v", what, key, number(f.Belay), want)
		}
	}
	for _, row := range rows {
		if _, ok := res.Figures[row.key]; row.key != "" && !ok && !strings.HasSuffix(row.key, "controlplane") {
			t.Errorf("%s: %s was not measured", what, row.key)
		}
	}
}

// checkGrowth fails the test if what one commit costs grows with the fleet. Some
// of it is not exact (a poll may come in between), so there is room for that, and
// far less than the large fleet is larger by.
func checkGrowth(t *testing.T, layout string, small, large *bench) {
	t.Helper()
	t.Logf("%s, of a commit in fleets of %d and %d:\n%v\n%v", layout, small.apps, large.apps, small.probed, large.probed)
	// The index of the ledger reads and writes some 100 kB a commit whenever it finds time
	// to, and starts git for it; a minute after the first record comes one that signs.
	const index = 150_000
	for key, room := range map[string][2]float64{"one.read": {1.3, index}, "one.written": {1.3, index}, "one.gits": {1.5, 2}, "one.passes": {1.5, 0}, "one.records": {1, 0.5}} {
		if s, l := small.probed[key], large.probed[key]; l > s*room[0]+room[1] {
			t.Errorf("%s: %s of a commit to one application is %.6g among %d applications, and %.6g among %d", layout, key, s, small.apps, l, large.apps)
		}
	}
	// What is asked of Git follows the repositories that changed, not the applications
	// in them. The index asks it too.
	for _, b := range []*bench{small, large} {
		for key, want := range map[string]int{"one.fetches": 1, "all.fetches": b.fleet.repositories()} {
			if got := b.probed[key]; got != float64(want) {
				t.Errorf("%s, %d applications: %s of a commit are %.4g, want %d", layout, b.apps, key, got, want)
			}
		}
	}
	const asks = 10
	repositories := float64(large.fleet.repositories()) / float64(small.fleet.repositories())
	if s, l := small.probed["all.gits"], large.probed["all.gits"]; l > s*repositories*1.2+asks {
		t.Errorf("%s: a commit to all starts git %.4g times among %d applications, and %.4g times among %d", layout, s, small.apps, l, large.apps)
	}
	// What the index writes of a record may fall into one of the two and not the other.
	const indexed = 8_000
	times := float64(large.apps) / float64(small.apps)
	for _, key := range []string{"all.read", "all.written", "all.passes", "all.records"} {
		room := 0.0
		if key == "all.written" {
			room = indexed * large.probed["all.records"]
		}
		if s, l := small.probed[key], large.probed[key]; l > s*times*1.5+room {
			t.Errorf("%s: %s of a commit to all is %.6g among %d applications, and %.6g among %d: more than in proportion", layout, key, s, small.apps, l, large.apps)
		}
	}
}

// checkTable writes figures, reads them again and compares with them.
func checkTable(t *testing.T, res *result, dir string) {
	t.Helper()
	file := filepath.Join(dir, "figures.json")
	if err := (&results{[]*result{median([]*result{res})}}).write(file); err != nil {
		t.Fatal(err)
	}
	earlier, err := readResults(file)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	res.screen(&out, earlier.find(res))
	res.details(&out, earlier.find(res))
	for _, want := range []string{"3 applications × 4 objects, mix, in one repository", "raw loop", "earlier", "until all objects exist", "= 12", "ok"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, &out)
		}
	}
}
