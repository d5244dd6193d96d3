package belay

import (
	"slices"
	"strings"
)

// Application declares that a path of a repository is delivered to a namespace of a cluster.
type Application struct {
	// Name is unique in the fleet and a DNS-1123 label or subdomain.
	Name        string            `json:"name"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Spec        ApplicationSpec   `json:"spec"`
	// Origin is where the definition stands: of a generated one, its ApplicationSet.
	Origin Origin `json:"origin"`
	// Set is the ApplicationSet that generated it; empty for one that is written.
	Set string `json:"set,omitempty"`
}

// ApplicationSpec is the spec of an Application.
type ApplicationSpec struct {
	// Project whose limits apply. Default "default".
	Project string `json:"project,omitempty" doc:"Project whose limits apply to this application."`
	// Source or Sources is set, never both.
	Source Source `json:"source,omitzero" doc:"Where the manifests come from."`
	// Sources are rendered each on its own; the application is all their objects
	// together. One that only holds files for the others has a Name and no objects
	// of its own: a source named in a values file as "$NAME/path" is not rendered.
	Sources     []Source    `json:"sources,omitempty" doc:"Several sources in place of one: a chart here, its values there. Each is rendered on its own; a source that another one names is only read."`
	Destination Destination `json:"destination,omitzero" doc:"Where the objects go."`
	Sync        SyncPolicy  `json:"sync,omitzero" doc:"When and how the cluster is made equal to Git."`
	// Patches change the objects after they were rendered, in order.
	Patches []Patch `json:"patches,omitempty" doc:"Changes to rendered objects, in order, as Kustomize patches."`
	// Variables replace ${NAME} in the values of rendered objects. Without any, no
	// text is touched.
	Variables *Variables `json:"variables,omitempty" doc:"Values that replace ${NAME} in rendered objects."`
	// DependsOn are applications that must be Synced and Healthy (or as their Ready
	// says) before this one is written, and that are torn down after it.
	DependsOn []Dependency `json:"dependsOn,omitempty" doc:"Applications that have to be ready before this one is written; they are torn down after it."`
	// Suspend leaves everything in the cluster as it is, until it is taken out of Git.
	Suspend *Suspension `json:"suspend,omitempty" doc:"Leaves everything in the cluster as it is: nothing is applied, healed or deleted while this is set."`
}

// Suspension says why an application is suspended.
type Suspension struct {
	// Reason is shown to everybody who wonders.
	Reason string `json:"reason" doc:"Why, for those who wonder."`
}

// Dependency is an application that another one waits for, on any cluster.
type Dependency struct {
	// Name of the application.
	Name string `json:"name" doc:"Name of the application to wait for."`
	// Ready is a CEL expression over app, the status of the dependency as "belay
	// get app -o json" prints it. Default: it is Synced and Healthy at its newest commit.
	Ready string `json:"ready,omitempty" doc:"CEL expression over app, the status of that application as belay get app -o json shows it."`
}

// Patch changes rendered objects: a strategic merge patch or a JSON patch, written
// here or in a file. Exactly one of Patch and File is set.
type Patch struct {
	// Target picks the objects. Default: the one that a merge patch itself names.
	Target *PatchTarget `json:"target,omitempty" doc:"Which objects are patched. Default: the object that the patch names."`
	// Patch is YAML: a partial object, or a list of JSON patch operations.
	Patch string `json:"patch,omitempty" doc:"The patch as YAML: a partial object, or a list of JSON patch operations."`
	// File holds the same, relative to the root of the repository of the (first) source.
	File string `json:"file,omitempty" doc:"File with the patch, relative to the root of the source's repository, or $NAME/path in the source of that name."`
}

// PatchTarget picks objects; an empty field fits all. Fields are regular
// expressions that have to match as a whole, as in Kustomize.
type PatchTarget struct {
	Group              string `json:"group,omitempty" doc:"API group."`
	Version            string `json:"version,omitempty" doc:"API version."`
	Kind               string `json:"kind,omitempty" doc:"Kind."`
	Name               string `json:"name,omitempty" doc:"Name of the object."`
	Namespace          string `json:"namespace,omitempty" doc:"Namespace of the object as rendered; the destination's where it names none."`
	LabelSelector      string `json:"labelSelector,omitempty" doc:"Label selector over the rendered labels."`
	AnnotationSelector string `json:"annotationSelector,omitempty" doc:"Selector over the rendered annotations."`
}

// Variables are named values. Values win over files, later files over earlier ones.
type Variables struct {
	// Files are YAML mappings of names to scalars, relative to the root of the
	// repository of the (first) source.
	Files []string `json:"files,omitempty" doc:"YAML files of names and values, later ones win; relative to the root of the source's repository, or $NAME/path in the source of that name."`
	// Values win over every file.
	Values map[string]string `json:"values,omitempty" doc:"Values set here; they win over every file."`
}

// AllSources are the sources of an application, in order: Sources, or else Source alone.
func (s *ApplicationSpec) AllSources() []Source {
	if len(s.Sources) > 0 {
		return s.Sources
	}
	return []Source{s.Source}
}

// FirstSource is the name that the first of several sources gets if it has none.
// Nobody can write it.
const FirstSource = "_first"

// NamedFiles are the files that the application reads from sources by name, each
// as it is written: "$NAME/path".
func (s *ApplicationSpec) NamedFiles() []string {
	var out []string
	add := func(file string) {
		if strings.HasPrefix(file, "$") {
			out = append(out, file)
		}
	}
	for _, src := range s.AllSources() {
		if src.Helm != nil {
			for _, f := range src.Helm.ValuesFiles {
				add(f)
			}
		}
	}
	for i := range s.Patches {
		add(s.Patches[i].File)
	}
	if s.Variables != nil {
		for _, f := range s.Variables.Files {
			add(f)
		}
	}
	return out
}

// Renders says whether a source of AllSources gives objects of its own. One that
// is named by another and says nothing of how it is rendered is only read.
func (s *ApplicationSpec) Renders(i int) bool {
	src := s.AllSources()[i]
	if src.Name == "" || src.Name == FirstSource || src.Path != "" || src.Chart != "" || src.Directory != nil || src.Kustomize != nil || src.Helm != nil {
		return true
	}
	return !slices.ContainsFunc(s.NamedFiles(), func(f string) bool { return strings.HasPrefix(f, "$"+src.Name+"/") })
}

// Source names the files an application is rendered from. At most one of
// Directory, Kustomize and Helm may be set; with none of them the kind is found
// out from the path: kustomization.yaml, Chart.yaml, otherwise plain manifests.
type Source struct {
	// Name by which other sources of the application refer to files of this one, as
	// "$NAME/path".
	Name string `json:"name,omitempty" doc:"Name by which the application's other sources refer to files of this one, as $NAME/path."`
	// Repo is the name of a Repository or a URL: of a Git repository, of a Helm
	// repository if Chart is set, or of a chart or artifact in an OCI registry
	// (oci://registry/repository). Default: the config repository.
	Repo string `json:"repo,omitempty" doc:"Name of a Repository or a URL: of a Git repository, of a Helm repository when chart is set, or oci://registry/repository. Default: the repository this definition stands in."`
	// Chart is the name of a chart in the Helm repository at Repo.
	Chart string `json:"chart,omitempty" doc:"Name of a chart in the Helm repository that repo names."`
	// Ref is a branch, tag, commit or a semver range over tags. Of a chart or
	// artifact it is a version, tag, digest or semver range. Default: the ref
	// that the server follows for the config repository, HEAD for any other, the
	// newest version of a chart.
	Ref string `json:"ref,omitempty" doc:"Branch, tag, commit, or a semver range over tags such as \">=1.2 <2\". Of a chart or artifact: a version, tag, digest or range. Default: the config repository's own ref, HEAD of another repository, the newest version of a chart or artifact."`
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
	// root of the repository when they begin with "/". "$NAME/path" is a file of
	// the source of that name.
	ValuesFiles []string `json:"valuesFiles,omitempty" doc:"Values files in order, later ones win; relative to path, to the root of the repository with a leading slash, or $NAME/path in the source of that name."`
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
	// NamespaceMetadata is what a namespace made by CreateNamespace carries, kept equal to Git.
	NamespaceMetadata NamespaceMetadata `json:"namespaceMetadata,omitzero" doc:"Labels and annotations of the destination namespace where Belay makes it."`
	// Adopt takes over objects that are there and that Belay did not make. Default
	// false; an object may allow it for itself with AnnotationAdopt.
	Adopt bool `json:"adopt,omitempty" doc:"Take over objects that are there already and that Belay did not make."`
	// Recreate deletes an object and makes it anew when an immutable field changed.
	// Default false; an object may allow it for itself with AnnotationRecreate.
	Recreate bool `json:"recreate,omitempty" doc:"Delete an object and make it anew when Git changes a field that cannot be changed in place."`
	// Replace removes with each write whatever Git does not declare, whoever set it.
	// Default false; an object may ask for it itself with AnnotationReplace.
	Replace bool `json:"replace,omitempty" doc:"Remove with each write whatever of an object Git does not declare, whoever set it."`
	// Propagation of deletions: background, foreground or orphan. Default background.
	Propagation string `json:"propagation,omitempty" doc:"How deletions treat dependents: background, foreground or orphan."`
	// ConfirmDeletion holds the teardown of the application until a Project confirms it.
	ConfirmDeletion bool `json:"confirmDeletion,omitempty" doc:"Hold the removal of this application from the cluster until its Project confirms it."`
	// IgnoreDifferences are fields that may differ from Git.
	IgnoreDifferences []IgnoreRule `json:"ignoreDifferences,omitempty" doc:"Fields that are set when an object is made and left to others afterwards."`
	// Retry says how often and how fast a failed write is tried again.
	Retry Retry `json:"retry,omitzero" doc:"How a failed write is tried again."`
	// Timeout of a sync, from its first write until it is Synced; a Go duration. A
	// sync that takes longer fails. Default: no limit.
	Timeout string `json:"timeout,omitempty" doc:"Longest time of a sync, such as 10m; one that takes longer fails and is tried again with the next commit or on request."`
	// Rollback says when the application goes back by itself; nil is never.
	Rollback *AutomaticRollback `json:"rollback,omitempty" doc:"Goes back by itself when a deployment fails or makes the application Degraded. Default: never."`
	// Confirm holds the token that a held prune asks for. It fits that one set of
	// deletions and no other.
	Confirm string `json:"confirm,omitempty" doc:"The token that a held prune printed; it confirms that one set of deletions."`
}

// NamespaceMetadata is what a namespace carries.
type NamespaceMetadata struct {
	Labels      map[string]string `json:"labels,omitempty" doc:"Labels of the namespace."`
	Annotations map[string]string `json:"annotations,omitempty" doc:"Annotations of the namespace."`
}

// IgnoreRule names fields of objects that may differ from what Git declares.
type IgnoreRule struct {
	// Kind is a pattern "group/Kind", as in a Project. Default: every kind.
	Kind string `json:"kind,omitempty" doc:"Kind of the objects: \"apps/Deployment\", \"Secret\" (core group), \"*\". Default: every kind."`
	// Name and Namespace are globs. Default: all.
	Name      string `json:"name,omitempty" doc:"Glob over names. Default: all."`
	Namespace string `json:"namespace,omitempty" doc:"Glob over namespaces. Default: all."`
	// Pointers are JSON pointers (RFC 6901) to fields, with what is below them.
	Pointers []string `json:"pointers,omitempty" doc:"JSON pointers to fields, such as /spec/replicas; what is below counts too."`
	// Managers are field managers, as globs: what they own is theirs.
	Managers []string `json:"managers,omitempty" doc:"Globs over field managers whose fields are theirs."`
}

// Retry says how a failed write is tried again. A new commit always starts anew.
type Retry struct {
	// Limit is how often; 0 is without end. Default 0.
	Limit int `json:"limit,omitempty" doc:"How often a failed write is tried again; 0 is without end."`
	// First and Most are the first and the longest pause; each one is twice the one
	// before. Go durations. Default 1s and 5m.
	First string `json:"first" doc:"Pause after the first failure; each one is twice the one before."`
	Most  string `json:"most" doc:"Longest pause."`
}

// The propagations of [SyncPolicy].
const (
	PropagationBackground = "background"
	PropagationForeground = "foreground"
	PropagationOrphan     = "orphan"
)

// PruneLimit holds a sync back that would delete more than Percent of an
// application with at least From objects, or all objects of any application.
type PruneLimit struct {
	// Percent of the objects that are there; 100 switches the share off, but
	// not the protection against deleting all. Default 50.
	Percent int `json:"percent" doc:"Largest share that may go at once, in percent."`
	// From is the number of objects from which the share counts. Default 10.
	From int `json:"from" doc:"Number from which the share counts."`
}

// DefaultApplicationSpec is what an Application means where it says nothing.
// Decoders start from it; it is the one place of these defaults.
func DefaultApplicationSpec() ApplicationSpec {
	return ApplicationSpec{
		Project:     DefaultProject,
		Destination: Destination{Namespace: "default"},
		Sync: SyncPolicy{
			Automatic: true, SelfHeal: true, Prune: true, CreateNamespace: true,
			PruneLimit: PruneLimit{Percent: 50, From: 10}, Propagation: PropagationBackground,
			Retry: DefaultRetry(),
		},
	}
}

// DefaultRetry is what `retry: {}` means.
func DefaultRetry() Retry { return Retry{First: "1s", Most: "5m"} }

// DefaultDirectorySource is what `directory: {}` means.
func DefaultDirectorySource() DirectorySource { return DirectorySource{Recurse: true} }
