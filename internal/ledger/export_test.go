package ledger

import (
	"bytes"
	"time"

	"github.com/belaydev/belay/internal/devtest"
	"github.com/belaydev/belay/internal/ledger/pack"
)

// Hasty has everything happen often, so that a test of a second sees all of it.
func Hasty(o *Options) {
	o.limits = &limits{quiet: 15 * time.Millisecond, signRecords: 25, signTime: time.Second, packsBetween: 8, untidyPacks: 6, restPacks: 3, look: 300 * time.Millisecond}
}

// Patient has everything be waited for, however long it takes.
func Patient(o *Options) {
	o.waits = &waits{flush: devtest.Patience, join: devtest.Patience, inherit: devtest.Patience, last: devtest.Patience}
}

// Attack has content with this text in it taken for an attack on SHA-1: a real one
// on a file in Git is not known.
func Attack(o *Options, text string) {
	o.sum = func(kind pack.Kind, data []byte) (pack.ID, error) {
		if bytes.Contains(data, []byte(text)) {
			return pack.ID{}, pack.ErrCollision
		}
		return pack.Sum(kind, data)
	}
}
