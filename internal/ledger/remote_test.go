package ledger_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/gittest"
	"github.com/belaydev/belay/internal/ledger"
)

// remote is one that real git talks to, and that can be cut off.
type remote struct {
	dir, url string
	cut      atomic.Bool
	pushes   atomic.Int64
}

func (r *remote) String() string { return r.url }

func (r *remote) run(ctx context.Context, args ...string) error {
	if r.cut.Load() {
		return fmt.Errorf("no connection")
	}
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", r.dir}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("git %s: %w: %s", args[0], err, out)
	}
	return nil
}

func (r *remote) Push(ctx context.Context, specs ...string) error {
	r.pushes.Add(1)
	return r.run(ctx, append([]string{"push", "--quiet", r.url}, specs...)...)
}

func (r *remote) Fetch(ctx context.Context, specs ...string) error {
	return r.run(ctx, append([]string{"fetch", "--quiet", "--prune", r.url}, specs...)...)
}

// hub is a bare repository to push to.
func hub(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hub.git")
	run(t, "git", "init", "--quiet", "--bare", dir)
	return dir
}

func started(i int) belay.Event {
	return belay.Event{Type: belay.EventStarted, Message: fmt.Sprintf("event %d", i)}
}

func TestTheRemoteHasEverything(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	run(t, "git", "init", "--quiet", "--bare", filepath.Join(root, "hub.git"))
	web := gittest.ServeHTTP(t, root, gittest.HTTPOptions{})
	dir := filepath.Join(t.TempDir(), "ledger.git")
	r := &remote{dir: dir, url: web.URL + "/hub.git"}
	o := ledger.Options{Dir: dir, Key: key(t, "key"), Remote: r}
	ledger.Hasty(&o)
	l := open(t, o)
	record(t, l, started(1))
	await(t, "the first push", func() bool { return l.Stats().Pushed >= 1 })
	r.cut.Store(true)
	for i := 2; i <= 60; i++ {
		record(t, l, started(i))
	}
	await(t, "the outage to be noticed", func() bool { return l.Stats().Remote != nil })
	r.cut.Store(false)
	record(t, l, started(61))
	await(t, "everything to be pushed", func() bool { s := l.Stats(); return s.Remote == nil && s.Pushed >= 61 })
	record(t, l, started(62))
	closeLedger(t, l)
	if here, there := git(t, dir, "rev-parse", "ledger/main"), git(t, filepath.Join(root, "hub.git"), "rev-parse", "ledger/main"); here != there {
		t.Errorf("after the end the remote is at %s, not %s", there, here)
	}
	// Nothing happens: nothing is pushed.
	pushes := r.pushes.Load()
	closeLedger(t, open(t, o))
	if n := r.pushes.Load() - pushes; n != 0 {
		t.Errorf("%d pushes of nothing", n)
	}
}

func TestALostLedgerComesBack(t *testing.T) {
	t.Parallel()
	there := hub(t)
	dir := filepath.Join(t.TempDir(), "ledger.git")
	o := ledger.Options{Dir: dir, Key: key(t, "key"), Remote: &remote{dir: dir, url: there}}
	l := open(t, o)
	id := record(t, l, belay.Event{Type: belay.EventSyncStarted, Application: "web", Cluster: "c", Message: "deploying"})
	closeLedger(t, l)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l = open(t, o)
	if running := l.Running(); len(running) != 1 || running[0].ID != id {
		t.Errorf("running: %+v", running)
	}
	if got := record(t, l, started(2)); got != "main/3" {
		t.Errorf("it goes on with %s", got)
	}
	closeLedger(t, l)

	// Without an answer it must not begin a second history of the same name.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	r := &remote{dir: dir, url: there}
	r.cut.Store(true)
	o.Remote, o.Writer = r, "main"
	if _, err := ledger.Open(t.Context(), o); belay.CodeOf(err) != belay.CodeUnavailable || !strings.Contains(err.Error(), "--ledger-writer") {
		t.Errorf("opened an empty ledger beside a remote that does not answer: %v", err)
	}
	r.cut.Store(false)
	l = open(t, o)
	if got := record(t, l, started(3)); got != "main/5" {
		t.Errorf("it goes on with %s", got)
	}
	closeLedger(t, l)
}

func TestABackupIsBroughtForward(t *testing.T) {
	t.Parallel()
	there := hub(t)
	base := t.TempDir()
	dir, backup := filepath.Join(base, "ledger.git"), filepath.Join(base, "backup.git")
	r := &remote{dir: dir, url: there}
	o := ledger.Options{Dir: dir, Key: key(t, "key"), Remote: r}
	l := open(t, o)
	record(t, l, started(1))
	closeLedger(t, l)
	run(t, "cp", "-a", dir, backup)
	l = open(t, o)
	record(t, l, started(3))
	closeLedger(t, l)
	restore := func() {
		t.Helper()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		run(t, "cp", "-a", backup, dir)
	}
	restore()
	l = open(t, o)
	if got := record(t, l, started(5)); got != "main/5" {
		t.Errorf("it goes on with %s", got)
	}
	closeLedger(t, l)

	// A backup that worked without its remote went another way: both are kept.
	restore()
	r.cut.Store(true)
	l = open(t, o)
	record(t, l, started(33))
	closeLedger(t, l)
	lost := git(t, dir, "rev-parse", "ledger/main")
	r.cut.Store(false)
	was := git(t, there, "rev-parse", "ledger/main")
	l = open(t, o)
	record(t, l, started(8))
	closeLedger(t, l)
	if got := git(t, there, "log", "--format=%s", was+"..ledger/main"); !strings.Contains(got, "event 8") || !strings.Contains(got, "went different ways") {
		t.Errorf("the remote has\n%s", got)
	}
	if got := git(t, there, "rev-parse", "ledger-diverged/main-"+lost[:12]); got != lost {
		t.Errorf("what was set aside is %s on the remote, not %s", got, lost)
	}
}

func TestTwoOfOneName(t *testing.T) {
	t.Parallel()
	there := hub(t)
	var ledgers []*ledger.Ledger
	var dirs []string
	for range 2 {
		dir := filepath.Join(t.TempDir(), "ledger.git")
		o := ledger.Options{Dir: dir, Key: key(t, "key"), Remote: &remote{dir: dir, url: there}}
		ledger.Hasty(&o)
		ledgers, dirs = append(ledgers, open(t, o)), append(dirs, dir)
	}
	record(t, ledgers[0], started(0))
	await(t, "the first to be pushed", func() bool { return ledgers[0].Stats().Pushed > 0 })
	record(t, ledgers[1], started(1))
	// Where both push at once, one may be told first that the other is about to.
	var refused *belay.Error
	await(t, "the second to be refused", func() bool {
		refused = ledgers[1].Stats().Remote
		return refused != nil && refused.Code == belay.CodeConflict
	})
	if !strings.Contains(refused.Hint, "--ledger-writer") {
		t.Errorf("the problem is %v", refused)
	}
	tip := git(t, dirs[0], "rev-parse", "ledger/main")
	for _, l := range ledgers {
		closeLedger(t, l)
	}
	run(t, "git", "-C", there, "merge-base", "--is-ancestor", tip, "ledger/main")
}

// A remote shows every writer of a fleet, to each of them. What is known of one
// stays when the remote says otherwise.
func TestWritersSeeOneAnother(t *testing.T) {
	t.Parallel()
	there := hub(t)
	names := []string{"eu", "us"}
	ledgers, dirs := map[string]*ledger.Ledger{}, map[string]string{}
	var wg sync.WaitGroup
	for _, name := range names {
		dir := filepath.Join(t.TempDir(), "ledger.git")
		o := ledger.Options{Dir: dir, Writer: name, Key: key(t, "key"), Remote: &remote{dir: dir, url: there}}
		ledger.Hasty(&o)
		l := open(t, o)
		ledgers[name], dirs[name] = l, dir
		wg.Go(func() {
			for i := range 30 {
				if _, err := l.Record(t.Context(), started(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	tip := func(dir, name string) string {
		b, _ := os.ReadFile(filepath.Join(dir, "refs/heads/ledger", name))
		return string(b)
	}
	await(t, "each to know the other", func() bool {
		return tip(dirs["eu"], "us") != "" && tip(dirs["eu"], "us") == tip(dirs["us"], "us") && tip(dirs["us"], "eu") == tip(dirs["eu"], "eu") && tip(there, "eu") == tip(dirs["eu"], "eu")
	})
	// What is still to be signed comes with its end.
	closeLedger(t, ledgers["us"])
	record(t, ledgers["eu"], started(30))
	await(t, "the last of the other to be known", func() bool { return tip(dirs["eu"], "us") == tip(dirs["us"], "us") })
	known := tip(dirs["eu"], "us")
	git(t, there, "update-ref", "refs/heads/ledger/us", git(t, there, "rev-parse", "ledger/eu"))
	record(t, ledgers["eu"], started(31))
	await(t, "the forgery to be fetched", func() bool {
		b, _ := os.ReadFile(filepath.Join(dirs["eu"], "refs/belay/remote/us"))
		return len(b) > 0 && string(b) != known
	})
	closeLedger(t, ledgers["eu"])
	if got := tip(dirs["eu"], "us"); got != known {
		t.Errorf("a rewritten branch replaced the one that is known")
	}
	for _, dir := range dirs {
		git(t, dir, "fsck", "--strict", "--no-dangling")
	}
}
