// Package index answers questions of a ledger: an SQLite database beside it that
// is made from its commits and follows them. It is a cache. What it says, the
// ledger says; when it is missing, damaged, of another version, or of a branch
// that was rewritten, it is made anew.
//
// A question sees every record that was on a branch when it was asked. The index
// reads ledgers of others too: bare or not, and branches of a remote as a clone has
// them. It does not prove anything: that is what package verify is for.
//
// It must not know who asks, or how records come to be.
package index

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"database/sql"

	"github.com/belaydev/belay"
)

// Options of Open.
type Options struct {
	// Ledger is the repository: bare, or a working tree with .git in it.
	Ledger string
	// Path is the file of the index. Without one it is a temporary file.
	Path string
	// Flush is called before each question: what was told by then is in the ledger
	// when it returns. Nil where nobody writes.
	Flush func(context.Context)
	// Log hears of what was made anew and of commits that are no records.
	Log *slog.Logger
}

// Index is safe for concurrent use.
type Index struct {
	ledger string
	path   string
	temp   string // directory to be removed
	flush  func(context.Context)
	log    *slog.Logger

	work chan struct{} // one token: who has it may write

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu   sync.Mutex
	db   *sql.DB
	seen string // what the refs said when the index was up to date
	bad  int    // commits that are no records
	wake *time.Timer
	// woken is when the first was that it waits for.
	woken time.Time
	shut  bool
	// behind is true after Wake led to an error, which is told once.
	behind bool
}

// Open finds the repository. The index itself is opened by the first question.
func Open(o Options) (*Index, error) {
	dir, err := gitDir(o.Ledger)
	if err != nil {
		return nil, err
	}
	x := &Index{ledger: dir, path: o.Path, flush: o.Flush, log: o.Log, work: make(chan struct{}, 1)}
	x.ctx, x.stop = context.WithCancel(context.Background())
	if x.log == nil {
		x.log = slog.New(slog.DiscardHandler)
	}
	return x, nil
}

// gitDir is the Git directory of a repository.
func gitDir(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the ledger: %w", err)
	}
	for _, dir := range []string{filepath.Join(abs, ".git"), abs} {
		if head, err := os.Stat(filepath.Join(dir, "HEAD")); err != nil || head.IsDir() {
			continue
		}
		if objects, err := os.Stat(filepath.Join(dir, "objects")); err == nil && objects.IsDir() {
			return dir, nil
		}
	}
	return "", &belay.Error{Code: belay.CodeNotFound, Message: fmt.Sprintf("%s is not a Git repository", path),
		Hint: "name the directory of a ledger, such as ledger.git in the data directory of a server, or a clone of one"}
}

// What Wake was told of is indexed when nothing more came for quiet, and after patience
// in any case: while a fleet is rolled out the processors have better things to do,
// and a question asked meanwhile brings the index up to date itself.
const (
	quiet    = 2 * time.Second
	patience = 30 * time.Second
)

// Wake says that the ledger has grown: the index follows soon, so that the next
// question finds little left to do. It does not block.
func (x *Index) Wake() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.shut {
		return
	}
	if x.wake != nil {
		if time.Since(x.woken) < patience-quiet {
			x.wake.Reset(quiet)
		}
		return
	}
	x.woken = time.Now()
	x.wake = time.AfterFunc(quiet, func() {
		x.mu.Lock()
		x.wake = nil
		x.mu.Unlock()
		err := x.Refresh(x.ctx)
		x.mu.Lock()
		told := x.behind
		x.behind = err != nil
		x.mu.Unlock()
		if err != nil && !told && x.ctx.Err() == nil {
			x.log.Warn("index of the ledger is behind; questions will try again", "error", err)
		}
	})
}

var errClosed = errors.New("the index of the ledger is closed")

// Close ends it. The file stays, unless it was a temporary one.
func (x *Index) Close() error {
	x.mu.Lock()
	x.shut = true
	if x.wake != nil {
		x.wake.Stop()
	}
	x.mu.Unlock()
	x.stop()
	x.work <- struct{}{} // whoever writes ends first
	defer func() { <-x.work }()
	x.mu.Lock()
	defer x.mu.Unlock()
	var err error
	if x.db != nil {
		err = x.db.Close()
		x.db = nil
	}
	if x.temp != "" {
		err = errors.Join(err, os.RemoveAll(x.temp))
	}
	return err
}

// NoRecords counts commits of the ledger's branches that are no records. A ledger
// that verifies has none.
func (x *Index) NoRecords() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.bad
}

// Refresh brings the index up to date.
func (x *Index) Refresh(ctx context.Context) error {
	_, err := x.current(ctx)
	return err
}

// current is the database, up to date with the refs as they are now.
func (x *Index) current(ctx context.Context) (*sql.DB, error) {
	if x.flush != nil {
		x.flush(ctx)
	}
	now, err := refState(x.ledger)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	db, seen, shut := x.db, x.seen, x.shut
	x.mu.Unlock()
	switch {
	case shut:
		return nil, errClosed
	case db != nil && seen == now:
		return db, nil
	}
	select {
	case x.work <- struct{}{}:
		defer func() { <-x.work }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// Who waited finds that another has done it, or that there is more.
	if now, err = refState(x.ledger); err != nil {
		return nil, err
	}
	x.mu.Lock()
	db, seen, shut = x.db, x.seen, x.shut
	x.mu.Unlock()
	switch {
	case shut:
		return nil, errClosed
	case db != nil && seen == now:
		return db, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(x.ctx, func() { cancel(errClosed) })()
	db, err = x.follow(ctx, db)
	if damaged(err) {
		x.log.Warn("index of the ledger is damaged, made anew", "path", x.path, "error", err)
		if err := x.discard(); err != nil {
			return nil, err
		}
		db, err = x.follow(ctx, nil)
	}
	if err != nil {
		return nil, x.explain(err)
	}
	x.mu.Lock()
	x.seen = now
	x.mu.Unlock()
	return db, nil
}

// follow opens the database, if it is not, and catches up.
func (x *Index) follow(ctx context.Context, db *sql.DB) (*sql.DB, error) {
	if db == nil {
		var err error
		if db, err = x.open(ctx); err != nil {
			return nil, err
		}
		x.mu.Lock()
		x.db = db
		x.mu.Unlock()
	}
	return db, x.catchUp(ctx, db)
}

// ask runs a question. An index that turns out to be damaged is made anew, once.
func (x *Index) ask(ctx context.Context, question func(*sql.DB) error) error {
	for tries := 0; ; tries++ {
		db, err := x.current(ctx)
		if err != nil {
			return err
		}
		err = question(db)
		if !damaged(err) || tries > 0 {
			return err
		}
		x.log.Warn("index of the ledger is damaged, made anew", "path", x.path, "error", err)
		x.work <- struct{}{}
		x.mu.Lock()
		same := x.db == db // another question may have met it first
		x.mu.Unlock()
		if same {
			err = x.discard()
		} else {
			err = nil
		}
		<-x.work
		if err != nil {
			return err
		}
	}
}

// explain says what to do about an index that cannot be brought up to date.
func (x *Index) explain(err error) error {
	if full(err) {
		return &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("there is no room for the index of the ledger in %s", filepath.Dir(x.path)),
			Hint: "make room on that disk; the ledger itself is not touched", Err: err}
	}
	return fmt.Errorf("index the ledger %s: %w", x.ledger, err)
}
