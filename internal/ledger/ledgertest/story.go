package ledgertest

import (
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/belaydev/belay"
)

// Begin is when stories begin: a Monday.
var Begin = time.Date(2026, 11, 16, 9, 0, 0, 0, time.UTC)

// Hash is a commit as stories have them, of any number.
func Hash(n int) string { return fmt.Sprintf("%08x%032x", uint32(n)*2654435761, n) }

// Workload is a Deployment as the ledger gets it.
func Workload(namespace, name, image string, replicas int) belay.Manifest {
	raw := fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":%q,"namespace":%q},"spec":{"replicas":%d,"template":{"spec":{"containers":[{"image":%q,"name":"main"}]}}}}`,
		name, namespace, replicas, image)
	return belay.Manifest{ID: belay.ObjectID{Group: "apps", Kind: "Deployment", Namespace: namespace, Name: name}, Raw: json.RawMessage(raw)}
}

// Deploy is a deployment as a story tells it.
type Deploy struct {
	Application, Cluster, Project string
	Actor, Message                string
	Change, Revision, Previous    string
	Started                       time.Time
	Took                          time.Duration
	Result                        belay.Result
	Commits                       []belay.Commit
	Manifests                     []belay.Manifest
}

// Deploy adds a deployment, its start and its end, and returns its ID.
func (l *Ledger) Deploy(d Deploy) string {
	l.t.Helper()
	start, end := d.events()
	id := l.Append(start)[0]
	if d.Result == "" {
		return id
	}
	end.Deployment = id
	l.Append(end)
	return id
}

func (d *Deploy) events() (start, end belay.Event) {
	start = belay.Event{
		Time: d.Started, Type: belay.EventSyncStarted, Application: d.Application, Cluster: d.Cluster, Project: d.Project, Actor: d.Actor,
		Repo: "https://git.example.org/fleet.git", Revision: d.Revision, Change: d.Change, Message: "sync started: " + d.Message,
		Plan: "sha256:5e1f", Detail: &belay.Detail{Commits: d.Commits, Previous: d.Previous, Sources: []belay.SourceRevision{
			{Repo: "https://git.example.org/fleet.git", Ref: "main", Name: "main", Revision: d.Revision}}},
	}
	for _, m := range d.Manifests {
		start.Detail.Objects = append(start.Detail.Objects, belay.ObjectResult{Verb: belay.VerbUpdate, ID: m.ID, Digest: "5e1f"})
	}
	end = start
	end.Time, end.Seconds, end.Result = d.Started.Add(d.Took), d.Took.Seconds(), d.Result
	end.Detail = &belay.Detail{Manifests: d.Manifests}
	for _, o := range start.Detail.Objects {
		o.Result, o.Seconds = d.Result, 0.02
		end.Detail.Objects = append(end.Detail.Objects, o)
	}
	switch d.Result {
	case belay.Failed:
		end.Type, end.Message = belay.EventSyncFailed, "sync failed: "+d.Message
	case belay.Superseded:
		end.Type, end.Message = belay.EventSuperseded, "superseded: "+d.Message
	default:
		end.Type, end.Message = belay.EventSynced, "synced: "+d.Message
	}
	return start, end
}

// People of stories.
var People = []string{"Ada Lovelace <ada@example.org>", "Grace Hopper <grace@example.org>", "Edsger Dijkstra <edsger@example.org>", "Barbara Liskov <barbara@example.org>"}

// Many are n events of a busy fleet, a minute apart: deployments of fifty
// applications in three clusters, drift and what is done about it, sources and errors.
// writer is whose records they become, from the first.
func Many(writer string, n int) iter.Seq[belay.Event] {
	return func(yield func(belay.Event) bool) {
		open := map[int]string{}
		for i := range n {
			app, at := i*7%50, Begin.Add(time.Duration(i)*time.Minute)
			d := Deploy{
				Application: fmt.Sprintf("app-%02d", app), Cluster: fmt.Sprintf("cluster-%d", app%3), Project: fmt.Sprintf("team-%d", app%4),
				Actor: People[i%len(People)], Message: fmt.Sprintf("change %d", i), Change: Hash(i / 100), Revision: Hash(i / 3), Started: at, Took: time.Second,
				Commits:   []belay.Commit{{ID: Hash(i / 3), Author: People[i%len(People)], Time: at, Subject: fmt.Sprintf("change %d", i), Reviewers: People[:1]}},
				Manifests: []belay.Manifest{Workload("shop", fmt.Sprintf("web-%02d", app), fmt.Sprintf("web:%d", i), i%5)},
			}
			if i%5 == 0 {
				d.Result = belay.Failed
			} else {
				d.Result = belay.Succeeded
			}
			start, end := d.events()
			ev := belay.Event{Time: at, Application: d.Application, Cluster: d.Cluster, Project: d.Project}
			switch id := open[app]; {
			case i%11 == 3:
				ev.Type, ev.Object, ev.Actor, ev.Message = belay.EventDrift, "Deployment.apps shop/"+fmt.Sprintf("web-%02d", app), "kubectl-edit", "somebody changed it"
			case i%11 == 7:
				ev = belay.Event{Time: at, Type: belay.EventRevision, Repo: d.Change[:4] + ".git", Ref: "main", Revision: Hash(i), Actor: d.Actor, Message: "main moved"}
			case id == "":
				ev, open[app] = start, belay.RecordID(writer, uint64(i+1))
			default:
				ev, ev.Deployment = end, id
				delete(open, app)
			}
			if !yield(ev) {
				return
			}
		}
	}
}
