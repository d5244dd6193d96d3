package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/pack"
	"github.com/belaydev/belay/internal/ledger/record"
)

const (
	// linger is how long an event that nobody waits for waits for others, so that
	// they share a batch.
	linger = 25 * time.Millisecond
	// minRetry and maxRetry bound the time between attempts to write while that fails.
	minRetry = time.Second
	maxRetry = 30 * time.Second
	// A batch ends with as many events, or as many bytes.
	batchItems = 2000
	batchBytes = 8 << 20
)

// limits say when what is kept up is done.
type limits struct {
	// quiet is the pause after which the ledger comes to rest.
	quiet time.Duration
	// signRecords and signTime bound what is unsigned while things go on happening.
	signRecords uint64
	signTime    time.Duration
	// Each batch is a pack. After packsBetween it is looked whether there are more than
	// untidyPacks to be combined; when nothing happens, whether there are more than restPacks.
	packsBetween, untidyPacks, restPacks int
	// look is the time between looks at what other writers pushed.
	look time.Duration
}

var defaultLimits = limits{quiet: 10 * time.Second, signRecords: 1000, signTime: time.Minute, packsBetween: 32, untidyPacks: 100, restPacks: 20, look: 5 * time.Minute}

// writing is what the goroutine that writes has for itself.
type writing struct {
	ctx   context.Context
	tip   tipState
	fresh bool      // whether tip is what the repository says
	since time.Time // the first record after the latest checkpoint
	out   *commits  // nil at rest
	packs int       // since it was looked whether to combine them
	// retry is the time between attempts while they fail, next when one is due.
	retry   time.Duration
	next    time.Time
	reserve reserve
	// unrest counts how often it could not be signed.
	unrest int
}

// run is the goroutine that writes.
func (l *Ledger) run() {
	defer close(l.done)
	for {
		n, urgent := l.waiting()
		closing := l.isClosing()
		switch {
		case closing && n == 0:
			l.rest()
			l.background.Wait()
			return
		case closing:
			if l.flush() != nil {
				l.release()
				l.background.Wait()
				return
			}
		case l.work.retry > 0 && !urgent:
			// Something new waits as well, unless it is urgent.
			if !l.wait(max(0, l.work.next.Sub(l.now()))) {
				_ = l.flush() // kept in l.failure
			}
		case n == 0 && l.resting():
			l.wait(-1)
		case n == 0:
			if !l.wait(l.pause()) {
				l.rest()
			}
		case !urgent && n < batchItems && l.lingers():
		default:
			if urgent && l.rushed() {
				l.gather()
			}
			_ = l.flush() // kept in l.failure, told to those who wait
		}
	}
}

func (l *Ledger) waiting() (n int, urgent bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range l.queue {
		if it.done != nil || it.over != nil {
			return len(l.queue), true
		}
	}
	return len(l.queue), false
}

func (l *Ledger) isClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

// wait is true when there is something new, false when the time was up. A
// negative time is for ever.
func (l *Ledger) wait(d time.Duration) bool {
	var up <-chan time.Time
	if d >= 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		up = t.C
	}
	select {
	case <-l.wake:
		return true
	case <-l.closing:
		return true
	case <-up:
		return false
	}
}

// lingers gives others the time to join a batch that nobody waits for. It is true
// when one came that somebody waits for.
func (l *Ledger) lingers() bool {
	d := linger
	if l.rushed() {
		d = gatherTime // others come that are waited for
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return false
		case <-l.closing:
			return true
		case <-l.wake:
			if _, urgent := l.waiting(); urgent {
				return true
			}
		}
	}
}

// flush writes what waits. A git that died is replaced by another at once; if that
// fails too, those who wait are told, and what nobody waits for stays.
func (l *Ledger) flush() error {
	var err error
	for range 2 {
		if err = l.attempt(); err == nil {
			l.mended()
			return nil
		}
		if _, ok := errors.AsType[noReserveError](err); ok {
			break
		}
		l.count(func(s *Stats) { s.Failures++ })
		l.log.Debug("the ledger could not be written", "dir", l.repo.dir, "error", err)
		if full(err) {
			l.work.reserve.giveUp(err, l.now())
		}
	}
	l.failed(err)
	return err
}

// attempt writes one batch.
func (l *Ledger) attempt() error {
	w := &l.work
	if !w.fresh {
		if err := l.reload(); err != nil {
			return err
		}
	}
	var low error
	if err := w.reserve.keep(l.now()); err != nil {
		low = noReserveError{err}
		l.refuse(l.problem(err)) // what happened is written all the same
	}
	batch, entries := l.take()
	if len(entries) == 0 {
		return low
	}
	if err := l.put(entries, nil); err != nil {
		if errors.Is(err, pack.ErrCollision) {
			l.dropAttacks(batch, entries)
		}
		return err
	}
	if w.since.IsZero() {
		w.since = l.now()
	}
	l.settle(batch, entries)
	switch {
	case l.due() || l.remote != nil && slices.ContainsFunc(batch, urgentElsewhere):
		l.signNow()
		l.tidySoon(l.limits.untidyPacks)
	case w.packs >= l.limits.packsBetween:
		l.tidySoon(l.limits.untidyPacks)
	}
	return low
}

// put writes entries on top of the tip, signed if there is a key. If it fails, what
// there is has to be read again.
func (l *Ledger) put(entries []record.Entry, key *Key) error {
	w := &l.work
	if w.out == nil {
		w.out = l.startCommits()
	}
	batch := make([]commit, len(entries))
	for i := range entries {
		batch[i] = commit{entry: &entries[i], key: key}
	}
	tip, err := w.out.write(batch)
	if err != nil {
		l.release()
		w.fresh = false
		return err
	}
	w.tip.commit = tip
	w.packs++
	return nil
}

// dropAttacks takes out what no repository may hold.
func (l *Ledger) dropAttacks(batch []*item, entries []record.Entry) {
	for i, it := range batch {
		for _, f := range entries[i].Files {
			if _, err := l.sum(pack.Blob, f.Data); err != nil {
				l.log.Error("an event cannot be recorded", "type", it.ev.Type, "application", it.ev.Application, "file", f.Path, "error", err)
				l.drop(it, fmt.Errorf("%s: %w", f.Path, err))
				break
			}
		}
	}
}

// take encodes a batch. What cannot be encoded is no event that could ever be
// written: whoever waits for it is told, and it is dropped.
func (l *Ledger) take() (batch []*item, entries []record.Entry) {
	l.mu.Lock()
	queue := l.queue[:min(len(l.queue), batchItems)]
	for _, it := range queue {
		it.taken = true
	}
	queue = append([]*item(nil), queue...)
	l.mu.Unlock()
	w, size := &l.work, 0
	var rest []*item
	for i, it := range queue {
		if size > batchBytes {
			rest = queue[i:]
			break
		}
		r := belay.Record{Writer: l.writer, Seq: w.tip.seq + 1, Event: it.ev}
		e, err := record.Encode(r, w.tip.began(&it.ev))
		if err != nil {
			l.log.Error("an event cannot be recorded", "type", it.ev.Type, "application", it.ev.Application, "error", err)
			l.drop(it, err)
			continue
		}
		if w.tip.seq++; w.tip.seq == 1 && l.key != nil {
			w.tip.signers = withKey(nil, l.writer, l.key)
			e.Files = append(e.Files, record.File{Path: record.SignersFile, Data: w.tip.signers})
		}
		w.tip.apply(&e)
		it.seq = w.tip.seq
		for _, f := range e.Files {
			size += len(f.Data)
		}
		batch, entries = append(batch, it), append(entries, e)
	}
	l.mu.Lock()
	for _, it := range rest {
		it.taken = false
	}
	l.mu.Unlock()
	return batch, entries
}

// drop takes an event out that will never be written.
func (l *Ledger) drop(it *item, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.queue {
		if other == it {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			break
		}
	}
	it.leaves()
	if it.done != nil {
		it.done <- outcome{err: err}
	}
}

// settle tells the outcome of a batch that is on the disk. The batch is the head
// of the queue.
func (l *Ledger) settle(batch []*item, entries []record.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range entries {
		l.shown.apply(&entries[i])
	}
	l.acknowledge(len(batch))
	l.stats.Seq = l.work.tip.seq
	l.stats.Batches++
}

// urgentElsewhere is true of what a server must know that takes over from this one:
// it is signed and pushed at once.
func urgentElsewhere(it *item) bool {
	t := it.ev.Type
	return t == belay.EventHold || t == belay.EventRelease || t == belay.EventLeader
}

// acknowledge ends the wait of the first n of the queue; l.mu is held.
func (l *Ledger) acknowledge(n int) {
	for _, it := range l.queue[:n] {
		it.leaves()
		if it.done != nil {
			it.done <- outcome{id: belay.RecordID(l.writer, it.seq)}
		}
	}
	if l.queue = l.queue[n:]; len(l.queue) == 0 {
		l.queue = nil // what was written need not be kept
		clear(l.seen)
	}
}

// reload takes the repository at its word: which records it has, and which of
// those that wait were written before git died.
func (l *Ledger) reload() error {
	l.repo.unlock(l.ref)
	if l.busy.TryLock() { // else the next time, or the next start
		l.repo.clean()
		l.busy.Unlock()
	}
	commit, err := l.repo.tip(l.ref)
	if err != nil {
		return err
	}
	tip, err := l.repo.load(l.work.ctx, l.writer, commit)
	if err != nil {
		return err
	}
	if commit != "" { // what was moved and not acknowledged may not be on the disk yet
		if err := l.repo.durable(l.ref); err != nil {
			return err
		}
	}
	l.work.tip, l.work.fresh = tip, true
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, it := range l.queue {
		if it.seq == 0 || it.seq > tip.seq {
			break
		}
		n++
	}
	l.shown = tip.clone()
	l.acknowledge(n)
	for _, it := range l.queue {
		it.taken, it.seq = false, 0
	}
	l.stats.Seq, l.stats.Signed = tip.seq, max(tip.signed, l.stats.Signed)
	return nil
}

// failed tells everybody who waits, and keeps what nobody waits for.
func (l *Ledger) failed(err error) {
	w := &l.work
	w.retry = min(max(2*w.retry, minRetry), maxRetry)
	problem := l.problem(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil {
		l.log.Error("the ledger cannot be written: no deployment starts until it can", "dir", l.repo.dir, "problem", problem.Message, "hint", problem.Hint, "error", err)
	}
	l.failure, l.tried = problem, l.now()
	w.next = l.tried.Add(w.retry)
	l.refuseLocked(problem)
}

// refuse tells everybody who waits that it is not on the record.
func (l *Ledger) refuse(problem *belay.Error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuseLocked(problem)
}

func (l *Ledger) refuseLocked(problem *belay.Error) {
	var kept []*item
	for _, it := range l.queue {
		it.leaves()
		if it.done == nil {
			kept = append(kept, it)
			continue
		}
		it.done <- outcome{err: problem}
	}
	l.queue = kept
}

// mended says that the ledger can be written again.
func (l *Ledger) mended() {
	l.work.retry = 0
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil {
		l.log.Info("the ledger can be written again", "dir", l.repo.dir)
		l.failure = nil
	}
}

func (l *Ledger) count(f func(*Stats)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.stats)
}

// release gives back what it takes to write: memory, and a process.
func (l *Ledger) release() {
	if l.work.out != nil {
		l.work.out.close()
		l.work.out = nil
	}
}

// resting is true when nothing is left to be done until something happens.
func (l *Ledger) resting() bool {
	return l.work.out == nil && (l.key == nil || l.work.unsigned() == 0 || l.work.tip.seq == 0)
}

// rest is what is done when nothing happens any more.
func (l *Ledger) rest() {
	l.signNow()
	l.release()
	l.tidySoon(l.limits.restPacks)
}

// pause is how long nothing must happen before the ledger comes to rest. When that
// failed it is tried again, less and less often.
func (l *Ledger) pause() time.Duration {
	return max(l.limits.quiet, time.Minute*time.Duration(min(l.work.unrest, 10)))
}

// signNow makes a checkpoint, or says why there is none: the next one signs as much.
func (l *Ledger) signNow() {
	if err := l.checkpoint(); err != nil {
		l.count(func(s *Stats) { s.Failures++ })
		l.log.Warn("the ledger could not be signed; tried again later", "dir", l.repo.dir, "error", err)
		l.work.unrest++
		l.work.since = l.now()
		return
	}
	l.work.since, l.work.unrest = time.Time{}, 0
	l.pushSoon()
}
