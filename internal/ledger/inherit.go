package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/ledger/record"
)

// Inherit makes the holds equal to those of the writer that led last, as far as its
// branch is known here, and puts that on the record: servers that stand by for one
// another write branches of their own. It names that writer, "" for none.
func (l *Ledger) Inherit(ctx context.Context, repo, lease string) (from string, err error) {
	if l.remote != nil {
		if err := l.lookNow(ctx); err != nil {
			l.log.Warn("what the server that led before recorded last may be unknown here: the remote of the ledger cannot be asked", "remote", l.remote.String(), "error", err)
		}
	}
	from, commit, err := l.ledLast(ctx, repo, lease)
	if err != nil || from == "" || from == l.writer {
		return "", err
	}
	theirs, err := l.repo.load(ctx, from, commit)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	mine := maps.Clone(l.shown.holds)
	l.mu.Unlock()
	for _, path := range slices.Sorted(maps.Keys(theirs.holds)) {
		h := theirs.holds[path]
		if own, ok := mine[path]; ok && same(own, h) {
			continue
		}
		if _, err := l.Record(ctx, belay.Event{Type: belay.EventHold, Application: h.Application, Cluster: h.Cluster, Revision: h.Revision, Actor: h.By, Reason: h.Reason,
			Message: fmt.Sprintf("held at %.10s, as %s left it", h.Revision, from), Detail: &belay.Detail{Hold: &h}}); err != nil {
			return from, err
		}
	}
	for _, path := range slices.Sorted(maps.Keys(mine)) {
		if _, ok := theirs.holds[path]; ok {
			continue
		}
		h := mine[path]
		if _, err := l.Record(ctx, belay.Event{Type: belay.EventRelease, Application: h.Application, Cluster: h.Cluster, Message: "released while " + from + " led"}); err != nil {
			return from, err
		}
	}
	return from, nil
}

// same compares holds as the ledger holds them.
func same(a, b belay.Hold) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// lookNow fetches what others wrote.
func (l *Ledger) lookNow(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, l.waits.inherit, fmt.Errorf("no answer within %s: %w", l.waits.inherit, context.DeadlineExceeded))
	defer cancel()
	l.share.talk.Lock()
	defer l.share.talk.Unlock()
	l.busy.RLock()
	defer l.busy.RUnlock()
	if err := l.pull(ctx); err != nil {
		return err
	}
	there, err := l.refs(tracked)
	if err != nil {
		return err
	}
	return l.takeOthers(there)
}

// ledLast is the writer that began to lead last, and the tip of its branch.
func (l *Ledger) ledLast(ctx context.Context, repo, lease string) (writer, commit string, err error) {
	branches, err := l.refs(record.BranchPrefix)
	if err != nil {
		return "", "", err
	}
	writers := slices.Sorted(maps.Keys(branches))
	names := make([]string, len(writers))
	for i, w := range writers {
		names[i] = branches[w] + ":" + record.LeasePath(repo, lease)
	}
	files, err := l.repo.objects(ctx, names)
	if err != nil {
		return "", "", err
	}
	var latest time.Time
	for i, w := range writers {
		at, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(string(files[i])))
		if err == nil && at.After(latest) {
			writer, commit, latest = w, branches[w], at
		}
	}
	return writer, commit, nil
}
