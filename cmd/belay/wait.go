package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
)

const waitLong = `Waits until applications are in a state. Use it in scripts, to go on only when
something works; to sync first, use "belay sync --wait".

States are those of "belay status", in any case: synced, outofsync, healthy,
progressing, degraded, suspended, missing; and deleted, that there is no such
application. Several, separated by commas, must hold at once. It ends with exit
code 1 after --timeout and when there is no such application.

With "-o json" the output is the states as in "belay status -o json".`

func newWait(env *env) *cobra.Command {
	var timeout time.Duration
	var states []string
	cmd := &cobra.Command{
		Use: "wait APP...", Short: "Wait until applications are in a state",
		Long: waitLong, Example: "  belay wait guestbook\n  belay wait guestbook --for healthy --timeout 2m\n  belay wait old-app --for deleted",
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: env.completeApplications,
	}
	out := addOutput(cmd)
	cmd.Flags().StringSliceVar(&states, "for", []string{"synced", "healthy"}, "states to wait for")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "longest time to wait; 0 for no limit")
	var names []string
	for _, c := range client.Conditions() {
		names = append(names, string(c))
	}
	// The error is of a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("for", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		conditions := make([]client.Condition, 0, len(states))
		for _, s := range states {
			c := client.Condition(strings.ToLower(s))
			if !slices.Contains(client.Conditions(), c) {
				return usageError(fmt.Sprintf("there is no state %q to wait for; there are %s", s, strings.Join(names, ", ")))
			}
			conditions = append(conditions, c)
		}
		c, err := env.client()
		if err != nil {
			return err
		}
		ctx, cancel := withTimeout(cmd.Context(), timeout)
		defer cancel()
		apps, err := c.Wait(ctx, client.WaitRequest{Applications: args, For: conditions, Progress: env.progress()})
		if belay.CodeOf(err) == belay.CodeNotFound { // say which name is near, if that can be told
			if near := checkNames(cmd.Context(), c, nil, args); belay.CodeOf(near) == belay.CodeNotFound {
				err = near
			}
		}
		return env.waited(*out, apps, err)
	}
	return cmd
}
