package server_test

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/server"
	"github.com/belaydev/belay/internal/server/servertest"
)

// A slip of the pen is told, with what was meant.
func TestAQuestionThatNothingCanFitIsRefused(t *testing.T) {
	f := start(t, func(c *server.Config) { c.Record = &servertest.Record{} })
	for _, path := range []string{"/api/v1/records", "/api/v1/deployments"} {
		for query, want := range map[string]string{
			"?type=drfit": `no events of type "drfit", did you mean "drift"?`, "?type=drift&type=nope": `no events of type "nope"`, "?type=drift,synced": `"drift,synced"`,
			"?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z": "no time is between from (2026-01-02T00:00:00Z) and to (2026-01-01T00:00:00Z)",
			"?from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z": "no time is between",
			"?limit=0": "limit", "?limit=-1": "limit", "?limit=many": "limit", "?from=yesterday": "from",
		} {
			if p := f.refused(422, belay.CodeInvalid, "GET", path+query, ""); !strings.Contains(p.Message, want) || p.Hint == "" {
				t.Errorf("%s%s is refused with %q (%s), want %q", path, query, p.Message, p.Hint, want)
			}
		}
	}
	if p := f.refused(422, belay.CodeInvalid, "GET", "/api/v1/events?type=helaed", ""); !strings.Contains(p.Message, `did you mean "healed"?`) || !strings.Contains(p.Hint, "superseded") {
		t.Errorf("an unknown type of events is refused with %q (%s)", p.Message, p.Hint)
	}
	if p := f.refused(422, belay.CodeInvalid, "GET", "/api/v1/events?type=drift,healed", ""); p.Hint != "repeat the parameter type for several" {
		t.Errorf("two types in one are refused with %q (%s)", p.Message, p.Hint)
	}
}

func TestAStateOfANameThatThereIsNotIsRefused(t *testing.T) {
	f := start(t)
	for _, path := range []string{"/api/v1/status", "/api/v1/applications"} {
		for query, want := range map[string]string{
			"?cluster=prdo": `there is no cluster "prdo", did you mean "prod"?`, "?project=shpo": `there is no project "shpo", did you mean "shop"?`,
			"?project=shop&cluster=nowhere": `there is no cluster "nowhere"`,
		} {
			if p := f.refused(404, belay.CodeNotFound, "GET", path+query, ""); p.Message != want || !strings.Contains(p.Hint, "lists them") {
				t.Errorf("%s%s is refused with %q (%s), want %q", path, query, p.Message, p.Hint, want)
			}
		}
		// One without applications is no slip, and an application may come yet.
		for _, query := range []string{"?project=default&cluster=prod", "?project=shop", "?application=nope"} {
			if code, raw, _ := f.ask("GET", path+query, ""); code != 200 {
				t.Errorf("%s%s answered %d %s", path, query, code, raw)
			}
		}
	}
	// What the fleet has is not known: nothing is said of names.
	f.engine.Set(func(s *servertest.State) { s.NotReady = errors.New("not yet") })
	if code, raw, _ := f.ask("GET", "/api/v1/status?cluster=nowhere", ""); code != 200 {
		t.Errorf("before the definitions are read it answered %d %s", code, raw)
	}
}

func TestAQuestionOfTheRecordForANameThatNothingBoreIsRefused(t *testing.T) {
	gone := []string{"old", "former"} // on record, and in the fleet no more
	record := &servertest.Record{}
	record.Nothing = func(q belay.RecordQuery) bool {
		asked := slices.Concat(q.Applications, q.Projects, q.Clusters)
		return len(asked) != 1 || !slices.Contains(gone, asked[0]) || q.Person != ""
	}
	f := start(t, func(c *server.Config) { c.Record = record })
	for _, path := range []string{"/api/v1/records", "/api/v1/deployments"} {
		for query, want := range map[string]string{
			"?application=wbe": `there is no application "wbe", did you mean "web"?`, "?application=web&application=nope": `there is no application "nope"`,
			"?project=defalt": `there is no project "defalt", did you mean "default"?`, "?cluster=lokal": `there is no cluster "lokal", did you mean "local"?`,
			"?application=web&cluster=nowhere": `there is no cluster "nowhere"`,
		} {
			if p := f.refused(404, belay.CodeNotFound, "GET", path+query, ""); p.Message != want {
				t.Errorf("%s%s is refused with %q, want %q", path, query, p.Message, want)
			}
		}
		for _, query := range []string{"?application=web", "?cluster=prod&project=shop", "?application=old", "?cluster=former", "?application=old&person=Ada", "?person=Ada"} {
			if code, raw, _ := f.ask("GET", path+query, ""); code != 200 {
				t.Errorf("%s%s answered %d %s", path, query, code, raw)
			}
		}
	}
	f.refused(404, belay.CodeNotFound, "GET", "/api/v1/applications/wbe/history", "")
	for _, name := range []string{"web", "old"} {
		if code, raw, _ := f.ask("GET", "/api/v1/applications/"+url.PathEscape(name)+"/history", ""); code != 200 {
			t.Errorf("the history of %s answered %d %s", name, code, raw)
		}
	}
	record.Failure = &belay.Error{Code: belay.CodeUnavailable, Message: "the ledger is locked"}
	f.refused(503, belay.CodeUnavailable, "GET", "/api/v1/records?application=wbe", "")
	record.Failure = nil
	f.engine.Set(func(s *servertest.State) { s.NotReady = errors.New("not yet") })
	if code, raw, _ := f.ask("GET", "/api/v1/records?application=wbe", ""); code != 200 {
		t.Errorf("before the definitions are read it answered %d %s", code, raw)
	}
}
