package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/term"
)

const syncLong = `Asks the server to look for new commits now, and to make applications equal to
them. Use it to cut the wait after a push, to sync applications that do not sync
automatically, and to try a failed sync again at once.

It is refused for an application that is suspended, and for one that is outside
of the windows of its project. --override-window lets exactly one sync of the
application through all the same; it needs a --reason, and both are recorded
with your name. With --all such applications are left out.

--reason says why, for the record, with any sync. Your name is what git has as
user.name and user.email, or that of your account on this machine.

It only asks, unless --wait is given: then it returns when each application is
Synced and Healthy at the newest commit. It ends with exit code 1 and the reason
when a sync fails or is held, when a repository cannot be read, when an
application stays Degraded, or after --timeout. On a terminal, progress goes to
standard error.

With "-o json" the output is what the server accepted, {"applications": [names],
"since", "requestedAt"} and, with --all, "refused"; with --wait it is the states
as in "belay status -o json".`

func newSync(env *env) *cobra.Command {
	var all, wait, override bool
	var reason string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "sync {APP... | --all}", Short: "Sync applications with the newest commit now",
		Long: syncLong, Example: "  belay sync guestbook\n  belay sync guestbook web --wait\n  belay sync guestbook --reason \"the database is back\"\n  belay sync --all --wait --timeout 10m\n  belay sync guestbook --override-window --reason \"fixes the outage\"",
		ValidArgsFunction: env.completeApplications,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case all == (len(args) > 0):
				return fmt.Errorf("name applications, or all of them with --all")
			case override && all:
				return fmt.Errorf("--override-window is for applications that are named, not for --all")
			case override && reason == "":
				return fmt.Errorf("--override-window needs a --reason \"...\", for the record")
			}
			return nil
		},
	}
	out := addOutput(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "sync every application")
	cmd.Flags().BoolVar(&override, "override-window", false, "let one sync run in spite of windows; needs --reason")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until each application is Synced and Healthy at the newest commit")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "longest time to wait; 0 for no limit")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := env.client()
		if err != nil {
			return err
		}
		accepted, err := c.Sync(cmd.Context(), belay.SyncRequest{Applications: args, All: all, OverrideWindow: override, Reason: reason})
		if err != nil {
			return err
		}
		for i := range accepted.Refused {
			if _, err := fmt.Fprintf(env.stderr, "not synced: %s\n", term.Clean(accepted.Refused[i].Message)); err != nil {
				return err
			}
		}
		if !wait {
			if *out != outputTable {
				return env.write(*out, accepted)
			}
			for _, name := range accepted.Applications {
				if _, err := fmt.Fprintf(env.stdout, "%s: sync requested\n", term.Clean(name)); err != nil {
					return err
				}
			}
			return nil
		}
		ctx, cancel := withTimeout(cmd.Context(), timeout)
		defer cancel()
		apps, err := c.Wait(ctx, client.WaitRequest{Applications: accepted.Applications, After: &accepted, Progress: env.progress()})
		return env.waited(*out, apps, err)
	}
	return cmd
}

// progress shows states on standard error, if that is a terminal.
func (e *env) progress() func([]belay.ApplicationStatus) {
	p := term.NewProgress(e.stderr)
	return func(apps []belay.ApplicationStatus) {
		for i := range apps {
			p.Set(apps[i].Name, stateLine(&apps[i]))
		}
	}
}

// waited shows how a wait ended. Its error comes after what is known.
func (e *env) waited(o output, apps []belay.ApplicationStatus, waitErr error) error {
	if o != outputTable {
		if err := e.write(o, belay.Status{Applications: slices.Concat([]belay.ApplicationStatus{}, apps)}); err != nil {
			return err
		}
		return waitErr
	}
	if waitErr != nil {
		return waitErr
	}
	for i := range apps {
		if _, err := fmt.Fprintf(e.stdout, "%s: %s\n", term.Clean(apps[i].Name), term.Clean(stateLine(&apps[i]))); err != nil {
			return err
		}
	}
	return nil
}
