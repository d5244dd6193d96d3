package index

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/ledgertest"
)

// story is four deployments of shop and one of another application.
func story(t *testing.T) (*ledgertest.Ledger, []string) {
	t.Helper()
	l := ledgertest.New(t)
	at := func(h int) time.Time { return ledgertest.Begin.Add(time.Duration(h) * time.Hour) }
	shop := func(n, h int, result belay.Result, who string, m ...belay.Manifest) ledgertest.Deploy {
		return ledgertest.Deploy{Application: "shop", Cluster: "prod", Project: "web", Actor: who, Message: fmt.Sprintf("change %d", n), Change: ledgertest.Hash(n),
			Revision: ledgertest.Hash(n), Previous: ledgertest.Hash(n - 1), Started: at(h), Took: 3 * time.Second, Result: result, Manifests: m}
	}
	web, api := func(image string, n int) belay.Manifest { return ledgertest.Workload("shop", "web", image, n) }, ledgertest.Workload("shop", "api", "api:1", 1)
	ids := []string{
		l.Deploy(shop(1, 0, belay.Succeeded, ledgertest.People[0], web("web:1", 2), api)),
		l.Deploy(shop(2, 1, belay.Succeeded, ledgertest.People[1], web("web:2", 2))),
	}
	other := shop(3, 2, belay.Succeeded, ledgertest.People[2], ledgertest.Workload("mail", "web", "mail:1", 1))
	other.Application = "mail"
	ids = append(ids, l.Deploy(other),
		l.Deploy(shop(3, 2, belay.Succeeded, ledgertest.People[2], web("web:2", 5), belay.Manifest{ID: api.ID})),
		l.Deploy(shop(4, 3, "", ledgertest.People[3], web("web:3", 5))))
	return l, ids
}

func TestADeploymentIsWhatItsRecordsSay(t *testing.T) {
	l, ids := story(t)
	x := open(t, Options{Ledger: l.Dir})
	all, next, err := x.Deployments(t.Context(), belay.RecordQuery{Applications: []string{"shop"}})
	must(t, err)
	var got []string
	for _, d := range all {
		got = append(got, fmt.Sprint(d.ID, " ", d.Result, " ", d.Ended.Sub(d.Started) == 3*time.Second, " ", len(d.Manifests)))
	}
	want := []string{ids[4] + "  false 0", ids[3] + " succeeded true 1", ids[1] + " succeeded true 1", ids[0] + " succeeded true 2"}
	if !slices.Equal(got, want) || next != "" {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	// The end of a deployment and what is in between name it as well.
	for _, id := range []string{ids[0], "main/2"} {
		if d, err := x.Deployment(t.Context(), id); err != nil || d.ID != ids[0] || d.Actor != ledgertest.People[0] {
			t.Errorf("%s is of %+v, %v", id, d, err)
		}
	}
	records, _, err := x.Records(t.Context(), belay.RecordQuery{Deployment: ids[0]})
	if err != nil || len(records) != 2 || records[0].Event.Type != belay.EventSynced {
		t.Errorf("records of %s: %v, %v", ids[0], records, err)
	}
	page, next, err := x.Deployments(t.Context(), belay.RecordQuery{Limit: 3})
	if err != nil || len(page) != 3 || next != page[2].ID {
		t.Errorf("page of %d, next %q, %v", len(page), next, err)
	}
	page, next, err = x.Deployments(t.Context(), belay.RecordQuery{Limit: 3, After: next})
	if err != nil || len(page) != 2 || next != "" || page[1].ID != ids[0] {
		t.Errorf("next page %v, next %q, %v", page, next, err)
	}
}

func TestDeploymentsAreFoundByTheLinesTheyChanged(t *testing.T) {
	l, ids := story(t)
	x := open(t, Options{Ledger: l.Dir})
	for expr, want := range map[string][]string{
		"replicas":  {ids[3], ids[2], ids[0]},
		"image: we": {ids[1], ids[0]},
		"api:1":     {ids[3], ids[0]}, // the one took it away
		"nothing":   {},
	} {
		got := []string{}
		for after := ""; ; {
			page, next, err := x.Deployments(t.Context(), belay.RecordQuery{Changed: expr, Brief: true, Limit: 2, After: after})
			must(t, err)
			for _, d := range page {
				got = append(got, d.ID)
			}
			if after = next; after == "" {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q was changed by %v, want %v", expr, got, want)
		}
	}
	if _, _, err := x.Deployments(t.Context(), belay.RecordQuery{Changed: "("}); err == nil || !strings.Contains(err.Error(), "regular expression") {
		t.Errorf("a wrong expression: %v", err)
	}
}

func TestManifestsAndTheirChanges(t *testing.T) {
	l, ids := story(t)
	x := open(t, Options{Ledger: l.Dir})
	texts, err := x.Manifests(t.Context(), ids[1])
	must(t, err)
	if len(texts) != 2 || texts[0].Object.Name != "api" || !strings.Contains(texts[1].YAML, "image: web:2\n") {
		t.Errorf("manifests: %+v", texts)
	}
	changes, err := x.Changes(t.Context(), ids[3])
	must(t, err)
	if len(changes) != 2 || !changes[0].Removed || changes[0].Added || changes[1].Removed || changes[1].Added {
		t.Fatalf("changes: %+v", changes)
	}
	want := "--- Deployment.apps shop/web (before " + ids[3] + ")\n+++ Deployment.apps shop/web (" + ids[3] + ")\n"
	if d := changes[1].Diff; !strings.HasPrefix(d, want) || !strings.Contains(d, "-  replicas: 2\n+  replicas: 5\n") {
		t.Errorf("diff:\n%s", d)
	}
	// By revision, and the other way round.
	diff, err := x.Diff(t.Context(), "shop", ledgertest.Hash(3)[:8], ids[0])
	must(t, err)
	if len(diff) != 2 || !diff[0].Added || !strings.Contains(diff[1].Diff, "-  replicas: 5\n+  replicas: 2\n") || !strings.Contains(diff[1].Diff, "+        - image: web:1\n") {
		t.Errorf("diff: %+v", diff)
	}
	for _, wrong := range []string{"beef1234", ids[2], "main/99"} {
		if _, err := x.Diff(t.Context(), "shop", wrong, ids[0]); err == nil {
			t.Errorf("%s can be compared", wrong)
		}
	}
	running, err := x.Changes(t.Context(), ids[4])
	if err != nil || len(running) != 0 {
		t.Errorf("what runs changed %v, %v", running, err)
	}
}

func TestEachLineIsOfWhoSetIt(t *testing.T) {
	l, ids := story(t)
	x := open(t, Options{Ledger: l.Dir})
	blamed, err := x.Blame(t.Context(), "shop", "", "deployment/web")
	must(t, err)
	if len(blamed) != 1 || len(blamed[0].Deployments) != 3 || blamed[0].Deployments[0].Actor != ledgertest.People[2] {
		t.Fatalf("blame: %+v", blamed)
	}
	for _, line := range blamed[0].Lines {
		want := ids[0]
		switch {
		case strings.Contains(line.Text, "replicas"):
			want = ids[3]
		case strings.Contains(line.Text, "image"):
			want = ids[1]
		}
		if line.Deployment != want {
			t.Errorf("%q is of %s, want %s", line.Text, line.Deployment, want)
		}
	}
	for _, wrong := range [][2]string{{"shop", "deployment/api"}, {"nobody", ""}} {
		if _, err := x.Blame(t.Context(), wrong[0], "", wrong[1]); err == nil {
			t.Errorf("blame of %v", wrong)
		}
	}
}

// Of an application that was removed it is told what it had until then.
func TestARemovedApplicationIsBlamed(t *testing.T) {
	l, ids := story(t)
	at := ledgertest.Begin.AddDate(1, 0, 0)
	start := belay.Event{Time: at, Type: belay.EventSyncStarted, Application: "shop", Cluster: "prod", Message: "removed from Git: 1 object to delete"}
	gone := l.Append(start)[0]
	end := start
	end.Time, end.Type, end.Deployment, end.Result, end.Detail = at.Add(time.Second), belay.EventSynced, gone, belay.Succeeded, &belay.Detail{Cleared: true}
	l.Append(end)
	x := open(t, Options{Ledger: l.Dir})
	if left, err := x.Manifests(t.Context(), gone); err != nil || len(left) != 0 {
		t.Fatalf("the removal left %v, %v", left, err)
	}
	blamed, err := x.Blame(t.Context(), "shop", "", "deployment/web")
	if err != nil || len(blamed) != 1 || !slices.ContainsFunc(blamed[0].Deployments, func(d belay.Deployment) bool { return d.ID == ids[3] }) {
		t.Errorf("blame: %+v, %v", blamed, err)
	}
	if _, err := x.Blame(t.Context(), "shop", "", "deployment/api"); err == nil || !strings.Contains(err.Error(), `no manifest of "deployment/api"`) {
		t.Errorf("blame of what was not there at the end: %v", err)
	}
}

// Whatever is edited, every line has one owner, and a line nobody touched keeps its.
func TestLinesKeepTheirOwners(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		var texts []string
		text := []string{}
		for range 10 {
			for range rnd.IntN(4) {
				i := rnd.IntN(len(text) + 1)
				if rnd.IntN(2) == 0 || i == len(text) {
					text = slices.Insert(text, i, fmt.Sprintf("line %d\n", rnd.Int64()))
				} else {
					text = slices.Delete(text, i, i+1)
				}
			}
			texts = append(texts, strings.TrimSuffix(strings.Join(text, ""), strings.Repeat("\n", rnd.IntN(2))))
		}
		var owners []int
		before := ""
		for i, after := range texts {
			now := inherit(owners, before, after, i)
			if len(now) != len(lines(after)) {
				t.Fatalf("%d lines have %d owners:\n%q\n%q", len(lines(after)), len(now), before, after)
			}
			old := lines(before)
			for n, line := range lines(after) {
				if n < len(old) && slices.Equal(old[:n+1], lines(after)[:n+1]) && now[n] != owners[n] {
					t.Fatalf("%q was not touched by %q -> %q", line, before, after)
				}
				if now[n] != i && !slices.Contains(old, line) {
					t.Fatalf("%q is new in %q -> %q, but has an old owner", line, before, after)
				}
			}
			owners, before = now, after
		}
	}
}

func TestAnApplicationThatMovedIsCompared(t *testing.T) {
	l := ledgertest.Init(t, filepath.Join(t.TempDir(), "l.git"))
	d := ledgertest.Deploy{Application: "shop", Cluster: "old", Started: ledgertest.Begin, Result: belay.Succeeded, Revision: ledgertest.Hash(1),
		Manifests: []belay.Manifest{ledgertest.Workload("shop", "web", "web:1", 1), ledgertest.Workload("shop", "api", "api:1", 1)}}
	a := l.Deploy(d)
	d.Cluster, d.Started, d.Revision, d.Manifests = "new", ledgertest.Begin.Add(time.Hour), ledgertest.Hash(2), []belay.Manifest{ledgertest.Workload("shop", "web", "web:2", 1), d.Manifests[1]}
	b := l.Deploy(d)
	changes, err := open(t, Options{Ledger: l.Dir}).Diff(t.Context(), "shop", a, b)
	if err != nil || len(changes) != 1 || changes[0].Object.Name != "web" || !strings.Contains(changes[0].Diff, "+        - image: web:2") {
		t.Errorf("changes %+v, %v", changes, err)
	}
}
