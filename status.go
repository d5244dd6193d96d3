package belay

import "time"

// Status is the state of the fleet, the body of `belay status -o json`.
type Status struct {
	Applications []ApplicationStatus `json:"applications" doc:"Sorted by name."`
	Clusters     []ClusterStatus     `json:"clusters,omitempty" doc:"Clusters in use, sorted by name."`
	Repositories []RepositoryStatus  `json:"repositories,omitempty" doc:"Repositories in use, sorted by URL."`
	Sets         []SetStatus         `json:"sets,omitempty" doc:"ApplicationSets, sorted by name."`
	// Problems are definitions that are wrong; what they meant last still holds.
	Problems []Error `json:"problems,omitempty" doc:"Definitions that are wrong; what they meant last still holds."`
}

// ApplicationStatus is the state of one application.
type ApplicationStatus struct {
	Name      string `json:"name" doc:"Unique in the fleet."`
	Set       string `json:"set,omitempty" doc:"ApplicationSet that makes it."`
	Project   string `json:"project" doc:"Project whose limits apply."`
	Cluster   string `json:"cluster" doc:"Cluster it is delivered to."`
	Namespace string `json:"namespace" doc:"Namespace of objects that name none."`
	Repo      string `json:"repo,omitempty" doc:"URL of its repository, without credentials."`
	Path      string `json:"path,omitempty" doc:"Path within the repository."`
	Ref       string `json:"ref,omitempty" doc:"Branch, tag, commit or range of versions that is followed."`
	// Revision is the commit that was compared last.
	Revision string `json:"revision" doc:"Commit that it was compared with last."`
	// Revisions are those of everything it is made of, if that is more than one
	// commit: several sources, a chart, what files name elsewhere.
	Revisions []SourceRevision `json:"revisions,omitempty" doc:"Revisions of everything it is made of, if that is more than one commit."`
	Sync      SyncState        `json:"sync" doc:"Whether the cluster equals Git."`
	Health    Health           `json:"health" doc:"Whether it works, as far as the status of its objects tells."`
	// Message says why it is not Synced and Healthy.
	Message string `json:"message" doc:"Why it is not Synced and Healthy."`
	Hint    string `json:"hint,omitempty" doc:"What to do about it."`
	// SyncedRevision is the last commit that was fully applied.
	SyncedRevision string    `json:"syncedRevision,omitempty" doc:"Last commit that was fully applied."`
	SyncedAt       time.Time `json:"syncedAt,omitzero" doc:"When that was."`
	// Objects counts the declared ones.
	Objects int `json:"objects" doc:"How many objects it declares."`
	// Automatic is false when syncs wait to be asked for.
	Automatic bool `json:"automatic" doc:"Whether commits are applied without being asked."`
	// Suspended is the reason, where it is suspended.
	Suspended string `json:"suspended,omitempty" doc:"Why nothing of it is written: it is suspended in Git."`
	// Held is the hold that keeps it at an earlier revision.
	Held *Hold `json:"held,omitempty" doc:"The hold that keeps it at an earlier revision, in spite of what Git says."`
	// Refused is the newest commit of its ref, where that may not be deployed.
	Refused string `json:"refused,omitempty" doc:"Newest commit of its ref, where that may not be deployed for want of signatures; the message says why."`
	// Tree is set only where one application is asked for.
	Tree []ObjectStatus `json:"tree,omitempty" doc:"Its objects; only where one application is asked for."`
}

// SourceRevision is where one ref stands that an application is made from.
type SourceRevision struct {
	Repo     string `json:"repo" doc:"URL, without credentials; of a chart in a Helm repository with #CHART at its end."`
	Ref      string `json:"ref" doc:"Branch, tag, commit or range of versions that is followed."`
	Name     string `json:"name,omitempty" doc:"What the ref means now: the branch, tag or version."`
	Revision string `json:"revision" doc:"Commit, or digest of a chart or artifact."`
}

// ObjectStatus is the state of one object of an application.
type ObjectStatus struct {
	ObjectID
	APIVersion string    `json:"apiVersion,omitempty" doc:"As declared, such as apps/v1."`
	Wave       int       `json:"wave,omitempty" doc:"Place in the order within the application."`
	Sync       SyncState `json:"sync" doc:"Whether the object equals Git."`
	Health     Health    `json:"health" doc:"Whether it works, as far as its status tells."`
	Message    string    `json:"message,omitempty" doc:"Its last error, or what it waits for."`
	// Hook is set for an object that runs at moments of a sync.
	Hook *HookStatus `json:"hook,omitempty" doc:"Set for an object that runs at moments of a sync."`
	File string      `json:"file,omitempty" doc:"File that declares it, relative to the root of the repository."`
	Line int         `json:"line,omitempty" doc:"Line of that file, from 1; 0 is not known."`
}

// SetStatus is the state of one ApplicationSet.
type SetStatus struct {
	Name string `json:"name" doc:"Unique among ApplicationSets."`
	File string `json:"file" doc:"File that declares it."`
	Line int    `json:"line" doc:"Line of that file, from 1."`
	// Applications are those in force, the held ones among them.
	Applications []string `json:"applications" doc:"Applications that it makes, those in held among them; sorted."`
	Held         []string `json:"held,omitempty" doc:"Applications that it would no longer make, but that stay until that is confirmed."`
	Failing      bool     `json:"failing,omitempty" doc:"Whether something in it is wrong, so that it removes nothing."`
	Message      string   `json:"message,omitempty" doc:"What is to be known of it."`
	Hint         string   `json:"hint,omitempty" doc:"What to do about it."`
}

// ClusterStatus is the state of the connection to a cluster.
type ClusterStatus struct {
	Name    string `json:"name" doc:"Name of the cluster."`
	Version string `json:"version,omitempty" doc:"Kubernetes version, such as v1.36.2."`
	Ready   bool   `json:"ready" doc:"Whether it is observed."`
	Message string `json:"message,omitempty" doc:"Why it is not."`
}

// RepositoryStatus is the state of a mirror.
type RepositoryStatus struct {
	URL       string            `json:"url" doc:"URL without credentials."`
	Refs      map[string]string `json:"refs,omitempty" doc:"Refs that are followed, each with its newest commit."` // ref followed -> commit
	RefErrors map[string]string `json:"refErrors,omitempty" doc:"Refs that mean nothing now, each with the reason."`
	CheckedAt time.Time         `json:"checkedAt,omitzero" doc:"When it was looked at last."`
	Message   string            `json:"message,omitempty" doc:"Why it cannot be read."`
}
