package main

import (
	"bufio"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/git"
	"github.com/belaydev/belay/internal/xec"
)

//go:embed all:demofleet
var demoFleet embed.FS

func newDemo(env *env) *cobra.Command {
	var dir, listen, program string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a sample fleet on a control plane of its own",
		Long: `Starts a throwaway Kubernetes control plane, makes a Git repository with a small
fleet (Kustomize, Helm and plain YAML), serves it, and says what to try next.
Ctrl-C ends all of it and removes what it made.

It needs the devcluster program, which "make build" puts beside belay.`,
		Example: "  belay demo",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := demo{env: env, dir: dir, listen: listen, program: program}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "keep everything in this directory (default: a temporary one, removed at the end)")
	cmd.Flags().StringVar(&listen, "listen", defaultListen, "address of the server; another port is taken when it is in use")
	cmd.Flags().StringVar(&program, "devcluster", "", "the devcluster program (default: beside belay, or in PATH)")
	return cmd
}

type demo struct {
	env                  *env
	dir, listen, program string
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.env.stdout, format+"\n", args...) }

func (d *demo) run(ctx context.Context) error {
	program, err := findDevcluster(d.program)
	if err != nil {
		return err
	}
	if d.dir == "" {
		if d.dir, err = os.MkdirTemp("", "belay-demo-"); err != nil {
			return fmt.Errorf("make a directory for the demo: %w", err)
		}
		defer func() { _ = os.RemoveAll(d.dir) }() // what is left is in the temporary directory
	} else if d.dir, err = filepath.Abs(d.dir); err != nil {
		return fmt.Errorf("find %q: %w", d.dir, err)
	}
	d.say("Starting a Kubernetes control plane …")
	began := time.Now()
	kubeconfig, stop, err := startCluster(ctx, program, filepath.Join(d.dir, "cluster"))
	if err != nil {
		return err
	}
	defer stop()
	d.say("  ready after %s", time.Since(began).Round(100*time.Millisecond))
	fleet := filepath.Join(d.dir, "fleet")
	if err := makeFleet(ctx, fleet); err != nil {
		return err
	}
	d.say("A sample fleet is in %s", fleet)
	return d.serve(ctx, fleet, kubeconfig)
}

func (d *demo) serve(ctx context.Context, fleet, kubeconfig string) error {
	log, err := os.Create(filepath.Join(d.dir, "belay.log"))
	if err != nil {
		return fmt.Errorf("make the log: %w", err)
	}
	defer func() { _ = log.Close() }() // a log of a demo
	o := serveOptions{
		repo: fleet, ref: "main", path: "belay", kubeconfig: kubeconfig, data: filepath.Join(d.dir, "data"), listen: d.listen,
		interval: 400 * time.Millisecond, log: slog.New(slog.NewTextHandler(log, nil)),
	}
	s, err := newServing(ctx, o)
	if belay.CodeOf(err) == belay.CodeUnavailable && d.listen == defaultListen {
		o.listen = "127.0.0.1:0"
		s, err = newServing(ctx, o)
	}
	if err != nil {
		return err
	}
	d.say("Serving it on %s\n", s.url)
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	go d.show(watching, s, fleet, kubeconfig)
	err = s.run(ctx)
	d.say("\nStopping. Nothing is left behind.")
	return err
}

// show prints events, and what to try once the fleet has come up.
func (d *demo) show(ctx context.Context, s *serving, fleet, kubeconfig string) {
	var seq uint64
	hinted := false
	began := time.Now()
	for {
		wait, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		evs, _, err := s.bus.After(wait, seq)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return
		}
		for i := range evs {
			seq = evs[i].Seq
			d.event(&evs[i])
		}
		if !hinted && d.healthy(s) {
			hinted = true
			d.say("\nThe cluster equals Git, %s after the server started.", time.Since(began).Round(100*time.Millisecond))
			d.hints(s, fleet, kubeconfig)
		}
	}
}

func (d *demo) event(ev *belay.Event) {
	switch ev.Type {
	case belay.EventApplied, belay.EventApplication, belay.EventHealth:
		return // the start and the end of a sync say enough
	}
	what := ev.Application
	if ev.Object != "" {
		what = strings.TrimSpace(what + " " + ev.Object)
	}
	if what == "" && ev.Cluster != "" {
		what = "cluster " + ev.Cluster
	}
	if what == "" {
		what = "repository"
	}
	d.say("  %s  %-11s %s: %s", ev.Time.Local().Format("15:04:05"), ev.Type, what, ev.Message)
}

func (d *demo) healthy(s *serving) bool {
	st := s.engine.Status()
	for i := range st.Applications {
		if a := &st.Applications[i]; a.Sync != belay.Synced || a.Health != belay.Healthy {
			return false
		}
	}
	return len(st.Applications) > 0
}

func (d *demo) hints(s *serving, fleet, kubeconfig string) {
	bin := "."
	if self, err := os.Executable(); err == nil {
		bin = filepath.Dir(self)
	}
	d.say(`
Try, in another terminal:

  export PATH=%[1]s:$PATH KUBECONFIG=%[3]s BELAY_SERVER=%[4]s
  cd %[2]s

1. Look at it
     belay status
     belay get app guestbook-production
     kubectl get deployments -A

2. Change it: set count to 5 in apps/guestbook/overlays/production/kustomization.yaml, then
     belay plan            # what would change, before anything does
     git commit -am "Scale the guestbook to five"
   It is applied within a second.

3. Change it behind Git's back
     kubectl -n guestbook-production scale deployment guestbook --replicas=1
     belay events          # drift seen and healed, with who did it
     kubectl -n guestbook-production get deployment guestbook

4. Break it: misspell a field in belay/site.yaml, commit, and look at
     belay status          # the error with file and line; everything else goes on
     git revert --no-edit HEAD

5. Break production and get it back: set count to 0 as in 2., commit, and
     belay rollback guestbook-production           # what can I go back to?
     belay rollback guestbook-production --to REVISION
   It is a commit on top of the branch, and automatic sync stays on.

6. Ask the record
     belay history guestbook-production --changed replicas
     belay audit show ID   # who, when, why, what changed, what else went out with it
     belay audit verify %[5]s

7. Lose it: would all of this come back in an empty cluster, and how soon?
     belay drill --repo .

Ctrl-C here ends everything.
`, bin, fleet, kubeconfig, s.url, filepath.Join(s.data.path, ledgerDir))
}

// findDevcluster finds the program, unless it is named.
func findDevcluster(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), "devcluster")
		if _, err := os.Stat(beside); err == nil {
			return beside, nil
		}
	}
	p, err := xec.LookPath("devcluster")
	if err != nil {
		return "", &belay.Error{Code: belay.CodeNotFound, Message: "the devcluster program is neither beside belay nor in PATH",
			Hint: "run make build, or name it with --devcluster"}
	}
	return p, nil
}

// startCluster runs a control plane until stop is called or this process ends.
func startCluster(ctx context.Context, program, dir string) (kubeconfig string, stop func(), err error) {
	ready, w := io.Pipe()
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p, err := xec.Command{Path: program, Args: []string{"up", "--dir", dir, "--port", "0"}, Env: os.Environ(), Stdout: w,
		Grace: 15 * time.Second}.Start(running)
	if err != nil {
		cancel()
		return "", nil, err
	}
	go func() { _ = w.CloseWithError(p.Wait()) }() // the reader below sees it
	stop = func() { cancel(); _ = p.Wait() }       // it was told to end
	type answer struct {
		line string
		err  error
	}
	first := make(chan answer, 1)
	go func() {
		r := bufio.NewReader(ready)
		line, err := r.ReadString('\n')
		first <- answer{line, err}
		_, _ = io.Copy(io.Discard, r) // keeps its output from blocking it
	}()
	select {
	case a := <-first:
		if a.err != nil {
			stop()
			return "", nil, &belay.Error{Code: belay.CodeUnavailable, Message: "the control plane did not start: " + xec.LastLine(p.Stderr()), Err: a.err}
		}
		return strings.TrimSpace(a.line), stop, nil
	case <-ctx.Done():
		stop()
		return "", nil, ctx.Err()
	}
}

// makeFleet writes the sample repository and its first commit.
func makeFleet(ctx context.Context, dir string) error {
	if _, err := os.Stat(filepath.Join(dir, ".git")); err == nil {
		return nil // of an earlier demo in the same --dir
	}
	err := fs.WalkDir(demoFleet, "demofleet", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, strings.TrimPrefix(p, "demofleet"))
		if e.IsDir() {
			return os.MkdirAll(to, 0o755)
		}
		b, err := demoFleet.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
	if err != nil {
		return fmt.Errorf("write the sample fleet: %w", err)
	}
	return git.CreateRepository(ctx, dir, "main", "Declare the sample fleet")
}
