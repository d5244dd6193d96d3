package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/term"
)

const eventsLong = `Shows what happened: commits found, syncs, objects applied and pruned, drift and
who caused it, changes of health, errors. The server keeps the latest events only.

Use it to see what a commit or a hand in the cluster led to; with --follow, as it
happens. A stream that is followed goes on after the server was away; a line on
standard error says when events were lost.

With "-o json" the output is one line of JSON for each event, with "-o yaml" one
document.`

func newEvents(env *env) *cobra.Command {
	var q client.EventQuery
	var types []string
	var since time.Duration
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happened",
		Long: eventsLong, Example: `  belay events
  belay events --follow --app guestbook
  belay events --type drift,healed --since 1h -o json`,
		Args: cobra.NoArgs,
	}
	out := addOutput(cmd)
	cmd.Flags().BoolVarP(&q.Follow, "follow", "f", false, "wait for more events, until interrupted")
	cmd.Flags().StringSliceVar(&q.Applications, "app", nil, "only events of these applications")
	cmd.Flags().StringSliceVar(&types, "type", nil, "only events of these types")
	cmd.Flags().DurationVar(&since, "since", 0, "only events of the last, say, 10m")
	// The errors are of flags that are not there.
	_ = cmd.RegisterFlagCompletionFunc("app", env.completeApplications)
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(typeNames(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var err error
		if q.Types, err = eventTypes(types); err != nil {
			return err
		}
		note := func(format string, args ...any) {
			// Standard error is the last resort: nobody can be told that it fails.
			_, _ = fmt.Fprintf(env.stderr, format+"\n", args...)
		}
		// That what the server keeps begins somewhere is no loss to those who did not see it before.
		begun := false
		q.OnGap = func(g client.Gap) {
			switch {
			case g.Restarted:
				note("the server was started anew; events may be missing here")
			case begun:
				note("%s missing here", term.Count(int(g.Missed), "event"))
			}
		}
		q.OnDisconnect = func(err error) { note("lost the server, trying again: %s", term.Clean(err.Error())) }
		c, err := env.client()
		if err != nil {
			return err
		}
		for _, name := range q.Applications {
			if err := checkEvents(cmd.Context(), c, name); err != nil {
				return err
			}
		}
		p := env.printer()
		for e, err := range c.Events(cmd.Context(), q) {
			if err != nil {
				return err
			}
			begun = true
			if since > 0 && time.Since(e.Time) > since {
				continue
			}
			if *out != outputTable {
				err = env.writeStreamed(*out, e)
			} else {
				err = printEvent(p, &e)
			}
			if err != nil {
				return err
			}
		}
		return cmd.Context().Err()
	}
	return cmd
}

// checkEvents is an error for an application that there is none of and that left no
// events: a slip of the pen must not look as if nothing happened.
func checkEvents(ctx context.Context, c *client.Client, name string) error {
	_, missing := c.Application(ctx, name)
	if belay.CodeOf(missing) != belay.CodeNotFound {
		return nil // it is there, or who is asked next says why that is not known
	}
	for _, err := range c.Events(ctx, client.EventQuery{Applications: []string{name}}) {
		return err
	}
	return missing
}

func typeNames() []string {
	names := make([]string, 0, len(belay.EventTypes()))
	for _, t := range belay.EventTypes() {
		names = append(names, string(t))
	}
	return names
}

// eventStyle is how the type of an event looks.
func eventStyle(t belay.EventType) term.Style {
	switch t {
	case belay.EventSyncFailed, belay.EventError, belay.EventSource, belay.EventCluster, belay.EventRefused, belay.EventDenied:
		return term.Red
	case belay.EventDrift, belay.EventHeld, belay.EventRewritten, belay.EventPruned, belay.EventHold, belay.EventRollback:
		return term.Yellow
	case belay.EventSynced, belay.EventHealed:
		return term.Green
	}
	return term.Plain
}

// printEvent writes an event as a line: time, type, what it is about, what happened.
func printEvent(p *term.Printer, e *belay.Event) error {
	style := eventStyle(e.Type)
	var about []string
	for _, s := range []string{e.Application, e.Object} {
		if s != "" {
			about = append(about, term.Clean(s))
		}
	}
	if len(about) == 0 && e.Repo != "" {
		about = append(about, term.Clean(e.Repo))
	}
	if len(about) == 0 && e.Cluster != "" {
		about = append(about, "cluster "+term.Clean(e.Cluster))
	}
	if e.Revision != "" && !strings.Contains(e.Message, shortRevision(e.Revision)) {
		about = append(about, "at "+shortRevision(term.Clean(e.Revision)))
	}
	line := term.Clean(e.Message)
	if len(about) > 0 {
		line = strings.Join(about, " ") + ": " + line
	}
	if e.Actor != "" && e.Actor != belay.FieldManager && !strings.Contains(e.Message, "by "+e.Actor+" ") {
		line += " (" + term.Clean(e.Actor) + ")"
	}
	typ := term.Clean(string(e.Type))
	_, err := fmt.Fprintf(p, "%s  %s%s  %s\n", p.Paint(term.Faint, e.Time.Local().Format("2006-01-02 15:04:05")),
		p.Paint(style, typ), strings.Repeat(" ", max(0, 11-len(typ))), line)
	return err
}
