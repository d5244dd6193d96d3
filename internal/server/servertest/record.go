package servertest

import (
	"context"
	"time"

	"github.com/belaydev/belay"
)

// Record is a scripted server.Record: it answers always the same, and remembers
// what it was asked.
type Record struct {
	// Asked are the arguments of all calls in a row.
	Asked []any
	// Failure is returned by every method.
	Failure error
	// Nothing says which questions for records and deployments have no answer; nil for
	// none.
	Nothing func(q belay.RecordQuery) bool
}

// What a Record answers.
var (
	SomeDeployment = belay.Deployment{ID: "main/7", Application: "web", Cluster: "prod", Actor: "Ada <ada@example.org>", Message: "synced", Result: belay.Succeeded,
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Ended: time.Date(2026, 1, 2, 3, 4, 9, 0, time.UTC),
		Objects:   []belay.ObjectResult{{Verb: belay.VerbUpdate, ID: belay.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "web", Name: "web"}, Result: belay.Succeeded}},
		Commits:   []belay.Commit{{ID: "abc", Author: "Ada", Subject: "more", Reviewers: []string{"Grace"}}},
		Manifests: []belay.ManifestFile{{Path: "manifests/x.yaml", SHA256: "00"}}}
	SomeRecord = belay.Record{Writer: "main", Seq: 8, Commit: "abc", Event: belay.Event{Type: belay.EventSynced, Time: SomeDeployment.Ended, Application: "web",
		Detail: &belay.Detail{Hold: &belay.Hold{Application: "web"}, Drift: &belay.Drift{}}}}
	SomeObject = belay.ObjectID{Kind: "Service", Namespace: "web", Name: "web"}
)

func (l *Record) ask(v ...any) error {
	l.Asked = append(l.Asked, v...)
	return l.Failure
}

// Records implements server.Record.
func (l *Record) Records(_ context.Context, q belay.RecordQuery) ([]belay.Record, string, error) {
	if l.Nothing != nil && l.Nothing(q) {
		return nil, "", l.ask(q)
	}
	return []belay.Record{SomeRecord}, "main/8", l.ask(q)
}

// Record implements server.Record.
func (l *Record) Record(_ context.Context, id string) (belay.Record, error) {
	return SomeRecord, l.ask(id)
}

// Deployments implements server.Record.
func (l *Record) Deployments(_ context.Context, q belay.RecordQuery) ([]belay.Deployment, string, error) {
	if l.Nothing != nil && l.Nothing(q) {
		return nil, "", l.ask(q)
	}
	return []belay.Deployment{SomeDeployment}, "", l.ask(q)
}

// Deployment implements server.Record.
func (l *Record) Deployment(_ context.Context, id string) (belay.Deployment, error) {
	return SomeDeployment, l.ask(id)
}

// Manifests implements server.Record.
func (l *Record) Manifests(_ context.Context, id string) ([]belay.ManifestText, error) {
	return []belay.ManifestText{{Object: SomeObject, Path: "p", YAML: "a: b\n"}}, l.ask(id)
}

// Changes implements server.Record.
func (l *Record) Changes(_ context.Context, id string) ([]belay.ManifestChange, error) {
	return nil, l.ask(id)
}

// Diff implements server.Record.
func (l *Record) Diff(_ context.Context, app, from, to string) ([]belay.ManifestChange, error) {
	return []belay.ManifestChange{{Object: SomeObject, Path: "p", Diff: "-a\n"}}, l.ask(app, from, to)
}

// Blame implements server.Record.
func (l *Record) Blame(_ context.Context, app, cluster, object string) ([]belay.ManifestBlame, error) {
	return []belay.ManifestBlame{{Object: SomeObject, Path: "p", Lines: []belay.BlameLine{{Deployment: "main/7", Text: "a: b"}}, Deployments: []belay.Deployment{SomeDeployment}}}, l.ask(app, cluster, object)
}
