package ledger

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/xec"
)

// ackTimeout is how long a batch may take to reach the disk.
const ackTimeout = 2 * time.Minute

// importer is a running git fast-import. One goroutine uses it.
type importer struct {
	repo repo
	ref  string
	p    *xec.Process
	out  *bufio.Reader
	stop context.CancelFunc
	// parent is the commit to go on from, given with the first commit only.
	parent string
	// packs counts what it left behind: one pack a batch.
	packs int
	token int
}

func startImporter(ctx context.Context, r repo, ref, parent string) (*importer, error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := r.command("fast-import", "--quiet", "--date-format=raw", "--active-branches=1", "--big-file-threshold=32m")
	c.Pipes = true
	p, err := c.Start(ctx)
	if err != nil {
		cancel()
		return nil, err
	}
	return &importer{repo: r, ref: ref, p: p, out: bufio.NewReader(p.Stdout), stop: cancel, parent: parent}, nil
}

// write makes commits of entries and returns the id of the last once all of them
// are on the disk.
func (i *importer) write(entries []record.Entry) (tip string, err error) {
	var b bytes.Buffer
	for n := range entries {
		i.commit(&b, &entries[n], n == len(entries)-1)
	}
	i.token++
	token := strconv.Itoa(i.token)
	b.WriteString("checkpoint\n\nget-mark :1\nprogress " + token + "\n")
	// A child that hangs, on a disk that does, must not hold up those who wait for ever.
	timer := time.AfterFunc(ackTimeout, i.p.Kill)
	defer timer.Stop()
	if _, err := i.p.Stdin.Write(b.Bytes()); err != nil {
		return "", i.died(err)
	}
	for {
		line, err := i.out.ReadString('\n')
		if err != nil {
			return "", i.died(err)
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "progress "+token {
			break
		}
		if validID(line) {
			tip = line
		}
	}
	i.packs++
	if err := i.repo.durable(i.ref); err != nil {
		return "", err
	}
	// It goes on when it could not move the ref, and says so at its end.
	at, err := i.repo.tip(i.ref)
	if err != nil {
		return "", err
	}
	if tip == "" || at != tip {
		return "", fmt.Errorf("git fast-import did not move %s to %s: %s", i.ref, tip, xec.LastLine(i.p.Stderr()))
	}
	return tip, nil
}

// died is why it ended in the midst of a batch.
func (i *importer) died(err error) error {
	i.p.Kill() // if it did not end by itself, it cannot be talked to
	if ended := i.p.Wait(); ended != nil {
		return ended
	}
	return fmt.Errorf("git fast-import ended: %w", err)
}

func (i *importer) commit(b *bytes.Buffer, e *record.Entry, last bool) {
	when := strconv.FormatInt(e.When.Unix(), 10) + " +0000\n"
	b.WriteString("commit " + i.ref + "\n")
	if last {
		b.WriteString("mark :1\n")
	}
	b.WriteString("author " + e.Author + " " + when + "committer " + e.Committer + " " + when)
	data(b, []byte(e.Message))
	if i.parent != "" {
		b.WriteString("from " + i.parent + "\n")
		i.parent = ""
	}
	for _, f := range e.Files {
		path := strings.TrimSuffix(f.Path, "/")
		if f.Data == nil {
			b.WriteString("D " + path + "\n")
			continue
		}
		b.WriteString("M 100644 inline " + path + "\n")
		data(b, f.Data)
	}
	b.WriteByte('\n')
}

func data(b *bytes.Buffer, d []byte) {
	b.WriteString("data " + strconv.Itoa(len(d)) + "\n")
	b.Write(d)
	b.WriteByte('\n')
}

// close ends it in good order, so that its packs are like any other.
func (i *importer) close() error {
	timer := time.AfterFunc(ackTimeout, i.p.Kill)
	defer timer.Stop()
	_ = i.p.Stdin.Close() // its end is what it waits for
	err := i.p.Wait()
	_ = i.p.Stdout.Close()
	i.stop()
	return err
}

// kill ends it at once.
func (i *importer) kill() {
	i.p.Kill()
	_ = i.close() // it was killed: that is no news
}
