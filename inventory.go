package belay

// Inventory is what a fleet has beside its applications, with what uses it.
type Inventory struct {
	Clusters     []ClusterEntry    `json:"clusters" doc:"Sorted by name."`
	Repositories []RepositoryEntry `json:"repositories" doc:"Sorted by URL."`
	Projects     []ProjectEntry    `json:"projects" doc:"Sorted by name."`
}

// Declared is where a definition stands; it is empty for what nobody declared.
type Declared struct {
	File string `json:"file,omitempty" doc:"File that declares it."`
	Line int    `json:"line,omitempty" doc:"Line of that file, from 1."`
}

// DeclaredAt is the place of a definition.
func DeclaredAt(o Origin) Declared { return Declared{File: o.File, Line: o.Line} }

// Place is FILE:LINE, or "" for what nobody declared.
func (d Declared) Place() string { return Origin{File: d.File, Line: d.Line}.String() }

// ClusterEntry is a cluster and what is delivered to it.
type ClusterEntry struct {
	ClusterStatus
	Declared
	Applications []string `json:"applications" doc:"Applications that are delivered to it, sorted."`
}

// RepositoryEntry is a repository and what is made from it.
type RepositoryEntry struct {
	RepositoryStatus
	Names        []string   `json:"names,omitempty" doc:"Repository definitions with its URL, sorted."`
	Declared     []Declared `json:"declared,omitempty" doc:"Where those stand, in the same order."`
	Definitions  bool       `json:"definitions,omitempty" doc:"Whether the definitions themselves come from it."`
	Applications []string   `json:"applications" doc:"Applications that are made from it, sorted."`
}

// ProjectEntry is a Project and what it holds.
type ProjectEntry struct {
	Name string `json:"name" doc:"Unique among Projects."`
	Declared
	// Spec is what it permits, with defaults filled in.
	Spec         ProjectSpec `json:"spec" doc:"What it permits, with defaults filled in."`
	Applications []string    `json:"applications" doc:"Applications of the project, sorted."`
}
