package belay

import "time"

// RecordQuery chooses records, or deployments by the record of their start. Fields
// that are empty choose all. Answers come newest first.
type RecordQuery struct {
	// Applications, Projects, Clusters and Types: any of those named.
	Applications []string
	Projects     []string
	Clusters     []string
	// Types do not choose deployments.
	Types []EventType
	// Person is a part of the name or address, in any case, of who caused it, or wrote,
	// reviewed or approved a commit that it brings.
	Person string
	// Change begins a commit: the Change, the revision, or one of the commits that
	// were brought.
	Change string
	// Object is KIND/NAME, KIND/NAMESPACE/NAME, or the name alone, in any case.
	Object string
	// Changed is a regular expression: of deployments those that added or removed a
	// line of a manifest that matches. It does not choose records.
	Changed string
	// Deployment is the ID of one: its start, its end and what happened in between.
	Deployment string
	Writer     string
	// From is the first instant, To the first that is too late.
	From, To time.Time
	// After is the ID of the record that the page before ended with.
	After string
	// Limit bounds the page; 0 means [DefaultPage]. A page may hold fewer and yet
	// not be the last: what follows it tells.
	Limit int
	// Brief leaves out the Detail of records; and of deployments Objects, Sources,
	// Manifests, and all but the newest of the Commits.
	Brief bool
}

// Bounds of [RecordQuery.Limit].
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// ManifestText is a manifest as the ledger holds it, secret values redacted.
type ManifestText struct {
	Object ObjectID `json:"object" doc:"The object."`
	// Path is relative to the directory of the application.
	Path string `json:"path" doc:"Path below the directory of the application."`
	YAML string `json:"yaml" doc:"The manifest, secret values redacted."`
}

// ManifestChange is how a manifest differs between two deployments.
type ManifestChange struct {
	Object ObjectID `json:"object" doc:"The object."`
	Path   string   `json:"path" doc:"Path below the directory of the application."`
	// Added and Removed say that there was nothing before, or is nothing after.
	Added   bool   `json:"added,omitempty" doc:"Whether it was not there before."`
	Removed bool   `json:"removed,omitempty" doc:"Whether it is not there after."`
	Diff    string `json:"diff" doc:"Unified diff, secret values redacted."`
}

// ManifestBlame tells of each line of a manifest which deployment set it.
type ManifestBlame struct {
	Object ObjectID `json:"object" doc:"The object."`
	Path   string   `json:"path" doc:"Path below the directory of the application."`
	// Lines are those of the manifest.
	Lines []BlameLine `json:"lines" doc:"The lines of the manifest."`
	// Deployments are those that set any of the lines, newest first and in brief.
	Deployments []Deployment `json:"deployments" doc:"Deployments that set any of the lines, newest first."`
}

// BlameLine is one line of a manifest.
type BlameLine struct {
	Deployment string `json:"deployment" doc:"Deployment that set the line."`
	Text       string `json:"text" doc:"The line."`
}
