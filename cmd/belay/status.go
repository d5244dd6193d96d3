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

const statusLong = `Shows every application: whether the cluster equals Git (SYNC), whether it works
(HEALTH), the commit it was compared with, and why something is not right. Below
the table stand definitions that are wrong, and clusters and repositories that
cannot be reached.

Use it to see at a glance whether a fleet is well; "belay get app" shows one
application object by object.

SYNC is Synced, OutOfSync or Unknown. HEALTH is Healthy, Progressing, Degraded,
Suspended, Missing or Unknown.

The exit code is 0 when the server answered, whatever the state. With --exit-code
it is 3 when an application shown is not both Synced and Healthy, or when there is
anything below the table.

With "-o json" the output is {"applications": [...], "clusters": [...],
"repositories": [...], "problems": [...]}, applications sorted by name; with
--watch it is a line of that whenever something changed.`

const statusExample = `  belay status
  belay status guestbook web
  belay status --cluster production --watch
  belay status -o json | jq -r '.applications[] | select(.sync != "Synced") | .name'`

func newStatus(env *env) *cobra.Command {
	var filter client.Filter
	var watch, exitCode bool
	cmd := &cobra.Command{
		Use: "status [APP...]", Short: "Show the state of the fleet",
		Long: statusLong, Example: statusExample,
		ValidArgsFunction: env.completeApplications,
	}
	out := addOutput(cmd)
	addFilter(cmd, &filter)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show the state again whenever it changes, until interrupted")
	cmd.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 3 unless all is Synced and Healthy")
	cmd.MarkFlagsMutuallyExclusive("watch", "exit-code")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		filter.Applications = args
		c, err := env.client()
		if err != nil {
			return err
		}
		if watch {
			return env.watchStatus(cmd.Context(), c, filter, *out)
		}
		st, err := c.Status(cmd.Context(), filter)
		if err != nil {
			return err
		}
		if err := checkNames(cmd.Context(), c, st.Applications, args); err != nil {
			return err
		}
		if *out != outputTable {
			err = env.write(*out, st)
		} else {
			err = printStatus(env.printer(), &st, filter)
		}
		// A misspelt project must not pass for one in which all is well.
		if err == nil && exitCode && (!allWell(&st) || len(st.Applications) == 0 && narrowed(filter) != "") {
			return errDiffers
		}
		return err
	}
	return cmd
}

// allWell reports whether nothing is left to wish for.
func allWell(st *belay.Status) bool {
	for _, a := range st.Applications {
		if a.Sync != belay.Synced || a.Health != belay.Healthy {
			return false
		}
	}
	return len(troubles(st)) == 0
}

// narrowed says to what applications a filter narrows a list, beside their names.
func narrowed(f client.Filter) (words string) {
	if f.Project != "" {
		words += fmt.Sprintf(" of project %q", f.Project)
	}
	if f.Cluster != "" {
		words += fmt.Sprintf(" for cluster %q", f.Cluster)
	}
	return words
}

func printStatus(p *term.Printer, st *belay.Status, f client.Filter) error {
	if len(st.Applications) == 0 {
		none := "No applications" + narrowed(f) + "."
		if narrowed(f) == "" && len(troubles(st)) == 0 {
			none += " The server found no definition of one below its --path, at its --ref."
		}
		if _, err := fmt.Fprintln(p, none); err != nil {
			return err
		}
	} else if err := p.Print(applicationTable(st.Applications)); err != nil {
		return err
	}
	var b strings.Builder
	for i, t := range troubles(st) {
		if i == 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s %s\n", p.Paint(term.Red, t.what+":"), term.Clean(t.message))
		if t.hint != "" {
			fmt.Fprintf(&b, "  hint: %s\n", term.Clean(t.hint))
		}
	}
	_, err := p.Write([]byte(b.String()))
	return err
}

func applicationTable(apps []belay.ApplicationStatus) *term.Table {
	t := term.NewTable("NAME", "PROJECT", "CLUSTER", "NAMESPACE", "SYNC", "HEALTH", "REVISION", "MESSAGE")
	for _, a := range apps {
		t.Row(term.Text(a.Name), term.Text(a.Project), term.Text(a.Cluster), term.Text(a.Namespace),
			term.SyncCell(a.Sync), term.HealthCell(a.Health), term.Text(shortRevision(a.Revision)), term.Text(a.Message))
	}
	return t
}

// trouble is something beside applications that is not right.
type trouble struct{ what, message, hint string }

func troubles(st *belay.Status) []trouble {
	var out []trouble
	for i := range st.Problems {
		out = append(out, trouble{"problem", term.ErrorLine(&st.Problems[i]), st.Problems[i].Hint})
	}
	for _, c := range st.Clusters {
		switch {
		case c.Message != "":
			out = append(out, trouble{"cluster " + c.Name, c.Message, ""})
		case !c.Ready:
			out = append(out, trouble{"cluster " + c.Name, "not ready yet", ""})
		}
	}
	for _, r := range st.Repositories {
		if r.Message != "" {
			out = append(out, trouble{"repository " + r.URL, strings.TrimPrefix(r.Message, "repository "+r.URL+": "), ""})
		}
	}
	return out
}

// watchStatus shows the state whenever it differs from what was shown last.
func (e *env) watchStatus(ctx context.Context, c *client.Client, f client.Filter, o output) error {
	p := e.printer()
	last, first := "", true
	return watch(ctx, c, f.Applications, func() error {
		st, err := c.Status(ctx, f)
		if err != nil {
			return err
		}
		if first {
			if err := checkNames(ctx, c, st.Applications, f.Applications); err != nil {
				return err
			}
		}
		var shown strings.Builder
		buf := *p
		buf.Redirect(&shown)
		if err := printStatus(&buf, &st, f); err != nil {
			return err
		}
		if !first && shown.String() == last {
			return nil
		}
		err = e.showAgain(o, st, shown.String(), first)
		last, first = shown.String(), false
		return err
	})
}

// showAgain writes a state that is watched: v for programs, text for people.
func (e *env) showAgain(o output, v any, text string, first bool) error {
	switch {
	case o != outputTable:
		return e.writeStreamed(o, v)
	case term.IsTerminal(e.stdout): // from the top left of an empty screen
		text = "\x1b[H\x1b[2J" + text
	case !first:
		text = "\n" + text
	}
	_, err := fmt.Fprint(e.stdout, text)
	return err
}

// watchInterval is the longest time between looks; events make it shorter.
const watchInterval = 2 * time.Second

// watch calls look at once, after each event and now and then, until ctx ends or look fails.
func watch(ctx context.Context, c *client.Client, apps []string, look func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wake := make(chan struct{}, 1)
	go func() {
		// Without events, looks are just farther apart.
		for _, err := range c.Events(ctx, client.EventQuery{Since: client.SinceLatest, Applications: apps, Follow: true}) {
			if err != nil {
				return
			}
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}()
	for {
		if err := look(); err != nil {
			return err
		}
		select {
		case <-wake:
		case <-time.After(watchInterval):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
