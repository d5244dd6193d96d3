package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// shared is a directory for all tests of a run.
var shared string

// built is the program of this tree, built once.
var built = sync.OnceValues(func() (program string, err error) {
	program = filepath.Join(shared, "belay")
	if out, err := exec.Command("go", "build", "-o", program, "../cmd/belay").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build belay: %w\n%s", err, out)
	}
	return program, nil
})

// standIn in the environment makes the tests' program one that only waits.
const standIn = "BELAY_BENCH_STAND_IN"

func builtBelay(t *testing.T) string {
	t.Helper()
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func TestMain(m *testing.M) {
	if os.Getenv(standIn) != "" {
		_, _ = io.Copy(io.Discard, os.Stdin) // until whoever started it is done
		return
	}
	dir, err := os.MkdirTemp("", "belay-bench-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared = dir
	code := m.Run()
	_ = os.RemoveAll(dir) // what is left is in the temporary directory
	os.Exit(code)
}
