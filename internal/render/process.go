package render

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/belaydev/belay/internal/render/wire"
	"github.com/belaydev/belay/internal/xec"
)

// ExitMemory is the status with which a worker ends itself at its memory limit.
const ExitMemory = 86

// startTimeout is how long a worker may take from its start to its greeting.
const startTimeout = time.Minute

// process is one worker. One goroutine at a time talks to it.
type process struct {
	p        *xec.Process
	in       *bufio.Reader
	greeting wire.Greeting
	// renders is how many it has finished.
	renders int
	idle    time.Time
	// killed is why it was killed by this side, or nil.
	killed atomic.Pointer[reason]
}

// reason is why a worker was killed.
type reason struct{ err error }

var (
	errDeadline = errors.New("deadline")
	errClosed   = errors.New("the pool is closed")
)

// deadlineError says that a worker was at a render until the deadline.
type deadlineError struct{ after time.Duration }

func (deadlineError) Error() string { return errDeadline.Error() }

func (deadlineError) Is(target error) bool { return target == errDeadline }

// Spent is how long the worker was at it, for nothing. Who tries again should know.
func (e deadlineError) Spent() time.Duration { return e.after }

// start starts a worker and waits until it is locked down. The worker ends with ctx.
func (p *Pool) start(ctx context.Context) (*process, error) {
	cmd := xec.Command{
		Path: p.opts.Command[0], Args: p.opts.Command[1:], Env: p.opts.Env,
		Dir: "/", Pipes: true, StderrLimit: 8 << 10, Name: "render worker",
	}
	proc, err := cmd.Start(p.ctx)
	if err != nil {
		return nil, err
	}
	w := &process{p: proc, in: bufio.NewReaderSize(proc.Stdout, 64<<10)}
	timer := time.AfterFunc(startTimeout, func() { w.kill(errDeadline) })
	defer timer.Stop()
	stop := context.AfterFunc(ctx, func() { w.kill(context.Cause(ctx)) })
	defer stop()
	limits := wire.Limits{Memory: p.opts.Memory, Output: p.opts.Output, Deadline: p.opts.Deadline}
	err = wire.Write(proc.Stdin, wire.Setup, limits)
	var f wire.Frame
	if err == nil {
		f, err = wire.Read(w.in, 1<<20)
	}
	if err == nil {
		err = f.Decode(wire.Hello, &w.greeting)
	}
	if err != nil {
		w.end()
		return nil, fmt.Errorf("the render worker did not start: %w", w.why(err))
	}
	return w, nil
}

// kill ends the process at once; the first reason counts.
func (w *process) kill(why error) {
	w.killed.CompareAndSwap(nil, &reason{why})
	w.p.Kill()
}

// end makes sure the process is gone and its pipes are closed.
func (w *process) end() {
	w.kill(errClosed)
	w.close()
}

// close waits for the end of the process, which must be near, and closes its
// pipes. How it ended is asked with why.
func (w *process) close() {
	_ = w.p.Stdin.Close()
	_ = w.p.Wait()
	_ = w.p.Stdout.Close()
}

// why is the reason a conversation broke: how the process ended tells more than
// the broken pipe. Call it after the process has ended.
func (w *process) why(err error) error {
	if r := w.killed.Load(); r != nil && !errors.Is(r.err, errClosed) {
		return r.err
	}
	if exit, ok := errors.AsType[*xec.ExitError](w.p.Wait()); ok && (w.killed.Load() == nil || exit.Signal != syscall.SIGKILL) {
		return exit
	}
	return err
}

// outOfMemory reports whether a process ended because it could get no more memory.
func outOfMemory(e *xec.ExitError) bool {
	return e.Code == ExitMemory || strings.Contains(e.Stderr, "out of memory") || strings.Contains(e.Stderr, "cannot allocate memory")
}

// render has one conversation. A nil Output comes with an error, after which
// the process is gone.
func (w *process) render(ctx context.Context, deadline time.Duration, job wire.Job, srv *server, limit int64) (*wire.Output, error) {
	timer := time.AfterFunc(deadline, func() { w.kill(errDeadline) })
	defer timer.Stop()
	stop := context.AfterFunc(ctx, func() { w.kill(context.Cause(ctx)) })
	defer stop()
	out, err := w.converse(job, srv, limit)
	if err != nil {
		if !w.exiting(err) {
			w.kill(errClosed) // it lives and is not to be trusted
		}
		w.close()
		return nil, w.why(err)
	}
	w.renders++
	return out, nil
}

// exiting reports whether an error of the conversation means that the process
// is ending by itself, so that its status can be waited for.
func (w *process) exiting(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.EPIPE)
}

func (w *process) converse(job wire.Job, srv *server, limit int64) (*wire.Output, error) {
	ahead, data, err := wire.Ahead(&job, srv.answer)
	if err != nil {
		return nil, err
	}
	if err := wire.WriteJob(w.p.Stdin, &job, &ahead, data...); err != nil {
		return nil, err
	}
	for {
		f, err := wire.Read(w.in, limit)
		if err != nil {
			return nil, err
		}
		switch f.Type {
		case wire.Done:
			return f.Output()
		case wire.Ask:
			q, err := f.Question()
			if err != nil {
				return nil, err
			}
			answers, data, err := srv.answer(q)
			if err != nil {
				return nil, err
			}
			if err := wire.WriteAnswers(w.p.Stdin, &answers, data...); err != nil {
				return nil, err
			}
		default:
			return nil, &wire.ProtocolError{Problem: "an unexpected " + f.Type.String() + " frame"}
		}
	}
}
