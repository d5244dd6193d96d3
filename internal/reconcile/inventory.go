package reconcile

import (
	"maps"
	"slices"
	"strings"

	"github.com/belaydev/belay"
)

// Inventory is what the fleet has beside its applications. The error says why that
// is not known.
func (e *Engine) Inventory() (belay.Inventory, error) {
	st := e.Status()
	e.mu.Lock()
	defer e.mu.Unlock()
	inv := belay.Inventory{Clusters: []belay.ClusterEntry{}, Repositories: []belay.RepositoryEntry{}, Projects: []belay.ProjectEntry{}}
	cat := e.catalog
	if cat == nil {
		if e.problem != nil {
			return inv, e.problem
		}
		return inv, unread()
	}
	using := func(uses func(*belay.ApplicationStatus) bool) []string {
		names := []string{}
		for i := range st.Applications {
			if uses(&st.Applications[i]) {
				names = append(names, st.Applications[i].Name)
			}
		}
		return names
	}
	for _, c := range st.Clusters {
		inv.Clusters = append(inv.Clusters, belay.ClusterEntry{ClusterStatus: c, Declared: belay.DeclaredAt(cat.Clusters[c.Name].Origin),
			Applications: using(func(a *belay.ApplicationStatus) bool { return a.Cluster == c.Name })})
	}
	for _, r := range st.Repositories {
		entry := belay.RepositoryEntry{RepositoryStatus: r, Definitions: r.URL == e.Repo,
			Applications: using(func(a *belay.ApplicationStatus) bool { return e.madeFrom(a, r.URL) })}
		// Of a chart the URL ends with its name; the Repository has the rest.
		url, _, _ := strings.Cut(r.URL, "#")
		for _, name := range cat.NamesOf(url, "") {
			if d, ok := cat.Repositories[name]; ok {
				entry.Names, entry.Declared = append(entry.Names, name), append(entry.Declared, belay.DeclaredAt(d.Origin))
			}
		}
		inv.Repositories = append(inv.Repositories, entry)
	}
	for _, name := range slices.Sorted(maps.Keys(cat.Projects)) {
		p := cat.Projects[name]
		inv.Projects = append(inv.Projects, belay.ProjectEntry{Name: name, Declared: belay.DeclaredAt(p.Origin), Spec: p.Spec,
			Applications: using(func(a *belay.ApplicationStatus) bool { return a.Project == name })})
	}
	return inv, nil
}

// madeFrom says whether an application is made from a repository: from one of its
// sources, or from what its files name. Called with e.mu.
func (e *Engine) madeFrom(s *belay.ApplicationStatus, url string) bool {
	if s.Repo == url || slices.ContainsFunc(s.Revisions, func(r belay.SourceRevision) bool { return r.Repo == url }) {
		return true
	}
	a := e.apps[s.Name]
	return a != nil && slices.ContainsFunc(slices.Concat(a.sources, a.found), func(r refKey) bool { return r.url == url })
}
