package kube

import "time"

// SetPatience shortens the time after which a list that does not come is given
// up. It must be called before Run.
func (c *Cluster) SetPatience(d time.Duration) { c.patience = d }
