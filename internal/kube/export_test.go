package kube

import (
	"log/slog"
	"time"
)

// SetPatience shortens the time after which a list that does not come is given
// up. It must be called before Run.
func (c *Cluster) SetPatience(d time.Duration) { c.patience = d }

// GuessEvery has a Cluster look more often for kinds that nobody tells of. It must
// be called before Run.
func (c *Cluster) GuessEvery(d time.Duration) { c.guess = d }

// Wanted is what SetLogger puts before a handler.
func Wanted(h slog.Handler) slog.Handler { return wanted{h} }
