package reconcile

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/catalog"
)

// Connections to clusters are made beside everything else: one whose credentials do
// not come holds up neither the others nor a commit. Which connection a cluster has
// changes in the same breath as the definitions do, so that what one commit declares
// never goes to where another one says a cluster is.

const (
	// connectTimeout bounds the making of a connection, and is the time until a
	// failed one is tried again.
	connectTimeout = 10 * time.Second
	// connectGrace is how long definitions wait for the clusters that come with them:
	// most are there by then, and nobody is told that they are not.
	connectGrace = time.Second
)

// dial is a connection that is being made, or is made and nobody's yet.
type dial struct {
	*cluster
	made bool // before that its connection and its error are not known; guarded by Engine.mu
	done chan struct{}
}

// clustersOf are the clusters that definitions declare and this server delivers to.
func (e *Engine) clustersOf(cat *catalog.Catalog) map[string]belay.Cluster {
	defs := maps.Clone(cat.Clusters)
	if len(defs) == 0 {
		defs = map[string]belay.Cluster{belay.LocalCluster: {Name: belay.LocalCluster}}
	}
	maps.DeleteFunc(defs, func(name string, _ belay.Cluster) bool { return e.OnlyCluster != "" && name != e.OnlyCluster })
	return defs
}

// connectClusters begins the connections that definitions ask for and that there are
// not, and waits a moment for those that nothing is known of. One that cannot be made
// is an error of its applications alone, and tried again.
func (e *Engine) connectClusters(ctx context.Context, cat *catalog.Catalog) {
	defs, interactive := e.clustersOf(cat), interactiveManagers(cat)
	if len(defs) == 0 {
		e.Logger.Warn("the only cluster to deliver to is not declared", "cluster", e.OnlyCluster)
	}
	var awaited []*dial
	e.mu.Lock()
	for name, def := range defs {
		c, at := e.clusters[name], e.connecting[name]
		switch {
		case c != nil && c.fits(def, interactive) && (c.err == nil || time.Now().Before(c.again)):
			continue
		case at == nil || !at.fits(def, interactive) || at.made && at.err != nil:
			at = e.dial(def, interactive)
		}
		if c == nil || !reflect.DeepEqual(c.def.Spec, def.Spec) {
			awaited = append(awaited, at)
		}
	}
	e.mu.Unlock()
	grace := time.NewTimer(connectGrace)
	defer grace.Stop()
	for _, at := range awaited {
		select {
		case <-at.done:
		case <-grace.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (c *cluster) fits(def belay.Cluster, interactive []string) bool {
	return reflect.DeepEqual(c.def.Spec, def.Spec) && slices.Equal(c.interactive, interactive)
}

// dial begins to connect a cluster. Called with e.mu.
func (e *Engine) dial(def belay.Cluster, interactive []string) *dial {
	at := &dial{cluster: &cluster{def: def, interactive: interactive}, done: make(chan struct{})}
	e.connecting[def.Name] = at
	e.running.Go(func() {
		defer close(at.done)
		e.connect(e.runCtx, at.cluster)
		e.made(at)
	})
	return at
}

// connect makes the connection of one cluster, which may ask another cluster for
// a Secret.
func (e *Engine) connect(ctx context.Context, c *cluster) {
	bounded, done := context.WithTimeout(ctx, connectTimeout)
	defer done()
	c.conn, c.err = e.Connector.Connect(bounded, c.def, c.interactive, func(apps []string, all bool) { e.clusterChanged(c.def.Name, apps, all) })
	if c.err != nil {
		c.conn = nil // no nil pointer in an interface
	}
}

// made takes a connection in if the definitions in force ask for it. Those that are
// still to come take it when they are.
func (e *Engine) made(at *dial) {
	if at.err != nil {
		at.again = time.Now().Add(connectTimeout)
		e.queue.addAfter(key{keyConfig, ""}, connectTimeout)
	}
	e.checking.Lock() // no rule comes between this and its being known
	defer e.checking.Unlock()
	if at.conn != nil {
		at.conn.SetHealthRules(e.checks)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	at.made = true
	if e.catalog == nil || e.connecting[at.def.Name] != at {
		return
	}
	if def, ok := e.clustersOf(e.catalog)[at.def.Name]; ok && at.fits(def, interactiveManagers(e.catalog)) {
		e.takeIn(at.cluster)
	}
}

// bind gives each cluster the connection that definitions ask for, now that they are
// in force. Called with e.mu.
func (e *Engine) bind(cat *catalog.Catalog) {
	defs, interactive := e.clustersOf(cat), interactiveManagers(cat)
	for name, c := range e.clusters {
		if _, declared := defs[name]; !declared {
			c.end()
			delete(e.clusters, name)
			delete(e.connecting, name)
		}
	}
	for name, def := range defs {
		c, at := e.clusters[name], e.connecting[name]
		switch {
		case at != nil && at.made && at.fits(def, interactive):
			e.takeIn(at.cluster)
		case c == nil || !reflect.DeepEqual(c.def.Spec, def.Spec):
			e.takeIn(&cluster{def: def, interactive: interactive, pending: true,
				err: &belay.Error{Code: belay.CodeUnavailable, Message: fmt.Sprintf("cluster %q is being connected", name), Hint: "nothing to do"}})
		}
	}
}

// takeIn makes a connection the one of its cluster and starts it. Called with e.mu.
func (e *Engine) takeIn(c *cluster) {
	name := c.def.Name
	old := e.clusters[name]
	if old != nil && old.err == nil && c.err != nil && reflect.DeepEqual(old.def.Spec, c.def.Spec) {
		return // what is there works; only the managers of people are others by now
	}
	if old != nil {
		old.end()
	}
	e.clusters[name] = c
	if e.claims[name] == nil {
		e.claims[name] = newClaims()
	}
	if !c.pending {
		delete(e.connecting, name)
	}
	if c.err != nil {
		if old == nil || old.err == nil || old.err.Error() != c.err.Error() {
			if !c.pending {
				e.Logger.Warn("cluster not connected", "cluster", name, "error", c.err)
			}
			e.wakeCluster(name) // to show why
		}
		return
	}
	runCtx, cancel := context.WithCancel(e.runCtx)
	c.cancel = cancel
	e.running.Go(func() {
		if err := c.conn.Run(runCtx); err != nil && runCtx.Err() == nil {
			e.reconnect(name, c, err)
		}
	})
}

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

func (c *cluster) end() {
	if c.cancel != nil {
		c.cancel()
	}
}

// interactiveManagers are those of all projects: what a cluster reports is
// judged by the project of each application later.
func interactiveManagers(cat *catalog.Catalog) []string {
	all := belay.DefaultInteractiveManagers()
	for _, p := range cat.Projects {
		all = append(all, p.Spec.InteractiveManagers...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
