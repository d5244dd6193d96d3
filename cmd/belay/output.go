package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/term"
)

// output is the value of --output.
type output string

const (
	outputTable output = ""
	outputJSON  output = "json"
	outputYAML  output = "yaml"
	outputWide  output = "wide" // only of commands that have addWideOutput
)

// String, Set and Type implement pflag.Value.
func (o *output) String() string { return string(*o) }

func (o *output) Set(s string) error {
	switch output(s) {
	case outputTable, outputJSON, outputYAML:
		*o = output(s)
		return nil
	}
	return fmt.Errorf("it is json or yaml")
}

func (o *output) Type() string { return "format" }

// addOutput adds --output to a command.
func addOutput(cmd *cobra.Command) *output {
	o := new(output)
	cmd.Flags().VarP(o, "output", "o", "json or yaml instead of text for people")
	// The error is of a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
	return o
}

// wideOutput is the value of --output where "wide" is one.
type wideOutput struct{ *output }

func (o wideOutput) Set(s string) error {
	if output(s) == outputWide {
		*o.output = outputWide
		return nil
	}
	if o.output.Set(s) != nil {
		return fmt.Errorf("it is json, yaml or wide")
	}
	return nil
}

// addWideOutput adds --output to a command that has a wide table.
func addWideOutput(cmd *cobra.Command) *output {
	o := new(output)
	cmd.Flags().VarP(wideOutput{o}, "output", "o", "json or yaml instead of text for people, or wide for more of it")
	// The error is of a flag that is not there.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml", "wide"}, cobra.ShellCompDirectiveNoFileComp))
	return o
}

// write writes v in the documented form: two spaces of indentation, the order
// of fields as they are declared (JSON) or of the alphabet (YAML).
func (e *env) write(o output, v any) error {
	var out []byte
	var err error
	if o == outputYAML {
		out, err = yaml.Marshal(v)
	} else {
		out, err = json.MarshalIndent(v, "", "  ")
		out = append(out, '\n')
	}
	if err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	_, err = e.stdout.Write(out)
	return err
}

// writeStreamed writes one of many values: a line of JSON, or a YAML document.
func (e *env) writeStreamed(o output, v any) error {
	var out []byte
	var err error
	if o == outputYAML {
		out, err = yaml.Marshal(v)
		out = append([]byte("---\n"), out...)
	} else {
		out, err = json.Marshal(v)
		out = append(out, '\n')
	}
	if err != nil {
		return fmt.Errorf("encode the output: %w", err)
	}
	_, err = e.stdout.Write(out)
	return err
}

// printer writes to standard output for people.
func (e *env) printer() *term.Printer { return term.New(e.stdout, e.getenv) }

// addFilter adds flags that choose applications.
func addFilter(cmd *cobra.Command, f *client.Filter) {
	cmd.Flags().StringVar(&f.Project, "project", "", "only applications of this project")
	cmd.Flags().StringVar(&f.Cluster, "cluster", "", "only applications of this cluster")
}

// How long a server is waited for that need not be there. Tests have more patience.
var (
	completionPatience = 2 * time.Second
	versionPatience    = 5 * time.Second
)

// completeApplications completes names of applications, if a server answers soon.
func (e *env) completeApplications(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
	defer cancel()
	c, err := e.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	apps, err := c.Applications(ctx, client.Filter{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, a := range apps {
		if strings.HasPrefix(a.Name, prefix) && !slices.Contains(args, a.Name) {
			names = append(names, a.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeFirst is completion of one argument.
func completeFirst(complete cobra.CompletionFunc) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, prefix string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, prefix)
	}
}

// checkNames is the server's error for the first of names that no application of an
// answer has: it knows which name is near, and whether it knows the fleet yet.
func checkNames(ctx context.Context, c *client.Client, apps []belay.ApplicationStatus, names []string) error {
	for _, n := range names {
		if slices.ContainsFunc(apps, func(a belay.ApplicationStatus) bool { return a.Name == n }) {
			continue
		}
		if _, err := c.Application(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// shortRevision is a commit as people write it.
func shortRevision(commit string) string { return belay.Revision{Commit: commit}.Short() }

// withTimeout bounds ctx unless d is 0.
func withTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if d <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

// stateLine is the state of an application in a few words.
func stateLine(a *belay.ApplicationStatus) string {
	s := fmt.Sprintf("%s, %s", a.Sync, a.Health)
	if r := shortRevision(a.Revision); r != "" {
		s += " at " + r
	}
	if m := cmp.Or(a.Message); m != "" {
		s += ": " + m
	}
	return s
}
