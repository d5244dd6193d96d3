package belay

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
)

// DefaultProject is the project of applications that name none. It allows
// everything unless a Project of that name is declared.
const DefaultProject = "default"

// Project limits what its applications may read and touch.
type Project struct {
	Name   string      `json:"name"`
	Spec   ProjectSpec `json:"spec"`
	Origin Origin      `json:"origin"`
}

// ProjectSpec is the spec of a Project. An empty list allows nothing, except
// where a field says otherwise.
type ProjectSpec struct {
	Description string `json:"description,omitempty" doc:"What the project is for."`
	// Sources that applications may use. An application needs one rule that fits both.
	Sources []SourceRule `json:"sources,omitempty" doc:"Repositories and paths that applications may use."`
	// Destinations that applications may deliver to.
	Destinations []DestinationRule `json:"destinations,omitempty" doc:"Clusters and namespaces that applications may deliver to."`
	// Kinds of namespaced objects, as patterns "group/Kind" ("Secret" is of the
	// core group, "*" is every kind). Default ["*"].
	Kinds []string `json:"kinds,omitempty" doc:"Namespaced kinds allowed: \"apps/Deployment\", \"Secret\" (core group), \"batch/*\", \"*\"."`
	// ClusterKinds are the cluster-scoped kinds allowed, in the same form. Default none.
	ClusterKinds []string `json:"clusterKinds,omitempty" doc:"Cluster-scoped kinds allowed, in the same form."`
	// DeniedKinds wins over both.
	DeniedKinds []string `json:"deniedKinds,omitempty" doc:"Kinds refused even if allowed above."`
	// InteractiveManagers are field managers whose additions by hand are undone.
	// Default: [DefaultInteractiveManagers].
	InteractiveManagers []string `json:"interactiveManagers,omitempty" doc:"Field managers of tools people use by hand; fields they add to a managed object are removed."`
	// Windows say when automatic syncs may run. With allow windows they run only
	// inside one; a deny window wins.
	Windows []Window `json:"windows,omitempty" doc:"When syncs may run: with allow windows only inside one of them, and never inside a deny window."`
	// ServiceAccount is impersonated for every write of the project's applications,
	// so that the cluster's own RBAC decides what they may touch.
	ServiceAccount *ServiceAccount `json:"serviceAccount,omitempty" doc:"ServiceAccount that is impersonated for every write, so that the cluster's RBAC decides what the project may touch."`
	// Decryption holds the keys for SOPS-encrypted files of the project's applications.
	Decryption *Decryption `json:"decryption,omitempty" doc:"Keys that SOPS-encrypted files are decrypted with."`
	// Rollback says how the commits of rollbacks come into repositories.
	Rollback RollbackPolicy `json:"rollback,omitzero" doc:"How the commits of rollbacks come into repositories."`
	// Signatures say what has to be signed before it is deployed, and by whom.
	Signatures *Signatures `json:"signatures,omitempty" doc:"What has to be signed before it is deployed, and by whom."`
	// Confirm holds tokens that held removals of whole applications ask for.
	Confirm []string `json:"confirm,omitempty" doc:"Tokens that held removals of applications printed."`
}

// SourceRule allows paths of repositories.
type SourceRule struct {
	// Repo is a glob over the name of a Repository or its URL; * does not cross "/", ** does.
	Repo string `json:"repo" doc:"Glob over the Repository's name or URL; * stays within a path segment, ** does not."`
	// Paths are globs. An application's path must fit one; what is read must fit, or
	// a directory above it. Default ["**"].
	Paths []string `json:"paths,omitempty" doc:"Globs over paths within the repository. An application's path must fit one, and all that is read for it must lie in one that fits, where symlinks and ../ lead included. Default: all."`
}

// DestinationRule allows namespaces of clusters.
type DestinationRule struct {
	// Cluster is a glob over the cluster's name. Default "*".
	Cluster string `json:"cluster,omitempty" doc:"Glob over the cluster's name. Default: all."`
	// Namespaces are globs. Default ["*"].
	Namespaces []string `json:"namespaces,omitempty" doc:"Globs over namespaces. Default: all."`
}

// Window is a recurring time in which syncs may, or may not, run.
type Window struct {
	// Kind is "allow" or "deny".
	Kind string `json:"kind" doc:"allow or deny."`
	// Schedule is when it begins, in five cron fields, in TimeZone.
	Schedule string `json:"schedule" doc:"When it begins, in five cron fields: minute, hour, day of month, month, day of week."`
	// Duration is how long it lasts, a Go duration.
	Duration string `json:"duration" doc:"How long it lasts, such as 8h."`
	// TimeZone is an IANA name. Default UTC.
	TimeZone string `json:"timeZone,omitempty" doc:"IANA time zone of the schedule."`
	// Applications and Clusters are globs. Default: all of the project's.
	Applications []string `json:"applications,omitempty" doc:"Globs over the applications it is for. Default: all of the project's."`
	Clusters     []string `json:"clusters,omitempty" doc:"Globs over the clusters it is for. Default: all."`
	// Manual lets syncs that somebody asked for run at any time. Default false.
	Manual bool `json:"manual,omitempty" doc:"Whether a sync that somebody asked for may run in spite of it."`
	// Reason is shown to those who wait.
	Reason string `json:"reason,omitempty" doc:"Why, for those who wait."`
}

// The kinds of a [Window].
const (
	WindowAllow = "allow"
	WindowDeny  = "deny"
)

// DefaultWindow is what a Window means where it says nothing.
func DefaultWindow() Window { return Window{TimeZone: "UTC"} }

// ServiceAccount names a ServiceAccount of the destination cluster.
type ServiceAccount struct {
	Namespace string `json:"namespace" doc:"Namespace of the ServiceAccount."`
	Name      string `json:"name" doc:"Name of the ServiceAccount."`
}

// User is the name by which Kubernetes knows the ServiceAccount.
func (s ServiceAccount) User() string {
	return "system:serviceaccount:" + s.Namespace + ":" + s.Name
}

// Decryption says what SOPS-encrypted files are decrypted with. They are
// decrypted by the server, never where files are rendered.
type Decryption struct {
	// Age are age private keys, one or several a value.
	Age []Reference `json:"age,omitempty" doc:"age private keys."`
	// PGP are armored private keys without a passphrase.
	PGP []Reference `json:"pgp,omitempty" doc:"Armored PGP private keys without a passphrase."`
	// KMS allows the server's own cloud identity to be used for keys in AWS, GCP and
	// Azure key services. Default false.
	KMS bool `json:"kms,omitempty" doc:"Allow keys of cloud key services, by the server's own cloud identity."`
}

// DefaultProjectSpec is what a declared Project means where it says nothing.
func DefaultProjectSpec() ProjectSpec {
	return ProjectSpec{Kinds: []string{"*"}, InteractiveManagers: DefaultInteractiveManagers(), Rollback: DefaultRollbackPolicy()}
}

// OpenProject is the project that applies when no Project named "default" is
// declared: it allows everything.
func OpenProject() Project {
	s := DefaultProjectSpec()
	s.Description = "Allows everything; declare a Project named default to limit it."
	s.Sources = []SourceRule{{Repo: "**"}}
	s.Destinations = []DestinationRule{{}}
	s.ClusterKinds = []string{"*"}
	return Project{Name: DefaultProject, Spec: s}
}

// DefaultInteractiveManagers are the field managers of tools that people type
// into: kubectl's own verbs as kubectl names them, and common terminal and web
// clients. kubectl-rollout is not among them: what "kubectl rollout restart" adds
// is a request to the Deployment, and to undo it would restart the pods again.
func DefaultInteractiveManagers() []string {
	return []string{
		"kubectl", "kubectl-edit", "kubectl-patch", "kubectl-label", "kubectl-annotate", "kubectl-set", "kubectl-replace",
		"kubectl-client-side-apply", "k9s", "Lens", "OpenLens", "freelens", "headlamp", "dashboard", "Mozilla",
	}
}

// PermitSource says whether an application of the project may be rendered from
// a path. repoNames are the names the repository goes by: its Repository's name, its URL.
func (p *Project) PermitSource(repoNames []string, sourcePath string) error {
	for _, r := range p.Spec.Sources {
		if !slices.ContainsFunc(repoNames, func(n string) bool { return MatchGlob(r.Repo, n) }) {
			continue
		}
		if len(r.Paths) == 0 || matchAny(r.Paths, path.Clean(strings.TrimPrefix(sourcePath, "/"))) {
			return nil
		}
	}
	return &Error{Code: CodeDenied,
		Message: fmt.Sprintf("project %q does not allow the source %s, path %q", p.Name, strings.Join(repoNames, " or "), sourcePath),
		Hint:    "add it to spec.sources of the Project, or move the application to another project"}
}

// PermitRead says whether a file or directory of a repository may be read: it, or a
// directory that it lies in, must be allowed.
func (p *Project) PermitRead(repoNames []string, file string) error {
	first := p.PermitSource(repoNames, file)
	if first == nil {
		return nil
	}
	for at := path.Clean(file); at != "." && at != "/"; {
		if at = path.Dir(at); p.PermitSource(repoNames, at) == nil {
			return nil
		}
	}
	return first
}

// PermitsAllOf says whether every path of a repository may be read.
func (p *Project) PermitsAllOf(repoNames []string) bool {
	return slices.ContainsFunc(p.Spec.Sources, func(r SourceRule) bool {
		return (len(r.Paths) == 0 || slices.Contains(r.Paths, "**")) && slices.ContainsFunc(repoNames, func(n string) bool { return MatchGlob(r.Repo, n) })
	})
}

// Permit is the right to write or delete one object on behalf of an application.
// Only [Project.Permit] makes one, and the cluster adapter takes nothing else: no
// write goes around a Project.
type Permit struct {
	application string
	cluster     string
	id          ObjectID
	account     *ServiceAccount
	propagation string
}

// Application on whose behalf the permit was given.
func (p Permit) Application() string { return p.application }

// Cluster the permit is good for.
func (p Permit) Cluster() string { return p.cluster }

// ID of the only object the permit is good for.
func (p Permit) ID() ObjectID { return p.id }

// ServiceAccount as which the write has to be sent; ok is false for Belay's own identity.
func (p Permit) ServiceAccount() (account ServiceAccount, ok bool) {
	if p.account == nil {
		return ServiceAccount{}, false
	}
	return *p.account, true
}

// Propagation is how a deletion treats the object's dependents.
func (p Permit) Propagation() string { return cmp.Or(p.propagation, PropagationBackground) }

// Permit checks one object of an application against the project. namespaced
// comes from the cluster, not from the manifest.
func (p *Project) Permit(app *Application, cluster string, id ObjectID, namespaced bool) (Permit, error) {
	deny := func(format string, args ...any) (Permit, error) {
		return Permit{}, &Error{Code: CodeDenied, Application: app.Name, Object: id.String(),
			Message: fmt.Sprintf("project %q does not allow ", p.Name) + fmt.Sprintf(format, args...),
			Hint:    "change the Project, or move the application to another project"}
	}
	allowed, list := p.Spec.Kinds, "kinds"
	if !namespaced {
		allowed, list = p.Spec.ClusterKinds, "clusterKinds"
	}
	if matchKind(p.Spec.DeniedKinds, id) {
		return deny("the kind %s (spec.deniedKinds)", id.GroupKind())
	}
	if !matchKind(allowed, id) {
		return deny("the kind %s (spec.%s)", id.GroupKind(), list)
	}
	ns := id.Namespace
	if !namespaced && id.Group == "" && id.Kind == "Namespace" {
		ns = id.Name // making a namespace is touching it
	}
	for _, d := range p.Spec.Destinations {
		if d.Cluster != "" && !MatchGlob(d.Cluster, cluster) {
			continue
		}
		if ns == "" || len(d.Namespaces) == 0 || matchAny(d.Namespaces, ns) {
			return Permit{application: app.Name, cluster: cluster, id: id, account: p.Spec.ServiceAccount, propagation: app.Spec.Sync.Propagation}, nil
		}
	}
	if ns == "" {
		return deny("the cluster %q (spec.destinations)", cluster)
	}
	return deny("the namespace %q of cluster %q (spec.destinations)", ns, cluster)
}

func matchKind(patterns []string, id ObjectID) bool {
	return slices.ContainsFunc(patterns, func(pat string) bool {
		if pat == "*" || pat == "*/*" {
			return true
		}
		group, kind := "", pat
		if i := strings.LastIndexByte(pat, '/'); i >= 0 {
			group, kind = pat[:i], pat[i+1:]
		}
		return (group == "*" || group == id.Group) && MatchGlob(kind, id.Kind)
	})
}

func matchAny(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return MatchGlob(p, s) })
}

// MatchGlob matches s against a slash-separated pattern: ? and [..] and *
// stay within a segment, ** stands for any number of segments. A malformed
// pattern matches nothing.
func MatchGlob(pattern, s string) bool {
	return matchSegments(strings.Split(pattern, "/"), strings.Split(s, "/"))
}

// matchSegments takes a time that is bounded by the product of the lengths.
func matchSegments(pat, s []string) bool {
	at := make([]bool, len(s)+1) // whether what was looked at of the pattern fits the first n segments
	at[0] = true
	for _, p := range pat {
		next := make([]bool, len(s)+1)
		for n := range at {
			switch {
			case p == "**":
				next[n] = at[n] || n > 0 && next[n-1]
			case n > 0 && at[n-1]:
				ok, err := path.Match(p, s[n-1])
				next[n] = ok && err == nil
			}
		}
		at = next
	}
	return at[len(s)]
}
