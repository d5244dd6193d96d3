package reconcile

import (
	"cmp"
	"strings"

	"github.com/belaydev/belay"
	"github.com/belaydev/belay/internal/plan"
)

// claims says which applications declare which objects of one cluster.
type claims struct {
	by map[belay.ObjectID][]claim
	in map[string]int // how many objects are claimed in a namespace
}

type claim struct {
	app    string
	origin belay.Origin
}

func newClaims() *claims { return &claims{by: map[belay.ObjectID][]claim{}, in: map[string]int{}} }

// replace exchanges what an application declares, and returns the other
// applications that declare any of the objects it took up or let go.
func (c *claims) replace(app string, old, now []declared) (others map[string]bool) {
	others = map[string]bool{}
	keep := make(map[belay.ObjectID]bool, len(now))
	for i := range now {
		keep[now[i].id] = true
	}
	for i := range old {
		id := old[i].id
		if keep[id] {
			continue
		}
		rest := c.by[id][:0:0]
		for _, cl := range c.by[id] {
			if cl.app != app {
				rest = append(rest, cl)
				others[cl.app] = true
			}
		}
		if len(rest) == 0 {
			delete(c.by, id)
			c.count(id, -1)
		} else {
			c.by[id] = rest
		}
	}
	for i := range now {
		id, found := now[i].id, false
		for j := range c.by[id] {
			cl := &c.by[id][j]
			if cl.app == app {
				cl.origin, found = now[i].origin, true
			} else if !found {
				others[cl.app] = true
			}
		}
		if !found {
			if len(c.by[id]) == 0 {
				c.count(id, 1)
			}
			c.by[id] = append(c.by[id], claim{app, now[i].origin})
		}
	}
	return others
}

func (c *claims) count(id belay.ObjectID, n int) {
	if c.in[id.Namespace] += n; c.in[id.Namespace] == 0 {
		delete(c.in, id.Namespace)
	}
}

// within finds an object that would go with a namespace or a definition, and an
// application that declares it and counts. Of several it is the first by name.
func (c *claims) within(container belay.ObjectID, counts func(app string) bool) (o belay.ObjectID, application string, ok bool) {
	if container.Group == "" && c.in[container.Name] == 0 { // a namespace with nothing in it
		return o, "", false
	}
	for id, cs := range c.by {
		if !plan.GoesWith(id, container) {
			continue
		}
		for _, cl := range cs {
			if counts(cl.app) && (!ok || cmp.Or(strings.Compare(cl.app, application), strings.Compare(id.String(), o.String())) < 0) {
				o, application, ok = id, cl.app, true
			}
		}
	}
	return o, application, ok
}

// claimant is the application an object belongs to when several declare it: the
// one that it carries in the cluster, or the first by name. ok is false when at
// most one declares it.
func (c *claims) claimant(id belay.ObjectID, owner string) (string, belay.Origin, bool) {
	cs := c.by[id]
	if len(cs) < 2 {
		return "", belay.Origin{}, false
	}
	best := cs[0]
	for _, cl := range cs {
		if cl.app == owner {
			return cl.app, cl.origin, true
		}
		if cl.app < best.app {
			best = cl
		}
	}
	return best.app, best.origin, true
}

// claimed says whether any other application declares the object.
func (c *claims) claimed(id belay.ObjectID, but string) bool {
	for _, cl := range c.by[id] {
		if cl.app != but {
			return true
		}
	}
	return false
}
