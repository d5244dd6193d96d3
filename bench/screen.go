package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// lines are what the screen shows of a result: what a newcomer asks first.
var lines = []struct{ key, label string }{
	{"rollout.wall", "First rollout, until all objects exist"},
	{"rollout.patches", "  PATCH requests"},
	{"rollout.cpu.controlplane", "  CPU of the control plane"},
	{"rollout.cpu", "  CPU, workers and git included"},
	{"one.p50", "Commit to one application, median"},
	{"one.p99", "  99th percentile"},
	{"one.patches", "  PATCH requests"},
	{"one.renders", "  renders"},
	{"one.cpu", "  CPU, workers and git included"},
	{"all.wall", "Commit to all; loop and rendering"},
	{"all.patches", "  PATCH requests"},
	{"all.cpu", "  CPU, workers and git included"},
	{"drift.p50", "Edit by hand until healed, median"},
	{"rest.requests", "At rest: requests but watches"},
	{"rest.cpu", "  CPU"},
	{"memory.rest", "  memory, workers and git included"},
	{"restart.wall", "Restart until all is known to be in sync"},
	{"restart.writes", "  writes"},
	{"restart.renders", "  renders"},
	{"memory.restarted", "  memory at rest after it"},
}

// screen prints a result so that it says how fast, against what, and whether
// that is as fast as it should be. Earlier figures stand beside it.
func (r *result) screen(out io.Writer, earlier *result) {
	fmt.Fprintf(out, "%s\n%s\n\n", r, r.how())
	t := &table{widths: []int{41, 11, 11, 8, -22, -5}}
	head := []string{"", "raw loop", "Belay", "ratio", "mark", ""}
	if earlier != nil {
		t.widths, head = append(t.widths, 11, 8), append(head, "earlier", "change")
	}
	t.line(out, head...)
	for _, l := range lines {
		f, ok := r.Figures[l.key]
		if !ok {
			continue
		}
		cells := []string{l.label, quantity(f.Raw, f.Unit), quantity(f.Belay, f.Unit), ratio(f), "", ""}
		if strings.HasSuffix(l.key, ".cpu") {
			cells[3] = "" // of two programs that do different things
		}
		if m, ok := markOf(l.key); ok {
			cells[4], cells[5] = m.text(r.Applications), m.verdict(r)
		}
		t.line(out, append(cells, since(earlier, l.key, f)...)...)
	}
}

// since is what a figure was, and by what it has changed.
func since(earlier *result, key string, now figure) []string {
	if earlier == nil {
		return nil
	}
	then := earlier.Figures[key]
	if m, ok := markOf(key); ok && m.ratio {
		a, had := then.ratio()
		b, has := now.ratio()
		if had && has {
			return []string{fmt.Sprintf("%.2f ×", a), ratio(figure{Raw: &a, Belay: &b})}
		}
	}
	return []string{quantity(then.Belay, then.Unit), ratio(figure{Raw: then.Belay, Belay: now.Belay})}
}

// how says what a result was taken on and what it was taken from.
func (r *result) how() string {
	s := fmt.Sprintf("%s; %d processors, %s, shared with the control plane; load before: %s", r.Belay, r.Processors, r.Platform, strings.Join(r.Load, " | "))
	if n := len(r.Runs); n > 1 {
		s = fmt.Sprintf("medians of %d runs, ratios taken in each; %s", n, s)
	}
	if r.RawApplications < r.Applications {
		s += fmt.Sprintf("\nthe raw loop applied %s applications; its figures are scaled to %s", thousands(r.RawApplications), thousands(r.Applications))
	}
	return s
}

// meaning ends a screen.
const meaning = `
The raw loop is 32 clients that apply the same objects and do nothing else: what it takes is what this API server
can do. Times run from the start of the process, or from the push hook, until the object is seen to have changed.
Every figure: --details. How it is measured and what it means: docs/performance.md.
`

// details prints all figures of a result.
func (r *result) details(out io.Writer, earlier *result) {
	fmt.Fprintf(out, "%s\n%s\n\n", r, r.how())
	t := &table{widths: []int{62, 11, 11, 8}}
	head := []string{"", "raw loop", "Belay", "ratio"}
	if earlier != nil {
		t.widths, head = append(t.widths, 11, 8), append(head, "earlier", "change")
	}
	t.line(out, head...)
	for _, row := range rows {
		f, ok := r.Figures[row.key]
		switch {
		case row.key == "":
			t.line(out, row.label)
		case ok:
			t.line(out, append([]string{"  " + row.label, quantity(f.Raw, f.Unit), quantity(f.Belay, f.Unit), ratio(f)}, since(earlier, row.key, f)...)...)
		}
	}
	for _, phase := range sortedKeys(r.Requests) {
		fmt.Fprintf(out, "requests, %s: %s\n", phase, list(r.Requests[phase]))
	}
}

// growth prints what became of the figures from the smallest fleet to the
// largest, for each layout and kind that has several sizes.
func (rs *results) growth(out io.Writer) {
	for _, s := range rs.series() {
		if len(s) < 2 {
			continue
		}
		first, last := s[0], s[len(s)-1]
		times := float64(last.Applications) / float64(first.Applications)
		fmt.Fprintf(out, "\nGrowth, %s, %s: a fleet that is %.4g times as large\n\n", last.Kind, last.Layout, times)
		t := &table{widths: []int{43}}
		head := []string{"applications"}
		for _, r := range s {
			t.widths, head = append(t.widths, 12), append(head, thousands(r.Applications))
		}
		t.widths = append(t.widths, 9, -10, -6)
		t.line(out, append(head, "ratio", "mark")...)
		for _, g := range growthRows {
			cells := []string{g.label}
			for _, r := range s {
				cells = append(cells, quantity(g.of(r), g.unit()))
			}
			f := figure{Raw: g.of(first), Belay: g.of(last)}
			cells = append(cells, ratio(f))
			if v, ok := f.ratio(); ok && g.most > 0 {
				verdict := verdictOK
				if v > g.most {
					verdict = verdictOver
				}
				cells = append(cells, fmt.Sprintf("≤ %.4g ×", g.most), verdict)
			}
			t.line(out, cells...)
		}
	}
}

// series are the results of one layout and kind, from the smallest fleet on.
func (rs *results) series() (out [][]*result) {
	for _, r := range rs.Results { // they are in this order
		if n := len(out); n > 0 && out[n-1][0].Layout == r.Layout && out[n-1][0].Kind == r.Kind {
			out[n-1] = append(out[n-1], r)
		} else {
			out = append(out, []*result{r})
		}
	}
	return out
}

// table prints cells in columns: a negative width is flush left, as is the first.
type table struct{ widths []int }

func (t *table) line(out io.Writer, cells ...string) {
	var b strings.Builder
	for i, c := range cells {
		w := t.widths[i]
		space := strings.Repeat(" ", max(0, max(w, -w)-utf8.RuneCountInString(c)))
		switch {
		case i == 0:
			b.WriteString(c + space)
		case w < 0:
			b.WriteString("   " + c + space)
		default:
			b.WriteString(space + c)
		}
	}
	fmt.Fprintln(out, strings.TrimRight(b.String(), " "))
}

// quantity is a value with its unit.
func quantity(v *float64, unit string) string {
	switch {
	case v == nil:
		return ""
	case unit == "":
		return number(v)
	case strings.HasPrefix(unit, "%"):
		return number(v) + " %"
	case unit == "cpu ms" && *v >= 10_000, unit == "ms" && *v >= 10_000:
		return number(new(*v/1000)) + " s"
	default:
		return number(v) + " " + strings.TrimPrefix(unit, "cpu ")
	}
}

func number(v *float64) string {
	switch {
	case v == nil:
		return ""
	case *v == float64(int64(*v)):
		return thousands(int(*v))
	case *v < 10:
		return fmt.Sprintf("%.2f", *v)
	case *v < 1000:
		return fmt.Sprintf("%.1f", *v)
	default:
		return thousands(int(*v + .5))
	}
}

// thousands writes a number in groups of three.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func ratio(f figure) string {
	if v, ok := f.ratio(); ok {
		return fmt.Sprintf("%.2f", v)
	}
	return ""
}

func list(requests map[string]int) string {
	if len(requests) == 0 {
		return "none"
	}
	// One line has to do: the few that are many, and the sum of the many that are few.
	const few = 2
	var parts []string
	rest := map[string]int{}
	for _, k := range sortedKeys(requests) {
		if n := requests[k]; n > few {
			parts = append(parts, fmt.Sprintf("%d %s", n, k))
		} else {
			verb, _, _ := strings.Cut(k, " ")
			rest[verb] += n
		}
	}
	for _, verb := range sortedKeys(rest) {
		parts = append(parts, fmt.Sprintf("%d other %s", rest[verb], verb))
	}
	return strings.Join(parts, ", ")
}
