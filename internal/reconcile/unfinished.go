package reconcile

// Deployments that an earlier life of the process left unfinished, or that wait for a
// cluster after their application is gone. This file says who takes them up, and ends
// those that nobody will.

// recallDeployments reads from the record what was under way when the process ended.
func (e *Engine) recallDeployments() {
	if e.Recorder == nil || e.DryRun {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unfinished = map[owner]*deployment{}
	for _, d := range e.Recorder.Running() {
		if e.OnlyCluster == "" || d.Cluster == e.OnlyCluster {
			e.unfinished[owner{d.Cluster, d.Application}] = deploymentOf(&d)
		}
	}
}

// takeUp gives an application its deployment of an earlier life. Called with e.mu.
func (e *Engine) takeUp(a *app, clusterName string) *deployment {
	k := owner{clusterName, a.name}
	d := e.unfinished[k]
	if d == nil {
		return nil
	}
	delete(e.unfinished, k)
	a.deploys(clusterName, d)
	if d.failure != "" && a.told == "" {
		a.told = d.failure // it is no news
	}
	return d
}

// takeUpElsewhere gives an application what an earlier life deployed in other clusters
// than its own. A deletion is taken up where it goes on.
func (e *Engine) takeUpElsewhere(a *app, clusterName string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for name := range e.clusters {
		k := owner{name, a.name}
		if d := e.unfinished[k]; d != nil && name != clusterName && !d.clears() {
			delete(e.unfinished, k)
			a.deploys(name, d)
		}
	}
}

// abandon ends what was under way for an application that is forgotten, but where a
// cluster may still tell. Called with e.mu.
func (e *Engine) abandon(a *app) {
	for name, d := range a.running {
		if c := e.clusters[name]; c != nil && (c.conn == nil || c.conn.Ready() != nil) {
			delete(a.running, name)
			e.unfinished[owner{name, a.name}] = d
			continue
		}
		e.supersedeIn(a, name, d, "it was removed from Git")
	}
}

// findUnfinished looks for deployments of an earlier life that nobody will take up:
// in a cluster that is not declared any more, or of an application that left Git
// with everything that it had. It wakes those that the record owes something of what
// they left. Called with e.mu.
func (e *Engine) findUnfinished(clusterName string) {
	for k := range e.debtors {
		c := e.clusters[k.cluster]
		if c == nil || c.conn != nil && c.conn.Ready() == nil {
			delete(e.debtors, k)
			e.wake(k.application)
		}
	}
	for k, d := range e.unfinished {
		c, a := e.clusters[k.cluster], e.apps[k.application]
		switch {
		case c == nil:
			delete(e.unfinished, k)
			e.tellEnd(k, d, superseded(d, undeclared(k.cluster)))
		case clusterName != "" && clusterName != k.cluster || c.conn == nil || c.conn.Ready() != nil:
		case a != nil:
			if a.def == nil || a.def.Spec.Destination.Cluster != k.cluster {
				e.wake(k.application)
			}
		case e.released[k.application]:
			delete(e.unfinished, k)
			e.tellEnd(k, d, superseded(d, "it was removed from Git"))
		default:
			if _, declared := e.catalog.Applications[k.application]; declared {
				continue // another server's by now
			}
			gone := newApp(k.application)
			gone.read = true
			e.apps[k.application] = gone
			e.wake(k.application)
		}
	}
}
