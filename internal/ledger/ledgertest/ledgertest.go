// Package ledgertest makes ledgers for tests: real repositories that `git
// fast-import` wrote from record.Encode, without the writer's care for disks,
// remotes and signatures.
//
// It must not know the packages it helps to test.
package ledgertest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/xec"
)

// TB is what a ledger needs of a test; a script that is run by one has as much.
type TB interface {
	Helper()
	Fatal(args ...any)
	TempDir() string
}

// Ledger is a bare repository with records. Its methods end the test on an error.
type Ledger struct {
	// Dir of the repository.
	Dir string

	t     TB
	seqs  map[string]uint64
	began map[string]*belay.Deployment
}

// New makes an empty ledger in a directory of the test.
func New(t TB) *Ledger {
	t.Helper()
	return Init(t, filepath.Join(t.TempDir(), "ledger.git"))
}

// Init makes an empty ledger at dir.
func Init(t TB, dir string) *Ledger {
	t.Helper()
	l := &Ledger{Dir: dir, t: t, seqs: map[string]uint64{}, began: map[string]*belay.Deployment{}}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l.Git("init", "-q", "--bare", "--template=", "--initial-branch=ledger/main", dir)
	return l
}

// Git runs git on the ledger and returns what it says, without the last line's end.
func (l *Ledger) Git(args ...string) string {
	l.t.Helper()
	out, err := l.command(args...).Output(context.Background(), 64<<20)
	if err != nil {
		l.t.Fatal(err)
	}
	return strings.TrimSuffix(string(out), "\n")
}

func (l *Ledger) command(args ...string) xec.Command {
	return xec.Command{Path: "git", Args: args, Dir: l.Dir, Inherit: []string{"PATH"}, Env: []string{
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "LC_ALL=C", "HOME=" + l.Dir,
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.org", "GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.org"}}
}

// Append adds events to the branch of the writer main and returns their IDs.
func (l *Ledger) Append(events ...belay.Event) []string {
	l.t.Helper()
	return l.AppendTo("main", events...)
}

// AppendTo adds events to the branch of a writer and returns their IDs.
func (l *Ledger) AppendTo(writer string, events ...belay.Event) []string {
	l.t.Helper()
	first := l.seqs[writer] + 1
	l.Stream(writer, slices.Values(events))
	var ids []string
	for seq := first; seq <= l.seqs[writer]; seq++ {
		ids = append(ids, belay.RecordID(writer, seq))
	}
	return ids
}

// Stream adds any number of events to the branch of a writer.
func (l *Ledger) Stream(writer string, events iter.Seq[belay.Event]) {
	l.t.Helper()
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		c := l.command("fast-import", "--quiet", "--done", "--date-format=raw")
		c.Stdin = r
		err := c.Run(context.Background())
		_ = r.CloseWithError(fmt.Errorf("git fast-import ended: %w", io.ErrClosedPipe)) // what is written on is of no use
		done <- err
	}()
	out := bufio.NewWriterSize(w, 1<<20)
	branch, more := record.Branch(writer), l.seqs[writer] > 0
	for ev := range events {
		l.seqs[writer]++
		rec := belay.Record{Writer: writer, Seq: l.seqs[writer], Event: ev}
		e, err := record.Encode(rec, l.began[ev.Deployment])
		if err != nil {
			l.t.Fatal(err)
		}
		l.remember(&rec)
		from := ""
		if more && rec.Seq > 1 {
			from = "from " + branch + "^0\n"
		}
		more = false // the commit before is that of this stream
		write(out, branch, from, &e)
	}
	_, _ = out.WriteString("done\n") // Flush tells
	if err := out.Flush(); err != nil {
		l.t.Fatal(err)
	}
	_ = w.Close() // that of a pipe in memory
	if err := <-done; err != nil {
		l.t.Fatal(err)
	}
}

// remember keeps what the end of a deployment is encoded with.
func (l *Ledger) remember(r *belay.Record) {
	switch d := l.began[r.Event.Deployment]; {
	case r.Event.Type == belay.EventSyncStarted:
		began := record.Begin(r)
		l.began[began.ID] = &began
	case d != nil && record.Ends(r.Event.Type) && r.Event.Result != belay.Failed:
		delete(l.began, d.ID)
	}
}

func write(w *bufio.Writer, branch, from string, e *record.Entry) {
	var b bytes.Buffer
	data := func(p []byte) { fmt.Fprintf(&b, "data %d\n%s\n", len(p), p) }
	fmt.Fprintf(&b, "commit %s\nauthor %s %d +0000\ncommitter %s %d +0000\n", branch, e.Author, e.When.Unix(), e.Committer, e.When.Unix())
	data([]byte(e.Message))
	b.WriteString(from)
	for _, f := range e.Files {
		if f.Data == nil {
			fmt.Fprintf(&b, "D %s\n", strings.TrimSuffix(f.Path, "/"))
			continue
		}
		fmt.Fprintf(&b, "M 100644 inline %s\n", f.Path)
		data(f.Data)
	}
	_, _ = w.Write(b.Bytes()) // Flush tells
}
