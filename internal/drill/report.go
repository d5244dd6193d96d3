// Package drill judges a rehearsal of recovery: it follows applications on their way
// into an empty cluster, and says which came back, how long that took, and what a
// rebuilt cluster would lack because no manifest in Git brings it.
//
// It must not know how anything is delivered: it is given states, events and
// manifests, and returns a report.
package drill

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// Report is the outcome of a drill, the body of "belay drill -o json".
type Report struct {
	Repo     string    `json:"repo"`
	Ref      string    `json:"ref"`
	Revision string    `json:"revision"`
	Started  time.Time `json:"started"`
	// Result is passed when every application came back but those that are suspended.
	Result Result `json:"result"`
	// Reason says why it did not get to its end, if it did not.
	Reason string `json:"reason,omitempty"`
	// FetchSeconds is how long the repository took to be there, and Seconds how long
	// applications took from then until the last that came back was: together the time
	// that delivery adds to the recovery of a cluster. GivenUp is when the others were.
	FetchSeconds float64 `json:"fetchSeconds"`
	Seconds      float64 `json:"seconds"`
	GivenUp      float64 `json:"givenUpSeconds,omitempty"`
	// Writes are those sent to the clusters.
	Writes       int64         `json:"writes"`
	Clusters     []Cluster     `json:"clusters"`
	Applications []Application `json:"applications"`
	// Problems are definitions that are wrong.
	Problems []belay.Error `json:"problems,omitempty"`
	// Missing is what no manifest in Git brings.
	Missing []Finding `json:"missing,omitempty"`
	// ByHand says what did not come back, or would not, without somebody.
	ByHand []string `json:"byHand,omitempty"`
	// NotRehearsed says what a drill cannot show.
	NotRehearsed []string `json:"notRehearsed,omitempty"`
}

// Cluster is a throwaway control plane that stood in for a cluster.
type Cluster struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	// Kubeconfig is set where it was kept.
	Kubeconfig string `json:"kubeconfig,omitempty"`
}

// Finish sets the result.
func (r *Report) Finish() {
	r.Result = Passed
	if len(r.Problems) > 0 || r.Reason != "" || slices.ContainsFunc(r.Applications, func(a Application) bool { return a.Result != Passed && a.Result != Suspended }) {
		r.Result = Failed
	}
	for i := range r.Applications {
		switch a := &r.Applications[i]; a.Result {
		case Passed:
			r.Seconds = max(r.Seconds, a.Seconds)
		case Suspended:
			r.ByHand = append(r.ByHand, fmt.Sprintf("%s is suspended (%s): take spec.suspend out of its definition when it is to come back", a.Name, strings.TrimPrefix(a.Message, "suspended: ")))
		default:
			r.GivenUp = max(r.GivenUp, a.Seconds)
		}
	}
}

// Count is how many applications ended in a way.
func (r *Report) Count(result Result) int {
	n := 0
	for i := range r.Applications {
		if r.Applications[i].Result == result {
			n++
		}
	}
	return n
}

// Summary is the report in a line.
func (r *Report) Summary() string {
	s := fmt.Sprintf("%d of %d applications came back", r.Count(Passed), len(r.Applications))
	if n := r.Count(Failed); n > 0 {
		s += fmt.Sprintf(", %d failed", n)
	}
	if n := r.Count(Waiting); n > 0 {
		s += fmt.Sprintf(", %d could get no further", n)
	}
	if n := r.Count(Suspended); n > 0 {
		s += fmt.Sprintf(", %d suspended", n)
	}
	if n := len(r.Problems); n == 1 {
		s += ", 1 definition is wrong"
	} else if n > 1 {
		s += fmt.Sprintf(", %d definitions are wrong", n)
	}
	return s
}

// Limits says what the cast of each cluster could not rehearse, and marks the
// applications whose objects that concerns.
func (r *Report) Limits(casts map[string]*Cast, owner func(cluster string, id belay.ObjectID) string) {
	kinds := map[string]int{}
	for cluster, c := range casts {
		for _, id := range c.Excused() {
			kinds[id.GroupKind().String()]++
			app := owner(cluster, id)
			for i := range r.Applications {
				if r.Applications[i].Name == app {
					r.Applications[i].NotRehearsed++
				}
			}
		}
		for _, name := range c.Silenced() {
			r.NotRehearsed = append(r.NotRehearsed, fmt.Sprintf("%s was applied, but calls nobody: what serves its webhooks does not run in a drill", name))
		}
	}
	for kind, n := range kinds {
		r.NotRehearsed = append(r.NotRehearsed, fmt.Sprintf("%d of kind %s: applied; whether it becomes ready is not known, for its controller does not run in a drill", n, kind))
	}
	slices.Sort(r.NotRehearsed)
}
