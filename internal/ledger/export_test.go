package ledger

import "time"

// Hasty has everything happen often, so that a test of a second sees all of it.
func Hasty(o *Options) {
	o.limits = &limits{quiet: 15 * time.Millisecond, signRecords: 25, signTime: time.Second, packsAtOnce: 8, untidyPacks: 6, restPacks: 3, look: 300 * time.Millisecond}
}
