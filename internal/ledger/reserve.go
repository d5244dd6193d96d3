package ledger

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// reserveBytes is room that is kept for what happens while the disk is full,
// slackBytes what must be free beside it when it is made: or it would be made, and
// given up again with the next record.
const (
	reserveBytes = 4 << 20
	slackBytes   = 2 << 20
)

// reserve is a file that takes room on the disk. It is given up when the disk is
// full, so that what happened can still be written; as long as it cannot be made
// again nothing new begins. One goroutine uses it.
type reserve struct {
	path  string
	held  bool
	tried time.Time
	err   error // of the last try
}

// keep makes the reserve where it is missing, at most once a second.
func (r *reserve) keep(now time.Time) error {
	if r.held || r.err != nil && now.Sub(r.tried) < minRetry {
		return r.err
	}
	r.tried = now
	if r.err = r.fill(); r.err == nil {
		r.held = true
	}
	return r.err
}

func (r *reserve) fill() error {
	if st, err := os.Stat(r.path); err == nil && st.Size() == reserveBytes {
		return nil
	}
	// Noise: a file system that compresses would keep no room for zeros.
	noise := rand.NewChaCha8([32]byte{})
	b := make([]byte, reserveBytes+slackBytes)
	_, _ = noise.Read(b) // never fails
	tmp := r.path + ".new"
	err := writeSynced(tmp, b)
	if err == nil {
		err = os.Truncate(tmp, reserveBytes)
	}
	if err == nil {
		err = errors.Join(os.Rename(tmp, r.path), syncPath(filepath.Dir(r.path)))
	}
	if err != nil {
		_ = os.Remove(tmp) // half of it would only be in the way
	}
	return err
}

// giveUp gives the room to what is to be written, because of an error.
func (r *reserve) giveUp(err error, now time.Time) {
	r.held, r.tried, r.err = false, now, err
	_ = os.Remove(r.path) // there, or gone before
}

// noReserveError is that of a ledger that wrote what happened, and where nothing new
// may begin.
type noReserveError struct{ error }

func (e noReserveError) Unwrap() error { return e.error }
