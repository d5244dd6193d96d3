package reconcile

import (
	"github.com/belaydev/belay"
)

// clusterChanged is called by a cluster's observation.
func (e *Engine) clusterChanged(name string, apps []string, all bool) {
	if !all {
		e.mu.Lock()
		unknown := false
		for _, n := range apps {
			if e.apps[n] != nil {
				e.wake(n)
			} else {
				unknown = true
			}
		}
		e.mu.Unlock()
		if unknown {
			e.findOrphans(name)
		}
		return
	}
	e.tellCluster(name)
	e.mu.Lock()
	e.wakeCluster(name)
	e.mu.Unlock()
	e.findOrphans(name)
}

// wakeCluster wakes the applications of a cluster, and those that left Git, which
// may have objects in any. Called with e.mu.
func (e *Engine) wakeCluster(name string) {
	for n, a := range e.apps {
		if a.def == nil || a.def.Spec.Destination.Cluster == name {
			e.wake(n)
		}
	}
}

// tellCluster says when a cluster cannot be reached any more, and when it can again.
func (e *Engine) tellCluster(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.clusters[name]
	if c == nil || c.conn == nil {
		return
	}
	msg := ""
	if c.conn.Ready() != nil {
		msg = c.conn.Status().Message
	} else {
		c.known = true
	}
	if !c.known {
		return // it is being looked at for the first time
	}
	if msg == c.trouble {
		return
	}
	c.trouble = msg
	if msg == "" {
		msg = "answers again"
	}
	e.publish(belay.Event{Type: belay.EventCluster, Cluster: name, Message: msg})
}
