package belay

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// EventType names what happened.
type EventType string

// The events.
const (
	EventRevision    EventType = "revision"    // a ref moved
	EventRewritten   EventType = "rewritten"   // a branch moved to a commit that does not follow the old one
	EventSource      EventType = "source"      // a repository cannot be read, or can again
	EventCluster     EventType = "cluster"     // a cluster cannot be reached, or can again
	EventDefinition  EventType = "definition"  // a definition is wrong, or right again
	EventApplication EventType = "application" // an application was added, changed, removed
	EventSyncStarted EventType = "syncStarted"
	EventSynced      EventType = "synced"
	EventSyncFailed  EventType = "syncFailed"
	EventApplied     EventType = "applied"
	EventPruned      EventType = "pruned"
	EventDrift       EventType = "drift"
	EventHealed      EventType = "healed"
	EventHeld        EventType = "held"
	EventHealth      EventType = "health"
	EventError       EventType = "error"
	EventHook        EventType = "hook"       // a hook was started, succeeded or failed
	EventSuspended   EventType = "suspended"  // an application was suspended or resumed
	EventOverride    EventType = "override"   // somebody overrode a window
	EventSuperseded  EventType = "superseded" // a newer commit took the place of a sync that was under way
	EventRetried     EventType = "retried"    // a failed sync was tried again
	EventConfirmed   EventType = "confirmed"  // a held deletion was confirmed in Git
	EventHold        EventType = "hold"       // an application is held at an earlier revision
	EventRelease     EventType = "release"    // an application is no longer held
	EventRollback    EventType = "rollback"   // a commit that restores earlier inputs was made
	EventRefused     EventType = "refused"    // a revision was refused: its signature is missing or wrong
	EventDenied      EventType = "denied"     // somebody was denied access
	EventLeader      EventType = "leader"     // this process became the leader, or is it no more
	EventStarted     EventType = "started"    // the server started
	EventStopped     EventType = "stopped"    // the server ended in good order
	EventCheckpoint  EventType = "checkpoint" // the ledger was signed up to here
)

// EventTypes lists every type.
func EventTypes() []EventType {
	return []EventType{EventRevision, EventRewritten, EventSource, EventCluster, EventDefinition, EventApplication, EventSyncStarted, EventSynced,
		EventSyncFailed, EventApplied, EventPruned, EventDrift, EventHealed, EventHeld, EventHealth, EventError,
		EventHook, EventSuspended, EventOverride, EventSuperseded, EventRetried,
		EventConfirmed, EventHold, EventRelease, EventRollback, EventRefused, EventDenied, EventLeader, EventStarted, EventStopped, EventCheckpoint}
}

// CheckEventTypes is an error for types that there are none of.
func CheckEventTypes(types []EventType) *Error {
	names := make([]string, 0, len(EventTypes()))
	for _, t := range EventTypes() {
		names = append(names, string(t))
	}
	for _, t := range types {
		if !slices.Contains(EventTypes(), t) {
			return &Error{Code: CodeInvalid, Message: fmt.Sprintf("there are no events of type %q", t) + DidYouMean(string(t), names), Hint: "there are " + strings.Join(names, ", ")}
		}
	}
	return nil
}

// Event is something that happened, for people and for streams. It holds no secret values.
type Event struct {
	// Seq grows by one with each event of a process.
	Seq         uint64    `json:"seq" doc:"Grows by one with each event of a life of the server."`
	Time        time.Time `json:"time" doc:"When it happened."`
	Type        EventType `json:"type" doc:"What happened: revision, rewritten, source, cluster, definition, application, syncStarted, synced, syncFailed, applied, pruned, drift, healed, held, health, error, hook, suspended, override, superseded, retried, confirmed, hold, release, rollback, refused, denied, leader, started, stopped or checkpoint; more may come."`
	Application string    `json:"application,omitempty" doc:"Application it is about."`
	Cluster     string    `json:"cluster,omitempty" doc:"Cluster it is about."`
	Object      string    `json:"object,omitempty" doc:"Object it is about."`
	Repo        string    `json:"repo,omitempty" doc:"Repository it is about."`
	Revision    string    `json:"revision,omitempty" doc:"Commit it is about."`
	// Actor is who caused it: the commit's author, the field manager that drifted, the API's user.
	Actor   string `json:"actor,omitempty" doc:"Who caused it: the author of the commit, the field manager that drifted, or who asked."`
	Message string `json:"message" doc:"What happened, for people."`

	// Project of the application.
	Project string `json:"project,omitempty" doc:"Project of the application."`
	// Ref is the branch, tag or range that a revision event is about.
	Ref string `json:"ref,omitempty" doc:"Branch, tag or range that moved."`
	// Change is the commit of the config repository that led to it.
	Change string `json:"change,omitempty" doc:"Commit of the config repository that led to it."`
	// Deployment is the RecordID of the syncStarted event that it belongs to.
	Deployment string `json:"deployment,omitempty" doc:"Deployment it belongs to: the ID of the record of its start."`
	// Reason is what a person gave as one.
	Reason string `json:"reason,omitempty" doc:"Why, as somebody said who asked for it."`
	// Plan is the digest of the plan that is carried out.
	Plan string `json:"plan,omitempty" doc:"Digest of the plan that is carried out."`
	// Result is set where something ends.
	Result Result `json:"result,omitempty" doc:"How it ended: succeeded, failed or superseded."`
	// Seconds is how long that took.
	Seconds float64 `json:"seconds,omitempty" doc:"How long it took, in seconds."`
	// Detail is for the record; streams of events leave it out.
	Detail *Detail `json:"detail,omitempty" doc:"All that the record has of it; streams of events leave it out."`
}
