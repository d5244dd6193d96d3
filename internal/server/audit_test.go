package server_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/server"
	"github.com/belaydev/belay/internal/server/servertest"
)

func TestTheRecordIsAskedWhatTheRequestSays(t *testing.T) {
	l := &servertest.Record{}
	f := start(t, func(c *server.Config) { c.Record = l })
	from := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	query := "?application=a&application=b&project=p&cluster=c&type=drift&type=synced&person=Ada%20L&change=abc&object=deployment/web&changed=replicas" +
		"&deployment=main/3&writer=main&from=2026-01-02T00:00:00Z&to=2026-01-02T02:00:00%2B01:00&after=main/9&limit=5&brief=true"
	want := belay.RecordQuery{Applications: []string{"a", "b"}, Projects: []string{"p"}, Clusters: []string{"c"}, Types: []belay.EventType{belay.EventDrift, belay.EventSynced},
		Person: "Ada L", Change: "abc", Object: "deployment/web", Changed: "replicas", Deployment: "main/3", Writer: "main", From: from, To: from.Add(time.Hour), After: "main/9", Limit: 5, Brief: true}
	for _, c := range []struct {
		path string
		want []any
	}{
		{"/api/v1/records" + query, []any{want}},
		{"/api/v1/records", []any{belay.RecordQuery{Limit: 100}}},
		{"/api/v1/deployments" + query, []any{want}},
		{"/api/v1/records/main/8", []any{"main/8"}},
		{"/api/v1/records/-/deadbeef", []any{"-/deadbeef"}},
		{"/api/v1/deployments/main/7", []any{"main/7"}},
		{"/api/v1/deployments/main/7/manifests", []any{"main/7"}},
		{"/api/v1/deployments/main/7/changes", []any{"main/7"}},
		{"/api/v1/applications/web/history?limit=3&after=main/1", []any{belay.RecordQuery{Applications: []string{"web"}, Limit: 3, After: "main/1"}}},
		{"/api/v1/applications/web/diff?from=main/1&to=abc", []any{"web", "main/1", "abc"}},
		{"/api/v1/applications/web/blame?cluster=c&object=web", []any{"web", "c", "web"}},
	} {
		l.Asked = nil
		code, raw, _ := f.ask("GET", c.path, "")
		if code != 200 {
			t.Errorf("%s answered %d %s", c.path, code, raw)
			continue
		}
		for _, a := range l.Asked {
			if q, ok := a.(belay.RecordQuery); ok {
				q.From, q.To = q.From.UTC(), q.To.UTC()
				l.Asked = []any{q}
			}
		}
		if fmt.Sprintf("%+v", l.Asked) != fmt.Sprintf("%+v", c.want) {
			t.Errorf("%s asked\n%+v\nwant\n%+v", c.path, l.Asked, c.want)
		}
	}
	list := decode[struct {
		Records []belay.Record
		Next    string
	}](f, 200, "GET", "/api/v1/records", "")
	if list.Next != "main/8" || !reflect.DeepEqual(list.Records, []belay.Record{servertest.SomeRecord}) {
		t.Errorf("records: %+v", list)
	}
	if _, raw, _ := f.ask("GET", "/api/v1/deployments/main/7/changes", ""); strings.TrimSpace(raw) != `{"changes":[]}` {
		t.Errorf("no changes are %s", raw)
	}
	for _, path := range []string{"/api/v1/records?limit=0", "/api/v1/records?limit=1001", "/api/v1/records?from=yesterday", "/api/v1/applications/web/diff?from=a"} {
		f.refused(422, belay.CodeInvalid, "GET", path, "")
	}
	l.Failure = &belay.Error{Code: belay.CodeNotFound, Message: "there is no record"}
	f.refused(404, belay.CodeNotFound, "GET", "/api/v1/records/main/99", "")
}

func TestWithoutALedgerTheErrorSaysSo(t *testing.T) {
	f := start(t)
	for _, path := range []string{"/api/v1/records", "/api/v1/records/main/1", "/api/v1/deployments", "/api/v1/applications/web/history"} {
		if p := f.refused(503, belay.CodeUnavailable, "GET", path, ""); !strings.Contains(p.Message, "no ledger") || !strings.Contains(p.Hint, "--ledger") {
			t.Errorf("%s: %+v", path, p)
		}
	}
}

// What the record answers is what the document says.
func TestAnswersOfTheRecordFitTheDocument(t *testing.T) {
	f := start(t, func(c *server.Config) { c.Record = &servertest.Record{} })
	s := openapi(f)
	for path, template := range map[string]string{
		"/api/v1/records": "", "/api/v1/records/main/8": "/api/v1/records/{writer}/{seq}", "/api/v1/deployments": "",
		"/api/v1/deployments/main/7": "/api/v1/deployments/{writer}/{seq}", "/api/v1/deployments/main/7/manifests": "/api/v1/deployments/{writer}/{seq}/manifests",
		"/api/v1/applications/web/history":            "/api/v1/applications/{name}/history",
		"/api/v1/applications/web/diff?from=a&to=b":   "/api/v1/applications/{name}/diff",
		"/api/v1/applications/web/blame?object=thing": "/api/v1/applications/{name}/blame",
	} {
		if template == "" {
			template = path
		}
		_, raw, _ := f.ask("GET", path, "")
		schema, err := s.schema.Compile(specURL + strings.NewReplacer("{", "%7B", "}", "%7D").Replace(
			"#/paths/"+strings.ReplaceAll(template, "/", "~1")+"/get/responses/200/content/application~1json/schema"))
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal([]byte(raw), &v); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s answered what the document does not say: %v", path, err)
		}
	}
}
