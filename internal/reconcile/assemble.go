package reconcile

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// renderSources renders every source of an application that has objects of its
// own, each with the others in reach, and puts the objects together. What was
// read is in t.reads.
func (e *Engine) renderSources(ctx context.Context, t *target, facts *belay.ClusterFacts, full bool) (Rendered, error) {
	e.mu.Lock()
	cat := e.catalog
	e.mu.Unlock()
	sources, refs := t.def.Spec.AllSources(), refsOf(t.def, cat)
	refs[0] = t.ref // as the pass began with
	named := map[string]refKey{}
	for i, s := range sources {
		if s.Name != "" {
			named[s.Name] = refs[i]
		}
	}
	t.reads, t.found = nil, nil
	all := Rendered{Cached: true}
	var errs []error
	var unfit [][]int
	for i, src := range sources {
		if !t.def.Spec.Renders(i) {
			continue
		}
		out, err := e.renderSource(ctx, t, cat, src, refs[i], named, facts, full)
		t.read(refs[i], out.Reads, named, cat)
		all.Reads = append(all.Reads, out.Reads...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		unfit = append(unfit, out.Unfit)
		all.Objects = append(all.Objects, out.Objects...)
		all.Warnings = append(all.Warnings, out.Warnings...)
		all.UsesCapabilities = all.UsesCapabilities || out.UsesCapabilities
		all.Cached = all.Cached && out.Cached
		if out.Cached {
			e.stats.CacheHits.Add(1)
		} else {
			e.stats.Renders.Add(1)
		}
	}
	switch {
	case len(errs) == 1:
		return all, errs[0]
	case len(errs) > 1:
		return all, errors.Join(errs...)
	}
	if err := belay.UnfitPatch(t.def, unfit...); err != nil {
		return all, err
	}
	return all, once(t.def, all.Objects)
}

func (e *Engine) renderSource(ctx context.Context, t *target, cat *catalog.Catalog, src belay.Source, k refKey, named map[string]refKey, facts *belay.ClusterFacts, full bool) (Rendered, error) {
	rev, err := e.revisionAt(ctx, t, k)
	if err != nil {
		return Rendered{}, err
	}
	files, err := e.Sources.Open(ctx, k.url, rev.Commit)
	if err != nil {
		return Rendered{}, err
	}
	tree := NewTree(Mounted{Files: files, Permit: PermitOf(t.project, cat, src)}, func(m belay.Mount) (Mounted, error) { return e.mount(ctx, t, cat, m, named) })
	out, err := e.Renderer.Render(ctx, tree, RenderRequest{
		Application: t.def.Name, Source: src, Namespace: t.def.Spec.Destination.Namespace,
		KubeVersion: facts.Version, APIVersions: facts.APIVersions, Repo: rev.Repo, Revision: rev.Commit, Full: full,
		Patches: t.def.Spec.Patches, Variables: t.def.Spec.Variables, Definition: t.def.Origin,
		Project: t.project.Name, Decryption: t.project.Spec.Decryption,
	})
	for i := range out.Objects {
		tree.Locate(&out.Objects[i].Origin)
	}
	return out, tree.Explain(err)
}

// revisionAt is where a ref stands for this pass.
func (e *Engine) revisionAt(ctx context.Context, t *target, k refKey) (belay.Revision, error) {
	if k == t.ref {
		return t.rev, nil
	}
	if rev, ok := t.at[k]; ok {
		return rev, nil
	}
	rev, err := e.revision(ctx, k)
	if t.asOf != nil {
		rev, err = t.asOf(k)
	}
	if rev.Commit == "" {
		return rev, err
	}
	if t.at == nil {
		t.at = map[refKey]belay.Revision{}
	}
	t.at[k] = rev
	return rev, nil
}

// mount opens another tree for a render: a source by its name, or a repository
// that files name. The project of the application decides about each.
func (e *Engine) mount(ctx context.Context, t *target, cat *catalog.Catalog, m belay.Mount, named map[string]refKey) (Mounted, error) {
	k, ok := named[m.Source]
	switch {
	case m.Source == "":
		k = keyOf(m.Repo, m.Chart, m.Ref, t.def.Spec.Project, cat)
		if err := remote(cat, m); err != nil {
			t.refuse(k)
			return Mounted{}, err
		}
	case !ok:
		return Mounted{}, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("the application has no source named %q", m.Source),
			Hint: "give one of spec.sources this name"}
	}
	from := belay.Source{Repo: m.Repo, Chart: m.Chart}
	if m.Source != "" {
		i := slices.IndexFunc(t.def.Spec.AllSources(), func(s belay.Source) bool { return s.Name == m.Source })
		from = t.def.Spec.AllSources()[i]
	}
	names := namesOf(cat, from)
	if from.Chart != "" {
		if err := t.project.PermitSource(names, from.Chart); err != nil {
			t.refuse(k)
			return Mounted{}, err
		}
	}
	if m.Source == "" && !allowedSomewhere(t.project, names) {
		t.refuse(k)
		return Mounted{}, t.project.PermitSource(names, ".")
	}
	e.mu.Lock()
	followed := e.refs[k] != nil
	e.mu.Unlock()
	rev, err := e.revisionAt(ctx, t, k)
	if rev.Commit == "" && t.final {
		return Mounted{}, &belay.Error{Code: belay.CodeNotFound, Origin: belay.Origin{Repo: k.url}, Message: "repository " + k.url + " is not followed any more"}
	}
	if rev.Commit == "" && !followed {
		return Mounted{}, &belay.Error{Code: belay.CodeUnavailable, Origin: belay.Origin{Repo: k.url},
			Message: "repository " + k.url + " is being looked at for the first time", Hint: "nothing to do"}
	}
	if rev.Commit == "" {
		return Mounted{}, err
	}
	files, err := e.Sources.Open(ctx, k.url, rev.Commit)
	return Mounted{Files: files, Permit: permitOf(t.project, names, from.Chart), Repo: rev.Repo, Revision: rev.Commit}, err
}

// namesOf are the names that the repository of a source goes by in a Project.
func namesOf(cat *catalog.Catalog, src belay.Source) []string {
	at := src.Repo
	if r, ok := cat.Repository(src.Repo); ok {
		at = r.Spec.URL
	}
	if at == "" { // a working directory, which has no URL
		return []string{"this repository"}
	}
	names := cat.NamesOf(at, src.Chart)
	if !slices.Contains(names, src.Repo) {
		names = append(names, src.Repo) // another spelling
	}
	return names
}

// PermitOf says which paths of a source a project's applications may read; nil for all.
func PermitOf(p *belay.Project, cat *catalog.Catalog, src belay.Source) func(path string) error {
	return permitOf(p, namesOf(cat, src), src.Chart)
}

// permitOf says which paths of a repository a project's applications may read; nil
// for all. A chart is allowed as a whole, by its name.
func permitOf(p *belay.Project, names []string, chart string) func(path string) error {
	if p == nil || chart != "" || p.PermitsAllOf(names) {
		return nil
	}
	return func(path string) error { return p.PermitRead(names, path) }
}

// allowedSomewhere says whether a project allows anything of a repository: one of
// which it allows nothing is not even talked to.
func allowedSomewhere(p *belay.Project, names []string) bool {
	return slices.ContainsFunc(p.Spec.Sources, func(r belay.SourceRule) bool {
		return slices.ContainsFunc(names, func(n string) bool { return belay.MatchGlob(r.Repo, n) })
	})
}

// chartName is what the name of a chart looks like: part of a URL, and no more.
var chartName = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]*$`)

// remote refuses what a file must not name: another thing than a URL, and the
// disk of this machine.
func remote(cat *catalog.Catalog, m belay.Mount) error {
	r, ok := cat.Repository(m.Repo)
	hint := "name an https://, ssh:// or oci:// URL, or declare a Repository with this URL"
	switch {
	case m.Chart != "" && !chartName.MatchString(m.Chart):
		return &belay.Error{Code: belay.CodeInvalid, Message: fmt.Sprintf("%q is not the name of a chart", m.Chart)}
	case strings.ContainsAny(m.Repo, "#?"):
	case ok && r.Name != "", ok && hostOf(m.Repo) != "" && !strings.HasPrefix(strings.ToLower(m.Repo), "file:"):
		return nil
	case !ok:
		hint = "declare a Repository with this name, or write its URL"
	}
	return &belay.Error{Code: belay.CodeDenied, Message: fmt.Sprintf("the repository %q cannot be used from here", m.Repo), Hint: hint}
}

// once reports an object that two sources declare.
func once(def *belay.Application, objects []belay.Object) error {
	seen := make(map[belay.ObjectID]belay.Origin, len(objects))
	for i := range objects {
		o := &objects[i]
		id := o.ID
		if id.Namespace == "" {
			id.Namespace = def.Spec.Destination.Namespace
		}
		if at, ok := seen[id]; ok {
			return &belay.Error{Code: belay.CodeInvalid, Application: def.Name, Object: id.String(), Origin: o.Origin,
				Message: "declared twice, also in " + place(at, o.Origin), Hint: "remove it from one of the sources"}
		}
		seen[id] = o.Origin
	}
	return nil
}

// place names a file, and its repository where that is another one.
func place(at, from belay.Origin) string {
	if at.Repo == from.Repo {
		return at.String()
	}
	return at.String() + " of " + at.Repo
}
