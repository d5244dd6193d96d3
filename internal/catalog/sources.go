package catalog

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// This file fills in where the files of an application come from, and checks
// that its project allows all of it.

// resolveSources fills in repo and ref of every source.
func (c *Catalog) resolveSources(r *resolution, project *belay.Project, fail failFunc, needs needsFunc) {
	spec := &r.app.Spec
	if len(spec.Sources) == 0 {
		c.resolveSource(r, &spec.Source, "spec.source", project, nil, fail, needs)
		return
	}
	spec.Sources = slices.Clone(spec.Sources) // the document's own stay as they are written
	ownFiles(spec)
	files := referenced(spec)
	named := map[string]bool{}
	for i := range spec.Sources {
		src := &spec.Sources[i]
		field := fmt.Sprintf("spec.sources[%d]", i)
		if src.Name != "" && named[src.Name] {
			fail(field+".name", belay.CodeInvalid, fmt.Sprintf("two sources have the name %q", src.Name), "give each a name of its own")
		}
		named[src.Name] = true
		reads := []string(nil)
		if !spec.Renders(i) {
			reads = files[src.Name]
		}
		c.resolveSource(r, src, field, project, reads, fail, needs)
	}
	for name, list := range files {
		if !named[name] {
			fail("spec.sources", belay.CodeNotFound, fmt.Sprintf("%s names a source %q, which there is not", list[0], name),
				"give the source with that file this name")
		}
	}
	for i := range spec.Sources {
		if spec.Renders(i) {
			return
		}
	}
	fail("spec.sources", belay.CodeInvalid, "no source is rendered: each is only read by another", "set path, chart or helm of the one with the manifests")
}

// ownFiles has files that are named without a source lie in the first one, from
// whichever source they are looked at.
func ownFiles(spec *belay.ApplicationSpec) {
	first := &spec.Sources[0]
	in := func(file string) string {
		if file == "" || strings.HasPrefix(file, "$") {
			return file
		}
		if first.Name == "" {
			first.Name = belay.FirstSource
		}
		return "$" + first.Name + "/" + file
	}
	spec.Patches = slices.Clone(spec.Patches)
	for i := range spec.Patches {
		spec.Patches[i].File = in(spec.Patches[i].File)
	}
	if spec.Variables != nil {
		v := *spec.Variables
		v.Files = slices.Clone(v.Files)
		for i := range v.Files {
			v.Files[i] = in(v.Files[i])
		}
		spec.Variables = &v
	}
}

// referenced lists the files that an application reads from sources by name.
func referenced(spec *belay.ApplicationSpec) map[string][]string {
	out := map[string][]string{}
	for _, f := range spec.NamedFiles() {
		name, file, _ := strings.Cut(f[1:], "/")
		out[name] = append(out[name], path.Clean(file))
	}
	return out
}

// resolveSource fills in and checks one source. reads are the files that are read
// of one that is not rendered.
func (c *Catalog) resolveSource(r *resolution, src *belay.Source, field string, project *belay.Project, reads []string, fail failFunc, needs needsFunc) {
	named := src.Repo != ""
	at, names := c.resolveRepo(r, src, field, fail, needs)
	if src.Chart != "" && !named { // else the repository with the definitions would be asked for an index of charts
		fail(field+".chart", belay.CodeInvalid, "a chart is in a Helm repository or a registry, and none is named",
			"let repo be an https:// or oci:// URL; for a chart in Git set path instead")
		return
	}
	c.checkKind(src, at, field, fail)
	if project == nil || names == nil {
		return
	}
	paths, permit := reads, project.PermitRead
	switch {
	case src.Chart != "":
		paths, permit = []string{src.Chart}, project.PermitSource
	case len(reads) == 0:
		paths, permit = []string{src.Path}, project.PermitSource
	}
	for _, p := range paths {
		if err := permit(names, p); err != nil {
			e, _ := errors.AsType[*belay.Error](err)
			hint := e.Hint
			if at == "" { // what a working directory is called elsewhere nobody knows here
				hint = "if the Project names this repository, say which it is with --repo URL; else " + hint
			}
			fail(field, e.Code, e.Message, hint)
			return
		}
	}
}

// resolveRepo fills in repo and ref, and returns the URL and the names that the
// repository goes by, nil if it is not known.
func (c *Catalog) resolveRepo(r *resolution, src *belay.Source, field string, fail failFunc, needs needsFunc) (at string, names []string) {
	switch repo, declared := c.Repository(src.Repo); {
	case src.Repo == "":
		src.Repo, at = c.opts.Repo, c.opts.Repo
	case declared:
		at = repo.Spec.URL
		if src.Repo != repo.Name && src.Repo != at {
			names = append(names, src.Repo) // another spelling of the URL
		}
	case c.env.docs[key{"Repository", src.Repo}] != nil:
		needs(c.env.docs[key{"Repository", src.Repo}], field+".repo")
	default:
		fail(field+".repo", belay.CodeNotFound, c.missing("Repository", src.Repo), "declare it, or write the repository's URL")
	}
	r.url += at + "\n"
	own := src.Repo == c.opts.Repo || at != "" && normalURL(at) == normalURL(c.opts.Repo)
	if src.Ref == "" {
		src.Ref = "HEAD"
		switch {
		case src.Chart != "", strings.HasPrefix(at, "oci://"):
			src.Ref = "*"
		case own && c.opts.Ref != "":
			src.Ref = c.opts.Ref
		}
	}
	switch {
	case at != "":
		return at, append(names, c.NamesOf(at, src.Chart)...)
	case own: // a working directory, which has no URL
		return at, []string{"this repository"}
	}
	return at, nil
}

// NamesOf are the names that a repository goes by in a Project: its URL, and the
// names of its Repository. What is declared of a registry names what is below it,
// too. A chart in a registry has a URL of its own.
func (c *Catalog) NamesOf(at, chart string) []string {
	names := append([]string{at}, c.byURL[normalURL(at)]...)
	if chart != "" && strings.HasPrefix(at, "oci://") {
		names = append(names, belay.ChartURL(at, chart))
	}
	for u := at; strings.HasPrefix(u, "oci://") && strings.Count(u, "/") > 2; {
		u = u[:strings.LastIndexByte(u, '/')]
		names = append(names, c.byURL[normalURL(u)]...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// checkKind holds the fields of a source against what its repository is.
func (c *Catalog) checkKind(src *belay.Source, at, field string, fail failFunc) {
	u, err := url.Parse(at)
	web := err == nil && (u.Scheme == "http" || u.Scheme == "https")
	oci := strings.HasPrefix(at, "oci://")
	switch {
	case src.Chart != "" && at != "" && !web && !oci:
		fail(field+".chart", belay.CodeInvalid, "a chart is in a Helm repository or a registry, and this is neither",
			"let repo be an https:// or oci:// URL; for a chart in Git set path instead")
	case src.Chart != "" && src.Path != "":
		fail(field+".path", belay.CodeInvalid, "path cannot be set with chart: a chart is rendered as a whole", "leave path out")
	case src.Chart != "" && (src.Directory != nil || src.Kustomize != nil):
		fail(field, belay.CodeInvalid, "a chart is rendered with Helm", "leave directory and kustomize out")
	case src.Chart == "" && web && strings.Trim(u.Path, "/") == "":
		fail(field+".repo", belay.CodeInvalid, "the URL names no repository on the host", "set chart if it is a Helm repository")
	case src.Chart == "" && !oci && strings.HasPrefix(src.Ref, "sha256:"):
		fail(field, belay.CodeInvalid, "a digest is for charts and artifacts; Git has commits", "name the commit")
	}
}
