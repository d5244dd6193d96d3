package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are those of one run.
type options struct {
	// apps, kind and layout of the fleet.
	apps         int
	kind, layout string

	commits, rounds, drifts, rawApps int
	rest                             time.Duration
	jsonFile                         string
	// dir keeps all that the run makes.
	belay, devcluster, dir string
}

// fleetOptions are the command line of "bench fleet".
type fleetOptions struct {
	options
	sizes              []int
	kinds, layouts     []string
	runs               int
	compareFile        string
	resume, allFigures bool
	// keep leaves what the runs made in the directory.
	keep bool
}

func parse(args []string, stderr io.Writer) (fleetOptions, error) {
	var o fleetOptions
	f := flag.NewFlagSet("bench fleet", flag.ContinueOnError)
	f.SetOutput(stderr)
	apps := f.String("apps", "100", "numbers of applications, separated by commas")
	kind := f.String("kind", "kustomize", "what they are made with, separated by commas: "+strings.Join(kinds, ", "))
	layout := f.String("layout", layoutMono, fmt.Sprintf("how they are spread over repositories, separated by commas: %s, or %s, one for each up to %d",
		layoutMono, layoutMany, mostRepositories))
	f.IntVar(&o.runs, "runs", 1, "runs with each fleet, each on a control plane of its own; figures are their medians")
	f.IntVar(&o.commits, "commits", 100, "commits to one application")
	f.IntVar(&o.rounds, "rounds", 3, "commits to all applications")
	f.IntVar(&o.drifts, "drifts", 50, "edits by hand, each of another application")
	f.IntVar(&o.rawApps, "raw-apps", 2000, "the raw loop applies as many applications at most, and its figures are scaled; 0 is all")
	f.DurationVar(&o.rest, "rest", time.Minute, "time to watch it rest")
	f.StringVar(&o.jsonFile, "json", "", "write the figures to this file, after each fleet; others in it stay")
	f.BoolVar(&o.resume, "resume", false, "leave out fleets that the file of --json has")
	f.StringVar(&o.compareFile, "compare", "", "compare with the figures in this file")
	f.BoolVar(&o.allFigures, "details", false, "print all figures")
	o.belayFlag(f)
	o.devclusterFlag(f)
	f.StringVar(&o.dir, "dir", "", "keep everything in this directory (default: a temporary one, removed at the end)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	o.kinds, o.layouts = strings.Split(*kind, ","), strings.Split(*layout, ",")
	for s := range strings.SplitSeq(*apps, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return o, fmt.Errorf("--apps are numbers of at least 1, separated by commas, not %q", *apps)
		}
		o.sizes = append(o.sizes, n)
	}
	for _, k := range o.kinds {
		if err := checkKind(k); err != nil {
			return o, err
		}
	}
	for _, l := range o.layouts {
		if err := checkLayout(l); err != nil {
			return o, err
		}
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case min(o.runs, o.commits, o.rounds, o.drifts) < 1:
		return o, errors.New("--runs, --commits, --rounds and --drifts are at least 1")
	case o.rawApps < 0:
		return o, errors.New("--raw-apps is 0 or more")
	case o.resume && o.jsonFile == "":
		return o, errors.New("--resume needs --json")
	}
	return o, nil
}

// fleets are all that the options ask for.
func (o *fleetOptions) fleets() (out []benchConfig) {
	for _, layout := range o.layouts {
		for _, kind := range o.kinds {
			for _, apps := range o.sizes {
				c := benchConfig{options: o.options, prefix: "bench", calm: 3 * time.Second}
				c.apps, c.kind, c.layout = apps, kind, layout
				out = append(out, c)
			}
		}
	}
	return out
}

func runFleet(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	var earlier *results
	if o.compareFile != "" { // before the work, not after it
		if earlier, err = readResults(o.compareFile); err != nil {
			return err
		}
	}
	kept := &results{}
	if o.jsonFile != "" {
		if kept, err = readOrNone(o.jsonFile); err != nil {
			return err
		}
	}
	if err := o.findPrograms(); err != nil {
		return err
	}
	o.keep = o.dir != ""
	if !o.keep {
		if o.dir, err = os.MkdirTemp("", "belay-bench-"); err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
		defer func() { _ = os.RemoveAll(o.dir) }() // what is left is in the temporary directory
	} else if o.dir, err = filepath.Abs(o.dir); err != nil {
		return fmt.Errorf("find %q: %w", o.dir, err)
	}
	say := saying(stderr)
	shown := &results{}
	for _, c := range o.fleets() {
		r := newResult(c)
		if had := kept.find(r); had != nil && o.resume {
			say("%s: taken from %s, %s of %s", r, o.jsonFile, had.Belay, had.Time.Format(time.DateTime))
			shown.put(had)
			continue
		}
		c.say = say
		if r, err = o.measure(ctx, c); err != nil {
			return err
		}
		shown.put(r)
		kept.put(r)
		if o.jsonFile != "" {
			if err := kept.write(o.jsonFile); err != nil {
				return err
			}
		}
		show := (*result).screen
		if o.allFigures {
			show = (*result).details
		}
		show(r, stdout, earlier.find(r))
		fmt.Fprintln(stdout)
	}
	shown.growth(stdout)
	fmt.Fprint(stdout, meaning)
	return nil
}

// measure does as many runs with a fleet as the options say.
func (o *fleetOptions) measure(ctx context.Context, c benchConfig) (*result, error) {
	var all []*result
	for n := range o.runs {
		c.say("%s: run %d of %d", newResult(c), n+1, o.runs)
		c.dir = filepath.Join(o.dir, fmt.Sprintf("%d-%s-%s-%d", c.apps, c.kind, c.layout, n))
		if err := os.RemoveAll(c.dir); err != nil {
			return nil, fmt.Errorf("empty the directory: %w", err)
		}
		r, err := c.onItsOwn(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		if o.keep {
			continue
		}
		if err := os.RemoveAll(c.dir); err != nil { // the data of large fleets would add up
			return nil, fmt.Errorf("empty the directory: %w", err)
		}
	}
	return median(all), nil
}

// onItsOwn runs on a control plane of its own.
func (c benchConfig) onItsOwn(ctx context.Context) (res *result, err error) {
	cp, err := startControlPlane(ctx, c.devcluster, filepath.Join(c.dir, "cluster"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, cp.stop()) }()
	c.kubeconfig, c.auditLog, c.controlPlane = cp.kubeconfig, cp.auditLog, cp.pid()
	b, err := newBench(ctx, c)
	if err != nil {
		return nil, err
	}
	return b.run(ctx)
}

func (o *options) belayFlag(f *flag.FlagSet) {
	f.StringVar(&o.belay, "belay", "", "the belay program (default: bin/belay of the module)")
}

func (o *options) devclusterFlag(f *flag.FlagSet) {
	f.StringVar(&o.devcluster, "devcluster", "", "the devcluster program (default: bin/devcluster of the module)")
}

// saying tells whoever waits how far it is.
func saying(stderr io.Writer) func(format string, a ...any) {
	return func(format string, a ...any) { fmt.Fprintf(stderr, format+"\n", a...) }
}

// findPrograms looks for the programs in bin of the module, upwards from the
// working directory.
func (o *options) findPrograms() error {
	root, err := moduleRoot()
	if err != nil && (o.belay == "" || o.devcluster == "") {
		return err
	}
	o.belay = cmp.Or(o.belay, filepath.Join(root, "bin", "belay"))
	o.devcluster = cmp.Or(o.devcluster, filepath.Join(root, "bin", "devcluster"))
	return found(o.belay, o.devcluster)
}

// findBelay is findPrograms for what needs no control plane.
func (o *options) findBelay() error {
	root, err := moduleRoot()
	if err != nil && o.belay == "" {
		return err
	}
	o.belay = cmp.Or(o.belay, filepath.Join(root, "bin", "belay"))
	return found(o.belay)
}

func found(programs ...string) error {
	for _, p := range programs {
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf(`find a program: %w: run "make build" first`, err)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
