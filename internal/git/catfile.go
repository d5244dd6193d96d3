package git

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// Errors of reading objects.
var (
	// ErrMissing: the repository has no such object.
	ErrMissing = errors.New("no such object")
	// ErrBroken: the mirror lacks an object that it must have, or has it damaged.
	// The next Fetch makes the mirror anew.
	ErrBroken = errors.New("the mirror is damaged")
	// ErrTooBig: the object is larger than Options.MaxBlob.
	ErrTooBig = errors.New("file too big")
)

// readers is a small pool of `git cat-file --batch-command`. Two are enough to
// keep one large object from holding up everything else.
type readers struct {
	slots chan struct{}

	mu         sync.Mutex
	idle       []*reader // the last one is used first, so that one does most of the work
	generation int       // grows when the directory was exchanged
	closed     bool
	timer      *time.Timer
}

type reader struct {
	p          *xec.Process
	in         io.Writer
	out        *bufio.Reader
	generation int
}

func (r *reader) kill() {
	r.p.Kill()
	r.p.Stdin.Close()
	r.p.Stdout.Close()
	go func() { _ = r.p.Wait() }() // how a killed one ended says nothing
}

// request sends one command and reads the answer's header.
func (r *reader) request(command, id string) (kind string, size int64, err error) {
	if _, err := io.WriteString(r.in, command+" "+id+"\n"); err != nil {
		return "", 0, err
	}
	line, err := r.out.ReadString('\n')
	if err != nil {
		return "", 0, err
	}
	line = strings.TrimSuffix(line, "\n")
	if strings.HasSuffix(line, " missing") {
		return "", 0, ErrMissing
	}
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return "", 0, fmt.Errorf("unexpected answer %q", line)
	}
	size, err = strconv.ParseInt(fields[2], 10, 64)
	return fields[1], size, err
}

// object is what the repository has under an id.
type object struct {
	kind string // blob, tree, commit, tag
	size int64
	data []byte
}

func (r *reader) contents(id string, limit int64) (object, error) {
	kind, size, err := r.request("contents", id)
	if err != nil {
		return object{}, err
	}
	o := object{kind: kind, size: size}
	if size > limit {
		return o, ErrTooBig // the rest is still in the pipe: the reader is of no more use
	}
	o.data = make([]byte, size)
	if _, err := io.ReadFull(r.out, o.data); err != nil {
		return o, err
	}
	if b, err := r.out.ReadByte(); err != nil || b != '\n' {
		return o, errors.Join(err, errors.New("unexpected end of an object"))
	}
	return o, nil
}

func (r *reader) info(id string, _ int64) (object, error) {
	kind, size, err := r.request("info", id)
	return object{kind: kind, size: size}, err
}

// read asks one of the readers. One that died is replaced, a fresh one once.
func (m *Mirror) read(ctx context.Context, id string, limit int64, ask func(*reader, string, int64) (object, error)) (object, error) {
	if !validID(id) {
		return object{}, fmt.Errorf("%q is not an object id", id)
	}
	if err := context.Cause(ctx); err != nil {
		return object{}, err // of a reader that is free, too
	}
	select {
	case m.readers.slots <- struct{}{}:
		defer func() { <-m.readers.slots }()
	case <-ctx.Done():
		return object{}, context.Cause(ctx)
	}
	for tries := 0; ; {
		r, fresh, err := m.reader()
		if err != nil {
			return object{}, err
		}
		stop := context.AfterFunc(ctx, r.p.Kill)
		o, err := ask(r, id, limit)
		if !stop() && err != nil {
			r.kill()
			return object{}, context.Cause(ctx)
		}
		if err == nil || errors.Is(err, ErrMissing) {
			m.readers.put(r)
			return o, err
		}
		if errors.Is(err, ErrTooBig) {
			r.kill()
			return o, err
		}
		r.p.Stdin.Close()
		r.p.Stdout.Close()
		end := r.p.Wait()
		// A fresh one that gave up by itself met something it could not read.
		if e, ok := errors.AsType[*xec.ExitError](end); ok && fresh && e.Signal == 0 && m.ctx.Err() == nil {
			m.damaged(id, e)
			return object{}, fmt.Errorf("%w: %w", ErrBroken, e)
		}
		if fresh {
			tries++
		}
		if tries > 1 || m.ctx.Err() != nil {
			return object{}, fmt.Errorf("read object %s: %w", id, errors.Join(err, end))
		}
	}
}

// reader takes an idle reader or starts one.
func (m *Mirror) reader() (r *reader, fresh bool, err error) {
	p := &m.readers
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, errors.New("the mirror is closed")
	}
	if n := len(p.idle); n > 0 {
		r := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return r, false, nil
	}
	generation := p.generation
	p.mu.Unlock()

	m.swap.RLock()
	defer m.swap.RUnlock()
	c := m.local("cat-file", "--batch-command")
	c.Pipes = true
	proc, err := c.Start(m.ctx)
	if err != nil {
		return nil, false, err
	}
	return &reader{p: proc, in: proc.Stdin, out: bufio.NewReaderSize(proc.Stdout, 64<<10), generation: generation}, true, nil
}

func (p *readers) put(r *reader) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || r.generation != p.generation {
		r.kill()
		return
	}
	p.idle = append(p.idle, r)
	// A fleet has many repositories; the quiet ones need no process.
	if p.timer == nil {
		p.timer = time.AfterFunc(defaultReaderIdle, p.drop)
	} else {
		p.timer.Reset(defaultReaderIdle)
	}
}

// drop ends the idle readers.
func (p *readers) drop() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, r := range idle {
		r.kill()
	}
}

// renew ends the readers of a directory that was exchanged.
func (p *readers) renew() {
	p.mu.Lock()
	p.generation++
	p.mu.Unlock()
	p.drop()
}

func (p *readers) close() {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.drop()
}

// damaged remembers that the mirror has to be made anew.
func (m *Mirror) damaged(id string, err error) {
	if !m.broken.Swap(true) {
		m.logger.Warn("mirror damaged, will be made anew", "repo", m.display, "object", id, "error", err)
	}
}

func validID(id string) bool {
	if len(id) != 40 && len(id) != 64 {
		return false
	}
	return isHex(id)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
