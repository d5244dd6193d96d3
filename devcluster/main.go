// Command devcluster runs a real Kubernetes control plane in one process, for
// Belay's demo, tests and drills.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"k8s.io/component-base/version"
)

func init() {
	// A parent-death signal follows the thread that started the child; keep
	// that one the main thread, which lives as long as the process.
	runtime.LockOSThread()
}

func main() {
	err := newCommand().ExecuteContext(context.Background())
	var exit exitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.code)
	case err != nil:
		fmt.Fprintf(terminal, "devcluster: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0) // whatever a component's goroutines are still doing
}

// terminal is the standard error this process was given. The control plane
// puts its log in that one's place.
var terminal = keepStderr()

func keepStderr() *os.File {
	fd, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return os.Stderr
	}
	kept := os.NewFile(uintptr(fd), "standard error")
	// A crash is for who started the command, too.
	_ = debug.SetCrashOutput(kept, debug.CrashOptions{})
	return kept
}

// exitError ends the process with a code and without a message.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

func newCommand() *cobra.Command {
	// Libraries register flags for every command of a program; they are not
	// this program's.
	pflag.CommandLine = pflag.NewFlagSet(os.Args[0], pflag.ContinueOnError)

	root := &cobra.Command{
		Use:   "devcluster",
		Short: "A Kubernetes control plane in one process, for development and tests",
		Long: `devcluster runs etcd, kube-apiserver, kube-controller-manager and kube-scheduler
in one process, with kwok in the place of kubelets: pods are scheduled and become
Ready, Jobs complete, volumes are bound, but no container runs.

It listens on 127.0.0.1 only, on one port, and any number run side by side.`,
		Example: `  devcluster up --dir /tmp/dc            # until Ctrl-C; then kubectl --kubeconfig /tmp/dc/kubeconfig ...
  devcluster run -- go test ./...        # a control plane for the time of one command`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fmt.Errorf("%w: see %q", err, cmd.CommandPath()+" --help")
	})
	root.AddCommand(newUpCommand(), newRunCommand(), newVersionCommand())
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of the components",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			etcd, kwok := "unknown", "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, m := range info.Deps {
					switch m.Path {
					case "go.etcd.io/etcd/server/v3":
						etcd = m.Version
					case "sigs.k8s.io/kwok":
						kwok = m.Version
					}
				}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "kubernetes %s\netcd       %s\nkwok       %s\n%s %s/%s\n",
				version.Get().GitVersion, etcd, kwok, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}
