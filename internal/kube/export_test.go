package kube

import "time"

// SetPatience shortens the time after which a list that does not come is given
// up. It must be called before Run.
func (c *Cluster) SetPatience(d time.Duration) { c.patience = d }

// GuessEvery has a Cluster look more often for kinds that nobody tells of. It must
// be called before Run.
func (c *Cluster) GuessEvery(d time.Duration) { c.guess = d }
