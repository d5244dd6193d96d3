package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay/internal/evidence"
	"github.com/belaydev/belay/internal/evidence/report"
	"github.com/belaydev/belay/internal/term"
)

const metricsLong = `Shows how often changes are deployed, how long a commit takes until it is, how many
changes fail, and how long that lasts: the four figures of DORA's research, from the
record. Of the fleet and its projects; with --project of a project and its
applications; with APP of an application.

Use it to see whether delivery becomes better or worse. It says nothing of how well a
person works. Few data are said to be few: no 90th percentile of fewer than 10
values, no percentage and no rate of fewer than 10 changes.

--explain prints what each figure is and what it leaves out. With "-o json" the
output is {"version": 1, "period": {...}, "scope": {...}, "metrics": [...]}, times in
seconds.`

const metricsExample = `  belay metrics
  belay metrics checkout --since 90d --explain
  belay metrics --project shop --from 2026-10-01 --to 2026-12-31 -o json`

// metricsOutput is the documented form of the figures.
type metricsOutput struct {
	Version int                `json:"version"`
	Period  evidence.Period    `json:"period"`
	Scope   evidence.Scope     `json:"scope"`
	Metrics []evidence.Metrics `json:"metrics"`
}

func newDelivery(env *env) *cobra.Command {
	var since, from, to string
	var scope evidence.Scope
	var explain bool
	cmd := &cobra.Command{
		Use: "metrics [APP]", Short: "Show how often, how fast and how well changes are delivered",
		Long: metricsLong, Example: metricsExample, Args: cobra.MaximumNArgs(1), ValidArgsFunction: env.completeApplications,
	}
	out := addOutput(cmd)
	where := addLedger(cmd)
	addScope(cmd, &scope)
	cmd.Flags().StringVar(&since, "since", "30d", "`span` of time until now: 30d, 2w, 12h")
	cmd.Flags().StringVar(&from, "from", "", "first `day`, in place of --since, or the moment the period begins")
	cmd.Flags().StringVar(&to, "to", "", "last `day`, or the moment the period ends (default: now)")
	cmd.Flags().BoolVar(&explain, "explain", false, "say what each figure is")
	cmd.MarkFlagsMutuallyExclusive("since", "from")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			scope.Application = args[0]
		}
		p, err := metricsPeriod(since, from, to, time.Now())
		if err != nil {
			return err
		}
		return env.withRecord(cmd.Context(), *where, func(rec recordReader) error {
			r, err := collect(cmd.Context(), rec, p, scope)
			if err != nil {
				return err
			}
			if *out != outputTable {
				return env.write(*out, metricsOutput{evidence.Version, r.Period, r.Scope, r.Metrics})
			}
			return printMetrics(env.printer(), r, explain)
		})
	}
	return cmd
}

func metricsPeriod(since, from, to string, now time.Time) (evidence.Period, error) {
	if from != "" {
		return parsePeriod(from, to, now)
	}
	if to != "" {
		return evidence.Period{}, &usage{message: "--to needs --from", hint: "--since reaches until now"}
	}
	ago, ok := parseAgo(since)
	if !ok || ago == 0 {
		return evidence.Period{}, &usage{message: fmt.Sprintf("--since is a span of time, not %q", since), hint: "for example 30d, 2w or 12h"}
	}
	now = now.Truncate(time.Second)
	return evidence.Period{From: now.Add(-ago), To: now}, nil
}

// printMetrics writes the figures that the scope is about.
func printMetrics(p *term.Printer, r *evidence.Report, explain bool) error {
	if _, err := fmt.Fprintf(p, "%s (%s)\n\n", report.Days(r.Period), report.Zone(r.Period)); err != nil {
		return err
	}
	t := term.NewTable("OF", "FREQUENCY", "CHANGES", "DEPLOYMENTS", "LEAD TIME", "P90", "FAILED", "TIME TO RESTORE")
	for i := range r.Metrics {
		m := &r.Metrics[i]
		if name := metricsName(m, r.Scope); name != "" {
			restore := m.Restore.MedianText()
			if m.Restore.Open > 0 {
				restore += fmt.Sprintf(", %d open", m.Restore.Open)
			}
			t.Row(term.Text(name), term.Text(m.FrequencyText()), term.Text(fmt.Sprint(m.Frequency.Changes)), term.Text(fmt.Sprint(m.Frequency.Deployments)),
				term.Text(m.LeadTime.MedianText()), term.Text(m.LeadTime.P90Text()), term.Text(m.Failures.Text()), term.Text(restore))
		}
	}
	if err := p.Print(t); err != nil {
		return err
	}
	var b strings.Builder
	if left := r.Metrics[0].NotCounted.Words(); len(left) > 0 {
		fmt.Fprintf(&b, "\nNot counted: %s.\n", strings.Join(left, ", "))
	}
	if explain {
		for _, d := range evidence.MetricDefinitions() {
			fmt.Fprintf(&b, "\n%s\n%s\n", p.Paint(term.Bold, d.Name), wrap(d.Text, 80, "  "))
		}
	} else {
		b.WriteString("\n--explain says what each figure is.\n")
	}
	_, err := p.Write([]byte(b.String()))
	return err
}

// metricsName is how a row is called, "" for one that the question is not about:
// projects of a fleet, applications of a project.
func metricsName(m *evidence.Metrics, s evidence.Scope) string {
	switch m.Level {
	case evidence.OfFleet:
		switch {
		case s.Application != "":
			return s.Application
		case s.Project != "":
			return "project " + s.Project
		case s.Cluster != "":
			return "cluster " + s.Cluster
		}
		return "fleet"
	case evidence.OfProject:
		if s.Application == "" && s.Project == "" {
			return "project " + m.Name
		}
	case evidence.OfApplication:
		if s.Project != "" || s.Application != "" {
			return m.Name + " on " + m.Cluster
		}
	}
	return ""
}

// wrap breaks a paragraph into lines of at most width columns.
func wrap(text string, width int, indent string) string {
	var lines []string
	line := indent
	for word := range strings.FieldsSeq(text) {
		if line != indent && term.Columns(line)+1+term.Columns(word) > width {
			lines = append(lines, line)
			line = indent
		}
		if line != indent {
			line += " "
		}
		line += word
	}
	return strings.Join(append(lines, line), "\n")
}
