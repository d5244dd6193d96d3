package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/belaydev/belay/devcluster/internal/plane"
)

// planeFlags are the flags of every command that starts a control plane.
type planeFlags struct {
	plane.Config
	quiet     bool
	wait      time.Duration
	temporary bool // Dir is one made by start
}

func (f *planeFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.Dir, "dir", "", "directory for the control plane's files, made when absent and kept at the end\n(default: a temporary one, removed at the end)")
	flags.IntVar(&f.Port, "port", 0, "port of the API server on 127.0.0.1; 0 takes the one the directory had last, or a free one")
	flags.IntVar(&f.Nodes, "nodes", 1, "number of fake nodes")
	flags.BoolVar(&f.Audit, "audit", false, "write the API audit log (Metadata level, JSON lines) to DIR/audit.log")
	flags.BoolVar(&f.Fsync, "fsync", false, "wait for the disk at each write: slow, and safe if the machine crashes")
	flags.DurationVar(&f.wait, "wait", 2*time.Minute, "give up when the control plane is not ready by then")
	flags.CountVarP(&f.Verbosity, "verbose", "v", "log to standard error in place of DIR/devcluster.log; repeat for more")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no progress on standard error")
}

func (f *planeFlags) check() error {
	switch {
	case f.Port < 0 || f.Port > 65535:
		return fmt.Errorf("--port %d: want a number from 0 to 65535", f.Port)
	case f.Nodes < 0:
		return fmt.Errorf("--nodes %d: want zero or more", f.Nodes)
	}
	return nil
}

// say prints a line of progress.
func (f *planeFlags) say(format string, args ...any) {
	if !f.quiet {
		fmt.Fprintf(terminal, "devcluster: "+format+"\n", args...)
	}
}

// start brings the control plane up. The function it returns stops it, and
// removes the directory if it was a temporary one; it is never nil.
func (f *planeFlags) start(ctx context.Context) (*plane.Plane, func(), error) {
	stop := func() {}
	if err := f.check(); err != nil {
		return nil, stop, err
	}
	if f.Dir == "" {
		dir, err := os.MkdirTemp("", "devcluster-")
		if err != nil {
			return nil, stop, err
		}
		f.Dir, f.temporary = dir, true
		stop = f.removeTemporary
	}
	f.Progress = func(step string) { f.say("starting %s", step) }
	f.Exit = f.exit

	started := time.Now()
	ctx, cancel := context.WithTimeout(ctx, f.wait)
	defer cancel()
	p, err := plane.Start(ctx, f.Config)
	if err != nil {
		if f.logged() && !errors.Is(err, context.Canceled) {
			err = fmt.Errorf("%w (log: %s)", err, f.keepLog())
		}
		return nil, stop, err
	}
	stop = func() {
		p.Stop()
		f.removeTemporary()
	}
	f.say("ready after %.1fs", time.Since(started).Seconds())
	return p, stop, nil
}

// removeTemporary removes the directory if it is a temporary one. A component
// that had no time to end may still be writing there, so once may not do.
func (f *planeFlags) removeTemporary() {
	if !f.temporary {
		return
	}
	for range 5 {
		if os.RemoveAll(f.Dir) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (f *planeFlags) logPath() string { return filepath.Join(f.Dir, "devcluster.log") }

// logged says whether there is a log worth pointing to.
func (f *planeFlags) logged() bool {
	info, err := os.Stat(f.logPath())
	return err == nil && info.Size() > 0 && f.Verbosity == 0
}

// keepLog moves the log out of a temporary directory and returns its path.
func (f *planeFlags) keepLog() string {
	if !f.temporary {
		return f.logPath()
	}
	kept := f.Dir + ".log"
	if err := os.Rename(f.logPath(), kept); err != nil {
		return f.logPath()
	}
	return kept
}

// exit ends the process in the place of a component, whose last words are in
// the log.
func (f *planeFlags) exit(code int) {
	fmt.Fprintf(terminal, "devcluster: a component ended the process (log: %s)\n", f.keepLog())
	f.removeTemporary()
	os.Exit(max(code, 1))
}

func newUpCommand() *cobra.Command {
	var flags planeFlags
	var withParent, withStdin bool
	cmd := &cobra.Command{
		Use:   "up [--dir DIR]",
		Short: "Run a control plane until a signal",
		Long: `Runs a control plane in the foreground. When it is ready, one line is written to
standard output: the path of the kubeconfig. Everything else goes to standard error.

SIGINT or SIGTERM end it, with exit code 0; a second one ends it at once. Started
again with the same --dir it continues with the same data and, if it is still free,
on the same port.`,
		Example: `  devcluster up --dir /tmp/dc --audit
  devcluster up --port 6443 --nodes 3`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return up(cmd.Context(), &flags, withParent, withStdin)
		},
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&withParent, "exit-with-parent", false, "end when the process that started this one has ended")
	cmd.Flags().BoolVar(&withStdin, "exit-with-stdin", false, "end when standard input is closed: give it a pipe, and it ends with its owner however that ends")
	return cmd
}

func up(ctx context.Context, flags *planeFlags, withParent, withStdin bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go cancelOnSignal(cancel)
	if withStdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	if withParent {
		go awaitParent(os.Getppid(), cancel)
	}

	p, stop, err := flags.start(ctx)
	defer stop()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return nil // asked to end before it was ready
		}
		return err
	}
	fmt.Println(p.Kubeconfig())
	select {
	case <-ctx.Done():
		flags.say("stopping")
		return nil
	case err := <-p.Failed():
		return fmt.Errorf("%w (log: %s)", err, flags.keepLog())
	}
}

// cancelOnSignal calls cancel at the first signal and ends the process at the
// second. One that comes right after the first is the same once more: programs
// such as timeout signal their child and then its process group.
func cancelOnSignal(cancel func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	<-signals
	cancel()
	first := time.Now()
	for range signals {
		if time.Since(first) > time.Second/2 {
			os.Exit(130)
		}
	}
}

// awaitParent calls f when this process has been given to another parent. A
// parent-death signal of the kernel would come too early: it follows the
// parent's thread, not the parent.
func awaitParent(parent int, f func()) {
	for os.Getppid() == parent {
		time.Sleep(200 * time.Millisecond)
	}
	f()
}
