package verify

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha1" // Git's own hash
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"

	"github.com/belaydev/belay/internal/xec"
)

// largest is the size from which a file is hashed but not kept.
const largest = 64 << 20

// restarts is how often a git that died of a damaged object is started again.
const restarts = 64

// object is one object, whole and with the right hash, or why it is not.
type object struct {
	kind string
	// data of commits, trees and of files that are wanted whole.
	data []byte
	// sum is the SHA-256 of a file.
	sum [sha256.Size]byte
	err error
}

// objects reads objects through one `git cat-file`, and hashes all it reads: a
// repository can hold anything under any name.
type objects struct {
	ctx   context.Context
	repo  *repo
	p     *xec.Process
	in    *bufio.Writer
	out   *bufio.Reader
	tries int
	// keep tells which files are wanted whole, by their index in a request.
	keep func(i int) bool
}

func (o *objects) start() error {
	c := o.repo.command("cat-file", "--batch-command", "--buffer")
	c.Pipes = true
	p, err := c.Start(o.ctx)
	if err != nil {
		return err
	}
	o.p, o.in, o.out = p, bufio.NewWriterSize(p.Stdin, 64<<10), bufio.NewReaderSize(p.Stdout, 256<<10)
	return nil
}

func (o *objects) close() error {
	if o.p == nil {
		return nil
	}
	_ = o.p.Stdin.Close()
	_, _ = io.Copy(io.Discard, o.p.Stdout) // what it still had to say, so that it can end
	_ = o.p.Stdout.Close()
	err := o.p.Wait()
	o.p = nil
	return err
}

// get reads objects in their order. Its own error is one of the process; those of
// an object come with it.
func (o *objects) get(ids []string, each func(i int, ob object)) error {
	for done := 0; done < len(ids); {
		if o.p == nil {
			if o.tries >= restarts {
				for ; done < len(ids); done++ {
					each(done, object{err: errors.New("not read, because too many objects before it are damaged")})
				}
				return nil
			}
			if err := o.start(); err != nil {
				return err
			}
		}
		n, err := o.some(ids[done:], func(i int, ob object) { each(done+i, ob) }, done)
		done += n
		if err == nil {
			continue
		}
		if o.ctx.Err() != nil {
			return context.Cause(o.ctx)
		}
		// It died of the object that it did not send.
		o.tries++
		why := "git could not read it"
		if end := o.close(); end != nil {
			if x, ok := errors.AsType[*xec.ExitError](end); ok {
				why = xec.LastLine(x.Stderr)
			}
		}
		if done < len(ids) {
			each(done, object{err: errors.New("damaged: " + why)})
			done++
		}
	}
	return nil
}

func (o *objects) some(ids []string, each func(i int, ob object), offset int) (n int, err error) {
	sent := make(chan error, 1)
	go func() {
		for _, id := range ids {
			if _, err := o.in.WriteString("contents " + id + "\n"); err != nil {
				sent <- err
				return
			}
		}
		_, err := o.in.WriteString("flush\n")
		if err == nil {
			err = o.in.Flush()
		}
		sent <- err
	}()
	for ; n < len(ids); n++ {
		ob, err := o.one(ids[n], o.keep == nil || o.keep(offset+n))
		if err != nil {
			_ = o.p.Stdin.Close() // ends the writing, wherever it is
			return n, cmp.Or(err, <-sent)
		}
		each(n, ob)
	}
	return n, <-sent
}

// one reads the answer for one object.
func (o *objects) one(id string, keep bool) (object, error) {
	line, err := o.out.ReadString('\n')
	if err != nil {
		return object{}, err
	}
	fields := strings.Fields(line)
	if len(fields) == 2 && fields[1] == "missing" {
		return object{err: errors.New("missing")}, nil
	}
	if len(fields) != 3 || fields[0] != id {
		return object{}, fmt.Errorf("git answers %q", strings.TrimSpace(line))
	}
	size, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return object{}, fmt.Errorf("git answers %q", strings.TrimSpace(line))
	}
	ob := object{kind: fields[1]}
	h := newHash(len(id))
	_, _ = io.WriteString(h, ob.kind+" "+fields[2]+"\x00") // hashes do not fail
	switch {
	case ob.kind == "blob" && (!keep || size > largest):
		sum := sha256.New()
		if _, err := io.CopyN(io.MultiWriter(h, sum), o.out, size); err != nil {
			return object{}, err
		}
		sum.Sum(ob.sum[:0])
		if keep {
			ob.err = fmt.Errorf("%d bytes are more than a file of the ledger has", size)
		}
	default:
		if size > 1<<30 {
			return object{}, fmt.Errorf("an object of %d bytes", size)
		}
		ob.data = make([]byte, size)
		if _, err := io.ReadFull(o.out, ob.data); err != nil {
			return object{}, err
		}
		_, _ = h.Write(ob.data)
		if ob.kind == "blob" {
			ob.sum = sha256.Sum256(ob.data)
		}
	}
	if _, err := o.out.Discard(1); err != nil {
		return object{}, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != id {
		return object{err: fmt.Errorf("damaged: what stands under this name is %s", got)}, nil
	}
	return ob, nil
}

// newHash is the hash of a repository, by the length of its ids.
func newHash(length int) hash.Hash {
	if length == 2*sha256.Size {
		return sha256.New()
	}
	return sha1.New() // Git's own hash
}

// blobID is the id that a file has in a repository.
func blobID(data []byte, length int) string {
	h := newHash(length)
	_, _ = io.WriteString(h, "blob "+strconv.Itoa(len(data))+"\x00")
	_, _ = h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// commit is a raw commit, taken apart.
type commit struct {
	id, tree string
	parents  []string
	raw      []byte
}

func parseCommit(id string, raw []byte) commit {
	c := commit{id: id, raw: raw}
	for line := range strings.Lines(string(raw[:min(len(raw), 8<<10)])) {
		if line == "\n" {
			break
		}
		switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); name {
		case "tree":
			c.tree = value
		case "parent":
			c.parents = append(c.parents, value)
		}
	}
	return c
}
