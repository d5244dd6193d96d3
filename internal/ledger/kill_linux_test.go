package ledger_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger"
	"github.com/belaydev/belay/internal/ledger/verify"
)

// envChild makes this program one that appends until it is killed.
const envChild = "BELAY_TEST_LEDGER_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envChild); dir != "" {
		appendForever(dir)
	}
	os.Exit(m.Run())
}

// appendForever records as fast as it can, in every way, and says what was
// acknowledged.
func appendForever(dir string) {
	fatal := func(err error) {
		if err != nil {
			fmt.Println("failed", err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	key, err := ledger.MakeKey(filepath.Join(filepath.Dir(dir), "key"))
	fatal(err)
	o := ledger.Options{Dir: dir, Writer: "main", Key: key}
	ledger.Hasty(&o)
	if there := hubOf(dir); there != "" {
		o.Remote = &remote{dir: dir, url: there}
	}
	l, err := ledger.Open(ctx, o)
	fatal(err)
	life := strconv.Itoa(os.Getpid()) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	fmt.Println("open", l.Stats().Seq)
	var wg sync.WaitGroup
	for c := range 3 {
		wg.Go(func() {
			for i := 0; ; i++ {
				what := fmt.Sprintf("%s-%d-%d", life, c, i)
				app := fmt.Sprint("app-", c)
				l.Publish(belay.Event{Type: belay.EventHealth, Application: app, Cluster: "c", Message: "published " + what})
				id, err := l.Record(ctx, belay.Event{Type: belay.EventSyncStarted, Application: app, Cluster: "c", Message: "started " + what})
				fatal(err)
				fmt.Println("ack", id, "started", what)
				id, err = l.Record(ctx, belay.Event{Type: belay.EventSynced, Application: app, Cluster: "c", Deployment: id, Result: belay.Succeeded, Message: "synced " + what})
				fatal(err)
				fmt.Println("ack", id, "synced", what)
				if c == 2 && i%5 == 4 {
					<-time.After(30 * time.Millisecond) // a pause, in which the ledger comes to rest
				}
			}
		})
	}
	wg.Wait()
}

// hubOf is the remote of a child's ledger, if it has one.
func hubOf(dir string) string {
	there := filepath.Join(filepath.Dir(dir), "hub.git")
	if _, err := os.Stat(there); err != nil {
		return ""
	}
	return there
}

// life runs a child and kills it after a while, from its start or, if it is to get
// that far, from its first acknowledgement. It notes what was acknowledged, by ID.
func life(t *testing.T, dir string, after time.Duration, far bool, acked map[string]string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), envChild+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var timer *time.Timer
	killSoon := func() { timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) }
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	if !far {
		killSoon()
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		switch fields := strings.SplitN(lines.Text(), " ", 3); {
		case fields[0] == "ack" && len(fields) == 3:
			if was, ok := acked[fields[1]]; ok {
				t.Fatalf("%s was given to %q and %q", fields[1], was, fields[2])
			}
			acked[fields[1]] = fields[2]
			if timer == nil {
				killSoon()
			}
		case fields[0] == "failed":
			t.Fatalf("a child failed: %s", lines.Text())
		}
	}
	_ = cmd.Wait() // it was killed
}

// checkHistory wants every acknowledged record at its place, none twice, no gap,
// and nothing that git finds fault with.
func checkHistory(t *testing.T, dir string, acked map[string]string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "refs/heads/ledger/main")); err != nil {
		if len(acked) > 0 {
			t.Fatalf("%d records are lost", len(acked))
		}
		return // it did not come so far; the next one starts from half of a repository
	}
	git(t, dir, "fsck", "--strict", "--no-dangling")
	report, err := verify.Run(t.Context(), verify.Options{Ledger: dir, MaxUnsigned: -1})
	if err != nil {
		t.Fatal(err)
	}
	if report.Total > 0 {
		t.Fatalf("verify finds %d things wrong, the first is %+v", report.Total, report.Findings[0])
	}
	out := git(t, dir, "log", "--reverse", "--format=%s%x09%(trailers:key=Belay-Record,valueonly,separator=%x2C)", "ledger/main")
	seen := map[string]string{}
	for n, line := range strings.Split(out, "\n") {
		what, id, _ := strings.Cut(line, "\t")
		if want := fmt.Sprintf("main/%d", n+1); id != want {
			t.Fatalf("record %s stands at the place of %s", id, want)
		}
		if _, text, ok := strings.Cut(what, ": "); ok {
			if seen[text] != "" {
				t.Fatalf("%q is on the record twice: %s and %s", text, seen[text], id)
			}
			seen[text] = id
		}
	}
	for id, what := range acked {
		if seen[what] != id {
			t.Fatalf("%s, acknowledged as %s, is on the record as %q", what, id, seen[what])
		}
	}
}

// checkRemote wants the remote to have a part of what is here, and nothing else.
func checkRemote(t *testing.T, dir string) {
	t.Helper()
	there := hubOf(dir)
	if there == "" {
		return
	}
	if tip := git(t, there, "for-each-ref", "--format=%(objectname)", "refs/heads/ledger/main"); tip != "" {
		git(t, dir, "merge-base", "--is-ancestor", tip, "ledger/main")
	}
	if set := git(t, there, "for-each-ref", "refs/heads/ledger-diverged"); set != "" {
		t.Fatalf("the remote and the ledger went different ways: %s", set)
	}
}

// kills is how often a process is killed; each takes about a quarter of a second.
func kills(t *testing.T, usual int) int {
	if n, err := strconv.Atoi(os.Getenv("BELAY_TEST_KILLS")); err == nil {
		return n
	}
	if testing.Short() {
		return usual / 10
	}
	return usual
}

// Whenever the process dies: what was acknowledged is there, once, in order, and
// the repository is one that git and the next process can work with at once.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	total := 0
	for left := kills(t, 200); left > 0; left -= 20 {
		dir := filepath.Join(t.TempDir(), "ledger.git")
		acked := map[string]string{}
		if left/20%2 == 0 { // every other one is killed while it pushes, too
			run(t, "git", "init", "--quiet", "--bare", filepath.Join(filepath.Dir(dir), "hub.git"))
		}
		lives := min(left, 20)
		for n := range lives {
			// On a busy machine none comes so far by itself, so the last one is given time.
			life(t, dir, 20*time.Millisecond+rand.N(250*time.Millisecond), n == lives-1, acked)
			checkHistory(t, dir, acked)
			checkRemote(t, dir)
		}
		total += len(acked)
		signed := 0
		if len(acked) > 0 {
			signed = len(checkpoints(t, dir))
		}
		t.Logf("%d records acknowledged, %d checkpoints", len(acked), signed)
	}
	if total == 0 {
		t.Error("no record was acknowledged, so nothing was shown")
	}
}

// gits are the processes of git that work on a ledger.
func gits(dir, command string) (pids []int) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		cwd, _ := os.Readlink(filepath.Join(p, "cwd"))
		args, _ := os.ReadFile(filepath.Join(p, "cmdline"))
		if cwd == dir && bytes.Contains(args, []byte("\x00"+command+"\x00")) {
			if pid, err := strconv.Atoi(filepath.Base(p)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// Whenever a git dies: nobody notices.
func TestGitKilled(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "ledger.git")
	o := ledger.Options{Dir: dir, Key: key(t, "key")}
	ledger.Hasty(&o)
	l := open(t, o)
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	acked := map[string]string{}
	var wg sync.WaitGroup
	for c := range 3 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				what := fmt.Sprintf("event %d of %d", i, c)
				id, err := l.Record(t.Context(), belay.Event{Type: belay.EventHealed, Application: "a", Cluster: "c", Message: what})
				if err != nil {
					// Twice in a row, as a killer of all gits may do; it is not on the record then.
					continue
				}
				mu.Lock()
				acked[id] = what
				mu.Unlock()
				if i%20 == 0 {
					<-time.After(40 * time.Millisecond) // it comes to rest, and starts its gits anew
				}
			}
		})
	}
	killed := 0
	for killed < kills(t, 40) {
		select {
		case <-time.After(rand.N(20 * time.Millisecond)):
		case <-t.Context().Done():
			t.Fatal("timed out")
		}
		for _, pid := range gits(dir, []string{"cat-file", "repack", "pack-objects"}[rand.N(3)]) {
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
			}
		}
	}
	stop()
	wg.Wait()
	closeLedger(t, l)
	await(t, "children of the killed gits to end", func() bool { return len(gits(dir, "pack-objects")) == 0 })
	checkHistory(t, dir, acked)
	if len(acked) == 0 {
		t.Error("nothing was acknowledged, so nothing was shown")
	}
	t.Logf("%d gits killed, %d records, %+v", killed, len(acked), l.Stats())
}
