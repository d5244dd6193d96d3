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

const auditLong = `Answers questions of the record: what happened, who did it, when, why, who approved
it, and what else went out with it. The answers come from the ledger of the
server, or with --ledger from a ledger on disk or elsewhere, with no server at all.

"Who changed the replica count of shop last Tuesday, who approved it, and what
else went out with it?"

  belay history shop --changed replicas --on tuesday    finds the deployment
  belay audit show main/4711                            tells all of it

"Who set this value?"

  belay audit blame shop deployment/web                 tells it line by line

"What did Ada do last week? What was denied? What drifted?"

  belay audit list --person ada --since 7d
  belay audit list --type denied,drift

"Is all of that still as it was written?"

  belay audit verify                                    proves the ledger`

func newAudit(env *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "audit", Short: "Ask the record who did what, when and why",
		Long: auditLong, Example: "  belay audit list --since 24h\n  belay audit show main/4711\n  belay audit diff shop 1f0c2e9 main/4711\n  belay audit blame shop deployment/web",
		Args: noSuchCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newAuditList(env), newAuditShow(env), newAuditDiff(env), newAuditBlame(env), newAuditVerify(env), newAuditExport(env))
	return cmd
}

const auditListLong = `Lists what is on record, newest first: deployments, drift and what was done about
it, commits found, definitions that were wrong, rollbacks, holds, refusals, denials,
starts and stops of the server. Filters narrow it down; all that are given must fit.

Use it to see what happened, by whom or to what. "belay history" is the same for
deployments alone, a line each. "belay audit show ID" tells all of one record.

With "-o json" the output is {"records": [...], "more": true}, each record with
its ID as writer and seq; more is there when --limit left some out.`

const auditListExample = `  belay audit list --app shop --on tuesday
  belay audit list --person ada@example.com --since 7d
  belay audit list --type drift,healed --cluster production
  belay audit list --change 1f0c2e9
  belay audit list --object deployment/web --from 2026-11-01 --to 2026-11-15`

// recordList is what the list writes for programs.
type recordList struct {
	Records []belay.Record `json:"records"`
	More    bool           `json:"more,omitempty"`
}

func newAuditList(env *env) *cobra.Command {
	var filter recordFilter
	var types []string
	cmd := &cobra.Command{
		Use: "list", Short: "List what happened",
		Long: auditListLong, Example: auditListExample,
		Args: cobra.NoArgs,
	}
	out := addWideOutput(cmd)
	where := addLedger(cmd)
	cmd.Flags().StringSliceVar(&filter.q.Applications, "app", nil, "only of these applications")
	cmd.Flags().StringSliceVar(&types, "type", nil, "only events of these types")
	cmd.Flags().StringVar(&filter.q.Deployment, "deployment", "", "only of this deployment: its start, its end and what was between")
	filter.addFlags(cmd, 50)
	// The errors are of flags that are not there.
	_ = cmd.RegisterFlagCompletionFunc("app", env.completeApplications)
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(typeNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		q, err := filter.query(time.Now())
		if err != nil {
			return err
		}
		if q.Types, err = eventTypes(types); err != nil {
			return err
		}
		people := *out == outputTable || *out == outputWide
		q.Brief = people
		return env.withRecord(cmd.Context(), *where, func(r recordReader) error {
			list, more, err := pages(cmd.Context(), q, filter.limit, r.Records)
			if err != nil {
				return err
			}
			if !people {
				return env.write(*out, recordList{list, more})
			}
			p := env.printer()
			if len(list) == 0 {
				return nothingOnRecord(cmd.Context(), p, r, &q)
			}
			if err := p.Print(recordTable(list, *out == outputWide)); err != nil {
				return err
			}
			return noteMore(p, more, list[len(list)-1].Event.Time)
		})
	}
	return cmd
}

// nothingOnRecord says that there is nothing, and of which names there never was.
func nothingOnRecord(ctx context.Context, p *term.Printer, r recordReader, q *belay.RecordQuery) error {
	names, err := unheardOf(ctx, r, q)
	if err != nil {
		return err
	}
	said := "Nothing on record that fits."
	if len(names) > 0 {
		said = "Nothing on record is of " + strings.Join(names, " or ") + "; \"belay history -o wide\" shows names."
	}
	_, err = fmt.Fprintln(p, term.CleanLine(said))
	return err
}

// eventTypes checks names of types.
func eventTypes(names []string) ([]belay.EventType, error) {
	types := make([]belay.EventType, 0, len(names))
	for _, t := range names {
		types = append(types, belay.EventType(t))
	}
	if err := belay.CheckEventTypes(types); err != nil {
		return nil, &usage{message: err.Message, hint: err.Hint}
	}
	return types, nil
}

func recordTable(list []belay.Record, wide bool) *term.Table {
	head := []string{"ID", "WHEN", "TYPE", "ABOUT"}
	if wide {
		head = append(head, "PROJECT", "REVISION", "CHANGE", "DEPLOYMENT")
	}
	t := term.NewTable(append(head, "WHO", "MESSAGE")...)
	for i := range list {
		ev := &list[i].Event
		row := []term.Cell{term.Text(list[i].ID()), term.Text(moment(ev.Time)), {Text: string(ev.Type), Style: eventStyle(ev.Type)}, term.Text(about(ev))}
		who, message := personName(ev.Actor), ev.Message
		if wide {
			row = append(row, term.Text(ev.Project), term.Text(shortRevision(ev.Revision)), term.Text(shortRevision(ev.Change)), term.Text(ev.Deployment))
			who = ev.Actor
		}
		if ev.Object != "" && !strings.Contains(message, ev.Object) {
			message = ev.Object + ": " + message
		}
		t.Row(append(row, term.Text(who), term.Text(message))...)
	}
	return t
}

// about is what an event is about: an application and its cluster, or what it has of these.
func about(ev *belay.Event) string {
	if ev.Application != "" && ev.Cluster != "" {
		return ev.Application + " on " + ev.Cluster
	}
	return cmp.Or(ev.Application, ev.Cluster, ev.Repo)
}
