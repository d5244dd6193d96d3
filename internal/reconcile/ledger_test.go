package reconcile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/belaydev/belay"
)

// ledger is a Recorder in memory. What was published is safe only when something
// was recorded after it, or in good time.
type ledger struct {
	mu      sync.Mutex
	safe    []belay.Event // that of record N is at N-1
	pending []belay.Event
	err     error                  // of Record
	wrote   []string               // marks of writes, in the order of the events
	marks   []int                  // how many events were safe at each of wrote
	dead    bool                   // the process is: nothing gets in any more
	delayed func(belay.Event) bool // events whose record waits
	release chan struct{}          // until this is closed
}

var errFull = &belay.Error{Code: belay.CodeUnavailable, Message: "the disk is full", Hint: "make room"}

func (l *ledger) Publish(ev belay.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead {
		ev.Time = time.Now()
		l.pending = append(l.pending, ev)
	}
}

func (l *ledger) Record(ctx context.Context, ev belay.Event) (string, error) {
	l.mu.Lock()
	delayed := l.delayed != nil && l.delayed(ev)
	l.mu.Unlock()
	if delayed {
		select {
		case <-l.release:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.dead:
		return "", errors.New("dead")
	case l.err != nil:
		return "", l.err
	}
	ev.Time = time.Now()
	l.safe = append(append(l.safe, l.pending...), ev)
	l.pending = nil
	return belay.RecordID("main", uint64(len(l.safe))), nil
}

// write marks a write in the cluster among the events.
func (l *ledger) write(what string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return errors.New("dead")
	}
	l.wrote, l.marks = append(l.wrote, what), append(l.marks, len(l.safe))
	return nil
}

// crash loses what was not safe, and all that comes from the process at hand. With
// flushed nothing is lost.
func (l *ledger) crash(flushed bool) *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dead = true
	if flushed {
		l.safe, l.pending = append(l.safe, l.pending...), nil
	}
	return &ledger{safe: slices.Clone(l.safe), wrote: slices.Clone(l.wrote), marks: slices.Clone(l.marks)}
}

func (l *ledger) Running() []belay.Deployment {
	l.mu.Lock()
	defer l.mu.Unlock()
	running := map[string]belay.Deployment{}
	for i := range l.safe {
		ev := &l.safe[i]
		at := ev.Cluster + "/" + ev.Application
		switch {
		case ev.Type == belay.EventSyncStarted:
			running[at] = belay.Deployment{ID: belay.RecordID("main", uint64(i+1)), Application: ev.Application, Cluster: ev.Cluster, Project: ev.Project,
				Repo: ev.Repo, Revision: ev.Revision, Started: ev.Time, Objects: ev.Detail.Objects}
		case ev.Deployment != "" && ev.Result != "" && ev.Type != belay.EventHook && running[at].ID == ev.Deployment:
			d := running[at]
			d.Result, d.Message, d.Objects = ev.Result, ev.Message, ev.Detail.Objects
			if running[at] = d; ev.Result != belay.Failed {
				delete(running, at)
			}
		}
	}
	var out []belay.Deployment
	for _, d := range running {
		out = append(out, d)
	}
	return out
}

func (l *ledger) Holds() []belay.Hold {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(holdsOf(l.safe)))
}

// holdsOf are the holds in force after some events.
func holdsOf(events []belay.Event) map[string]belay.Hold {
	out := map[string]belay.Hold{}
	for i := range events {
		switch ev := &events[i]; ev.Type {
		case belay.EventHold:
			out[ev.Application] = *ev.Detail.Hold
		case belay.EventRelease:
			delete(out, ev.Application)
		}
	}
	return out
}

func (l *ledger) Deployed(_ context.Context, cluster, application string) (belay.Deployment, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var d belay.Deployment
	for i := range l.safe {
		if ev := &l.safe[i]; ev.Type == belay.EventSyncStarted && ev.Application == application && ev.Cluster == cluster {
			d = belay.Deployment{ID: fmt.Sprint("main/", i+1), Repo: ev.Repo, Revision: ev.Revision, Change: ev.Change}
		}
	}
	return d, nil
}

func (l *ledger) Source(repo, ref string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := ""
	for i := range l.safe {
		if ev := &l.safe[i]; (ev.Type == belay.EventRevision || ev.Type == belay.EventRewritten) && ev.Repo == repo && ev.Ref == ref {
			at = ev.Revision
		}
	}
	return at
}

// events are all of some types, also those that are not safe.
func (l *ledger) events(types ...belay.EventType) []belay.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []belay.Event
	for _, ev := range slices.Concat(l.safe, l.pending) {
		if slices.Contains(types, ev.Type) {
			out = append(out, ev)
		}
	}
	return out
}

// check makes sure of what must hold of any ledger: every write comes after a start
// or a drift that tells of it, every deployment ends at most once for good, and
// never before it began, and what is told by its digest alone is on the record.
func (l *ledger) check(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Concat(l.safe, l.pending)
	checkManifests(t, all)
	open, closed := map[string]bool{}, map[string]bool{}
	for i := range all {
		ev := &all[i]
		switch {
		case ev.Type == belay.EventSyncStarted:
			id := belay.RecordID("main", uint64(i+1))
			for other := range open {
				if at := all[seqOf(other)-1]; at.Application == ev.Application && at.Cluster == ev.Cluster {
					t.Errorf("%s begins while %s is under way: %s", id, other, ev.Message)
				}
			}
			open[id] = true
		case ev.Deployment == "" || ev.Type == belay.EventHook:
		case closed[ev.Deployment]:
			t.Errorf("%s of %s after its end: %s", ev.Type, ev.Deployment, ev.Message)
		case !open[ev.Deployment]:
			t.Errorf("%s of %s, which never began: %s", ev.Type, ev.Deployment, ev.Message)
		case ev.Result == belay.Succeeded && (all[seqOf(ev.Deployment)-1].Revision == "") != ev.Detail.Cleared:
			t.Errorf("%s began with %q, and ends with %q", ev.Deployment, all[seqOf(ev.Deployment)-1].Message, ev.Message)
		case ev.Result == belay.Succeeded || ev.Result == belay.Superseded:
			delete(open, ev.Deployment)
			closed[ev.Deployment] = true
		}
	}
	for i, what := range l.wrote {
		told := false
		for j := range l.safe[:l.marks[i]] {
			ev := &l.safe[j]
			told = told || ev.Object == what && (ev.Type == belay.EventDrift || ev.Type == belay.EventHook) || ev.Type == belay.EventSyncStarted &&
				slices.ContainsFunc(ev.Detail.Objects, func(o belay.ObjectResult) bool { return o.ID.String() == what })
		}
		if !told {
			t.Errorf("%s was written unrecorded", what)
		}
	}
}

// checkManifests follows the manifests that a ledger holds, and returns what it
// holds at the end.
func checkManifests(t *testing.T, all []belay.Event) map[owner]map[belay.ObjectID]json.RawMessage {
	t.Helper()
	held := map[owner]map[belay.ObjectID]json.RawMessage{}
	for i := range all {
		ev := &all[i]
		if ev.Detail == nil || ev.Deployment == "" {
			continue
		}
		of := owner{ev.Cluster, ev.Application}
		if held[of] == nil || ev.Detail.Cleared || ev.Detail.Complete {
			held[of] = map[belay.ObjectID]json.RawMessage{}
		}
		for _, m := range ev.Detail.Manifests {
			has := held[of][m.ID]
			switch {
			case m.Raw != nil:
				held[of][m.ID] = m.Raw
			case m.SHA256 == "":
				delete(held[of], m.ID)
			case has == nil || belay.Digest(has) != m.SHA256:
				t.Errorf("%s: %s of %s is told as on record, which has %s", ev.Message, m.ID.Name, ev.Application, has)
			}
		}
	}
	return held
}

func seqOf(id string) uint64 {
	_, seq, ok := belay.ParseRecordID(id)
	if !ok {
		panic(fmt.Sprintf("%q is no record", id))
	}
	return seq
}
