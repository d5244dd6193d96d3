package ledger

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/belaydev/belay/internal/xec"
)

// looseDirs is the number of directories of single objects from which they are packed.
const looseDirs = 64

// untidy says whether packs should be combined. Those that somebody keeps apart do
// not count.
func (r repo) untidy(packs int) bool {
	names := map[string]bool{}
	entries, _ := os.ReadDir(filepath.Join(r.dir, "objects", "pack")) // none if it cannot be read
	for _, e := range entries {
		names[e.Name()] = true
	}
	n := 0
	for name := range names {
		if base, ok := strings.CutSuffix(name, ".pack"); ok && !names[base+".keep"] {
			n++
		}
	}
	if n > packs {
		return true
	}
	loose := 0
	entries, _ = os.ReadDir(filepath.Join(r.dir, "objects"))
	for _, e := range entries {
		if len(e.Name()) == 2 {
			loose++
		}
	}
	return loose > looseDirs
}

// tidy combines small packs and single objects. It removes no object, whether any
// branch has it or not, and readers and writers go on: git looks again when a pack
// is gone. The cost follows what is new, not what is there.
func (l *Ledger) tidy() {
	l.busy.RLock()
	defer l.busy.RUnlock()
	began := time.Now()
	// What a directory or a record is told from lies next to it: more than a few
	// candidates cost half as much again, and save a fiftieth of the space.
	_, err := l.repo.output(l.work.ctx, nil, "repack", "-q", "-d", "-n", "--geometric=2", "--window=4")
	if e, ok := errors.AsType[*xec.ExitError](err); ok && e.Code == 129 {
		// Git before 2.32 does not know that. This rewrites everything, and keeps it too.
		_, err = l.repo.output(l.work.ctx, nil, "repack", "-q", "-a", "-d", "-n", "--keep-unreachable")
	}
	if err != nil {
		l.log.Warn("the packs of the ledger could not be combined; tried again later", "dir", l.repo.dir, "error", err)
		return
	}
	l.log.Debug("ledger tidied", "took", time.Since(began))
}

// tidySoon combines packs beside everything else, where that is worth it.
func (l *Ledger) tidySoon(packs int) {
	l.work.packs = 0
	if !l.repo.untidy(packs) || !l.tidying.TryLock() {
		return
	}
	l.background.Go(func() {
		defer l.tidying.Unlock()
		l.tidy()
	})
}
