package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay/internal/drill"
	"github.com/belaydev/belay/internal/term"
)

const drillLong = `Rehearses the recovery of lost clusters: it starts a throwaway Kubernetes control
plane for each of them, delivers everything that Git declares into it as the server
would (dependencies, waves, hooks and all), and reports what came back, after how
long, in which order, what failed and why, and what a rebuilt cluster would lack
because nothing in Git brings it: kinds, namespaces, Secrets, classes, accounts.

Your clusters are not touched. With --kubeconfig the definitions of kinds that a
real cluster has and Git does not are copied in, so that the rest can be rehearsed;
nothing else is read there.

What waits for a maintenance window or to be asked for does not wait in a drill: the
report lists it, and what is suspended, as what does not come back by itself.

In a drill pods run at once, but nothing in them does. So custom resources never
become ready: with --health lenient, the default, one that was applied counts as
well, and the report says so. Admission webhooks are not called. Secrets that
definitions refer to (SOPS keys, credentials of repositories) are not read from any
cluster; values that cannot be decrypted here are replaced by a placeholder.

All control planes run at once, for an application may depend on one of another
cluster: about 500 MB each. With --cluster the others are taken to be alive, and
their applications to be ready.

It needs the devcluster program, which "make build" puts beside belay.

Exit codes: 0 when everything came back but what is suspended, 1 when something
did not, 2 when the drill could not be run.`

const drillExample = `  belay drill --repo https://git.example.com/platform/fleet.git
  belay drill --repo . --at v1.4.0 --only shop
  belay drill --repo . --cluster production -o markdown --report drill.md
  belay drill --repo . --kubeconfig ~/.kube/production --timeout 30m -o json`

// drillFlags are the flags of a drill.
type drillFlags struct {
	repo, ref, path, at, only, report, kubeconfig, health, program string

	clusters          []string
	format            string
	timeout, patience time.Duration
	keep              bool
}

// errNotRun is the mark of an error for which a drill could not be run.
var errNotRun = errors.New("the drill could not be run")

// notRunError is such an error.
type notRunError struct{ error }

func (n notRunError) Unwrap() []error { return []error{n.error, errNotRun} }

// withoutMark is the error itself.
func withoutMark(err error) error {
	if n, ok := errors.AsType[notRunError](err); ok {
		return n.error
	}
	return err
}

func newDrill(env *env) *cobra.Command {
	var f drillFlags
	cmd := &cobra.Command{
		Use: "drill --repo URL", Short: "Rehearse recovery on a throwaway control plane", Long: drillLong, Example: drillExample, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			return env.drill(cmd.Context(), &f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.repo, "repo", "", "URL or path of the repository with the definitions (required)")
	flags.StringVar(&f.ref, "ref", "main", "branch, tag, commit or semver range that the server follows")
	flags.StringVar(&f.path, "path", "belay/", "directory of the definitions")
	flags.StringVar(&f.at, "at", "", "rehearse this branch, tag or commit in place of --ref; HEAD~1 is the commit before its newest")
	flags.StringArrayVar(&f.clusters, "cluster", nil, "only this cluster is lost (may be repeated; default: all)")
	flags.StringVar(&f.only, "only", "", "only this application, and those that it depends on")
	flags.StringVar(&f.health, "health", "lenient", "lenient, or strict: wait for the health of custom resources, too")
	flags.DurationVar(&f.timeout, "timeout", 15*time.Minute, "longest time for all of it")
	flags.DurationVar(&f.patience, "patience", 30*time.Second, "it is over when nothing moves for this long")
	flags.StringVarP(&f.format, "output", "o", string(drill.Text), "form of the report: text, json, markdown or junit")
	flags.StringVar(&f.report, "report", "", "write the report to this file, and a summary to standard output")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "read definitions of kinds from the real clusters, by this kubeconfig")
	flags.StringVar(&f.program, "devcluster", "", "the devcluster program (default: beside belay, or in PATH)")
	flags.BoolVar(&f.keep, "keep", false, "keep the control planes up until Ctrl-C, to look at them")
	_ = cmd.MarkFlagRequired("repo") // the flag is defined above
	return cmd
}

func (f *drillFlags) check() error {
	if !slices.Contains(drill.Formats(), drill.Format(f.format)) {
		return usageError(fmt.Sprintf("--output is text, json, markdown or junit, not %q", f.format))
	}
	if f.health != "lenient" && f.health != "strict" {
		return usageError(fmt.Sprintf("--health is lenient or strict, not %q", f.health))
	}
	return nil
}

// drill runs one and reports.
func (e *env) drill(ctx context.Context, f *drillFlags) (err error) {
	var report *bytes.Buffer
	if f.report != "" { // that it cannot be written is better known before than after
		file, err := os.OpenFile(f.report, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return notRunError{fmt.Errorf("make the report: %w", err)}
		}
		_ = file.Close() // nothing was written
		report = &bytes.Buffer{}
	}
	r := &rehearsal{env: e, drillFlags: f}
	defer r.close()
	outcome, err := r.run(ctx)
	if err != nil {
		return notRunError{err}
	}
	p := e.printer()
	if report != nil {
		if err := outcome.Write(term.New(report, e.getenv), drill.Format(f.format)); err != nil {
			return notRunError{err}
		}
		if err := os.WriteFile(f.report, report.Bytes(), 0o644); err != nil {
			return notRunError{fmt.Errorf("write the report: %w", err)}
		}
		err = outcome.Write(p, drill.Text)
	} else {
		err = outcome.Write(p, drill.Format(f.format))
	}
	if err != nil {
		return err
	}
	if f.keep {
		r.wait(ctx)
	}
	if outcome.Result != drill.Passed {
		return errFound
	}
	return nil
}
