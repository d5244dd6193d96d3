package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/ledger/verify"
)

// verifyLedger proves the ledger that the servers of a test left behind, however
// they ended.
func (w *world) verifyLedger() {
	dir := filepath.Join(w.data, ledgerDir)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), devtest.Patience) // that of the test has ended
	defer cancel()
	r, err := verify.Run(ctx, verify.Options{Ledger: dir, MaxUnsigned: -1})
	for _, f := range r.Findings {
		if w.lost && (f.Check == verify.CheckSignature || f.Check == verify.CheckKeys) {
			continue // the key went with the disk, and nobody vouches for the next one
		}
		w.t.Errorf("the ledger is wrong %d times: %s of %s (%s): %s, want %q, got %q", r.Total, f.Check, f.Record, f.Path, f.Message, f.Want, f.Got)
		break
	}
	if err != nil && r.Records > 0 { // one that is empty is no ledger yet
		w.t.Errorf("the ledger cannot be verified: %v", err)
	}
}
