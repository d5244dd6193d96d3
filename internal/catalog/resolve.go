package catalog

import (
	"fmt"
	"maps"
	"strings"

	"github.com/belaydev/belay"
)

// A resolution is an application with its defaults filled in and checked
// against everything else that is declared.
type resolution struct {
	doc *document
	app belay.Application
	// url is where the sources are, a line each; empty if that cannot be told.
	url string
	// err says why the application must not be synced.
	err      *belay.Error
	problems []*belay.Error
	// because are definitions that are wrong and that it needs: their own problems
	// tell it, once for all that need them.
	because map[*document]bool
}

func (r *resolution) same(o *resolution) bool {
	if r == o {
		return true
	}
	if (r.err == nil) != (o.err == nil) || r.err != nil && r.err.Message != o.err.Message {
		return false
	}
	return r.url == o.url && maps.Equal(r.app.Labels, o.app.Labels) && maps.Equal(r.app.Annotations, o.app.Annotations) &&
		equal(r.app.Spec, o.app.Spec)
}

// resolve fills in and checks one application.
func (c *Catalog) resolve(d *document, prev *Catalog) *resolution {
	spec := d.spec.(belay.ApplicationSpec)
	r := &resolution{doc: d, app: belay.Application{
		Name: d.key.name, Labels: d.labels, Annotations: d.annotations, Spec: spec, Origin: c.originOf(d), Set: d.set,
	}}
	failed := func(because *document, field string, code belay.Code, message, hint string) {
		if d.state == partial {
			return // what it lacks is told already, and the rest may be half of a thought
		}
		if d.set != "" { // others have the same line
			message += fmt.Sprintf(" (for application %q of ApplicationSet %q)", d.key.name, d.set)
		}
		e := c.problem(code, c.origin(d.file, d.lineOf(field), d.revision), message, hint)
		e.Application = d.key.name
		if because == nil {
			r.problems = append(r.problems, e)
		} else {
			if r.because == nil {
				r.because = map[*document]bool{}
			}
			r.because[because] = true
		}
		if r.err == nil {
			r.err = e
		}
	}
	fail := func(field string, code belay.Code, message, hint string) { failed(nil, field, code, message, hint) }
	needs := func(d *document, field string) {
		failed(d, field, belay.CodeInvalid, fmt.Sprintf("%s is declared, but wrong (%s)", d.key, c.originOf(d)), "mend the "+d.key.kind)
	}
	if d.state == partial {
		r.err = c.problem(belay.CodeInvalid, c.origin(d.file, d.problem.line, ""), d.problem.message, d.problem.hint)
		r.err.Application = d.key.name
	}
	var limits *belay.Project
	if project, ok := c.resolveProject(spec.Project, fail, needs); ok {
		limits = &project
	}
	c.resolveSources(r, limits, fail, needs)
	if limits != nil && d.set != "" {
		c.permitSet(d.set, limits, fail)
	}
	c.resolveCluster(r, prev, fail, needs)
	return r
}

type (
	failFunc func(field string, code belay.Code, message, hint string)
	// needsFunc fails because of another definition, which is declared but wrong.
	needsFunc func(d *document, field string)
)

// missing says that something named is not declared, with the nearest that is.
func (c *Catalog) missing(kind, name string) string {
	declared := c.env.names(kind)
	message := fmt.Sprintf("%s %q is not declared", kind, name)
	if n := nearest(name, declared); n != "" {
		message += fmt.Sprintf(", did you mean %q?", n)
	} else if len(declared) > 0 && len(declared) <= 8 {
		message += "; there are " + strings.Join(declared, ", ")
	}
	if f := c.hiding(kind); f != "" {
		message += "; it may be in " + f + ", which cannot be read"
	}
	return message
}

func (c *Catalog) resolveProject(name string, fail failFunc, needs needsFunc) (p belay.Project, ok bool) {
	if p, ok = c.Projects[name]; ok {
		return p, true
	}
	if d := c.env.docs[key{"Project", name}]; d != nil {
		needs(d, "spec.project")
		return p, false
	}
	if name == belay.DefaultProject {
		fail("spec.project", belay.CodeInvalid,
			fmt.Sprintf("what the default project allows cannot be told: %s cannot be read and may declare it", c.env.openUnknown), "mend "+c.env.openUnknown)
		return p, false
	}
	fail("spec.project", belay.CodeNotFound, c.missing("Project", name), "declare it, or leave spec.project out")
	return p, false
}

// resolveCluster fills in the cluster. Where that is not possible, the cluster
// that the application had before stays, for showing.
func (c *Catalog) resolveCluster(r *resolution, prev *Catalog, fail failFunc, needs needsFunc) {
	dest := &r.app.Spec.Destination
	if dest.Cluster == "" {
		if dest.Cluster = c.env.only; dest.Cluster == "" {
			dest.Cluster = prev.Applications[r.app.Name].Spec.Destination.Cluster
			if f := c.env.onlyUnknown; f != "" {
				fail("spec.destination", belay.CodeInvalid,
					fmt.Sprintf("the cluster cannot be told: none is named, and %s cannot be read and may declare one", f),
					"name it in spec.destination.cluster, or mend "+f)
				return
			}
			fail("spec.destination", belay.CodeInvalid,
				"spec.destination.cluster is missing: there are several clusters, "+strings.Join(c.env.clusters, ", "), "name one of them")
			return
		}
	}
	declared := c.env.clusters
	if _, ok := c.Clusters[dest.Cluster]; ok {
		return
	}
	if dest.Cluster == belay.LocalCluster && c.env.only == belay.LocalCluster {
		return // not declared, as no other is
	}
	if d := c.env.docs[key{"Cluster", dest.Cluster}]; d != nil {
		needs(d, "spec.destination.cluster")
		return
	}
	hint := "declare it, or name another"
	switch {
	case dest.Cluster == belay.LocalCluster:
		hint = fmt.Sprintf("since others are declared, declare a Cluster named %q with an empty spec for the server's own", belay.LocalCluster)
	case len(declared) == 0:
		hint = fmt.Sprintf("no Cluster is declared; without one there is only %q", belay.LocalCluster)
	}
	fail("spec.destination.cluster", belay.CodeNotFound, c.missing("Cluster", dest.Cluster), hint)
}
