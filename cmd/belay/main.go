// Command belay keeps running systems equal to what Git says. This package
// only puts the parts together and talks to people: a command is one file, and
// whatever could be wanted elsewhere lives in a package of its own.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
	_ "time/tzdata" // windows name time zones, and an image may have none

	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/worker"
)

func main() {
	// A render worker is this binary started again by the server. It must come
	// first: nothing of a command may run in it.
	if len(os.Args) > 1 && os.Args[1] == render.WorkerArgument {
		worker.Main()
		return
	}
	os.Exit(run(nil))
}

// run is the program; checkpoint is called at named points of a sync, if it is not nil.
func run(checkpoint func(string)) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once, should the first not suffice. Who
	// signals a process and its group, such as timeout(1), sends two and means one.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, stop) })
	e := &env{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, checkpoint: checkpoint}
	return e.execute(ctx, os.Args[1:])
}
