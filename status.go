package belay

import "time"

// Status is the state of the fleet, the body of `belay status -o json`.
type Status struct {
	Applications []ApplicationStatus `json:"applications"`
	Clusters     []ClusterStatus     `json:"clusters,omitempty"`
	Repositories []RepositoryStatus  `json:"repositories,omitempty"`
	// Problems are definitions that are wrong; what they meant last still holds.
	Problems []Error `json:"problems,omitempty"`
}

// ApplicationStatus is the state of one application.
type ApplicationStatus struct {
	Name      string `json:"name"`
	Project   string `json:"project"`
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace"`
	Repo      string `json:"repo,omitempty"`
	Path      string `json:"path,omitempty"`
	Ref       string `json:"ref,omitempty"`
	// Revision is the commit that was compared last.
	Revision string    `json:"revision"`
	Sync     SyncState `json:"sync"`
	Health   Health    `json:"health"`
	// Message says why it is not Synced and Healthy.
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// SyncedRevision is the last commit that was fully applied.
	SyncedRevision string    `json:"syncedRevision,omitempty"`
	SyncedAt       time.Time `json:"syncedAt,omitzero"`
	// Objects counts the declared ones.
	Objects int `json:"objects"`
	// Automatic is false when syncs wait to be asked for.
	Automatic bool `json:"automatic"`
	// Tree is set only where one application is asked for.
	Tree []ObjectStatus `json:"tree,omitempty"`
}

// ObjectStatus is the state of one object of an application.
type ObjectStatus struct {
	ObjectID
	APIVersion string    `json:"apiVersion,omitempty"`
	Wave       int       `json:"wave,omitempty"`
	Sync       SyncState `json:"sync"`
	Health     Health    `json:"health"`
	Message    string    `json:"message,omitempty"`
	File       string    `json:"file,omitempty"`
	Line       int       `json:"line,omitempty"`
}

// ClusterStatus is the state of the connection to a cluster.
type ClusterStatus struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	Ready   bool   `json:"ready"`
	Message string `json:"message,omitempty"`
}

// RepositoryStatus is the state of a mirror.
type RepositoryStatus struct {
	URL       string            `json:"url"`
	Refs      map[string]string `json:"refs,omitempty"` // ref followed -> commit
	CheckedAt time.Time         `json:"checkedAt,omitzero"`
	Message   string            `json:"message,omitempty"`
}
