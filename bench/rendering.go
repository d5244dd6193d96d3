package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/belaydev/belay/bench/rendering"
)

// renderingResult is the form of the JSON file of "bench render".
type renderingResult struct {
	Time       time.Time          `json:"time"`
	Processors int                `json:"processors"`
	Load       string             `json:"load"`
	Kinds      []rendering.Result `json:"kinds"`
}

// runRendering measures the pool of render workers beside the libraries.
func runRendering(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o rendering.Options
	var programs options
	var jsonFile string
	f := flag.NewFlagSet("bench render", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.Applications, "apps", 100, "different applications of each kind")
	f.IntVar(&o.Renders, "renders", 2000, "renders of each kind in one round, each way")
	f.IntVar(&o.Rounds, "rounds", 3, "rounds; the median counts")
	f.IntVar(&o.Starts, "starts", 9, "starts of a pool; the median counts")
	f.StringVar(&jsonFile, "json", "", "write the figures to this file")
	programs.belayFlag(f)
	if err := f.Parse(args); err != nil {
		return err
	}
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	case min(o.Applications, o.Renders, o.Rounds, o.Starts) < 1:
		return fmt.Errorf("--apps, --renders, --rounds and --starts are at least 1")
	}
	if err := programs.findBelay(); err != nil {
		return err
	}
	o.Belay = programs.belay
	o.Below = func() float64 {
		u := readUsage(os.Getpid())
		return u.Workers + u.Others
	}
	res := renderingResult{Time: time.Now().UTC().Truncate(time.Second), Processors: processors(), Load: load()}
	for _, kind := range rendering.Kinds {
		fmt.Fprintf(stderr, "rendering %d times with %s, each way\n", o.Renders*o.Rounds, kind)
		r, err := rendering.Measure(ctx, kind, o)
		if err != nil {
			return fmt.Errorf("measure %s: %w", kind, err)
		}
		res.Kinds = append(res.Kinds, r)
	}
	res.print(stdout)
	return writeJSON(jsonFile, res)
}

func (r *renderingResult) print(w io.Writer) {
	fmt.Fprintf(w, "\nRendering with %d processors; load of the machine before the run: %s\n\n", r.Processors, r.Load)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tlibrary /s\tpool /s\tratio\tlibrary CPU ms\tpool CPU ms\tof it workers\tratio\tstart ms\tobjects\tdiffer\t")
	for _, k := range r.Kinds {
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.0f\t%d\t%d\t\n", k.Kind, k.Library.PerSecond, k.Pool.PerSecond, k.Ratio,
			k.Library.CPU, k.Pool.CPU, k.Pool.Worker, k.RatioCPU, k.Start, k.Objects, k.Differ)
	}
	_ = t.Flush() // what stdout does not take is gone either way
}
