package ledgertest

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/belaydev/belay"
)

// Recorder is what is filled.
type Recorder interface {
	Publish(belay.Event)
	Record(ctx context.Context, ev belay.Event) (string, error)
}

// Fleet is what a ledger is filled with.
type Fleet struct {
	// Applications on so many Clusters.
	Applications, Clusters int
	// Events to record, rounded up to whole deployments.
	Events int
	// Callers record at the same time.
	Callers int
	// Began is when the first deployment was; each next one is a minute later.
	Began time.Time
}

// Deployment is four events: its start, two changes of health, its end.
const perDeployment = 4

// Fill records the fleet's deployments, each of five objects, of which a later one
// changes one. One in fifty fails first.
func Fill(ctx context.Context, r Recorder, f Fleet) error {
	if f.Began.IsZero() {
		f.Began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	var next atomic.Int64
	errs := make([]error, f.Callers)
	var wg sync.WaitGroup
	for c := range f.Callers {
		wg.Go(func() {
			for errs[c] == nil {
				n := int(next.Add(1)) - 1
				if n*perDeployment >= f.Events {
					return
				}
				errs[c] = f.deploy(ctx, r, n)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (f *Fleet) deploy(ctx context.Context, r Recorder, n int) error {
	app, round := n%f.Applications, n/f.Applications
	at := f.Began.Add(time.Duration(n) * time.Minute)
	commit := id("commit", n)
	base := belay.Event{
		Application: fmt.Sprintf("app-%05d", app), Cluster: fmt.Sprintf("cluster-%03d", app%f.Clusters), Project: fmt.Sprintf("team-%02d", app%20),
		Repo: "https://git.example.org/fleet.git", Revision: commit, Change: commit, Actor: fmt.Sprintf("Person %d <person-%d@example.org>", app%30, app%30),
	}
	event := func(t belay.EventType, after time.Duration, message string) belay.Event {
		ev := base
		ev.Type, ev.Time, ev.Message = t, at.Add(after), message
		return ev
	}
	start := event(belay.EventSyncStarted, 0, fmt.Sprintf("sync to %.10s: %d of 5 objects to write", commit, written(round)))
	start.Plan = id("plan", n)
	start.Detail = &belay.Detail{
		Commits: []belay.Commit{{ID: commit, Author: base.Actor, Time: at.Add(-time.Hour), Subject: fmt.Sprintf("Change number %d of %s", round, base.Application),
			Reviewers: []string{"Grace <grace@example.org>"}, Approvers: []string{"Grace <grace@example.org>"}}},
		Sources: []belay.SourceRevision{{Repo: base.Repo, Ref: "main", Name: "main", Revision: commit}}, Objects: objects(app, round, ""),
	}
	if round > 0 {
		start.Detail.Previous = id("commit", n-f.Applications)
	}
	deployment, err := r.Record(ctx, start)
	if err != nil {
		return err
	}
	r.Publish(event(belay.EventHealth, 2*time.Second, "Progressing, was Healthy"))
	end := event(belay.EventSynced, 20*time.Second, fmt.Sprintf("synced to %.10s: %d objects", commit, written(round)))
	end.Result, end.Deployment, end.Seconds = belay.Succeeded, deployment, 20
	if n%50 == 49 {
		end.Type, end.Result, end.Message = belay.EventSyncFailed, belay.Failed, "the Deployment did not become ready in time"
	}
	end.Detail = &belay.Detail{Objects: objects(app, round, belay.Succeeded), Manifests: manifests(app, round)}
	if _, err := r.Record(ctx, end); err != nil {
		return err
	}
	r.Publish(event(belay.EventHealth, 25*time.Second, "Healthy, was Progressing"))
	return nil
}

// written is how many of the five objects of an application a deployment writes.
func written(round int) int {
	if round == 0 {
		return 5
	}
	return 1
}

func objectIDs(app int) []belay.ObjectID {
	ns, name := fmt.Sprintf("app-%05d", app), "web"
	return []belay.ObjectID{{Group: "apps", Kind: "Deployment", Namespace: ns, Name: name}, {Kind: "Service", Namespace: ns, Name: name},
		{Kind: "ConfigMap", Namespace: ns, Name: name}, {Group: "networking.k8s.io", Kind: "Ingress", Namespace: ns, Name: name}, {Kind: "ServiceAccount", Namespace: ns, Name: name}}
}

func objects(app, round int, result belay.Result) []belay.ObjectResult {
	var out []belay.ObjectResult
	for _, o := range objectIDs(app)[:written(round)] {
		out = append(out, belay.ObjectResult{Verb: "update", ID: o, Digest: id(o.String(), round), Result: result, Seconds: 0.02})
	}
	return out
}

func manifests(app, round int) []belay.Manifest {
	var out []belay.Manifest
	for _, o := range objectIDs(app)[:written(round)] {
		raw, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": o.Kind, "metadata": map[string]any{"name": o.Name, "namespace": o.Namespace, "labels": map[string]string{"app": o.Name}},
			"spec": map[string]any{"replicas": 3, "image": fmt.Sprintf("images.example.org/app:%d", round), "env": []string{id("env", app), id("env", app+1)}}})
		if err != nil {
			panic(err) // these are values that always encode
		}
		out = append(out, belay.Manifest{ID: o, Raw: raw})
	}
	return out
}

// id is a text that looks like a digest.
func id(what string, n int) string {
	sum := sha1.Sum(fmt.Appendf(nil, "%s %d", what, n))
	return hex.EncodeToString(sum[:])
}
