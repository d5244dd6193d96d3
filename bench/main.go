// Command bench measures Belay against the least that anything could cost: a loop
// that applies the same objects and does nothing else.
//
//	go run ./bench --apps 100
//
// It makes a Git repository with a fleet of applications of four objects each,
// starts a control plane of its own, runs that raw loop, and then "belay serve",
// the real program, through the days of its life: the first rollout, a commit to
// one application, a commit to all, edits by hand, rest, a restart. Requests are
// counted in the API server's audit log, changes are seen through watches, CPU and
// memory are read from the kernel. It needs bin/belay and bin/devcluster, which
// "make bench" builds.
//
// Every time is a ratio within one run: the raw loop runs beside each
// measurement, on the same machine at the same time. It must not know how Belay
// works, only what can be seen from outside.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// command is one thing that can be measured.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

// commands can be named as the first argument; the first is the default.
var commands = []command{
	{"fleet", "a fleet's life beside the raw loop: rollout, commits, drift, rest, restart", runFleet},
	{"render", "render workers beside the libraries that they run, and the start of a pool", runRendering},
	{"repo", "one file pushed to a repository of many files and commits", runRepo},
	{"soak", "a fleet that people work on for an hour, with crashes: what grows, and is it what Git says", runSoak},
	{"clusters", "a hundred stubbed clusters in one process, and one of them hangs", runClusters},
}

func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return commands[0].run(ctx, args, stdout, stderr)
	}
	if args[0] == stubCommand { // nothing to measure: what "clusters" starts
		return runStub(ctx, args[1:], stdout, stderr)
	}
	for _, c := range commands {
		if c.name == args[0] {
			return c.run(ctx, args[1:], stdout, stderr)
		}
	}
	var known strings.Builder
	for _, c := range commands {
		fmt.Fprintf(&known, "\n  %-10s %s", c.name, c.summary)
	}
	return fmt.Errorf("there is no %q to measure, but:%s", args[0], &known)
}

// options are the command line.
type options struct {
	apps, commits, rounds, drifts int
	kind                          string
	rest                          time.Duration
	jsonFile, compareFile         string
	belay, devcluster, dir        string
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("bench fleet", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.apps, "apps", 100, "number of applications")
	f.StringVar(&o.kind, "kind", "kustomize", "what they are made with: "+strings.Join(kinds, ", "))
	f.IntVar(&o.commits, "commits", 50, "commits to one application")
	f.IntVar(&o.rounds, "rounds", 3, "commits to all applications")
	f.IntVar(&o.drifts, "drifts", 20, "edits by hand, each of another application")
	f.DurationVar(&o.rest, "rest", 20*time.Second, "time to watch it rest")
	f.StringVar(&o.jsonFile, "json", "", "write the figures to this file")
	f.StringVar(&o.compareFile, "compare", "", "compare with the figures in this file")
	f.StringVar(&o.belay, "belay", "", "the belay program (default: bin/belay of the module)")
	f.StringVar(&o.devcluster, "devcluster", "", "the devcluster program (default: bin/devcluster of the module)")
	f.StringVar(&o.dir, "dir", "", "keep everything in this directory (default: a temporary one, removed at the end)")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.apps < 1 || o.commits < 1 || o.rounds < 1 || o.drifts < 1:
		return o, errors.New("--apps, --commits, --rounds and --drifts are at least 1")
	}
	return o, checkKind(o.kind)
}

func runFleet(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	var earlier *result
	if o.compareFile != "" { // before the work, not after it
		if earlier, err = readResult(o.compareFile); err != nil {
			return err
		}
	}
	if err := o.findPrograms(); err != nil {
		return err
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "belay-bench-"); err != nil {
			return fmt.Errorf("make a directory: %w", err)
		}
		defer func() { _ = os.RemoveAll(o.dir) }() // what is left is in the temporary directory
	} else if o.dir, err = filepath.Abs(o.dir); err != nil {
		return fmt.Errorf("find %q: %w", o.dir, err)
	}
	say := func(format string, a ...any) { fmt.Fprintf(stderr, format+"\n", a...) }

	say("starting a control plane")
	cp, err := startControlPlane(ctx, o.devcluster, filepath.Join(o.dir, "cluster"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.stop()) }()
	b, err := newBench(ctx, benchConfig{
		options: o, kubeconfig: cp.kubeconfig, auditLog: cp.auditLog, controlPlane: cp.pid(), prefix: "bench", calm: 3 * time.Second, say: say,
	})
	if err != nil {
		return err
	}
	res, err := b.run(ctx)
	if err != nil {
		return err
	}
	if o.jsonFile != "" {
		if err := res.write(o.jsonFile); err != nil {
			return err
		}
	}
	res.print(stdout, earlier)
	return nil
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

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/belaydev/belay\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("the working directory is not in Belay's module: name the programs with --belay and --devcluster")
		}
		dir = filepath.Dir(dir)
	}
}

func processors() int { return runtime.NumCPU() }
