package ledger

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// ackTimeout is how long a git may take to answer.
const ackTimeout = 2 * time.Minute

// reader reads objects through a git that stays, from the first that is asked for.
// One goroutine uses it.
type reader struct {
	ctx  context.Context
	repo repo
	p    *xec.Process
	out  *bufio.Reader
	stop context.CancelFunc
}

func (r *reader) start() error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.ctx))
	c := r.repo.command("cat-file", "--batch")
	c.Pipes = true
	p, err := c.Start(ctx)
	if err != nil {
		cancel()
		return err
	}
	r.p, r.out, r.stop = p, bufio.NewReader(p.Stdout), cancel
	return nil
}

// read returns what an object holds.
func (r *reader) read(name string) ([]byte, error) {
	if r.p == nil {
		if err := r.start(); err != nil {
			return nil, err
		}
	}
	// A child that hangs, on a disk that does, must not hold up those who wait for ever.
	timer := time.AfterFunc(ackTimeout, r.p.Kill)
	defer timer.Stop()
	_, err := io.WriteString(r.p.Stdin, name+"\n")
	var b []byte
	if err == nil {
		b, err = answer(r.out, name)
	}
	if err != nil {
		return nil, r.died(err)
	}
	if b == nil {
		return nil, fmt.Errorf("the repository has no %s", name)
	}
	return b, nil
}

// died is why it did not answer.
func (r *reader) died(err error) error {
	r.p.Kill() // if it did not end by itself, it cannot be talked to
	if ended := r.p.Wait(); ended != nil {
		return ended
	}
	return fmt.Errorf("git cat-file ended: %w", err)
}

func (r *reader) close() {
	if r.p == nil {
		return
	}
	r.p.Kill() // it only reads
	_ = r.p.Stdin.Close()
	_ = r.p.Wait() // it was killed: that is no news
	_ = r.p.Stdout.Close()
	r.stop()
	r.p = nil
}

// answer reads what git cat-file --batch says of an object; nil is that there is none.
func answer(in *bufio.Reader, name string) ([]byte, error) {
	head, err := in.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("git cat-file said nothing of %s: %w", name, err)
	}
	fields := strings.Fields(head)
	if len(fields) < 3 || fields[len(fields)-1] == "missing" {
		return nil, nil
	}
	size, err := strconv.Atoi(fields[2])
	if err != nil {
		return nil, fmt.Errorf("git cat-file answered %q", head)
	}
	b := make([]byte, size+1) // and a line feed
	if _, err := io.ReadFull(in, b); err != nil {
		return nil, fmt.Errorf("git cat-file broke off within %s: %w", name, err)
	}
	return b[:size], nil
}
