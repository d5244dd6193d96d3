package belay

import "time"

// EventType names what happened.
type EventType string

// The events.
const (
	EventRevision    EventType = "revision"    // a ref moved
	EventRewritten   EventType = "rewritten"   // a branch moved to a commit that does not follow the old one
	EventSource      EventType = "source"      // a repository cannot be read, or can again
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
)

// Event is something that happened, for people and for streams. It holds no secret values.
type Event struct {
	// Seq grows by one with each event of a process.
	Seq         uint64    `json:"seq"`
	Time        time.Time `json:"time"`
	Type        EventType `json:"type"`
	Application string    `json:"application,omitempty"`
	Cluster     string    `json:"cluster,omitempty"`
	Object      string    `json:"object,omitempty"`
	Repo        string    `json:"repo,omitempty"`
	Revision    string    `json:"revision,omitempty"`
	// Actor is who caused it: the commit's author, the field manager that drifted, the API's user.
	Actor   string `json:"actor,omitempty"`
	Message string `json:"message"`
}
