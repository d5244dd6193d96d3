package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
)

func TestCompareURL(t *testing.T) {
	for repo, want := range map[string]string{
		"https://github.com/acme/fleet.git":      "https://github.com/acme/fleet/compare/main...belay/rollback-web?expand=1",
		"git@github.com:acme/fleet.git":          "https://github.com/acme/fleet/compare/main...belay/rollback-web?expand=1",
		"ssh://git@gitlab.example.com/a/b/c.git": "https://gitlab.example.com/a/b/c/-/merge_requests/new?merge_request%5Bsource_branch%5D=belay%2Frollback-web&merge_request%5Btarget_branch%5D=main",
		"https://codeberg.org/acme/fleet":        "https://codeberg.org/acme/fleet/compare/main...belay/rollback-web",
		"https://bitbucket.org/acme/fleet":       "https://bitbucket.org/acme/fleet/pull-requests/new?source=belay%2Frollback-web&dest=main",
		"https://git.example.com/fleet.git":      "",
		"file:///srv/fleet":                      "",
		"/srv/fleet":                             "",
	} {
		if got := compareURL(repo, "main", "belay/rollback-web"); got != want {
			t.Errorf("%s: %q, want %q", repo, got, want)
		}
	}
}

func TestHoldTime(t *testing.T) {
	for _, c := range []struct {
		last, reason string
		want         time.Duration
	}{{"", "why", 24 * time.Hour}, {"4h", "why", 4 * time.Hour}, {"720h", "why", 720 * time.Hour}, {"721h", "why", 0}, {"-1h", "why", 0}, {"soon", "why", 0}, {"4h", " \n", 0}} {
		got, err := holdTime(&belay.RollbackRequest{For: c.last, Reason: c.reason})
		if got != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%q %q: %v, %v", c.last, c.reason, got, err)
		}
	}
}

// Nobody adds a trailer, or a line, with a reason.
func TestRollbackMessage(t *testing.T) {
	p := &past{name: "web", deployment: "main/7", rev: belay.Revision{Commit: strings.Repeat("a", 40)}}
	got := rollbackMessage([]*past{p}, &belay.RollbackRequest{Reason: "down\n\nBelay-Rollback: other"}, "ada")
	want := "Roll back web to aaaaaaaaaa\n\nWhy: down Belay-Rollback: other\nAsked for by ada. "
	if !strings.HasPrefix(got, want) || strings.Count(got, "\nBelay-Rollback: ") != 1 || !strings.HasSuffix(got, "\nDeployment: main/7\n") {
		t.Errorf("the message is\n%s", got)
	}
}

// What lasts only a moment, or was so before, does not take a deployment back; a
// failure that nothing will mend does.
func TestGoneWrong(t *testing.T) {
	e, target := movedEngine(t, onShelf(), onShelf())
	began := time.Now()
	w := &watch{began: began, end: began.Add(10 * time.Minute), was: belay.Healthy}
	at := func(s int, h belay.Health) string {
		return e.goneWrong(target, w, h, "crashes", began.Add(time.Duration(s)*time.Second))
	}
	for _, c := range []struct {
		s      int
		h      belay.Health
		failed bool
	}{{1, belay.Progressing, false}, {2, belay.Degraded, false}, {20, belay.Degraded, false}, {21, belay.Healthy, false}, {22, belay.Degraded, false}, {51, belay.Degraded, false}, {52, belay.Degraded, true}} {
		if why := at(c.s, c.h); (why != "") != c.failed {
			t.Errorf("%ds %s: %q", c.s, c.h, why)
		}
	}
	w.was, w.degraded = belay.Degraded, time.Time{}
	if why := at(300, belay.Degraded) + at(400, belay.Degraded); why != "" {
		t.Errorf("Degraded before: %q", why)
	}
	id := belay.ObjectID{Kind: "ConfigMap", Namespace: "x", Name: "a"}
	f := &attempt{refused: 2, err: &belay.Error{Message: "no"}}
	target.app.fails[id] = f
	target.failed = map[belay.ObjectID]bool{id: true}
	if why := at(10, belay.Progressing); why != "" {
		t.Errorf("refused twice: %q", why)
	}
	f.refused = 3
	if why := at(11, belay.Progressing); !strings.Contains(why, "its deployment failed: no") {
		t.Errorf("refused three times: %q", why)
	}
}
