package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// runPlot draws what JSON files say against the number of applications: a
// picture for each layout and kind that was measured in several sizes.
func runPlot(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("bench plot", flag.ContinueOnError)
	f.SetOutput(stderr)
	dir := f.String("out", ".", "directory of the pictures")
	all, err := figuresOf(f, args, "[--out DIR]")
	if err != nil {
		return err
	}
	drawn := 0
	for _, s := range all.series() {
		if len(s) < 2 {
			continue
		}
		file := filepath.Join(*dir, fmt.Sprintf("growth-%s-%s.svg", s[0].Layout, s[0].Kind))
		var b strings.Builder
		if err := picture(&b, titleOf(s), belowOf(s), panelsOf(s)); err != nil {
			return err
		}
		if err := os.MkdirAll(*dir, 0o755); err != nil {
			return fmt.Errorf("write the picture: %w", err)
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			return fmt.Errorf("write the picture: %w", err)
		}
		fmt.Fprintln(stdout, file)
		drawn++
	}
	if drawn == 0 {
		return errors.New("growth needs at least two sizes of one layout and kind: run with --apps 100,1000 --json FILE")
	}
	return nil
}

func titleOf(s []*result) string {
	return fmt.Sprintf("What a commit costs, by number of applications (%s, %s)", s[0].Kind, whereOf(s[0]))
}

func belowOf(s []*result) string {
	last := s[len(s)-1]
	return fmt.Sprintf("Both axes are logarithmic. %d processors, shared with the control plane; %s, %s", last.Processors, last.Belay, last.Time.Format("2006-01-02"))
}

// plotted are the curves of the panels: figures of Belay, or of the raw loop, in
// thousandths where seconds stand beside milliseconds.
var plotted = []struct {
	title, unit string
	curves      []plottedCurve
}{
	{"Time, hook until the change is seen", "ms", []plottedCurve{
		{"all.wall", "to all", "all", false, 1000}, {"all.wall", "loop and rendering", "raw", true, 1000},
		{"one.p50", "to one", "one", false, 1}, {"one.p50", "raw loop", "raw", true, 1}}},
	{"CPU of Belay, its workers and git", "cpu ms", []plottedCurve{{"all.cpu", "to all", "all", false, 1000}, {"one.cpu", "to one", "one", false, 1}}},
	{"Memory, workers and git included", "MB", []plottedCurve{
		{"memory.all", "peak, to all", "all", false, 1}, {"memory.one", "peak, to one", "one", false, 1}, {"memory.rest", "at rest", "rest", false, 1}}},
	{"Requests to the API server", "", []plottedCurve{{"all.requests", "to all", "all", false, 1}, {"one.requests", "to one", "one", false, 1}}},
}

type plottedCurve struct {
	key, label, class string
	raw               bool
	times             float64
}

// panelsOf takes the curves out of the results. What was not measured, or is
// nothing, has no place on a logarithmic axis.
func panelsOf(s []*result) (out []panel) {
	for _, p := range plotted {
		panel := panel{title: p.title, unit: p.unit}
		for _, pc := range p.curves {
			c := curve{label: pc.label, class: pc.class}
			for _, r := range s {
				f := r.Figures[pc.key]
				v := f.Belay
				if pc.raw {
					v = f.Raw
				}
				if v != nil && *v > 0 {
					c.x, c.y = append(c.x, float64(r.Applications)), append(c.y, *v*pc.times)
				}
			}
			if len(c.x) > 0 {
				panel.curves = append(panel.curves, c)
			}
		}
		out = append(out, panel)
	}
	return out
}
