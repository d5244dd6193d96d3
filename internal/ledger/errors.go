package ledger

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/xec"
)

var noSpace = regexp.MustCompile(`(?i)no space left on device|out of disk ?space|disk quota exceeded|file too large`)

// full says whether an error is that of a full disk.
func full(err error) bool {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return true
	}
	e, ok := errors.AsType[*xec.ExitError](err)
	return ok && noSpace.MatchString(e.Stderr)
}

var readOnly = regexp.MustCompile(`(?i)read-only file system`)

// problem says to people why the ledger cannot be written, and what to do. What
// git said stays in the chain.
func (l *Ledger) problem(err error) *belay.Error {
	if e, ok := errors.AsType[*belay.Error](err); ok {
		return e
	}
	e := &belay.Error{Code: belay.CodeUnavailable, Err: err}
	exit, isExit := errors.AsType[*xec.ExitError](err)
	const meanwhile = "; what happens meanwhile is kept and written then"
	switch {
	case full(err):
		e.Message = "the ledger " + l.repo.dir + " cannot be written: the disk is full"
		e.Hint = "make room on the disk of " + filepath.Dir(l.repo.dir) + meanwhile
	case errors.Is(err, syscall.EROFS), isExit && readOnly.MatchString(exit.Stderr):
		e.Message = "the ledger " + l.repo.dir + " cannot be written: the file system is read-only"
		e.Hint = "look for errors of the disk in the system's log" + meanwhile
	case isExit:
		e.Message = "the ledger " + l.repo.dir + " cannot be written: " + exit.Name + ": " + telling(exit)
		e.Hint = "check the directory with: git -C " + l.repo.dir + " fsck"
	default:
		e.Message = "the ledger " + l.repo.dir + " cannot be used: " + err.Error()
		e.Hint = "check the disk, and who may write there"
	}
	return e
}

// telling is the line of standard error that says why.
func telling(e *xec.ExitError) string {
	for line := range strings.Lines(e.Stderr) {
		if why, ok := strings.CutPrefix(strings.TrimSpace(line), "fatal: "); ok {
			return why
		}
	}
	return strings.TrimPrefix(e.Error(), e.Name+": ")
}

// unreadable says that what is there is no ledger of ours, or a damaged one.
func (l *Ledger) unreadable(err error) *belay.Error {
	why := err.Error()
	if e, ok := errors.AsType[*xec.ExitError](err); ok {
		why = e.Name + ": " + telling(e)
	}
	e := &belay.Error{Code: belay.CodeUnavailable, Err: err, Message: "the ledger " + l.repo.dir + " cannot be read: " + why,
		Hint: "look at it with: git -C " + l.repo.dir + " fsck; if it is damaged, move it away and restore a backup of it"}
	if l.remote != nil {
		e.Hint = "look at it with: git -C " + l.repo.dir + " fsck; if it is damaged, move it away: it is fetched again from " + l.remote.String()
	}
	return e
}
