package reconcile

// reconnect replaces a connection that ended by itself, such as one whose
// credentials name another server now.
func (e *Engine) reconnect(name string, c *cluster, why error) {
	e.Logger.Warn("cluster connection ended", "cluster", name, "error", why)
	e.mu.Lock()
	if e.clusters[name] == c {
		c.err = why
		e.wakeCluster(name) // to show it
	}
	e.mu.Unlock()
	e.queue.add(key{keyConfig, ""})
}
