package belay

// Application declares that a path of a repository is delivered to a namespace of a cluster.
type Application struct {
	// Name is unique in the fleet and a DNS-1123 label or subdomain.
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Spec        ApplicationSpec   `json:"spec"`
	// Origin is where the definition stands.
	Origin Origin `json:"origin"`
}

// ApplicationSpec is the spec of an Application.
type ApplicationSpec struct {
	// Project whose limits apply. Default "default".
	Project     string      `json:"project,omitempty" doc:"Project whose limits apply to this application."`
	Source      Source      `json:"source" doc:"Where the manifests come from."`
	Destination Destination `json:"destination,omitzero" doc:"Where the objects go."`
	Sync        SyncPolicy  `json:"sync,omitzero" doc:"When and how the cluster is made equal to Git."`
}

// Source names the files an application is rendered from. At most one of
// Directory, Kustomize and Helm may be set; with none of them the kind is found
// out from the path: kustomization.yaml, Chart.yaml, otherwise plain manifests.
type Source struct {
	// Repo is the name of a Repository or a URL. Default: the config repository.
	Repo string `json:"repo,omitempty" doc:"Name of a Repository or a URL. Default: the repository this definition stands in."`
	// Ref is a branch, tag, commit or a semver range over tags. Default: the ref
	// that the server follows for the config repository, HEAD for any other.
	Ref string `json:"ref,omitempty" doc:"Branch, tag, commit, or a semver range over tags such as \">=1.2 <2\". Default: the config repository's own ref, or HEAD of another repository."`
	// Path is relative to the root of the repository. Default: its root.
	Path      string           `json:"path,omitempty" doc:"Directory (or one file) relative to the root of the repository."`
	Directory *DirectorySource `json:"directory,omitempty" doc:"Options of a directory of plain YAML or JSON manifests."`
	Kustomize *KustomizeSource `json:"kustomize,omitempty" doc:"Render with Kustomize even if that is not obvious."`
	Helm      *HelmSource      `json:"helm,omitempty" doc:"Options of a Helm chart."`
}

// DirectorySource are options of a directory of plain manifests.
type DirectorySource struct {
	// Recurse into subdirectories. Default true.
	Recurse bool `json:"recurse" doc:"Read subdirectories too."`
	// Include are globs (with **) relative to Path; default all *.yaml, *.yml, *.json.
	Include []string `json:"include,omitempty" doc:"Globs relative to path; ** matches any number of directories. Default: every .yaml, .yml and .json file."`
	// Exclude are globs of files to leave out, applied after Include.
	Exclude []string `json:"exclude,omitempty" doc:"Globs of files to leave out."`
}

// KustomizeSource are options of a kustomization.
type KustomizeSource struct{}

// HelmSource are options of a chart that lies at Path.
type HelmSource struct {
	// ReleaseName is .Release.Name. Default: the application's name.
	ReleaseName string `json:"releaseName,omitempty" doc:"Value of .Release.Name. Default: the application's name."`
	// ValuesFiles are read in order, later ones win; relative to Path, or to the
	// root of the repository when they begin with "/".
	ValuesFiles []string `json:"valuesFiles,omitempty" doc:"Values files in order, later ones win; relative to path, or to the root of the repository with a leading slash."`
	// Values win over every file.
	Values map[string]any `json:"values,omitempty" doc:"Values set here; they win over every file."`
	// SkipCRDs leaves out the chart's crds/ directory. Default false.
	SkipCRDs bool `json:"skipCRDs,omitempty" doc:"Leave out the crds directory of the chart."`
}

// Destination is where the objects of an application go.
type Destination struct {
	// Cluster is the name of a Cluster. Default: the only one there is.
	Cluster string `json:"cluster,omitempty" doc:"Name of a Cluster. Default: the only one."`
	// Namespace of namespaced objects that name none. Default "default".
	Namespace string `json:"namespace,omitempty" doc:"Namespace of objects that name none."`
}

// SyncPolicy says when and how a cluster is made equal to Git.
type SyncPolicy struct {
	// Automatic applies each commit without being asked. Default true.
	Automatic bool `json:"automatic" doc:"Apply each commit without being asked."`
	// SelfHeal undoes drift without being asked. Default true; needs Automatic.
	SelfHeal bool `json:"selfHeal" doc:"Undo foreign changes without being asked."`
	// Prune deletes objects that are no longer declared. Default true.
	Prune bool `json:"prune" doc:"Delete objects that Git no longer declares."`
	// PruneLimit is the share that one sync may delete.
	PruneLimit PruneLimit `json:"pruneLimit,omitzero" doc:"How much one sync may delete without a confirmation."`
	// CreateNamespace makes the destination namespace when it is missing. It is
	// never deleted, unless a manifest declares it. Default true.
	CreateNamespace bool `json:"createNamespace" doc:"Make the destination namespace when it is missing."`
	// Confirm holds the token that a held prune asks for. It fits that one set of
	// deletions and no other.
	Confirm string `json:"confirm,omitempty" doc:"The token that a held prune printed; it confirms that one set of deletions."`
}

// PruneLimit holds a sync back that would delete more than Percent of an
// application with at least From objects, or all objects of any application.
type PruneLimit struct {
	// Percent of the objects that are there; 100 switches the share off, but
	// not the protection against deleting all. Default 50.
	Percent int `json:"percent" doc:"Largest share of the application that one sync may delete, in percent."`
	// From is the number of objects from which the share counts. Default 10.
	From int `json:"from" doc:"Number of objects from which the share counts."`
}

// DefaultApplicationSpec is what an Application means where it says nothing.
// Decoders start from it; it is the one place of these defaults.
func DefaultApplicationSpec() ApplicationSpec {
	return ApplicationSpec{
		Project:     DefaultProject,
		Destination: Destination{Namespace: "default"},
		Sync: SyncPolicy{
			Automatic: true, SelfHeal: true, Prune: true, CreateNamespace: true,
			PruneLimit: PruneLimit{Percent: 50, From: 10},
		},
	}
}

// DefaultDirectorySource is what `directory: {}` means.
func DefaultDirectorySource() DirectorySource { return DirectorySource{Recurse: true} }
