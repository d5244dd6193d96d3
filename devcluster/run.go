package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/belaydev/belay/devcluster/internal/plane"
)

func newRunCommand() *cobra.Command {
	var flags planeFlags
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARGUMENT...]",
		Short: "Run a command with a control plane of its own",
		Long: `Starts a control plane, runs the command with it, stops it, and exits with the
command's exit code (128 and the signal's number if a signal ended it). Signals are
passed on to the command. The command finds the control plane in its environment:

  KUBECONFIG, BELAY_TEST_KUBECONFIG   path of the kubeconfig
  BELAY_TEST_AUDIT_LOG                path of the audit log, with --audit`,
		Example: `  devcluster run --audit -- go test ./...
  devcluster run -- sh -c 'kubectl create namespace a && kubectl get all -A'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New(`name a command to run, after "--"`)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return run(cmd.Context(), &flags, args)
		},
	}
	flags.register(cmd)
	cmd.Flags().SetInterspersed(false)
	return cmd
}

func run(ctx context.Context, flags *planeFlags, args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return fmt.Errorf("run %q: %w", args[0], err)
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)

	p, stop, err := startUnlessSignalled(ctx, flags, signals)
	defer stop()
	if err != nil {
		return err
	}
	cmd := exec.Command(path, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, terminal
	cmd.Env = append(os.Environ(), "KUBECONFIG="+p.Kubeconfig(), "BELAY_TEST_KUBECONFIG="+p.Kubeconfig(), "BELAY_TEST_AUDIT_LOG=")
	if flags.Audit {
		cmd.Env = append(cmd.Env, "BELAY_TEST_AUDIT_LOG="+p.AuditLog())
	}
	cmd.SysProcAttr = endWithParent()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run %q: %w", args[0], err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return supervise(cmd, done, signals, p)
}

// startUnlessSignalled starts the control plane, or gives up with the exit
// code for the signal that came first.
func startUnlessSignalled(ctx context.Context, flags *planeFlags, signals <-chan os.Signal) (*plane.Plane, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		p    *plane.Plane
		stop func()
		err  error
	}
	started := make(chan result, 1)
	go func() {
		p, stop, err := flags.start(ctx)
		started <- result{p, stop, err}
	}()
	select {
	case r := <-started:
		return r.p, r.stop, r.err
	case s := <-signals:
		cancel()
		r := <-started
		return nil, r.stop, exitError{128 + int(s.(syscall.Signal))}
	}
}

// supervise waits for the command, passing signals on to it.
func supervise(cmd *exec.Cmd, done <-chan error, signals <-chan os.Signal, p *plane.Plane) error {
	failed := p.Failed()
	var planeErr error
	for {
		select {
		case s := <-signals:
			if !fromTerminal(s) {
				_ = cmd.Process.Signal(s) // it may have ended just now
			}
		case planeErr = <-failed:
			fmt.Fprintf(terminal, "devcluster: %v: ending the command\n", planeErr)
			failed = nil
			_ = cmd.Process.Signal(syscall.SIGTERM)
			time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		case err := <-done:
			var exit *exec.ExitError
			switch {
			case planeErr != nil:
				return exitError{1}
			case errors.As(err, &exit):
				if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
					return exitError{128 + int(status.Signal())}
				}
				return exitError{exit.ExitCode()}
			}
			return err
		}
	}
}

// fromTerminal reports whether a signal is one that the terminal has sent to
// the command too, as it is in the same process group.
func fromTerminal(s os.Signal) bool {
	if s != syscall.SIGINT && s != syscall.SIGQUIT {
		return false
	}
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	foreground, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == unix.Getpgrp()
}
