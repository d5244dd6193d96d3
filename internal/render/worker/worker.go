// Package worker is the other end of package render: the process that renders.
// It locks itself down before it meets any input, asks the parent for every
// file, and ends when the parent does.
//
// It must not know clusters, credentials or the disk. A command calls [Main]
// when its first argument is [render.WorkerArgument].
package worker

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"time"
	_ "time/tzdata" // templates may name time zones, and there is no disk to read them from

	"github.com/belaydev/belay/internal/footprint"
	"github.com/belaydev/belay/internal/render"
	"github.com/belaydev/belay/internal/render/helm"
	"github.com/belaydev/belay/internal/render/kustomize"
	"github.com/belaydev/belay/internal/render/patch"
	"github.com/belaydev/belay/internal/render/plain"
	"github.com/belaydev/belay/internal/render/variable"
	"github.com/belaydev/belay/internal/render/wire"
)

// Main runs a worker on standard input and output and ends the process.
func Main() {
	in, out := os.Stdin, os.Stdout
	// What libraries print belongs nowhere: it may repeat values.
	os.Stdout = os.Stderr
	log.SetOutput(io.Discard)
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if err := serve(in, out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// inputLimit bounds one answer of the parent, which has its own limit below that.
const inputLimit = 2 << 30

// restAfter is how long a worker waits for the next job before it gives back the
// memory that the last ones needed.
const restAfter = 10 * time.Second

func serve(r io.Reader, w io.Writer) error {
	in := bufio.NewReaderSize(r, 64<<10)
	f, err := wire.Read(in, 1<<20)
	if err != nil {
		return err
	}
	var limits wire.Limits
	if err := f.Decode(wire.Setup, &limits); err != nil {
		return err
	}
	program := footprint.Find() // locked in, it could not look
	sandbox, err := Lockdown(limits)
	if err != nil {
		return fmt.Errorf("lock the worker down: %w", err)
	}
	if err := wire.Write(w, wire.Hello, wire.Greeting{Sandbox: sandbox}); err != nil {
		return err
	}
	tree := wire.NewPipeTree(in, w, inputLimit)
	rest := time.AfterFunc(restAfter, program.Release)
	for {
		rest.Reset(restAfter)
		f, err := wire.Read(in, inputLimit)
		rest.Stop()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		memory := wire.Remember(tree)
		job, err := f.Job(memory)
		if err != nil {
			return err
		}
		stop := watchMemory(limits.Memory)
		out, err := protect(memory, *job)
		stop()
		if err != nil {
			return err
		}
		if n := out.Size(); n > limits.Output {
			// The parent would kill a longer frame; saying so spares the process.
			*out = wire.Output{Kind: out.Kind, Problems: []wire.Problem{{
				File:    fileOf(*job),
				Message: fmt.Sprintf("it renders to %d MiB of objects, more than the limit of %d MiB", n>>20, limits.Output>>20),
				Hint:    "split the application"}}}
		}
		if err := wire.WriteOutput(w, out); err != nil {
			return err
		}
	}
}

func fileOf(job wire.Job) string { return path.Clean(job.Source.Path) }

// protect renders. A panic of a library is a problem of
// the source that set it off; a broken pipe is an error.
func protect(tree wire.Tree, job wire.Job) (out *wire.Output, err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case wire.BrokenError:
			err = r.Err
		default:
			// The text of a panic may repeat values.
			out = &wire.Output{Retire: true, Problems: []wire.Problem{{File: fileOf(job),
				Message: fmt.Sprintf("the renderer gave up on this input (%T)", r),
				Hint:    "render it with kubectl kustomize or helm template and compare"}}}
		}
	}()
	return Render(tree, job), nil
}

// Render renders the source of a job and changes the objects as the application
// says: first its patches, then its variables, so that patches may use them.
func Render(tree wire.Tree, job wire.Job) *wire.Output {
	tree = wire.Remember(tree)
	out := renderSource(tree, job)
	if len(out.Problems) == 0 {
		patch.Apply(tree, job, out)
	}
	if len(out.Problems) == 0 {
		variable.Apply(tree, job, out)
	}
	return out
}

// renderSource finds out what the source of a job is and renders it.
func renderSource(tree wire.Tree, job wire.Job) *wire.Output {
	src := job.Source
	switch {
	case src.Helm != nil:
		return helm.Render(tree, job)
	case src.Kustomize != nil:
		return kustomize.Render(tree, job)
	case src.Directory != nil:
		return plain.Render(tree, job)
	}
	root := path.Clean(src.Path)
	names, chart := wire.KustomizationNames(root), path.Join(root, "Chart.yaml")
	tree.Look(wire.Question{Stat: []string{root, chart}, Read: names}) // came with the job
	for _, st := range tree.Stat(names...) {
		if st.Err == nil && !st.Dir {
			return kustomize.Render(tree, job)
		}
	}
	if st := tree.Stat(chart)[0]; st.Err == nil && !st.Dir {
		return helm.Render(tree, job)
	}
	return plain.Render(tree, job)
}

// watchMemory ends the process when it holds more than limit bytes before stop
// is called. A limit of the kernel alone would count address space, and not
// exist everywhere.
func watchMemory(limit int64) (stop func()) {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			metrics.Read(samples)
			if held := samples[0].Value.Uint64() - samples[1].Value.Uint64(); held > uint64(limit) {
				fmt.Fprintln(os.Stderr, "out of memory: the limit of the worker is reached")
				os.Exit(render.ExitMemory)
			}
		}
	}()
	return func() { close(done) }
}

var errNoLimit = errors.New("a worker needs a memory limit")

// common is the part of the lockdown that every system has.
func common(limits wire.Limits) error {
	if limits.Memory <= 0 {
		return errNoLimit
	}
	os.Clearenv()
	time.Local = time.UTC
	if err := os.Chdir("/"); err != nil {
		return err
	}
	// Renders leave much garbage beside a few MiB of what the libraries know of all
	// kinds, which is what each collection looks through again: it was a sixth of
	// the time of a worker. The memory goes back when the worker rests.
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(limits.Memory - limits.Memory/8)
	return nil
}
