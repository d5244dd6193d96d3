package belay

// ApplicationSet declares many applications that are alike: its generators yield
// parameters, and its template makes an application of each set of them.
type ApplicationSet struct {
	Name   string             `json:"name"`
	Labels map[string]string  `json:"labels,omitempty"`
	Spec   ApplicationSetSpec `json:"spec"`
	Origin Origin             `json:"origin"`
}

// ApplicationSetSpec is the spec of an ApplicationSet.
type ApplicationSetSpec struct {
	// Generators yield elements; what they yield is put together.
	Generators []Generator `json:"generators" doc:"Where the parameters come from. What several generators yield is put together."`
	// When is an expression; elements for which it does not give true are left out.
	When string `json:"when,omitempty" doc:"Expression that gives true or false: elements for which it is false are left out."`
	// Template is decoded as strictly as an Application, but any value may be a
	// text with expressions.
	Template ApplicationTemplate `json:"template" doc:"The application that is made of each element. Any text may hold expressions such as {{ .path.basename }}; in place of a number or of true or false stands a text that gives one."`
	// PruneLimit is about the applications of the set, not about their objects.
	PruneLimit PruneLimit `json:"pruneLimit,omitzero" doc:"How many of its applications may go at once: more than this share, or all of them, go only once that is confirmed."`
	// Confirm holds the token that a held removal asked for.
	Confirm string `json:"confirm,omitempty" doc:"Token that a held removal of applications printed."`
	// Deletion is "delete" or "orphan".
	Deletion string `json:"deletion,omitempty" doc:"What becomes of the objects of an application that the set no longer makes: delete, or orphan, which leaves them in the cluster."`
}

// ApplicationTemplate is an Application whose texts may hold expressions.
type ApplicationTemplate struct {
	Metadata TemplateMetadata `json:"metadata" doc:"What each application is called."`
	Spec     ApplicationSpec  `json:"spec" doc:"What each application delivers, and where to."`
}

// TemplateMetadata is what the applications of a set are called.
type TemplateMetadata struct {
	Name        string            `json:"name" doc:"Name of the application; it has to differ from element to element."`
	Labels      map[string]string `json:"labels,omitempty" doc:"Labels to select by."`
	Annotations map[string]string `json:"annotations,omitempty" doc:"Notes for people and tools."`
}

// Generator yields elements, each a mapping of parameters. Exactly one of its
// fields but As is set.
type Generator struct {
	// As puts the parameters below a name of their own: ".cluster.name" for ".name".
	As          string                `json:"as,omitempty" doc:"Puts the parameters below this name: with as: cluster it is .cluster.name instead of .name."`
	List        *ListGenerator        `json:"list,omitempty" doc:"Elements that are written here."`
	Directories *DirectoriesGenerator `json:"directories,omitempty" doc:"An element for each directory: .path.path, .path.basename and .path.segments."`
	Files       *FilesGenerator       `json:"files,omitempty" doc:"An element for each YAML or JSON file, or several where it holds a list: what it says, and .path of its directory with .path.filename."`
	Clusters    *ClustersGenerator    `json:"clusters,omitempty" doc:"An element for each Cluster: .name and .labels."`
	Matrix      *MatrixGenerator      `json:"matrix,omitempty" doc:"Every element of one generator with every one of the others."`
	Merge       *MergeGenerator       `json:"merge,omitempty" doc:"The elements of the first generator, each changed by those of the others that have the same keys."`
}

// ListGenerator yields elements that are written in the set.
type ListGenerator struct {
	Elements []map[string]any `json:"elements" doc:"The parameters of each element."`
}

// DirectoriesGenerator yields an element for each directory that fits.
type DirectoriesGenerator struct {
	// Repo and Ref: default the config repository, at the very commit of the definitions.
	Repo    string   `json:"repo,omitempty" doc:"Name of a Repository or a URL. Default: the repository this definition stands in, at the same commit."`
	Ref     string   `json:"ref,omitempty" doc:"Branch, tag, commit, or a semver range over tags. Default: the same commit, or HEAD of another repository."`
	Paths   []string `json:"paths" doc:"Globs of directories, relative to the root of the repository; ** stands for any number of directories. Names that begin with a dot are passed over."`
	Exclude []string `json:"exclude,omitempty" doc:"Globs of directories to leave out."`
}

// FilesGenerator yields the content of each file that fits.
type FilesGenerator struct {
	Repo    string   `json:"repo,omitempty" doc:"Name of a Repository or a URL. Default: the repository this definition stands in, at the same commit."`
	Ref     string   `json:"ref,omitempty" doc:"Branch, tag, commit, or a semver range over tags. Default: the same commit, or HEAD of another repository."`
	Paths   []string `json:"paths" doc:"Globs of YAML or JSON files, relative to the root of the repository; ** stands for any number of directories. Names that begin with a dot are passed over."`
	Exclude []string `json:"exclude,omitempty" doc:"Globs of files to leave out."`
}

// ClustersGenerator yields an element for each Cluster that fits; all of them if
// it says nothing.
type ClustersGenerator struct {
	MatchLabels      map[string]string  `json:"matchLabels,omitempty" doc:"Labels that the Cluster must have."`
	MatchExpressions []LabelRequirement `json:"matchExpressions,omitempty" doc:"Requirements that the labels of the Cluster must meet, all of them."`
}

// LabelRequirement is one requirement of a label selector, as in Kubernetes.
type LabelRequirement struct {
	Key      string   `json:"key" doc:"Label that it is about."`
	Operator string   `json:"operator" doc:"In, NotIn, Exists or DoesNotExist."`
	Values   []string `json:"values,omitempty" doc:"Values for In and NotIn."`
}

// The operators of a [LabelRequirement].
const (
	OperatorIn           = "In"
	OperatorNotIn        = "NotIn"
	OperatorExists       = "Exists"
	OperatorDoesNotExist = "DoesNotExist"
)

// MatrixGenerator yields the product of its generators.
type MatrixGenerator struct {
	Generators []Generator `json:"generators" doc:"Two generators or more, as in spec.generators."`
}

// MergeGenerator yields what its first generator does, with what the others say
// of elements with the same keys.
type MergeGenerator struct {
	Generators []Generator `json:"generators" doc:"Two generators or more, as in spec.generators. Later ones win; what they yield for no element of the first is left out."`
	Keys       []string    `json:"keys" doc:"Parameters that tell which elements belong together, such as name or path.basename."`
}

// What becomes of applications that a set no longer makes.
const (
	DeletionDelete = "delete"
	DeletionOrphan = "orphan"
)

// DefaultApplicationSetSpec is what an ApplicationSet means where it says nothing.
func DefaultApplicationSetSpec() ApplicationSetSpec {
	return ApplicationSetSpec{Template: DefaultApplicationTemplate(), PruneLimit: PruneLimit{Percent: 50, From: 4}, Deletion: DeletionDelete}
}

// DefaultApplicationTemplate is what a template means where it says nothing.
func DefaultApplicationTemplate() ApplicationTemplate {
	return ApplicationTemplate{Spec: DefaultApplicationSpec()}
}

// Matches says whether labels fit a selector.
func (g *ClustersGenerator) Matches(labels map[string]string) bool {
	for k, v := range g.MatchLabels {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	for i := range g.MatchExpressions {
		if !g.MatchExpressions[i].met(labels) {
			return false
		}
	}
	return true
}

func (r *LabelRequirement) met(labels map[string]string) bool {
	v, ok := labels[r.Key]
	in := false
	for _, want := range r.Values {
		in = in || ok && v == want
	}
	switch r.Operator {
	case OperatorIn:
		return in
	case OperatorNotIn:
		return !in
	case OperatorExists:
		return ok
	}
	return !ok
}
