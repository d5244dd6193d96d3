package main

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/belaydev/belay/internal/devtest"
)

// A process between its fork and its exec holds all that its parent holds, which
// must not be counted twice. One that runs with arguments of its own is a worker.
func TestForkedIsNoWorker(t *testing.T) {
	start := func(args ...string) int {
		c := exec.Command(os.Args[0], args...)
		c.Env = append(os.Environ(), standIn+"=1")
		in, err := c.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); _ = c.Wait() })
		return c.Process.Pid
	}
	forked, worker := start(os.Args[1:]...), start("worker")
	devtest.Await(t, "the worker to be seen", func() error {
		u := readUsage(os.Getpid())
		if _, ok := u.workers[forked]; ok {
			t.Fatal("a process with the command line of its parent counts as a worker")
		}
		if _, ok := u.workers[worker]; !ok || len(u.workers) != 1 || u.MemoryWorkers <= 0 {
			return fmt.Errorf("workers %v with %d bytes", u.workers, u.MemoryWorkers)
		}
		return nil
	})
	if s, ok := readStat(fmt.Sprint(forked)); !ok || s.private == 0 {
		t.Error("the other one was not there")
	}
}
