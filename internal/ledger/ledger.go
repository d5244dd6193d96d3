// Package ledger writes the record of what a Belay did: one event, one commit, on
// a branch of its own in a bare repository. What Record returned for is on the
// disk, whatever happens then.
//
// One goroutine writes. It takes everything that waits as one batch, so that many
// who record at once share the price of one, and makes the commits itself, as a
// pack. Everything else is git's, which reads the repository, combines its packs and
// pushes it. While nothing happens there is no process and no timer.
//
// It must not know what events mean beyond the files that internal/ledger/record
// makes of them, nor who asks.
package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/pack"
	"github.com/belaydev/belay/internal/ledger/record"
)

// Options of Open.
type Options struct {
	// Dir is the bare repository; it is made if there is none. Nobody else writes there.
	Dir string
	// Writer names the branch. No two ledgers of one remote may share a name.
	Writer string
	// Key signs checkpoints; without one there are none. OldKeys are others at hand:
	// when Key is new, the one before it hands over.
	Key     *Key
	OldKeys []*Key
	// Remote is where the ledger is pushed to, if anywhere.
	Remote Remote
	// Logger is told of trouble; discarded by default.
	Logger *slog.Logger

	now    func() time.Time
	limits *limits
	waits  *waits
	sum    func(pack.Kind, []byte) (pack.ID, error)
}

// Ledger is an open ledger. Its methods may be called by several goroutines.
type Ledger struct {
	repo   repo
	writer string
	ref    string
	log    *slog.Logger
	now    func() time.Time
	sum    func(pack.Kind, []byte) (pack.ID, error)

	limits  limits
	waits   waits
	key     *Key
	oldKeys []*Key

	remote   Remote
	share    sharing
	diverged string // the branch that was set aside at the start, if one was

	// busy is held for reading by what works on the repository beside the writer.
	busy       sync.RWMutex
	tidying    sync.Mutex
	background sync.WaitGroup

	wake    chan struct{}
	closing chan struct{}
	closed  sync.Once
	done    chan struct{}

	mu    sync.Mutex
	queue []*item
	shown state
	// seen are the sources of events that wait, too.
	seen    map[string]string
	stats   Stats
	urgent  rush
	failure *belay.Error // why nothing can be written, or nil
	tried   time.Time    // when that was found last
	ended   bool

	work writing // of the one goroutine that writes
}

// item is an event that waits.
type item struct {
	ev belay.Event
	// done is told the outcome, once; nil when nobody waits.
	done chan outcome
	// taken is true from when it may have been written on.
	taken bool
	seq   uint64 // that it was written as, if it was
	// over is closed when it waits no more, or cannot be written for now; nil when
	// nobody asked for that.
	over chan struct{}
}

// leaves ends the wait of those who want to know when the item is out of the way.
func (it *item) leaves() {
	if it.over != nil {
		close(it.over)
		it.over = nil
	}
}

type outcome struct {
	id  string
	err error
}

// Stats are figures for metrics.
type Stats struct {
	Queue    int    // events that wait
	Seq      uint64 // of the latest record on the disk
	Signed   uint64 // of the latest checkpoint; 0 before one is known
	Batches  int64  // that were written
	Failures int64  // attempts to write that failed
	Problem  *belay.Error
	// Shared is true of a ledger with a remote.
	Shared bool
	// Pushed is the seq that the remote has at least, since PushedAt.
	Pushed       uint64
	PushedAt     time.Time
	PushFailures int64
	Remote       *belay.Error // why it cannot be reached, or nil
}

// Open opens the ledger, and makes one if there is none.
func Open(ctx context.Context, o Options) (*Ledger, error) {
	if err := record.CheckWriter(o.Writer); err != nil {
		return nil, &belay.Error{Code: belay.CodeInvalid, Message: err.Error(), Hint: "name it with --ledger-writer", Err: err}
	}
	l := &Ledger{
		repo: repo{dir: o.Dir}, writer: o.Writer, ref: record.Branch(o.Writer), log: o.Logger, now: o.now, key: o.Key, oldKeys: o.OldKeys, remote: o.Remote,
		wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}), seen: map[string]string{},
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.now == nil {
		l.now = time.Now
	}
	if l.sum = pack.Sum; o.sum != nil {
		l.sum = o.sum
	}
	if l.limits = defaultLimits; o.limits != nil {
		l.limits = *o.limits
	}
	if l.waits = defaultWaits; o.waits != nil {
		l.waits = *o.waits
	}
	if err := l.repo.create(ctx, l.ref); err != nil {
		return nil, l.problem(err)
	}
	l.work.reserve.path = strings.TrimSuffix(o.Dir, ".git") + ".reserve"
	if err := l.work.reserve.keep(l.now()); err != nil {
		// It opens on a full disk, too: what is there can be read.
		l.log.Warn("no room can be kept for the ledger: no deployment starts until it can", "dir", l.repo.dir, "error", err)
	}
	l.work.ctx = context.WithoutCancel(ctx)
	l.repo.clean()
	if l.remote != nil {
		if err := l.join(ctx); err != nil {
			return nil, l.problem(err)
		}
	}
	if err := l.reload(); err != nil {
		return nil, l.unreadable(err)
	}
	if l.key != nil && l.work.tip.seq > 0 && l.keyChanges() {
		if err := l.checkpoint(); err != nil {
			l.log.Warn("the new key of the ledger could not be written; tried again with the next checkpoint", "error", err)
		}
	}
	go l.run()
	if l.diverged != "" {
		l.Publish(belay.Event{Type: belay.EventError, Message: "the ledger and its remote went different ways: records that the remote did not have are kept on the branch " + l.diverged})
	}
	if l.remote != nil {
		l.share.soon, l.share.done = make(chan struct{}, 1), make(chan struct{})
		sharing, cancel := context.WithCancel(l.work.ctx)
		l.share.cancel = cancel
		l.pushSoon()
		go l.runSharing(sharing)
	}
	return l, nil
}

// Publish takes an event without waiting for anything. It is on the record soon.
func (l *Ledger) Publish(ev belay.Event) {
	_ = l.enqueue(&item{ev: ev}) // a closed ledger takes nothing more, and nobody waits for it
}

// Record returns the ID of an event's record once that can no longer be lost. On
// an error the event is not on the record.
func (l *Ledger) Record(ctx context.Context, ev belay.Event) (string, error) {
	it := &item{ev: ev, done: make(chan outcome, 1)}
	if err := l.enqueue(it); err != nil {
		return "", err
	}
	select {
	case o := <-it.done:
		return o.id, o.err
	case <-ctx.Done():
	}
	if l.withdraw(it) {
		return "", context.Cause(ctx)
	}
	o := <-it.done // it is being written, and that takes no time that counts
	return o.id, o.err
}

// errClosed is the error of a ledger that was closed.
var errClosed = &belay.Error{Code: belay.CodeUnavailable, Message: "the ledger is closed: the server is ending"}

func (l *Ledger) enqueue(it *item) error {
	if it.ev.Time.IsZero() {
		it.ev.Time = l.now()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return errClosed
	}
	if it.done != nil && l.failure != nil && l.now().Sub(l.tried) < minRetry {
		return l.failure
	}
	if ev := &it.ev; ev.Ref != "" && (ev.Type == belay.EventRevision || ev.Type == belay.EventRewritten) {
		l.seen[record.SourcePath(ev.Repo, ev.Ref)] = ev.Revision
	}
	if it.done != nil {
		l.urgent.add(l.now())
	}
	l.queue = append(l.queue, it)
	l.nudge()
	return nil
}

func (l *Ledger) nudge() {
	select {
	case l.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// withdraw takes an event out that nobody began to write.
func (l *Ledger) withdraw(it *item) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.queue {
		if other == it && !it.taken {
			it.leaves()
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			return true
		}
	}
	return false
}

// waits say how long the ledger waits for what is not its own to hasten.
type waits struct {
	// flush is how long a question waits for what was just told.
	flush time.Duration
	// join bounds what the start of a server waits for a remote, inherit what one
	// that begins to lead waits for it, and last what its end does.
	join, inherit, last time.Duration
}

var defaultWaits = waits{flush: 2 * time.Second, join: 15 * time.Second, inherit: 5 * time.Second, last: 10 * time.Second}

// Flush returns when what was published before is on the record, so that who reads
// the ledger next finds it; or when it cannot be written for now, or ctx ends.
func (l *Ledger) Flush(ctx context.Context) {
	l.mu.Lock()
	if len(l.queue) == 0 || l.failure != nil || l.ended {
		l.mu.Unlock()
		return
	}
	last := l.queue[len(l.queue)-1]
	if last.over == nil {
		last.over = make(chan struct{})
	}
	over := last.over
	l.nudge()
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, l.waits.flush)
	defer cancel()
	select {
	case <-over:
	case <-ctx.Done():
	}
}

// Running are the deployments that began and did not succeed yet.
func (l *Ledger) Running() []belay.Deployment {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sorted(l.shown.running)
}

// Holds are those in force.
func (l *Ledger) Holds() []belay.Hold {
	l.mu.Lock()
	defer l.mu.Unlock()
	return sorted(l.shown.holds)
}

// Source is the commit that a ref was seen at last, "" for none. It counts what
// waits to be written.
func (l *Ledger) Source(repo, ref string) string {
	path := record.SourcePath(repo, ref)
	l.mu.Lock()
	defer l.mu.Unlock()
	if s, ok := l.seen[path]; ok {
		return s
	}
	return l.shown.sources[path]
}

// Deployed is the latest deployment of an application that is on the disk; one
// without an ID where there is none. It asks git each time.
func (l *Ledger) Deployed(ctx context.Context, cluster, application string) (belay.Deployment, error) {
	l.busy.RLock()
	defer l.busy.RUnlock()
	var d belay.Deployment
	path := record.Dir(&belay.Event{Cluster: cluster, Application: application}) + record.DeploymentFile
	files, err := l.repo.objects(ctx, []string{l.ref + ":" + path})
	if err != nil || files[0] == nil {
		return d, err
	}
	if err := json.Unmarshal(files[0], &d); err != nil {
		return d, fmt.Errorf("%s of %s: %w", path, l.ref, err)
	}
	return d, nil
}

// Stats are the figures as they are now.
func (l *Ledger) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Queue, s.Problem, s.Shared = len(l.queue), l.failure, l.remote != nil
	return s
}

// Close writes what waits and ends the ledger. The error says what could not be
// written.
func (l *Ledger) Close(ctx context.Context) error {
	l.closed.Do(func() {
		l.mu.Lock()
		l.ended = true
		l.mu.Unlock()
		close(l.closing)
	})
	select {
	case <-l.done:
	case <-ctx.Done():
		return fmt.Errorf("close the ledger: %w", context.Cause(ctx))
	}
	l.endSharing(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.queue); n > 0 {
		err := &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("%d events could not be written to the ledger and are lost", n)}
		if l.failure != nil {
			return errors.Join(err, l.failure)
		}
		return err
	}
	return nil
}

// endSharing waits for the last push, and not for long.
func (l *Ledger) endSharing(ctx context.Context) {
	if l.remote == nil {
		return
	}
	timer := time.AfterFunc(l.waits.last, l.share.cancel)
	defer timer.Stop()
	stop := context.AfterFunc(ctx, l.share.cancel)
	defer stop()
	<-l.share.done
	l.share.cancel()
}
