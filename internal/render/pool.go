package render

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"sync"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/render/wire"
	"github.com/belaydev/belay/internal/xec"
)

// Options of a Pool. The zero value of each field means its default, except
// for Key, which is required.
type Options struct {
	// Key makes the digests of Secrets, at least 16 bytes. It must be the same
	// in every life of a server, or every Secret looks changed.
	Key []byte
	// Sealer takes encrypted files apart. Without one they are files like any other.
	Sealer Sealer
	// Workers is how many renders run at once. Default: one per core.
	Workers int
	// Deadline of one render. Default 30 s.
	Deadline time.Duration
	// Memory that one worker may hold, in bytes. Default 1 GiB.
	Memory int64
	// Output is the largest answer of a worker, in bytes. Default 64 MiB.
	Output int64
	// Input is how much of a source one render may read, in bytes. Default 256 MiB.
	Input int64
	// Renders after which a worker is replaced. Default 5000: the start of one takes
	// as long as a hundred small renders.
	Renders int
	// Idle is how long an unused worker is kept, beyond the first. Default 30 s:
	// another takes a tenth of a second to start, and as much memory as the first.
	Idle time.Duration
	// Command starts a worker. Default: this executable with [WorkerArgument].
	Command []string
	// Env is the environment of a worker. Default: none.
	Env []string
}

func (o *Options) defaults() error {
	if len(o.Key) < 16 {
		return errors.New("render: the key of a pool needs at least 16 bytes")
	}
	set(&o.Workers, runtime.GOMAXPROCS(0))
	set(&o.Deadline, 30*time.Second)
	set(&o.Memory, 1<<30)
	set(&o.Output, 64<<20)
	set(&o.Input, 256<<20)
	set(&o.Renders, 5000)
	set(&o.Idle, 30*time.Second)
	if len(o.Command) == 0 {
		exe, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the program of render workers: %w", err)
		}
		o.Command = []string{exe, WorkerArgument}
	}
	return nil
}

func set[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

// Pool renders in worker processes. It is safe for concurrent use.
type Pool struct {
	opts    Options
	ctx     context.Context
	cancel  context.CancelFunc
	slots   chan struct{} // one for each render that may run
	sandbox string

	mu     sync.Mutex
	idle   []*process // the last one was used last
	closed bool
	reaper *time.Timer
	work   sync.WaitGroup
}

// NewPool starts a pool and its first worker, so that what keeps workers from
// starting shows at once.
func NewPool(opts Options) (*Pool, error) {
	if err := opts.defaults(); err != nil {
		return nil, err
	}
	p := &Pool{opts: opts, slots: make(chan struct{}, opts.Workers)}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	w, err := p.start(p.ctx)
	if err != nil {
		p.cancel()
		return nil, err
	}
	p.sandbox = w.greeting.Sandbox
	p.idle = []*process{w}
	return p, nil
}

// Sandbox describes what keeps workers in, as the first one reported it.
func (p *Pool) Sandbox() string { return p.sandbox }

// Close kills the workers and waits for them. Renders that run fail.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	if p.reaper != nil {
		p.reaper.Stop()
	}
	p.mu.Unlock()
	p.cancel()
	for _, w := range idle {
		w.end()
	}
	p.work.Wait()
}

// Render renders one application. Reads, Kind and Warnings of the Result come
// back with an error too. The error is a [*belay.Error] or joins several.
func (p *Pool) Render(ctx context.Context, files Files, req Request) (Result, error) {
	a := &assembler{req: req, key: p.opts.Key}
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return Result{}, a.stopped(context.Cause(ctx))
	case <-p.ctx.Done():
		return Result{}, a.stopped(errClosed)
	}
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.work.Add(1)
	}
	p.mu.Unlock()
	if closed {
		return Result{}, a.stopped(errClosed)
	}
	defer p.work.Done()

	job := wire.Job{Application: req.Application, Source: req.Source, Namespace: req.Namespace,
		KubeVersion: req.KubeVersion, APIVersions: req.APIVersions, Patches: req.Patches, Variables: req.Variables}
	for attempt := 0; ; attempt++ {
		w, err := p.acquire(ctx)
		if err != nil {
			return Result{}, a.stopped(err)
		}
		used := w.renders > 0
		srv := newServer(files, p.opts.Input)
		srv.sealer = p.opts.Sealer
		out, err := w.render(ctx, p.opts.Deadline, job, srv, p.opts.Output)
		if err == nil {
			p.release(w, out.Retire)
			res := Result{Reads: srv.readSet(), UsesCapabilities: out.UsesCapabilities, Kind: out.Kind, Warnings: out.Warnings, Unfit: out.Unfit}
			if srv.sealer != nil {
				a.unsealer = newUnsealer(ctx, srv.sealer, &a.req, srv.sealed)
			}
			if err := a.take(out); err != nil {
				return res, err
			}
			res.Objects = a.objects
			return res, nil
		}
		if attempt == 0 && innocent(err, used) && ctx.Err() == nil {
			continue
		}
		return Result{Reads: srv.readSet()}, p.explain(a, err)
	}
}

// innocent reports whether the death of a worker may have had another cause
// than the render it was at: an earlier render's garbage, somebody outside, or
// a runtime that does not always survive being refused memory.
func innocent(err error, used bool) bool {
	exit, ok := errors.AsType[*xec.ExitError](err)
	return ok && (used || !outOfMemory(exit))
}

// explain words why a worker was lost.
func (p *Pool) explain(a *assembler, err error) error {
	if tl, ok := errors.AsType[*wire.TooLargeError](err); ok && tl.Type == wire.Done {
		return a.limitError("produced more than %s of objects", "split the application", size(p.opts.Output))
	}
	if il, ok := errors.AsType[*inputLimitError](err); ok {
		return a.limitError("%s of the source", "keep large files out of the application's path", il.Error())
	}
	if exit, ok := errors.AsType[*xec.ExitError](err); ok {
		if outOfMemory(exit) {
			return a.limitError("needed more than %s of memory", "look for a template or alias that multiplies itself", size(p.opts.Memory))
		}
		e := a.internal(exit, "the render worker ended: exit status %d", exit.Code)
		if exit.Signal != 0 {
			e.Code = belay.CodeUnavailable
			e.Message = fmt.Sprintf("the render worker was ended from outside by signal %d (%s)", int(exit.Signal), exit.Signal)
			e.Hint = "is the machine short of memory?"
		}
		return e
	}
	if pe, ok := errors.AsType[*wire.ProtocolError](err); ok {
		return a.internal(err, "the render worker broke off: %s", pe.Problem)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return a.internal(err, "the render worker ended without an answer")
	}
	if errors.Is(err, errDeadline) {
		e := a.limitError("took longer than %s", "look for a template that does not end", p.opts.Deadline)
		be, _ := errors.AsType[*belay.Error](e)
		be.Code = belay.CodeUnavailable // a busy machine may do better next time
		be.Err = deadlineError{p.opts.Deadline}
		return e
	}
	return a.stopped(err)
}

func (a *assembler) internal(err error, format string, args ...any) *belay.Error {
	return &belay.Error{Code: belay.CodeInternal, Application: a.req.Application, Origin: a.origin(path.Clean(a.req.Source.Path), 0),
		Message: fmt.Sprintf(format, args...), Err: err}
}

// stopped is an error for a render that did not get to say anything itself.
func (a *assembler) stopped(err error) error {
	e := a.internal(err, "rendering stopped: %s", err)
	e.Code = belay.CodeUnavailable
	return e
}

// acquire takes an idle worker or starts one.
func (p *Pool) acquire(ctx context.Context) (*process, error) {
	p.mu.Lock()
	var w *process
	if n := len(p.idle); n > 0 {
		w, p.idle = p.idle[n-1], p.idle[:n-1]
	}
	p.mu.Unlock()
	if w != nil {
		return w, nil
	}
	return p.start(ctx)
}

// release gives a worker back.
func (p *Pool) release(w *process, retire bool) {
	if retire || w.renders >= p.opts.Renders {
		w.end()
		return
	}
	w.idle = time.Now()
	p.mu.Lock()
	closed := p.closed
	if !closed {
		p.idle = append(p.idle, w)
		if p.reaper == nil && len(p.idle) > 1 {
			p.reaper = time.AfterFunc(p.opts.Idle, p.reap)
		}
	}
	p.mu.Unlock()
	if closed {
		w.end()
	}
}

// reap ends workers that nobody needed for a while, all but one.
func (p *Pool) reap() {
	p.mu.Lock()
	p.reaper = nil
	var old []*process
	for len(p.idle) > 1 && time.Since(p.idle[0].idle) >= p.opts.Idle {
		old = append(old, p.idle[0])
		p.idle = p.idle[1:]
	}
	if !p.closed && len(p.idle) > 1 {
		p.reaper = time.AfterFunc(p.opts.Idle, p.reap)
	}
	p.mu.Unlock()
	for _, w := range old {
		w.end()
	}
}
