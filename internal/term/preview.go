package term

import (
	"fmt"
	"strings"
	"time"

	"github.com/belaydev/belay"
)

// Previews writes what would change: per application a line with the counts,
// below it each object with its diff, then what is held or wrong. Applications
// that would not change are counted in one line at the end.
func (p *Printer) Previews(previews []belay.Preview) error {
	var b strings.Builder
	quiet := 0
	for _, pv := range previews {
		if len(pv.Changes) == 0 && pv.Held == nil && len(pv.Errors) == 0 {
			quiet++
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		p.preview(&b, &pv)
	}
	if quiet > 0 {
		if b.Len() > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s would not change.\n", Count(quiet, "application"))
	}
	_, err := p.w.Write([]byte(b.String()))
	return err
}

func (p *Printer) preview(b *strings.Builder, pv *belay.Preview) {
	p.heading(b, pv)
	switch {
	case strings.HasPrefix(pv.Revision, "("): // words in place of a commit
		fmt.Fprintf(b, " %s", Clean(pv.Revision))
	case pv.Revision != "":
		fmt.Fprintf(b, " at %s", short(pv.Revision))
	}
	fmt.Fprintf(b, ": %s\n", counts(pv))
	if pv.Waits != "" {
		b.WriteString("    " + p.Paint(Yellow, "not now: "+Clean(pv.Waits)) + "\n")
	}
	for i := range pv.Changes {
		p.change(b, &pv.Changes[i])
	}
	if pv.Held != nil {
		p.problem(b, "held", Yellow, pv.Held)
	}
	for i := range pv.Errors {
		p.problem(b, "error", Red, &pv.Errors[i])
	}
}

func (p *Printer) heading(b *strings.Builder, pv *belay.Preview) {
	b.WriteString(p.Paint(Bold, Clean(pv.Application)))
	if pv.Set != "" {
		b.WriteString(" of ApplicationSet " + Clean(pv.Set))
	}
	b.WriteString(" on " + Clean(pv.Cluster))
}

func counts(pv *belay.Preview) string {
	n := map[belay.Verb]int{}
	hooks, refused := 0, 0
	for i := range pv.Changes {
		switch c := &pv.Changes[i]; {
		case c.Hook != "":
			hooks++
		case c.Error != "":
			refused++
		default:
			n[c.Verb]++
		}
	}
	var parts []string
	for _, v := range []belay.Verb{belay.VerbCreate, belay.VerbAdopt, belay.VerbUpdate, belay.VerbHeal, belay.VerbRecreate, belay.VerbDelete} {
		if n[v] > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", n[v], v))
		}
	}
	if hooks > 0 {
		parts = append(parts, Count(hooks, "hook")+" to run")
	}
	if refused > 0 {
		parts = append(parts, fmt.Sprintf("%d refused", refused))
	}
	if pv.Held != nil {
		parts = append(parts, "some held")
	}
	if e := len(pv.Errors); e > 0 {
		parts = append(parts, Count(e, "error"))
	}
	return strings.Join(append(parts, fmt.Sprintf("%d unchanged", pv.Unchanged)), ", ")
}

func (p *Printer) change(b *strings.Builder, c *belay.PreviewChange) {
	sign, style, verb := "~", Yellow, string(c.Verb)
	switch {
	case c.Hook != "":
		sign, style, verb = ">", Cyan, "run "+Clean(string(c.Hook))+" hook"
	case c.Verb == belay.VerbCreate:
		sign, style = "+", Green
	case c.Verb == belay.VerbDelete:
		sign, style = "-", Red
	case c.Verb == belay.VerbRecreate:
		sign, style = "±", Red
	}
	fmt.Fprintf(b, "%s %s", p.Paint(style, sign+" "+verb), Clean(c.ID.String()))
	if c.File != "" {
		b.WriteString("  " + p.Paint(Faint, Clean(belay.Origin{File: c.File, Line: c.Line}.String())))
	}
	b.WriteByte('\n')
	if c.Drift != nil {
		b.WriteString("    " + Clean(driftLine(c.Drift)) + "\n")
	}
	if c.Error != "" {
		b.WriteString("    " + p.Paint(Red, "refused: "+Clean(c.Error)) + "\n")
		if c.Hint != "" {
			b.WriteString("    " + Clean(c.Hint) + "\n")
		}
	}
	p.Diff(b, "    ", c.Diff)
}

// driftLine is "changed by kubectl-edit (Update) at 2026-01-02T03:04:05Z: .spec.replicas".
func driftLine(d *belay.Drift) string {
	s := "changed in the cluster"
	if d.Manager != "" {
		s += " by " + d.Manager
		if d.Operation != "" {
			s += " (" + d.Operation + ")"
		}
	}
	if !d.Time.IsZero() {
		s += " at " + d.Time.UTC().Format(time.RFC3339)
	}
	if len(d.Taken) > 0 {
		s += ": " + strings.Join(d.Taken, ", ")
	}
	if len(d.Added) > 0 {
		s += "; added: " + strings.Join(d.Added, ", ")
	}
	return s
}

// Diff appends a unified diff to b, each line behind indent and in its colour.
func (p *Printer) Diff(b *strings.Builder, indent, diff string) {
	for l := range strings.Lines(diff) {
		l = CleanLine(strings.TrimSuffix(l, "\n"))
		style := Plain
		switch {
		case strings.HasPrefix(l, "--- "), strings.HasPrefix(l, "+++ "):
			style = Bold
		case strings.HasPrefix(l, "@@"):
			style = Cyan
		case strings.HasPrefix(l, "+"):
			style = Green
		case strings.HasPrefix(l, "-"):
			style = Red
		}
		b.WriteString(indent + p.Paint(style, l) + "\n")
	}
}

func (p *Printer) problem(b *strings.Builder, word string, style Style, e *belay.Error) {
	fmt.Fprintf(b, "%s %s\n", p.Paint(style, word+":"), Clean(ErrorLine(e)))
	if e.Hint != "" {
		fmt.Fprintf(b, "    hint: %s\n", Clean(e.Hint))
	}
}

// ErrorLine is an error with its place and without its hint.
func ErrorLine(e *belay.Error) string {
	bare := *e
	bare.Hint = ""
	return bare.Error()
}

// Count is "1 object" or "3 objects".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func short(commit string) string { return belay.Revision{Commit: commit}.Short() }
