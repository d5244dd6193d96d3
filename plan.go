package belay

import (
	"encoding/json"
	"time"
)

// Verb is what an action does to an object.
type Verb string

// The verbs of a plan.
const (
	VerbCreate Verb = "create" // it is not there
	VerbUpdate Verb = "update" // Git declares something else than was applied
	VerbHeal   Verb = "heal"   // Git declares what was applied, but somebody changed it
	VerbDelete Verb = "delete" // Git no longer declares it
	// No plan has these two: whether it comes to that only the cluster knows. They
	// are what is done in place of a write that it refused.
	VerbAdopt    Verb = "adopt"    // it is there, and Belay did not apply it
	VerbRecreate Verb = "recreate" // a field changed that cannot be changed in place
)

// Drift says how a live object departs from what was applied, and by whom.
type Drift struct {
	// Taken are fields that were ours and were changed or removed.
	Taken []string `json:"taken,omitempty" doc:"Fields that were applied and then changed or removed."`
	// Added are fields that an interactive tool added.
	Added []string `json:"added,omitempty" doc:"Fields that an interactive tool added."`
	// Manager, Operation, Subresource and Time are of the managedFields entry that did it;
	// empty when nobody owns the field now (it was removed) and nothing tells.
	Manager     string    `json:"manager,omitempty" doc:"Field manager that did it."`
	Operation   string    `json:"operation,omitempty" doc:"Update or Apply."`
	Subresource string    `json:"subresource,omitempty" doc:"Subresource it was done through."`
	Time        time.Time `json:"time,omitzero" doc:"When it was done."`
}

// Action is one write that a plan asks for.
type Action struct {
	Verb Verb     `json:"verb"`
	ID   ObjectID `json:"id"`
	// Wave and Rank are the place in the order: wave first, then rank.
	Wave int `json:"wave,omitempty"`
	Rank int `json:"rank,omitempty"`
	// Desired is nil for a delete.
	Desired *Object `json:"-"`
	// Live is nil for a create.
	Live *Live `json:"-"`
	// Drift is set for a heal.
	Drift *Drift `json:"drift,omitempty"`
	// TakeOver are field managers whose entries must become ours before the
	// apply, so that what they added goes away.
	TakeOver []string `json:"takeOver,omitempty"`
	// Hook is the phase for which the object of a hook is made or cleared away;
	// empty for every other action.
	Hook HookPhase `json:"hook,omitempty"`
	// Manner says how the object may be written.
	Manner Manner `json:"-"`
	// Blocked says why the action cannot run: denied, claimed twice, unknown kind, ….
	Blocked *Error `json:"blocked,omitempty"`
	Origin  Origin `json:"origin,omitzero"`
}

// Plan is what makes a cluster equal to Git for one application. It is a value:
// the same inputs give the same plan and the same Digest.
type Plan struct {
	Application string   `json:"application"`
	Cluster     string   `json:"cluster"`
	Actions     []Action `json:"actions"` // in order of execution
	// Held are deletions that a limit holds back, with the reason and the token.
	Held *Error `json:"held,omitempty"`
	// HeldActions are those deletions.
	HeldActions []Action `json:"heldActions,omitempty"`
	// Confirmed is the confirmation in Git without which deletions would be held.
	Confirmed string `json:"confirmed,omitempty"`
	// Unchanged counts the objects that are right.
	Unchanged int `json:"unchanged"`
	// Digest identifies verbs, objects and their manifests.
	Digest string `json:"digest"`
}

// Preview is a plan for people: what would change, object by object.
type Preview struct {
	Application string          `json:"application" doc:"Name of the application."`
	Set         string          `json:"set,omitempty" doc:"ApplicationSet that makes it, if one does."`
	Cluster     string          `json:"cluster" doc:"Cluster it is delivered to."`
	Revision    string          `json:"revision,omitempty" doc:"Commit that was planned; empty for a working directory."`
	Digest      string          `json:"digest" doc:"Identifies what would be done."`
	Changes     []PreviewChange `json:"changes" doc:"Objects that would change, in the order of the writes."`
	Unchanged   int             `json:"unchanged" doc:"How many objects are right."`
	Held        *Error          `json:"held,omitempty" doc:"Why deletions are held back, and how to confirm them."`
	// Waits is for what a person or the clock decides: a suspension, a hold, a window.
	Waits  string  `json:"waits,omitempty" doc:"Why nothing of it would be applied now, if so: suspended, held, outside of a maintenance window, or automatic sync is off."`
	Errors []Error `json:"errors,omitempty" doc:"Errors of single objects."`
}

// Outcome is what one action would do.
type Outcome struct {
	// Verb is the action's, or what would take its place.
	Verb Verb
	// Before and After are whole manifests, a Secret's values included; nil where
	// there is none.
	Before, After json.RawMessage
}

// PreviewChange is one object of a Preview.
type PreviewChange struct {
	Verb Verb     `json:"verb" doc:"What would be done."`
	ID   ObjectID `json:"id" doc:"The object."`
	Wave int      `json:"wave,omitempty" doc:"Place in the order within the application."`
	// Hook is the phase in which a hook would run; empty for every other object.
	Hook  HookPhase `json:"hook,omitempty" doc:"Phase in which it would run as a hook."`
	File  string    `json:"file,omitempty" doc:"File that declares it."`
	Line  int       `json:"line,omitempty" doc:"Line of that file, from 1; 0 is not known."`
	Drift *Drift    `json:"drift,omitempty" doc:"How the live object departs from what was applied, and by whom."`
	// Diff is a unified diff of YAML from live to planned, Secret values redacted.
	Diff string `json:"diff,omitempty" doc:"Unified diff of YAML from live to planned, Secret values redacted."`
	// Error says why the API server would refuse it, Hint what to do about that.
	Error string `json:"error,omitempty" doc:"Why the API server would refuse it."`
	Hint  string `json:"hint,omitempty" doc:"What to do about that."`
}
