package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/client"
	"github.com/belaydev/belay/internal/term"
)

const getSetsLong = `Shows ApplicationSets: how many applications each makes, and what is not right
with it. With names, it shows the applications of those, too, and whole hints:
a set that would no longer make many of its applications waits for a token, which
stands there.

With "-o json" the output is {"sets": [{"name", "file", "line", "applications",
"held", "failing", "message", "hint"}]}, sorted by name.`

func newGetSets(env *env) *cobra.Command {
	cmd := &cobra.Command{
		Use: "sets [NAME...]", Short: "Show ApplicationSets and what they make",
		Long: getSetsLong, Example: "  belay get sets\n  belay get sets envs\n  belay get sets -o json",
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	out := addOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := env.client()
		if err != nil {
			return err
		}
		st, err := c.Status(cmd.Context(), client.Filter{})
		if err != nil {
			return err
		}
		sets, err := chooseSets(st.Sets, args)
		if err != nil {
			return err
		}
		if *out != outputTable {
			return env.write(*out, struct {
				Sets []belay.SetStatus `json:"sets"`
			}{sets})
		}
		return printSets(env.printer(), sets, len(args) > 0)
	}
	return cmd
}

func chooseSets(all []belay.SetStatus, names []string) ([]belay.SetStatus, error) {
	out := []belay.SetStatus{}
	for _, s := range all {
		if len(names) == 0 || slices.Contains(names, s.Name) {
			out = append(out, s)
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(out, func(s belay.SetStatus) bool { return s.Name == n }) {
			return nil, &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("there is no ApplicationSet %q", n), Hint: "belay get sets lists them"}
		}
	}
	return out, nil
}

// printSets writes a table, or with detail what each set makes.
func printSets(p *term.Printer, sets []belay.SetStatus, detail bool) error {
	if len(sets) == 0 {
		_, err := fmt.Fprintln(p, "No ApplicationSets.")
		return err
	}
	if !detail {
		t := term.NewTable("NAME", "APPLICATIONS", "HELD", "DECLARED", "MESSAGE")
		for _, s := range sets {
			t.Row(term.Text(s.Name), term.Text(fmt.Sprint(len(s.Applications))), term.Text(fmt.Sprint(len(s.Held))),
				term.Text(fmt.Sprintf("%s:%d", s.File, s.Line)), term.Text(s.Message))
		}
		return p.Print(t)
	}
	var b strings.Builder
	for i, s := range sets {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s %s, declared at %s:%d\n", p.Paint(term.Bold, term.Clean(s.Name)), term.Count(len(s.Applications), "application"), term.Clean(s.File), s.Line)
		if s.Message != "" {
			fmt.Fprintf(&b, "  %s\n", term.Clean(s.Message))
		}
		if s.Hint != "" {
			fmt.Fprintf(&b, "  hint: %s\n", term.Clean(s.Hint))
		}
		for _, name := range s.Applications {
			held := ""
			if slices.Contains(s.Held, name) {
				held = "  (held: it would no longer be made)"
			}
			fmt.Fprintf(&b, "  - %s%s\n", term.Clean(name), held)
		}
	}
	_, err := p.Write([]byte(b.String()))
	return err
}
