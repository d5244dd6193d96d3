package client

import (
	"reflect"
	"testing"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/events"
	"github.com/belaydev/belay/internal/server/servertest"
)

// What is asked of the client arrives at the record, and its answer comes back whole.
func TestTheRecordIsReachedThroughTheClient(t *testing.T) {
	r := &servertest.Record{}
	cfg := servertest.Config(&servertest.Engine{}, events.New(1))
	cfg.Record = r
	c, ctx := connect(t, servertest.Start(t, cfg)), t.Context()
	asked := func(want ...any) {
		t.Helper()
		for i := range r.Asked {
			if q, ok := r.Asked[i].(belay.RecordQuery); ok {
				q.From, q.To = q.From.UTC(), q.To.UTC()
				r.Asked[i] = q
			}
		}
		if !reflect.DeepEqual(r.Asked, want) {
			t.Errorf("asked\n%+v\nwant\n%+v", r.Asked, want)
		}
		r.Asked = nil
	}
	q := belay.RecordQuery{Applications: []string{"a", "b"}, Projects: []string{"p"}, Clusters: []string{"c"}, Types: []belay.EventType{belay.EventDrift},
		Person: "Ada & Co", Change: "abc", Object: "deployment/web", Changed: "replicas: [0-9]+", Deployment: "main/3", Writer: "main",
		From: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), To: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC), After: "main/9", Limit: 5, Brief: true}
	records, next, err := c.Records(ctx, q)
	if err != nil || next != "main/8" || !reflect.DeepEqual(records, []belay.Record{servertest.SomeRecord}) {
		t.Errorf("Records: %+v, %q, %v", records, next, err)
	}
	asked(q)
	deployments, next, err := c.Deployments(ctx, q)
	if err != nil || next != "" || !reflect.DeepEqual(deployments, []belay.Deployment{servertest.SomeDeployment}) {
		t.Errorf("Deployments: %+v, %q, %v", deployments, next, err)
	}
	asked(q)
	if got, err := c.Record(ctx, "main/8"); err != nil || !reflect.DeepEqual(got, servertest.SomeRecord) {
		t.Errorf("Record: %+v, %v", got, err)
	}
	if _, err := c.Record(ctx, "8"); err != nil {
		t.Error(err)
	}
	if got, err := c.Deployment(ctx, "main/7"); err != nil || !reflect.DeepEqual(got, servertest.SomeDeployment) {
		t.Errorf("Deployment: %+v, %v", got, err)
	}
	if got, err := c.Manifests(ctx, "main/7"); err != nil || len(got) != 1 || got[0].Object != servertest.SomeObject {
		t.Errorf("Manifests: %+v, %v", got, err)
	}
	if got, err := c.Changes(ctx, "main/7"); err != nil || len(got) != 0 {
		t.Errorf("Changes: %+v, %v", got, err)
	}
	asked("main/8", "-/8", "main/7", "main/7", "main/7")
	if got, err := c.Diff(ctx, "a b/c", "main/1", "abc"); err != nil || len(got) != 1 {
		t.Errorf("Diff: %+v, %v", got, err)
	}
	if got, err := c.Blame(ctx, "web", "prod", "deployment/shop/web"); err != nil || len(got) != 1 || len(got[0].Lines) != 1 {
		t.Errorf("Blame: %+v, %v", got, err)
	}
	asked("a b/c", "main/1", "abc", "web", "prod", "deployment/shop/web")
	r.Failure = &belay.Error{Code: belay.CodeNotFound, Message: "there is no such record", Hint: "look elsewhere"}
	if _, err := c.Record(ctx, "main/99"); belay.CodeOf(err) != belay.CodeNotFound {
		t.Errorf("an error comes back as %v", err)
	}
}
