package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/term"
)

const getClustersLong = `Shows the clusters that the server looks after: whether each is observed, its
version, how many applications are delivered to it, and why it cannot be reached.
With names, it shows where those are declared and their applications, too.

With "-o json" the output is {"clusters": [{"name", "version", "ready", "message",
"file", "line", "applications"}]}, sorted by name.`

const getRepositoriesLong = `Shows the repositories in use, without credentials: where each ref that is followed
stands, when it was looked at last, how many applications are made from it, and why
it cannot be read. With names or URLs, it shows where those are declared and their
applications, too. A repository without a name is no Repository, but named by its
URL in an application or with --repo.

With "-o json" the output is {"repositories": [{"url", "names", "declared", "refs",
"refErrors", "checkedAt", "definitions", "message", "applications"}]}, sorted by
URL; definitions is true where the definitions themselves come from it.`

const getProjectsLong = `Shows Projects: what each permits, and how many applications it has. With names, it
shows all that those permit, where they are declared, and their applications. The
project named default permits everything unless it is declared.

With "-o json" the output is {"projects": [{"name", "file", "line", "spec",
"applications"}]}, sorted by name, each spec with its defaults.`

func newGetClusters(env *env) *cobra.Command {
	return inventoryCommand[belay.ClusterEntry]{
		use: "clusters [NAME...]", alias: "cluster", short: "Show clusters and whether they are reached", long: getClustersLong,
		example: "  belay get clusters\n  belay get cluster production\n  belay get clusters -o json",
		noun:    "cluster", list: (*client.Client).Clusters,
		names: func(c *belay.ClusterEntry) []string { return []string{c.Name} },
		output: func(list []belay.ClusterEntry) any {
			return struct {
				Clusters []belay.ClusterEntry `json:"clusters"`
			}{list}
		},
		table: clusterTable, detail: clusterDetail,
	}.command(env)
}

func newGetRepositories(env *env) *cobra.Command {
	return inventoryCommand[belay.RepositoryEntry]{
		use: "repositories [NAME...]", alias: "repository", short: "Show repositories and where their refs stand", long: getRepositoriesLong,
		example: "  belay get repositories\n  belay get repository charts\n  belay get repositories https://git.example.com/fleet.git -o json",
		noun:    "repository", list: (*client.Client).Repositories,
		names: func(r *belay.RepositoryEntry) []string { return append(slices.Clone(r.Names), r.URL) },
		output: func(list []belay.RepositoryEntry) any {
			return struct {
				Repositories []belay.RepositoryEntry `json:"repositories"`
			}{list}
		},
		table: repositoryTable, detail: repositoryDetail,
	}.command(env)
}

func newGetProjects(env *env) *cobra.Command {
	return inventoryCommand[belay.ProjectEntry]{
		use: "projects [NAME...]", alias: "project", short: "Show projects and what they permit", long: getProjectsLong,
		example: "  belay get projects\n  belay get project web\n  belay get project web -o yaml",
		noun:    "project", list: (*client.Client).Projects,
		names: func(p *belay.ProjectEntry) []string { return []string{p.Name} },
		output: func(list []belay.ProjectEntry) any {
			return struct {
				Projects []belay.ProjectEntry `json:"projects"`
			}{list}
		},
		table: projectTable, detail: projectDetail,
	}.command(env)
}

// inventoryCommand lists one kind of what a fleet has beside applications.
type inventoryCommand[T any] struct {
	use, alias, short, long, example, noun string

	list func(*client.Client, context.Context) ([]T, error)
	// names are those by which one is asked for.
	names  func(*T) []string
	output func([]T) any
	table  func([]T) *term.Table
	detail func(*detail, *T)
}

func (ic inventoryCommand[T]) command(env *env) *cobra.Command {
	cmd := &cobra.Command{Use: ic.use, Aliases: []string{ic.alias}, Short: ic.short, Long: ic.long, Example: ic.example}
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		return ic.complete(cmd.Context(), env, args, prefix), cobra.ShellCompDirectiveNoFileComp
	}
	out := addOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := env.client()
		if err != nil {
			return err
		}
		all, err := ic.list(c, cmd.Context())
		if err != nil {
			return err
		}
		list, err := ic.choose(all, args)
		if err != nil {
			return err
		}
		p := env.printer()
		switch {
		case *out != outputTable:
			return env.write(*out, ic.output(list))
		case len(list) == 0:
			_, err = fmt.Fprintf(p, "There is no %s.\n", ic.noun)
			return err
		case len(args) == 0:
			return p.Print(ic.table(list))
		}
		d := &detail{p: p}
		for i := range list {
			if i > 0 {
				d.b.WriteByte('\n')
			}
			ic.detail(d, &list[i])
		}
		_, err = p.Write([]byte(d.b.String()))
		return err
	}
	return cmd
}

// choose returns what has one of the names, all for none.
func (ic inventoryCommand[T]) choose(all []T, names []string) ([]T, error) {
	if len(names) == 0 {
		return all, nil
	}
	var known []string
	for i := range all {
		known = append(known, ic.names(&all[i])...)
	}
	for _, n := range names {
		if !slices.Contains(known, n) {
			return nil, belay.NoSuch(ic.noun, n, known, fmt.Sprintf("belay get %s lists what there is; belay status tells what is wrong with definitions", strings.Fields(ic.use)[0]))
		}
	}
	return slices.DeleteFunc(all, func(t T) bool {
		return !slices.ContainsFunc(ic.names(&t), func(n string) bool { return slices.Contains(names, n) })
	}), nil
}

func (ic inventoryCommand[T]) complete(ctx context.Context, env *env, args []string, prefix string) []string {
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
	defer cancel()
	c, err := env.client()
	if err != nil {
		return nil
	}
	all, err := ic.list(c, ctx)
	if err != nil {
		return nil
	}
	var names []string
	for i := range all {
		for _, n := range ic.names(&all[i]) {
			if strings.HasPrefix(n, prefix) && !slices.Contains(args, n) {
				names = append(names, n)
			}
		}
	}
	return names
}

// detail is what is shown of one thing, a line for each of its properties.
type detail struct {
	p *term.Printer
	b strings.Builder
}

func (d *detail) line(name, value string) { d.styled(name, value, term.Plain) }

func (d *detail) styled(name, value string, style term.Style) {
	if value != "" {
		fmt.Fprintf(&d.b, "%-15s %s\n", name+":", d.p.Paint(style, term.Clean(value)))
	}
}

// lines writes a property that has several values, each on a line of its own.
func (d *detail) lines(name string, values []string) {
	for i, v := range values {
		if i > 0 {
			name = ""
			fmt.Fprintf(&d.b, "%-15s %s\n", "", term.Clean(v))
			continue
		}
		d.line(name, v)
	}
}

func clusterTable(list []belay.ClusterEntry) *term.Table {
	t := term.NewTable("NAME", "READY", "VERSION", "APPLICATIONS", "MESSAGE")
	for i := range list {
		c := &list[i]
		t.Row(term.Text(c.Name), readyCell(c.Ready), term.Text(c.Version), term.Text(fmt.Sprint(len(c.Applications))), term.Text(clusterMessage(c)))
	}
	return t
}

func readyCell(ready bool) term.Cell {
	if ready {
		return term.Cell{Text: "yes", Style: term.Green}
	}
	return term.Cell{Text: "no", Style: term.Red}
}

func clusterMessage(c *belay.ClusterEntry) string {
	if c.Message == "" && !c.Ready {
		return "not ready yet"
	}
	return c.Message
}

func clusterDetail(d *detail, c *belay.ClusterEntry) {
	ready := readyCell(c.Ready)
	d.styled("Name", c.Name, term.Bold)
	d.line("Declared at", c.Place())
	d.styled("Ready", ready.Text, ready.Style)
	d.line("Version", c.Version)
	d.styled("Message", clusterMessage(c), term.Red)
	d.lines("Applications", c.Applications)
}

// repositoryTable has a row for each ref; those after the first leave out what is
// said of the repository.
func repositoryTable(list []belay.RepositoryEntry) *term.Table {
	t := term.NewTable("URL", "NAME", "REF", "COMMIT", "CHECKED", "APPLICATIONS", "MESSAGE")
	for i := range list {
		r := &list[i]
		refs := refsOf(r)
		if len(refs) == 0 {
			refs = []string{""}
		}
		for k, ref := range refs {
			row := []term.Cell{term.Text(r.URL), term.Text(strings.Join(r.Names, ",")), term.Text(ref), term.Text(shortRevision(r.Refs[ref])),
				term.Text(checkedAt(r)), term.Text(fmt.Sprint(len(r.Applications))), term.Text(repositoryMessage(r, r.Message, ref))}
			if k > 0 {
				row[1], row[4], row[5] = term.Text(""), term.Text(""), term.Text("")
				row[6] = term.Text(repositoryMessage(r, "", ref))
			}
			t.Row(row...)
		}
	}
	return t
}

// refsOf are the refs that are followed, also those that mean nothing now.
func refsOf(r *belay.RepositoryEntry) []string {
	refs := slices.AppendSeq(slices.Collect(maps.Keys(r.Refs)), maps.Keys(r.RefErrors))
	slices.Sort(refs)
	return slices.Compact(refs)
}

func checkedAt(r *belay.RepositoryEntry) string {
	if r.CheckedAt.IsZero() {
		return ""
	}
	return moment(r.CheckedAt)
}

// repositoryMessage is why a repository, or else one of its refs, cannot be read.
func repositoryMessage(r *belay.RepositoryEntry, message, ref string) string {
	if message == "" {
		message = r.RefErrors[ref]
	}
	return strings.TrimPrefix(message, "repository "+r.URL+": ")
}

func repositoryDetail(d *detail, r *belay.RepositoryEntry) {
	d.styled("URL", r.URL, term.Bold)
	for i, n := range r.Names {
		d.line("Name", n)
		d.line("Declared at", r.Declared[i].Place())
	}
	if r.Definitions {
		d.line("Holds", "the definitions")
	}
	if !r.CheckedAt.IsZero() {
		d.line("Checked", r.CheckedAt.Local().Format(time.RFC3339))
	}
	var refs []string
	for _, ref := range refsOf(r) {
		at := ref
		if commit := r.Refs[ref]; commit != "" {
			at += " at " + commit
		}
		if why := repositoryMessage(r, "", ref); why != "" {
			at += ": " + why
		}
		refs = append(refs, at)
	}
	d.lines("Refs", refs)
	d.styled("Message", repositoryMessage(r, r.Message, ""), term.Red)
	d.lines("Applications", r.Applications)
}

func projectTable(list []belay.ProjectEntry) *term.Table {
	t := term.NewTable("NAME", "APPLICATIONS", "KINDS", "CLUSTER KINDS", "DESTINATIONS", "SOURCES")
	for i := range list {
		p := &list[i]
		t.Row(term.Text(p.Name), term.Text(fmt.Sprint(len(p.Applications))), term.Text(permittedKinds(&p.Spec)), term.Text(orNone(p.Spec.ClusterKinds)),
			term.Text(orNone(permittedDestinations(&p.Spec))), term.Text(orNone(permittedSources(&p.Spec))))
	}
	return t
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func permittedKinds(s *belay.ProjectSpec) string {
	kinds := orNone(s.Kinds)
	if len(s.DeniedKinds) > 0 {
		kinds += " but " + strings.Join(s.DeniedKinds, ", ")
	}
	return kinds
}

func permittedDestinations(s *belay.ProjectSpec) []string {
	var out []string
	for _, d := range s.Destinations {
		namespaces := d.Namespaces
		if len(namespaces) == 0 {
			namespaces = []string{"*"}
		}
		cluster := d.Cluster
		if cluster == "" {
			cluster = "*"
		}
		for _, n := range namespaces {
			out = append(out, cluster+"/"+n)
		}
	}
	return out
}

func permittedSources(s *belay.ProjectSpec) []string {
	var out []string
	for _, r := range s.Sources {
		if len(r.Paths) == 0 {
			out = append(out, r.Repo)
		}
		for _, p := range r.Paths {
			out = append(out, r.Repo+" "+p)
		}
	}
	return out
}

func projectDetail(d *detail, p *belay.ProjectEntry) {
	s := &p.Spec
	d.styled("Name", p.Name, term.Bold)
	d.line("Declared at", p.Place())
	d.line("Description", s.Description)
	d.lines("Sources", orNoneLines(permittedSources(s)))
	d.lines("Destinations", orNoneLines(permittedDestinations(s)))
	d.line("Kinds", orNone(s.Kinds))
	d.line("Cluster kinds", orNone(s.ClusterKinds))
	d.lines("Denied kinds", s.DeniedKinds)
	var windows []string
	for _, w := range s.Windows {
		windows = append(windows, strings.TrimSpace(fmt.Sprintf("%s %s for %s (%s) %s", w.Kind, w.Schedule, w.Duration, w.TimeZone, w.Reason)))
	}
	d.lines("Windows", windows)
	if s.ServiceAccount != nil {
		d.line("Writes as", s.ServiceAccount.User())
	}
	if s.Signatures != nil {
		d.line("Signatures", string(s.Signatures.Mode))
	}
	d.lines("Applications", p.Applications)
}

func orNoneLines(list []string) []string {
	if len(list) == 0 {
		return []string{"none"}
	}
	return list
}
