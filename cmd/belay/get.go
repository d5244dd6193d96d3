package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/term"
)

func newGet(env *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "get", Short: "Show applications, clusters, repositories, projects and sets",
		Long: `Shows one application object by object, or lists applications and what they are
made of: ApplicationSets, clusters, repositories and projects.

Use it to find out which object keeps an application from being Synced or Healthy,
and whether that is because of where it comes from or goes to.`,
		Example: "  belay get apps\n  belay get app guestbook\n  belay get clusters\n  belay get project web",
		Args:    noSuchCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGetApp(env), newGetApps(env), newGetSets(env), newGetClusters(env), newGetRepositories(env), newGetProjects(env))
	return cmd
}

const getAppLong = `Shows an application and each object that it declares: whether the object equals
Git, whether it works, the file it comes from, and its last error. Objects stand
in the order in which they are applied, grouped by wave where there are several.
Hooks show the moments at which they run, and how far they are for the present
state of Git; "-" is for those that have no part in it.

Use it when "belay status" shows that something is not right.

With "-o json" the output is the application as in "belay status -o json", with
its objects as "tree".`

func newGetApp(env *env) *cobra.Command {
	var watched bool
	cmd := &cobra.Command{
		Use: "app NAME", Short: "Show one application object by object",
		Long: getAppLong, Example: "  belay get app guestbook\n  belay get app guestbook --watch\n  belay get app guestbook -o yaml",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeFirst(env.completeApplications),
	}
	out := addOutput(cmd)
	cmd.Flags().BoolVarP(&watched, "watch", "w", false, "show it again whenever it changes, until interrupted")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := env.client()
		if err != nil {
			return err
		}
		if watched {
			return env.watchApp(cmd.Context(), c, args[0], *out)
		}
		a, err := c.Application(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if *out != outputTable {
			return env.write(*out, a)
		}
		problems, err := problemsOf(cmd.Context(), c, a.Name)
		if err != nil {
			return err
		}
		return printApp(env.printer(), &a, problems)
	}
	return cmd
}

// problemsOf are those of the application's definition.
func problemsOf(ctx context.Context, c *client.Client, name string) ([]belay.Error, error) {
	st, err := c.Status(ctx, client.Filter{Applications: []string{name}})
	return slices.DeleteFunc(st.Problems, func(p belay.Error) bool { return p.Application != name }), err
}

func (e *env) watchApp(ctx context.Context, c *client.Client, name string, o output) error {
	p := e.printer()
	last, first := "", true
	return watch(ctx, c, []string{name}, func() error {
		a, err := c.Application(ctx, name)
		if err != nil {
			return err
		}
		problems, err := problemsOf(ctx, c, name)
		if err != nil {
			return err
		}
		var shown strings.Builder
		buf := *p
		buf.Redirect(&shown)
		if err := printApp(&buf, &a, problems); err != nil {
			return err
		}
		if !first && shown.String() == last {
			return nil
		}
		err = e.showAgain(o, a, shown.String(), first)
		last, first = shown.String(), false
		return err
	})
}

// printApp writes what is known of an application, then its tree.
func printApp(p *term.Printer, a *belay.ApplicationStatus, problems []belay.Error) error {
	var b strings.Builder
	line := func(name string, value string, style term.Style) {
		if value != "" {
			fmt.Fprintf(&b, "%-11s %s\n", name+":", p.Paint(style, term.Clean(value)))
		}
	}
	line("Name", a.Name, term.Bold)
	line("Set", a.Set, term.Plain)
	line("Project", a.Project, term.Plain)
	line("Cluster", a.Cluster, term.Plain)
	line("Namespace", a.Namespace, term.Plain)
	source := strings.TrimSpace(a.Repo + " " + a.Path)
	if a.Ref != "" {
		source += " at " + a.Ref
	}
	line("Source", source, term.Plain)
	line("Revision", a.Revision, term.Plain)
	for _, r := range a.Revisions {
		from := r.Repo + " at " + r.Ref
		if r.Name != "" && r.Name != r.Ref && r.Name != r.Revision {
			from += ", " + r.Name
		}
		line("Made from", from+" ("+shortRevision(r.Revision)+")", term.Plain)
	}
	// Two lines: a commit that touches nothing of it counts as applied without a sync.
	line("Applied", a.SyncedRevision, term.Plain)
	if !a.SyncedAt.IsZero() {
		line("Last sync", a.SyncedAt.Local().Format(time.RFC3339), term.Plain)
	}
	sync, health := term.SyncCell(a.Sync), term.HealthCell(a.Health)
	line("Sync", sync.Text, sync.Style)
	line("Health", health.Text, health.Style)
	if !a.Automatic {
		line("Syncs", "when asked to (belay sync "+a.Name+")", term.Plain)
	}
	if h := a.Held; h != nil {
		line("Held at", h.Revision, term.Yellow)
		line("Held by", h.By+" since "+h.Since.Local().Format(time.RFC3339)+" until "+h.Until.Local().Format(time.RFC3339), term.Plain)
		line("Held for", h.Reason, term.Plain)
		if h.Branch != "" {
			line("Waits for", "branch "+h.Branch+" to be merged", term.Plain)
		}
	}
	line("Message", a.Message, term.Plain)
	line("Hint", a.Hint, term.Plain)
	for i := range problems {
		line("Problem", term.ErrorLine(&problems[i]), term.Red)
		line("Hint", problems[i].Hint, term.Plain)
	}
	b.WriteByte('\n')
	if _, err := p.Write([]byte(b.String())); err != nil {
		return err
	}
	return p.Tree(a.Name, a.Tree)
}

func newGetApps(env *env) *cobra.Command {
	var filter client.Filter
	cmd := &cobra.Command{
		Use: "apps [NAME...]", Short: "List applications",
		Long: `Lists applications like "belay status", without what is below its table.

With "-o json" the output is {"applications": [...]}, sorted by name.`,
		Example:           "  belay get apps\n  belay get apps --project shop -o yaml",
		ValidArgsFunction: env.completeApplications,
	}
	out := addOutput(cmd)
	addFilter(cmd, &filter)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter.Applications = args
		c, err := env.client()
		if err != nil {
			return err
		}
		apps, err := c.Applications(cmd.Context(), filter)
		if err != nil {
			return err
		}
		if err := checkNames(cmd.Context(), c, apps, args); err != nil {
			return err
		}
		if *out != outputTable {
			return env.write(*out, struct {
				Applications []belay.ApplicationStatus `json:"applications"`
			}{apps})
		}
		return printStatus(env.printer(), &belay.Status{Applications: apps}, filter)
	}
	return cmd
}
