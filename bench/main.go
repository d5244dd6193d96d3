// Command bench measures Belay against the least that anything could cost: a loop
// that applies the same objects and does nothing else.
//
//	go run ./bench fleet --apps 100
//	go run ./bench plot figures.json
//	go run ./bench report figures.json
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

// command is one thing that can be measured, or made of what was.
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
	{"plot", "pictures of the figures in JSON files against the number of applications", runPlot},
	{"report", "the figures in JSON files as tables of a page", runReport},
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
