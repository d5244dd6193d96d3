// Package xec starts processes: git, render workers, tofu. It is the only
// package that does, so that what holds for every child is written once: no
// inherited environment but what is named, no terminal, a process group of its
// own that dies with the context, death with the parent, bounded standard error
// and no secret in an error.
//
// It must not know what it starts: no git, no Kubernetes, no retry, no log.
package xec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// DefaultStderrLimit is how many bytes of standard error are kept: the first
// half and the last half of it.
const DefaultStderrLimit = 16 << 10

// drain is how long Wait goes on reading output that a grandchild keeps open
// after the process itself has ended.
const drain = 2 * time.Second

// Command describes a process to start. The zero value of each field is the
// safe one. A Command may be used several times when its readers and writers may.
type Command struct {
	// Path of the program. A name without a separator is looked up in this
	// process's PATH.
	Path string
	// Args without the program's name.
	Args []string
	// Env is the environment, as "NAME=value". Nothing else is passed on.
	Env []string
	// Inherit names variables of this process that are passed on as well, where
	// they are set. Env wins.
	Inherit []string
	// Dir is the working directory; this process's own by default.
	Dir string

	// Stdin is read to the process; nothing by default. Ignored when Pipes is set.
	Stdin io.Reader
	// Stdout takes the output; discarded by default. Ignored when Pipes is set.
	Stdout io.Writer
	// Stderr gets a copy of everything written to standard error, unscrubbed.
	Stderr io.Writer
	// Pipes asks Start for Process.Stdin and Process.Stdout.
	Pipes bool
	// ExtraFiles become file descriptors 3, 4, … of the process.
	ExtraFiles []*os.File

	// StderrLimit is how many bytes of standard error are kept for errors;
	// DefaultStderrLimit when 0.
	StderrLimit int
	// Secrets are values that must not show in an error or in Process.Stderr:
	// each is replaced, also in its URL and base64 forms. See [Scrubber].
	Secrets []string
	// Grace is the time between SIGTERM and SIGKILL when the context ends. With
	// 0 the process group is killed at once.
	Grace time.Duration
	// Attr may add to the attributes of the process (namespaces, credentials).
	// What it is given already asks for a session of its own and, on Linux, for
	// death with the parent.
	Attr func(*syscall.SysProcAttr)
	// Name is what errors call it; the program's base name and its first
	// argument by default.
	Name string
}

// ExitError is a process that ended in any other way than with status 0.
type ExitError struct {
	// Name of the command, for people.
	Name string
	// Code is the exit status, or -1 when a signal ended it.
	Code int
	// Signal that ended it, or 0.
	Signal syscall.Signal
	// Stderr is what it wrote to standard error, bounded and without secrets.
	Stderr string
	// Err is the context's cause when the context ended it, or nil.
	Err error
}

// Error is "name: exit status 1: last line of standard error".
func (e *ExitError) Error() string {
	var b strings.Builder
	b.WriteString(e.Name + ": ")
	switch {
	case e.Err != nil:
		b.WriteString(e.Err.Error())
	case e.Signal != 0:
		fmt.Fprintf(&b, "ended by signal %d (%s)", int(e.Signal), e.Signal)
	default:
		fmt.Fprintf(&b, "exit status %d", e.Code)
	}
	if line := LastLine(e.Stderr); line != "" {
		b.WriteString(": " + line)
	}
	return b.String()
}

// Unwrap returns the context's cause, if that is what ended the process.
func (e *ExitError) Unwrap() error { return e.Err }

// LastLine is the last line of an output that says anything: where programs put
// the reason.
func LastLine(s string) string {
	s = strings.TrimSpace(s)
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		s = s[i+1:]
	}
	return strings.TrimSpace(s)
}

// Process is a started process. Somebody must call Wait.
type Process struct {
	// Stdin and Stdout are set when Command.Pipes was. The owner closes both;
	// Wait does not, so no output is lost.
	Stdin  io.WriteCloser
	Stdout io.ReadCloser

	name   string
	cmd    *exec.Cmd
	ctx    context.Context
	stderr *headTail
	stdout *collected // nil where standard output is not read here
	scrub  *Scrubber
	done   chan struct{}
	wait   sync.Once
	err    error
}

// Run starts the command and waits for it. The error is an [*ExitError] when
// the process ended badly.
func (c Command) Run(ctx context.Context) error {
	c.Pipes = false
	p, err := c.Start(ctx)
	if err != nil {
		return err
	}
	return p.Wait()
}

// ErrTooLong is the error of Output when there is more of it than asked for.
var ErrTooLong = errors.New("output too long")

// Output runs the command and returns its standard output. More than limit
// bytes of it is [ErrTooLong], and the process is killed. What was read comes
// back with any error.
func (c Command) Output(ctx context.Context, limit int) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	w := &limited{limit: limit, over: func() {
		cancel(fmt.Errorf("%w: more than %d bytes", ErrTooLong, limit))
	}}
	c.Stdout = w
	err := c.Run(ctx)
	return w.buf.Bytes(), err
}

// errOpenOutput is the error of a process that ended well, but whose output did not.
var errOpenOutput = errors.New("it ended, and its output did not")

// Start starts the command. When ctx ends, the whole process group is ended.
func (c Command) Start(ctx context.Context) (*Process, error) {
	name := c.Name
	if name == "" {
		name = filepath.Base(c.Path)
		if len(c.Args) > 0 && !strings.HasPrefix(c.Args[0], "-") {
			name += " " + c.Args[0]
		}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, &ExitError{Name: name, Code: -1, Err: err}
	}
	p := &Process{
		name:   name,
		ctx:    ctx,
		scrub:  NewScrubber(c.Secrets...),
		stderr: &headTail{limit: c.StderrLimit},
		done:   make(chan struct{}),
	}
	if p.stderr.limit <= 0 {
		p.stderr.limit = DefaultStderrLimit
	}
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Env = c.environment()
	cmd.Dir = c.Dir
	cmd.ExtraFiles = c.ExtraFiles
	cmd.Stderr = p.stderr
	if c.Stderr != nil {
		cmd.Stderr = io.MultiWriter(p.stderr, c.Stderr)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	attributes(cmd.SysProcAttr)
	if c.Attr != nil {
		c.Attr(cmd.SysProcAttr)
	}
	cmd.Cancel = func() error { return p.end(c.Grace) }
	cmd.WaitDelay = c.Grace + drain
	p.cmd = cmd

	var childEnds []*os.File
	if c.Pipes {
		ends, err := p.pipes()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", name, err)
		}
		childEnds = ends
	} else {
		cmd.Stdin, cmd.Stdout = c.Stdin, c.Stdout
		if _, file := c.Stdout.(*os.File); c.Stdout != nil && !file {
			p.stdout = &collected{Writer: c.Stdout}
			cmd.Stdout = p.stdout
		}
	}
	err := spawn(cmd.Start)
	for _, f := range childEnds {
		f.Close()
	}
	if err != nil {
		if c.Pipes {
			p.Stdin.Close()
			p.Stdout.Close()
		}
		return nil, fmt.Errorf("start %s: %w", name, p.scrub.Error(err))
	}
	return p, nil
}

// environment is Env after the variables to inherit; the last one of a name wins.
func (c Command) environment() []string {
	env := []string{} // nil would mean: everything
	for _, name := range c.Inherit {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, c.Env...)
}

// pipes connects standard input and output to pipes that, unlike those of
// os/exec, stay open after Wait.
func (p *Process) pipes() (childEnds []*os.File, err error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		inR.Close()
		inW.Close()
		return nil, err
	}
	p.cmd.Stdin, p.cmd.Stdout = inR, outW
	p.Stdin, p.Stdout = inW, outR
	return []*os.File{inR, outW}, nil
}

// Pid is the process's id, which is also the id of its group.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Wait waits for the end and says how it was: nil for status 0, else an
// [*ExitError]. It may be called several times and by several goroutines.
func (p *Process) Wait() error {
	p.wait.Do(func() {
		defer close(p.done)
		p.err = p.result(p.cmd.Wait())
	})
	<-p.done
	return p.err
}

func (p *Process) result(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		// It ended well and left a grandchild behind that holds its output open. Of
		// standard error that is no harm. Half of an answer must not pass for all of it.
		if p.stdout == nil || p.stdout.ended {
			return nil
		}
		err = errOpenOutput
	}
	e := &ExitError{Name: p.name, Code: -1, Stderr: p.Stderr()}
	if st := p.cmd.ProcessState; st != nil {
		e.Code = st.ExitCode()
		if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			e.Signal = ws.Signal()
		}
	}
	if cause := context.Cause(p.ctx); cause != nil && (e.Signal != 0 || errors.Is(err, cause) || errors.Is(err, p.ctx.Err())) {
		e.Err = cause
	} else if e.Signal == 0 && e.Code <= 0 {
		e.Err = p.scrub.Error(err)
	}
	return e
}

// Kill kills the process and its group. It does not wait.
func (p *Process) Kill() { _ = p.end(0) }

// end ends the process group, kindly first when there is a grace period.
func (p *Process) end(grace time.Duration) error {
	pid := p.cmd.Process.Pid
	if grace > 0 {
		if err := syscall.Kill(-pid, syscall.SIGTERM); err != nil {
			return os.ErrProcessDone
		}
		go func() {
			t := time.NewTimer(grace)
			defer t.Stop()
			select {
			case <-p.done:
			case <-t.C:
				_ = p.end(0)
			}
		}()
		return nil
	}
	select {
	case <-p.done: // its id may belong to somebody else by now
		return os.ErrProcessDone
	default:
	}
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil {
		return os.ErrProcessDone
	}
	return nil
}

// Stderr is what the process has written to standard error so far, bounded and
// without secrets.
func (p *Process) Stderr() string { return p.scrub.String(p.stderr.String()) }

// spawn runs start on a thread that lives as long as this process. On Linux
// "the parent" of a death signal is a thread: a child started from a thread
// that the Go runtime later ends would be killed for no reason.
func spawn(start func() error) error {
	spawner.once.Do(func() {
		spawner.calls = make(chan func())
		go func() {
			runtime.LockOSThread()
			for call := range spawner.calls {
				call()
			}
		}()
	})
	errs := make(chan error, 1)
	spawner.calls <- func() { errs <- start() }
	return <-errs
}

var spawner struct {
	once  sync.Once
	calls chan func()
}

// limited keeps up to limit bytes and calls over once there are more.
type limited struct {
	buf   bytes.Buffer
	limit int
	over  func()
}

func (w *limited) Write(b []byte) (int, error) {
	if room := w.limit - w.buf.Len(); len(b) > room {
		w.buf.Write(b[:room])
		w.over()
		return len(b), nil // the kill is on its way; a broken pipe would hide the reason
	}
	return w.buf.Write(b)
}

// collected is standard output, and whether all of it was read.
type collected struct {
	io.Writer
	ended bool
}

// ReadFrom copies a process's output, and sees its end.
func (c *collected) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(c.Writer, r)
	c.ended = err == nil
	return n, err
}

// headTail keeps the first and the last half of limit bytes.
type headTail struct {
	mu      sync.Mutex
	limit   int
	head    []byte
	tail    []byte
	skipped int
}

func (h *headTail) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(b)
	half := h.limit / 2
	if room := half - len(h.head); room > 0 {
		k := min(room, len(b))
		h.head = append(h.head, b[:k]...)
		b = b[k:]
	}
	h.tail = append(h.tail, b...)
	// Trimmed only at twice the size, so that many small writes cost little.
	if over := len(h.tail) - half; over > 0 && len(h.tail) > 2*half {
		h.skipped += over
		h.tail = append(h.tail[:0], h.tail[over:]...)
	}
	return n, nil
}

func (h *headTail) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	tail, skipped := h.tail, h.skipped
	if over := len(tail) - h.limit/2; over > 0 {
		tail, skipped = tail[over:], skipped+over
	}
	if skipped == 0 {
		return string(h.head) + string(tail)
	}
	return fmt.Sprintf("%s\n[%d bytes left out]\n%s", h.head, skipped, tail)
}
