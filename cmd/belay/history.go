package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/term"
)

const historyLong = `Shows what was deployed: each sync of an application with its ID, when it began,
the revision, who caused it, how it ended, how long it took and the subject of
the commit; newest first. Without APP it shows all applications.

Use it to find the deployment that a question is about. "belay audit show ID"
then tells all of it: who approved it, what changed, what else went out with it.

--changed finds the deployments that added or removed a line of a manifest, so
"who changed the replicas of shop last Tuesday" is
"belay history shop --changed replicas --on tuesday".

The answer comes from the ledger of the server, or with --ledger from a ledger on
disk or elsewhere, with no server at all.

With "-o json" the output is {"deployments": [...], "more": true}; more is there
when --limit left some out. "-o wide" is the table with project, cluster, Change
and whole names.`

const historyExample = `  belay history shop
  belay history shop --changed 'image:' --since 7d
  belay history --on yesterday --cluster production
  belay history shop --ledger https://git.example.com/ops/ledger.git -o json`

// recordFilter are the flags that choose records and deployments alike.
type recordFilter struct {
	q     belay.RecordQuery
	span  span
	limit int
}

func (r *recordFilter) addFlags(cmd *cobra.Command, limit int) {
	f := cmd.Flags()
	f.StringSliceVar(&r.q.Clusters, "cluster", nil, "only of these clusters")
	f.StringSliceVar(&r.q.Projects, "project", nil, "only of these projects")
	f.StringVar(&r.q.Person, "person", "", "only what somebody caused, wrote, reviewed or approved whose name or address has this in it")
	f.StringVar(&r.q.Change, "change", "", "only what this commit led to or was part of; the first digits are enough")
	f.StringVar(&r.q.Object, "object", "", "only about this object: KIND/NAME, KIND/NAMESPACE/NAME or NAME")
	f.IntVar(&r.limit, "limit", limit, "show at most so many, 0 for all")
	r.span.addFlags(cmd)
}

func (r *recordFilter) query(now time.Time) (belay.RecordQuery, error) {
	if r.limit < 0 {
		return r.q, usageError("--limit is 0 or more")
	}
	err := r.span.apply(&r.q, now)
	return r.q, err
}

// deploymentList is what history writes for programs.
type deploymentList struct {
	Deployments []belay.Deployment `json:"deployments"`
	More        bool               `json:"more,omitempty"`
}

func newHistory(env *env) *cobra.Command {
	var filter recordFilter
	cmd := &cobra.Command{
		Use: "history [APP...]", Short: "Show what was deployed, when and by whom",
		Long: historyLong, Example: historyExample,
		ValidArgsFunction: env.completeApplications,
	}
	out := addWideOutput(cmd)
	where := addLedger(cmd)
	filter.addFlags(cmd, 20)
	cmd.Flags().StringVar(&filter.q.Changed, "changed", "", "only deployments that added or removed a line of a manifest that matches this regular expression")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := filter.query(time.Now())
		if err != nil {
			return err
		}
		q.Applications = args
		return env.withRecord(cmd.Context(), *where, func(r recordReader) error {
			list, more, err := pages(cmd.Context(), q, filter.limit, r.Deployments)
			if err != nil {
				return err
			}
			if *out != outputTable && *out != outputWide {
				return env.write(*out, deploymentList{list, more})
			}
			p := env.printer()
			if len(list) == 0 {
				return noDeployments(cmd.Context(), p, r, &q)
			}
			if err := p.Print(deploymentTable(list, len(args) != 1, *out == outputWide)); err != nil {
				return err
			}
			return noteMore(p, more, list[len(list)-1].Started)
		})
	}
	return cmd
}

// noDeployments says of what there are none, for those who mistyped a name.
func noDeployments(ctx context.Context, p *term.Printer, r recordReader, q *belay.RecordQuery) error {
	names, err := unheardOf(ctx, r, q)
	if err != nil {
		return err
	}
	said := "No deployments on record that fit."
	switch {
	case len(names) > 0:
		said = "Nothing on record is of " + strings.Join(names, " or ") + "; belay history shows the deployments of all applications."
	case len(q.Applications) > 0:
		said = fmt.Sprintf("No deployments of %s on record that fit; belay history shows those of all applications.", strings.Join(q.Applications, ", "))
	}
	_, err = fmt.Fprintln(p, term.CleanLine(said))
	return err
}

// noteMore says that there is more than was shown.
func noteMore(p *term.Printer, more bool, last time.Time) error {
	if !more {
		return nil
	}
	_, err := fmt.Fprintf(p, "\nThere is more: raise --limit, or add --to %q.\n", moment(last.Add(time.Second)))
	return err
}

// moment is a time as tables show it, and --from and --to take it.
func moment(t time.Time) string { return t.Local().Format(time.DateTime) }

func deploymentTable(list []belay.Deployment, named, wide bool) *term.Table {
	head := []string{"ID"}
	if named || wide {
		head = append(head, "APPLICATION")
	}
	if wide {
		head = append(head, "PROJECT")
	}
	if named || wide {
		head = append(head, "CLUSTER")
	}
	head = append(head, "WHEN", "REVISION")
	if wide {
		head = append(head, "CHANGE")
	}
	t := term.NewTable(append(head, "WHO", "RESULT", "TOOK", "MESSAGE")...)
	for i := range list {
		d := &list[i]
		row := []term.Cell{term.Text(d.ID)}
		if named || wide {
			row = append(row, term.Text(d.Application))
		}
		if wide {
			row = append(row, term.Text(d.Project))
		}
		if named || wide {
			row = append(row, term.Text(d.Cluster))
		}
		row = append(row, term.Text(moment(d.Started)), term.Text(shortRevision(d.Revision)))
		who := personName(d.Actor)
		if wide {
			row, who = append(row, term.Text(shortRevision(d.Change))), d.Actor
		}
		t.Row(append(row, term.Text(who), resultCell(d.Result), term.Text(took(d)), term.Text(headline(d)))...)
	}
	return t
}

// headline is what a deployment was about: why it failed, what it brought.
func headline(d *belay.Deployment) string {
	switch {
	case d.Result != belay.Failed && len(d.Commits) > 0:
		return d.Commits[0].Subject
	case d.Reason != "" && d.Result != belay.Failed:
		return d.Reason
	}
	return d.Message
}

// personName is an actor without the address.
func personName(actor string) string {
	name, _, _ := strings.Cut(actor, "<")
	return cmp.Or(strings.TrimSpace(name), actor)
}

func took(d *belay.Deployment) string {
	if d.Ended.IsZero() {
		return ""
	}
	return shortDuration(d.Ended.Sub(d.Started))
}

// shortDuration is a duration in as many digits as it deserves.
func shortDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func resultCell(r belay.Result) term.Cell {
	style := term.Yellow
	switch r {
	case belay.Succeeded:
		style = term.Green
	case belay.Failed:
		style = term.Red
	case "":
		return term.Cell{Text: "running", Style: term.Cyan}
	}
	return term.Cell{Text: string(r), Style: style}
}
