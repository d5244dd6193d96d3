package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/ledger/record"
)

// recorded reads the ledger of a server with git, whether or not the server runs.
func (w *world) recorded() []belay.Record {
	w.t.Helper()
	git := func(input string, args ...string) []byte {
		w.t.Helper()
		ctx, cancel := context.WithTimeout(w.t.Context(), devtest.Patience)
		defer cancel()
		c := exec.CommandContext(ctx, "git", append([]string{"-C", filepath.Join(w.data, ledgerDir)}, args...)...)
		c.Stdin = strings.NewReader(input)
		out, err := c.Output()
		if err != nil {
			w.t.Fatalf("git %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	var blobs []string
	for line := range strings.Lines(string(git("", "log", "--reverse", "--raw", "--no-abbrev", "--no-renames", "--root", "--format=", "--branches=ledger/*"))) {
		meta, path, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if f := strings.Fields(meta); filepath.Base(path) == record.EventFile && f[4] != "D" {
			blobs = append(blobs, f[3])
		}
	}
	out := bytes.NewBuffer(git(strings.Join(blobs, "\n")+"\n", "cat-file", "--batch"))
	var all []belay.Record
	for range blobs {
		head, err := out.ReadString('\n')
		if err != nil {
			w.t.Fatal(err)
		}
		var size int
		if _, err := fmt.Sscanf(head[strings.IndexByte(head, ' ')+1:], "blob %d", &size); err != nil {
			w.t.Fatalf("%q: %v", head, err)
		}
		r, err := record.Decode(out.Next(size))
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, r)
		out.Next(1)
	}
	return all
}

// kindsOfResources are the kinds that the tests of the record deploy.
var kindsOfResources = map[string]string{"configmaps": "ConfigMap", "secrets": "Secret", "deployments": "Deployment", "jobs": "Job"}

// checkRecord makes sure of what must hold of any ledger: no record is there twice,
// every deployment begins before anything of it, ends once for good or is under
// way, and no write came before its start or its drift was recorded. With lost the
// ledger is younger than some of the writes.
func (w *world) checkRecord(what string, writes []devtest.Request, lost bool) {
	w.t.Helper()
	all := w.recorded()
	open, closed := map[string]belay.Record{}, map[string]bool{}
	for i, r := range all {
		ev := &r.Event
		if r.Seq != uint64(i+1) {
			w.t.Fatalf("%s: record %d is %s", what, i+1, r.ID())
		}
		switch {
		case ev.Type == belay.EventSyncStarted:
			for id, other := range open {
				if other.Event.Application == ev.Application && other.Event.Cluster == ev.Cluster {
					w.t.Errorf("%s: %s begins while %s is under way: %s", what, r.ID(), id, ev.Message)
				}
			}
			open[r.ID()] = r
			nothing := strings.Contains(ev.Message, ": nothing is left to ")
			if ev.Detail == nil || ev.Project == "" || ev.Change == "" || (len(ev.Detail.Objects) == 0) != nothing || (ev.Plan == "") != nothing {
				w.t.Errorf("%s: %s does not say what it is: %+v", what, r.ID(), ev)
			}
		case ev.Deployment == "" || !record.Ends(ev.Type):
		case closed[ev.Deployment]:
			w.t.Errorf("%s: %s tells an end of %s, which has ended: %s", what, r.ID(), ev.Deployment, ev.Message)
		case open[ev.Deployment].Seq == 0:
			w.t.Errorf("%s: %s tells an end of %s, which never began: %s", what, r.ID(), ev.Deployment, ev.Message)
		case ev.Result != belay.Failed:
			delete(open, ev.Deployment)
			closed[ev.Deployment] = true
		}
	}
	for _, r := range writes {
		if !lost && r.Code < 300 && !told(all, r) {
			w.t.Errorf("%s: written unrecorded: %s", what, r)
		}
	}
	if stdout, stderr, code := w.command("audit", "verify", filepath.Join(w.data, ledgerDir)); code != 0 {
		w.t.Errorf("%s: the ledger does not verify: %s%s", what, stdout, stderr)
	}
}

// told says whether a record from before a write tells of it.
func told(all []belay.Record, r devtest.Request) bool {
	kind, known := kindsOfResources[r.Resource]
	return slices.ContainsFunc(all, func(rec belay.Record) bool {
		ev := &rec.Event
		switch {
		case ev.Time.After(r.Time.Add(time.Millisecond)): // the API server counts in microseconds, of another clock
			return false
		case ev.Type == belay.EventDrift || ev.Type == belay.EventHook:
			return known && ev.Object == belay.ObjectID{Group: r.Group, Kind: kind, Namespace: r.Namespace, Name: r.Name}.String()
		case ev.Type != belay.EventSyncStarted || ev.Detail == nil:
			return false
		}
		return slices.ContainsFunc(ev.Detail.Objects, func(o belay.ObjectResult) bool {
			if r.Resource == "namespaces" { // made for what is put into it
				return o.ID.Namespace == r.Name || o.ID.Kind == "Namespace" && o.ID.Name == r.Name
			}
			return !known || o.ID == belay.ObjectID{Group: r.Group, Kind: kind, Namespace: r.Namespace, Name: r.Name}
		})
	})
}

// The record of a commit, from the ref that moved to what became of each object,
// as git shows it.
func TestTheRecordOfACommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mark := w.cp.Mark(t)
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: token}\nstringData: {value: do-not-record-me}\n"
	first := w.commit("First", map[string]string{"belay/a.yaml": application("a", "apps/a", "NS-a"), "belay/b.yaml": application("b", "apps/b", "NS-b"),
		"apps/a/a.yaml": documents(configMap("one", "1"), configMap("two", "1"), secret), "apps/b/b.yaml": configMap("b", "1")})
	s := w.serve()
	s.awaitSynced("a", "b")
	second := w.commit("Second\n\nReviewed-by: Kim <kim@example.com>\nApproved-by: Lee <lee@example.com>", map[string]string{"apps/a/a.yaml": documents(configMap("one", "2"), secret)})
	s.hook()
	s.awaitSynced("a", "b")
	w.patch(w.ns("a"), "one", "kubectl-edit", `{"data":{"value":"by hand"}}`)
	w.awaitValue(w.ns("a"), "one", "2")
	if _, stderr, code := s.cli("sync", "b", "--reason", "to see it on the record"); code != 0 {
		t.Fatal(stderr)
	}
	s.awaitEvent(belay.EventSynced, "b | ")
	w.commit("Gone", map[string]string{"belay/b.yaml": "", "apps/b/b.yaml": ""})
	s.hook()
	s.awaitSynced("a")
	s.awaitApps("a")
	s.stop()
	w.checkRecord("after all", w.writes(mark), false)

	all := w.recorded()
	find := func(typ belay.EventType, app string, fits func(*belay.Event) bool) *belay.Event {
		t.Helper()
		for i := range all {
			if ev := &all[i].Event; ev.Type == typ && ev.Application == app && fits(ev) {
				return ev
			}
		}
		t.Fatalf("there is no such event %s of %q", typ, app)
		return nil
	}
	moved := find(belay.EventRevision, "", func(ev *belay.Event) bool { return ev.Revision == second })
	if c := moved.Detail.Commits; len(c) != 1 || c[0].Subject != "Second" || !slices.Equal(c[0].Approvers, []string{"Lee <lee@example.com>"}) || len(c[0].Reviewers) != 2 || moved.Ref != "main" || moved.Detail.Previous != first {
		t.Errorf("the ref moved: %+v with %+v", moved, moved.Detail)
	}
	start := find(belay.EventSyncStarted, "a", func(ev *belay.Event) bool { return ev.Revision == second })
	if d := start.Detail; len(d.Commits) != 1 || d.Commits[0].ID != second || d.Previous != first || len(d.Objects) != 2 || start.Change != second {
		t.Errorf("it starts as %+v with %+v", start, d)
	}
	end := find(belay.EventSynced, "a", func(ev *belay.Event) bool { return ev.Revision == second })
	if end.Result != belay.Succeeded || end.Seconds <= 0 || slices.ContainsFunc(end.Detail.Objects, func(o belay.ObjectResult) bool { return o.Result != belay.Succeeded }) {
		t.Errorf("it ends as %+v with %+v", end, end.Detail)
	}
	if drift := find(belay.EventDrift, "a", func(ev *belay.Event) bool { return true }); drift.Actor != "kubectl-edit" || drift.Detail == nil || drift.Detail.Drift == nil {
		t.Errorf("the drift is %+v", drift)
	}
	find(belay.EventHealed, "a", func(ev *belay.Event) bool { return true })
	if asked := find(belay.EventApplication, "b", func(ev *belay.Event) bool { return ev.Reason != "" }); asked.Reason != "to see it on the record" || asked.Actor == "" {
		t.Errorf("asked as %+v", asked)
	}
	gone := find(belay.EventSynced, "b", func(ev *belay.Event) bool { return ev.Detail != nil && ev.Detail.Cleared })
	if gone.Result != belay.Succeeded {
		t.Errorf("it is gone as %+v", gone)
	}

	tree := w.ledgerGit("ls-tree", "-r", "--name-only", w.ledgerGit("for-each-ref", "--format=%(refname)", "refs/heads/ledger"))
	for path, want := range map[string]bool{"a/manifests/ConfigMap/": true, "a/manifests/Secret/": true, "b/manifests/": false, "two.yaml": false} {
		if strings.Contains(tree, path) != want {
			t.Errorf("%s in the tree is not %v:\n%s", path, want, tree)
		}
	}
	if log := w.ledgerGit("log", "-p", "--branches"); strings.Contains(log, "do-not-record-me") || !strings.Contains(log, "+  value: "+belay.RedactedPrefix) {
		t.Error("the value of the Secret is on the record, or not even its digest")
	}
}

func (w *world) ledgerGit(args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), devtest.Patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", filepath.Join(w.data, ledgerDir)}, args...)...).Output()
	if err != nil {
		w.t.Fatalf("git %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// command runs the program in this process, without a server.
func (w *world) command(args ...string) (stdout, stderr string, code int) {
	w.t.Helper()
	var out, errOut bytes.Buffer
	e := &env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, getenv: func(string) string { return "" }}
	ctx, cancel := context.WithTimeout(w.t.Context(), devtest.Patience)
	defer cancel()
	code = e.execute(ctx, args)
	return out.String(), errOut.String(), code
}
