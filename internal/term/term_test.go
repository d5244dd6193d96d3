package term

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"pgregory.net/rapid"
)

func render(t *testing.T, colour bool, width int, f func(*Printer) error) string {
	t.Helper()
	var b bytes.Buffer
	p := &Printer{w: &b, Colour: colour, Width: width}
	if err := f(p); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func sample() *Table {
	t := NewTable("NAME", "SYNC", "MESSAGE")
	t.Row(Text("guestbook"), SyncCell(belay.Synced), Text(""))
	t.Row(Text("web"), SyncCell(belay.OutOfSync), Text("Deployment.apps web/web:\nthe \x1b[31mimage\x1b[0m cannot be pulled"))
	t.Row(Text("日本"), SyncCell(belay.SyncUnknown), Text(""))
	return t
}

func TestTable(t *testing.T) {
	got := render(t, false, 0, func(p *Printer) error { return p.Print(sample()) })
	want := "NAME       SYNC       MESSAGE\n" +
		"guestbook  Synced\n" +
		"web        OutOfSync  Deployment.apps web/web: the �[31mimage�[0m cannot be pulled\n" +
		"日本       Unknown\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestTableOnATerminal(t *testing.T) {
	got := render(t, true, 40, func(p *Printer) error { return p.Print(sample()) })
	if !strings.Contains(got, "\x1b[32mSynced\x1b[0m") || !strings.Contains(got, "\x1b[33mOutOfSync\x1b[0m") {
		t.Errorf("no colour in\n%q", got)
	}
	for l := range strings.Lines(strip(got)) {
		if n := Columns(strings.TrimSuffix(l, "\n")); n > 40 {
			t.Errorf("%d columns: %q", n, l)
		}
	}
	if !strings.Contains(got, "…") {
		t.Errorf("nothing was shortened:\n%s", got)
	}
}

func strip(s string) string {
	for _, c := range []Style{Bold, Faint, Red, Green, Yellow, Cyan} {
		s = strings.ReplaceAll(s, "\x1b["+string(c)+"m", "")
	}
	return strings.ReplaceAll(s, "\x1b[0m", "")
}

func TestNothingFromOutsideSteersTheTerminal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s") + rapid.SampledFrom([]string{"", "\x1b[2J", "\r\n", "\u202e", "\x9b"}).Draw(t, "evil")
		if c := Clean(s); strings.ContainsFunc(c, steers) {
			t.Fatalf("Clean(%q) = %q", s, c)
		}
		n := rapid.IntRange(1, 20).Draw(t, "n")
		if c := Truncate(Clean(s), n); Columns(c) > n {
			t.Fatalf("Truncate(%q, %d) = %q", s, n, c)
		}
	})
}

func object(wave int, kind, name string, sync belay.SyncState, health belay.Health) belay.ObjectStatus {
	return belay.ObjectStatus{ObjectID: belay.ObjectID{Kind: kind, Namespace: "g", Name: name}, Wave: wave, Sync: sync, Health: health}
}

func TestTree(t *testing.T) {
	failed := object(1, "Service", "frontend", belay.OutOfSync, belay.Missing)
	failed.Message = "the port is taken"
	failed.File, failed.Line = "apps/g/svc.yaml", 3
	got := render(t, false, 0, func(p *Printer) error {
		return p.Tree("guestbook", []belay.ObjectStatus{failed,
			object(0, "Secret", "s", belay.Synced, belay.Healthy), object(0, "ConfigMap", "settings", belay.Synced, belay.Healthy)})
	})
	want := `guestbook
├─ wave 0
│  ├─ ConfigMap g/settings  Synced     Healthy
│  └─ Secret g/s            Synced     Healthy
└─ wave 1
   └─ Service g/frontend    OutOfSync  Missing  apps/g/svc.yaml:3
        the port is taken
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	got = render(t, false, 0, func(p *Printer) error {
		return p.Tree("one", []belay.ObjectStatus{object(0, "Secret", "s", belay.Synced, belay.Healthy)})
	})
	if want := "one\n└─ Secret g/s  Synced  Healthy\n"; got != want {
		t.Errorf("a tree of one wave: got\n%s\nwant\n%s", got, want)
	}
	hook := object(0, "Job", "migrate", belay.OutOfSync, belay.Progressing)
	hook.Hook, hook.Message = &belay.HookStatus{Phases: []belay.HookPhase{belay.PreSync, belay.PostSync}, State: belay.HookRunning}, "1 active"
	idle := object(0, "Job", "tell", belay.Synced, belay.Healthy)
	idle.Hook = &belay.HookStatus{Phases: []belay.HookPhase{belay.SyncFail}}
	got = render(t, false, 0, func(p *Printer) error {
		return p.Tree("hooks", []belay.ObjectStatus{object(0, "ConfigMap", "c", belay.Synced, belay.Healthy), hook, idle})
	})
	want = `hooks
├─ ConfigMap g/c  Synced                 Healthy
├─ Job g/migrate  PreSync,PostSync hook  Running
│    1 active
└─ Job g/tell     SyncFail hook          -
`
	if got != want {
		t.Errorf("a tree with hooks: got\n%s\nwant\n%s", got, want)
	}
	if got := render(t, false, 0, func(p *Printer) error { return p.Tree("none", nil) }); got != "none\n" {
		t.Errorf("an empty tree: %q", got)
	}
}

func TestPreviews(t *testing.T) {
	previews := []belay.Preview{
		{Application: "quiet", Cluster: "local", Unchanged: 3},
		{Application: "guestbook", Cluster: "local", Revision: "0123456789abcdef", Unchanged: 1, Changes: []belay.PreviewChange{
			{Verb: belay.VerbCreate, Hook: belay.PreSync, ID: belay.ObjectID{Group: "batch", Kind: "Job", Namespace: "g", Name: "migrate"}, File: "m.yaml", Line: 2},
			{Verb: belay.VerbCreate, ID: belay.ObjectID{Kind: "Secret", Namespace: "g", Name: "s"}, File: "s.yaml", Line: 1,
				Diff: "--- live\n+++ planned\n@@ -0,0 +1,1 @@\n+kind: Secret\n"},
			{Verb: belay.VerbHeal, ID: belay.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "g", Name: "d"},
				Drift: &belay.Drift{Taken: []string{".spec.replicas"}, Manager: "kubectl-edit", Operation: "Update", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}},
			{Verb: belay.VerbDelete, ID: belay.ObjectID{Kind: "Service", Namespace: "g", Name: "x"}, Error: "not allowed"},
		}, Held: &belay.Error{Message: "would delete all 3 objects", Hint: "set spec.sync.confirm"},
			Errors: []belay.Error{{Origin: belay.Origin{File: "x.yaml", Line: 4}, Message: "kind is missing"}}},
	}
	got := render(t, false, 0, func(p *Printer) error { return p.Previews(previews) })
	want := `guestbook on local at 0123456789: 1 to create, 1 to heal, 1 hook to run, 1 refused, some held, 1 error, 1 unchanged
> run PreSync hook Job.batch g/migrate  m.yaml:2
+ create Secret g/s  s.yaml:1
    --- live
    +++ planned
    @@ -0,0 +1,1 @@
    +kind: Secret
~ heal Deployment.apps g/d
    changed in the cluster by kubectl-edit (Update) at 2026-01-02T03:04:05Z: .spec.replicas
- delete Service g/x
    refused: not allowed
held: would delete all 3 objects
    hint: set spec.sync.confirm
error: x.yaml:4: kind is missing

1 application would not change.
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := render(t, true, 80, func(p *Printer) error { return p.Previews(previews) }); !strings.Contains(got, "    \x1b[32m+kind: Secret\x1b[0m\n") || strip(got) != want {
		t.Errorf("in colour:\n%q", got)
	}
}

func TestProgressSaysEachStateOnce(t *testing.T) {
	var b bytes.Buffer
	p := newProgress(&b)
	p.Set("a", "Progressing")
	p.Set("a", "Progressing")
	p.Set("b", "Progressing")
	p.Set("a", "Healthy")
	if got, want := b.String(), "a: Progressing\nb: Progressing\na: Healthy\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	b.Reset()
	NewProgress(&b).Set("a", "Healthy")
	if b.Len() > 0 {
		t.Errorf("progress on what is no terminal: %q", b.String())
	}
}
