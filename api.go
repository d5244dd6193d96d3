package belay

import "time"

// PlanRequest asks what would change in the clusters. With neither Revision nor
// Rendered it asks about the commits that are followed now.
type PlanRequest struct {
	// Applications to plan; empty means all.
	Applications []string `json:"applications,omitempty" doc:"Applications to plan; none means all."`
	// Revision is a branch, tag or commit to plan instead of the one that is followed.
	Revision string `json:"revision,omitempty" doc:"Branch, tag or commit to plan instead of the one that is followed."`
	// Rendered is what a working directory declares; it takes the place of
	// Revision. Applications that are not in it are not planned.
	Rendered []RenderedApplication `json:"rendered,omitempty" doc:"What a working directory declares, instead of a revision."`
	// Declared are the names of all applications of that directory, where all of
	// them are known: those of the server that are not among them would be removed.
	Declared []string `json:"declared,omitempty" doc:"Every application of that working directory, if all are known; any other is planned as removed."`
	// Sets are the ApplicationSets of that directory: how many of the applications
	// that one makes may go at once is theirs to say.
	Sets []DeclaredSet `json:"sets,omitempty" doc:"ApplicationSets of that working directory."`
}

// DeclaredSet is what an ApplicationSet says of the removal of its applications.
type DeclaredSet struct {
	Name       string     `json:"name" doc:"Name of the ApplicationSet."`
	PruneLimit PruneLimit `json:"pruneLimit" doc:"How many of its applications may go at once."`
	Confirm    string     `json:"confirm,omitempty" doc:"Token that confirms a removal."`
	Deletion   string     `json:"deletion,omitempty" doc:"What becomes of the objects of an application that goes: delete or orphan."`
	Origin     Origin     `json:"origin,omitzero" doc:"Where it is declared."`
}

// RenderedApplication is an application with the objects that it declares.
type RenderedApplication struct {
	Application Application `json:"application"`
	// Objects with their manifests, Secrets included: they are compared, never stored or shown.
	Objects []Object `json:"objects,omitempty"`
}

// SyncRequest asks for a sync of some applications or of all.
type SyncRequest struct {
	// Applications by name. Exactly one of Applications and All is set.
	Applications []string `json:"applications,omitempty" doc:"Applications to sync."`
	// All applications. Those that may not be synced now are left out.
	All bool `json:"all,omitempty" doc:"Sync every application, except those that are suspended or outside of their windows."`
	// OverrideWindow lets one sync of each through in spite of windows. It needs a
	// Reason, which is recorded, and names of applications.
	OverrideWindow bool   `json:"overrideWindow,omitempty" doc:"Let one sync of each application run in spite of the windows of its project. Needs reason, and names."`
	Reason         string `json:"reason,omitempty" doc:"Why, for the record; needed to override windows." maxLength:"1024"`
}

// SyncAccepted answers a [SyncRequest]. It marks the moment from which results count.
type SyncAccepted struct {
	// Applications that were asked for, sorted.
	Applications []string `json:"applications" doc:"Applications that were asked for, sorted by name."`
	// Refused are those that were left out of a sync of all, each with the reason.
	Refused []Error `json:"refused,omitempty" doc:"With all: applications that may not be synced now, each with the reason."`
	// Since is the resume point of the event stream just before the request.
	Since string `json:"since" doc:"Resume point of the event stream just before the request."`
	// RequestedAt is the server's time of the request. A repository checked
	// later than that has seen what was pushed before the request.
	RequestedAt time.Time `json:"requestedAt" doc:"Time of the request by the server's clock."`
}

// Build says what a binary was made from.
type Build struct {
	// Version of the module, "v1.2.3", or "devel" where the build knows none.
	Version string `json:"version" doc:"Version of the module, or devel."`
	Commit  string `json:"commit,omitempty" doc:"Commit the binary was built from."`
	// Time of that commit.
	Time time.Time `json:"time,omitzero" doc:"Time of that commit."`
	// Modified is true when files differed from Commit.
	Modified bool   `json:"modified,omitempty" doc:"Whether files differed from that commit."`
	Go       string `json:"go" doc:"Version of the Go toolchain."`
	Platform string `json:"platform" doc:"Operating system and architecture, such as linux/amd64."`
}
