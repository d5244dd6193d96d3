package reconcile

import (
	"github.com/belaydev/belay/internal/catalog"
	"github.com/belaydev/belay/internal/health"
)

// setHealthRules tells the clusters that are connected how to tell health, if
// that is new; those to come are told when they are connected. An application
// hears of it when the health of one of its objects is another.
func (e *Engine) setHealthRules(cat *catalog.Catalog) {
	prev := e.catalogInForce()
	e.checking.Lock()
	defer e.checking.Unlock()
	if e.checks != nil && !cat.HealthRulesDiffer(prev) {
		return
	}
	set, err := health.NewSet(cat.HealthRules)
	if err != nil { // nothing in Git can bring that about
		e.Logger.Error("health rules not read", "error", err)
		return
	}
	e.checks = set.Checks()
	for _, conn := range e.connections() {
		conn.SetHealthRules(e.checks)
	}
}

// connections are all there are, those included that no cluster has yet.
func (e *Engine) connections() []Cluster {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []Cluster
	for _, c := range e.clusters {
		if c.conn != nil {
			out = append(out, c.conn)
		}
	}
	for _, at := range e.connecting {
		if at.made && at.conn != nil {
			out = append(out, at.conn)
		}
	}
	return out
}
