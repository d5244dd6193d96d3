package ledger_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/ledger"
)

// git runs plain git on a ledger, as anybody would.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSuffix(string(out), "\n")
}

func open(t testing.TB, o ledger.Options) *ledger.Ledger {
	t.Helper()
	if o.Writer == "" {
		o.Writer = "main"
	}
	ledger.Patient(&o)
	l, err := ledger.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLedger(t testing.TB, l *ledger.Ledger) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*devtest.Patience) // beyond that of the last push
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

func record(t testing.TB, l *ledger.Ledger, ev belay.Event) string {
	t.Helper()
	id, err := l.Record(t.Context(), ev)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestADeploymentIsRecorded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger.git")
	l := open(t, ledger.Options{Dir: dir})
	l.Publish(belay.Event{Type: belay.EventStarted, Message: "belay started"})
	l.Publish(belay.Event{Type: belay.EventRevision, Repo: "https://git.example.org/fleet", Ref: "main", Revision: "abc", Message: "main moved"})
	if got := l.Source("https://git.example.org/fleet", "main"); got != "abc" {
		t.Errorf("Source = %q before it is written", got)
	}
	id := record(t, l, belay.Event{Type: belay.EventSyncStarted, Application: "web", Cluster: "prod", Message: "deploying", Actor: "Ada <ada@example.org>"})
	if id != "main/3" {
		t.Fatalf("the record is %s", id)
	}
	if r := l.Running(); len(r) != 1 || r[0].ID != id {
		t.Fatalf("running: %+v", r)
	}
	hold := &belay.Hold{Application: "db", Cluster: "prod", Revision: "def", By: "Ada", Reason: "broken"}
	record(t, l, belay.Event{Type: belay.EventHold, Application: "db", Cluster: "prod", Message: "held", Detail: &belay.Detail{Hold: hold}})
	record(t, l, belay.Event{Type: belay.EventSyncFailed, Application: "web", Cluster: "prod", Deployment: id, Result: belay.Failed, Message: "no room"})
	closeLedger(t, l)

	l = open(t, ledger.Options{Dir: dir})
	if r := l.Running(); len(r) != 1 || r[0].ID != id || r[0].Result != belay.Failed {
		t.Fatalf("running after a restart: %+v", r)
	}
	if h := l.Holds(); len(h) != 1 || h[0].Revision != "def" {
		t.Fatalf("holds after a restart: %+v", h)
	}
	if got := l.Source("https://git.example.org/fleet", "main"); got != "abc" {
		t.Errorf("Source = %q after a restart", got)
	}
	if d, err := l.Deployed(t.Context(), "prod", "web"); err != nil || d.ID != id || d.Result != belay.Failed {
		t.Errorf("deployed after a restart: %+v %v", d, err)
	}
	if d, err := l.Deployed(t.Context(), "prod", "never"); err != nil || d.ID != "" {
		t.Errorf("what was never deployed: %+v %v", d, err)
	}
	object := belay.ObjectID{Kind: "ConfigMap", Namespace: "web", Name: "c"}
	end := record(t, l, belay.Event{Type: belay.EventSynced, Application: "web", Cluster: "prod", Deployment: id, Result: belay.Succeeded, Message: "deployed",
		Detail: &belay.Detail{Manifests: []belay.Manifest{{ID: object, Raw: json.RawMessage(`{"data":{"a":"b"},"kind":"ConfigMap"}`)}}}})
	record(t, l, belay.Event{Type: belay.EventRelease, Application: "db", Cluster: "prod", Message: "released"})
	if len(l.Running()) != 0 || len(l.Holds()) != 0 {
		t.Fatalf("at the end: %+v %+v", l.Running(), l.Holds())
	}
	closeLedger(t, l)
	git(t, dir, "fsck", "--strict")
	path := git(t, dir, "ls-tree", "-r", "--name-only", "ledger/main", "clusters/")
	path, _, _ = strings.Cut(path, "deployment.json")
	path += "deployment.json"
	var d belay.Deployment
	if err := json.Unmarshal([]byte(git(t, dir, "show", "ledger/main:"+path)), &d); err != nil || d.ID != id || d.Result != belay.Succeeded || len(d.Manifests) != 1 {
		t.Errorf("deployment %+v, %v", d, err)
	}
	if got := git(t, dir, "log", "--format=%an <%ae> %s", "--grep=Belay-Event: syncStarted", "ledger/main"); got != "Ada <ada@example.org> web@prod: deploying" {
		t.Errorf("git log: %q", got)
	}
	if got := git(t, dir, "log", "--format=%(trailers:key=Belay-Record,valueonly,separator=%x2C)", "-1", "ledger/main", "--", ":(glob)clusters/*/*/web/deployment.json"); !strings.HasPrefix(got, end) {
		t.Errorf("the end of the deployment is %q, not %s", got, end)
	}
	if files := git(t, dir, "ls-tree", "-r", "--name-only", "ledger/main"); strings.Contains(files, "running/") || strings.Contains(files, "holds/") || !strings.Contains(files, "/manifests/ConfigMap/web/c.yaml") {
		t.Errorf("files:\n%s", files)
	}
}

func TestManyRecordAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger.git")
	l := open(t, ledger.Options{Dir: dir})
	const callers, each = 50, 20
	var mu sync.Mutex
	ids := map[string]string{}
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				what := fmt.Sprintf("caller %d event %d", c, i)
				id, err := l.Record(t.Context(), belay.Event{Type: belay.EventHealed, Application: fmt.Sprint("app-", c), Cluster: "c", Message: what})
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if ids[id] != "" {
					t.Errorf("%s is %q and %q", id, ids[id], what)
				}
				ids[id] = what
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	st := l.Stats()
	closeLedger(t, l)
	if st.Seq < callers*each || st.Batches > callers*each/2 {
		t.Errorf("stats %+v", st)
	}
	history := git(t, dir, "log", "--reverse", "--format=%s %(trailers:key=Belay-Record,valueonly,separator=%x2C)", "ledger/main")
	for n, line := range strings.Split(history, "\n") {
		id := fmt.Sprintf("main/%d", n+1)
		if n < callers*each && (!strings.HasSuffix(line, " "+id) || !strings.Contains(line, ids[id])) {
			t.Fatalf("record %d is %q", n+1, line)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "objects", "pack", "*.keep")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// A process was killed while git named the branch: what locks it is in nobody's way.
func TestAKilledStartLocksNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ledger.git")
	closeLedger(t, open(t, ledger.Options{Dir: dir}))
	for name, content := range map[string]string{"HEAD": "ref: refs/heads/master\n", "HEAD.lock": "", "config.lock": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := open(t, ledger.Options{Dir: dir})
	record(t, l, belay.Event{Type: belay.EventStarted, Message: "started"})
	closeLedger(t, l)
	if head, err := os.ReadFile(filepath.Join(dir, "HEAD")); err != nil || string(head) != "ref: refs/heads/ledger/main\n" {
		t.Errorf("HEAD is %q, %v", head, err)
	}
}
