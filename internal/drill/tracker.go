package drill

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// Tracker follows a drill: who arrived when, what went wrong first, and whether
// anything still moves. The clock is the caller's.
type Tracker struct {
	began    time.Time
	patience time.Duration
	moved    time.Time
	seen     string
	apps     map[string]*progress
}

// progress of one application.
type progress struct {
	started, arrived time.Time
	failed           *belay.Event // the first since it was well
}

// NewTracker starts one. A drill in which nothing moves for as long as patience is
// one that can get no further.
func NewTracker(began time.Time, patience time.Duration) *Tracker {
	return &Tracker{began: began, patience: patience, moved: began, apps: map[string]*progress{}}
}

func (t *Tracker) of(app string) *progress {
	if t.apps[app] == nil {
		t.apps[app] = &progress{}
	}
	return t.apps[app]
}

// Event takes in an event. What only repeats a failure is no move.
func (t *Tracker) Event(ev *belay.Event) {
	if ev.Application == "" {
		return
	}
	p := t.of(ev.Application)
	switch ev.Type {
	case belay.EventSyncStarted:
		if p.started.IsZero() {
			p.started = ev.Time
		}
	case belay.EventSyncFailed, belay.EventError:
		if p.failed == nil {
			failed := *ev
			p.failed = &failed
		}
		return
	case belay.EventApplied, belay.EventSynced, belay.EventPruned:
	case belay.EventHook:
		if strings.Contains(ev.Message, "failed") && p.failed == nil {
			failed := *ev
			p.failed = &failed
		}
	default:
		return
	}
	if ev.Time.After(t.moved) {
		t.moved = ev.Time
	}
}

// Look takes in the state of the fleet, and returns who has just arrived. idle says
// that the engine has nothing to do at this moment.
func (t *Tracker) Look(now time.Time, st *belay.Status, idle bool) (arrived []string) {
	var seen strings.Builder
	for i := range st.Applications {
		a := &st.Applications[i]
		p := t.of(a.Name)
		fmt.Fprintf(&seen, "%s %s %s\n", a.Name, a.Sync, a.Health)
		switch well := a.Sync == belay.Synced && a.Health == belay.Healthy; {
		case !well:
			p.arrived = time.Time{}
		case p.arrived.IsZero():
			p.arrived, p.failed = now, nil
			arrived = append(arrived, a.Name)
		}
	}
	if s := seen.String(); s != t.seen || !idle {
		t.seen, t.moved = s, now
	}
	return arrived
}

// Over says whether all have arrived, or none of the others can.
func (t *Tracker) Over(now time.Time, st *belay.Status, idle bool) bool {
	if !idle || len(st.Applications) == 0 {
		return false
	}
	all := true
	for i := range st.Applications {
		a := &st.Applications[i]
		all = all && (a.Suspended != "" || !t.of(a.Name).arrived.IsZero())
	}
	return all || now.Sub(t.moved) > t.patience
}

// Arrived counts those that are well.
func (t *Tracker) Arrived() int {
	n := 0
	for _, p := range t.apps {
		if !p.arrived.IsZero() {
			n++
		}
	}
	return n
}

// Result of an application.
type Result string

// The results.
const (
	Passed  Result = "passed"
	Failed  Result = "failed"
	Waiting Result = "waiting" // it could get no further, for something that is not there
	// Suspended: Git says that it is to be left alone.
	Suspended Result = "suspended"
)

// Application is one application in the report.
type Application struct {
	Name    string `json:"name"`
	Cluster string `json:"cluster"`
	Result  Result `json:"result"`
	// Seconds from the start of the drill until it was synced and healthy, or until
	// it was given up.
	Seconds float64 `json:"seconds"`
	// Began is when its first write was, in seconds from the start.
	Began    float64 `json:"began,omitempty"`
	Objects  int     `json:"objects"`
	Revision string  `json:"revision,omitempty"`
	// Error is the first thing that went wrong; Message how it stands.
	Error   string `json:"error,omitempty"`
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// Unfinished are objects that are not as they should be.
	Unfinished []Object `json:"unfinished,omitempty"`
	// NotRehearsed counts its objects whose controllers do not run in a drill.
	NotRehearsed int `json:"notRehearsed,omitempty"`
}

// Object is an object that is not as it should be.
type Object struct {
	Name    string `json:"name"`
	Message string `json:"message"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
}

// Applications are the results, in the order in which they arrived, those that did
// not last.
func (t *Tracker) Applications(now time.Time, st *belay.Status) []Application {
	out := make([]Application, 0, len(st.Applications))
	for i := range st.Applications {
		a, p := &st.Applications[i], t.of(st.Applications[i].Name)
		r := Application{Name: a.Name, Cluster: a.Cluster, Objects: a.Objects, Revision: a.Revision, Result: Passed}
		at := p.arrived
		if at.IsZero() {
			at = now
			r.Message, r.Hint, r.Result = a.Message, a.Hint, Waiting
			if p.failed != nil {
				r.Error = p.failed.Message
			}
			switch {
			case a.Suspended != "":
				r.Result = Suspended
			case p.failed != nil || a.Health == belay.Degraded:
				r.Result = Failed
			}
		}
		r.Seconds = seconds(at.Sub(t.began))
		if !p.started.IsZero() {
			r.Began = seconds(p.started.Sub(t.began))
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b Application) int {
		switch late := func(r Result) bool { return r != Passed }; {
		case late(a.Result) != late(b.Result):
			if late(a.Result) {
				return 1
			}
			return -1
		case a.Seconds < b.Seconds:
			return -1
		case a.Seconds > b.Seconds:
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return out
}

func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }

func sortedNames(m map[string]bool) []string { return slices.Sorted(maps.Keys(m)) }

func sortedIDs(m map[belay.ObjectID]bool) []belay.ObjectID {
	return slices.SortedFunc(maps.Keys(m), belay.ObjectID.Compare)
}
