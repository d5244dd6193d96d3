// Package catalog turns the definitions at one commit into applications,
// projects, clusters and repositories, and says with file and line what is wrong
// with them. What cannot be read keeps the meaning it had last.
//
// It is a function of files and of the catalog before. It must not know where
// files come from, what a cluster is like, or what is done with an application;
// it keeps no state but the catalog it returns.
package catalog

import (
	"context"
	"maps"
	"slices"

	"io/fs"

	"github.com/belaydev/belay"
)

// Files is the tree of one commit, or a working directory. Paths are
// slash-separated and relative to its root, which is ".".
type Files interface {
	ReadFile(path string) ([]byte, error)
	// ReadDir lists a directory. Entries whose name begins with "." are ignored.
	ReadDir(path string) ([]fs.DirEntry, error)
	// Digest identifies what a read would return: a file with the same digest is
	// not read again. Load asks for the kinds file and stat.
	Digest(kind belay.ReadKind, path string) (string, error)
}

// Trees is what [Files] may offer beside its methods: with it a directory in
// which nothing changed costs one call instead of one for each file.
type Trees interface {
	// TreeDigest identifies a directory with everything below it, like the object
	// id of a Git tree. It is an error for anything but a directory, and
	// errors.ErrUnsupported where directories have no digest.
	TreeDigest(path string) (string, error)
}

// Options say what is loaded.
type Options struct {
	// Root is the directory of the definitions; "" and "." are the whole repository.
	Root string
	// Repo is the URL of the config repository, without credentials; empty for a
	// working directory. It is what an empty spec.source.repo becomes.
	Repo string
	// Ref that is followed for the config repository. It is what an empty
	// spec.source.ref becomes in an application of that repository.
	Ref string
	// Revision is the commit; empty for a working directory.
	Revision string
	// OpenTree opens trees of other repositories and refs for ApplicationSets. Without
	// it, sets that read one keep what they made.
	OpenTree OpenTree
}

// A Catalog is everything that is declared at one commit. It and all it points
// to are read-only: catalogs share their values.
type Catalog struct {
	// Applications are all that are declared, with defaults filled in: Repo and
	// Ref of the source, and the cluster (except where ApplicationErrors says that
	// it cannot be told). Each stands under its name.
	Applications map[string]belay.Application
	// ApplicationErrors are the applications that must not be synced now, with the
	// reason, a *belay.Error. They are declared all the same: they must not be
	// torn down.
	ApplicationErrors map[string]error
	// Projects are the declared ones, and [belay.OpenProject] if "default" is not
	// declared. One that is declared but was never right is not among them; its
	// applications have an error.
	Projects map[string]belay.Project
	// Clusters are the declared ones; empty means that only [belay.LocalCluster] is there.
	Clusters map[string]belay.Cluster
	// Repositories are the declared ones.
	Repositories map[string]belay.Repository
	// HealthRules are the declared ones.
	HealthRules map[string]belay.HealthRule
	// Holds are the applications that their ApplicationSet no longer makes, but that
	// stay until that is confirmed, each with the reason.
	Holds map[string]*belay.Error
	// Problems is everything that is wrong, sorted by file and line.
	Problems []belay.Error

	opts Options
	// files by path, each with what it says and what is kept of what it said.
	files map[string]*file
	dirs  map[string]*dir
	// inForce is the one document for each definition.
	inForce  map[key]*document
	resolved map[string]*resolution
	env      environment
	sets     map[string]*expansion
	byURL    map[string][]string // normal URL -> names of the Repositories that have it, sorted
	// meaning is shared by the catalogs of commits between which no definition changed.
	meaning *meaning
}

// Load reads the definitions in files. prev is the catalog of the commit before,
// or nil; what has not changed since is not read again, and what can no longer
// be read keeps the meaning it has there:
//
//   - A document that is wrong means what it meant in prev. The other documents
//     of its file take effect.
//   - A definition that is gone stays while any document cannot even be told by
//     kind and name: it may have moved there.
//   - Of two definitions of one kind and name, the one known before stays.
//   - An ApplicationSet in which something is wrong, also in a file with parameters,
//     makes what it can, and removes nothing.
//
// What is wrong in a file is in Problems and not an error. The error, a
// *belay.Error where the cause is known, means that files could not be read at
// all; prev then still holds.
func Load(ctx context.Context, files Files, opts Options, prev *Catalog) (*Catalog, error) {
	opts.Root = cleanPath(opts.Root)
	if prev == nil {
		prev = &Catalog{}
	}
	if next := prev.carriedOn(files, opts); next != nil {
		return next, nil
	}
	c := &Catalog{opts: opts, files: map[string]*file{}, dirs: map[string]*dir{}}
	if err := c.read(ctx, files, prev); err != nil {
		return nil, err
	}
	if err := c.assemble(ctx, files, prev); err != nil {
		return nil, err
	}
	// It opens trees of this load. What it holds may be the catalog before, which
	// would hold the one before that: none of them would ever be freed.
	c.opts.OpenTree, c.env.opts.OpenTree = nil, nil
	c.meaning = &meaning{ofTree: c.followsFromTree()}
	return c, nil
}

// Broken lists the files in which something is wrong, sorted. Definitions that
// merely refer to something wrong do not make a file broken.
func (c *Catalog) Broken() []string { return c.filesWhere(func(f *file) bool { return f.broken }) }

// Stale says whether a file is broken and definitions in force are those it held
// before.
func (c *Catalog) Stale(path string) bool {
	f := c.files[path]
	return f != nil && f.broken && f.remembers()
}

// Forgotten lists the broken files of which it is not known what they declare,
// now or before, sorted. It is part of [Catalog.TeardownBlockers].
func (c *Catalog) Forgotten() []string {
	return c.filesWhere(func(f *file) bool { return f.unreadable && !f.remembers() })
}

// TeardownBlockers lists the files of which it cannot be told what all they
// declare, sorted. While there is one, nothing may be torn down for not being
// declared: Load keeps what it knew from prev, but what the cluster holds from
// before a restart may be declared in one of these.
func (c *Catalog) TeardownBlockers() []string {
	return append(c.filesWhere(func(f *file) bool { return f.unreadable }), c.unknownSets()...)
}

func (c *Catalog) filesWhere(ok func(*file) bool) []string {
	var out []string
	for p, f := range c.files {
		if ok(f) {
			out = append(out, p)
		}
	}
	slices.Sort(out)
	return out
}

// Repository finds a repository by its name or URL. A URL that no Repository has
// gives one without a name and with defaults; ok is false for a name that is
// not declared and for "".
func (c *Catalog) Repository(nameOrURL string) (r belay.Repository, ok bool) {
	if r, ok := c.Repositories[nameOrURL]; ok {
		return r, true
	}
	if !isURL(nameOrURL) {
		return belay.Repository{}, false
	}
	if names := c.byURL[normalURL(nameOrURL)]; len(names) > 0 {
		return c.Repositories[names[0]], true
	}
	r.Spec = belay.DefaultRepositorySpec()
	r.Spec.URL = nameOrURL
	return r, true
}

// Changes are the names of what differs between two catalogs, sorted.
type Changes struct {
	// Applications: those in Changed have other labels, annotations, spec, error or
	// repository. Where they are written makes no difference.
	Added, Changed, Removed []string
	// Projects, Clusters, Repositories and HealthRules that were added, changed or removed.
	Projects, Clusters, Repositories, HealthRules []string
}

// Empty says whether nothing differs.
func (ch Changes) Empty() bool {
	return len(ch.Added)+len(ch.Changed)+len(ch.Removed)+len(ch.Projects)+len(ch.Clusters)+len(ch.Repositories)+len(ch.HealthRules) == 0
}

// Diff says what is different from prev, which may be nil.
func (c *Catalog) Diff(prev *Catalog) Changes {
	if prev == nil {
		prev = &Catalog{}
	}
	var ch Changes
	for name, r := range c.resolved {
		if before, ok := prev.resolved[name]; !ok {
			ch.Added = append(ch.Added, name)
		} else if !r.same(before) {
			ch.Changed = append(ch.Changed, name)
		}
	}
	for name := range prev.resolved {
		if _, ok := c.resolved[name]; !ok {
			ch.Removed = append(ch.Removed, name)
		}
	}
	slices.Sort(ch.Added)
	slices.Sort(ch.Changed)
	slices.Sort(ch.Removed)
	ch.Projects = changed(prev.Projects, c.Projects, func(a, b belay.Project) bool { return equal(a.Spec, b.Spec) })
	ch.Clusters = changed(prev.Clusters, c.Clusters, func(a, b belay.Cluster) bool { return equal(a.Spec, b.Spec) && maps.Equal(a.Labels, b.Labels) })
	ch.Repositories = changed(prev.Repositories, c.Repositories, func(a, b belay.Repository) bool { return equal(a.Spec, b.Spec) })
	ch.HealthRules = changed(prev.HealthRules, c.HealthRules, func(a, b belay.HealthRule) bool { return equal(a.Spec, b.Spec) })
	return ch
}

// Equal says whether both catalogs mean the same and have the same problems,
// whatever commit they are of.
func (c *Catalog) Equal(o *Catalog) bool {
	return c.Diff(o).Empty() && slices.EqualFunc(c.Problems, o.Problems, func(a, b belay.Error) bool {
		a.Origin.Revision, b.Origin.Revision = "", ""
		return a == b
	})
}

func changed[V any](before, after map[string]V, same func(a, b V) bool) []string {
	var out []string
	for name, b := range after {
		if a, ok := before[name]; !ok || !same(a, b) {
			out = append(out, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// ValidateReference checks that a reference names exactly one place, in the form
// that the place has. The error never repeats what is in the reference.
func ValidateReference(ref belay.Reference) error {
	d := &decoder{lines: map[string]int{}, secret: 1}
	n := 0
	if ref.File != "" {
		n++
		d.checkText(0, "file", ref.File, formatFile)
	}
	if ref.Env != "" {
		n++
		d.checkText(0, "env", ref.Env, formatEnv)
	}
	if s := ref.Secret; s != nil {
		n++
		d.checkText(0, "secret.namespace", s.Namespace, formatSecretNamespace)
		d.checkText(0, "secret.name", s.Name, formatSecretName)
		d.checkText(0, "secret.key", s.Key, formatSecretKey)
	}
	if n != 1 {
		d.wrong(0, "", "a reference must have exactly one of file, env and secret")
	}
	if len(d.problems) == 0 {
		return nil
	}
	return &belay.Error{Code: belay.CodeInvalid, Message: d.problems[0].message, Hint: d.problems[0].hint}
}
