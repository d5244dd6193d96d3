package catalog

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/url"
	"path"
	"reflect"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

func equal(a, b any) bool { return reflect.DeepEqual(a, b) }

// assemble makes the public part of the catalog from its files.
func (c *Catalog) assemble(ctx context.Context, files Files, prev *Catalog) error {
	c.inForce = make(map[key]*document, len(prev.inForce))
	twice := map[key][]*document{}
	for _, p := range slices.Sorted(maps.Keys(c.files)) {
		f := c.files[p]
		for _, fp := range f.problems {
			e := c.problem(belay.CodeInvalid, c.origin(p, fp.line, ""), fp.message, fp.hint)
			e.Application = fp.application
			c.Problems = append(c.Problems, *e)
		}
		for _, d := range f.docs {
			held, ok := c.inForce[d.key]
			if !ok {
				c.inForce[d.key] = d
				continue
			}
			if c.prefer(d, held, prev) {
				held, d = d, held
				c.inForce[d.key] = held
			}
			if !d.absent {
				twice[d.key] = append(twice[d.key], d)
			}
		}
	}
	c.reportTwice(twice)
	c.linger(prev)
	c.surroundings(prev)
	c.healthRules()
	if err := c.expandSets(ctx, files, prev); err != nil {
		return err
	}
	c.applications(prev)
	slices.SortStableFunc(c.Problems, func(a, b belay.Error) int {
		return cmp.Or(cmp.Compare(a.Origin.File, b.Origin.File), cmp.Compare(a.Origin.Line, b.Origin.Line),
			cmp.Compare(a.Message, b.Message), cmp.Compare(a.Application, b.Application), cmp.Compare(a.Origin.Revision, b.Origin.Revision))
	})
	return nil
}

func (c *Catalog) origin(file string, line int, revision string) belay.Origin {
	return belay.Origin{Repo: c.opts.Repo, Revision: cmp.Or(revision, c.opts.Revision), File: file, Line: line}
}

func (c *Catalog) originOf(d *document) belay.Origin { return c.origin(d.file, d.line, d.revision) }

func (c *Catalog) problem(code belay.Code, origin belay.Origin, message, hint string) *belay.Error {
	return &belay.Error{Code: code, Origin: origin, Message: message, Hint: hint}
}

// prefer says whether d takes the place of held, which comes before it: what is
// written wins over what is only remembered, that over what never was right, and
// what is known over what is new.
func (c *Catalog) prefer(d, held *document, prev *Catalog) bool {
	if a, b := d.worth(), held.worth(); a != b {
		return a > b
	}
	before := prev.inForce[d.key]
	return before != nil && before.file == d.file && before.file != held.file
}

// reportTwice reports definitions that are written more than once.
func (c *Catalog) reportTwice(twice map[key][]*document) {
	for k, losers := range twice {
		held := c.inForce[k]
		for _, d := range losers {
			e := c.problem(belay.CodeInvalid, c.originOf(d),
				fmt.Sprintf("%s is declared twice, here and at %s, which stays in force", k, c.originOf(held)), "remove or rename one of them")
			if k.kind == "Application" {
				e.Application = k.name
			}
			c.Problems = append(c.Problems, *e)
		}
	}
}

// linger keeps definitions that are gone while some document cannot be told by
// kind and name: nobody knows that it is not one of these.
func (c *Catalog) linger(prev *Catalog) {
	held := func(k key, d *document, format string, args ...any) {
		e := c.problem(belay.CodeHeld, c.originOf(d), k.String()+" "+fmt.Sprintf(format, args...), "")
		if k.kind == "Application" {
			e.Application = k.name
		}
		c.Problems = append(c.Problems, *e)
	}
	for _, p := range c.Broken() {
		f := c.files[p]
		for _, d := range f.docs {
			if d.absent && !f.unreadable && c.inForce[d.key] == d {
				held(d.key, d, "is no longer written here, but stays as it was until the rest of the file is mended")
			}
		}
	}
	blockers := c.filesWhere(func(f *file) bool { return f.unreadable })
	if len(blockers) == 0 {
		return
	}
	for k, d := range prev.inForce {
		if c.inForce[k] == nil && d.state != partial && d.set == "" { // a set keeps its own
			d = d.asStale(prev.opts.Revision, true)
			c.inForce[k] = d
			held(k, d, "is gone, but stays as it was until %s can be read: it may have moved there", blockers[0])
		}
	}
}

// An environment is what applications are checked against.
type environment struct {
	opts Options
	// docs are the documents in force that are no applications.
	docs map[key]*document
	// clusters are the declared ones, right or not, sorted.
	clusters []string
	// only is the cluster of applications that name none; "" if that cannot be told.
	only string
	// onlyUnknown and openUnknown name a broken file that may declare a Cluster or
	// the default Project, so that it cannot be told what their absence means.
	onlyUnknown, openUnknown string
	open                     bool // the default project is the open one
}

func (e *environment) same(o *environment) bool {
	return e.opts.Repo == o.opts.Repo && e.opts.Ref == o.opts.Ref && e.only == o.only && e.onlyUnknown == o.onlyUnknown &&
		e.openUnknown == o.openUnknown && e.open == o.open && maps.Equal(e.docs, o.docs)
}

// names of the declared definitions of a kind, right or not, sorted.
func (e *environment) names(kind string) []string {
	var out []string
	for k := range e.docs {
		if k.kind == kind {
			out = append(out, k.name)
		}
	}
	slices.Sort(out)
	return out
}

// surroundings fills projects, clusters, repositories and the environment.
func (c *Catalog) surroundings(prev *Catalog) {
	c.Projects, c.Clusters, c.Repositories = map[string]belay.Project{}, map[string]belay.Cluster{}, map[string]belay.Repository{}
	c.env = environment{opts: c.opts, docs: map[key]*document{}}
	for k, d := range c.inForce {
		if k.kind == "Application" || k.kind == kindHealthRule || k.kind == setKind.name {
			continue
		}
		c.env.docs[k] = d
		if d.state == partial {
			continue
		}
		switch spec := d.spec.(type) {
		case belay.ProjectSpec:
			c.Projects[k.name] = belay.Project{Name: k.name, Spec: spec, Origin: c.originOf(d)}
		case belay.ClusterSpec:
			c.Clusters[k.name] = belay.Cluster{Name: k.name, Labels: d.labels, Spec: spec, Origin: c.originOf(d)}
		case belay.RepositorySpec:
			c.Repositories[k.name] = belay.Repository{Name: k.name, Spec: spec, Origin: c.originOf(d)}
		}
	}
	c.indexURLs()

	c.env.clusters = c.env.names("Cluster")
	c.defaults(prev)
	if c.env.open {
		c.Projects[belay.DefaultProject] = belay.OpenProject()
	}
}

// defaults finds the cluster of applications that name none, and whether the
// default project is open. Both may rest on nothing being declared, which is only
// as good as our knowledge of what is declared. While a broken document may declare
// it, the default of before stays; without one, nothing is guessed.
func (c *Catalog) defaults(prev *Catalog) {
	switch right := slices.Sorted(maps.Keys(c.Clusters)); {
	case len(right) == 1:
		c.env.only = right[0]
	case len(right) > 1:
	case len(c.env.clusters) == 0 && c.hiding("Cluster") == "", prev.env.only == belay.LocalCluster:
		c.env.only = belay.LocalCluster
	case len(c.env.clusters) == 1:
		c.env.only = c.env.clusters[0] // wrong, and its applications have an error
	case len(c.env.clusters) == 0:
		c.env.onlyUnknown = c.hiding("Cluster")
	}
	if _, ok := c.Projects[belay.DefaultProject]; ok {
		return
	}
	hiding := c.hiding("Project")
	if d := c.env.docs[key{"Project", belay.DefaultProject}]; d != nil {
		hiding = d.file
	}
	if c.env.open = hiding == "" || prev.env.open; !c.env.open {
		c.env.openUnknown = hiding
	}
}

// hiding is a file that may declare a definition of the kind, for all that can
// be told; "" if there is none.
func (c *Catalog) hiding(kind string) string {
	files := c.filesWhere(func(f *file) bool { return f.mayHide(kind) })
	if len(files) == 0 {
		return ""
	}
	return files[0]
}

// indexURLs finds repositories by URL, and reports those that share one.
func (c *Catalog) indexURLs() {
	c.byURL = map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(c.Repositories)) {
		u := normalURL(c.Repositories[name].Spec.URL)
		c.byURL[u] = append(c.byURL[u], name)
		first := c.byURL[u][0]
		if first == name {
			continue
		}
		d := c.inForce[key{"Repository", name}]
		c.Problems = append(c.Problems, *c.problem(belay.CodeInvalid, c.origin(d.file, d.lineOf("spec.url"), d.revision),
			fmt.Sprintf("Repository %q has the same URL as Repository %q (%s)", name, first, c.Repositories[first].Origin),
			"remove one of them: which credentials are used for the URL is not certain otherwise"))
	}
}

// normalURL is equal for spellings of a URL that mean one repository: they may
// differ in the case of scheme and host, a default port, a slash or .git at the
// end, and in ssh:// against user@host:path.
func normalURL(s string) string {
	if strings.HasPrefix(s, "/") {
		return "file://" + path.Clean(s)
	}
	if !strings.Contains(s, "://") {
		host, p, ok := strings.Cut(s, ":")
		if !ok {
			return s
		}
		s = "ssh://" + host + "/" + strings.TrimLeft(p, "/")
	}
	u, err := url.Parse(s)
	if err != nil {
		return s
	}
	if u.Scheme == "file" {
		return "file://" + path.Clean(u.Path) // where .git makes a difference
	}
	host := strings.ToLower(u.Host)
	host = strings.TrimSuffix(host, map[string]string{"http": ":80", "https": ":443", "ssh": ":22"}[u.Scheme])
	if u.Scheme == "ssh" && u.User != nil {
		host = u.User.Username() + "@" + host
	}
	return u.Scheme + "://" + host + strings.TrimSuffix(path.Clean("/"+u.Path), ".git")
}

// applications fills Applications and ApplicationErrors.
func (c *Catalog) applications(prev *Catalog) {
	n := max(len(c.inForce)-len(c.env.docs)-len(c.sets), 0)
	c.Applications, c.ApplicationErrors = make(map[string]belay.Application, n), map[string]error{}
	c.resolved = make(map[string]*resolution, n)
	same := c.env.same(&prev.env)
	for k, d := range c.inForce {
		if k.kind != "Application" {
			continue
		}
		r := prev.resolved[k.name]
		if r == nil || !same || r.doc != d || len(r.problems) > 0 || r.err != nil {
			r = c.resolve(d, prev)
		}
		c.resolved[k.name] = r
	}
	c.dependencies()
	waiting := map[*document]int{}
	for name, r := range c.resolved {
		for d := range r.because {
			waiting[d]++
		}
		app := r.app
		app.Origin = c.originOf(r.doc)
		c.Applications[name] = app
		if r.err != nil {
			c.ApplicationErrors[name] = r.err
		}
		for _, p := range r.problems {
			c.Problems = append(c.Problems, *p)
		}
	}
	c.reportWaiting(waiting)
}

// reportWaiting says at a definition that is wrong how many applications wait for
// it to be mended.
func (c *Catalog) reportWaiting(waiting map[*document]int) {
	for d, n := range waiting {
		apps := "an application waits"
		if n > 1 {
			apps = fmt.Sprintf("%d applications wait", n)
		}
		i := slices.IndexFunc(c.Problems, func(e belay.Error) bool {
			return d.problem != nil && e.Origin.File == d.file && e.Origin.Line == d.problem.line && e.Message == d.problem.message
		})
		if i >= 0 {
			c.Problems[i].Message += fmt.Sprintf("; %s for this %s", apps, d.key.kind)
			continue
		}
		c.Problems = append(c.Problems, *c.problem(belay.CodeInvalid, c.originOf(d), fmt.Sprintf("%s is wrong, and %s for it", d.key, apps), "mend the "+d.key.kind))
	}
}
