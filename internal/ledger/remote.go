package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
	"github.com/belaydev/belay/internal/xec"
)

// Remote is where the ledger is pushed to.
type Remote interface {
	// String is its URL, without credentials.
	String() string
	// Push pushes refspecs and never forces.
	Push(ctx context.Context, refspecs ...string) error
	// Fetch fetches refspecs, and removes what they cover and is there no more.
	Fetch(ctx context.Context, refspecs ...string) error
}

const (
	// tracked are the branches as the remote has them. It may show anything; what
	// counts is below record.BranchPrefix.
	tracked = "refs/belay/remote/"
	// aside are branches with records that the remote's own do not follow.
	aside = "refs/heads/ledger-diverged/"
	// minPush and maxPush bound the time between attempts while they fail.
	minPush = time.Second
	maxPush = 5 * time.Minute
)

// sharing is of the goroutine that talks to the remote.
type sharing struct {
	soon   chan struct{}
	done   chan struct{}
	cancel context.CancelFunc
	pushed string // what the remote has of this writer
	told   string // the problem that was logged last

	// talk is held while the remote is asked.
	talk   sync.Mutex
	looked time.Time
}

// pull fetches the branches of the remote beside our own.
func (l *Ledger) pull(ctx context.Context) error {
	err := l.remote.Fetch(ctx, "+"+record.BranchPrefix+"*:"+tracked+"*")
	if err == nil {
		l.share.looked = l.now()
	}
	return err
}

// join takes what the remote has when the ledger is opened: all of it where the
// ledger was lost, and what is newer where it was restored from a backup.
func (l *Ledger) join(ctx context.Context) error {
	local, err := l.repo.tip(l.ref)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeoutCause(ctx, l.waits.join, fmt.Errorf("no answer within %s: %w", l.waits.join, context.DeadlineExceeded))
	defer cancel()
	if local == "" { // all of it may have to be fetched
		bounded = ctx
	}
	if err := l.pull(bounded); err != nil {
		if local != "" {
			l.log.Warn("the remote of the ledger cannot be asked; going on without", "remote", l.remote.String(), "error", err)
			return nil
		}
		// Beginning at 1 would be a second history of the same name.
		e := &belay.Error{Code: belay.CodeUnavailable, Err: err,
			Message: fmt.Sprintf("there is no ledger in %s yet, and its remote cannot be asked whether it has records of %q: %v", l.repo.dir, l.writer, err),
			Hint:    "mend that, or begin another branch with --ledger-writer NAME"}
		if cause, ok := errors.AsType[*belay.Error](err); ok {
			e.Code, e.Message = cause.Code, fmt.Sprintf("there is no ledger in %s yet, and its remote cannot be asked whether it has records of %q: %s", l.repo.dir, l.writer, cause.Message)
			if cause.Hint != "" {
				e.Hint = cause.Hint + "; or begin another branch with --ledger-writer NAME"
			}
		}
		return e
	}
	there, err := l.refs(tracked)
	if err != nil {
		return err
	}
	if err := l.joinOwn(local, there[l.writer]); err != nil {
		return err
	}
	return l.takeOthers(there)
}

// joinOwn brings our own branch to where the remote has it, if that is further.
func (l *Ledger) joinOwn(local, there string) error {
	l.share.pushed = there
	if there == "" || there == local {
		return nil
	}
	if local != "" {
		if behind, err := l.follows(there, local); err != nil || behind {
			return err // the remote is behind, as is usual
		}
	}
	ahead := local == ""
	if !ahead {
		var err error
		if ahead, err = l.follows(local, there); err != nil {
			return err
		}
	}
	if !ahead {
		branch := aside + l.writer + "-" + local[:12]
		if err := l.move(branch, local, ""); err != nil {
			return err
		}
		l.diverged = strings.TrimPrefix(branch, "refs/heads/")
	}
	if err := l.move(l.ref, there, local); err != nil {
		return err
	}
	switch {
	case local == "":
		l.log.Info("the ledger was fetched from its remote", "remote", l.remote.String(), "commit", there)
	case ahead:
		l.log.Warn("the ledger was older than its remote, and was brought forward", "remote", l.remote.String(), "from", local, "to", there)
	default:
		l.log.Error("the ledger and its remote went different ways: the remote's is continued, and what was here is kept", "remote", l.remote.String(), "branch", l.diverged)
	}
	return nil
}

// takeOthers follows the branches of other writers. One that does not follow what
// is known of it was rewritten: what is known stays.
func (l *Ledger) takeOthers(there map[string]string) error {
	here, err := l.refs(record.BranchPrefix)
	if err != nil {
		return err
	}
	for writer, commit := range there {
		if writer == l.writer || here[writer] == commit || record.CheckWriter(writer) != nil {
			continue
		}
		if here[writer] != "" {
			ok, err := l.follows(here[writer], commit)
			if err != nil {
				return err
			}
			if !ok {
				if back, err := l.follows(commit, here[writer]); err != nil || back {
					continue // an older state of it, or one that cannot be told
				}
				l.log.Error("a branch of the ledger's remote was rewritten; what is known of it is kept", "remote", l.remote.String(), "branch", "ledger/"+writer, "known", here[writer], "now", commit)
				continue
			}
		}
		if err := l.move(record.Branch(writer), commit, here[writer]); err != nil {
			return err
		}
	}
	return nil
}

// follows says whether commit b is a or builds on it.
func (l *Ledger) follows(a, b string) (bool, error) {
	_, err := l.repo.output(l.work.ctx, nil, "merge-base", "--is-ancestor", a, b)
	if e, ok := errors.AsType[*xec.ExitError](err); ok && e.Code == 1 {
		return false, nil
	}
	return err == nil, err
}

// move sets a ref that is at old now, "" for none.
func (l *Ledger) move(ref, to, old string) error {
	if old == "" {
		old = strings.Repeat("0", 40)
	}
	if _, err := l.repo.output(l.work.ctx, nil, "update-ref", ref, to, old); err != nil {
		return err
	}
	return l.repo.durable(ref)
}

// refs are the commits of the refs with a prefix, by the rest of their names.
func (l *Ledger) refs(prefix string) (map[string]string, error) {
	out, err := l.repo.output(l.work.ctx, nil, "for-each-ref", "--format=%(objectname) %(refname)", prefix)
	if err != nil {
		return nil, err
	}
	refs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		id, ref, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name, ok := strings.CutPrefix(ref, prefix); ok && validID(id) {
			refs[name] = id
		}
	}
	return refs, nil
}

// pushSoon has the remote brought up to date, beside everything else.
func (l *Ledger) pushSoon() {
	if l.remote == nil {
		return
	}
	select {
	case l.share.soon <- struct{}{}:
	default: // it will be done anyway
	}
}

// runSharing is the goroutine that talks to the remote. It ends after a last
// attempt when there is nothing more to come.
func (l *Ledger) runSharing(ctx context.Context) {
	defer close(l.share.done)
	wait := l.limits.look
	for {
		timer := time.NewTimer(wait)
		last := false
		select {
		case <-l.share.soon:
		case <-timer.C:
		case <-l.done:
			last = true
		}
		timer.Stop()
		err := l.exchange(ctx)
		if last {
			return
		}
		if err == nil {
			wait = l.limits.look
			continue
		}
		if wait == l.limits.look {
			wait = minPush / 2
		}
		wait = min(2*wait, maxPush)
	}
}

// exchange pushes what the remote lacks, and fetches what others wrote if that was
// not done for a while.
func (l *Ledger) exchange(ctx context.Context) error {
	l.share.talk.Lock()
	defer l.share.talk.Unlock()
	l.busy.RLock()
	defer l.busy.RUnlock()
	seq := l.Stats().Seq
	tip, err := l.repo.tip(l.ref)
	if err == nil && tip != "" && tip != l.share.pushed {
		if err = l.push(ctx, tip); err == nil {
			l.count(func(s *Stats) { s.Pushed, s.PushedAt = seq, l.now() })
		}
	}
	if err == nil && l.now().Sub(l.share.looked) >= l.limits.look {
		if err = l.pull(ctx); err == nil {
			var there map[string]string
			if there, err = l.refs(tracked); err == nil {
				err = l.takeOthers(there)
			}
		}
	}
	l.tell(err)
	return err
}

// push pushes our branch as it is at a commit, and what was set aside.
func (l *Ledger) push(ctx context.Context, tip string) error {
	specs := []string{tip + ":" + l.ref}
	set, err := l.refs(aside)
	if err != nil {
		return err
	}
	for name := range set {
		specs = append(specs, aside+name+":"+aside+name)
	}
	err = l.remote.Push(ctx, specs...)
	if err == nil {
		l.share.pushed = tip
		return nil
	}
	// Is it that the remote has something else?
	if l.pull(ctx) != nil {
		return err
	}
	there, e := l.refs(tracked)
	if e != nil || there[l.writer] == "" {
		return err
	}
	if ok, e := l.follows(there[l.writer], tip); e != nil || ok {
		return err
	}
	return &belay.Error{Code: belay.CodeConflict, Err: err,
		Message: fmt.Sprintf("the branch ledger/%s of %s has records that this server did not write, so nothing is pushed to it", l.writer, l.remote),
		Hint:    "if another Belay writes as " + l.writer + ", give each a name of its own with --ledger-writer; then start this one again: what only it has is kept"}
}

// tell says that the remote cannot be reached, once for each reason, and that it can again.
func (l *Ledger) tell(err error) {
	var problem *belay.Error
	if err != nil {
		if e, ok := errors.AsType[*belay.Error](err); ok {
			problem = e
		} else {
			problem = &belay.Error{Code: belay.CodeUnavailable, Message: "the ledger cannot be pushed to " + l.remote.String() + ": " + err.Error(), Err: err}
		}
	}
	l.count(func(s *Stats) {
		if s.Remote = problem; problem != nil {
			s.PushFailures++
		}
	})
	switch {
	case problem == nil && l.share.told != "":
		l.log.Info("the ledger is pushed again", "remote", l.remote.String())
		l.share.told = ""
	case problem != nil && problem.Message != l.share.told:
		l.share.told = problem.Message
		if problem.Code == belay.CodeConflict {
			l.log.Error("the ledger is not pushed", "remote", l.remote.String(), "problem", problem.Message, "hint", problem.Hint)
			return
		}
		l.log.Warn("the ledger could not be pushed; tried again", "remote", l.remote.String(), "problem", problem.Message, "hint", problem.Hint)
	}
}
